import { availableParallelism } from 'node:os'
import type { InferenceJob, Job, JobResult, ToolJob } from '../contract/job.js'
import type { ModelProof, ModelRef, RewriteChoice, RewriteChoices } from '../contract/model.js'
import type { DeviceWish, RunnerSettings } from '../contract/wire.js'
import { AppError } from '../errors.js'
import { type Clock, systemClock } from '../util/clock.js'
import { type Log, silentLog } from '../util/log.js'
import { systemTimers, type Timers } from '../util/timers.js'
import { abortReason } from './abort-reason.js'
import { DeviceSlots } from './device-slots.js'
import { History } from './history.js'
import { Lane } from './lane.js'
import { nobody, type SchedulerObserver } from './observer.js'
import { Places } from './places.js'
import { processorMs } from './processor-time.js'
import { residentBytes } from './resident-memory.js'
import { RunnerEndedError, RunnerProcess, type RunnerProcessOptions } from './runner-process.js'
import type { JobRequest, OnProgress, RunnerStatus, Scheduler } from './scheduler.js'
import { type RunnerEntry, runnerEntry, type SpawnRunner, spawnRunner } from './spawn-runner.js'

export interface SchedulerOptions {
  readonly device: DeviceWish
  /** Jobs that may wait per model; more are refused with BUSY. */
  readonly maxQueuedJobs: number
  /** A runner idle for so long is ended; 0: at once; negative: never. */
  readonly keepAliveMs: number
  /** Models loaded at a time, at least 1. */
  readonly maxLoadedModels: number
  /**
   * Runners of one model at a time, at least 1; each counts as a loaded model, and none makes another model go. While
   * several work, as many networks run on the processor at once, each with its share of the cores. 'auto': of a model that
   * can share the cores, as many as `sharesOf` them, while the work that waits is worth it and there is memory.
   */
  readonly instances: number | 'auto'
  /** With 'auto', a further runner is ended after so long without use. */
  readonly spareKeepAliveMs: number
  /** Bytes that all runners together should stay under: above it, idle ones are ended, and each runs without an arena. */
  readonly memoryBudgetBytes?: number | undefined
  /** A network whose one run takes longer than this is not tried rewritten; 0: none is. */
  readonly rewriteTrialMs: number
  /** What trials have found, also before this start; absent: what they find is known until the end. */
  readonly rewrites?: RewriteChoices
  readonly maxTrialValues: number
  /** Bytes of pre-transformed session images each runner keeps. */
  readonly cacheBytes: number
  /** Of the networks of one model of several, as many stay open as come to this by their files. */
  readonly networkBytes: number
  /** How long a cancelled job may go on before its runner is ended. */
  readonly cancelGraceMs: number
  readonly loadTimeoutMs: number
  readonly proveTimeoutMs: number
  /** Bytes a model may take while it is tried. */
  readonly proveMemoryBytes: number
  /** Models tried at a time. */
  readonly maxProofs: number
  /** Where networks that run elsewhere may be, and the bounds of a call. */
  readonly fetch: RunnerSettings['fetch']
  /** Runners for jobs without a model. */
  readonly toolRunners: number
  readonly observer?: SchedulerObserver
  readonly log?: Log
  readonly clock?: Clock
  readonly timers?: Timers
  readonly entry?: RunnerEntry
  readonly spawn?: SpawnRunner
  /** Resident bytes of a process, where they can be known. */
  readonly memoryOf?: (pid: number) => number | undefined
  /** Bytes that processes may still take before the system is out of memory. */
  readonly freeMemory?: () => number
  /** Cores that networks may use. */
  readonly cores?: number
  /** Milliseconds a process has computed, where that can be known. */
  readonly processorMs?: (pid: number) => number | undefined
}

/** Remote inference servers queue for themselves; this many requests at a time go to each. */
const REMOTE_SLOTS = 16

/**
 * How many networks at a time are given the cores where nobody has said it: about as many as each then has cores. Two on 2 to
 * 8 cores (measured on 2: two side by side, one thread each, answer a quarter more than one after the other on two).
 */
export function sharesOf(cores: number): number {
  return cores < 2 ? 1 : Math.max(2, Math.floor(Math.sqrt(cores)))
}

export function createScheduler(options: SchedulerOptions): Scheduler {
  return new ProcessScheduler(options)
}

