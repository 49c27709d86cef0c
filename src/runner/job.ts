/** What the server asks a runner to do and what comes back: paths and JSON, never voxels. */
import type { DtypeName, ReadLimits, ResultExtension } from '../formats/format.js'

/** One input image: its files on disk (several for a DICOM series or a .hdr/.img pair), and under which field it enters the pipeline. */
export interface JobImage {
  readonly field: string
  readonly paths: readonly string[]
  /** Identifies a session's image, so that a runner may keep it decoded; absent for one-shot uploads. */
  readonly cacheKey?: string | undefined
  /** What the client's own file was, where `paths` hold a decoded copy of it (a session's volume). */
  readonly extension?: ResultExtension | undefined
  /** True where `paths` hold a decoded copy of a DICOM series: an NRRD result has its rows in the series' own order then. */
  readonly fromDicom?: boolean | undefined
  /** What the reader of the client's own file said of it, where `paths` hold a decoded copy. */
  readonly notes?: readonly string[] | undefined
}

export interface ResultWish {
  /** Whether the client wants a file at all (`output=results` does not). */
  readonly file: boolean
  readonly extension?: ResultExtension | undefined
  readonly dtype?: DtypeName | undefined
  readonly compress?: boolean | undefined
  /** A DICOM SEG object instead of a label map; needs a DICOM series as input. */
  readonly dicomSeg?: boolean | undefined
}

export type InferenceTask = 'segmentation' | 'dextr3d' | 'deepgrow' | 'inference'

interface JobBase {
  readonly images: readonly JobImage[]
  /** The request's params, JSON decoded, not yet checked. */
  readonly params: Readonly<Record<string, unknown>>
  /** Where the params lie as JSON text when they are too long to be read while others wait; `params` is then empty. */
  readonly paramsPath?: string | undefined
  readonly wish: ResultWish
  /** An existing empty folder of this request; everything a job writes goes there. */
  readonly outDir: string
  readonly limits: ReadLimits
}

export interface InferenceJob extends JobBase {
  readonly kind: 'inference'
  readonly task: InferenceTask
}

/** Jobs of a tool runner: they need no model. */
export interface ToolJob extends JobBase {
  readonly kind: 'mask2polygon' | 'fixpolygon' | 'ingest'
}

export type Job = InferenceJob | ToolJob

export type Stage = 'read' | 'pre' | 'wait' | 'infer' | 'post' | 'write'

export interface JobResult {
  /** Where the result lies, if the job made one; the caller streams and removes it. */
  readonly file?: { readonly path: string; readonly extension: string; readonly contentType: string } | undefined
  /** JSON for the client. mask2polygon's bare array lies in a file (contentType application/json) instead. */
  readonly params: Readonly<Record<string, unknown>>
  /** Where the JSON for the client lies as text, notes included, when it is long; `params` is then empty. */
  readonly paramsPath?: string | undefined
  /** Milliseconds spent in each stage. */
  readonly timings: Readonly<Partial<Record<Stage, number>>>
  /** 'cpu', 'cuda:0', 'kserve'; absent for tool jobs. */
  readonly device?: string | undefined
  /** What the user should know: a CUDA fallback, a reader's note. */
  readonly notes: readonly string[]
}

/** What a pipeline may ask and tell while it works. */
export interface JobControl {
  /** Call between windows and between stages: tells the progress, then lets a cancel message in. Throws CANCELLED. */
  checkpoint(stage: Stage, done: number, total: number): Promise<void>
  /** Runs `work` while holding the device slot of this runner. */
  withDevice<T>(work: () => Promise<T>): Promise<T>
}
