/**
 * Every bundled model, and networks that give labels themselves, on scans that do not lie on the model's grid: anisotropic,
 * oblique, flipped. The label map has the scan's grid, no value that the network did not give, and the anatomy where it is
 * on the grid of 1 mm.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { indexToIndex, multiply4, transformPoint } from '../../src/volume/affine.js'
import { resampleLinear, resampleNearest } from '../../src/volume/resample.js'
import { type Grid, spacingOf, type Vec3, type Volume } from '../../src/volume/volume.js'
import { readMultipart } from '../helpers/multipart.js'
import { fixtureModel, modelConfig } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { sharedData } from '../helpers/shared-data.js'
import {
  axisOrders,
  inAxisOrder,
  niftiFile,
  roomyLimits,
  scaleAffine,
  tempFolder,
  volumeOf,
} from '../helpers/volumes.js'

let workspace: string
let server: ServerProcess
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-off-grid-'))
  server = await ServerProcess.start(workspace, ['--device', 'cpu'])
}, 120_000)
afterAll(async () => {
  await server?.end('SIGTERM')
  await rm(workspace, { recursive: true, force: true, maxRetries: 3 })
})

/** The same field of view with other voxels: `spacing` mm apart, the whole turned by `angle` about the axis from feet to head. */
function otherGrid(grid: Grid, spacing: Vec3, angle: number): Grid {
  const own = spacingOf(grid)
  const size = grid.size.map((n, axis) => Math.max(1, Math.floor(((n - 1) * own[axis]!) / spacing[axis]!) + 1))
  const scale = scaleAffine(spacing.map((mm, axis) => mm / own[axis]!) as unknown as Vec3)
  const middle = transformPoint(grid.affine, grid.size.map((n) => (n - 1) / 2) as unknown as Vec3)
  const [c, s] = [Math.cos(angle), Math.sin(angle)]
  const [mx, my] = middle
  const turn = Float64Array.of(c, -s, 0, mx - c * mx + s * my, s, c, 0, my - s * mx - c * my, 0, 0, 1, 0, 0, 0, 0, 1)
  return { size: size as unknown as Vec3, affine: multiply4(turn, multiply4(grid.affine, scale)) }
}

function onto(volume: Volume, grid: Grid, mode: 'linear' | 'nearest'): Volume {
  const sampling = { ...grid, toSource: indexToIndex(grid, volume), outside: 'border' as const }
  return mode === 'linear' ? resampleLinear(volume, sampling) : resampleNearest(volume, sampling)
}

const ODD: Vec3 = [0.9, 0.86, 0.86]
const SCANS: readonly { name: string; of: (volume: Volume) => Volume }[] = [
  { name: 'anisotropic', of: (volume) => onto(volume, otherGrid(volume, ODD, 0), 'linear') },
  { name: 'oblique', of: (volume) => onto(volume, otherGrid(volume, ODD, 0.15), 'linear') },
  {
    name: 'anisotropic and flipped',
    of: (volume) =>
      inAxisOrder(
        onto(volume, otherGrid(volume, [0.8, 1.3, 1.1], 0), 'linear'),
        axisOrders.find(({ codes }) => codes === 'PIL')!,
      ),
  },
]

/** The label map of a request, and its numbers. */
async function ask(
  path: string,
  params: object,
  scan: Volume,
): Promise<{ labels: Volume; statistics: { label: number }[] }> {
  await using folder = await tempFolder()
  const body = new FormData()
  body.append('params', JSON.stringify({ ...params, result_extension: '.nii' }))
  body.append(
    'image',
    new Blob([new Uint8Array(await readFile(await niftiFile(folder.path, scan, 'scan.nii')))]),
    'scan.nii',
  )
  const reply = await fetch(`${server.url}/v1/${path}`, { method: 'POST', body })
  const bytes = Buffer.from(await reply.arrayBuffer())
  expect(reply.status, bytes.toString('latin1', 0, 300)).toBe(200)
  const [said, file] = readMultipart(reply.headers.get('content-type')!, bytes)
  const result = join(folder.path, 'labels.nii')
  await writeFile(result, new Uint8Array(file!.body))
  const { volume } = await readVolume([result], roomyLimits)
  expect(volume.size).toEqual(scan.size)
  return { labels: volume, statistics: JSON.parse(said!.body.toString()).label_statistics }
}

function valuesOf({ data }: Volume): number[] {
  return [...new Set(data)].sort((a, b) => a - b)
}

/** Twice the voxels where both have one label, by those where either has any. */
function agreement(a: Volume, b: Volume): number {
  let [both, all] = [0, 0]
  for (let i = 0; i < a.data.length; i++) {
    if (a.data[i] !== 0) all++
    if (b.data[i] !== 0) all++
    if (a.data[i] !== 0 && a.data[i] === b.data[i]) both++
  }
  return (2 * both) / all
}

