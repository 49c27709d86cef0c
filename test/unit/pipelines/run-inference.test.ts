import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { InferenceJob } from '../../../src/contract/job.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { multiply4 } from '../../../src/volume/affine.js'
import { makeVolume, type Volume } from '../../../src/volume/volume.js'
import { idleControl, nothingKept, runPipeline, step, voxelNetwork } from '../../helpers/pipeline.js'
import { axisOrders, inAxisOrder, niftiFile, roomyLimits, scaleAffine, volumeOf } from '../../helpers/volumes.js'

const folder = await mkdtemp(join(tmpdir(), 'aidant-test-'))
const crop = fileURLToPath(new URL('../../golden/transform-hippocampus.nii.gz', import.meta.url))
const { volume: mri } = await readVolume([crop], roomyLimits)

/** Bright voxels are 1, the brightest 2. */
const tissue = voxelNetwork(([v]) => [0.35 - v!, v! < 0.6 ? v! - 0.35 : 0.25, 2 * (v! - 0.6) + 0.25])

const config = (more: Record<string, unknown> = {}) => ({
  version: '3',
  type: 'segmentation',
  labels: ['grey', 'white'],
  description: '',
  pre_transforms: [
    step('LoadImaged'),
    step('EnsureChannelFirstd'),
    step('Orientationd', { axcodes: 'RAS' }),
    step('Spacingd', { pixdim: [0.8, 0.8, 0.8] }),
    step('ScaleIntensityd'),
  ],
  inference: { image: 'image', name: 'TRTISInference', node_mapping: { x: 'image', y: 'model' } },
  post_transforms: [
    { name: 'ArgmaxAcrossChannels', args: { fields: 'model' } },
    { name: 'FetchExtremePoints', args: { image_field: 'image', label_field: 'model', points: 'points' } },
    { name: 'RestoreOriginalShape', args: { field: 'model', src_field: 'image', is_label: true } },
  ],
  writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
  ...more,
})

const windowed = {
  inference: {
    image: 'image',
    node_mapping: { x: 'image', y: 'model' },
    args: { scanning_window: true, roi: [20, 24, 16], batch_size: 3, overlap: 0.3, mode: 'gaussian' },
  },
}

async function segment(image: Volume, settings: Record<string, unknown>, name: string) {
  const path = await niftiFile(folder, image, `${name}.nii`)
  const outDir = await mkdtemp(join(folder, 'out-'))
  const result = await runPipeline({ config: settings, predictor: tissue, paths: [path], outDir })
  const [input, output] = await Promise.all(
    [path, result.file!.path].map(async (file) => (await readVolume([file], roomyLimits)).volume),
  )
  return { input: input!, output: output!, params: result.params }
}

function dice(a: Volume, b: Volume, label: number): number {
  let [both, sum] = [0, 0]
  for (let i = 0; i < a.data.length; i++) {
    const [p, q] = [a.data[i] === label, b.data[i] === label]
    if (p && q) both++
    sum += Number(p) + Number(q)
  }
  return (2 * both) / sum
}

function expectSameGrid(output: Volume, input: Volume): void {
  expect(output.size).toEqual(input.size)
  expect(output.affine).toEqual(input.affine)
  expect(output.nifti?.srow).toEqual(input.nifti?.srow)
  expect(output.nifti?.quatern).toEqual(input.nifti?.quatern)
  expect(output.nifti?.pixdim).toEqual(input.nifti?.pixdim)
}

describe('every way to lay a scan out in a file gives the same anatomy on its own grid', async () => {
  for (const [how, settings] of [
    ['whole', config()],
    ['window by window', config(windowed)],
  ] as const) {
    const plain = await segment(mri, settings, `plain-${how.length}`)
    it.each(axisOrders)(`$codes, ${how}`, async (order) => {
      const { input, output, params } = await segment(inAxisOrder(mri, order), settings, `${order.codes}-${how.length}`)
      expectSameGrid(output, input)
      const want = inAxisOrder(plain.output, order)
      for (const label of [1, 2]) expect(dice(output, want, label)).toBeGreaterThan(0.99)
      for (const [x, y, z] of params.points as [number, number, number][]) {
        expect(output.data[x + output.size[0] * (y + output.size[1] * z)]).not.toBe(0)
      }
    })
  }
})

