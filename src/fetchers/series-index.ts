/** What the DICOMweb server holds, as it was at the last look: asked for again when that is older than it may be. */
import type { Clock } from '../util/clock.js'
import type { DicomwebServer, Listing } from './dicomweb-server.js'

export interface SeriesIndexOptions {
  readonly server: Pick<DicomwebServer, 'list'>
  readonly clock: Clock
  /** How old an answer may be (`--dicomweb-refresh`). */
  readonly maxAgeMs: number
  /** A look that no request waits for has failed. */
  readonly onFailure: (error: unknown) => void
}

export interface SeriesIndex {
  /** Waits for a look where the last one is too old. Rejects as `DicomwebServer.list`. */
  list(): Promise<Listing>
  /** At once, however old; undefined before the first look. One that is too old is renewed meanwhile. */
  known(): Listing | undefined
  /** A label of this series was stored just now: it counts as labelled at once, and the next list is a new look. */
  labelled(seriesUid: string): void
  close(): void
}

export function createSeriesIndex({ server, clock, maxAgeMs, onFailure }: SeriesIndexOptions): SeriesIndex {
  const end = new AbortController()
  let last: { readonly listing: Listing; readonly at: number } | undefined
  let looking: Promise<Listing> | undefined
  let triedAt = Number.NEGATIVE_INFINITY
  /** Labels stored while a look was under way: it may have come before them. */
  let stored: string[] = []

  const look = (): Promise<Listing> => {
    if (looking) return looking
    triedAt = clock.now()
    looking = server
      .list(end.signal)
      .then((listing) => {
        last = { listing: withLabels(listing, stored), at: stored.length > 0 ? Number.NEGATIVE_INFINITY : triedAt }
        return last.listing
      })
      .finally(() => {
        looking = undefined
        stored = []
      })
    return looking
  }
  const isFresh = () => last !== undefined && clock.now() - last.at < maxAgeMs

  return {
    async list() {
      return isFresh() ? last!.listing : look()
    },
    known() {
      // After a failure as well: a server that is down is not asked by every request.
      if (!isFresh() && clock.now() - triedAt >= maxAgeMs && !end.signal.aborted)
        look().catch((error: unknown) => {
          if (!end.signal.aborted) onFailure(error)
        })
      return last?.listing
    },
    labelled(seriesUid) {
      if (looking) stored.push(seriesUid)
      if (last) last = { listing: withLabels(last.listing, [seriesUid]), at: Number.NEGATIVE_INFINITY }
    },
    close() {
      end.abort(new Error('the server closes'))
    },
  }
}

function withLabels(listing: Listing, stored: readonly string[]): Listing {
  if (stored.length === 0) return listing
  const more = stored.filter((seriesUid) => !listing.labels.has(seriesUid))
  return { ...listing, labels: new Map([...listing.labels, ...more.map((uid) => [uid, undefined] as const)]) }
}
