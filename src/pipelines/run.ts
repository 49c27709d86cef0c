/** The doors of this folder: what a runner calls for each kind of job. */

import type { InferenceJob, JobControl, JobResult, ToolJob } from '../contract/job.js'
import type { ModelRef } from '../contract/model.js'
import type { Predictor } from '../contract/tensor.js'
import type { Item } from '../transforms/types.js'

/** A model with the predictor that runs it. */
export interface LoadedModel {
  readonly ref: ModelRef
  readonly predictor: Predictor
}

/** Keeps pre-transformed items of recent sessions; the runner owns the real one (LRU, bounded in bytes). */
export interface ItemCache {
  get(key: string): Item | undefined
  set(key: string, item: Item): void
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
