/**
 * What `GET /metrics` tells Prometheus. Owned here: every metric's name, meaning and labels, and that no label takes what a
 * client wrote: a route is its pattern, a method, stage, code or kind comes from a closed list, a model is one of the
 * registry's and only so many have a name of their own.
 */
import { setTimeout as wait } from 'node:timers/promises'
import Counter from 'prom-client/lib/counter.js'
import Gauge from 'prom-client/lib/gauge.js'
import Histogram from 'prom-client/lib/histogram.js'
import Registry from 'prom-client/lib/registry.js'
import type { Stage } from '../contract/job.js'
import { ERROR_STATUS, type ErrorCode } from '../errors.js'

/** Models with a name of their own in the metrics, ever; the others are counted together. */
const MOST_MODELS = 100
const OTHER = 'other'
/** Jobs that need no model. */
const TOOLS = 'tools'

const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
const FETCH_KINDS = ['dicom', 'dicomweb', 'http'] as const
const UNPLANNED_ENDS = ['crash', 'memory', 'stuck', 'cancel'] as const
/** Of Node, and called as Prometheus would not: a gauge with the ending of a counter. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** The event loop is looked at every 10 ms: before it has been, its lag is no number. */
const FIRST_LAG_MS = 30

/** Seconds: from a click on a kept image to a whole body on a processor. */
const WORK_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const REQUEST_SECONDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

/** What is looked at when it is asked for. */
export interface MetricsSources {
  /** Names of the models there are. */
  readonly models: () => readonly { readonly name: string; readonly bytes?: number | undefined }[]
  readonly runners: () => readonly {
    readonly model: string
    readonly state: 'loading' | 'ready' | 'busy' | 'stopping'
    readonly rssBytes: number | undefined
  }[]
  readonly queues: () => readonly { readonly model: string | undefined; readonly queued: number }[]
  readonly sessions: () => { readonly sessions: number; readonly bytes: number }
  readonly images: () => { readonly total: number; readonly completed: number } | undefined
  readonly disk: () => Promise<{ readonly size: number; readonly free: number }>
  /** When the certificate ends, ms since the epoch; undefined without one. */
  readonly certificateEnds: () => number | undefined
}

/** The bounds that gauges are to be compared with. */
export interface MetricsLimits {
  readonly sessionBytes: number
  readonly sessions: number
  readonly queuedJobs: number
  readonly loadedModels: number
}

export interface RequestFacts {
  readonly method: string
  /** The pattern of the route; undefined where there is none. */
  readonly route: string | undefined
  readonly status: number
  readonly seconds: number
  readonly code: ErrorCode | undefined
}

type JobOutcome = { readonly timings: Readonly<Partial<Record<Stage, number>>> } | { readonly code: ErrorCode }

export class Metrics {
  readonly #registry = new Registry()
  readonly #models = new Set<string>()
  readonly #isOfProcess: boolean
  #process: Promise<void> | undefined
  #sources: MetricsSources | undefined

