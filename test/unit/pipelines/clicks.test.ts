/** Clicks and extreme points from the request to the network and back, whatever the order of the file's axes. */
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { JobControl } from '../../../src/contract/job.js'
import type { Predict, TensorSpec } from '../../../src/contract/tensor.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import type { LoadedModel } from '../../../src/pipelines/run.js'
import { runInference } from '../../../src/pipelines/run-inference.js'
import type { Vec3, Volume } from '../../../src/volume/volume.js'
import { nothingKept } from '../../helpers/pipeline.js'
import { axisOrders, inAxisOrder, roomyLimits, scaleAffine, tempFolder, volumeOf } from '../../helpers/volumes.js'

const control: JobControl = {
  signal: new AbortController().signal,
  checkpoint: async () => {},
  withDevice: (work) => work(),
}

/** A network whose label is 1 where channel `channel` of its input is above `over`. */
function peaks(channels: number, channel: number, rank: 2 | 3, over = 0.9999): LoadedModel['predictor'] {
  const free = rank === 2 ? ['h', 'w'] : ['d', 'h', 'w']
  const spec = (name: string, c: number): TensorSpec => ({ name, type: 'float32', dims: ['n', c, ...free] })
  const run: Predict = async ({ image }) => {
    const [n, , ...grid] = image!.dims as [number, number, ...number[]]
    const each = grid.reduce((a, b) => a * b, 1)
    const signal = image!.data.subarray(channel * each, (channel + 1) * each) as Float32Array
    return { logits: { dims: [n, 1, ...grid], data: signal.map((value) => (value > over ? 1 : -1)) } }
  }
  return { inputs: [spec('image', channels)], outputs: [spec('logits', 1)], device: 'cpu', run, close: async () => {} }
}

interface ModelSketch {
  readonly type: 'deepgrow' | 'annotation'
  readonly pre: readonly Record<string, unknown>[]
  readonly post?: readonly Record<string, unknown>[]
  /** Further keys of the config. */
  readonly more?: Readonly<Record<string, unknown>>
  readonly predictor: LoadedModel['predictor']
}

async function infer(
  { type, pre, post = [], more = {}, predictor }: ModelSketch,
  volume: Volume,
  params: Record<string, unknown>,
) {
  await using folder = await tempFolder()
  const path = join(folder.path, 'scan.nii')
  await writeVolume(volume, path, { extension: '.nii', kind: 'intensity' })
  const config = {
    version: '4',
    type,
    labels: [],
    description: 'for tests',
    pre_transforms: [{ name: 'LoadImaged', args: { keys: 'image' } }, ...pre],
    inference: { image: 'image', name: 'ONNXInference', args: {} },
    post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', threshold: 0 } }, ...post],
    writer: { name: 'Writer', args: { image: 'pred' } },
    ...more,
  }
  const model: LoadedModel = { ref: { name: 'm', revision: '1', config: parseModelConfig(config, 'm') }, predictor }
  const result = await runInference(
    {
      kind: 'inference',
      task: 'inference',
      images: [{ field: 'image', paths: [path] }],
      params,
      wish: { file: true },
      outDir: folder.path,
      limits: roomyLimits,
    },
    { model, parts: [], control, cache: nothingKept },
  )
  return { params: result.params, label: (await readVolume([result.file!.path], roomyLimits)).volume }
}

const onesOf = ({ data, size }: Volume): Vec3[] =>
  [...data.keys()]
    .filter((i) => data[i] !== 0)
    .map((i) => [i % size[0], Math.trunc(i / size[0]) % size[1], Math.trunc(i / size[0] / size[1])])

