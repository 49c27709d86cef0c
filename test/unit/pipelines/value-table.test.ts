/** Large images of 8 and 16 bits whose intensities are changed by table: what comes out is what float32 voxels give. */
import { expect, test } from 'vitest'
import type { Tensor } from '../../../src/contract/tensor.js'
import { infer, type Window } from '../../../src/inferers/infer.js'
import { fieldOf } from '../../../src/pipelines/fit-image.js'
import { applyAll } from '../../../src/pipelines/model-run.js'
import { buildTransform } from '../../../src/transforms/catalog.js'
import { resizeTo } from '../../../src/transforms/resize.js'
import type { ImageField, Item } from '../../../src/transforms/types.js'
import { withOwnValues } from '../../../src/transforms/value-table.js'
import { collectGarbage } from '../../../src/util/collect-garbage.js'
import type { Vec3, VoxelArray } from '../../../src/volume/volume.js'
import { idleControl, nothingKept, runPipeline, step, voxelNetwork } from '../../helpers/pipeline.js'
import { niftiFile, tempFolder, volumeOf } from '../../helpers/volumes.js'

type Make = new (length: number) => VoxelArray

/** More voxels than 16 bits have values. */
const LARGE: Vec3 = [42, 41, 40]
const SMALL: Vec3 = [20, 20, 20]

function imageOf(Kind: Make, size: Vec3 = LARGE, axes = 'CXYZ'): ImageField {
  const volume = volumeOf(size, { value: (i) => ((i * 7919) % 3001) - 1000, make: (n) => new Kind(n) })
  return { ...fieldOf({ volume }, 'volume'), axes }
}

/** As expect's toEqual, which takes seconds for so many numbers. */
function expectSame(some: ArrayBufferView, others: ArrayBufferView): void {
  expect(some.constructor).toBe(others.constructor)
  expect(bytesOf(some).equals(bytesOf(others))).toBe(true)
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength)
}

function expectSameRuns(some: readonly Float32Array[], others: readonly Float32Array[]): void {
  expect(some.length).toBe(others.length)
  for (const [i, run] of some.entries()) expectSame(run, others[i]!)
}

type Steps = readonly (readonly [name: string, args: Record<string, unknown>])[]

const built = (steps: Steps) => steps.map(([name, args]) => buildTransform(step(name, args)))

async function changed(image: ImageField, steps: Steps): Promise<ImageField> {
  const item: Item = { images: new Map([['image', image]]), values: new Map(), result: {} }
  return (await applyAll(built(steps), item, idleControl, 'pre')).images.get('image')!
}

/** Each transform by itself, over voxels. */
async function eager(image: ImageField, steps: Steps): Promise<ImageField> {
  let item: Item = { images: new Map([['image', image]]), values: new Map(), result: {} }
  for (const transform of built(steps)) item = await transform.apply(item)
  return item.images.get('image')!
}

const range = ['ScaleIntensityRanged', { a_min: -57, a_max: 164, b_min: 0, b_max: 1, clip: true }] as const
const normal = ['NormalizeIntensityd', { subtrahend: 208, divisor: 388 }] as const

const BY_VALUE: readonly (readonly [string, Steps])[] = [
  ['a window', [range]],
  ['a window of Clara', [['ScaleIntensityRange', { a_min: -100, a_max: 300, a_offset: 7, clip: false }]]],
  ['given mean and deviation', [normal]],
  ['the same where voxels are not zero', [['NormalizeIntensityd', { subtrahend: 20, divisor: 3, nonzero: true }]]],
  ['a sum', [['ShiftIntensityd', { offset: 0.1 }]]],
  ['a product and a sum', [['ScaleShift', { scale: 1 / 3, shift: -0.7 }]]],
  ['a threshold', [['ThresholdIntensityd', { threshold: 11, above: false, cval: -3 }]]],
  ['float32', [['CastToTyped', { dtype: 'float32' }]]],
  [
    'several, one after another',
    [normal, ['EnsureTyped', { dtype: 'float32' }], range, ['ShiftIntensityd', { offset: 2 }]],
  ],
]

