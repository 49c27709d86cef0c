/** The page and /docs of a server that wants tokens: the browser asks its person once, and everything on them works. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { chromiumPath, openBrowser } from '../helpers/browser.js'
import { ServerProcess } from '../helpers/server-process.js'
import { tempFolder } from '../helpers/volumes.js'

const TOKEN = 'ward-0123456789abcdef'

/** A server that wants TOKEN, and a browser whose person knows it. */
async function ward(flags: readonly string[] = []) {
  const folder = await tempFolder()
  const file = join(folder.path, 'tokens')
  writeFileSync(file, `ward:${TOKEN}\n`, { mode: 0o600 })
  const server = await ServerProcess.startCompiled(join(folder.path, 'ws'), ['--api-token-file', file, ...flags])
  const browser = await openBrowser({ logIn: { username: 'ann', password: TOKEN } })
  return {
    server,
    browser,
    async [Symbol.asyncDispose]() {
      await browser[Symbol.asyncDispose]()
      await server.end('SIGTERM')
      await folder[Symbol.asyncDispose]()
    },
  }
}

describe.skipIf(chromiumPath === undefined)('with tokens, in Chromium', { timeout: 240_000 }, () => {
  test('the page opens a sample and lists the models', async () => {
    await using it = await ward()
    const page = await it.browser.newPage()
    await page.goto(`${it.server.url}/`)
    await page.getByRole('button', { name: 'Abdomen' }).click()
    await page.locator('#scan-info').filter({ hasText: 'voxels' }).waitFor()
    expect(await page.locator('body').textContent()).toContain('deepgrow_2d')
    expect(it.browser.complaints).toEqual([])
  })

  test('events and results reach a script of the page', async () => {
    await using it = await ward()
    const page = await it.browser.newPage()
    await page.goto(`${it.server.url}/`)
    const told = await page.evaluate(async () => {
      const form = new FormData()
      form.append('params', '{"foreground": [[32, 32, 0]], "background": []}')
      const picture = await new Promise<Blob | null>((resolve) => {
        const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 64 })
        canvas.getContext('2d')!.fillRect(16, 16, 32, 32)
        canvas.toBlob(resolve)
      })
      form.append('image', picture!)
      const asked = await fetch('v1/deepgrow?model=deepgrow_2d&async=true', { method: 'POST', body: form })
      const { id } = await asked.json()
      const state = await new Promise((resolve, reject) => {
        const events = new EventSource(`v1/requests/${id}/events`)
        events.onerror = () => reject(new Error('no events'))
        events.addEventListener('progress', ({ data }) => {
          const { state } = JSON.parse(data)
          if (state !== 'queued' && state !== 'running') resolve(state)
        })
      })
      return { state, result: (await fetch(`v1/requests/${id}/result?output=image`)).status }
    })
    expect(told).toEqual({ state: 'done', result: 200 })
  })

  test('/docs calls a route', async () => {
    await using it = await ward()
    const page = await it.browser.newPage()
    await page.goto(`${it.server.url}/docs`)
    const operation = page.locator('#operations-models-listModels')
    await operation.locator('.opblock-summary-control').click()
    const answered = page.waitForResponse((response) => response.request().resourceType() === 'fetch')
    await operation.locator('button.execute').click()
    expect((await answered).status()).toBe(200)
    expect(await page.getByRole('button', { name: 'Authorize' }).count()).toBeGreaterThan(0)
  })

  test('a person without a token sees no page', async () => {
    await using it = await ward()
    await using stranger = await openBrowser({ logIn: { username: 'ann', password: 'guess' } })
    const page = await stranger.newPage()
    const reply = await page.goto(`${it.server.url}/`)
    expect(reply?.status()).toBe(401)
  })
})
