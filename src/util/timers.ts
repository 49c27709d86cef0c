/** Later, as an argument, so that tests move time instead of sleeping. */
export interface Timers {
  /** Calls `work` once after `ms`, unless the returned function is called first. */
  after(ms: number, work: () => void): () => void
}

/** The longest that setTimeout can wait; it takes longer times for 1 ms. */
const LONGEST_MS = 2 ** 31 - 1

/** Node's own; they never keep the process alive. */
export const systemTimers: Timers = {
  after(ms, work) {
    const timer = setTimeout(work, Math.min(Math.max(ms, 0), LONGEST_MS))
    timer.unref()
    return () => clearTimeout(timer)
  },
}
