import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { InferenceJob, JobControl } from '../../../src/contract/job.js'
import type { Predict, TensorSpec } from '../../../src/contract/tensor.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import type { LoadedModel } from '../../../src/pipelines/run.js'
import { runInference } from '../../../src/pipelines/run-inference.js'
import { makeVolume, type Vec3 } from '../../../src/volume/volume.js'
import { nothingKept } from '../../helpers/pipeline.js'

const limits = { maxVolumeBytes: 1e9, maxVoxels: 1e9 }
const control: JobControl = {
  signal: new AbortController().signal,
  checkpoint: async () => {},
  withDevice: (work) => work(),
}
const size: Vec3 = [24, 20, 8]

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aidant-pipeline-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** A bright box over slices 2 to 5, and a bright spot apart from it in slice 5. */
function bright(x: number, y: number, z: number): boolean {
  const box = x >= 5 && x < 15 && y >= 4 && y < 12 && z >= 2 && z <= 5
  return box || (x === 20 && y === 17 && z === 5)
}

async function writeScan(): Promise<string> {
  const data = new Float32Array(size[0] * size[1] * size[2])
  for (let z = 0, i = 0; z < size[2]; z++)
    for (let y = 0; y < size[1]; y++) for (let x = 0; x < size[0]; x++, i++) data[i] = bright(x, y, z) ? 1 : 0
  const path = join(folder, 'scan.nii')
  const affine = Float64Array.of(-1, 0, 0, 12, 0, 1, 0, -5, 0, 0, 4, 30, 0, 0, 0, 1)
  await writeVolume(makeVolume(size, affine, data), path, { extension: '.nii', kind: 'intensity' })
  return path
}

