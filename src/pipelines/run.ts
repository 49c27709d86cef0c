/** The doors of this folder: what a runner calls for each kind of job. */

import type { InferenceJob, JobControl, JobResult, ToolJob } from '../contract/job.js'
import type { ModelRef } from '../contract/model.js'
import type { Networks, Predict, Predictor } from '../contract/tensor.js'
import type { Prompted } from '../inferers/prompted/layout.js'
import type { Encode, EncodeAs, EncoderMemory, TwoParts } from '../inferers/two-parts.js'
import type { Item } from '../transforms/types.js'

/** A model with the predictor that runs it. */
export interface LoadedModel {
  readonly ref: ModelRef
  /** Its network, or the first of several. */
  readonly predictor: Predictor
  /** The two networks of a model of parts, which `predictor` runs one after the other. */
  readonly parts?: LoadedParts | undefined
  /** Where it has several: those of its config, in their order, then those of its first model. */
  readonly networks?: Networks | undefined
}

export interface LoadedParts extends TwoParts {
  readonly encode: Encode
  readonly encodeAs: EncodeAs
  /** How the pair is fed with points and boxes, where it is one of the SAM family. */
  readonly prompted?: Prompted | undefined
  readonly decode: Predict
  /** What a session's encodings and masks are kept in, and that session's key; absent for one-shot uploads. */
  readonly memory?: EncoderMemory | undefined
  readonly session?: string | undefined
}

/** Keeps pre-transformed items of recent sessions; the runner owns the real one (LRU, bounded in bytes). */
export interface ItemCache {
  get(key: string): Item | undefined
  set(key: string, item: Item): void
  /** What encoders made, and masks that further clicks go on from: in the same memory, under the same bound. */
  readonly tensors: EncoderMemory
}

export interface PipelineContext {
  readonly model: LoadedModel
  /** The models of a pipeline, in config order; empty for every other type. */
  readonly parts: readonly LoadedModel[]
  readonly control: JobControl
  readonly cache: ItemCache
}

export type RunInference = (job: InferenceJob, context: PipelineContext) => Promise<JobResult>
export type RunTool = (job: ToolJob, control: JobControl) => Promise<JobResult>
