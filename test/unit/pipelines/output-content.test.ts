import { describe, expect, it } from 'vitest'
import type { ModelType } from '../../../src/contract/model.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { outputContent } from '../../../src/pipelines/output-content.js'
import { buildTransform } from '../../../src/transforms/catalog.js'
import { labelNetwork, runPipeline, step, voxelNetwork } from '../../helpers/pipeline.js'
import { niftiFile, roomyLimits, scaleAffine, tempFolder, volumeOf } from '../../helpers/volumes.js'

type Step = readonly [string, Record<string, unknown>]
const writer = (dtype?: string) => ({ name: 'WriteNifti', args: { field: 'pred', ...(dtype ? { dtype } : {}) } })

describe('what a config says that its output holds', () => {
  it.each<{ name: string; post: readonly Step[]; type?: ModelType; dtype?: string; want: string | undefined }>([
    { name: 'an argmax reads scores', post: [['AsDiscreted', { argmax: true }]], dtype: 'uint8', want: 'scores' },
    {
      name: 'an activation reads scores, however the file is written',
      post: [['Activationsd', { sigmoid: true }]],
      dtype: 'uint8',
      want: 'scores',
    },
    {
      name: 'a restore says nothing, the threshold behind it does',
      post: [
        ['RestoreLabeld', { mode: 'bilinear' }],
        ['AsDiscreted', { threshold: 0.5 }],
      ],
      dtype: 'uint8',
      want: 'scores',
    },
    { name: 'components are of labels', post: [['KeepLargestConnectedComponentd', {}]], want: 'labels' },
    { name: 'a cast to whole numbers makes labels', post: [['CastToTyped', { dtype: 'uint8' }]], want: 'labels' },
    { name: 'a cast to reals says nothing', post: [['EnsureTyped', { dtype: 'float32' }]], want: undefined },
    { name: 'a segmentation written as whole numbers is labels', post: [], dtype: 'int16', want: 'labels' },
    { name: 'a segmentation written as reals may be scores', post: [], dtype: 'float32', want: undefined },
    {
      name: 'another model may give an image of whole numbers',
      post: [],
      type: 'others',
      dtype: 'int16',
      want: undefined,
    },
    {
      name: "a function of one's own may read scores",
      post: [['Lambdad', { func: 'lambda x: x > 0.3' }]],
      dtype: 'uint8',
      want: undefined,
    },
    {
      name: 'a step on another field says nothing',
      post: [['AsDiscreted', { keys: 'other', argmax: true }]],
      want: undefined,
    },
  ])('$name', ({ post, type = 'segmentation', dtype, want }) => {
    const built = post.map(([name, args]) => buildTransform({ name, args: { keys: 'pred', ...args } }))
    expect(outputContent({ type, writer: writer(dtype) }, built, 'pred')).toBe(want)
  })
})

const scan = volumeOf([7, 6, 5], { affine: scaleAffine([2, 0.8, 1.7]), value: (i) => (i * 7) % 40 })

function config(post: readonly ReturnType<typeof step>[] = [], changes: Record<string, unknown> = {}) {
  return {
    version: '4',
    type: 'segmentation',
    labels: ['low', 'high'],
    pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd'), step('Spacingd', { pixdim: [1, 1, 1] })],
    inference: { image: 'image', name: 'ONNXInference', node_mapping: { x: 'image', y: 'pred' } },
    post_transforms: post,
    writer: writer(),
    ...changes,
  }
}

const labelOf = (value: number): number => (value > 25 ? 30 : value > 15 ? 3 : 0)

