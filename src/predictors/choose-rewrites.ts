/**
 * Whether a network runs faster rewritten, on this machine and with this engine: both are tried on the same input. A
 * choice belongs to the engine that it was measured with; with another one it is made anew.
 */
import { performance } from 'node:perf_hooks'
import type { RewriteChoice } from '../contract/model.js'
import type { Predictor, Tensor } from '../contract/tensor.js'
import { readModelFile, writeModel } from '../onnx/model-file.js'
import { applicablePlans, applyPlan, type RewrittenModel } from '../onnx/rewrite-plans.js'
import { createOnnxPredictor, ENGINE, type OnnxSettings, threadsOf } from './onnxruntime.js'
import { isOutOfMemory } from './out-of-memory.js'

/** Protobuf ends at 2 GiB, and a rewrite holds a network and its copy in memory. */
const MAX_MODEL_BYTES = 2 ** 30
/** A plan is taken when it saves at least this share of a run: less is noise. */
const WORTHWHILE = 0.95
/** Timed runs of each side; of networks that take longer than LONG_RUN_MS, one: noise is small beside it, and somebody waits. */
const RUNS = 3
const LONG_RUN_MS = 300
/** Rewritten results may differ by rounding: of the largest value, and, of whole numbers, in the share of elements. */
const TOLERANCE = 1e-4

export interface TrialLimits {
  /** A network whose one run takes longer than this is not tried: the trial would hold up its first user. */
  readonly trialMs: number
}

/**
 * Times the network in `path` as it is, loaded as `exported`, and as each plan that changes it, on `feeds`. Undefined when
 * no plan applies or the network is too large to rewrite.
 */
export async function chooseRewrites(
  path: string,
  exported: Predictor,
  settings: OnnxSettings,
  feeds: Readonly<Record<string, Tensor>>,
  { trialMs }: TrialLimits,
): Promise<RewriteChoice | undefined> {
  const model = await readModelFile(path, MAX_MODEL_BYTES)
  const candidates = model ? applicablePlans(model) : []
  if (candidates.length === 0) return undefined
  const original = await measure(exported, feeds, trialMs)
  let best: RewriteChoice = {
    engine: ENGINE,
    device: exported.device,
    threads: threadsOf(settings),
    plan: null,
    rewrites: {},
    originalMs: original.ms,
    chosenMs: original.ms,
  }
  if (!original.outputs) return { ...best, tooLong: true }
  for (const candidate of candidates) {
    const rewritten = await tryRewritten(writeModel(candidate.model), settings, feeds, original.ms)
    if (!rewritten?.outputs || !agree(original.outputs, rewritten.outputs)) continue
    if (rewritten.ms < Math.min(best.chosenMs, WORTHWHILE * original.ms))
      best = { ...best, plan: candidate.plan, rewrites: candidate.rewrites, chosenMs: rewritten.ms }
  }
  return best
}

/** Whether `choice` was measured with this engine and as many threads; its device is known when the network is open. */
export function isCurrent(choice: RewriteChoice, settings: OnnxSettings): boolean {
  return choice.engine === ENGINE && choice.threads === threadsOf(settings)
}

/** The network in `path`, rewritten as `choice` says. A choice of another engine, or none, leaves it as it is. */
export async function createChosenPredictor(
  path: string,
  settings: OnnxSettings,
  choice: RewriteChoice | undefined,
): Promise<Predictor> {
  const chosen = planOf(choice) === null ? undefined : await chosenModel(path, choice)
  return createOnnxPredictor(chosen ? writeModel(chosen.model) : path, settings)
}

/** A network as messages, and which of its outputs come in phases first. */
export type ChosenModel = Pick<RewrittenModel, 'model' | 'phased'>

/** The same as messages; undefined where the network is too large to be rewritten. */
export async function chosenModel(path: string, choice: RewriteChoice | undefined): Promise<ChosenModel | undefined> {
  const model = await readModelFile(path, MAX_MODEL_BYTES)
  const plan = planOf(choice)
  const rewritten = model && plan !== null ? applyPlan(model, plan) : undefined
  return rewritten ?? (model && { model, phased: new Map() })
}

function planOf(choice: RewriteChoice | undefined): string | null {
  return choice?.engine === ENGINE ? choice.plan : null
}

type Outputs = Readonly<Record<string, Tensor>>

interface Measured {
  readonly ms: number
  /** Undefined where one run took longer than it may. */
  readonly outputs: Outputs | undefined
}

async function measure(
  predictor: Predictor,
  feeds: Readonly<Record<string, Tensor>>,
  limitMs: number,
): Promise<Measured> {
  // The first run allocates; it is not timed, but tells whether more are affordable.
  const first = await timed(predictor, feeds)
  if (first.ms > limitMs) return { ms: first.ms, outputs: undefined }
  let best = await timed(predictor, feeds)
  for (let run = 1; run < RUNS && best.ms < LONG_RUN_MS; run++) {
    const next = await timed(predictor, feeds)
    if (next.ms < best.ms) best = next
  }
  return best
}

/** A rewrite that the engine refuses, or that needs more memory than there is, is no candidate. */
async function tryRewritten(
  bytes: Uint8Array,
  settings: OnnxSettings,
  feeds: Readonly<Record<string, Tensor>>,
  originalMs: number,
): Promise<Measured | undefined> {
  try {
    const predictor = await createOnnxPredictor(bytes, settings)
    try {
      return await measure(predictor, feeds, 2 * originalMs)
    } finally {
      await predictor.close()
    }
  } catch (error) {
    if (isOutOfMemory(error)) throw error
    return undefined
  }
}

async function timed(predictor: Predictor, feeds: Readonly<Record<string, Tensor>>): Promise<Measured> {
  const start = performance.now()
  const outputs = await predictor.run(feeds)
  return { ms: performance.now() - start, outputs }
}

/** Equal but for rounding. Whole numbers, such as labels, may differ where two classes were as good as each other. */
function agree(wanted: Outputs, got: Outputs): boolean {
  return Object.entries(wanted).every(([name, { dims, data }]) => {
    const other = got[name]
    if (!other || other.dims.join() !== dims.join()) return false
    if (!(data instanceof Float32Array || data instanceof Float64Array)) {
      let different = 0
      for (let i = 0; i < data.length; i++) if (data[i] !== other.data[i]) different++
      return different <= TOLERANCE * data.length
    }
    let largest = 0
    let difference = 0
    for (let i = 0; i < data.length; i++) {
      largest = Math.max(largest, Math.abs(data[i]!))
      difference = Math.max(difference, Math.abs(data[i]! - other.data[i]!))
    }
    return difference <= TOLERANCE * largest
  })
}
