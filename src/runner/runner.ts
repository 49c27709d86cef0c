/**
 * The runner's program: owns one model (or none: a tool runner) and works on one job at a time. `main.ts` starts it
 * with the real pipelines; tests start it with small ones.
 */
import { performance } from 'node:perf_hooks'
import type { InferenceJob, Job, JobResult } from '../contract/job.js'
import type { ModelProof } from '../contract/model.js'
import { clipped, type FromRunner, type RunnerSettings, ToRunner } from '../contract/wire.js'
import { AppError, toErrorRecord } from '../errors.js'
import type { RunInference, RunTool } from '../pipelines/run.js'
import { ModelChangedError } from '../predictors/model-changed.js'
import { isOutOfMemory, OutOfMemoryError } from '../predictors/out-of-memory.js'
import type { CoreUse } from '../predictors/shared-cores.js'
import { RunnerJobControl } from './job-control.js'
import type { LoadedModels } from './load-model.js'
import { VolumeCache } from './volume-cache.js'
import { startWatchdog, volunteerForOutOfMemory } from './watchdog.js'

/** What a runner can do, each loaded when it is first asked for: a runner without a model needs no network's engine. */
export interface Pipelines {
  readonly inference: () => Promise<RunInference>
  readonly tool: () => Promise<RunTool>
  readonly proof: () => Promise<(models: LoadedModels, maxTrialValues: number) => Promise<ModelProof>>
}

export function startRunner(pipelines: Pipelines): void {
  volunteerForOutOfMemory()
  const runner = new Runner(pipelines, send)
  process.on('message', (message) => runner.receive(ToRunner.parse(message)))
  // The server is gone: nobody wants the result.
  process.on('disconnect', () => process.exit(0))
  // Ctrl-C in a terminal and a service manager's stop reach the whole group; the server decides when its runners end.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => {})
}

function send(message: FromRunner): void {
  process.send?.(clipped(message), (error: Error | null) => {
    if (error) process.exit(1)
  })
}

class Runner {
  readonly #pipelines: Pipelines
  readonly #send: (message: FromRunner) => void
  #models: LoadedModels | undefined
  #cache = new VolumeCache(0)
  readonly #cores: CoreUse = { shared: false }
  #running: { readonly id: number; readonly control: RunnerJobControl } | undefined

  constructor(pipelines: Pipelines, send: (message: FromRunner) => void) {
    this.#pipelines = pipelines
    this.#send = send
  }

  receive(message: ToRunner): void {
    switch (message.type) {
      case 'load':
        void this.#load(message.settings, async () => {
          // With the model rather than with its first job, which somebody waits for.
          if (message.model === undefined) await this.#pipelines.tool()
          else {
            const [{ loadModels }] = await Promise.all([import('./load-model.js'), this.#pipelines.inference()])
            this.#models = await loadModels(message.model, message.settings, this.#cores)
          }
          const predictor = this.#models?.model.predictor
          this.#send({
            type: 'loaded',
            device: predictor?.device ?? 'none',
            ...(predictor?.fallbackReason === undefined ? {} : { fallbackReason: predictor.fallbackReason }),
            ...(this.#models?.rewrites ? { rewrites: this.#models.rewrites } : {}),
            ...(this.#models?.shares ? { shares: true } : {}),
          })
        })
        return
      case 'prove':
        void this.#load(message.settings, async () => {
          const [{ loadModels }, prove] = await Promise.all([import('./load-model.js'), this.#pipelines.proof()])
          const models = await loadModels(message.model, message.settings)
          const rewrites = models.rewrites[message.model.revision]
          const proof = await prove(models, message.settings.maxTrialValues)
          this.#send({ type: 'proved', proof: { ...proof, ...(rewrites ? { rewrites } : {}) } })
        })
        return
      case 'run':
        void this.#run(message.id, message.job)
        return
      case 'cancel':
        if (this.#running?.id === message.id) this.#running.control.cancel()
        return
      case 'grant':
        if (this.#running?.id === message.id) {
          this.#cores.shared = message.shared
          this.#running.control.granted()
        } else this.#send({ type: 'release', id: message.id })
        return
      case 'yield':
        if (this.#running?.id === message.id) this.#running.control.yield()
        return
      case 'ping':
        this.#send({ type: 'pong' })
    }
  }

  async #load(settings: RunnerSettings, load: () => Promise<void>): Promise<void> {
    try {
      startWatchdog(settings.memoryLimitBytes)
      this.#cache = new VolumeCache(settings.cacheBytes)
      await load()
    } catch (error) {
      this.#send({ type: 'failed', error: failure(error).error })
    }
  }

  async #run(id: number, job: Job): Promise<void> {
    const control = new RunnerJobControl({
      report: (stage, done, total, part) =>
        this.#send({ type: 'progress', id, stage, done, total, ...(part === undefined ? {} : { part }) }),
      want: () => this.#send({ type: 'want', id }),
      release: () => this.#send({ type: 'release', id }),
      now: () => performance.now(),
    })
    this.#running = { id, control }
    try {
      const result = await this.#work(job, control)
      this.#send({
        type: 'done',
        id,
        result: { ...result, timings: timings(control, result), notes: [...result.notes] },
      })
    } catch (error) {
      this.#send({ type: 'error', id, ...failure(error) })
    } finally {
      this.#running = undefined
    }
  }

  async #work(job: Job, control: RunnerJobControl): Promise<JobResult> {
    if (job.kind !== 'inference') return (await this.#pipelines.tool())(job, control)
    const models = this.#models
    if (!models) throw new AppError('INTERNAL', 'an inference job reached a runner without a model')
    const result = await this.#infer(job, models, control)
    const { device, fallbackReason } = models.model.predictor
    return {
      ...result,
      device: result.device ?? device,
      notes:
        fallbackReason === undefined || result.notes.includes(fallbackReason)
          ? result.notes
          : [...result.notes, fallbackReason],
    }
  }

  async #infer(job: InferenceJob, { model, parts }: LoadedModels, control: RunnerJobControl): Promise<JobResult> {
    const runInference = await this.#pipelines.inference()
    return runInference(job, { model, parts, control, cache: this.#cache })
  }
}

/** A pipeline may time its stages itself; waiting for the device is known here only. Whole milliseconds would hide clicks. */
function timings(control: RunnerJobControl, result: JobResult): Record<string, number> {
  const all = { ...control.timings(), ...result.timings }
  return Object.fromEntries(Object.entries(all).map(([stage, ms]) => [stage, Math.round(ms * 100) / 100]))
}

function failure(error: unknown): Pick<Extract<FromRunner, { type: 'error' }>, 'error' | 'spent'> {
  const told = !(error instanceof AppError) && isOutOfMemory(error) ? new OutOfMemoryError('the job', error) : error
  return {
    error: toErrorRecord(told),
    spent: told instanceof OutOfMemoryError || told instanceof ModelChangedError,
  }
}
