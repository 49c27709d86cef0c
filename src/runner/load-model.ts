import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { ModelRef, RewriteChoice } from '../contract/model.js'
import type { Predictor } from '../contract/tensor.js'
import type { RunnerSettings } from '../contract/wire.js'
import { AppError } from '../errors.js'
import type { LoadedModel } from '../pipelines/run.js'
import { assembleParts } from '../pipelines/two-part-model.js'
import { chosenModel, createChosenPredictor } from '../predictors/choose-rewrites.js'
import { createKservePredictor } from '../predictors/kserve.js'
import { withEnds } from '../predictors/network-ends.js'
import { NetworkShelf, shelvedPredictor } from '../predictors/network-shelf.js'
import type { OnnxSettings } from '../predictors/onnxruntime.js'
import { pixelScale } from '../predictors/pixel-scale.js'
import { type CoreUse, onSharedCores } from '../predictors/shared-cores.js'
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
  /** Whether all its networks can run on a share of the cores; absent: they cannot. */
  readonly shares?: boolean | undefined
}

/** One loaded model, as LoadedModels has it. */
interface Opened {
  readonly model: LoadedModel
  readonly rewrites: RewriteChoice | undefined
  readonly shares: boolean
}

/** Loads a model, or the models of a pipeline, into this process. `cores` says, at every run, whether it has them to itself. */
export async function loadModels(
  ref: ModelRef,
  settings: RunnerSettings,
  cores: Readonly<CoreUse> = { shared: false },
): Promise<LoadedModels> {
  const parts: LoadedModel[] = []
  const rewrites: Record<string, RewriteChoice> = {}
  let shares = true
  const load = async (one: ModelRef): Promise<LoadedModel> => {
    const opened = await loadOne(one, settings, cores)
    if (opened.rewrites) rewrites[one.revision] = opened.rewrites
    shares &&= opened.shares
    return opened.model
  }
  for (const part of ref.parts ?? []) parts.push(await load(part))
  if (ref.config.type !== 'pipeline') return { model: await load(ref), parts, rewrites, shares }
  if (parts.length === 0)
    throw new AppError('BAD_MODEL', `pipeline '${ref.name}' names no models that could run`, {
      hint: 'load the models named in its config first',
    })
  return { model: { ref, predictor: pipelinePredictor(ref, parts) }, parts, rewrites, shares }
}

/** A model of one network, or of an encoder and a decoder. */
function loadOne(ref: ModelRef, settings: RunnerSettings, cores: Readonly<CoreUse>): Promise<Opened> {
  return whileThere(ref, () => openOne(ref, settings, cores))
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

async function openOne(ref: ModelRef, settings: RunnerSettings, cores: Readonly<CoreUse>): Promise<Opened> {
  if (!ref.config.inference.parts) {
    const { rewrites, shares, ...loaded } = await loadNetwork(ref, settings, cores)
    return { model: { ref, ...loaded }, rewrites, shares }
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
  const [first, second] = [
    sharing(encoder, ref.weightsPath, onnx, rewrites, settings, cores),
    sharing(decoder, path, onnx, undefined, settings, cores),
  ]
  const model = assembleParts(ref, first.predictor, second.predictor, scales)
  return { model, rewrites, shares: first.shares && second.shares }
}

async function loadNetwork(
  ref: ModelRef,
  settings: RunnerSettings,
  cores: Readonly<CoreUse>,
): Promise<TunedNetwork & Pick<LoadedModel, 'networks'> & Pick<Opened, 'shares'>> {
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
    return { predictor, rewrites: undefined, shares: false }
  }
  if (ref.weightsPath === undefined)
    throw new AppError('BAD_MODEL', `model '${ref.name}' has no weights`, {
      hint: 'upload an ONNX file with its config',
    })
  const { rewriteTrialMs } = settings
  const onnx = onnxSettings(ref, settings)
  const { predictor, rewrites } = await loadTuned(ref, ref.weightsPath, onnx, rewriteTrialMs)
  if (!ref.morePaths || ref.morePaths.length === 0) {
    const { predictor: whole, shares } = sharing(predictor, ref.weightsPath, onnx, rewrites, settings, cores)
    if (rewriteTrialMs <= 0) return { predictor: whole, shares, rewrites }
    const read = () => whileThere(ref, () => chosenModel(ref.weightsPath!, rewrites))
    return { predictor: withEnds(whole, read, onnx, cores), shares, rewrites }
  }
  const paths = [ref.weightsPath, ...ref.morePaths]
  // most are of one kind: what is faster for the first is taken for all
  const open = (path: string) => () => whileThere(ref, () => createChosenPredictor(path, onnx, rewrites))
  const shelf = new NetworkShelf(
    await Promise.all(paths.map(async (path) => ({ open: open(path), bytes: await networkBytes(path) }))),
    settings.networkBytes,
  )
  await shelf.adopt(0, predictor)
  return { predictor: await shelvedPredictor(shelf, 0), rewrites, networks: shelf, shares: false }
}

/**
 * The network of `path`, opened as `predictor`, so that it can also run on a share of the cores; and whether it can. One
 * whose config says its threads has those, alone and beside others.
 */
function sharing(
  predictor: Predictor,
  path: string,
  onnx: OnnxSettings,
  rewrites: RewriteChoice | undefined,
  { shareThreads }: RunnerSettings,
  cores: Readonly<CoreUse>,
): { readonly predictor: Predictor; readonly shares: boolean } {
  if (shareThreads === undefined || predictor.device !== 'cpu') return { predictor, shares: false }
  const own = onnx.session.intraOpThreads
  if (own !== undefined) return { predictor, shares: own <= shareThreads }
  const narrow = { ...onnx, session: { ...onnx.session, intraOpThreads: shareThreads } }
  const openShare = () => createChosenPredictor(path, narrow, rewrites)
  return { predictor: onSharedCores(predictor, openShare, cores), shares: true }
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

function onnxSettings({ config }: ModelRef, { device, arena }: RunnerSettings): OnnxSettings {
  return { device, arena, session: config.inference.session }
}