describe('a network that gives labels', () => {
  it.each([
    { name: 'as uint8', predictor: labelNetwork(labelOf, 'uint8') },
    { name: 'as int64', predictor: labelNetwork(labelOf, 'int64') },
    { name: 'without a channel dimension', predictor: labelNetwork(labelOf, 'float32', { channelAxis: false }) },
    {
      name: 'as reals, which the writer says are whole numbers',
      predictor: labelNetwork(labelOf, 'float32'),
      changes: { writer: writer('uint8') },
    },
    {
      name: 'and a config that takes an argmax of them',
      predictor: labelNetwork(labelOf, 'int32'),
      post: [step('AsDiscreted', { keys: 'pred', argmax: true })],
    },
    {
      name: 'that the config casts to float32',
      predictor: labelNetwork(labelOf, 'uint8'),
      post: [step('EnsureTyped', { keys: 'pred', dtype: 'float32' })],
    },
    {
      name: 'and a restore that says bilinear',
      predictor: labelNetwork(labelOf, 'int32'),
      post: [step('RestoreLabeld', { keys: 'pred', mode: 'bilinear' })],
    },
  ])('$name gives a label map with its numbers', async ({ predictor, post = [], changes = {} }) => {
    await using folder = await tempFolder()
    const paths = [await niftiFile(folder.path, scan)]
    const result = await runPipeline({ config: config(post, changes), predictor, paths, outDir: folder.path })
    const { volume } = await readVolume([result.file!.path], roomyLimits)
    expect([...new Set(volume.data)].sort((a, b) => a - b)).toEqual([0, 3, 30])
    const statistics = result.params.label_statistics as { label: number; name: string; voxels: number }[]
    expect(statistics.map(({ label, name }) => [label, name])).toEqual([
      [3, 'label 3'],
      [30, 'label 30'],
    ])
    for (const { label, voxels } of statistics)
      expect(voxels).toBe(volume.data.filter((value) => value === label).length)
  })

  it('may use any 32 bits', async () => {
    await using folder = await tempFolder()
    const paths = [await niftiFile(folder.path, scan)]
    const predictor = labelNetwork((value) => (value > 20 ? 2_000_000_000 : value > 10 ? 14_175 : 0), 'int64')
    const result = await runPipeline({ config: config(), predictor, paths, outDir: folder.path })
    const { volume } = await readVolume([result.file!.path], roomyLimits)
    expect([...new Set(volume.data)].sort((a, b) => a - b)).toEqual([0, 14_175, 2_000_000_000])
    expect((result.params.label_statistics as { label: number }[]).map(({ label }) => label)).toEqual([14_175, 2e9])
  })

  it.each([
    { name: 'beyond 32 bits', value: 2 ** 31, said: /gave 2147483648 where its output holds labels/ },
    { name: 'that is no number', value: Number.NaN, said: /gave NaN where its output holds labels/ },
  ])('and one $name is refused', async ({ value, said }) => {
    await using folder = await tempFolder()
    const paths = [await niftiFile(folder.path, scan)]
    const predictor = labelNetwork(() => value, 'int64')
    const run = runPipeline({ config: config(), predictor, paths, outDir: folder.path })
    await expect(run).rejects.toMatchObject({ code: 'BAD_MODEL', message: expect.stringMatching(said) })
  })
})

it('scores stay scores when nothing says otherwise, and move linearly', async () => {
  await using folder = await tempFolder()
  const paths = [await niftiFile(folder.path, scan)]
  const predictor = voxelNetwork(([value]) => [value! / 40])
  const result = await runPipeline({ config: config(), predictor, paths, outDir: folder.path })
  const { volume } = await readVolume([result.file!.path], roomyLimits)
  expect(volume.data).toBeInstanceOf(Float32Array)
  expect(result.params).not.toHaveProperty('label_statistics')
})

it('an argmax over one channel of scores is refused, since it would be empty everywhere', async () => {
  await using folder = await tempFolder()
  const paths = [await niftiFile(folder.path, scan)]
  const predictor = voxelNetwork(([value]) => [value! / 40])
  const post = [step('AsDiscreted', { keys: 'pred', argmax: true })]
  const run = runPipeline({ config: config(post), predictor, paths, outDir: folder.path })
  await expect(run).rejects.toMatchObject({ code: 'BAD_MODEL', message: expect.stringContaining('one channel') })
})
