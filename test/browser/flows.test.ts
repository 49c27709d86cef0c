/** The page's further ways, each asked for what it does to voxels: calling off, dropping, correcting by hand, limits, links, screens. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { chromiumPath, type OpenBrowser, openBrowser } from '../helpers/browser.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { ServerProcess } from '../helpers/server-process.js'
import { Workbench } from '../helpers/workbench.js'
import { zipBytes } from '../helpers/zip.js'

const READ_LIMITS = { maxVolumeBytes: 2 ** 30, maxVoxels: 2 ** 28 }
const SOON = { timeout: 60_000 }
const AXE = fileURLToPath(new URL('../../node_modules/axe-core/axe.min.js', import.meta.url))

/** 48x40x6 voxels of 1x1x2 mm; each says where it lies: 10 x + y, and 1000 more in the second of two time points. */
const SIZE = [48, 40, 6] as const
const ramp = (frames: 1 | 2) =>
  niftiBytes({
    dim: [frames === 1 ? 3 : 4, ...SIZE, frames],
    pixdim: [1, 1, 1, 2, 1, 1, 1, 1],
    srow: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0],
    voxels: Array.from({ length: 48 * 40 * 6 * frames }, (_, i) => {
      const [x, y, frame] = [i % 48, Math.floor(i / 48) % 40, Math.floor(i / (48 * 40 * 6))]
      return 10 * x + y + 1000 * frame
    }),
  })

