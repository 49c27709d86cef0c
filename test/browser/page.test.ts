/** The page at / from the first look to the saved file, on real scans, as a person goes through it. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { chromiumPath, type OpenBrowser, openBrowser } from '../helpers/browser.js'
import { ServerProcess } from '../helpers/server-process.js'
import { sharedData } from '../helpers/shared-data.js'
import { Workbench } from '../helpers/workbench.js'

const READ_LIMITS = { maxVolumeBytes: 2 ** 30, maxVoxels: 2 ** 28 }
/** On a machine that is busy with other things. */
const SOON = { timeout: 60_000 }
const AXE = fileURLToPath(new URL('../../node_modules/axe-core/axe.min.js', import.meta.url))
const shared = (path: string) => join(sharedData ?? '', path)

describe.skipIf(chromiumPath === undefined)('the page at / in Chromium', { timeout: 240_000 }, () => {
  let folder: string
  let server: ServerProcess
  let browser: OpenBrowser
  let page: Page
  let bench: Workbench

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'aidant-page-'))
    server = await ServerProcess.start(join(folder, 'workspace'))
    browser = await openBrowser({ width: 1100, height: 700 })
    page = await browser.newPage()
    bench = await Workbench.open(page, server.url)
  })
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]()
    await server?.end('SIGTERM')
    await rm(folder, { recursive: true, force: true })
  })

  /** A saved label map as voxels. */
  async function savedLabels() {
    const { bytes } = await bench.saved('nii')
    const path = join(folder, 'labels.nii.gz')
    await writeFile(path, bytes)
    return (await readVolume([path], READ_LIMITS)).volume
  }

  async function openSample(name: string): Promise<void> {
    await bench.opening(() => page.click(`[data-sample=${name}]`))
  }

  const segmentNames = () =>
    page
      .locator('#segments input[type=text]')
      .evaluateAll((inputs) => inputs.map((input) => (input as HTMLInputElement).value))

  test('a sample, an automatic model with its progress, and the label map that the API gives', async () => {
    await openSample('head')
    await page.click('[data-model=brain_mri]')
    await page.locator('#job-text', { hasText: 'brain_mri' }).waitFor()
    await bench.settled()
    const names = await segmentNames()
    expect(names.length).toBeGreaterThan(3)
    const form = new FormData()
    const sample = fileURLToPath(new URL('../../src/web/samples/head.nii.gz', import.meta.url))
    form.append('image', new Blob([await readFile(sample)]), 'head.nii.gz')
    const response = await fetch(`${server.url}/v1/segmentation?model=brain_mri&output=image`, {
      method: 'POST',
      body: form,
    })
    const path = join(folder, 'api.nii.gz')
    await writeFile(path, new Uint8Array(await response.arrayBuffer()))
    const theirs = (await readVolume([path], READ_LIMITS)).volume
    const ours = await savedLabels()
    // The page numbers what was found from 1 on; the API by the model's own list.
    const numbers = [...new Set(theirs.data)].filter((value) => value !== 0).sort((a, b) => a - b)
    expect(ours.affine).toEqual(theirs.affine)
    expect(ours.data.every((value, i) => (value === 0 ? 0 : numbers[value - 1]) === theirs.data[i])).toBe(true)
  })

  test('undo and redo go over a model, a click and a stroke', async () => {
    await openSample('abdomen')
    await bench.key('2')
    await bench.key('c')
    const { width, height } = (await page.locator('#stage').boundingBox())!
    await bench.clickAt(width * 0.32, height * 0.62)
    await bench.clickAt(width * 0.5, height * 0.7, 'right')
    const clicked = await savedLabels()
    await bench.key('b')
    await page.mouse.move(0, 0)
    await page.locator('#stage').dragTo(page.locator('#stage'), {
      sourcePosition: { x: width * 0.4, y: height * 0.4 },
      targetPosition: { x: width * 0.6, y: height * 0.45 },
    })
    const painted = await savedLabels()
    expect(painted.data).not.toEqual(clicked.data)
    await bench.key('Control+z')
    expect((await savedLabels()).data).toEqual(clicked.data)
    await bench.key('Control+y')
    expect((await savedLabels()).data).toEqual(painted.data)
    for (let i = 0; i < 3; i++) await bench.key('Control+z')
    expect(await segmentNames()).toEqual([])
  })

  test('segments are named, recoloured, hidden and deleted, and saved with name and colour', async () => {
    await openSample('abdomen')
    await bench.key('b')
    const { width, height } = (await page.locator('#stage').boundingBox())!
    await page.locator('#stage').click({ position: { x: width * 0.2, y: height * 0.25 } })
    await bench.key('n')
    await page.fill('#segment-1-name', 'left kidney')
    await page.locator('#segment-1-name').press('Tab')
    await page.locator('#segment-1-color').evaluate((input) => {
      ;(input as HTMLInputElement).value = '#ff8000'
      input.dispatchEvent(new Event('change'))
    })
    const { name, bytes } = await bench.saved('nrrd')
    expect(name).toBe('abdomen.seg.nrrd')
    const header = bytes.subarray(0, bytes.indexOf('\n\n')).toString()
    expect(header).toContain('Segment0_Name:=left kidney')
    expect(header).toContain('Segment0_Color:=1.000000 0.501961 0.000000')
    await page.locator('[data-segment="1"]').getByRole('button', { name: 'Delete' }).click()
    expect(await segmentNames()).toEqual(['Segment 2'])
  })

  test('six extreme points label a structure, and the page says which is next', async () => {
    await openSample('abdomen')
    await bench.key('x')
    const hint = () => page.textContent('#hint')
    expect(await hint()).toContain('point 1 of 6')
    await bench.key('2')
    const { width, height } = (await page.locator('#stage').boundingBox())!
    const at = (x: number, y: number) => page.locator('#stage').click({ position: { x: width * x, y: height * y } })
    await at(0.28, 0.62)
    expect(await hint()).toContain('point 2 of 6')
    await at(0.42, 0.62)
    await at(0.35, 0.52)
    await at(0.35, 0.72)
    await bench.key('PageUp')
    await at(0.35, 0.62)
    for (let i = 0; i < 2; i++) await bench.key('PageDown')
    await at(0.35, 0.62)
    await expect.poll(segmentNames, SOON).toEqual(['Segment 1'])
    expect(await hint()).toContain('point 1 of 6')
  })

  test('a contour is shown, and the mask follows a vertex that is dragged', async () => {
    await openSample('abdomen')
    await bench.key('2')
    await bench.key('b')
    const { width, height } = (await page.locator('#stage').boundingBox())!
    await page.locator('#stage').click({ position: { x: width * 0.5, y: height * 0.4 } })
    const before = await savedLabels()
    await bench.key('p')
    const vertex = page.locator('.vertex').first()
    await vertex.waitFor()
    const { x, y } = (await page.locator('#stage').boundingBox())!
    const [cx, cy] = [Number(await vertex.getAttribute('cx')), Number(await vertex.getAttribute('cy'))]
    const answered = page.waitForResponse((response) => response.url().includes('/v1/fixpolygon'))
    await page.mouse.move(x + cx, y + cy)
    await page.mouse.down()
    await page.mouse.move(x + cx - 40, y + cy - 40, { steps: 4 })
    await page.mouse.up()
    expect((await answered).status()).toBe(200)
    await expect.poll(async () => (await savedLabels()).data, SOON).not.toEqual(before.data)
    // Where the vertex was put, there is mask now and was none before.
    await bench.key('l')
    await page.locator('#stage').click({ position: { x: cx - 40, y: cy - 40 } })
    await expect.poll(() => page.textContent('#status'), SOON).toContain('Segment 1')
    const after = await savedLabels()
    const [i, j, k] = (await bench.crosshair()) as [number, number, number]
    const at = i + after.size[0] * (j + after.size[1] * k)
    expect([before.data[at], after.data[at]]).toEqual([0, 1])
  })

  test('everything by key: a click, a stroke, the list of keys', async () => {
    await openSample('abdomen')
    await bench.key('c')
    for (let i = 0; i < 5; i++) await bench.key('ArrowLeft')
    await bench.key('PageUp')
    const answered = page.waitForResponse((response) => response.url().includes('/v1/deepgrow'))
    await bench.key('Enter')
    await answered
    await expect.poll(segmentNames, SOON).toEqual(['Segment 1'])
    await bench.key('n')
    await bench.key('b')
    await bench.key('Enter')
    expect((await savedLabels()).data.includes(2)).toBe(true)
    await bench.key('?')
    await page.getByRole('dialog').waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'hidden' })
  })

  test.skipIf(sharedData === undefined)('a CT from DICOM files: the world position, a click, DICOM SEG', async () => {
    const series = shared('dicom/torchio_ct17')
    const files = (await readdir(series)).map((name) => join(series, name))
    await bench.openFiles(files)
    expect(await page.textContent('#scan-info')).toContain('dicom')
    await bench.key('2')
    await bench.key('c')
    const { width, height } = (await page.locator('#stage').boundingBox())!
    await bench.clickAt(width * 0.5, height * 0.5)
    const { bytes } = await bench.saved('dicom')
    expect(bytes.toString('latin1', 128, 132)).toBe('DICM')
  })

  test.skipIf(sharedData === undefined)('a head MRI, a PNG and a colour JPEG open and take clicks', async () => {
    for (const path of ['nifti/stroke/T1.nii.gz', 'png/medscribble', 'png/retina.jpg']) {
      const full = shared(path)
      const file = path.includes('.')
        ? full
        : join(full, (await readdir(full)).find((name) => name.endsWith('_img.png'))!)
      await bench.openFiles(file)
      await bench.key('2')
      await bench.key('c')
      const { width, height } = (await page.locator('#stage').boundingBox())!
      await bench.clickAt(width * 0.5, height * 0.5)
      expect(await segmentNames(), path).toEqual(['Segment 1'])
    }
  })

  test('a link brings scan, segments and clicks back after a reload and a restart of the server', async () => {
    await openSample('abdomen')
    await bench.key('2')
    await bench.key('c')
    const { width, height } = (await page.locator('#stage').boundingBox())!
    await bench.clickAt(width * 0.32, height * 0.62)
    const before = await savedLabels()
    const port = new URL(server.url).port
    await server.end('SIGTERM')
    server = await ServerProcess.start(join(folder, 'workspace'), ['--port', port])
    await page.reload()
    await page.locator('#segments li').waitFor()
    expect((await savedLabels()).data).toEqual(before.data)
    await bench.key('c')
    expect(await page.locator('.click.foreground').count()).toBe(1)
  })

  test('nothing on these ways was an error on the console or a request to elsewhere', () => {
    expect(browser.complaints).toEqual([])
  })

  test.each([
    ['light', 1440],
    ['dark', 1024],
    ['light', 800],
  ] as const)('axe finds nothing serious: %s, %i px wide', async (colorScheme, width) => {
    await page.emulateMedia({ colorScheme })
    await page.setViewportSize({ width, height: 900 })
    // Evaluated by the debugger, so the page's policy does not stand in its way.
    await page.evaluate(await readFile(AXE, 'utf8'))
    const { violations } = await page.evaluate(() =>
      (globalThis as never as { axe: { run(): Promise<Result> } }).axe.run(),
    )
    interface Result {
      violations: { id: string; impact: string; nodes: { html: string }[] }[]
    }
    expect(
      violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes[0]!.html}`),
    ).toEqual([])
  })

  test('errors are told in words: the session that expired, the server that is gone', async () => {
    await page.setViewportSize({ width: 1100, height: 700 })
    await openSample('abdomen')
    const session = /#session=(.+)$/.exec(page.url())![1]
    await fetch(`${server.url}/session/${session}`, { method: 'DELETE' })
    await bench.key('c')
    await bench.key('Enter')
    const banner = page.locator('#banner')
    await expect.poll(() => banner.textContent(), SOON).toContain('session has expired')
    await bench.opening(() => banner.getByRole('button', { name: 'Upload again' }).click())
    await bench.key('Enter')
    await expect.poll(segmentNames, SOON).toEqual(['Segment 1'])
    await server.end('SIGKILL')
    await bench.key('Enter')
    await expect.poll(() => banner.textContent(), SOON).toContain('does not answer')
  })
})
