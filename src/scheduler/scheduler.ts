/** What the rest of the server knows about computing. The real one owns runner processes; tests answer in place. */

import type { InferenceJob, JobResult, Stage, ToolJob } from '../contract/job.js'
import type { ModelHost, ModelRef, RewriteChoice } from '../contract/model.js'

export interface JobRequest {
  /** What the log calls the request; never the secret id that opens its result. */
  readonly trace: string
  /** Who asks, for fair order among clients: the socket address or the session. */
  readonly client: string
  /** The socket address, for fair admission: one machine may have many sessions. */
  readonly host: string
}

export interface JobProgress {
  readonly state: 'queued' | 'running'
  /** 0 for the one that runs next. */
  readonly queuePlace?: number | undefined
  readonly stage?: Stage | undefined
  readonly done?: number | undefined
  readonly total?: number | undefined
  /** Which part of a model of several works; `done` and `total` are its own. */
  readonly part?: string | undefined
  /** From this model's own history; absent before its first job. */
  readonly estimateMs?: number | undefined
}

export type OnProgress = (progress: JobProgress) => void

export interface RunnerStatus {
  readonly model: string
  readonly revision: string
  readonly state: 'loading' | 'ready' | 'busy' | 'stopping'
  readonly pid: number | undefined
  readonly rssBytes: number | undefined
  readonly device: string | undefined
  readonly fallbackReason?: string | undefined
  readonly rewrites?: RewriteChoice | undefined
  readonly queued: number
  /** When the keep-alive ends it, ms since the epoch; undefined while it is busy or pinned. */
  readonly until: number | undefined
}

export interface Scheduler extends ModelHost {
  /** Whether a job of the model (of a tool, without one) could wait now: throws BUSY, before its body has been read. */
  admit(model: ModelRef | undefined, request: JobRequest): void
  /** Queues a job for the model's runner, loading it if need be. Rejects BUSY when the queue is full, CANCELLED on abort. */
  runModel(
    request: JobRequest,
    model: ModelRef,
    job: InferenceJob,
    signal: AbortSignal,
    onProgress?: OnProgress,
  ): Promise<JobResult>
  /** Queues a job for a tool runner. */
  runTool(request: JobRequest, job: ToolJob, signal: AbortSignal, onProgress?: OnProgress): Promise<JobResult>
  /** Loads the model's runner now. */
  load(model: ModelRef): Promise<void>
  status(): readonly RunnerStatus[]
  /** How many jobs wait, for each model that has been asked for, and for the tools (undefined). */
  queues(): readonly { readonly model: string | undefined; readonly queued: number }[]
  /** Stops taking jobs, waits up to `graceMs`, then cancels and ends every child. */
  close(graceMs: number): Promise<void>
}
