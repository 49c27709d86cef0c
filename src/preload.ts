/**
 * `--preload`: models brought into memory at start, in the background; the server is ready when each of them has been. A
 * model that cannot be loaded is tried again, since what is wrong with it may be put right while the server runs.
 */
import type { ModelRegistry } from './registry/registry.js'
import type { Scheduler } from './scheduler/scheduler.js'
import type { Log } from './util/log.js'
import { systemTimers, type Timers } from './util/timers.js'

const RETRY_MS = 15_000

export interface Preload {
  /** Undefined when every wanted model has been in memory; else what is missing. */
  reason(): string | undefined
  close(): void
}

export interface PreloadOptions {
  readonly registry: Pick<ModelRegistry, 'list' | 'resolve'>
  readonly scheduler: Pick<Scheduler, 'load' | 'status'>
  readonly log: Log
  readonly timers?: Timers
}

/** Starts loading `names` (`*`: every model that can be), one after the other, so that start-up memory has one peak. */
export function startPreload(
  names: readonly string[],
  { registry, scheduler, log, timers = systemTimers }: PreloadOptions,
): Preload {
  const all = names.includes('*')
  const usable = registry.list().filter(({ state }) => state !== 'FAILED')
  const wanted = all ? usable.map(({ name }) => name) : names
  const missing = new Map(wanted.map((name) => [name, 'is being loaded']))
  let stopRetry = () => {}
  let closed = false

  /** A model that somebody's request has loaded meanwhile, or, of `*`, one that is gone, is missing no more. */
  const strike = () => {
    const loaded = new Set(scheduler.status().flatMap(({ model, state }) => (state === 'loading' ? [] : [model])))
    const known = new Set(registry.list().map(({ name }) => name))
    for (const name of missing.keys()) if (loaded.has(name) || (all && !known.has(name))) missing.delete(name)
  }
  const loadMissing = async (): Promise<void> => {
    strike()
    for (const name of [...missing.keys()]) {
      if (closed) return
      try {
        await scheduler.load(registry.resolve(name))
        missing.delete(name)
      } catch (error) {
        const reason = `cannot be loaded: ${(error as Error).message}`
        if (missing.get(name) !== reason) log.warn({ model: name, err: error }, 'preload failed; it is tried again')
        missing.set(name, reason)
      }
    }
    if (missing.size > 0 && !closed) stopRetry = timers.after(RETRY_MS, () => void loadMissing())
  }
  void loadMissing()
  return {
    reason() {
      if (missing.size > 0) strike()
      const [first] = missing
      return first === undefined ? undefined : `model '${first[0]}' ${first[1]}`
    },
    close() {
      closed = true
      stopRetry()
    },
  }
}
