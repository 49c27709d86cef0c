/**
 * The work of one model (or of all tools): a fair queue and the runner processes that serve it. The scheduler decides
 * whether there is room for a runner; the lane decides what it does.
 */

import { isDeepStrictEqual } from 'node:util'
import type { Job, JobResult } from '../contract/job.js'
import type { ModelRef, RewriteChoices } from '../contract/model.js'
import { AppError, type ErrorCode } from '../errors.js'
import type { Clock } from '../util/clock.js'
import type { Log } from '../util/log.js'
import type { Timers } from '../util/timers.js'
import { abortReason } from './abort-reason.js'
import { FairQueue } from './fair-queue.js'
import type { History } from './history.js'
import type { SchedulerObserver } from './observer.js'
import type { RunnerProcess } from './runner-process.js'
import type { JobProgress, JobRequest, OnProgress, RunnerStatus } from './scheduler.js'

export interface LaneOptions {
  readonly name: string
  /** Absent for the tools. */
  readonly model: ModelRef | undefined
  /** Runner processes at a time, at most. */
  readonly size: number
  /** Runners beyond the first are started only where they are worth it, and end after so long without use; absent: for every job that waits. */
  readonly spareKeepAliveMs?: number | undefined
  readonly maxQueuedJobs: number
  /** Idle time after which a runner is ended; negative: never. */
  readonly keepAliveMs: number
  readonly loadTimeoutMs: number
  readonly start: () => RunnerProcess
  /** Numbers jobs in the order they came, over all lanes. */
  readonly nextTurn: () => number
  /** Whether a runner may be started now; if not, the scheduler calls `pump` when there is room. */
  readonly mayStart: (lane: Lane) => boolean
  /** A runner became idle or ended: room may have come up. */
  readonly onChange: (lane: Lane) => void
  /** What trials of rewritten networks found: what one runner has found spares the next one the trial. */
  readonly rewrites: RewriteChoices
  readonly history: History
  readonly clock: Clock
  readonly timers: Timers
  readonly observer: SchedulerObserver
  readonly log: Log
}

interface Ticket {
  readonly request: JobRequest
  readonly job: Job
  readonly turn: number
  readonly queued: number
  readonly onProgress: OnProgress | undefined
  readonly answer: (outcome: { result: JobResult } | { error: unknown }) => void
  place: number | undefined
  /** How many that came later have gone before it. */
  passed: number
  /** Why the job must not go on: cancelled, out of time, the server stops. */
  cancelled: AppError | undefined
  worker: Worker | undefined
}

/** Images of sessions that a runner is remembered to have prepared. */
const MOST_REMEMBERED = 64

/** As many at most may go before a job for the sake of their prepared images. */
const MOST_PASSED = 2
/** A further runner takes about a second of the cores until it is ready: less waiting work than this is done sooner without it. */
const WORTH_A_SPARE_MS = 500

interface Worker {
  readonly runner: RunnerProcess
  /** Cache keys of the images of its last jobs, which it may still have prepared. */
  readonly prepared: Set<string>
  state: 'loading' | 'ready' | 'busy' | 'stopping'
  startedAt: number
}

export class Lane {
  readonly options: LaneOptions
  readonly #queue = new FairQueue<Ticket>()
  readonly #workers = new Set<Worker>()
  readonly #running = new Set<Ticket>()
  #loadWaiters: { resolve: () => void; reject: (error: unknown) => void }[] = []
  #goneWaiters: (() => void)[] = []
  #quietWaiters: (() => void)[] = []
  #clearKeepAlive: (() => void) | undefined
  #clearSpare: (() => void) | undefined
  #until: number | undefined
  /** When it last had work, for least-recently-used unloading. */
  lastUsed: number
  /** Replaced or removed: it ends as soon as its jobs are done. */
  retired = false

  constructor(options: LaneOptions) {
    this.options = options
    this.lastUsed = options.clock.now()
  }

  get queued(): number {
    return this.#queue.size
  }

  get workers(): number {
    return this.#workers.size
  }

