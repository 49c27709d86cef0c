/**
 * `node scripts/screenshots.mjs http://127.0.0.1:5000`: renews the pictures of README.md, docs/images/*.jpg, from the page of a
 * running server, with Debian's Chromium. Look at them before you commit them.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import sharp from 'sharp'
import { ROOT } from './install.mjs'

const [base = 'http://127.0.0.1:5000'] = process.argv.slice(2)
const context = await chromium.launchPersistentContext(mkdtempSync(join(tmpdir(), 'aidant-shots-')), {
  executablePath: process.env.AIDANT_CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-quic', '--use-angle=swiftshader'],
  viewport: { width: 1280, height: 800 },
})
const page = await context.newPage()
await page.goto(base)
const stage = page.locator('#stage')
const settled = async () => {
  await page.waitForTimeout(500)
  await page.locator('#job').waitFor({ state: 'hidden', timeout: 300_000 })
  await page.waitForTimeout(1500)
}
const shoot = async (name) => {
  const file = join(ROOT, 'docs/images', `${name}.jpg`)
  await sharp(await page.screenshot())
    .resize({ width: 1000 })
    .jpeg({ quality: 72, mozjpeg: true })
    .toFile(file)
  process.stderr.write(`${file}\n`)
}
const click = async (x, y, button = 'left') => {
  const { width, height } = await stage.boundingBox()
  const answered = page.waitForResponse((response) => response.url().includes('/v1/deepgrow'))
  await stage.click({ position: { x: width * x, y: height * y }, button })
  await answered
  await page.waitForTimeout(700)
}

await page.click('[data-sample=abdomen]')
await settled()
await page.selectOption('#preset', { label: 'CT soft tissue' })
await stage.press('2')
await stage.press('c')
// Into a kidney, and into the liver before it.
await click(0.305, 0.67)
await click(0.36, 0.45, 'right')
await shoot('clicks')

await stage.press('p')
await page.locator('.vertex').first().waitFor()
await page.waitForTimeout(500)
await shoot('contour')

await stage.press('l')
await page.click('[data-sample=head]')
await settled()
await page.click('[data-model=brain_mri]')
await settled()
await shoot('automatic')
await context.close()
