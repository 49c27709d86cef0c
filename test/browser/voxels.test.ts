/** A click on the screen reaches the voxel that is seen there, and what is saved is what the API answers, in every axis order. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { chromiumPath, type OpenBrowser, openBrowser } from '../helpers/browser.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { ServerProcess } from '../helpers/server-process.js'
import { sharedData } from '../helpers/shared-data.js'
import { type ClickParams, Workbench } from '../helpers/workbench.js'

const READ_LIMITS = { maxVolumeBytes: 2 ** 30, maxVoxels: 2 ** 28 }
const SIZE = [31, 27, 23] as const
const SPACING = [2, 2.5, 3] as const
/** Off the middle in two axes, and by no two the same way; the third axis is where the slice through it is seen. */
const LANDMARKS = [
  [15, 18, 16],
  [22, 13, 7],
  [9, 8, 11],
] as const
const MIDDLE = SIZE.map((n) => Math.floor(n / 2))

interface AxisOrder {
  readonly name: string
  /** For each stored axis the axis of the patient (0 R, 1 A, 2 S), and whether it runs the other way. */
  readonly axes: readonly { readonly to: number; readonly flip: boolean }[]
}

/** The 48 ways to store three axes: LPS, SAR … */
const AXIS_ORDERS: readonly AxisOrder[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
].flatMap((permutation) =>
  Array.from({ length: 8 }, (_, bits) => {
    const axes = permutation.map((to, i) => ({ to, flip: ((bits >> i) & 1) === 1 }))
    return { axes, name: axes.map(({ to, flip }) => (flip ? 'LPI' : 'RAS')[to]).join('') }
  }),
)

/** A dim image with a white cube of 27 voxels around each landmark; stored sizes are SIZE whatever the order. */
function landmarkFile({ axes }: AxisOrder): Uint8Array {
  const [nx, ny, nz] = SIZE
  const voxels = new Array<number>(nx * ny * nz)
  for (let i = 0; i < voxels.length; i++) {
    const at = [i % nx, Math.floor(i / nx) % ny, Math.floor(i / (nx * ny))]
    const near = LANDMARKS.some((mark) => mark.every((v, axis) => Math.abs(v - at[axis]!) <= 1))
    voxels[i] = near ? 3000 : (i * 7) % 100
  }
  const srow = new Array<number>(12).fill(0)
  axes.forEach(({ to, flip }, axis) => {
    srow[4 * to + axis] = flip ? -SPACING[axis]! : SPACING[axis]!
    srow[4 * to + 3] = (flip ? 1 : -1) * SPACING[axis]! * MIDDLE[axis]!
  })
  return niftiBytes({ dim: [3, ...SIZE], pixdim: [1, ...SPACING], sformCode: 1, srow, voxels })
}

