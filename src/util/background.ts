/**
 * Work that no request waits for: a look at the disk now and then, the removal of what nobody needs. Owned here: that a
 * failure of it is logged and tried again, and never ends the process.
 */
import type { Log } from './log.js'
import { systemTimers, type Timers } from './timers.js'

/** Pauses before a failed piece of work is tried again: from the first to the longest, doubling. */
const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 5 * 60_000

export class Background {
  readonly #log: Pick<Log, 'warn'>
  readonly #timers: Timers
  readonly #running = new Set<Promise<void>>()
  /** Ends the waiting of those that pause, which then give up. */
  readonly #wakes = new Set<() => void>()
  #closed = false

  constructor(log: Pick<Log, 'warn'>, timers: Timers = systemTimers) {
    this.#log = log
    this.#timers = timers
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Does `work` every `ms`, counted from the end of the round before. What fails is logged; the next round is another try. */
  every(ms: number, what: string, work: () => Promise<void>): void {
    void this.#track(async () => {
      while (await this.#pause(ms)) await this.#try(what, work)
    })
  }

  /** Does `work` now, and again after a while until it succeeds. Resolves after the first try; never rejects. */
  async start(what: string, work: () => Promise<void>): Promise<void> {
    const first = this.#try(what, work)
    void this.#track(async () => {
      let isDone = await first
      for (let pause = FIRST_PAUSE_MS; !isDone; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
        if (!(await this.#pause(pause))) return
        isDone = await this.#try(what, work)
      }
    })
    await first
  }

  /** Starts nothing more, and waits for what is under way. */
  async close(): Promise<void> {
    this.#closed = true
    for (const wake of this.#wakes) wake()
    await Promise.all(this.#running)
  }

  async #try(what: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work()
      return true
    } catch (error) {
      this.#log.warn({ err: error, what }, 'background work failed; it is tried again')
      return false
    }
  }

  /** False when this was closed meanwhile. */
  #pause(ms: number): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    return new Promise((resolve) => {
      const clearTimer = this.#timers.after(ms, () => {
        this.#wakes.delete(wake)
        resolve(true)
      })
      const wake = () => {
        this.#wakes.delete(wake)
        clearTimer()
        resolve(false)
      }
      this.#wakes.add(wake)
    })
  }

  #track(work: () => Promise<void>): Promise<void> {
    const running = work().finally(() => this.#running.delete(running))
    this.#running.add(running)
    return running
  }
}
