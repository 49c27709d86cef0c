/** Counts wrong tokens by who sends them, so that a guesser neither fills the log nor gets an answer to each guess. */
import { isIP } from 'node:net'
import { LRUCache } from 'lru-cache'
import { ipv6Words } from '../util/ip-address.js'

const WINDOW_MS = 60_000
/** Addresses remembered; the one that was quiet longest is forgotten first. */
const MOST_ADDRESSES = 10_000

export interface Attempt {
  /** How many this address has made within the last minute or so, this one included. */
  readonly count: number
  /** Whether it is one too many. */
  readonly tooMany: boolean
  readonly retryAfterSeconds: number
}

export class FailedAttempts {
  readonly #perMinute: number
  readonly #now: () => number
  readonly #windows = new LRUCache<string, { readonly since: number; count: number }>({ max: MOST_ADDRESSES })

  constructor(perMinute: number, now: () => number = Date.now) {
    this.#perMinute = perMinute
    this.#now = now
  }

  add(address: string): Attempt {
    const key = neighbourhood(address)
    const now = this.#now()
    let window = this.#windows.get(key)
    if (!window || now - window.since >= WINDOW_MS) window = { since: now, count: 0 }
    window.count++
    this.#windows.set(key, window)
    return {
      count: window.count,
      tooMany: window.count > this.#perMinute,
      retryAfterSeconds: Math.ceil((window.since + WINDOW_MS - now) / 1000),
    }
  }
}

/** One machine has 2^64 addresses of IPv6 to choose from: those of one network count together. */
function neighbourhood(address: string): string {
  return isIP(address) === 6 ? `${ipv6Words(address).slice(0, 4).join(':')}/64` : address
}