describe('odd grids', () => {
  const turn = (degrees: number): Float64Array => {
    const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)]
    return Float64Array.of(c, -s, 0, 3, s, c, 0, -7, 0, 0, 1, 11, 0, 0, 0, 1)
  }
  const sheared = Float64Array.of(1, 0.2, 0.05, 0, 0, 1, 0.1, 0, 0, 0, 1, 0, 0, 0, 0, 1)
  it.each([
    { name: 'oblique by 17 degrees', affine: multiply4(turn(17), mri.affine) },
    { name: 'oblique by 44 degrees', affine: multiply4(turn(44), mri.affine) },
    { name: 'sheared, as a tilted gantry gives', affine: multiply4(mri.affine, sheared) },
    { name: 'anisotropic', affine: multiply4(mri.affine, scaleAffine([1, 0.6, 2.7])) },
  ])('$name', async ({ name, affine }) => {
    const image = makeVolume(mri.size, affine, mri.data)
    const { input, output } = await segment(image, config(), name.replace(/\W/g, ''))
    expectSameGrid(output, input)
    // the network looks at single voxels, so the file's own bright voxels are the answer
    const { min, max } = { min: Math.min(...mri.data), max: Math.max(...mri.data) }
    const direct = mri.data.map((v) => ((v - min) / (max - min) > 0.35 ? 1 : 0))
    const masks = [
      makeVolume(
        mri.size,
        affine,
        output.data.map((v) => (v > 0 ? 1 : 0)),
      ),
      makeVolume(mri.size, affine, direct),
    ]
    expect(dice(masks[0]!, masks[1]!, 1)).toBeGreaterThan(0.9)
  })
})

