/** `--preload`: models brought into memory at start, in the background; the server is ready when all of them are. */
import type { ModelRegistry } from './registry/registry.js'
import type { Scheduler } from './scheduler/scheduler.js'
import type { Log } from './util/log.js'

export interface Preload {
  /** Undefined when every wanted model is in memory; else what is missing. */
  reason(): string | undefined
}

/** Starts loading `names` (`*`: every model that can be), one after the other, so that start-up memory has one peak. */
export function startPreload(
  names: readonly string[],
  registry: Pick<ModelRegistry, 'list' | 'resolve'>,
  scheduler: Pick<Scheduler, 'load'>,
  log: Log,
): Preload {
  const all = names.includes('*')
  const usable = () => registry.list().filter(({ state }) => state !== 'FAILED')
  const wanted = all ? usable().map(({ name }) => name) : names
  const missing = new Map(wanted.map((name) => [name, 'is being loaded']))
  void (async () => {
    for (const name of wanted) {
      try {
        await scheduler.load(registry.resolve(name))
        missing.delete(name)
      } catch (error) {
        missing.set(name, `cannot be loaded: ${(error as Error).message}`)
        log.warn({ model: name, err: error }, 'preload failed')
      }
    }
  })()
  return {
    reason() {
      const [first] = missing
      return first === undefined ? undefined : `model '${first[0]}' ${first[1]}`
    },
  }
}
