/**
 * A loaded network in the form that runs fastest here: as it was exported, or rewritten. A published model brings the
 * choice that was made when it was proved; a bundled one, and one that was proved elsewhere, is tried when it is first loaded.
 */
import { cpus, loadavg } from 'node:os'
import type { ModelConfig, ModelRef, RewriteChoice } from '../contract/model.js'
import type { Predictor, Tensor, TensorSpec } from '../contract/tensor.js'
import { chooseRewrites, createChosenPredictor, isCurrent } from '../predictors/choose-rewrites.js'
import type { OnnxSettings } from '../predictors/onnxruntime.js'
import { elementCount } from '../predictors/tensor-conversion.js'

/** Where neither the network nor its config fixes a size, as many voxels along an axis. */
const FREE_EDGE = 64

export interface TunedNetwork {
  readonly predictor: Predictor
  readonly rewrites: RewriteChoice | undefined
}

/** Loads the network of `ref` by the choice it brings, or makes one. `trialMs` 0: as it was exported. */
export async function loadTuned(
  ref: ModelRef,
  path: string,
  settings: OnnxSettings,
  trialMs: number,
): Promise<TunedNetwork> {
  const load = (choice?: RewriteChoice) => createChosenPredictor(path, settings, choice)
  if (trialMs <= 0) return { predictor: await load(), rewrites: undefined }
  if (
    ref.rewrites &&
    isCurrent(ref.rewrites, settings) &&
    !(ref.rewrites.tooLong && ref.rewrites.originalMs <= trialMs)
  ) {
    const predictor = await load(ref.rewrites)
    if (predictor.device === ref.rewrites.device) return { predictor, rewrites: ref.rewrites }
    await predictor.close()
  }
  const predictor = await load()
  const rewrites = await tryRewrites(ref, path, settings, predictor, trialMs)
  if (!rewrites) return { predictor, rewrites }
  // what it holds after the trial would stay beside what it holds as it is used
  await predictor.close()
  return { predictor: await load(rewrites), rewrites }
}

/** What a trial finds, on an input of the size that requests will bring; undefined where none can be made. */
async function tryRewrites(
  { config }: ModelRef,
  path: string,
  settings: OnnxSettings,
  exported: Predictor,
  trialMs: number,
): Promise<RewriteChoice | undefined> {
  try {
    const busy = loadavg()[0]! > cpus().length
    const choice = await chooseRewrites(path, exported, settings, feedsFor(config, exported.inputs), { trialMs })
    return choice && busy ? { ...choice, busy } : choice
  } catch {
    // A network that does not take this input is not at fault; it then runs as it was exported.
    return undefined
  }
}

/** Values between 0 and 1 that differ from voxel to voxel, as normalised images have them; the same every time. */
function feedsFor({ inference, roi }: ModelConfig, inputs: readonly TensorSpec[]): Record<string, Tensor> {
  const window = inference.scanningWindow?.roi ?? roi ?? []
  return Object.fromEntries(
    inputs.map(({ name, dims: spec }) => {
      const axes = spec.length - 2
      const sizes = window.length === 1 ? Array<number>(axes).fill(window[0]!) : window.slice(-axes)
      const dims = spec.map((d, axis) => {
        if (typeof d === 'number') return d
        return axis < 2 ? 1 : sizes[axis - 2] || FREE_EDGE
      })
      const data = Float32Array.from({ length: elementCount(dims) }, (_, i) => Math.abs(Math.sin(i * 12.9898)))
      return [name, { dims, data }]
    }),
  )
}
