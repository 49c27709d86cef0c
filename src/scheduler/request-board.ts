/**
 * What clients may know of the requests under way: where each stands, and a way to call it off. Also keeps the results of
 * asynchronous requests until they are fetched or expire.
 */
import { AppError, type ErrorRecord, toErrorRecord } from '../errors.js'
import type { JobResult } from '../runner/job.js'
import type { Clock } from '../util/clock.js'
import type { JobProgress } from './scheduler.js'

export type RequestState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled'

export interface RequestView {
  /** Secret: it opens the result. */
  readonly id: string
  /** What the client, or the log, calls it. */
  readonly trace: string
  /** Who asked; only for deciding what to show to whom. */
  readonly client: string
  readonly task: string
  readonly model: string | undefined
  readonly state: RequestState
  /** Absent once the request has ended. */
  readonly progress: JobProgress | undefined
  /** Milliseconds since the epoch. */
  readonly createdAt: number
  readonly finishedAt: number | undefined
  readonly error: ErrorRecord | undefined
  /** Whether GET /v1/requests/{id}/result has something to give. */
  readonly hasResult: boolean
}

export interface StoredResult {
  readonly result: JobResult
  /** Frees what the result occupies on disk. Called once, when it has been fetched or has expired. */
  readonly discard: () => Promise<void>
}

export interface BoardOptions {
  readonly clock: Clock
  /** How long an asynchronous result waits to be fetched (`--result-expiry`). */
  readonly resultExpirySeconds: number
  /** How long an ended request stays visible, so that a poller sees how it ended. */
  readonly lingerSeconds: number
  /** Ended requests remembered at most; the oldest go first. */
  readonly maxEnded: number
}

export const BOARD_DEFAULTS = { lingerSeconds: 60, maxEnded: 1000 } as const

/** How often what has expired is looked for. */
const SWEEP_MS = 10_000

export interface NewRequest {
  readonly id: string
  readonly trace: string
  readonly client: string
  readonly task: string
  readonly model?: string | undefined
  /** Called with the reason when a client calls the request off. */
  readonly abort: (reason: AppError) => void
}

/** The side of a request that does the work. */
export interface RequestHandle {
  readonly progress: (progress: JobProgress) => void
  readonly end: (error?: unknown) => void
  /** Ends the request with a result that waits to be fetched. */
  readonly keep: (stored: StoredResult) => void
}

interface Entry {
  view: RequestView
  readonly abort: NewRequest['abort']
  stored: StoredResult | undefined
  readonly listeners: Set<() => void>
}

export class RequestBoard {
  readonly #options: BoardOptions
  readonly #entries = new Map<string, Entry>()
  readonly #sweeper: NodeJS.Timeout

  constructor(options: BoardOptions) {
    this.#options = options
    this.#sweeper = setInterval(() => void this.sweep(), SWEEP_MS)
    this.#sweeper.unref()
  }

  /** Rejects BUSY_NAME while a request of that id is under way or its result waits. */
  open(request: NewRequest): RequestHandle {
    const known = this.#entries.get(request.id)
    if (known && (isUnderWay(known.view) || known.stored))
      throw new AppError('BUSY_NAME', `a request with the id '${request.id}' is under way`, {
        hint: 'give every request its own X-Request-Id, or none',
      })
    const entry: Entry = {
      view: {
        id: request.id,
        trace: request.trace,
        client: request.client,
        task: request.task,
        model: request.model,
        state: 'queued',
        progress: undefined,
        createdAt: this.#options.clock.now(),
        finishedAt: undefined,
        error: undefined,
        hasResult: false,
      },
      abort: request.abort,
      stored: undefined,
      listeners: known?.listeners ?? new Set(),
    }
    this.#entries.delete(request.id)
    this.#entries.set(request.id, entry)
    return {
      progress: (progress) => this.#change(entry, { state: progress.state, progress }),
      end: (error) => this.#end(entry, error, undefined),
      keep: (stored) => this.#end(entry, undefined, stored),
    }
  }