test.each(BY_VALUE)('%s changes a table, and never the voxels of the file', async (_, steps) => {
  for (const Kind of [Uint8Array, Int16Array, Uint16Array]) {
    const image = imageOf(Kind)
    const before = image.volume.data.slice()
    const made = await changed(image, steps)
    expect(made.volume.data).toBe(image.volume.data)
    expectSame(image.volume.data, before)
    const own = withOwnValues(made)
    expect(own.valueTable).toBeUndefined()
    expectSame(own.volume.data, (await eager(image, steps)).volume.data)
  }
})

test.each<[string, Make, Vec3, Steps]>([
  ['float32 voxels', Float32Array, LARGE, [range]],
  ['32 bits', Int32Array, LARGE, [range]],
  ['an image with fewer voxels than its type has values', Int16Array, SMALL, [range]],
  ['what the image itself decides', Int16Array, LARGE, [['ScaleIntensityd', {}]]],
  ['whole numbers as the result', Int16Array, LARGE, [[range[0], { ...range[1], b_max: 255, dtype: 'uint8' }]]],
])('%s go without a table', async (_, Kind, size, steps) => {
  const image = imageOf(Kind, size)
  const made = await changed(image, steps)
  expect(made.valueTable).toBeUndefined()
  expectSame(made.volume.data, (await eager(image, steps)).volume.data)
})

test.each<[string, Steps]>([
  ['its neighbours', [range, ['Zoomd', { zoom: 0.5, mode: 'trilinear' }]]],
  ['zeros around it', [range, ['SpatialPadd', { spatial_size: [50, 50, 50] }]]],
  ['its own extremes', [range, ['ScaleIntensityd', {}]]],
  ['other numbers for it', [range, ['CastToTyped', { dtype: 'uint8' }]]],
])('a step that takes %s sees what the voxels stand for', async (_, steps) => {
  const image = imageOf(Int16Array)
  const [made, wanted] = [await changed(image, steps), await eager(image, steps)]
  expect(made.volume.size).toEqual(wanted.volume.size)
  expectSame(made.volume.data, wanted.volume.data)
})

test('a step on another field that reads the image sees what its voxels stand for', async () => {
  const image = await changed(imageOf(Int16Array), [range])
  const other = imageOf(Float32Array)
  const guide = buildTransform({ name: 'AddLabelAsGuidanced', args: { keys: 'other', source: 'image' } })
  const over = async (source: ImageField) => {
    const images = new Map([
      ['image', source],
      ['other', other],
    ])
    const item = await applyAll([guide], { images, values: new Map(), result: {} }, idleControl, 'pre')
    return item.images.get('other')!.volume.data
  }
  expectSame(await over(image), await over(withOwnValues(image)))
})

const free = ['a', 'b', 'c']

/** All that a network sees of an image, window by window. */
async function seen(field: ImageField, window: Window, channelsLast = false): Promise<Float32Array[]> {
  const runs: Float32Array[] = []
  const { channels } = field.volume
  const dims = channelsLast ? ['n', ...free, channels] : ['n', channels, ...free]
  await infer({
    inputs: [{ spec: { name: 'x', type: 'float32', dims }, field }],
    output: { name: 'y', type: 'float32', dims },
    predict: async (feeds): Promise<Record<string, Tensor>> => {
      runs.push(Float32Array.from(feeds.x!.data))
      return { y: { dims: feeds.x!.dims, data: feeds.x!.data.slice() } }
    },
    reduction: { kind: 'scores' },
    format: channelsLast ? 'NDHWC' : undefined,
    window,
    onProgress: async () => {},
  })
  return runs
}

const tiled: Window = { roi: [32, 32, 32], overlap: 0.25, batchSize: 2, blend: 'constant' }