/** A deepgrow model whose logits are its first channel - 0.5, which counts its runs and the items of each. */
function deepgrow(dimensions: 2 | 3, firstDim: string | number) {
  const batches: number[] = []
  const seeds: number[] = []
  const free = dimensions === 2 ? ['h', 'w'] : ['d', 'h', 'w']
  const spec = (name: string, channels: number): TensorSpec => ({
    name,
    type: 'float32',
    dims: [firstDim, channels, ...free],
  })
  const run: Predict = async ({ image }) => {
    const [n, c, ...grid] = image!.dims as [number, number, ...number[]]
    const each = grid.reduce((a, b) => a * b, 1)
    batches.push(n)
    const data = new Float32Array(n * each)
    for (let i = 0; i < n; i++) {
      const from = i * c * each
      for (let v = 0; v < each; v++) data[i * each + v] = image!.data[from + v]! - 0.5
      const foreground = image!.data.subarray(from + each, from + 2 * each) as Float32Array
      seeds.push(foreground.reduce((sum, v) => sum + (v === 1 ? 1 : 0), 0))
    }
    return { logits: { dims: [n, 1, ...grid], data } }
  }
  const config = {
    version: '4',
    type: 'deepgrow',
    labels: [],
    description: 'for tests',
    pre_transforms: [
      { name: 'LoadImaged', args: { keys: 'image' } },
      { name: 'AsChannelFirstd', args: { keys: 'image' } },
      { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', guidance: 'guidance', dimensions } },
      ...(dimensions === 2 ? [{ name: 'Fetch2DSliced', args: { keys: 'image', guidance: 'guidance' } }] : []),
      { name: 'AddChanneld', args: { keys: 'image' } },
      { name: 'AddGuidanceSignald', args: { image: 'image', guidance: 'guidance' } },
    ],
    inference: { image: 'image', name: 'ONNXInference', args: {} },
    post_transforms: [
      { name: 'AsDiscreted', args: { keys: 'pred', threshold: 0 } },
      { name: 'RestoreLabeld', args: { keys: 'pred', ref_image: 'image', mode: 'nearest' } },
    ],
    writer: { name: 'Writer', args: { image: 'pred' } },
  }
  const name = `deepgrow_${dimensions}d`
  const loaded: LoadedModel = {
    ref: { name, revision: '1', config: parseModelConfig(config, name) },
    predictor: { inputs: [spec('image', 3)], outputs: [spec('logits', 1)], device: 'cpu', run, close: async () => {} },
  }
  return { loaded, batches, seeds }
}

function pipeline(batchSize: number, post: unknown[] = []): LoadedModel {
  const config = parseModelConfig(
    {
      version: '4',
      type: 'pipeline',
      labels: ['box'],
      description: 'for tests',
      pre_transforms: [{ name: 'LoadImaged', args: { keys: 'image' } }],
      pipeline: { models: ['deepgrow_3d', 'deepgrow_2d'], batch_size: batchSize },
      post_transforms: post,
      writer: { name: 'Writer', args: { image: 'pred' } },
    },
    'pipe',
  )
  return {
    ref: { name: 'pipe', revision: '1', config },
    predictor: {
      inputs: [],
      outputs: [],
      device: 'cpu',
      run: () => Promise.reject(new Error('no network')),
      close: async () => {},
    },
  }
}

async function run(model: LoadedModel, parts: readonly LoadedModel[], params: Record<string, unknown>) {
  const job: InferenceJob = {
    kind: 'inference',
    task: 'inference',
    images: [{ field: 'image', paths: [await writeScan()] }],
    params,
    wish: { file: true },
    outDir: folder,
    limits,
  }
  const result = await runInference(job, { model, parts, control, cache: nothingKept })
  const { volume } = await readVolume([result.file!.path], limits)
  return { result, volume }
}

const at = (x: number, y: number, z: number) => x + size[0] * (y + size[1] * z)

describe('a pipeline', () => {
  test('asks all networks of a 2-D model of several, one slice after another', async () => {
    const [three, { loaded }] = [deepgrow(3, 'n'), deepgrow(2, 'n')]
    const { inference, ...config } = loaded.ref.config
    const contrary: Predict = async (feeds) => {
      const { logits } = await loaded.predictor.run(feeds)
      return { logits: { ...logits!, data: (logits!.data as Float32Array).map((score) => -3 * score) } }
    }
    const networks = [loaded.predictor, { ...loaded.predictor, run: contrary }]
    const two: LoadedModel = {
      ...loaded,
      ref: { ...loaded.ref, config: { ...config, inference: { ...inference, networks: ['a.onnx', 'b.onnx'] } } },
      networks: { count: 2, lend: (i, work) => work(networks[i]!), facts: async (i) => networks[i]! },
    }
    const { volume } = await run(pipeline(3), [three.loaded, two], { foreground: [[10, 8, 3]] })
    // the mean of both is the opposite of what the first says
    expect(volume.data[at(10, 8, 3)]).toBe(0)
    expect(volume.data[at(1, 1, 3)]).toBe(1)
  })
  test('draws every slice of the 3-D result with the 2-D model, a batch of slices a run', async () => {
    const [three, two] = [deepgrow(3, 'n'), deepgrow(2, 'n')]
    const { volume } = await run(pipeline(3), [three.loaded, two.loaded], { foreground: [[10, 8, 3]] })
    for (let z = 0; z < size[2]; z++)
      for (let y = 0; y < size[1]; y++)
        for (let x = 0; x < size[0]; x++)
          if (Number(bright(x, y, z)) !== volume.data[at(x, y, z)])
            expect([x, y, z, volume.data[at(x, y, z)]]).toBe('as the scan')
    expect(three.batches).toEqual([1])
    expect(two.batches).toEqual([3, 1])
    expect(two.seeds.every((count) => count >= 1)).toBe(true)
  })

  test('runs one by one where the network takes no batch', async () => {
    const [three, two] = [deepgrow(3, 1), deepgrow(2, 1)]
    await run(pipeline(8), [three.loaded, two.loaded], { foreground: [[10, 8, 3]] })
    expect(two.batches).toEqual([1, 1, 1, 1])
  })

  test('finishes with its own post-transforms, on the whole volume', async () => {
    const [three, two] = [deepgrow(3, 'n'), deepgrow(2, 'n')]
    const post = [
      { name: 'KeepLargestConnectedComponentd', args: { keys: 'pred' } },
      { name: 'BoundingBoxd', args: { keys: 'pred', result: 'result', bbox: 'bbox' } },
    ]
    const { volume, result } = await run(pipeline(4, post), [three.loaded, two.loaded], { foreground: [[10, 8, 3]] })
    expect(volume.data[at(20, 17, 5)]).toBe(0)
    expect(result.params.bbox).toEqual([
      [5, 4, 2],
      [14, 11, 5],
    ])
  })

  test('of one model only is refused in words', async () => {
    const { loaded } = deepgrow(3, 'n')
    await expect(run(pipeline(1), [loaded], { foreground: [[1, 1, 1]] })).rejects.toMatchObject({
      code: 'BAD_MODEL_CONFIG',
    })
  })
})
