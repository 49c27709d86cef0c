/** What a scheduler tells whoever counts. Nothing of it may throw, and nothing waits for it. */
import type { Stage } from '../contract/job.js'
import type { ErrorCode } from '../errors.js'

/** Why a runner ended that was not told to: by itself, by the bound of its memory, unheard of, or deaf to a cancel. */
export type UnplannedEnd = 'crash' | 'memory' | 'stuck' | 'cancel'

export interface SchedulerObserver {
  /** A job left the queue of a model (of the tools, for undefined) for a runner. */
  jobBegan(model: string | undefined, waitMs: number): void
  /** A job that was queued has ended, with the milliseconds of its stages where it was done. */
  jobEnded(
    model: string | undefined,
    outcome: { readonly timings: Readonly<Partial<Record<Stage, number>>> } | { readonly code: ErrorCode },
  ): void
  /** A job was not queued, since too many wait. */
  jobRefused(model: string | undefined): void
  runnerLoaded(model: string | undefined, outcome: { readonly ms: number } | { readonly code: ErrorCode }): void
  runnerEnded(model: string | undefined, why: UnplannedEnd): void
}

export const nobody: SchedulerObserver = {
  jobBegan() {},
  jobEnded() {},
  jobRefused() {},
  runnerLoaded() {},
  runnerEnded() {},
}