describe.skipIf(chromiumPath === undefined)("the page's further ways in Chromium", { timeout: 240_000 }, () => {
  let folder: string
  let server: ServerProcess
  let browser: OpenBrowser
  let page: Page
  let bench: Workbench

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'aidant-flows-'))
    server = await ServerProcess.startCompiled(join(folder, 'workspace'))
    browser = await openBrowser({ width: 1100, height: 700 })
    await browser.context.grantPermissions(['clipboard-read', 'clipboard-write'])
    page = await browser.newPage()
    bench = await Workbench.open(page, server.url)
    for (const frames of [1, 2] as const) await writeFile(join(folder, `ramp${frames}.nii`), ramp(frames))
  })
  afterAll(async () => {
    const complaints = browser?.complaints
    await browser?.[Symbol.asyncDispose]()
    await server?.end('SIGTERM')
    await rm(folder, { recursive: true, force: true })
    // The answers that say no are in the console of every browser; nothing else is.
    expect(complaints?.filter((line) => !line.includes('Failed to load resource'))).toEqual([])
  })

  const banner = () => page.locator('#banner')
  const stage = async () => (await page.locator('#stage').boundingBox())!
  const ramped = async (frames: 1 | 2 = 1) => {
    await bench.openFiles(join(folder, `ramp${frames}.nii`))
    await bench.key('2')
    await page.locator('#smooth').setChecked(false)
  }

  async function savedLabels() {
    const { bytes } = await bench.saved('nii')
    const path = join(folder, 'labels.nii.gz')
    await writeFile(path, bytes)
    return (await readVolume([path], READ_LIMITS)).volume
  }

  /** Grey of a pixel of the image, in CSS pixels from its corner. */
  const greyAt = (x: number, y: number) =>
    page.evaluate(
      ([left, top]) => {
        const canvas = document.getElementById('slices') as HTMLCanvasElement
        const ratio = canvas.width / canvas.clientWidth
        const pixels = canvas.getContext('2d')!.getImageData(left! * ratio, top! * ratio, 1, 1)
        return pixels.data[0]!
      },
      [x, y],
    )
  /** Until the frame after the next one, when what was asked for is on the screen. */
  const drawn = () =>
    page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))))
  const shownValue = async () => Number(/value (-?[\d.]+)/.exec((await page.textContent('#status'))!)![1])
  const hexOf = (low: number, high: number, value: number) =>
    Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))))

  /** Files and folders of this machine, dropped onto the image. */
  async function drop(...paths: readonly string[]): Promise<void> {
    const debug = await page.context().newCDPSession(page)
    const { x, y, width, height } = await stage()
    const data = { items: [], files: [...paths], dragOperationsMask: 1 }
    for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
      await debug.send('Input.dispatchDragEvent', { type, x: x + width / 2, y: y + height / 2, data })
    await debug.detach()
  }

  /** Drags the pointer over the image, along points from its corner. */
  async function drag(points: readonly (readonly [number, number])[], button: 'left' | 'right' = 'left') {
    const { x, y } = await stage()
    await page.mouse.move(x + points[0]![0], y + points[0]![1])
    await page.mouse.down({ button })
    for (const [px, py] of points.slice(1)) await page.mouse.move(x + px, y + py, { steps: 3 })
    await page.mouse.up({ button })
  }

  test('a folder and a zip that are dropped open as the series in them, with the voxels the API gives', async () => {
    const fixtures = await dicomFixtures('geometry', folder)
    const slices = fixtures.named('sagittal/')
    const [dropped, zip] = [join(folder, 'dropped/series'), join(folder, 'series.zip')]
    await mkdir(dropped, { recursive: true })
    const files = await Promise.all(slices.map((path) => readFile(path)))
    await Promise.all(files.map((bytes, i) => writeFile(join(dropped, `${i}.dcm`), bytes)))
    await writeFile(zip, zipBytes(files.map((data, i) => ({ name: `a/${i}.dcm`, data }))))
    for (const path of [join(folder, 'dropped'), zip]) {
      await bench.opening(() => drop(path))
      expect(await page.textContent('#scan-info')).toContain('dicom')
      const session = /#session=(.+)$/.exec(page.url())![1]
      const volume = await fetch(`${server.url}/session/${session}?volume=true`)
      const file = join(folder, 'volume.nii')
      await writeFile(file, new Uint8Array(await volume.arrayBuffer()))
      const theirs = (await readVolume([file], READ_LIMITS)).volume
      const [x, y, z] = (await bench.crosshair()) as [number, number, number]
      expect(await shownValue()).toBe(theirs.data[x + theirs.size[0] * (y + theirs.size[1] * z)])
    }
  })

  test('an upload that is called off makes no session, and the next one works', async () => {
    const debug = await page.context().newCDPSession(page)
    await debug.send('Network.enable')
    const throttle = (uploadThroughput: number) =>
      debug.send('Network.emulateNetworkConditions', {
        offline: false,
        latency: 0,
        downloadThroughput: -1,
        uploadThroughput,
      })
    await throttle(20_000)
    const failed = page.waitForEvent('requestfailed', (request) => request.method() === 'PUT')
    await page.setInputFiles('#files', {
      name: 'large.nii',
      mimeType: 'application/octet-stream',
      buffer: Buffer.concat([ramp(1), Buffer.alloc(2 ** 20)]),
    })
    await page.locator('#job-text', { hasText: 'large.nii' }).waitFor()
    await page.click('#job-cancel')
    await failed
    await bench.settled()
    expect(await banner().textContent()).toBe('')
    await throttle(-1)
    await debug.detach()
    await ramped()
    expect(await page.textContent('#scan-info')).toContain('48 × 40 × 6')
  })

  test('a model that is called off ends on the server, and leaves no segment', async () => {
    await bench.opening(() => page.click('[data-sample=head]'))
    const accepted = page.waitForResponse((response) => response.url().includes('async=true'))
    await page.click('[data-model=brain_mri]')
    const { id } = await (await accepted).json()
    // One thing at a time, and what is not begun is told.
    await page.click('[data-sample=abdomen]')
    await expect.poll(() => page.textContent('#message'), SOON).toContain('Not begun: Uploading abdomen.nii.gz')
    await page.keyboard.press('Escape')
    await bench.settled()
    const state = async () => (await (await fetch(`${server.url}/v1/requests/${id}`)).json()).state
    await expect.poll(state, SOON).toBe('cancelled')
    expect(await page.locator('#segments li').count()).toBe(0)
  })

  test('the window: a preset, and the right button dragged, change what a value looks like', async () => {
    await ramped()
    const { width, height } = await stage()
    const [x, y] = [width * 0.45, height * 0.55]
    await page.locator('#stage').click({ position: { x, y } })
    await drawn()
    const value = await shownValue()
    await page.selectOption('#preset', { label: 'CT soft tissue' })
    await expect.poll(() => greyAt(x, y), SOON).toBe(hexOf(-160, 240, value))
    await page.selectOption('#preset', { label: 'CT bone' })
    await expect.poll(() => greyAt(x, y), SOON).toBe(hexOf(-450, 1050, value))
    // Half of the image area to the right: twice the width, at the same level.
    await drag(
      [
        [width * 0.2, height * 0.5],
        [width * 0.7, height * 0.5],
      ],
      'right',
    )
    await expect.poll(() => greyAt(x, y), SOON).not.toBe(hexOf(-450, 1050, value))
    const wide = await greyAt(x, y)
    expect(Math.abs(wide - 127)).toBeLessThan(Math.abs(hexOf(-450, 1050, value) - 127) + 1)
    expect(await page.locator('#preset').inputValue()).toBe('custom')
    await page.selectOption('#preset', '')
    await expect.poll(() => greyAt(x, y), SOON).not.toBe(wide)
  })

  test('a ring is filled, the smaller of two pieces goes, and the polygons that are saved are those of the API', async () => {
    await ramped()
    await bench.key('b')
    await page.locator('#ball').setChecked(false)
    const { width, height } = await stage()
    const at = (turn: number) =>
      [width * 0.4 + height * 0.2 * Math.cos(turn), height * 0.5 + height * 0.2 * Math.sin(turn)] as const
    await page.locator('#radius').fill('1')
    await drag(Array.from({ length: 25 }, (_, i) => at((i * Math.PI) / 12)))
    const ring = await savedLabels()
    await bench.key('l')
    await page.locator('#stage').click({ position: { x: width * 0.4, y: height * 0.5 } })
    await drawn()
    const [x, y, z] = (await bench.crosshair()) as [number, number, number]
    const centre = x + SIZE[0] * (y + SIZE[1] * z)
    expect(ring.data[centre]).toBe(0)
    await page.click('#fill')
    const filled = await savedLabels()
    expect(filled.data[centre]).toBe(1)
    expect(ring.data.every((label, i) => label === 0 || filled.data[i] === label)).toBe(true)
    await bench.key('b')
    await page.locator('#stage').click({ position: { x: width * 0.75, y: height * 0.2 } })
    expect((await savedLabels()).data).not.toEqual(filled.data)
    await bench.key('k')
    expect((await savedLabels()).data).toEqual(filled.data)

    const saved = JSON.parse((await bench.saved('polygons')).bytes.toString())
    const form = new FormData()
    form.append('image', new Blob([new Uint8Array((await bench.saved('nii')).bytes)]), 'labels.nii.gz')
    const theirs = await (await fetch(`${server.url}/v1/mask2polygon`, { method: 'POST', body: form })).json()
    expect(saved.segments).toEqual([{ label: 1, name: 'Segment 1', color: '#e6550d', polygons: theirs }])
    expect(theirs.flat().length).toBeGreaterThan(0)
  })

  test('the model of the click tool is ready before the first click, once for each scan', async () => {
    const asked: string[] = []
    page.on('request', (request) => {
      if (request.url().includes('/prepare?')) asked.push(new URL(request.url()).searchParams.get('model')!)
    })
    await ramped()
    const ready = page.waitForResponse((response) => response.url().includes('/prepare?'), SOON)
    await bench.key('c')
    const reply = await ready
    expect([reply.status(), (await reply.json()).model]).toEqual([200, asked[0]])
    await bench.key('l')
    await bench.key('c')
    await expect.poll(() => page.textContent('#hint'), SOON).toContain(asked[0]!)
    expect(asked.length).toBe(1)
  })

  test('of two time points the second is seen, and clicks go to it', async () => {
    await ramped(2)
    expect(await page.textContent('#frame-count')).toBe('of 2')
    const first = await shownValue()
    await bench.key('t')
    await expect.poll(shownValue, SOON).toBe(first + 1000)
    await bench.key('c')
    const { width, height } = await stage()
    const asked: string[] = []
    page.on('request', (request) => {
      if (request.url().includes('/v1/deepgrow')) asked.push(request.postDataBuffer()!.toString('latin1'))
    })
    await page.locator('#stage').click({ position: { x: width * 0.5, y: height * 0.5 } })
    await expect.poll(() => page.locator('#segments li').count(), SOON).toBe(1)
    expect(asked.at(-1)).toContain('"image_index":1')
  })

  test('what was done on a scan is still there after another one was opened', async () => {
    await ramped()
    await bench.key('b')
    await page.locator('#stage').click({ position: { x: 300, y: 200 } })
    const before = await savedLabels()
    const first = page.url()
    await ramped(2)
    await page.goto('about:blank')
    await page.goto(first)
    await page.locator('#segments li').waitFor()
    expect((await savedLabels()).data).toEqual(before.data)
  })

  test('a session that expired is uploaded again with the segments that were drawn', async () => {
    await ramped()
    await bench.key('b')
    await page.locator('#stage').click({ position: { x: 300, y: 200 } })
    const before = await savedLabels()
    const session = /#session=(.+)$/.exec(page.url())![1]
    await fetch(`${server.url}/session/${session}`, { method: 'DELETE' })
    await bench.key('c')
    await bench.key('Enter')
    await expect.poll(() => banner().textContent(), SOON).toContain('session has expired')
    await bench.opening(() => banner().getByRole('button', { name: 'Upload again' }).click())
    expect((await savedLabels()).data).toEqual(before.data)
  })

  test('diagnostics hold versions and models, and nothing of the patient', async () => {
    await bench.openFiles({
      name: 'Doe^Jane_1960.nii',
      mimeType: 'application/octet-stream',
      buffer: Buffer.from(ramp(1)),
    })
    await page.click('#copy-diagnostics')
    await expect.poll(() => page.textContent('#message'), SOON).toContain('clipboard')
    const text = await page.evaluate(() => navigator.clipboard.readText())
    const told = JSON.parse(text)
    expect(told.server.version).toMatch(/^\d+\.\d+\.\d+/)
    expect(told.models.map(({ name }: { name: string }) => name)).toContain('deepgrow_2d')
    expect(told.image).toMatchObject({ format: 'nifti', size: [...SIZE] })
    expect(text).not.toContain('Doe')
    expect(text).not.toContain(/#session=(.+)$/.exec(page.url())![1])
  })

  test('only with keys: a sample is opened, a structure clicked, the mask saved', async () => {
    await page.goto('about:blank')
    bench = await Workbench.open(page, server.url)
    const sample = page.locator('[data-sample=abdomen]')
    for (let i = 0; i < 12 && !(await sample.evaluate((node) => node === document.activeElement)); i++)
      await page.keyboard.press('Tab')
    await bench.opening(() => page.keyboard.press('Enter'))
    for (let i = 0; i < 60 && !(await page.evaluate(() => document.activeElement?.id === 'stage')); i++)
      await page.keyboard.press('Tab')
    expect(await page.evaluate(() => document.activeElement?.matches(':focus-visible'))).toBe(true)
    for (const key of ['c', 'ArrowLeft', 'ArrowUp']) await page.keyboard.press(key)
    await page.keyboard.press('Enter')
    await expect.poll(() => page.locator('#segments li').count(), SOON).toBe(1)
    await page.locator('.click.waiting').waitFor({ state: 'detached' })
    const saved = page.waitForEvent('download')
    await page.keyboard.press('Control+s')
    expect((await saved).suggestedFilename()).toBe('abdomen_labels.nii.gz')
  })

  interface AxeResult {
    readonly violations: readonly { id: string; impact: string; nodes: { html: string }[] }[]
  }

  test('axe finds nothing serious in any state, light and dark, at each width', async () => {
    // A page without a scan, one with segments, a banner, the keys, contours.
    const states: Readonly<Record<string, () => Promise<unknown>>> = {
      empty: async () => {
        await page.goto('about:blank')
        bench = await Workbench.open(page, server.url)
      },
      'with a segment': async () => {
        await ramped()
        await bench.key('b')
        await page.locator('#stage').click({ position: { x: 300, y: 200 } })
      },
      contour: async () => {
        await bench.key('p')
        await page.locator('.vertex').first().waitFor()
      },
      'with a banner': async () => {
        await page.setInputFiles('#files', { name: 'x.nii', mimeType: 'a/b', buffer: Buffer.from('no image') })
        await banner().getByRole('button').first().waitFor()
      },
      keys: () => bench.key('?'),
    }
    const found: string[] = []
    for (const [state, reach] of Object.entries(states)) {
      await reach()
      // Evaluated by the debugger, so the page's policy does not stand in its way.
      await page.evaluate(await readFile(AXE, 'utf8'))
      for (const [colorScheme, width] of [
        ['light', 1440],
        ['dark', 1024],
        ['light', 800],
      ] as const) {
        await page.emulateMedia({ colorScheme })
        await page.setViewportSize({ width, height: 900 })
        const { violations } = await page.evaluate(() =>
          (globalThis as never as { axe: { run(): Promise<AxeResult> } }).axe.run(),
        )
        for (const { id, impact, nodes } of violations)
          if (impact === 'serious' || impact === 'critical')
            found.push(`${state}, ${colorScheme}, ${width}: ${id} ${nodes[0]!.html}`)
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width)
      }
    }
    await page.keyboard.press('Escape')
    await page.setViewportSize({ width: 1100, height: 700 })
    expect(found).toEqual([])
  })

  test('limits in words: too large names its flag, a full queue when to try again, a wait its place', async () => {
    const limited = await ServerProcess.startCompiled(join(folder, 'limited'), [
      ...['--max-upload-bytes', '1m', '--max-queued-jobs', '2'],
    ])
    try {
      const other = await browser.newPage()
      const small = await Workbench.open(other, limited.url)
      const said = () => other.locator('#banner').textContent()
      await other.setInputFiles('#files', { name: 'x.nii', mimeType: 'a/b', buffer: Buffer.alloc(2_000_000) })
      await expect.poll(said, SOON).toContain('--max-upload-bytes')
      await small.opening(() => other.click('[data-sample=head]'))
      const session = /#session=(.+)$/.exec(other.url())![1]
      const queued = () => {
        const body = new FormData()
        body.append('params', '{}')
        const url = `${limited.url}/v1/segmentation?model=brain_mri&session_id=${session}&async=true`
        return fetch(url, { method: 'POST', body })
      }
      // One runs, one waits; the page's own is then the second of those who wait.
      expect([(await queued()).status, (await queued()).status]).toEqual([202, 202])
      await other.click('[data-model=brain_mri]')
      await expect.poll(() => other.textContent('#job-text'), SOON).toMatch(/waits: (1 before you|next in the queue)/)
      await other.keyboard.press('Escape')
      await small.settled()
      while ((await queued()).status === 202);
      await other.click('[data-model=brain_mri]')
      await expect.poll(said, SOON).toMatch(/busy.*Try again in \d+ s/)
      await other.close()
    } finally {
      await limited.end('SIGKILL')
    }
  })

  test('without WebGL2 the slices are there and 3-D says why it is not', async () => {
    const bare = await browser.newPage()
    await bare.addInitScript(() => {
      const original = HTMLCanvasElement.prototype.getContext
      HTMLCanvasElement.prototype.getContext = function (this: HTMLCanvasElement, ...args: unknown[]) {
        return args[0] === 'webgl2' ? null : Reflect.apply(original, this, args)
      } as never
    })
    const without = await Workbench.open(bare, server.url)
    await expect.poll(() => bare.locator('#banner').textContent(), SOON).toContain('WebGL2')
    await without.openFiles(join(folder, 'ramp1.nii'))
    expect(await bare.locator('#layouts input[value=render]').isDisabled()).toBe(true)
    await without.key('c')
    await without.key('Enter')
    await expect.poll(() => bare.locator('#segments li').count(), SOON).toBe(1)
    await bare.close()
  })

  test('in 3-D a segment inside the body is seen', async () => {
    await bench.opening(() => page.click('[data-sample=abdomen]'))
    await bench.key('b')
    await page.locator('#ball').setChecked(true)
    await page.locator('#radius').fill('30')
    await bench.key('Enter')
    await bench.key('5')
    const coloured = async () => {
      const image = await page.locator('#render').screenshot()
      const sharp = (await import('sharp')).default
      const { data } = await sharp(image).removeAlpha().raw().toBuffer({ resolveWithObject: true })
      let count = 0
      for (let i = 0; i < data.length; i += 3) if (data[i]! > data[i + 2]! + 60 && data[i]! > data[i + 1]! + 30) count++
      return count
    }
    await expect.poll(coloured, SOON).toBeGreaterThan(1000)
    await page.locator('#segment-1-eye').setChecked(false)
    await expect.poll(coloured, SOON).toBeLessThan(1000)
  })
})
