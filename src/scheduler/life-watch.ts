/**
 * Whether a runner still lives: it is asked every quarter of a minute, and given up within a minute. One that computes
 * cannot answer, since a network's run blocks its thread; it lives as long as it uses a processor. One that neither
 * answers nor computes is stuck, or stopped, and would hold its device and its lane for ever.
 */
import type { Timers } from '../util/timers.js'

const ASK_EVERY_MS = 15_000
/** Questions without an answer. Counted rather than timed: after a machine has slept, one is overdue and not all. */
const MOST_UNANSWERED = 3
/** Of a processor, over the time between two questions; a runner that does nothing uses a tenth of that. */
const COMPUTES_FROM = 0.01

export interface LifeWatchOptions {
  readonly timers: Timers
  readonly ask: () => void
  /** Called once. */
  readonly onStuck: () => void
  /** Milliseconds the process has computed so far; undefined where that is not known. */
  readonly computedMs: () => number | undefined
  /** Whether it has something to compute: a runner that waits for work must answer. */
  readonly busy: () => boolean
}

export class LifeWatch {
  readonly #options: LifeWatchOptions
  #unanswered = 0
  #computed: number | undefined
  #clearTimer: () => void = () => {}

  constructor(options: LifeWatchOptions) {
    this.#options = options
    this.#wait()
  }

  /** It said something. */
  heard(): void {
    this.#unanswered = 0
  }

  end(): void {
    this.#clearTimer()
  }

  #wait(): void {
    this.#clearTimer = this.#options.timers.after(ASK_EVERY_MS, () => this.#look())
  }

  #look(): void {
    const { ask, busy, onStuck } = this.#options
    if (busy() && this.#computes()) this.#unanswered = 0
    if (this.#unanswered >= MOST_UNANSWERED) {
      onStuck()
      return
    }
    this.#unanswered++
    ask()
    this.#wait()
  }

  #computes(): boolean {
    const now = this.#options.computedMs()
    const before = this.#computed
    this.#computed = now
    if (now === undefined) return true
    return before === undefined || now - before >= COMPUTES_FROM * ASK_EVERY_MS
  }
}
