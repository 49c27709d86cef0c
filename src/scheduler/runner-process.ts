import type { Job, JobResult } from '../contract/job.js'
import type { ModelProof, ModelRef, RewriteChoice } from '../contract/model.js'
import { FromRunner, type RunnerSettings } from '../contract/wire.js'
import { AppError, type ErrorRecord, fromErrorRecord } from '../errors.js'
import { MEMORY_LIMIT_SIGNAL } from '../runner/watchdog.js'
import { lastWords } from '../util/error-trace.js'
import type { Log } from '../util/log.js'
import type { Timers } from '../util/timers.js'
import type { DeviceLease, DeviceSlots } from './device-slots.js'
import { LifeWatch } from './life-watch.js'
import type { UnplannedEnd } from './observer.js'
import type { RunnerChannel, RunnerEntry, SpawnRunner } from './spawn-runner.js'

export interface RunnerProcessOptions {
  /** The model's name, for messages; 'tool' for a runner without a model. */
  readonly name: string
  readonly entry: RunnerEntry
  readonly settings: RunnerSettings
  readonly spawn: SpawnRunner
  readonly slots: DeviceSlots
  /** Whether other jobs of its model want the device as well, in runners of their own. */
  readonly crowded?: (() => boolean) | undefined
  readonly timers: Timers
  readonly log: Log
  readonly cancelGraceMs: number
  /** Milliseconds the process of that id has computed; undefined where that is not known. */
  readonly processorMs: (pid: number) => number | undefined
  /** Told when the program ends although nobody wanted its end for its own sake. */
  readonly onUnplannedEnd?: ((why: UnplannedEnd) => void) | undefined
}

/** The program ended before it answered; the request that it worked on is lost, the next one gets a fresh program. */
export class RunnerEndedError extends AppError {}

type OnStage = (progress: Pick<Extract<FromRunner, { type: 'progress' }>, 'stage' | 'done' | 'total' | 'part'>) => void

interface Running {
  readonly id: number
  readonly onStage: OnStage
  readonly resolve: (result: JobResult) => void
  readonly reject: (error: AppError) => void
  lease: DeviceLease | undefined
  clearKill: (() => void) | undefined
  /** Why the job has failed although it goes on: it said what nobody can read. */
  fault: AppError | undefined
}

interface Starting {
  readonly resolve: (message: Extract<FromRunner, { type: 'loaded' | 'proved' }>) => void
  readonly reject: (error: AppError) => void
}

/** One runner program: loads once, then works on one job at a time, until it is ended or ends by itself. */
export class RunnerProcess {
  readonly exited: Promise<void>
  readonly #options: RunnerProcessOptions
  readonly #channel: RunnerChannel
  #starting: Starting | undefined
  #running: Running | undefined
  #jobs = 0
  #device: string | undefined
  #rewrites: Readonly<Record<string, RewriteChoice>> = {}
  #fallbackReason: string | undefined
  #shares = false
  #spent = false
  #ended = false
  #stopping = false
  #stuck = false
  #deaf = false
  #outOfMemory = false
  #watch: LifeWatch | undefined

