import type { ModelRef, RewriteChoice } from '../contract/model.js'
import type { Predictor } from '../contract/tensor.js'
import type { RunnerSettings } from '../contract/wire.js'
import { AppError } from '../errors.js'
import type { LoadedModel } from '../pipelines/run.js'
import { createChosenPredictor } from '../predictors/choose-rewrites.js'
import { createKservePredictor } from '../predictors/kserve.js'
import { meanPredictor } from '../predictors/mean-predictor.js'
import { createFetchPolicy } from '../util/fetch-policy.js'
import { createGuardedFetch } from '../util/guarded-fetch.js'
import { loadTuned, type TunedNetwork } from './tune-network.js'

export interface LoadedModels {
  readonly model: LoadedModel
  /** The models of a pipeline, in config order. */
  readonly parts: readonly LoadedModel[]
  /** What a trial of the model's network, rewritten, found, if there was one. */
  readonly rewrites?: RewriteChoice | undefined
}

/** Loads a model, or the models of a pipeline, into this process. */
export async function loadModels(ref: ModelRef, settings: RunnerSettings): Promise<LoadedModels> {
  const parts: LoadedModel[] = []
  for (const part of ref.parts ?? []) {
    const { predictor } = await loadNetwork(part, settings)
    parts.push({ ref: part, predictor })
  }
  if (ref.config.type !== 'pipeline') {
    const { predictor, rewrites } = await loadNetwork(ref, settings)
    return { model: { ref, predictor }, parts, rewrites }
  }
  if (parts.length === 0)
    throw new AppError('BAD_MODEL', `pipeline '${ref.name}' names no models that could run`, {
      hint: 'load the models named in its config first',
    })
  return { model: { ref, predictor: pipelinePredictor(ref, parts) }, parts }
}

async function loadNetwork(ref: ModelRef, settings: RunnerSettings): Promise<TunedNetwork> {
  const { inference } = ref.config
  if (inference.engine === 'kserve') {
    if (!inference.kserve)
      throw new AppError('BAD_MODEL', `model '${ref.name}' names no inference server`, {
        hint: 'give inference.kserve a url and a model in its config',
      })
    const predictor = await createKservePredictor({
      ...inference.kserve,
      fetch: createGuardedFetch(createFetchPolicy(settings.fetch.allow), settings.fetch),
    })
    return { predictor, rewrites: undefined }
  }
  if (ref.weightsPath === undefined)
    throw new AppError('BAD_MODEL', `model '${ref.name}' has no weights`, {
      hint: 'upload an ONNX file with its config',
    })
  const { device, arena, rewriteTrialMs } = settings
  const onnx = { device, arena, session: inference.session }
  const { predictor, rewrites } = await loadTuned(ref, ref.weightsPath, onnx, rewriteTrialMs)
  const predictors = [predictor]
  // networks of one kind: what is faster for the first is faster for all
  for (const path of ref.morePaths ?? []) predictors.push(await createChosenPredictor(path, onnx, rewrites))
  return { predictor: meanPredictor(predictors), rewrites }
}

/** A pipeline has no network of its own; it shows its parts' device. */
function pipelinePredictor(ref: ModelRef, parts: readonly LoadedModel[]): Predictor {
  const fallback = parts.find(({ predictor }) => predictor.fallbackReason)
  const slowest = fallback ?? parts[0]!
  return {
    inputs: [],
    outputs: [],
    device: slowest.predictor.device,
    fallbackReason: slowest.predictor.fallbackReason,
    run: () => Promise.reject(new AppError('BAD_MODEL', `pipeline '${ref.name}' has no network of its own`)),
    close: async () => {
      await Promise.all(parts.map(({ predictor }) => predictor.close()))
    },
  }
}
