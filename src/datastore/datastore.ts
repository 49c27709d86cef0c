/** Images and labels that stay: kept under a client's own words until somebody wants them for training. */
import type { ResultExtension } from '../formats/format.js'

/** One upload of an image. What lies in its folder is what a session has: the decoded volume, the source, the series. */
export interface ImageVersion {
  /** Its folder's name, and the key under which runners keep it: another upload has another. */
  readonly id: string
  /** Milliseconds since the epoch. */
  readonly createdAt: number
  /** On disk, the decoded volume among them. */
  readonly bytes: number
  /** Of the upload, in hexadecimal: the same bytes again are not a new version. */
  readonly sha256: string
  /** The extension that results get unless the request names another. */
  readonly extension: ResultExtension
  /** What a download gives, its media type, and the sha256 of that. */
  readonly source: { readonly file: string; readonly contentType: string; readonly sha256: string }
  /** Facts of the decoded image: format, size, spacing, notes. */
  readonly image: Readonly<Record<string, unknown>>
}

export interface LabelVersion {
  readonly id: string
  readonly createdAt: number
  readonly bytes: number
  readonly file: string
  readonly contentType: string
  /** What the client said beside it (`params`), as it said it. */
  readonly info: Readonly<Record<string, unknown>>
}

/** What is stored under one id; the newest versions. */
export interface StoredItem {
  /** Free text of a client. */
  readonly id: string
  readonly image: ImageVersion
  /** By tag. */
  readonly labels: ReadonlyMap<string, LabelVersion>
  /** Uploads of the image and of all its labels that are kept, the newest among them. */
  readonly versions: number
}

/** The newest image of an id, held: it does not expire until it is released. */
export interface HeldItem {
  readonly meta: ImageVersion
  readonly volumePath: string
  readonly sourcePath: string
  readonly seriesPaths: readonly string[]
  release(): Promise<void>
}

export interface NewImage extends Pick<ImageVersion, 'sha256' | 'extension' | 'image'> {
  /** With `volume.nii`, the source and, for a series, `series/`; taken over whole. */
  readonly folder: string
  readonly source: Pick<ImageVersion['source'], 'file' | 'contentType'>
}

export interface NewLabel extends Pick<LabelVersion, 'file' | 'contentType' | 'info'> {
  /** With the file; taken over whole. */
  readonly folder: string
}

export interface Datastore {
  /** In order of arrival. */
  list(): readonly StoredItem[]
  /** `completed`: images with a final label. */
  counts(): { readonly total: number; readonly completed: number }
  find(id: string): StoredItem | undefined
  /** Rejects NOT_FOUND, as all that follow and take an id. */
  get(id: string): StoredItem
  hold(id: string): Promise<HeldItem>
  /** Where the newest label of a tag lies. Counts as a use. */
  labelFile(id: string, tag: string): Promise<{ readonly path: string; readonly label: LabelVersion }>
  /** Keeps what was there before as a version. Rejects BAD_PARAMS for an id that is none, TOO_LARGE when the datastore is full. */
  putImage(id: string, image: NewImage): Promise<StoredItem>
  putLabel(id: string, tag: string, label: NewLabel): Promise<StoredItem>
  close(): Promise<void>
}
