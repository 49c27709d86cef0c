import { setImmediate as yieldToMessages } from 'node:timers/promises'
import type { JobControl, Stage } from '../contract/job.js'
import { AppError } from '../errors.js'

/** How a job's control reaches the server. Time comes in as an argument, in milliseconds. */
export interface ControlWires {
  report(stage: Stage, done: number, total: number, part?: string): void
  /** Asks for the device slot; `granted()` on the control answers. */
  want(): void
  release(): void
  now(): number
}

/** Stages in which a network runs, or will in a moment. */
const COMPUTING: ReadonlySet<Stage> = new Set(['infer', 'encoder', 'decoder'])

/** Progress messages of one job are at least this far apart, except where the stage or the part changes. */
const REPORT_EVERY_MS = 100

/**
 * The runner's side of one job: times its stages, tells its progress, holds the device slot, and lets a cancel in.
 *
 * A stage lasts from the first checkpoint that names it to the first that names another; waiting for the device is the
 * stage `wait`, whatever the pipeline called the work around it.
 */
export class RunnerJobControl implements JobControl {
  readonly #wires: ControlWires
  readonly #timings: Partial<Record<Stage, number>> = {}
  #stage: Stage = 'read'
  #stageSince: number
  #reportedAt = Number.NEGATIVE_INFINITY
  #reportedStage: Stage | undefined
  #reportedPart: string | undefined
  readonly #abort = new AbortController()
  #holding = false
  /** How many calls of withDevice are under way. */
  #depth = 0
  #wanted = false
  #waiting: { resolve: () => void; reject: (error: AppError) => void } | undefined

  constructor(wires: ControlWires) {
    this.#wires = wires
    this.#stageSince = wires.now()
  }

  async checkpoint(stage: Stage, done: number, total: number, part?: string): Promise<void> {
    this.#enter(stage)
    if (!COMPUTING.has(stage)) this.#releaseIdle()
    const now = this.#wires.now()
    const isNew = stage !== this.#reportedStage || part !== this.#reportedPart
    if (isNew || now - this.#reportedAt >= REPORT_EVERY_MS) {
      this.#reportedStage = stage
      this.#reportedPart = part
      this.#reportedAt = now
      this.#wires.report(stage, done, total, part)
    }
    // A flag cannot arrive while the thread is busy: one turn of the event loop reads the channel.
    await yieldToMessages()
    this.#throwIfCancelled()
  }

  /**
   * Reentrant: a pipeline's inner model runs within the slot its outer one holds. The slot is kept from one window to the
   * next, which saves asking for it each time, until somebody else wants it or the networks have run.
   */
  async withDevice<T>(work: () => Promise<T>): Promise<T> {
    if (!this.#holding) await this.#acquire()
    this.#depth++
    try {
      return await work()
    } finally {
      this.#depth--
      if (this.#wanted) this.#releaseIdle()
    }
  }

  /** The server gave the slot. */
  granted(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    if (!waiting) {
      this.#wires.release()
      return
    }
    this.#holding = true
    this.#wanted = false
    waiting.resolve()
  }

  /** Somebody else waits for the slot. */
  yield(): void {
    this.#wanted = true
    this.#releaseIdle()
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** The server wants the job to end. */
  cancel(): void {
    this.#abort.abort(cancelled())
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.reject(cancelled())
  }

  /** Milliseconds per stage so far. */
  timings(): Partial<Record<Stage, number>> {
    this.#enter(this.#stage)
    return { ...this.#timings }
  }

  async #acquire(): Promise<void> {
    this.#throwIfCancelled()
    const before = this.#stage
    this.#enter('wait')
    const granted = new Promise<void>((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
    this.#wires.want()
    await granted
    this.#enter(before)
  }

  #releaseIdle(): void {
    if (!this.#holding || this.#depth > 0) return
    this.#holding = false
    this.#wires.release()
  }

  #enter(stage: Stage): void {
    const now = this.#wires.now()
    this.#timings[this.#stage] = (this.#timings[this.#stage] ?? 0) + (now - this.#stageSince)
    this.#stage = stage
    this.#stageSince = now
  }

  #throwIfCancelled(): void {
    this.#abort.signal.throwIfAborted()
  }
}

function cancelled(): AppError {
  return new AppError('CANCELLED', 'the request was cancelled')
}