const crop = fileURLToPath(new URL('../golden/transform-hippocampus.nii.gz', import.meta.url))

describe.each(SCANS)('an $name scan', ({ of }) => {
  test.each(['uint8', 'int32', 'int64'])('keeps the numbers of a network that gives %s labels', async (type) => {
    const name = `labels-${type}`
    const output = type === 'uint8' ? 'output' : 'double'
    const config = modelConfig({
      inference: { image: 'image', name: 'ONNXInference', node_mapping: { image: 'image', [output]: 'model' } },
      pre_transforms: [
        { name: 'LoadImaged', args: { keys: 'image' } },
        { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
        { name: 'Spacingd', args: { keys: 'image', pixdim: [1, 1, 1], mode: 'nearest' } },
      ],
      post_transforms: [],
    })
    const body = new FormData()
    body.append('config', new Blob([JSON.stringify(config)]), 'config_aiaa.json')
    const onnx = type === 'uint8' ? 'invert_uint8' : `twice_${type}`
    body.append('data', new Blob([new Uint8Array(fixtureModel(`${onnx}.onnx`))]), 'model.onnx')
    const put = await fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
    expect(put.status, await put.text()).toBe(200)
    const blocks = volumeOf([14, 12, 10], {
      value: (i) => (i % 14 < 5 ? 0 : i % 14 < 9 ? 15 : 120),
      make: (n) => new Uint8Array(n),
    })
    const grid = of(blocks)
    const scan = onto(blocks, grid, 'nearest')
    const { labels, statistics } = await ask(`segmentation?model=${name}`, {}, scan)
    const given = valuesOf(scan).map((value) => (type === 'uint8' ? 255 - value : 2 * value))
    expect(valuesOf(labels).filter((value) => !given.includes(value))).toEqual([])
    expect(statistics.map(({ label }) => label)).toEqual(valuesOf(labels).filter((value) => value !== 0))
  })

  test('keeps the hippocampus in its place', async () => {
    const { volume } = await readVolume([crop], roomyLimits)
    const usual = await ask('segmentation?model=hippocampus_mri', {}, volume)
    const scan = of(volume)
    const { labels } = await ask('segmentation?model=hippocampus_mri', {}, scan)
    expect(valuesOf(labels)).toEqual([0, 1, 2])
    // a few voxels thick in this crop: half a voxel is a fifth of it
    expect(agreement(labels, onto(usual.labels, scan, 'nearest'))).toBeGreaterThan(0.6)
  })

  test.each([
    { path: 'deepgrow?model=deepgrow_3d', kind: 'click' },
    { path: 'dextr3d?model=dextr3d', kind: 'points' },
  ])('keeps a thing that $path draws in its place', async ({ path, kind }) => {
    const inside = (i: number): boolean =>
      Math.hypot((i % 56) - 28, (Math.floor(i / 56) % 48) - 24, Math.floor(i / 56 / 48) - 18) < 11
    const truth = volumeOf([56, 48, 36], { value: (i) => (inside(i) ? 1 : 0), make: (n) => new Uint8Array(n) })
    const ball = volumeOf([56, 48, 36], { value: (i) => (inside(i) ? 190 : 60) + ((i * 7919) % 101) / 5 })
    const scan = of(ball)
    const at = (x: number, y: number, z: number) => transformPoint(indexToIndex(ball, scan), [x, y, z]).map(Math.round)
    const ends = [at(18, 24, 18), at(38, 24, 18), at(28, 14, 18), at(28, 34, 18), at(28, 24, 8), at(28, 24, 28)]
    const params = kind === 'click' ? { foreground: [at(28, 24, 18)], background: [] } : { points: ends }
    const { labels } = await ask(path, params, scan)
    expect(valuesOf(labels)).toEqual([0, 1])
    expect(agreement(labels, onto(truth, scan, 'nearest'))).toBeGreaterThan(0.8)
  })

  test.skipIf(!sharedData)(
    'keeps the structures of a head in their places (skipped without ../shared/data)',
    async () => {
      const { volume } = await readVolume([join(sharedData!, 'nifti/brain/t1_crop_brainchop.nii.gz')], roomyLimits)
      const usual = await ask('segmentation?model=brain_mri', {}, volume)
      const scan = of(volume)
      const { labels } = await ask('segmentation?model=brain_mri', {}, scan)
      expect(valuesOf(labels)).toEqual(valuesOf(usual.labels))
      expect(agreement(labels, onto(usual.labels, scan, 'nearest'))).toBeGreaterThan(0.85)
    },
  )
})