describe('what a job says beside its label map', () => {
  it.each([
    { name: 'no points where the config computes none', post: [], want: [] },
    {
      name: "Slicer's extreme_points under both names",
      post: [
        { name: 'FetchExtremePoints', args: { image_field: 'image', label_field: 'model', points: 'extreme_points' } },
      ],
      want: expect.arrayContaining([[2, 2, 2]]),
    },
  ])('always has points, a list of points: $name', async ({ post, want }) => {
    const image = volumeOf([5, 5, 5])
    image.data.fill(0).set([9], 2 + 5 * (2 + 5 * 2))
    const settings = config({ post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }, ...post] })
    const { params } = await segment(image, settings, 'points')
    expect(params.points).toEqual(want)
    if (params.extreme_points) expect(params.points).toEqual(params.extreme_points)
  })

  it('tells of classes that overlap, where no order of theirs is stated', async () => {
    const image = volumeOf([4, 1, 1])
    image.data.set([0, 1, 2, 3])
    const path = await niftiFile(folder, image, 'overlap.nii')
    const outDir = await mkdtemp(join(folder, 'out-'))
    const result = await runPipeline({
      config: config({
        pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')],
        post_transforms: [{ name: 'AsDiscreted', args: { keys: 'model', threshold: 0.5 } }],
      }),
      predictor: voxelNetwork(([v]) => [Number(v! >= 1), Number(v! >= 2)]),
      paths: [path],
      outDir,
    })
    const { volume } = await readVolume([result.file!.path], roomyLimits)
    expect([...volume.data]).toEqual([0, 1, 2, 2])
    expect(result.notes).toEqual([expect.stringContaining('overlap in 2 voxel(s)')])
  })

  it('tells of a click that was left out', async () => {
    const path = await niftiFile(folder, volumeOf([5, 5, 5]), 'outside.nii')
    const guided = config({
      type: 'deepgrow',
      pre_transforms: [
        step('LoadImaged'),
        step('EnsureChannelFirstd'),
        { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', guidance: 'guidance', dimensions: 3 } },
      ],
      post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
    })
    const job = {
      params: {
        foreground: [
          [1.5, 2, 2],
          [2, 5.5, 2],
        ],
      },
    }
    const result = await runPipeline({ config: guided, predictor: tissue, paths: [path], outDir: folder, job })
    expect(result.notes).toEqual([
      "'foreground[1]' = [2, 5.5, 2] lies outside the image of 5 x 5 x 5 voxels and was left out",
    ])
  })

  it('counts, measures and bounds every label, and gives extreme points on it', async () => {
    const image = volumeOf([6, 5, 4], {
      affine: scaleAffine([2, 2, 2.5]),
      value: (i) => (i === 31 || i === 32 || i === 63 ? 40 + i : 0),
    })
    const path = await niftiFile(folder, image, 'tiny.nii')
    const result = await runPipeline({
      config: config({
        pre_transforms: [step('LoadNifti', {}), { name: 'ConvertToChannelsFirst', args: { fields: 'image' } }],
      }),
      predictor: voxelNetwork(([v]) => [10 - v!, v! - 10]),
      paths: [path],
      outDir: folder,
    })
    expect(result.params.label_statistics).toEqual([
      {
        label: 1,
        name: 'grey',
        voxels: 3,
        volume_ml: 0.03,
        bbox: [
          [1, 0, 1],
          [3, 0, 2],
        ],
        mean_intensity: 82,
      },
    ])
    const [first, middle, last] = [
      [1, 0, 1],
      [2, 0, 1],
      [3, 0, 2],
    ]
    expect(result.params.points).toEqual([first, last, middle, middle, middle, last])
  })

  it('has no points when nothing was found', async () => {
    const path = await niftiFile(folder, volumeOf([4, 4, 4], { value: () => 0 }), 'empty.nii')
    const result = await runPipeline({
      config: config({ pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')] }),
      predictor: voxelNetwork(([v]) => [1, v!]),
      paths: [path],
      outDir: folder,
    })
    expect(result.params).toMatchObject({ points: [], label_statistics: [] })
  })

  it('answers a classification with labels and scores, and no file', async () => {
    const path = await niftiFile(folder, volumeOf([4, 4, 4]), 'class.nii')
    const spec = { name: 'x', type: 'float32', dims: ['n', 1, 'd', 'h', 'w'] } as const
    const result = await runPipeline({
      config: {
        ...config({ type: 'classification', labels: ['calm', 'ill'], writer: undefined }),
        pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')],
        post_transforms: [{ name: 'Activationsd', args: { keys: 'model', softmax: true } }],
      },
      predictor: {
        inputs: [spec],
        outputs: [{ name: 'y', type: 'float32', dims: ['n', 2] }],
        device: 'cpu',
        run: async () => ({ y: { dims: [1, 2], data: Float32Array.of(0, Math.log(3)) } }),
        async close() {},
      },
      paths: [path],
      outDir: folder,
    })
    expect(result.file).toBeUndefined()
    expect(result.params.prediction).toEqual(['ill'])
    expect((result.params.scores as Record<string, number>).ill).toBeCloseTo(0.75, 6)
  })
})

describe('a model of type others that reads no clicks', () => {
  it.each(['deepgrow', 'dextr3d'] as const)('is refused by /v1/%s, and runs where none are asked for', async (task) => {
    const path = await niftiFile(folder, volumeOf([4, 3, 2]), 'clicked.nii')
    const outDir = await mkdtemp(join(folder, 'out-'))
    const run = (job: Partial<InferenceJob>) =>
      runPipeline({ config: config({ type: 'others' }), predictor: tissue, paths: [path], outDir, job })
    const params = { foreground: [[1, 1, 1]], background: [] }
    await expect(run({ task, params })).rejects.toMatchObject({
      code: 'BAD_PARAMS',
      message: `/v1/${task} runs models that read clicks; no transform of 'test' does`,
    })
    expect((await run({ task: 'inference', params })).file).toBeDefined()
  })
})

describe('pictures, slices and several images', () => {
  it('feeds a picture as rows and columns of three channels', async () => {
    const rgb = volumeOf([5, 4, 1], {
      channels: 3,
      make: (n) => new Uint8Array(n),
      value: (i) => (i % 20 === 7 ? 200 : 10),
    })
    const path = join(folder, 'picture.png')
    await writeVolume(rgb, path, { extension: '.png', kind: 'intensity' })
    const shapes: (readonly number[])[] = []
    const network = voxelNetwork(([r, g, b]) => [100 - r!, (r! + g! + b!) / 3 - 100], { channels: 3, rank: 2 })
    const result = await runPipeline({
      config: {
        ...config(),
        pre_transforms: [
          { name: 'LoadPng', args: { fields: 'image' } },
          { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
        ],
      },
      predictor: {
        ...network,
        run: (feeds) => {
          shapes.push(feeds.x!.dims)
          return network.run(feeds)
        },
      },
      paths: [path],
      outDir: folder,
      job: { wish: { file: true, extension: '.nii' } },
    })
    expect(shapes).toEqual([[1, 3, 4, 5]])
    const { volume } = await readVolume([result.file!.path], roomyLimits)
    expect(Array.from(volume.data)).toEqual(Array.from({ length: 20 }, (_, i) => (i === 7 ? 1 : 0)))
  })

  it('runs a 2-D network over a volume slice by slice', async () => {
    const image = volumeOf([4, 3, 5], { value: (i) => (i % 7 === 0 ? 9 : 0) })
    const path = await niftiFile(folder, image, 'slices.nii')
    const network = voxelNetwork(([v]) => [4 - v!, v! - 4], { rank: 2 })
    const shapes: (readonly number[])[] = []
    const result = await runPipeline({
      config: { ...config(), pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')] },
      predictor: {
        ...network,
        run: (feeds) => {
          shapes.push(feeds.x!.dims)
          return network.run(feeds)
        },
      },
      paths: [path],
      outDir: folder,
    })
    expect(shapes).toEqual(Array.from({ length: 5 }, () => [1, 1, 4, 3]))
    const { volume } = await readVolume([result.file!.path], roomyLimits)
    expect(Array.from(volume.data)).toEqual(Array.from(image.data, (v) => (v === 9 ? 1 : 0)))
  })

  it('joins the channels of several images, and refuses two sizes', async () => {
    const [a, b] = [volumeOf([4, 3, 2], { value: (i) => i }), volumeOf([4, 3, 2], { value: (i) => 23 - i })]
    const paths = [await niftiFile(folder, a, 'a.nii'), await niftiFile(folder, b, 'b.nii')]
    const settings = {
      ...config(),
      pre_transforms: [
        { name: 'LoadImaged', args: { keys: ['t1', 't2'] } },
        { name: 'EnsureChannelFirstd', args: { keys: ['t1', 't2'] } },
        { name: 'ConcatItemsd', args: { keys: ['t1', 't2'], name: 'image' } },
      ],
    }
    const predictor = voxelNetwork(([t1, t2]) => [t2!, t1!], { channels: 2 })
    const result = await runPipeline({ config: settings, predictor, paths, outDir: folder })
    const { volume } = await readVolume([result.file!.path], roomyLimits)
    expect(Array.from(volume.data)).toEqual(Array.from({ length: 24 }, (_, i) => (i > 23 - i ? 1 : 0)))

    const other = await niftiFile(folder, volumeOf([4, 3, 3]), 'c.nii')
    await expect(
      runPipeline({ config: settings, predictor, paths: [paths[0]!, other], outDir: folder }),
    ).rejects.toMatchObject({
      code: 'BAD_PARAMS',
    })
    await expect(
      runPipeline({ config: settings, predictor, paths: [paths[0]!], outDir: folder }),
    ).rejects.toMatchObject({
      code: 'MISSING_IMAGE',
      message: expect.stringContaining('t1, t2'),
    })
  })

  it('takes several files as channels where the config loads one field, and refuses two grids', async () => {
    const [a, b] = [volumeOf([4, 3, 2], { value: (i) => i }), volumeOf([4, 3, 2], { value: (i) => 23 - i })]
    const paths = [await niftiFile(folder, a, 'a.nii'), await niftiFile(folder, b, 'b.nii')]
    const settings = { ...config(), pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')] }
    const predictor = voxelNetwork(([t1, t2]) => [t2!, t1!], { channels: 2 })
    const result = await runPipeline({ config: settings, predictor, paths, outDir: folder })
    const { volume } = await readVolume([result.file!.path], roomyLimits)
    expect(volume.size).toEqual([4, 3, 2])
    expect(Array.from(volume.data)).toEqual(Array.from({ length: 24 }, (_, i) => (i > 23 - i ? 1 : 0)))

    const elsewhere = makeVolume([4, 3, 2], scaleAffine([1, 1, 2]), b.data)
    for (const odd of [volumeOf([4, 3, 3]), elsewhere]) {
      const other = await niftiFile(folder, odd, 'odd.nii')
      await expect(
        runPipeline({ config: settings, predictor, paths: [paths[0]!, other], outDir: folder }),
      ).rejects.toMatchObject({ code: 'BAD_PARAMS', message: expect.stringContaining('file 2') })
    }
  })

  it('names the tensor whose channels do not fit', async () => {
    const path = await niftiFile(folder, volumeOf([4, 3, 2]), 'one.nii')
    const predictor = voxelNetwork(([v]) => [0, v!], { channels: 3 })
    await expect(
      runPipeline({
        config: { ...config(), pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')] },
        predictor,
        paths: [path],
        outDir: folder,
      }),
    ).rejects.toMatchObject({ code: 'BAD_PARAMS', message: expect.stringContaining("'x' is float32 [n, 3, d, h, w]") })
  })
})

describe('a session keeps what comes before the clicks', () => {
  it('reads and prepares the image once, and gives the same result again', async () => {
    const path = await niftiFile(folder, mri, 'session.nii')
    const kept = new Map()
    const stages: string[] = []
    const run = () =>
      runPipeline({
        config: config(),
        predictor: tissue,
        paths: [path],
        outDir: folder,
        job: { images: [{ field: 'image', paths: [path], cacheKey: 's1' }] },
        context: {
          cache: { ...nothingKept, get: (key) => kept.get(key), set: (key, item) => void kept.set(key, item) },
          control: { ...idleControl, checkpoint: async (stage) => void stages.push(stage) },
        },
      })
    const first = await run()
    const voxels = (await readVolume([first.file!.path], roomyLimits)).volume.data
    stages.length = 0
    const second = await run()
    expect(stages).not.toContain('read')
    expect(stages).not.toContain('pre')
    expect(second.params).toEqual(first.params)
    expect((await readVolume([second.file!.path], roomyLimits)).volume.data).toEqual(voxels)
  })
})
