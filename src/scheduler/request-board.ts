/**
 * What clients may know of the requests under way: where each stands, and a way to call it off. Also keeps the results of
 * asynchronous requests until they are fetched or expire.
 */

import type { JobResult } from '../contract/job.js'
import { AppError, type ErrorRecord, toErrorRecord } from '../errors.js'
import { Background } from '../util/background.js'
import type { Clock } from '../util/clock.js'
import type { Log } from '../util/log.js'
import type { Timers } from '../util/timers.js'
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
  /** The kind of reply that was asked for when the request was made, and that the result was computed for. */
  readonly output?: string | undefined
  /** Frees what the result occupies on disk. Called once, when it has been delivered or has expired. */
  readonly discard: () => Promise<void>
}

/** A stored result while it is being sent: its files stay until it is given back. */
export interface BorrowedResult extends Omit<StoredResult, 'discard'> {
  /**
   * Ends the loan, once. `delivered` says whether the client has the result, which then is gone; if not it waits to be
   * fetched again. While a promise of it is open nobody else is given the result.
   */
  readonly giveBack: (delivered: boolean | Promise<boolean>) => void
}

export interface BoardOptions {
  readonly clock: Clock
  /** How long an asynchronous result waits to be fetched (`--result-expiry`). */
  readonly resultExpirySeconds: number
  /** How long an ended request stays visible, so that a poller sees how it ended. */
  readonly lingerSeconds: number
  /** Ended requests remembered at most; the oldest go first. */
  readonly maxEnded: number
  /** Results that may wait to be fetched, those still being computed included (`--max-kept-results`). */
  readonly maxKept: number
  readonly log: Log
  readonly timers?: Timers
}

export const BOARD_DEFAULTS = { lingerSeconds: 60, maxEnded: 1000 } as const

/** Retry-After when too many results wait to be fetched. */
const KEPT_RETRY_SECONDS = 10

/** How often what has expired is looked for. */
const SWEEP_MS = 10_000

export interface NewRequest {
  readonly id: string
  readonly trace: string
  readonly client: string
  readonly task: string
  readonly model?: string | undefined
  /** Whether its result will wait to be fetched. */
  readonly keepsResult?: boolean
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
  readonly keepsResult: boolean
  stored: StoredResult | undefined
  /** Delivered, thrown away or expired: not given out again, and freed with the last loan. */
  spent: boolean
  /** Loans of `stored` that are out, and those of them of which it is not known yet whether the client has the result. */
  borrowers: number
  delivering: number
  readonly listeners: Set<() => void>
}

export class RequestBoard {
  readonly #options: BoardOptions
  readonly #entries = new Map<string, Entry>()
  readonly #background: Background

  constructor(options: BoardOptions) {
    this.#options = options
    this.#background = new Background(options.log, options.timers)
    this.#background.every(SWEEP_MS, 'expired results', () => this.sweep())
  }

  /** Throws BUSY_NAME while a request of that id is under way or its result waits, BUSY when too many results wait. */
  open(request: NewRequest): RequestHandle {
    const known = this.#entries.get(request.id)
    if (known && (isUnderWay(known.view) || known.stored))
      throw new AppError('BUSY_NAME', `a request with the id '${request.id}' is under way`, {
        hint: 'give every request its own X-Request-Id, or none',
      })
    if (request.keepsResult && this.#kept() >= this.#options.maxKept)
      throw new AppError('BUSY', `${this.#options.maxKept} results of async requests wait to be fetched already`, {
        hint: 'fetch or DELETE those you have; --max-kept-results sets how many may wait',
        retryAfterSeconds: KEPT_RETRY_SECONDS,
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
      keepsResult: request.keepsResult ?? false,
      stored: undefined,
      spent: false,
      borrowers: 0,
      delivering: 0,
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
  cancel(id: string): RequestView {
    const entry = this.#entry(id)
    if (isUnderWay(entry.view)) {
      const reason = new AppError('CANCELLED', 'the request was cancelled by DELETE')
      entry.abort(reason)
      this.#end(entry, reason, undefined)
    } else this.#throwAway(entry)
    return entry.view
  }

  /**
   * Lends the result of an asynchronous request to be sent. Throws REQUEST_NOT_READY, or the error the request ended with,
   * or REQUEST_NOT_FOUND when the result was delivered already or has expired.
   */
  borrow(id: string): BorrowedResult {
    const entry = this.#entry(id)
    const { view, stored } = entry
    if (isUnderWay(view))
      throw new AppError('REQUEST_NOT_READY', 'the request has not ended yet', {
        hint: `watch GET /v1/requests/${id}`,
        retryAfterSeconds: 1,
      })
    if (view.error) throw new AppError(view.error.code, view.error.message, hintOf(view.error))
    if (!stored || !view.hasResult)
      throw new AppError(
        'REQUEST_NOT_FOUND',
        'the result of this request was fetched already, has expired or was sent',
        {
          hint: 'only requests made with async=true keep a result, for one fetch',
        },
      )
    entry.borrowers++
    let isOut = true
    const giveBack: BorrowedResult['giveBack'] = (delivered) => {
      if (!isOut) return
      isOut = false
      void this.#endLoan(entry, delivered)
    }
    return { result: stored.result, output: stored.output, giveBack }
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
      if (entry.borrowers > 0 || (!expired && (i >= surplus || entry.stored))) continue
      this.#entries.delete(entry.view.id)
      this.#throwAway(entry)
    }
  }

  async close(): Promise<void> {
    // What is being sent just now goes with the server's temporary folder.
    for (const entry of this.#entries.values()) this.#throwAway(entry)
    this.#entries.clear()
    await this.#background.close()
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id)
    if (!entry) throw new AppError('REQUEST_NOT_FOUND', `no request has the id '${id.slice(0, 80)}'`)
    return entry
  }

  #end(entry: Entry, error: unknown, stored: StoredResult | undefined): void {
    if (!isUnderWay(entry.view)) {
      // Called off while it came to its end.
      if (stored) void this.#background.start('removing a result', stored.discard)
      return
    }
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

  async #endLoan(entry: Entry, delivered: boolean | Promise<boolean>): Promise<void> {
    if (delivered !== false) {
      entry.delivering++
      this.#offer(entry)
      if (await delivered) entry.spent = true
      entry.delivering--
    }
    entry.borrowers--
    this.#offer(entry)
    this.#freeIfSpent(entry)
  }

  #throwAway(entry: Entry): void {
    entry.spent = true
    this.#offer(entry)
    this.#freeIfSpent(entry)
  }

  /** Shows whether there is a result to fetch. */
  #offer(entry: Entry): void {
    const hasResult = entry.stored !== undefined && !entry.spent && entry.delivering === 0
    if (hasResult !== entry.view.hasResult) this.#change(entry, { hasResult })
  }

  #freeIfSpent(entry: Entry): void {
    const { stored } = entry
    if (!stored || !entry.spent || entry.borrowers > 0) return
    entry.stored = undefined
    void this.#background.start('removing a result', stored.discard)
  }

  #kept(): number {
    let kept = 0
    for (const { keepsResult, view } of this.#entries.values())
      if (view.hasResult || (keepsResult && isUnderWay(view))) kept++
    return kept
  }
}

export function isUnderWay({ state }: Pick<RequestView, 'state'>): boolean {
  return state === 'queued' || state === 'running'
}

function hintOf({ hint }: ErrorRecord): { hint?: string } {
  return hint === undefined ? {} : { hint }
}
