/** Files of one case as channels of one image: posted one by one, in a zip, or by session; the network gets the same. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { InferenceJob } from '../../../src/contract/job.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { ingest } from '../../../src/pipelines/ingest.js'
import { openJob } from '../../../src/pipelines/open-job.js'
import { idleControl, runPipeline, step, voxelNetwork } from '../../helpers/pipeline.js'
import { roomyLimits, scaleAffine, volumeOf } from '../../helpers/volumes.js'
import { zipBytes } from '../../helpers/zip.js'

const SIZE = [5, 4, 3] as const
let root: string
let files: string[]
let zip: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'stacked-'))
  files = []
  for (const [i, value] of [(v: number) => v, (v: number) => 40 - v].entries()) {
    const path = join(root, `case_000${i}.nii.gz`)
    await writeVolume(volumeOf(SIZE, { value }), path, { extension: '.nii.gz', kind: 'intensity' })
    files.push(path)
  }
  zip = join(root, 'case.zip')
  // the wrong way round: the numbers in the names count
  const entries = [1, 0].map(async (i) => ({ name: `case/case_000${i}.nii.gz`, data: await readFile(files[i]!) }))
  await writeFile(zip, zipBytes(await Promise.all(entries)))
})
afterAll(() => rm(root, { recursive: true, force: true }))

const outDir = () => mkdtemp(join(root, 'out-'))
async function session(sent: readonly string[]) {
  const folder = await outDir()
  const job = await openJob(
    {
      kind: 'ingest',
      images: [],
      // ingesting moves what it is given
      files: await Promise.all(
        sent.map(async (path, i) => {
          const copy = join(folder, `sent-${i}`)
          await writeFile(copy, await readFile(path))
          return { field: i === 0 ? 'image' : `image${i}`, path: copy }
        }),
      ),
      params: {},
      wish: { file: true },
      outDir: folder,
      limits: roomyLimits,
    },
    idleControl.signal,
  )
  const { params } = await ingest(job, idleControl)
  expect(params.image).toMatchObject({ size: SIZE, channels: sent.length === 1 ? 2 : sent.length })
  return [{ field: 'image', paths: [join(folder, 'volume.nii')] }]
}

const ways: [string, () => Promise<Partial<InferenceJob>>][] = [
  ['two files', async () => ({ images: [], files: files.map((path, i) => ({ field: `image${i || ''}`, path })) })],
  ['a zip', async () => ({ images: [], files: [{ field: 'image', path: zip }] })],
  ['a session of two files', async () => ({ images: await session(files) })],
  ['a session of a zip', async () => ({ images: await session([zip]) })],
]
const preparations: [string, unknown[]][] = [
  ['nothing', []],
  ['LoadImaged alone', [step('LoadImaged')]],
  ['EnsureChannelFirstd', [step('LoadImaged'), step('EnsureChannelFirstd')]],
  ['ensure_channel_first', [step('LoadImaged', { ensure_channel_first: true })]],
  ['AsChannelFirstd', [step('LoadImaged'), step('AsChannelFirstd')]],
]

describe.each(ways)('%s, as the channels of one image', (_, job) => {
  it.each(preparations)('prepared with %s', async (_name, pre) => {
    const config = {
      type: 'segmentation',
      labels: ['second is larger'],
      pre_transforms: pre,
      inference: { input: 'image', output: 'pred' },
      post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', argmax: true } }],
    }
    const predictor = voxelNetwork(([a, b]) => [a!, b!], { channels: 2 })
    const { file } = await runPipeline({ config, predictor, paths: [], outDir: await outDir(), job: await job() })
    const { data } = (await readVolume([file!.path], roomyLimits)).volume
    expect([...data]).toEqual(Array.from({ length: 60 }, (_v, v) => (40 - v > v ? 1 : 0)))
  })
})

describe('what cannot be stacked', () => {
  it('files on other grids are a 400, by session too', async () => {
    const shifted = join(root, 'shifted.nii.gz')
    const affine = scaleAffine([1, 1, 1], [3, 0, 0])
    await writeVolume(volumeOf(SIZE, { affine }), shifted, { extension: '.nii.gz', kind: 'intensity' })
    await expect(session([files[0]!, shifted])).rejects.toMatchObject({
      code: 'BAD_PARAMS',
      message: expect.stringContaining('must lie on one grid'),
    })
  })
  it('a model of one channel says how many the request has', async () => {
    const config = {
      type: 'segmentation',
      inference: { input: 'image', output: 'pred' },
      pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')],
    }
    const job = { images: [], files: [{ field: 'image', path: zip }] }
    const run = runPipeline({ config, predictor: voxelNetwork(([a]) => [a!]), paths: [], outDir: await outDir(), job })
    await expect(run).rejects.toMatchObject({
      code: 'BAD_PARAMS',
      message: expect.stringMatching(/takes 1 channels, the image has 2/),
    })
  })
})

describe.each(ways)('%s, as the images of a model that reads two', (_, job) => {
  it('go to its fields in their order', async () => {
    const keys = ['t1', 't2']
    const config = {
      type: 'segmentation',
      labels: ['second is larger'],
      inference: { input: 'image', output: 'pred' },
      pre_transforms: [
        { name: 'LoadImaged', args: { keys } },
        { name: 'EnsureChannelFirstd', args: { keys } },
        { name: 'ConcatItemsd', args: { keys, name: 'image' } },
      ],
      post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', argmax: true } }],
    }
    const predictor = voxelNetwork(([a, b]) => [a!, b!], { channels: 2 })
    const result = await runPipeline({ config, predictor, paths: [], outDir: await outDir(), job: await job() })
    const { data } = (await readVolume([result.file!.path], roomyLimits)).volume
    expect(Array.from(data)).toEqual(Array.from({ length: 60 }, (_v, i) => (40 - i > i ? 1 : 0)))
  })
})
