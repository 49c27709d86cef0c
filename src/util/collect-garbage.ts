/**
 * The engine's collector, called by hand. Voxels lie outside its heap, so that gigabytes of arrays which nobody uses any
 * more look small to it, and may stay until long after the next ones were made.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

let collect: (() => void) | undefined

/** Gives back what unused arrays hold. Some ten milliseconds: not for every request. */
export function collectGarbage(): void {
  if (!collect) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as () => void
  }
  collect()
}
