import { abortReason } from './abort-reason.js'

/** So many at a time, first come, first served. */
export class Places {
  #free: number
  readonly #line: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** Resolves when there is a place, with what gives it back. Rejects with the signal's reason when it aborts before. */
  async enter(signal?: AbortSignal): Promise<() => void> {
    if (signal?.aborted) throw abortReason(signal)
    if (this.#free > 0) this.#free--
    else
      await new Promise<void>((resolve, reject) => {
        const begin = () => {
          signal?.removeEventListener('abort', giveUp)
          resolve()
        }
        const giveUp = () => {
          this.#line.splice(this.#line.indexOf(begin), 1)
          reject(abortReason(signal!))
        }
        signal?.addEventListener('abort', giveUp, { once: true })
        this.#line.push(begin)
      })
    return () => {
      const next = this.#line.shift()
      if (next) next()
      else this.#free++
    }
  }
}
