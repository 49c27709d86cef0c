/** What every fetcher works with: whom it may contact, where files go, and how much is enough. */
import { AppError } from '../errors.js'
import type { FetchPolicy } from '../util/fetch-policy.js'

export interface FetchLimits {
  /** Bytes of all files of one fetch. */
  readonly maxBytes: number
  readonly maxFiles: number
  /** For the whole fetch. */
  readonly seconds: number
  /** To connect, and between two signs of life of the peer. */
  readonly silenceSeconds: number
}

/** Counts bytes and files down; one per fetch. */
export interface FetchBudget {
  /** Throws TOO_LARGE when the fetch has taken more bytes than it may. */
  take(bytes: number): void
  /** Throws TOO_LARGE when there are more files than there may be. */
  file(): void
}

export interface FetchContext {
  readonly policy: FetchPolicy
  /** An existing folder of this request. */
  readonly folder: string
  readonly limits: FetchLimits
  readonly budget: FetchBudget
  /** Fires when the client is gone or the fetch has taken its time; its reason is an AppError in the latter case. */
  readonly signal: AbortSignal
}

export interface Fetched {
  readonly paths: readonly string[]
  /** Files that arrived. */
  readonly received: number
  /** Files the peer said there are, if it did. */
  readonly reported?: number
  readonly notes: readonly string[]
}

export function createBudget(limits: FetchLimits): FetchBudget {
  let bytes = limits.maxBytes
  let files = limits.maxFiles
  return {
    take(count) {
      bytes -= count
      if (bytes < 0)
        throw new AppError('TOO_LARGE', `the fetched files come to over ${limits.maxBytes} bytes`, {
          hint: 'The limit is --max-upload-bytes.',
        })
    },
    file() {
      files--
      if (files < 0) throw new AppError('TOO_LARGE', `the server sends over ${limits.maxFiles} files`)
    },
  }
}

/**
 * One fetch, with a budget of its own: `work` gets a context whose signal fires when `signal` does, or when the fetch has
 * taken its time; then with FETCH_FAILED.
 */
export async function withinLimits<T>(
  { policy, folder, limits, signal }: Omit<FetchContext, 'budget'>,
  work: (context: FetchContext) => Promise<T>,
): Promise<T> {
  const late = new AbortController()
  const timer = setTimeout(
    () => late.abort(new AppError('FETCH_FAILED', `the retrieval took over ${limits.seconds} s and was given up`)),
    limits.seconds * 1000,
  )
  try {
    const both = AbortSignal.any([signal, late.signal])
    return await work({ policy, folder, limits, budget: createBudget(limits), signal: both })
  } finally {
    clearTimeout(timer)
  }
}
