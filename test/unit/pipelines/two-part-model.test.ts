/** A model of an encoder and a decoder in a job: what is told, what is kept, and for how long. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { InferenceJob } from '../../../src/contract/job.js'
import type { Predictor, Tensor, TensorSpec } from '../../../src/contract/tensor.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import type { LoadedModel } from '../../../src/pipelines/run.js'
import { runInference } from '../../../src/pipelines/run-inference.js'
import { assembleParts } from '../../../src/pipelines/two-part-model.js'
import { VolumeCache } from '../../../src/runner/volume-cache.js'
import { makeVolume, type Vec3 } from '../../../src/volume/volume.js'
import { idleControl } from '../../helpers/pipeline.js'
import { roomyLimits } from '../../helpers/volumes.js'

const size: Vec3 = [8, 6, 5]
let folder: string
let path: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aidant-parts-'))
  path = join(folder, 'scan.nii')
  const data = Float32Array.from({ length: 8 * 6 * 5 }, (_, i) => ((i * 37) % 89) / 100)
  const affine = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
  await writeVolume(makeVolume(size, affine, data), path, { extension: '.nii', kind: 'intensity' })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const predictor = (
  inputs: readonly TensorSpec[],
  outputs: readonly TensorSpec[],
  run: Predictor['run'],
): Predictor => ({ inputs, outputs, device: 'cpu', run, async close() {} })
const spec = (name: string, channels: number): TensorSpec => ({
  name,
  type: 'float32',
  dims: ['n', channels, 'x', 'y'],
})

const steps = [
  { name: 'LoadImaged', args: { keys: 'image' } },
  { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
  { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', dimensions: 2, axis: 2 } },
  { name: 'Fetch2DSliced', args: { keys: 'image', axis: 3 } },
  { name: 'CopyItemsd', args: { keys: 'image', names: 'clicked' } },
  { name: 'AddGuidanceSignald', args: { image: 'clicked' } },
]

/** The encoder copies the slice, the decoder adds the clicks; `batches` has what each run of the encoder saw. */
function model(name = 'halves'): { model: LoadedModel; batches: number[] } {
  const config = parseModelConfig(
    {
      type: 'deepgrow',
      pre_transforms: steps,
      inference: { parts: {}, node_mapping: { image: 'image', clicked: 'clicked', logits: 'pred' } },
      post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', threshold: 0.5 } }],
    },
    name,
  )
  const batches: number[] = []
  const encoder = predictor([spec('image', 1)], [spec('features', 1)], async ({ image }) => {
    batches.push(image!.dims[0]!)
    return { features: { dims: image!.dims, data: image!.data.slice() as Tensor['data'] } }
  })
  const decoder = predictor(
    [spec('features', 1), spec('clicked', 3)],
    [spec('logits', 1)],
    async ({ features, clicked }) => {
      const [batch, , x, y] = features!.dims as [number, number, number, number]
      const n = x * y
      const data = Float32Array.from({ length: batch * n }, (_, i) => {
        const at = Math.floor(i / n) * 3 * n + (i % n)
        return features!.data[i]! + clicked!.data[at + n]! - clicked!.data[at + 2 * n]!
      })
      return { logits: { dims: features!.dims, data } }
    },
  )
  return {
    model: assembleParts({ name, revision: '1', config, weightsPath: '' }, encoder, decoder, undefined),
    batches,
  }
}

async function click(
  whole: LoadedModel,
  cache: VolumeCache,
  foreground: readonly Vec3[],
  { session = true, parts = [] as LoadedModel[] } = {},
) {
  const stages: string[] = []
  const job: InferenceJob = {
    kind: 'inference',
    task: 'deepgrow',
    images: [{ field: 'image', paths: [path], ...(session ? { cacheKey: 's' } : {}) }],
    params: { foreground, background: [] },
    wish: { file: true },
    outDir: folder,
    limits: roomyLimits,
  }
  const control = { ...idleControl, checkpoint: async (stage: string) => void stages.push(stage) }
  const { timings } = await runInference(job, { model: whole, parts, control, cache })
  return { stages, timings }
}

describe('a model of two parts', () => {
  it('tells which part runs, and that a kept encoding took no time', async () => {
    const { model: halves } = model()
    const cache = new VolumeCache(2 ** 20)
    const first = await click(halves, cache, [[2, 2, 1]])
    expect(first.stages.filter((stage) => stage !== 'pre')).toEqual(
      expect.arrayContaining(['infer', 'encoder', 'decoder', 'post']),
    )
    expect(first.timings.encoder).toBeGreaterThan(0)
    const second = await click(halves, cache, [[3, 3, 1]])
    expect(second.stages).not.toContain('encoder')
    expect(second.stages).toContain('decoder')
    expect(second.timings.encoder).toBe(0)
  })

  it('keeps nothing of an image that is in no session', async () => {
    const { model: halves, batches } = model()
    const cache = new VolumeCache(2 ** 20)
    for (let i = 0; i < 2; i++) await click(halves, cache, [[2, 2, 1]], { session: false })
    expect([batches, cache.bytes]).toEqual([[1, 1], 0])
  })

  it('looks again when the cache had no room for what it made', async () => {
    const { model: halves, batches } = model()
    // room for the prepared volume or for one encoding, each with a kilobyte for the rest, and not for both
    const cache = new VolumeCache(8 * 6 * 5 * 4 + 1024 + 100)
    for (let i = 0; i < 2; i++) await click(halves, cache, [[2, 2, 1]])
    expect(batches).toEqual([1, 1])
    expect(cache.bytes).toBeLessThanOrEqual(8 * 6 * 5 * 4 + 1024 + 100)
  })

  it('encodes the slices of a pipeline together, and once in a session', async () => {
    const { model: slices, batches } = model('slices')
    const spread = parseModelConfig(
      {
        type: 'deepgrow',
        pre_transforms: [
          { name: 'LoadImaged', args: { keys: 'image' } },
          { name: 'AddChanneld', args: { keys: 'image' } },
          { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', dimensions: 3 } },
          { name: 'AddGuidanceSignald', args: { image: 'image' } },
        ],
        inference: { node_mapping: { x: 'image', y: 'pred' } },
        post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', threshold: 0.5 } }],
      },
      'volume',
    )
    const volume: LoadedModel = {
      ref: { name: 'volume', revision: '1', config: spread, weightsPath: '' },
      predictor: predictor(
        [{ name: 'x', type: 'float32', dims: ['n', 3, 'x', 'y', 'z'] }],
        [{ name: 'y', type: 'float32', dims: ['n', 1, 'x', 'y', 'z'] }],
        async ({ x }) => ({
          y: { dims: [1, 1, ...x!.dims.slice(2)], data: new Float32Array(x!.data.length / 3).fill(1) },
        }),
      ),
    }
    const config = parseModelConfig(
      { type: 'pipeline', pipeline: { models: ['volume', 'slices'], batch_size: 3 } },
      'both',
    )
    const both: LoadedModel = {
      ref: { name: 'both', revision: '1', config, weightsPath: '' },
      predictor: predictor([], [], async () => ({})),
    }
    const cache = new VolumeCache(2 ** 20)
    await click(both, cache, [[2, 2, 1]], { parts: [volume, slices] })
    expect(batches).toEqual([3, 2])
    const { timings } = await click(both, cache, [[2, 2, 1]], { parts: [volume, slices] })
    expect(batches).toEqual([3, 2])
    expect(timings.encoder).toBe(0)
  })
})
