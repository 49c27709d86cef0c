/** Running a whole pipeline in this process, over a network that is a plain function. */

import type { InferenceJob, JobControl, JobResult } from '../../src/contract/job.js'
import type { Predictor, Tensor, TensorSpec } from '../../src/contract/tensor.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'
import type { ItemCache, PipelineContext } from '../../src/pipelines/run.js'
import { runInference } from '../../src/pipelines/run-inference.js'
import { roomyLimits } from './volumes.js'

export const idleControl: JobControl = {
  signal: new AbortController().signal,
  async checkpoint() {},
  withDevice: (work) => work(),
}
export const nothingKept: ItemCache = { get: () => undefined, set() {}, tensors: { get: () => undefined, set() {} } }

/** Scores of each voxel from its channels: `score(values)` gives one number per class. */
export function voxelNetwork(
  score: (values: readonly number[]) => readonly number[],
  { channels = 1, rank = 3 }: { channels?: number; rank?: 2 | 3 } = {},
): Predictor {
  const spatial = ['d', 'h', 'w'].slice(-rank)
  const classes = score(new Array<number>(channels).fill(0)).length
  const input: TensorSpec = { name: 'x', type: 'float32', dims: ['n', channels, ...spatial] }
  const output: TensorSpec = { name: 'y', type: 'float32', dims: ['n', classes, ...spatial] }
  const run = async (feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> => {
    const { dims, data } = feeds.x!
    const batch = dims[0]!
    const voxels = dims.slice(2).reduce((product, n) => product * n, 1)
    const out = new Float32Array(batch * classes * voxels)
    for (let b = 0; b < batch; b++) {
      for (let v = 0; v < voxels; v++) {
        const values = Array.from({ length: channels }, (_, c) => data[(b * channels + c) * voxels + v]!)
        for (const [c, value] of score(values).entries()) out[(b * classes + c) * voxels + v] = value
      }
    }
    return { y: { dims: [batch, classes, ...dims.slice(2)], data: out } }
  }
  return { inputs: [input], outputs: [output], device: 'cpu', run, async close() {} }
}

/** A network that ends in labels: one whole number a voxel, of its first channel, in a tensor of `type`. */
export function labelNetwork(
  label: (value: number) => number,
  type: 'uint8' | 'int32' | 'int64' | 'float32',
  { rank = 3, channelAxis = true }: { rank?: 2 | 3; channelAxis?: boolean } = {},
): Predictor {
  const spatial = ['d', 'h', 'w'].slice(-rank)
  const Values = { uint8: Uint8Array, int32: Int32Array, int64: Float64Array, float32: Float32Array }[type]
  const run = async (feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> => {
    const { dims, data } = feeds.x!
    const channels = channelAxis ? [1] : []
    return { y: { dims: [dims[0]!, ...channels, ...dims.slice(2)], data: Values.from(Array.from(data, label)) } }
  }
  const inputs: TensorSpec[] = [{ name: 'x', type: 'float32', dims: ['n', 1, ...spatial] }]
  const outputs: TensorSpec[] = [{ name: 'y', type, dims: channelAxis ? ['n', 1, ...spatial] : ['n', ...spatial] }]
  return { inputs, outputs, device: 'cpu', run, async close() {} }
}

export interface PipelineRun {
  readonly config: Record<string, unknown>
  readonly predictor: Predictor
  readonly paths: readonly string[]
  readonly outDir: string
  readonly job?: Partial<InferenceJob>
  readonly context?: Partial<PipelineContext>
}

/** Each path is an image of its own. */
export function runPipeline({ config, predictor, paths, outDir, job, context }: PipelineRun): Promise<JobResult> {
  const images = paths.map((path, i) => ({ field: i === 0 ? 'image' : `image${i}`, paths: [path] }))
  const ref = { name: 'test', revision: '1', config: parseModelConfig(config, 'test'), weightsPath: '' }
  return runInference(
    {
      kind: 'inference',
      task: 'segmentation',
      images,
      params: {},
      wish: { file: true },
      outDir,
      limits: roomyLimits,
      ...job,
    },
    { model: { ref, predictor }, parts: [], control: idleControl, cache: nothingKept, ...context },
  )
}

export const step = (name: string, args: Record<string, unknown> = {}) => ({ name, args: { keys: 'image', ...args } })