  list(): readonly RequestView[] {
    return [...this.#entries.values()].map(({ view }) => view)
  }

  /** Throws REQUEST_NOT_FOUND. */
  get(id: string): RequestView {
    return this.#entry(id).view
  }

  /** Calls the request off, or throws its waiting result away. */
  async cancel(id: string): Promise<RequestView> {
    const entry = this.#entry(id)
    if (isUnderWay(entry.view)) entry.abort(new AppError('CANCELLED', 'the request was cancelled by DELETE'))
    else await this.#discard(entry)
    return entry.view
  }

  /**
   * The result of an asynchronous request, once: the caller discards it when it has been sent. Throws REQUEST_NOT_READY,
   * or the error the request ended with.
   */
  take(id: string): StoredResult {
    const entry = this.#entry(id)
    const { view, stored } = entry
    if (isUnderWay(view))
      throw new AppError('REQUEST_NOT_READY', 'the request has not ended yet', {
        hint: `watch GET /v1/requests/${id}`,
        retryAfterSeconds: 1,
      })
    if (view.error) throw new AppError(view.error.code, view.error.message, hintOf(view.error))
    if (!stored)
      throw new AppError(
        'REQUEST_NOT_FOUND',
        'the result of this request was fetched already, has expired or was sent',
        {
          hint: 'only requests made with async=true keep a result, for one fetch',
        },
      )
    entry.stored = undefined
    this.#change(entry, { hasResult: false })
    return stored
  }

  /** Calls `listener` on every change of the request until the returned function is called. Throws REQUEST_NOT_FOUND. */
  subscribe(id: string, listener: () => void): () => void {
    const { listeners } = this.#entry(id)
    listeners.add(listener)
    return () => listeners.delete(listener)
  }

  /** Forgets what has lingered or waited long enough. */
  async sweep(): Promise<void> {
    const { clock, lingerSeconds, resultExpirySeconds, maxEnded } = this.#options
    const now = clock.now()
    const ended = [...this.#entries.values()].filter(({ view }) => view.finishedAt !== undefined)
    const surplus = ended.length - maxEnded
    for (const [i, entry] of ended.entries()) {
      const age = now - entry.view.finishedAt!
      const expired = age >= (entry.stored ? resultExpirySeconds : lingerSeconds) * 1000
      if (!expired && (i >= surplus || entry.stored)) continue
      this.#entries.delete(entry.view.id)
      await this.#discard(entry)
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper)
    for (const entry of this.#entries.values()) await this.#discard(entry)
    this.#entries.clear()
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id)
    if (!entry) throw new AppError('REQUEST_NOT_FOUND', `no request has the id '${id.slice(0, 80)}'`)
    return entry
  }

  #end(entry: Entry, error: unknown, stored: StoredResult | undefined): void {
    if (!isUnderWay(entry.view)) return
    entry.stored = stored
    const record = error === undefined ? undefined : toErrorRecord(error)
    const state = record === undefined ? 'done' : record.code === 'CANCELLED' ? 'cancelled' : 'failed'
    const finishedAt = this.#options.clock.now()
    this.#change(entry, { state, progress: undefined, error: record, finishedAt, hasResult: stored !== undefined })
  }

  #change(entry: Entry, change: Partial<RequestView>): void {
    if (!isUnderWay(entry.view) && change.state !== undefined) return
    entry.view = { ...entry.view, ...change }
    for (const listener of [...entry.listeners]) listener()
  }

  async #discard(entry: Entry): Promise<void> {
    const { stored } = entry
    if (!stored) return
    entry.stored = undefined
    this.#change(entry, { hasResult: false })
    await stored.discard()
  }
}

export function isUnderWay({ state }: Pick<RequestView, 'state'>): boolean {
  return state === 'queued' || state === 'running'
}

function hintOf({ hint }: ErrorRecord): { hint?: string } {
  return hint === undefined ? {} : { hint }
}
