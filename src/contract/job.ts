/** What the server asks a runner to do and what comes back: paths and JSON, never voxels. */
import { z } from 'zod'
import { DtypeName, ReadLimits, ResultExtension } from './files.js'

/** One input image: its files on disk (several for a DICOM series or a .hdr/.img pair), and under which field it enters the pipeline. */
export const JobImage = z
  .object({
    field: z.string(),
    paths: z.array(z.string()).readonly(),
    /** Identifies a session's image, so that a runner may keep it decoded; absent for one-shot uploads. */
    cacheKey: z.string().optional(),
    /** What the client's own file was, where `paths` hold a decoded copy of it (a session's volume). */
    extension: ResultExtension.optional(),
    /** True where `paths` hold a decoded copy of a DICOM series: an NRRD result has its rows in the series' own order then. */
    fromDicom: z.boolean().optional(),
    /** Samples of a colour pixel (as ReadResult says), where `paths` hold a decoded copy of a colour image. */
    colours: z.literal([3, 4]).optional(),
    /** What the reader of the client's own file said of it, where `paths` hold a decoded copy. */
    notes: z.array(z.string()).readonly().optional(),
    /** What is wrong with the gaps between a session's slices, where they differ. */
    uneven: z.string().optional(),
  })
  .readonly()
export type JobImage = z.infer<typeof JobImage>

/** The slices of the DICOM series that the label map of a job lies on. */
export const SERIES_FIELD = 'series'
/** Beside a label that is to be stored: the image it was drawn on, decoded, and its slices if that is a DICOM series. */
export const LABELLED_FIELD = 'labelled'
export const SLICES_FIELD = 'slices'

/** One file of an upload, as it came. */
export const JobFile = z.object({ field: z.string(), path: z.string() }).readonly()
export type JobFile = z.infer<typeof JobFile>

export const ResultWish = z
  .object({
    /** Whether the client wants a file at all (`output=results` does not). */
    file: z.boolean(),
    extension: ResultExtension.optional(),
    dtype: DtypeName.optional(),
    compress: z.boolean().optional(),
    /** A DICOM SEG object instead of a label map; needs a DICOM series as input. */
    dicomSeg: z.boolean().optional(),
  })
  .readonly()
export type ResultWish = z.infer<typeof ResultWish>

export const InferenceTask = z.enum(['segmentation', 'dextr3d', 'deepgrow', 'inference'])
export type InferenceTask = z.infer<typeof InferenceTask>

const base = {
  /** What is known to be one image each: those of a session, and what was fetched. */
  images: z.array(JobImage).readonly(),
  /** What was uploaded, which comes before those: which files belong together, only a look into them tells. */
  files: z.array(JobFile).readonly().optional(),
  /** The request's params, JSON decoded, not yet checked. */
  params: z.record(z.string(), z.unknown()).readonly(),
  /** Where the params lie as JSON text when they are too long to be read while others wait; `params` is then empty. */
  paramsPath: z.string().optional(),
  wish: ResultWish,
  /** An existing empty folder of this request; everything a job writes goes there. */
  outDir: z.string(),
  limits: ReadLimits,
}

export const InferenceJob = z
  .object({
    ...base,
    kind: z.literal('inference'),
    task: InferenceTask,
    /** Only get ready for clicks on this image: prepare it, and run the encoder of a model of two parts. */
    prepare: z
      .object({
        /** The slice that will be clicked, counted from 0; the middle one by default. */
        slice: z.number().optional(),
      })
      .readonly()
      .optional(),
  })
  .readonly()
export type InferenceJob = z.infer<typeof InferenceJob>

/** Jobs of a tool runner: they need no model. */
export const ToolJob = z
  .object({
    ...base,
    kind: z.enum(['mask2polygon', 'fixpolygon', 'dicomSeg', 'ingest', 'ingestLabel', 'labelVolume', 'seriesFile']),
  })
  .readonly()
export type ToolJob = z.infer<typeof ToolJob>

export const Job = z.union([InferenceJob, ToolJob])
export type Job = z.infer<typeof Job>

/** `encoder` and `decoder` are the two networks of a model of parts, within `infer`. */
export const Stage = z.enum(['read', 'pre', 'wait', 'infer', 'encoder', 'decoder', 'post', 'write'])
export type Stage = z.infer<typeof Stage>

export const JobResult = z
  .object({
    /** Where the result lies, if the job made one; the caller streams and removes it. */
    file: z.object({ path: z.string(), extension: z.string(), contentType: z.string() }).readonly().optional(),
    /** JSON for the client. mask2polygon's bare array lies in a file (contentType application/json) instead. */
    params: z.record(z.string(), z.unknown()).readonly(),
    /** Where the JSON for the client lies as text, notes included, when it is long; `params` is then empty. */
    paramsPath: z.string().optional(),
    /** Milliseconds spent in each stage; an encoder that did not have to run has 0. */
    timings: z.partialRecord(Stage, z.number()).readonly(),
    /** 'cpu', 'cuda:0', 'kserve'; absent for tool jobs. */
    device: z.string().optional(),
    /** What the user should know: a CUDA fallback, a reader's note. */
    notes: z.array(z.string()).readonly(),
  })
  .readonly()
export type JobResult = z.infer<typeof JobResult>

/** What a pipeline may ask and tell while it works. */
export interface JobControl {
  /** Aborted, with the reason CANCELLED, when the server wants the job to end: for what reads or waits. */
  readonly signal: AbortSignal
  /**
   * Call between windows and between stages: tells the progress, then lets a cancel message in. Throws CANCELLED. `part`
   * names which part of a model of several works, for people; `done` and `total` are those of the part.
   */
  checkpoint(stage: Stage, done: number, total: number, part?: string): Promise<void>
  /** Runs `work` while holding the device slot of this runner. */
  withDevice<T>(work: () => Promise<T>): Promise<T>
}
