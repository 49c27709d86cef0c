import type { ModelRef } from '../contract/model.js'
import type { Predictor } from '../contract/tensor.js'
import type { RunnerSettings } from '../contract/wire.js'
import { AppError } from '../errors.js'
import type { LoadedModel } from '../pipelines/run.js'
import { createKservePredictor } from '../predictors/kserve.js'
import { createOnnxPredictor } from '../predictors/onnxruntime.js'
import { createFetchPolicy } from '../util/fetch-policy.js'
import { createGuardedFetch } from '../util/guarded-fetch.js'

export interface LoadedModels {
  readonly model: LoadedModel
  /** The models of a pipeline, in config order. */
  readonly parts: readonly LoadedModel[]
}

/** Loads a model, or the models of a pipeline, into this process. */
export async function loadModels(ref: ModelRef, settings: RunnerSettings): Promise<LoadedModels> {
  const parts: LoadedModel[] = []
  for (const part of ref.parts ?? []) parts.push({ ref: part, predictor: await loadPredictor(part, settings) })
  if (ref.config.type !== 'pipeline') return { model: { ref, predictor: await loadPredictor(ref, settings) }, parts }
  if (parts.length === 0)
    throw new AppError('BAD_MODEL', `pipeline '${ref.name}' names no models that could run`, {
      hint: 'load the models named in its config first',
    })
  return { model: { ref, predictor: pipelinePredictor(ref, parts) }, parts }
}

async function loadPredictor(ref: ModelRef, settings: RunnerSettings): Promise<Predictor> {
  const { inference } = ref.config
  if (inference.engine === 'kserve') {
    if (!inference.kserve)
      throw new AppError('BAD_MODEL', `model '${ref.name}' names no inference server`, {
        hint: 'give inference.kserve a url and a model in its config',
      })
    return createKservePredictor({
      ...inference.kserve,
      fetch: createGuardedFetch(createFetchPolicy(settings.fetch.allow), settings.fetch),
    })
  }
  if (ref.weightsPath === undefined)
    throw new AppError('BAD_MODEL', `model '${ref.name}' has no weights`, {
      hint: 'upload an ONNX file with its config',
    })
  return createOnnxPredictor(ref.weightsPath, {
    device: settings.device,
    session: inference.session,
    arena: settings.arena,
  })
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