  constructor(options: RunnerProcessOptions) {
    this.#options = options
    let exited = () => {}
    this.exited = new Promise((resolve) => {
      exited = resolve
    })
    this.#channel = options.spawn(options.entry, {
      message: (message) => this.#receive(message),
      exit: (code, signal, output) => {
        this.#onExit(code, signal, output)
        exited()
      },
    })
  }

  get pid(): number | undefined {
    return this.#channel.pid
  }

  /** What trials of networks rewritten found, by the revision of the model. */
  get rewrites(): Readonly<Record<string, RewriteChoice>> {
    return this.#rewrites
  }

  get device(): string | undefined {
    return this.#device
  }

  get fallbackReason(): string | undefined {
    return this.#fallbackReason
  }

  /** Whether its networks can run on a share of the cores. */
  get shares(): boolean {
    return this.#shares
  }

  /** Whether it must be replaced after what happened in its last job. */
  get spent(): boolean {
    return this.#spent
  }

  /** Loads the model, or gets ready for tool jobs. Once only. */
  async load(model: ModelRef | undefined): Promise<void> {
    const answer = this.#answer()
    this.#channel.send({ type: 'load', model, settings: this.#options.settings })
    const message = await answer
    if (message.type !== 'loaded') throw new AppError('INTERNAL', 'a runner answered out of turn')
    this.#device = message.device
    this.#rewrites = message.rewrites ?? {}
    this.#fallbackReason = message.fallbackReason
    this.#shares = message.shares === true
    this.#startWatch()
  }

  /** Tries a model instead of loading it for use. */
  async prove(model: ModelRef): Promise<ModelProof> {
    const answer = this.#answer()
    this.#channel.send({ type: 'prove', model, settings: this.#options.settings })
    const message = await answer
    if (message.type !== 'proved') throw new AppError('INTERNAL', 'a runner answered out of turn')
    return message.proof
  }

  /** Works on one job. Rejects with the job's own error, or RunnerEndedError when the program ended meanwhile. */
  run(job: Job, onStage: OnStage): Promise<JobResult> {
    const id = ++this.#jobs
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(this.#endedError(null, null))
        return
      }
      this.#running = { id, onStage, resolve, reject, lease: undefined, clearKill: undefined, fault: undefined }
      this.#channel.send({ type: 'run', id, job })
    })
  }

  /** Until it has loaded, the deadline of loading is watch enough. */
  #startWatch(): void {
    const { timers, log, name, processorMs } = this.#options
    this.#watch = new LifeWatch({
      timers,
      ask: () => this.#channel.send({ type: 'ping' }),
      computedMs: () => (this.pid === undefined ? undefined : processorMs(this.pid)),
      busy: () => this.#running !== undefined,
      onStuck: () => {
        log.error({ runner: name, pid: this.pid }, 'runner neither answers nor computes: ended')
        this.#stuck = true
        void this.stop()
      },
    })
  }

  /** Asks the running job to stop; a job that does not, within the grace, ends with its program. */
  cancel(): void {
    const running = this.#running
    if (!running || running.clearKill) return
    this.#channel.send({ type: 'cancel', id: running.id })
    running.clearKill = this.#options.timers.after(this.#options.cancelGraceMs, () => {
      this.#options.log.warn({ runner: this.#options.name }, 'runner did not stop within the grace: ended')
      this.#deaf = true
      this.stop()
    })
  }

  /** Ends the program now and resolves when it is gone. */
  stop(): Promise<void> {
    this.#stopping = true
    if (!this.#ended) this.#channel.kill()
    return this.exited
  }

  #answer(): Promise<Extract<FromRunner, { type: 'loaded' | 'proved' }>> {
    return new Promise((resolve, reject) => {
      if (this.#ended) reject(this.#endedError(null, null))
      else this.#starting = { resolve, reject }
    })
  }

  #receive(raw: unknown): void {
    this.#watch?.heard()
    const parsed = FromRunner.safeParse(raw)
    if (!parsed.success) {
      this.#receiveUnreadable(raw, parsed.error)
      return
    }
    const message = parsed.data
    switch (message.type) {
      case 'pong':
        return
      case 'loaded':
      case 'proved':
        this.#endStart((starting) => starting.resolve(message))
        return
      case 'failed':
        this.#spent = true
        this.#logFault(message.error)
        this.#endStart((starting) => starting.reject(fromErrorRecord(message.error)))
        return
      default:
        this.#receiveForJob(message)
    }
  }

  /** A fault of ours in one message: it costs what it was about, the load or the job, and never the loaded model. */
  #receiveUnreadable(raw: unknown, problem: Error): void {
    const { type, id } = (typeof raw === 'object' && raw !== null ? raw : {}) as { type?: unknown; id?: unknown }
    this.#options.log.error(
      { runner: this.#options.name, type, err: problem },
      'runner sent a message that cannot be read',
    )
    const error = new AppError('INTERNAL', 'a runner sent a message that cannot be read', { cause: problem })
    this.#endStart((starting) => starting.reject(error))
    const running = this.#running
    if (!running || type === 'progress') return
    running.fault = error
    // After the job's last word the runner is free again; after any other the job goes on, and is asked to stop.
    if (id === running.id && (type === 'done' || type === 'error')) this.#endJob((job) => job.reject(error))
    else this.cancel()
  }

  #receiveForJob(message: Extract<FromRunner, { id: number }>): void {
    const running = this.#running
    if (running?.id !== message.id) return
    switch (message.type) {
      case 'progress':
        running.onStage(message)
        return
      case 'want': {
        running.lease?.release()
        const { id } = message
        running.lease = this.#options.slots.acquire(this.#device ?? 'none', {
          mayShare: () => this.#shares && this.#options.crowded?.() === true,
          onGrant: (shared) => this.#channel.send({ type: 'grant', id, shared }),
          onWanted: () => this.#channel.send({ type: 'yield', id }),
        })
        return
      }
      case 'release':
        running.lease?.release()
        return
      case 'done':
        this.#endJob((job) => job.resolve(message.result))
        return
      case 'error':
        if (message.spent) {
          this.#spent = true
          this.#outOfMemory = message.error.code === 'RUNNER_CRASHED'
        }
        this.#logFault(message.error)
        this.#endJob((job) => job.reject(fromErrorRecord(message.error)))
    }
  }

  #onExit(code: number | null, signal: NodeJS.Signals | null, output: string): void {
    this.#ended = true
    this.#spent = true
    this.#watch?.end()
    const why = this.#unplannedEnd(signal)
    if (why) this.#options.onUnplannedEnd?.(why)
    if (!this.#stopping)
      this.#options.log.warn(
        { runner: this.#options.name, code, signal, output: withoutPaths(lastWords(output)) },
        'runner ended unexpectedly',
      )
    const error = this.#endedError(code, signal)
    this.#endStart((starting) => starting.reject(error))
    this.#endJob((job) => job.reject(error))
  }

  /** Undefined when somebody wanted it to end. */
  #unplannedEnd(signal: NodeJS.Signals | null): UnplannedEnd | undefined {
    if (this.#stuck) return 'stuck'
    if (this.#deaf) return 'cancel'
    if (this.#outOfMemory || signal === MEMORY_LIMIT_SIGNAL) return 'memory'
    return this.#stopping ? undefined : 'crash'
  }

  #endStart(answer: (starting: Starting) => void): void {
    const starting = this.#starting
    this.#starting = undefined
    if (starting) answer(starting)
  }

  #endJob(answer: (running: Running) => void): void {
    const running = this.#running
    this.#running = undefined
    if (!running) return
    running.lease?.release()
    running.clearKill?.()
    if (running.fault) running.reject(running.fault)
    else answer(running)
  }

  /** What a client never sees still has to be found: our own faults go to the log with their stack. */
  #logFault(error: ErrorRecord): void {
    if (error.code === 'INTERNAL')
      this.#options.log.error({ runner: this.#options.name, stack: error.stack }, 'a job failed by a fault of ours')
  }

  #endedError(code: number | null, signal: NodeJS.Signals | null): RunnerEndedError {
    const { name, settings } = this.#options
    const limit = settings.memoryLimitBytes
    if (signal === MEMORY_LIMIT_SIGNAL && limit !== undefined)
      return new RunnerEndedError('RUNNER_CRASHED', `the runner of '${name}' needed more than ${megabytes(limit)}`, {
        hint: 'a smaller window or fewer channels need less',
      })
    if (this.#stuck)
      return new RunnerEndedError('RUNNER_CRASHED', `the runner of '${name}' was stuck and has been replaced`, {
        hint: 'try again; see the server log if it recurs',
        retryAfterSeconds: 1,
      })
    const how = signal ?? (code === null ? 'gone' : `exit code ${code}`)
    return new RunnerEndedError(
      'RUNNER_CRASHED',
      `the runner of '${name}' ended unexpectedly (${how}) during this request; the next one gets a fresh runner`,
      {
        hint:
          signal === 'SIGKILL' ? 'the system may have run out of memory' : 'try again; see the server log if it recurs',
        retryAfterSeconds: 1,
      },
    )
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MB of memory`
}

/** Native libraries print source and file locations; a log has no use for the latter. */
function withoutPaths(text: string): string {
  return text.replaceAll(/(?:[A-Za-z]:)?[\\/][^\s"':]*/g, '…').trim()
}