  /** Runners that are on their way out. */
  get stopping(): number {
    return [...this.#workers].filter(({ state }) => state === 'stopping').length
  }

  /** Has a loaded runner and nothing to do. */
  get idle(): boolean {
    return (
      this.#queue.size === 0 &&
      this.#loadWaiters.length === 0 &&
      this.#workers.size > 0 &&
      [...this.#workers].every(({ state }) => state === 'ready')
    )
  }

  get gone(): boolean {
    return this.#queue.size === 0 && this.#workers.size === 0 && this.#loadWaiters.length === 0
  }

  /** Several of its jobs are there, and runners for them: the cores are better shared. */
  get crowded(): boolean {
    return this.#workers.size > 1 && this.#jobs > 1
  }

  /** Jobs that run or wait. */
  get #jobs(): number {
    return this.#running.size + this.#queue.size
  }

  /** Runners that jobs can count on. */
  get #sureRunners(): number {
    const { size, spareKeepAliveMs } = this.options
    return spareKeepAliveMs === undefined ? size : Math.max(1, this.#workers.size)
  }

  /** Wants a runner, or will as soon as it may have one. */
  get wantsRunner(): boolean {
    return this.#queue.size > 0 || this.#loadWaiters.length > 0
  }

  /** The turn of the job that is next here; smaller came earlier. */
  get nextTurn(): number {
    return this.#queue.peek()?.turn ?? Number.POSITIVE_INFINITY
  }

  submit(request: JobRequest, job: Job, signal: AbortSignal, onProgress?: OnProgress): Promise<JobResult> {
    if (signal.aborted) return Promise.reject(abortReason(signal))
    if (!this.#admits(request)) return Promise.reject(this.#refusal())
    return new Promise((resolve, reject) => {
      const abort = () => this.#cancelTicket(ticket, abortReason(signal))
      const ticket: Ticket = {
        request,
        job,
        turn: this.options.nextTurn(),
        queued: this.options.clock.now(),
        onProgress,
        place: undefined,
        passed: 0,
        cancelled: undefined,
        worker: undefined,
        answer: (outcome) => {
          signal.removeEventListener('abort', abort)
          this.#observe(outcome)
          if ('result' in outcome) resolve(outcome.result)
          else reject(outcome.error)
        },
      }
      signal.addEventListener('abort', abort, { once: true })
      this.#queue.push(request.client, ticket)
      this.pump()
    })
  }

  /** Throws BUSY when a job of this request could not wait here now. */
  admit(request: JobRequest): void {
    if (!this.#admits(request)) throw this.#refusal()
  }

  /**
   * Whether a job may wait here. Beyond the bound a machine that has none waiting still gets one in, so that another that
   * fills the queue keeps nobody out; as many again at most, since machines can be many.
   */
  #admits({ host }: JobRequest): boolean {
    const { maxQueuedJobs } = this.options
    // A job that waits only for its runner to load is in nobody's way.
    const places = maxQueuedJobs + this.#sureRunners - this.#running.size
    if (this.#queue.size < places) return true
    if (this.#queue.size >= places + maxQueuedJobs) return false
    return !this.#queue.inOrder().some(({ request }) => request.host === host)
  }

  /** Resolves when a runner is loaded. */
  load(): Promise<void> {
    if ([...this.#workers].some(({ state }) => state === 'ready' || state === 'busy')) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#loadWaiters.push({ resolve, reject })
      this.pump()
    })
  }

  /** Gives waiting jobs to ready runners, and starts runners for the rest while there may be more. */
  pump(): void {
    for (let next = this.#match(); next; next = this.#match()) this.#begin(...next)
    const loading = [...this.#workers].filter(({ state }) => state === 'loading').length
    const wanted = Math.max(this.#queue.size, this.#loadWaiters.length > 0 ? 1 : 0)
    for (let missing = wanted - loading; missing > 0; missing--) {
      if (this.#workers.size >= this.options.size || !this.#isWorthIt() || !this.options.mayStart(this)) break
      // A model's first runner may try out how its network runs best, which needs the machine and helps the others.
      if (this.options.model && [...this.#workers].some(({ state }) => state === 'loading')) break
      this.#start()
    }
    this.#tellPlaces()
    this.#watchIdle()
    this.#watchSpare()
  }

  /** Resolves when the last runner is gone and no job waits. */
  whenGone(): Promise<void> {
    if (this.gone) return Promise.resolve()
    return new Promise((resolve) => this.#goneWaiters.push(resolve))
  }

  /** Ends its runners as soon as they are idle. */
  retire(): void {
    this.retired = true
    this.#watchIdle()
  }

  /** Ends the runners that have nothing to do, now. */
  stopIdle(): void {
    for (const worker of this.#workers) if (worker.state === 'ready') this.#stopWorker(worker)
  }

  /** Ends one of several runners, if one has nothing to do, and says whether it did. */
  stopSpare(): boolean {
    // the last one came last, and has the fewest images prepared
    const spare = this.#workers.size > 1 ? [...this.#workers].findLast(({ state }) => state === 'ready') : undefined
    if (spare) void this.#stopWorker(spare)
    return spare !== undefined
  }

  /** Jobs that wait are refused with `error`. */
  refuseQueued(error: AppError): void {
    for (let ticket = this.#queue.shift(); ticket; ticket = this.#queue.shift()) ticket.answer({ error })
    this.#answerLoads(error)
  }

  /** Jobs that run are asked to stop, and end with `error`. */
  cancelRunning(error: AppError): void {
    for (const ticket of this.#running) this.#cancelTicket(ticket, error)
  }

  /** Ends every runner now; resolves when all are gone. */
  async stopAll(): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => this.#stopWorker(worker)))
  }

  /** Resolves when no job runs any more. */
  async whenQuiet(): Promise<void> {
    while (this.#running.size > 0)
      await new Promise<void>((resolve) => {
        this.#quietWaiters.push(resolve)
      })
  }

  pids(): number[] {
    return [...this.#workers].flatMap(({ runner: { pid } }) => (pid === undefined ? [] : [pid]))
  }

  status(rssOf: (pid: number) => number | undefined): RunnerStatus[] {
    const { model, name } = this.options
    return [...this.#workers].map(({ runner, state }) => ({
      model: name,
      revision: model?.revision ?? '',
      state,
      pid: runner.pid,
      rssBytes: runner.pid === undefined ? undefined : rssOf(runner.pid),
      device: runner.device,
      fallbackReason: runner.fallbackReason,
      rewrites: runner.rewrites[model?.revision ?? ''],
      queued: this.#queue.size,
      until: state === 'ready' ? this.#until : undefined,
    }))
  }

  #start(): void {
    const startedAt = this.options.clock.now()
    const worker: Worker = { runner: this.options.start(), prepared: new Set(), state: 'loading', startedAt }
    this.#workers.add(worker)
    // Loading is answered before the exit is acted upon, so that a failed load first fails those it must fail.
    void this.#load(worker)
      .then(() => worker.runner.exited)
      .then(() => this.#onExit(worker))
  }

  async #load(worker: Worker): Promise<void> {
    const { name, model, loadTimeoutMs, timers, log, clock } = this.options
    let late = false
    const clearTimer = timers.after(loadTimeoutMs, () => {
      late = true
      void worker.runner.stop()
    })
    try {
      const brought = model && withKnown(model, this.options.rewrites)
      await worker.runner.load(brought)
      for (const { revision, rewrites } of brought ? [brought, ...(brought.parts ?? [])] : []) {
        const found = worker.runner.rewrites[revision]
        if (found && !isDeepStrictEqual(found, rewrites)) this.options.rewrites.keep(revision, found)
      }
      const { device, fallbackReason, pid } = worker.runner
      const fields = { runner: name, pid, device, ms: clock.now() - worker.startedAt }
      if (fallbackReason === undefined) log.info(fields, 'runner ready')
      else log.warn({ ...fields, fallbackReason }, 'runner ready, but not on the device that was wanted')
      this.options.observer.runnerLoaded(model?.name, { ms: fields.ms })
      if (worker.state === 'loading') worker.state = 'ready'
      this.#answerLoads(undefined)
      this.pump()
    } catch (error) {
      this.#loadFailed(worker, late ? tooSlow(name, loadTimeoutMs) : error)
    } finally {
      clearTimer()
    }
  }

  /** A model that cannot be loaded fails everyone who waits for it; a crash or lack of memory only the next in line. */
  #loadFailed(worker: Worker, error: unknown): void {
    const everyone = error instanceof AppError && error.code !== 'RUNNER_CRASHED'
    this.options.observer.runnerLoaded(this.options.model?.name, { code: codeOf(error) })
    this.#answerLoads(error)
    if (everyone) this.refuseQueued(error)
    else this.#queue.shift()?.answer({ error })
    void this.#stopWorker(worker)
  }

  /**
   * The next job and a runner that is free for it: the one that has its image prepared, else any. A free runner passes over a job whose
   * image only a busy one has prepared, for one of the next few whose image it has itself or nobody has; not often, see MOST_PASSED.
   */
  #match(): [Worker, Ticket] | undefined {
    const ready = [...this.#workers].filter(({ state }) => state === 'ready')
    const next = this.#queue.peek()
    if (!next || ready.length === 0) return undefined
    const own = ready.find((worker) => hasPrepared(worker, next))
    const worker = own ?? ready[0]!
    if (own || !this.#isElsewhere(next, worker)) return [worker, next]
    const few = this.#queue.inOrder().slice(0, 2 * this.#workers.size)
    const instead = few.findIndex((ticket) => !this.#isElsewhere(ticket, worker))
    const before = few.slice(0, Math.max(0, instead))
    if (before.some(({ passed }) => passed >= MOST_PASSED)) return [worker, next]
    for (const ticket of before) ticket.passed++
    return [worker, few[instead] ?? next]
  }

  /** Whether another runner, which will be free again, has the job's image prepared and this one has not. */
  #isElsewhere(ticket: Ticket, worker: Worker): boolean {
    if (hasPrepared(worker, ticket)) return false
    return [...this.#workers].some((other) => other.state === 'busy' && hasPrepared(other, ticket))
  }

  /** Whether a runner more is worth what it takes: always the first, and any where the operator has said how many. */
  #isWorthIt(): boolean {
    const { spareKeepAliveMs } = this.options
    if (spareKeepAliveMs === undefined || this.#workers.size === 0) return true
    if (![...this.#workers].every(({ runner }) => runner.shares)) return false
    let waitingMs = 0
    for (const { job } of this.#queue.inOrder()) waitingMs += this.options.history.estimateMs(this.#kind(job)) ?? 0
    return waitingMs >= WORTH_A_SPARE_MS
  }

  #begin(worker: Worker, ticket: Ticket): void {
    this.#queue.take(ticket)
    for (const key of keysOf(ticket.job)) {
      worker.prepared.delete(key)
      worker.prepared.add(key)
      if (worker.prepared.size > MOST_REMEMBERED) worker.prepared.delete(worker.prepared.values().next().value!)
    }
    worker.state = 'busy'
    worker.startedAt = this.options.clock.now()
    ticket.worker = worker
    this.#running.add(ticket)
    this.options.observer.jobBegan(this.options.model?.name, worker.startedAt - ticket.queued)
    this.#tell(ticket, { state: 'running', ...this.#estimate(ticket, 0) })
    void this.#work(worker, ticket)
  }

  async #work(worker: Worker, ticket: Ticket): Promise<void> {
    const { clock, history } = this.options
    let outcome: { result: JobResult } | { error: unknown }
    try {
      const result = await worker.runner.run(ticket.job, ({ stage, done, total, part }) => {
        if (!ticket.cancelled)
          this.#tell(ticket, { state: 'running', stage, done, total, part, ...this.#estimate(ticket, 0) })
      })
      history.add(this.#kind(ticket.job), clock.now() - worker.startedAt)
      outcome = ticket.cancelled ? { error: ticket.cancelled } : { result }
    } catch (error) {
      outcome = { error: ticket.cancelled ?? error }
    }
    this.#logOutcome(worker, ticket, outcome)
    this.#running.delete(ticket)
    this.lastUsed = clock.now()
    if (worker.state === 'busy') worker.state = 'ready'
    if (worker.runner.spent) void this.#stopWorker(worker)
    ticket.answer(outcome)
    for (const resolve of this.#quietWaiters.splice(0)) resolve()
    this.options.onChange(this)
    this.pump()
  }

  #logOutcome(worker: Worker, { request, queued }: Ticket, outcome: { result: JobResult } | { error: unknown }): void {
    const { name, clock, log } = this.options
    const waitedMs = worker.startedAt - queued
    const fields = { runner: name, request: request.trace, waitedMs, ms: clock.now() - worker.startedAt }
    if ('result' in outcome) {
      const { timings, device } = outcome.result
      log.info({ ...fields, timings, device }, 'job done')
    } else log.info({ ...fields, code: codeOf(outcome.error) }, 'job ended')
  }

  #observe(outcome: { result: JobResult } | { error: unknown }): void {
    const { model, observer } = this.options
    if ('result' in outcome) observer.jobEnded(model?.name, { timings: outcome.result.timings })
    else observer.jobEnded(model?.name, { code: codeOf(outcome.error) })
  }

  #cancelTicket(ticket: Ticket, error: AppError): void {
    if (ticket.cancelled) return
    ticket.cancelled = error
    if (this.#queue.remove(ticket)) {
      ticket.answer({ error })
      this.options.onChange(this)
      this.pump()
    } else ticket.worker?.runner.cancel()
  }

  #stopWorker(worker: Worker): Promise<void> {
    if (worker.state !== 'stopping') {
      worker.state = 'stopping'
      this.options.log.info({ runner: this.options.name, pid: worker.runner.pid }, 'runner ends')
    }
    return worker.runner.stop()
  }

  #onExit(worker: Worker): void {
    this.#workers.delete(worker)
    this.options.onChange(this)
    this.pump()
    if (this.gone) for (const resolve of this.#goneWaiters.splice(0)) resolve()
  }

  #answerLoads(error: unknown): void {
    for (const { resolve, reject } of this.#loadWaiters.splice(0)) error === undefined ? resolve() : reject(error)
  }

  /** Starts the keep-alive clock when there is nothing to do, stops it when there is. */
  #watchIdle(): void {
    this.#clearKeepAlive?.()
    this.#clearKeepAlive = undefined
    this.#until = undefined
    if (this.#queue.size > 0 || ![...this.#workers].some(({ state }) => state === 'ready')) return
    const wait = this.retired ? 0 : this.options.keepAliveMs
    if (wait < 0) return
    if (wait === 0) {
      this.stopIdle()
      return
    }
    this.#until = this.options.clock.now() + wait
    this.#clearKeepAlive = this.options.timers.after(wait, () => this.stopIdle())
  }

  /** Ends a runner beyond the first when for some time there was never more than one job. */
  #watchSpare(): void {
    const { spareKeepAliveMs, timers } = this.options
    if (spareKeepAliveMs === undefined) return
    if (this.#clearSpare && this.#workers.size > 1 && this.#jobs < 2) return
    this.#clearSpare?.()
    this.#clearSpare = undefined
    if (this.#workers.size < 2) return
    this.#clearSpare = timers.after(spareKeepAliveMs, () => {
      this.#clearSpare = undefined
      this.stopSpare()
      this.#watchSpare()
    })
  }

  #tellPlaces(): void {
    if (this.#queue.size === 0) return
    for (const [place, ticket] of this.#queue.inOrder().entries()) {
      if (ticket.place === place) continue
      ticket.place = place
      this.#tell(ticket, { state: 'queued', queuePlace: place, ...this.#estimate(ticket, place + 1) })
    }
  }

  #tell(ticket: Ticket, progress: JobProgress): void {
    ticket.onProgress?.(progress)
  }

  /** Milliseconds until the job is done, `ahead` jobs before it (the running one included). */
  #estimate(ticket: Ticket, ahead: number): { estimateMs?: number } {
    const one = this.options.history.estimateMs(this.#kind(ticket.job))
    if (one === undefined) return {}
    if (ticket.worker) return { estimateMs: Math.max(0, one - (this.options.clock.now() - ticket.worker.startedAt)) }
    const running = [...this.#running].map(({ worker }) => this.options.clock.now() - worker!.startedAt)
    const runners = this.#sureRunners
    const left = running.length < runners ? 0 : Math.max(0, one - Math.max(...running))
    return { estimateMs: left + Math.ceil(ahead / runners) * one }
  }

  #kind(job: Job): string {
    return `${this.options.name} ${job.kind === 'inference' ? job.task : job.kind}`
  }

  #refusal(): AppError {
    this.options.observer.jobRefused(this.options.model?.name)
    const { name, model, maxQueuedJobs, history } = this.options
    const who = model ? `model '${name}'` : 'the server'
    const typical = history.estimateMs(`${name} segmentation`) ?? history.estimateMs(`${name} inference`) ?? 5000
    return new AppError('BUSY', `${who} already has ${maxQueuedJobs} requests of this kind waiting`, {
      hint: 'try again later; --max-queued-jobs sets how many may wait',
      retryAfterSeconds: Math.min(600, Math.max(1, Math.ceil(typical / 1000))),
    })
  }
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof AppError ? error.code : 'INTERNAL'
}

function tooSlow(name: string, ms: number): AppError {
  return new AppError('MODEL_NOT_READY', `model '${name}' did not load within ${Math.round(ms / 1000)} s`, {
    retryAfterSeconds: 5,
  })
}

function hasPrepared({ prepared }: Worker, { job }: Ticket): boolean {
  return keysOf(job).some((key) => prepared.has(key))
}

function keysOf({ images }: Job): string[] {
  return images.flatMap(({ cacheKey }) => cacheKey ?? [])
}

/** The model, and the models of a pipeline, each with what is known of its network. What a trial found here goes before a manifest. */
function withKnown(model: ModelRef, known: RewriteChoices): ModelRef {
  const own = <T extends Pick<ModelRef, 'revision' | 'rewrites'>>(one: T): T => {
    const rewrites = known.known(one.revision)
    return rewrites ? { ...one, rewrites } : one
  }
  return own(model.parts ? { ...model, parts: model.parts.map(own) } : model)
}
