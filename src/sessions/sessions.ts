/** An image uploaded once and used by many requests. Owned here: the shape of a session and what the store promises. */
import type { ResultExtension } from '../formats/format.js'

/** What meta.json keeps, and what a client sees of it. Times are milliseconds since the epoch. */
export interface SessionMeta {
  readonly id: string
  readonly createdAt: number
  /** Seconds of life after the last use. */
  readonly expirySeconds: number
  /** Bytes on disk: the source and the decoded volume. */
  readonly bytes: number
  /** The extension that results get unless the request names another. */
  readonly extension: ResultExtension
  /** File name inside the session's folder of what GET ?image=true returns, and its media type. */
  readonly source: { readonly file: string; readonly contentType: string }
  /** Facts of the decoded image for the client: size, channels, spacing, dtype, notes. */
  readonly image: Readonly<Record<string, unknown>>
  /** How many files came, and how many the peer had announced, when the image was fetched. */
  readonly received?: { readonly files: number; readonly announced?: number | undefined } | undefined
  /** Where the server itself fetched the image, when it did: by this the session is found again. Never told to a client. */
  readonly origin?: string | undefined
}

export interface Session {
  readonly meta: SessionMeta
  readonly lastAccessAt: number
  /** The decoded, uncompressed volume. */
  readonly volumePath: string
  readonly sourcePath: string
  /** The original DICOM files, when the image came as a series; a DICOM SEG refers to them. */
  readonly seriesPaths: readonly string[]
}

/** A session held by a request: never expired or evicted until released. */
export interface HeldSession extends Session {
  /** Once more is nothing. Never rejects; what cannot be tidied up now is tried again. */
  release(): Promise<void>
}

export interface NewSession {
  /** A folder with the decoded `volume.nii`, the source file and, for a series, `series/`; moved into the store whole. */
  readonly folder: string
  readonly expirySeconds?: number | undefined
  readonly extension: ResultExtension
  readonly source: SessionMeta['source']
  readonly image: SessionMeta['image']
  readonly received?: SessionMeta['received']
  readonly origin?: SessionMeta['origin']
}

export interface Sessions {
  /** Takes the folder over. Makes room by removing the oldest idle sessions; rejects TOO_LARGE or BUSY when it cannot. */
  create(session: NewSession): Promise<Session>
  /** For inference: renews the session and holds it. Rejects SESSION_EXPIRED (440) when it is unknown, expired or malformed. */
  hold(id: string): Promise<HeldSession>
  /** As `hold`, by the origin; undefined when no live session is of it. */
  holdOrigin(origin: string): Promise<HeldSession | undefined>
  /** For GET: rejects SESSION_NOT_FOUND (404). `renew` counts as a use. */
  get(id: string, options: { renew: boolean }): Promise<HeldSession>
  /** Rejects SESSION_NOT_FOUND (404). A request that holds the session keeps its files until it ends. */
  remove(id: string): Promise<Session>
  /** Live sessions and bytes, for metrics and the page. */
  usage(): { readonly sessions: number; readonly bytes: number }
  close(): Promise<void>
}
