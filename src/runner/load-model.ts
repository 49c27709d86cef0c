import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { ModelRef, RewriteChoice } from '../contract/model.js'
import type { Predictor } from '../contract/tensor.js'
import type { RunnerSettings } from '../contract/wire.js'
import { AppError } from '../errors.js'
import type { LoadedModel } from '../pipelines/run.js'
import { assembleParts } from '../pipelines/two-part-model.js'
import { createChosenPredictor } from '../predictors/choose-rewrites.js'
import { createKservePredictor } from '../predictors/kserve.js'
import { NetworkShelf, shelvedPredictor } from '../predictors/network-shelf.js'
import type { OnnxSettings } from '../predictors/onnxruntime.js'
import { pixelScale } from '../predictors/pixel-scale.js'
import { createFetchPolicy } from '../util/fetch-policy.js'
import { folderBytes } from '../util/folder-bytes.js'
import { createGuardedFetch } from '../util/guarded-fetch.js'
import { loadTuned, type TunedNetwork } from './tune-network.js'

export interface LoadedModels {
  readonly model: LoadedModel
  /** The models of a pipeline, in config order. */
  readonly parts: readonly LoadedModel[]
  /** What trials of networks rewritten found, by the revision of the model, or of the model of a pipeline. */
  readonly rewrites: Readonly<Record<string, RewriteChoice>>
}

/** Loads a model, or the models of a pipeline, into this process. */
export async function loadModels(ref: ModelRef, settings: RunnerSettings): Promise<LoadedModels> {
  const parts: LoadedModel[] = []
  const rewrites: Record<string, RewriteChoice> = {}
  const load = async (one: ModelRef): Promise<LoadedModel> => {
    const loaded = await loadOne(one, settings)
    if (loaded.rewrites) rewrites[one.revision] = loaded.rewrites
    return loaded.model
  }
  for (const part of ref.parts ?? []) parts.push(await load(part))
  if (ref.config.type !== 'pipeline') return { model: await load(ref), parts, rewrites }
  if (parts.length === 0)
    throw new AppError('BAD_MODEL', `pipeline '${ref.name}' names no models that could run`, {
      hint: 'load the models named in its config first',
    })
  return { model: { ref, predictor: pipelinePredictor(ref, parts) }, parts, rewrites }
}

/** A model of one network, or of an encoder and a decoder. */
function loadOne(
  ref: ModelRef,
  settings: RunnerSettings,
): Promise<{ readonly model: LoadedModel; readonly rewrites: RewriteChoice | undefined }> {
  return whileThere(ref, () => openOne(ref, settings))
}

/**
 * Gives what `work` gives. Where it fails and a file of the model's weights is gone, another server on this workspace has
 * replaced or removed the model and this one has not seen it yet: throws MODEL_NOT_READY then, whatever it failed with.
 */
async function whileThere<T>({ name, weightsPath, morePaths }: ModelRef, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const paths = [weightsPath, ...(morePaths ?? [])].filter((path) => path !== undefined)
    if (paths.every((path) => existsSync(path))) throw error
    throw new AppError('MODEL_NOT_READY', `the weights of model '${name}' are gone: it was replaced or removed`, {
      cause: error,
      hint: 'ask again in some seconds',
      retryAfterSeconds: 2,
    })
  }
}

async function openOne(
  ref: ModelRef,
  settings: RunnerSettings,
): Promise<{ readonly model: LoadedModel; readonly rewrites: RewriteChoice | undefined }> {
  if (!ref.config.inference.parts) {
    const { rewrites, ...loaded } = await loadNetwork(ref, settings)
    return { model: { ref, ...loaded }, rewrites }
  }
  const [path] = ref.morePaths ?? []
  if (ref.weightsPath === undefined || path === undefined)
    throw new AppError('BAD_MODEL', `model '${ref.name}' has no decoder`, {
      hint: 'send a zip that holds encoder and decoder, or both as files, with the config',
    })
  const { rewriteTrialMs } = settings
  const onnx = onnxSettings(ref, settings)
  // most of the time goes into the encoder, so that is the one to be tried rewritten
  const { predictor: encoder, rewrites } = await loadTuned(ref, ref.weightsPath, onnx, rewriteTrialMs)
  const decoder = await createChosenPredictor(path, onnx, undefined)
  const scales = await pixelScale(ref.weightsPath, encoder.inputs[0]?.name)
  return { model: assembleParts(ref, encoder, decoder, scales), rewrites }
}

async function loadNetwork(
  ref: ModelRef,
  settings: RunnerSettings,
): Promise<TunedNetwork & Pick<LoadedModel, 'networks'>> {
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
  const { rewriteTrialMs } = settings
  const onnx = onnxSettings(ref, settings)
  const { predictor, rewrites } = await loadTuned(ref, ref.weightsPath, onnx, rewriteTrialMs)
  if (!ref.morePaths || ref.morePaths.length === 0) return { predictor, rewrites }
  const paths = [ref.weightsPath, ...ref.morePaths]
  // most are of one kind: what is faster for the first is taken for all
  const open = (path: string) => () => whileThere(ref, () => createChosenPredictor(path, onnx, rewrites))
  const shelf = new NetworkShelf(
    await Promise.all(paths.map(async (path) => ({ open: open(path), bytes: await networkBytes(path) }))),
    settings.networkBytes,
  )
  await shelf.adopt(0, predictor)
  return { predictor: await shelvedPredictor(shelf, 0), rewrites, networks: shelf }
}

/** Of an ONNX file, and of the folder of its own in which it lies beside its external data. */
async function networkBytes(path: string): Promise<number> {
  return basename(path) === 'model.onnx' ? folderBytes(dirname(path)) : (await stat(path)).size
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

/** How the networks of a model are opened; the config's own number of threads goes before the server's. */
function onnxSettings({ config }: ModelRef, { device, arena, threads }: RunnerSettings): OnnxSettings {
  const { session } = config.inference
  return { device, arena, session: threads === undefined ? session : { intraOpThreads: threads, ...session } }
}
