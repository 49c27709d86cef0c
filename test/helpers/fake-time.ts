import type { Clock } from '../../src/util/clock.js'
import type { Timers } from '../../src/util/timers.js'

/** Time that stands still until a test moves it. */
export class FakeTime implements Clock, Timers {
  #now = 0
  readonly #pending = new Set<{ readonly at: number; readonly work: () => void }>()

  now(): number {
    return this.#now
  }

  after(ms: number, work: () => void): () => void {
    const entry = { at: this.#now + ms, work }
    this.#pending.add(entry)
    return () => this.#pending.delete(entry)
  }

  /** Moves time on, firing what falls due in order. */
  advance(ms: number): void {
    const until = this.#now + ms
    for (;;) {
      const due = [...this.#pending].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0]
      if (!due) break
      this.#pending.delete(due)
      this.#now = due.at
      due.work()
    }
    this.#now = until
  }

  get pending(): number {
    return this.#pending.size
  }
}