  readonly #requests = this.#counter('http_requests_total', 'Requests that have ended, by route and class of status.', [
    'method',
    'route',
    'status',
  ])
  readonly #requestSeconds = this.#histogram(
    'http_request_seconds',
    'From the first byte of a request to the last of its reply.',
    ['route'],
    REQUEST_SECONDS,
  )
  readonly #errors = this.#counter('errors_total', 'Replies that were an error, by its code.', ['code'])
  readonly #jobs = this.#counter('jobs_total', 'Jobs that have ended: done, failed, cancelled or out of time.', [
    'model',
    'outcome',
  ])
  readonly #failures = this.#counter('job_failures_total', 'Jobs that failed, by the code of their error.', [
    'model',
    'code',
  ])
  readonly #refusals = this.#counter('jobs_refused_total', 'Jobs that were not queued since too many wait.', ['model'])
  readonly #wait = this.#histogram('queue_wait_seconds', 'How long a job waited for a runner.', ['model'], WORK_SECONDS)
  readonly #stages = this.#histogram(
    'stage_seconds',
    'How long a stage of a job took.',
    ['model', 'stage'],
    WORK_SECONDS,
  )
  readonly #loads = this.#counter('model_loads_total', 'Runners that loaded their model, or did not.', [
    'model',
    'outcome',
  ])
  readonly #loadSeconds = this.#histogram('model_load_seconds', 'How long loading took.', ['model'], WORK_SECONDS)
  readonly #restarts = this.#counter('runner_restarts_total', 'Runners that ended without being told to, by why.', [
    'model',
    'reason',
  ])
  readonly #fetches = this.#counter('fetches_total', 'Images fetched from other servers, or not.', ['kind', 'outcome'])
  readonly #fetchSeconds = this.#histogram('fetch_seconds', 'How long fetching an image took.', ['kind'], WORK_SECONDS)
  readonly #auditFailures = this.#counter('audit_failures_total', 'Lines that the audit log could not take.', [])

  /** `process`: also what the process itself is like, from the first scrape on; once a process. */
  constructor(version: string, limits: MetricsLimits, { process: ofProcess }: { readonly process: boolean }) {
    this.#gauge('build_info', 'Always 1; the labels say what runs.', ['version', 'node'], (gauge) =>
      gauge.set({ version, node: process.version }, 1),
    )
    this.#gauge('queue_length', 'Jobs that wait.', ['model'], (gauge, { queues }) => {
      for (const { model, queued } of queues()) gauge.inc({ model: this.#labelOf(model) }, queued)
    })
    this.#gauge('queue_limit', 'Jobs that may wait for one model (--max-queued-jobs).', [], (gauge) =>
      gauge.set(limits.queuedJobs),
    )
    this.#gauge('runners', 'Runner processes with a model, by state.', ['model', 'state'], (gauge, { runners }) => {
      for (const { model, state } of runners()) gauge.inc({ model: this.#labelOf(model), state }, 1)
    })
    this.#gauge('models_loaded', 'Models in memory, every instance of one counted.', [], (gauge, { runners }) =>
      gauge.set(runners().filter(({ state }) => state === 'ready' || state === 'busy').length),
    )
    this.#gauge('models_loaded_limit', 'Models that may be in memory (--max-loaded-models).', [], (gauge) =>
      gauge.set(limits.loadedModels),
    )
    this.#gauge('runner_memory_bytes', 'Memory of the runners of a model.', ['model'], (gauge, { runners }) => {
      for (const { model, rssBytes } of runners()) gauge.inc({ model: this.#labelOf(model) }, rssBytes ?? 0)
    })
    this.#gauge('sessions', 'Live sessions.', [], (gauge, { sessions }) => gauge.set(sessions().sessions))
    this.#gauge('sessions_limit', 'Live sessions that there may be (--max-sessions).', [], (gauge) =>
      gauge.set(limits.sessions),
    )
    this.#gauge('session_bytes', 'Disk that sessions take.', [], (gauge, { sessions }) => gauge.set(sessions().bytes))
    this.#gauge('session_limit_bytes', 'Disk that sessions may take (--session-max-bytes).', [], (gauge) =>
      gauge.set(limits.sessionBytes),
    )
    this.#gauge('models', 'Models that the registry has.', [], (gauge, { models }) => gauge.set(models().length))
    this.#gauge('model_bytes', 'Disk that the weights of all models take.', [], (gauge, { models }) =>
      gauge.set(models().reduce((sum, { bytes }) => sum + (bytes ?? 0), 0)),
    )
    this.#gauge('workspace_free_bytes', 'Free room on the disk of the workspace.', [], async (gauge, { disk }) =>
      gauge.set((await disk()).free),
    )
    this.#gauge('workspace_size_bytes', 'Size of the disk of the workspace.', [], async (gauge, { disk }) =>
      gauge.set((await disk()).size),
    )
    this.#gauge(
      'datastore_images',
      'Images of the datastore, with and without a final label.',
      ['labelled'],
      (gauge, { images }) => {
        const counts = images()
        if (!counts) return
        gauge.set({ labelled: 'yes' }, counts.completed)
        gauge.set({ labelled: 'no' }, counts.total - counts.completed)
      },
    )
    this.#gauge(
      'certificate_end_timestamp_seconds',
      'When the certificate of --ssl-cert ends.',
      [],
      (gauge, { certificateEnds }) => {
        const ends = certificateEnds()
        if (ends !== undefined) gauge.set(ends / 1000)
      },
    )
    // A rate needs a first value: what is rare starts at nothing, not with its first event.
    for (const code of Object.keys(ERROR_STATUS)) this.#errors.inc({ code }, 0)
    for (const kind of FETCH_KINDS) this.#fetches.inc({ kind, outcome: 'done' }, 0)
    this.#isOfProcess = ofProcess
  }

  /** Where gauges look from now on. */
  watch(sources: MetricsSources): void {
    this.#sources = sources
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** In Prometheus's text format. */
  async text(): Promise<string> {
    if (this.#isOfProcess) {
      this.#process ??= this.#watchProcess()
      await this.#process
    }
    return this.#registry.metrics()
  }

  requestEnded({ method, route = '(unknown)', status, seconds, code }: RequestFacts): void {
    this.#requests.inc({
      method: METHODS.has(method) ? method : OTHER,
      route,
      status: `${Math.floor(status / 100)}xx`,
    })
    this.#requestSeconds.observe({ route }, seconds)
    if (code !== undefined) this.#errors.inc({ code })
  }

  jobBegan(model: string | undefined, waitMs: number): void {
    this.#wait.observe({ model: this.#labelOf(model) }, waitMs / 1000)
  }

  jobEnded(name: string | undefined, outcome: JobOutcome): void {
    const model = this.#labelOf(name)
    if ('timings' in outcome) {
      this.#jobs.inc({ model, outcome: 'done' })
      for (const [stage, ms] of Object.entries(outcome.timings)) this.#stages.observe({ model, stage }, ms / 1000)
      return
    }
    const { code } = outcome
    const isCancelled = code === 'CANCELLED' || code === 'SHUTTING_DOWN'
    const how = isCancelled ? 'cancelled' : code === 'DEADLINE_EXCEEDED' ? 'out_of_time' : 'failed'
    this.#jobs.inc({ model, outcome: how })
    if (how === 'failed') this.#failures.inc({ model, code })
  }

  jobRefused(model: string | undefined): void {
    this.#refusals.inc({ model: this.#labelOf(model) })
  }

  runnerLoaded(name: string | undefined, outcome: { readonly ms: number } | { readonly code: ErrorCode }): void {
    const model = this.#labelOf(name)
    this.#loads.inc({ model, outcome: 'ms' in outcome ? 'done' : 'failed' })
    if ('ms' in outcome) this.#loadSeconds.observe({ model }, outcome.ms / 1000)
    for (const reason of UNPLANNED_ENDS) this.#restarts.inc({ model, reason }, 0)
  }

  runnerEnded(model: string | undefined, reason: (typeof UNPLANNED_ENDS)[number]): void {
    this.#restarts.inc({ model: this.#labelOf(model), reason })
  }

  /** `source` is the body that says where from, as the client wrote it. */
  fetchEnded(source: object, outcome: 'done' | ErrorCode, seconds: number): void {
    const kind = FETCH_KINDS.find((name) => name in source) ?? OTHER
    const how = outcome === 'done' ? 'done' : outcome === 'CANCELLED' ? 'cancelled' : 'failed'
    this.#fetches.inc({ kind, outcome: how })
    this.#fetchSeconds.observe({ kind }, seconds)
  }

  auditFailed(): void {
    this.#auditFailures.inc()
  }

  /** The name while there are few, so that a registry that changes every day does not grow the metrics for ever. */
  #labelOf(model: string | undefined): string {
    if (model === undefined) return TOOLS
    if (this.#models.has(model)) return model
    if (this.#models.size >= MOST_MODELS) return OTHER
    this.#models.add(model)
    return model
  }

  /** From the first scrape on: a start would wait for its eighty files, and its watch on the event loop takes a timer ever after. */
  async #watchProcess(): Promise<void> {
    const { collectDefaultMetrics } = await import('prom-client')
    collectDefaultMetrics({ register: this.#registry })
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name)
    await wait(FIRST_LAG_MS)
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name: `aidant_${name}`, help, labelNames, registers: [this.#registry] })
  }

  #histogram<L extends string>(name: string, help: string, labelNames: readonly L[], buckets: number[]): Histogram<L> {
    return new Histogram({ name: `aidant_${name}`, help, labelNames, buckets, registers: [this.#registry] })
  }

  /** One that is looked up anew each time it is asked for. */
  #gauge<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    look: (gauge: Gauge<L>, sources: MetricsSources) => void | Promise<void>,
  ): void {
    const sources = () => this.#sources
    new Gauge({
      name: `aidant_${name}`,
      help,
      labelNames,
      registers: [this.#registry],
      async collect() {
        this.reset()
        const known = sources()
        if (known) await look(this, known)
      },
    })
  }
}