class ProcessScheduler implements Scheduler {
  readonly #options: SchedulerOptions
  readonly #log: Log
  readonly #observer: SchedulerObserver
  readonly #clock: Clock
  readonly #timers: Timers
  readonly #memoryOf: (pid: number) => number | undefined
  readonly #lanes = new Map<string, Lane>()
  /** The revision that each model was replaced with last. */
  readonly #current = new Map<string, string>()
  readonly #tools: Lane
  readonly #history = new History()
  readonly #rewrites: RewriteChoices
  readonly #cores: number
  /** Runners of one model, at most; and networks that share the cores. */
  readonly #instances: number
  readonly #slots = new DeviceSlots((device) => {
    if (device === 'kserve' || device === 'none') return { places: REMOTE_SLOTS, whole: 1 }
    const places = device === 'cpu' ? this.#instances : 1
    return { places, whole: places }
  })
  /** Lanes that want a runner and wait for room, first come, first served. */
  readonly #waiting = new Set<Lane>()
  /** Few trials at a time: each may take much memory. */
  readonly #trialPlaces: Places
  readonly #trials = new Set<RunnerProcess>()
  #turns = 0
  #closing = false

  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#log = options.log ?? silentLog
    this.#observer = options.observer ?? nobody
    this.#clock = options.clock ?? systemClock
    this.#timers = options.timers ?? systemTimers
    this.#rewrites = options.rewrites ?? rememberedRewrites()
    this.#memoryOf = options.memoryOf ?? residentBytes
    this.#cores = options.cores ?? availableParallelism()
    this.#instances = options.instances === 'auto' ? sharesOf(this.#cores) : options.instances
    this.#trialPlaces = new Places(options.maxProofs)
    this.#tools = this.#makeLane('tools', undefined)
  }

  admit(model: ModelRef | undefined, request: JobRequest): void {
    this.#refuseWhenClosing()
    const lane = model ? this.#lanes.get(laneKey(model)) : this.#tools
    lane?.admit(request)
  }

  async runModel(
    request: JobRequest,
    model: ModelRef,
    job: InferenceJob,
    signal: AbortSignal,
    onProgress?: OnProgress,
  ): Promise<JobResult> {
    return this.#submit(this.#lane(model), request, job, signal, onProgress)
  }

  async runTool(request: JobRequest, job: ToolJob, signal: AbortSignal, onProgress?: OnProgress): Promise<JobResult> {
    return this.#submit(this.#tools, request, job, signal, onProgress)
  }

  async load(model: ModelRef): Promise<void> {
    this.#refuseWhenClosing()
    await this.#lane(model).load()
  }

  async prove(model: ModelRef, signal?: AbortSignal): Promise<ModelProof> {
    this.#refuseWhenClosing()
    const leave = await this.#trialPlaces.enter(signal)
    try {
      return await this.#try(model, signal)
    } finally {
      leave()
    }
  }

  async retire(name: string, exceptRevision?: string): Promise<void> {
    if (exceptRevision !== undefined) this.#current.set(name, exceptRevision)
    const old = [...this.#lanes.values()].filter(
      ({ options: { model } }) => model?.name === name && model.revision !== exceptRevision,
    )
    for (const lane of old) lane.retire()
    await Promise.all(old.map((lane) => lane.whenGone()))
    if (exceptRevision !== undefined) return
    this.#current.delete(name)
    this.#history.forget(`${name} `)
  }

  queues(): ReturnType<Scheduler['queues']> {
    return [...this.#lanes.values(), this.#tools].map(({ options, queued }) => ({ model: options.model?.name, queued }))
  }

  status(): readonly RunnerStatus[] {
    return [...this.#lanes.values()].flatMap((lane) => lane.status(this.#memoryOf))
  }

  async close(graceMs: number): Promise<void> {
    this.#closing = true
    const lanes = [...this.#lanes.values(), this.#tools]
    const closing = new AppError('SHUTTING_DOWN', 'the server is shutting down')
    for (const trial of this.#trials) void trial.stop()
    for (const lane of lanes) {
      lane.refuseQueued(closing)
      lane.stopIdle()
    }
    const quiet = Promise.all(lanes.map((lane) => lane.whenQuiet()))
    await this.#within(graceMs, quiet)
    for (const lane of lanes) lane.cancelRunning(closing)
    await this.#within(Math.min(this.#options.cancelGraceMs, 2000), quiet)
    await Promise.all([...lanes.map((lane) => lane.stopAll()), ...[...this.#trials].map((trial) => trial.stop())])
    await quiet
  }

  async #submit(
    lane: Lane,
    request: JobRequest,
    job: Job,
    signal: AbortSignal,
    onProgress?: OnProgress,
  ): Promise<JobResult> {
    this.#refuseWhenClosing()
    return lane.submit(request, job, signal, onProgress)
  }

  #refuseWhenClosing(): void {
    if (this.#closing) throw new AppError('SHUTTING_DOWN', 'the server is shutting down', { retryAfterSeconds: 5 })
  }

  /**
   * The lane of exactly this revision: an old and a new one may live side by side while the old finishes its jobs. A lane
   * that was told to end takes no more jobs, or it would never be done under traffic; those that come now get another.
   */
  #lane(model: ModelRef): Lane {
    const key = laneKey(model)
    const known = this.#lanes.get(key)
    const replaced = (this.#current.get(model.name) ?? model.revision) !== model.revision
    if (known && (replaced || !known.retired)) return known
    if (known) {
      this.#lanes.delete(key)
      this.#lanes.set(`${key} until turn ${++this.#turns}`, known)
    }
    const lane = this.#makeLane(model.name, model)
    this.#lanes.set(key, lane)
    if (replaced) lane.retire()
    return lane
  }

  #makeLane(name: string, model: ModelRef | undefined): Lane {
    const { maxQueuedJobs, keepAliveMs, loadTimeoutMs, toolRunners, instances, spareKeepAliveMs } = this.#options
    const lane: Lane = new Lane({
      name,
      model,
      size: model ? this.#instances : toolRunners,
      spareKeepAliveMs: model && instances === 'auto' ? spareKeepAliveMs : undefined,
      maxQueuedJobs,
      keepAliveMs,
      loadTimeoutMs,
      nextTurn: () => ++this.#turns,
      start: () =>
        this.#startRunner(name, {
          crowded: () => lane.crowded,
          onUnplannedEnd: (why) => this.#observer.runnerEnded(model?.name, why),
        }),
      mayStart: (lane) => !this.#closing && (model === undefined || this.#hasRoom(lane)),
      onChange: (lane) => this.#onChange(lane),
      rewrites: this.#rewrites,
      history: this.#history,
      clock: this.#clock,
      timers: this.#timers,
      observer: this.#observer,
      log: this.#log,
    })
    return lane
  }

  #startRunner(
    name: string,
    {
      memoryLimitBytes,
      ...events
    }: { memoryLimitBytes?: number } & Pick<RunnerProcessOptions, 'crowded' | 'onUnplannedEnd'>,
  ): RunnerProcess {
    const { device, cacheBytes, networkBytes, fetch, memoryBudgetBytes, rewriteTrialMs, maxTrialValues } = this.#options
    const instances = this.#instances
    const settings: RunnerSettings = {
      device,
      arena: memoryBudgetBytes === undefined,
      ...(instances > 1 ? { shareThreads: Math.max(1, Math.floor(this.#cores / instances)) } : {}),
      rewriteTrialMs,
      maxTrialValues,
      cacheBytes,
      networkBytes,
      fetch,
      ...(memoryLimitBytes === undefined ? {} : { memoryLimitBytes }),
    }
    return new RunnerProcess({
      name,
      settings,
      entry: this.#options.entry ?? runnerEntry(),
      spawn: this.#options.spawn ?? spawnRunner,
      slots: this.#slots,
      timers: this.#timers,
      log: this.#log,
      cancelGraceMs: this.#options.cancelGraceMs,
      processorMs: this.#options.processorMs ?? processorMs,
      ...events,
    })
  }

  /**
   * Whether a model's runner may start. If not, the lane waits in line and idle runners are ended for it; but not for a
   * further runner of a model that has one, which also leaves free as much memory as it may take.
   */
  #hasRoom(lane: Lane): boolean {
    if (lane.workers > 0) return this.#isRoom() && this.#waiting.size === 0 && this.#isMemoryFor(lane)
    const first = this.#waiting.values().next().value
    if (this.#isRoom() && (first === undefined || first === lane)) {
      this.#waiting.delete(lane)
      return true
    }
    this.#waiting.add(lane)
    this.#makeRoom()
    return false
  }

  #isRoom(): boolean {
    const loaded = this.#loaded()
    return loaded < this.#options.maxLoadedModels && (loaded === 0 || !this.#overBudget())
  }

  /** A further runner takes as much as those there are; where nobody said how many there may be, as much again stays free. */
  #isMemoryFor(lane: Lane): boolean {
    if (this.#options.instances !== 'auto') return true
    const free = (this.#options.freeMemory ?? process.availableMemory)()
    return lane.pids().every((pid) => free >= 2 * (this.#memoryOf(pid) ?? 0))
  }

  #loaded(): number {
    let count = 0
    for (const lane of this.#lanes.values()) count += lane.workers
    return count
  }

  #overBudget(): boolean {
    const budget = this.#options.memoryBudgetBytes
    if (budget === undefined) return false
    let used = 0
    for (const lane of this.#lanes.values()) for (const pid of lane.pids()) used += this.#memoryOf(pid) ?? 0
    return used > budget
  }

  /** Ends idle runners, least recently used first, until those that wait for room will have it. */
  #makeRoom(): void {
    const lanes = [...this.#lanes.values()]
    let stopping = lanes.reduce((sum, lane) => sum + lane.stopping, 0)
    const excess = this.#loaded() + this.#waiting.size - this.#options.maxLoadedModels
    const needed = Math.max(excess, this.#overBudget() ? 1 : 0)
    for (const lane of lanes) if (stopping < needed && lane.stopSpare()) stopping++
    const idle = lanes.filter((lane) => lane.idle).sort((a, b) => a.lastUsed - b.lastUsed)
    for (const lane of idle) {
      if (stopping >= needed) return
      lane.stopIdle()
      stopping++
    }
  }

  #onChange(lane: Lane): void {
    for (const [key, known] of this.#lanes) if (known.gone) this.#lanes.delete(key)
    for (const waiting of this.#waiting) if (!waiting.wantsRunner) this.#waiting.delete(waiting)
    // A busy model gives way to one that has waited longer than its own next job.
    const first = this.#waiting.values().next().value
    if (first && !this.#isRoom() && first.nextTurn < lane.nextTurn) lane.stopIdle()
    if (this.#waiting.size > 0 || this.#overBudget()) this.#makeRoom()
    for (const waiting of [...this.#waiting]) if (this.#isRoom()) waiting.pump()
    this.#slots.reconsider()
  }

  async #try(model: ModelRef, signal: AbortSignal | undefined): Promise<ModelProof> {
    this.#refuseWhenClosing()
    if (signal?.aborted) throw abortReason(signal)
    const { proveTimeoutMs, proveMemoryBytes } = this.#options
    const runner = this.#startRunner(model.name, { memoryLimitBytes: proveMemoryBytes })
    this.#trials.add(runner)
    let stopped: AppError | undefined
    const giveUp = (error: AppError) => {
      stopped ??= error
      void runner.stop()
    }
    const abort = () => signal && giveUp(abortReason(signal))
    signal?.addEventListener('abort', abort, { once: true })
    const clearTimer = this.#timers.after(proveTimeoutMs, () =>
      giveUp(badModel(`the model did not load and answer once within ${Math.round(proveTimeoutMs / 1000)} s`)),
    )
    try {
      return await runner.prove(model)
    } catch (error) {
      if (stopped) throw stopped
      this.#refuseWhenClosing()
      if (error instanceof RunnerEndedError)
        throw badModel(`the model ended the runner that tried it: ${error.message}`, error)
      if (error instanceof AppError && error.code === 'RUNNER_CRASHED') throw badModel(error.message, error)
      throw error
    } finally {
      clearTimer()
      signal?.removeEventListener('abort', abort)
      await runner.stop()
      this.#trials.delete(runner)
    }
  }

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    await new Promise<void>((resolve) => {
      const clearTimer = this.#timers.after(ms, resolve)
      void work.then(() => {
        clearTimer()
        resolve()
      })
    })
  }
}

function laneKey({ name, revision }: ModelRef): string {
  return `${name}@${revision}`
}

function rememberedRewrites(): RewriteChoices {
  const known = new Map<string, RewriteChoice>()
  return { known: (revision) => known.get(revision), keep: (revision, choice) => known.set(revision, choice) }
}

function badModel(message: string, cause?: unknown): AppError {
  return new AppError('BAD_MODEL', message, cause === undefined ? {} : { cause })
}