const scan = volumeOf([14, 11, 9], { affine: scaleAffine([1, 1.5, 3], [-7, 20, 5]) })
const click: Vec3 = [3, 8, 2]
const guidance = (dimensions: 2 | 3, depthFirst: boolean) => [
  {
    name: 'AddGuidanceFromPointsd',
    args: { ref_image: 'image', guidance: 'guidance', dimensions, depth_first: depthFirst },
  },
]
const signal = [{ name: 'AddGuidanceSignald', args: { image: 'image', guidance: 'guidance' } }]
const channel = [{ name: 'AddChanneld', args: { keys: 'image' } }]
const firstAxis = [{ name: 'AsChannelFirstd', args: { keys: 'image' } }]
const crop = [
  { name: 'SpatialCropGuidanced', args: { keys: 'image', guidance: 'guidance', spatial_size: [4, 5, 6], margin: 1 } },
]
const canonical = [
  ...channel,
  { name: 'Orientationd', args: { keys: 'image', axcodes: 'RAS' } },
  { name: 'SqueezeDimd', args: { keys: 'image', dim: 0 } },
]

describe.each(axisOrders.map((order) => ({ order, codes: order.codes })))('a file stored as $codes', ({ order }) => {
  const volume = inAxisOrder(scan, order)

  test.each([
    {
      name: '3-D deepgrow in the order of the file',
      sketch: {
        type: 'deepgrow',
        pre: [...firstAxis, ...guidance(3, true), ...channel, ...crop, ...signal],
        predictor: peaks(3, 1, 3),
      },
    },
    {
      name: '3-D deepgrow reoriented to RAS',
      sketch: {
        type: 'deepgrow',
        pre: [...canonical, ...guidance(3, false), ...channel, ...signal],
        predictor: peaks(3, 1, 3),
      },
    },
    {
      name: '2-D deepgrow on the clicked slice',
      sketch: {
        type: 'deepgrow',
        pre: [
          ...firstAxis,
          ...guidance(2, true),
          { name: 'Fetch2DSliced', args: { keys: 'image', guidance: 'guidance' } },
          ...channel,
          ...signal,
        ],
        post: [{ name: 'RestoreLabeld', args: { keys: 'pred', ref_image: 'image' } }],
        predictor: peaks(3, 1, 2),
      },
    },
  ] satisfies { name: string; sketch: ModelSketch }[])('$name marks the clicked voxel', async ({ sketch }) => {
    const here = click.map((n, axis) => Math.min(n, volume.size[axis]! - 1)) as unknown as Vec3
    const { label } = await infer(sketch, volume, { foreground: [here] })
    expect(onesOf(label)).toEqual([here])
    expect([...label.affine]).toEqual([...volume.affine])
  })

  test('extreme points land where they were set, crop and all', async () => {
    const points: Vec3[] = [
      [3, 4, 3],
      [6, 4, 4],
      [4, 3, 3],
      [5, 6, 4],
      [4, 5, 2],
      [5, 5, 5],
    ]
    const sketch: ModelSketch = {
      type: 'annotation',
      pre: [
        ...channel,
        { name: 'Orientationd', args: { keys: 'image', axcodes: 'LPS' } },
        { name: 'CropByExtremePointsd', args: { keys: 'image', points: 'points', padding: 3.2 } },
        { name: 'AddExtremePointsChanneld', args: { keys: 'image', points: 'points', sigma: 0.3 } },
      ],
      // Blobs of neighbouring points overlap a little, so the peaks differ in height.
      predictor: peaks(2, 1, 3, 0.5),
    }
    const { label } = await infer(sketch, volume, { points })
    expect(new Set(onesOf(label).map(String))).toEqual(new Set(points.map(String)))
  })
})