test('a network sees through a table what it sees of float32 voxels, whichever way they lie', async () => {
  const windows: Window[] = [
    tiled,
    { ...tiled, roi: [0, 0, 0], batchSize: 1 },
    { ...tiled, roi: [60, 32, 50], fill: -4.5 },
    { ...tiled, roi: [60, 32, 50] },
    { ...tiled, roi: [60, 32, 50], padding: 'reflect' },
  ]
  for (const axes of ['CXYZ', 'CZYX', 'CZXY', 'CYXZ'])
    for (const window of windows) {
      const made = await changed(imageOf(Int16Array, LARGE, axes), [normal])
      expect(made.valueTable).toBeDefined()
      expectSameRuns(await seen(made, window), await seen(withOwnValues(made), window))
    }
})

test('channels, first and last, are seen through one table', async () => {
  for (const axes of ['CXYZ', 'XYZC']) {
    const volume = volumeOf([30, 31, 32], { value: (i) => (i * 13) % 251, channels: 3, make: (n) => new Uint8Array(n) })
    const made = await changed({ ...fieldOf({ volume }, 'volume'), axes }, [normal])
    const last = axes.endsWith('C')
    expectSameRuns(await seen(made, tiled, last), await seen(withOwnValues(made), tiled, last))
  }
})

test('windows of air that was cut off at one value are one window to the network', async () => {
  const size: Vec3 = [96, 48, 48]
  // air of many values, all of them below the window, and a body in the last third
  const volume = volumeOf(size, { value: (i) => (i % 96 < 64 ? -1000 + (i % 50) : i % 100) })
  const made = await changed({ ...fieldOf({ volume }, 'volume'), axes: 'CXYZ' }, [range])
  const plain: Window = { roi: [16, 16, 16], overlap: 0, batchSize: 1, blend: 'constant' }
  const runs = await seen(made, plain)
  expect(runs.length).toBe(1 + 2 * 3 * 3)
  expectSameRuns(runs, await seen(withOwnValues(made), plain))
})

const segments = (pre: Steps) => ({
  version: '4',
  type: 'segmentation',
  labels: ['body'],
  description: '',
  pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd'), ...pre.map(([name, args]) => step(name, args))],
  inference: { image: 'image', name: 'ONNXInference', args: { scanning_window: true, roi: [32, 32, 32] } },
  post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', argmax: true } }],
  writer: { name: 'Writer', args: { image: 'pred' } },
})

test('a session keeps the voxels of the file and a table, and answers from them as from the file', async () => {
  await using folder = await tempFolder()
  const path = await niftiFile(folder.path, imageOf(Int16Array).volume)
  const kept = new Map<string, Item>()
  const run = (cacheKey?: string) =>
    runPipeline({
      config: segments([range]),
      predictor: voxelNetwork(([value]) => [0.5, value!]),
      paths: [path],
      outDir: folder.path,
      job: { images: [{ field: 'image', paths: [path], ...(cacheKey && { cacheKey }) }] },
      context: { cache: { ...nothingKept, get: (key) => kept.get(key), set: (key, item) => void kept.set(key, item) } },
    })
  const alone = await run()
  const [first, second] = [await run('s'), await run('s')]
  expect(alone.params.label_statistics).toMatchObject([{ label: 1 }])
  expect([first.params, second.params]).toEqual([alone.params, alone.params])
  expect([...kept.values()].map(({ images }) => images.get('image')!.volume.data)).toEqual([expect.any(Int16Array)])
})

test('the way back of a resized image keeps its grid and not its voxels', async () => {
  const gone = (() => {
    const image = imageOf(Float32Array)
    return { field: resizeTo(image, [10, 10, 10], 'linear', false, 'Resized'), voxels: new WeakRef(image.volume.data) }
  })()
  await new Promise((resolve) => setImmediate(resolve))
  collectGarbage()
  expect(gone.field.undo.length).toBe(1)
  expect(gone.voxels.deref()).toBeUndefined()
})