describe.skipIf(chromiumPath === undefined)('the page in Chromium, voxel by voxel', () => {
  let folder: string
  let server: ServerProcess
  let browser: OpenBrowser
  let bench: Workbench

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'aidant-voxels-'))
    server = await ServerProcess.start(join(folder, 'workspace'))
    browser = await openBrowser({ width: 1000, height: 620 })
    bench = await Workbench.open(await browser.newPage(), server.url)
  })
  afterAll(async () => {
    const complaints = browser?.complaints
    await browser?.[Symbol.asyncDispose]()
    await server?.end('SIGTERM')
    await rm(folder, { recursive: true, force: true })
    expect(complaints).toEqual([])
  })

  /** Clicks on the landmark that is seen in each plane; gives the voxels that were hit. */
  async function hitLandmarks(): Promise<string[]> {
    const hits: string[] = []
    // Axial, coronal, sagittal: in the middle slice of each one landmark is to be seen.
    for (const plane of ['2', '3', '4']) {
      await bench.key('m')
      await bench.key(plane)
      // Looked for anew each time: a slice that was still being drawn shows its landmark a moment later.
      const clickOnIt = async () => {
        const [x, y] = await bench.whiteSpot()
        await bench.page.locator('#stage').click({ position: { x, y } })
        return bench.page.textContent('#status')
      }
      await expect.poll(clickOnIt, { timeout: 60_000, interval: 500 }).toContain('value 3000')
      hits.push((await bench.crosshair()).join())
    }
    return hits.sort()
  }
  const ALL_LANDMARKS = LANDMARKS.map((voxel) => voxel.join()).sort()

  async function openLandmarks(order: AxisOrder): Promise<void> {
    const path = join(folder, 'landmarks.nii')
    await writeFile(path, landmarkFile(order))
    await bench.openFiles(path)
    await bench.page.selectOption('#preset', { label: 'CT bone' })
  }

  test.each(AXIS_ORDERS)('$name: each of three landmarks is hit where it is seen', async (order) => {
    await openLandmarks(order)
    expect(await hitLandmarks()).toEqual(ALL_LANDMARKS)
  })

  test('so it is after the window has another size, zoomed, and on a screen of two pixels to one', async () => {
    await openLandmarks(AXIS_ORDERS[22]!)
    await bench.page.setViewportSize({ width: 1250, height: 540 })
    expect(await hitLandmarks()).toEqual(ALL_LANDMARKS)
    await bench.key('+')
    expect(await hitLandmarks()).toEqual(ALL_LANDMARKS)
  })

  test('so it is on a screen of two pixels to one, whose pixels are all used', async () => {
    const [usual, fine] = [bench, await openBrowser({ width: 1000, height: 620, deviceScaleFactor: 2 })]
    try {
      bench = await Workbench.open(await fine.newPage(), server.url)
      await openLandmarks(AXIS_ORDERS[31]!)
      expect(await hitLandmarks()).toEqual(ALL_LANDMARKS)
      const ratio = await bench.page.evaluate(() => {
        const canvas = document.getElementById('slices') as HTMLCanvasElement
        return canvas.width / canvas.clientWidth
      })
      expect(ratio).toBeCloseTo(2, 2)
    } finally {
      bench = usual
      await fine[Symbol.asyncDispose]()
    }
  })

  /** The label map that the API gives for the same file and clicks. */
  async function apiMask(path: string, { foreground, background }: ClickParams): Promise<string> {
    const form = new FormData()
    form.append('params', JSON.stringify({ foreground, background, result_extension: '.nii.gz' }))
    form.append('image', new Blob([await readFile(path)]), 'image.nii.gz')
    const response = await fetch(`${server.url}/v1/deepgrow?model=deepgrow_2d&output=image`, {
      method: 'POST',
      body: form,
    })
    expect(response.status).toBe(200)
    const file = join(folder, 'api.nii.gz')
    await writeFile(file, new Uint8Array(await response.arrayBuffer()))
    return file
  }

  const space = sharedData === undefined ? '' : join(sharedData, 'robust/nifti_space')
  test.skipIf(sharedData === undefined)(
    'what is saved equals what the API answers to the same clicks, in real scans of many axis orders',
    async () => {
      for (const name of (await readdir(space)).filter((file) => file.endsWith('.nii.gz'))) {
        await bench.openFiles(join(space, name))
        // A 2-D model's slices run across the third stored axis.
        await bench.key({ S: '2', I: '2', A: '3', P: '3', R: '4', L: '4' }[name[2]!]!)
        await bench.key('c')
        const stage = (await bench.page.locator('#stage').boundingBox())!
        await bench.clickAt(stage.width * 0.45, stage.height * 0.4)
        const clicks = await bench.clickAt(stage.width * 0.5, stage.height * 0.25, 'right')
        const saved = await bench.saved('nii')
        const file = join(folder, 'saved.nii.gz')
        await writeFile(file, saved.bytes)
        const [ours, theirs] = await Promise.all(
          [file, await apiMask(join(space, name), clicks)].map((path) => readVolume([path], READ_LIMITS)),
        )
        expect(ours!.volume.affine, name).toEqual(theirs!.volume.affine)
        expect(Buffer.from(ours!.volume.data.buffer).equals(Buffer.from(theirs!.volume.data.buffer)), name).toBe(true)
        expect(
          ours!.volume.data.some((v) => v !== 0),
          name,
        ).toBe(true)
      }
    },
    240_000,
  )
})