describe('an annotation config that leaves the crop to the server', () => {
  const points: Vec3[] = [
    [8, 12, 8],
    [15, 12, 8],
    [12, 8, 8],
    [12, 15, 8],
    [12, 12, 5],
    [12, 12, 10],
  ]
  const inside = (i: number) => {
    const [x, y, z] = [i % 30, Math.floor(i / 30) % 32, Math.floor(i / 960)]
    return x >= 8 && x <= 15 && y >= 8 && y <= 15 && z >= 5 && z <= 10
  }
  const block = volumeOf([30, 32, 20], { value: (i) => (inside(i) || i % 30 === 0 ? 1 : 0) })

  function sketch(roi: number[]): ModelSketch & { shapes: (readonly number[])[] } {
    const shapes: (readonly number[])[] = []
    const network = peaks(2, 0, 3, 0.5)
    const predictor = {
      ...network,
      run: (async (feeds) => {
        shapes.push(feeds.image!.dims)
        return network.run(feeds)
      }) satisfies Predict,
    }
    const pre = [...channel, { name: 'AddExtremePointsChannel', args: { image_field: 'image', points: 'points' } }]
    return { type: 'annotation', pre, predictor, more: { padding: 3, roi }, shapes }
  }

  test('has the model see roi voxels around the points, and the rest of the scan stays empty', async () => {
    const model = sketch([13, 13, 11])
    const { label } = await infer(model, block, { points })
    // 3 mm at 1 mm each way: 5..18, 5..18 and 2..13 with the last voxel left out, which is just roi.
    expect(model.shapes).toEqual([[1, 2, 13, 13, 11]])
    expect([...label.size]).toEqual([30, 32, 20])
    expect(Array.from(label.data)).toEqual(Array.from(block.data, (_, i) => (inside(i) ? 1 : 0)))

    const coarse = sketch([7, 7, 7])
    await infer(coarse, block, { points })
    expect(coarse.shapes).toEqual([[1, 2, 7, 7, 7]])
  })

  test('leaves an image alone that its client has cropped to roi', async () => {
    const model = sketch([30, 32, 20])
    const { label } = await infer(model, block, { points })
    expect(model.shapes).toEqual([[1, 2, 30, 32, 20]])
    expect(Array.from(label.data)).toEqual(Array.from(block.data))
  })
})

test('a 3-D reply says which box the model saw, so that the client replaces just that', async () => {
  const sketch: ModelSketch = {
    type: 'deepgrow',
    pre: [...channel, ...guidance(3, false), ...crop, ...signal],
    predictor: peaks(3, 1, 3),
  }
  const { params } = await infer(sketch, scan, { foreground: [[7, 5, 4]] })
  expect(params.crop).toEqual([
    [5, 9],
    [3, 8],
    [1, 7],
  ])
})

test('clicks are obeyed where the config asks for it', async () => {
  const sketch: ModelSketch = {
    type: 'deepgrow',
    pre: [...channel, ...guidance(3, false), ...signal],
    post: [{ name: 'EnforceClicksd', args: { keys: 'pred' } }],
    predictor: peaks(3, 2, 3),
  }
  const { label } = await infer(sketch, scan, { foreground: [[1, 1, 1]], background: [[5, 5, 5]] })
  expect(onesOf(label)).toEqual([[1, 1, 1]])
})

test('a 2-D reply obeys the clicks of its slice and leaves every other slice alone', async () => {
  const sketch: ModelSketch = {
    type: 'deepgrow',
    pre: [
      ...firstAxis,
      ...guidance(2, true),
      { name: 'Fetch2DSliced', args: { keys: 'image', guidance: 'guidance' } },
      ...channel,
      ...signal,
    ],
    post: [
      { name: 'RestoreLabeld', args: { keys: 'pred', ref_image: 'image' } },
      { name: 'EnforceClicksd', args: { keys: 'pred' } },
    ],
    predictor: peaks(3, 2, 2),
  }
  const clicks = {
    foreground: [
      [1, 1, 2],
      [2, 2, 6],
    ],
    background: [[9, 9, 6]],
  }
  const { label } = await infer(sketch, scan, { ...clicks, current_point: [[2, 2, 6]] })
  expect(onesOf(label)).toEqual([[2, 2, 6]])
  const lowest = await infer(sketch, scan, clicks)
  expect(onesOf(lowest.label)).toEqual([[1, 1, 2]])
})
