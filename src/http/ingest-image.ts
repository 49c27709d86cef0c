/** An image that is to be stored: a tool runner decodes it once, into a folder that a store then takes over whole. */
import { z } from 'zod'
import type { ToolJob } from '../contract/job.js'
import { RESULT_EXTENSIONS } from '../formats/format.js'
import type { Scheduler } from '../scheduler/scheduler.js'
import type { Call } from './compute-request.js'

/** What the ingest job says of the image. */
const Ingested = z.object({
  extension: z.enum(RESULT_EXTENSIONS),
  source: z.object({ file: z.string(), contentType: z.string() }),
  image: z.record(z.string(), z.unknown()),
})

export interface IngestedImage extends z.infer<typeof Ingested> {
  /** `volume.nii`, the source, and `series/` of a DICOM series. */
  readonly folder: string
}

/** Decodes the images or files of the job into its `outDir`. Rejects what the reader refuses. `notes` are kept with its own. */
export async function ingestImage(
  scheduler: Pick<Scheduler, 'runTool'>,
  job: Pick<ToolJob, 'images' | 'files' | 'outDir' | 'limits'>,
  { request, signal, onProgress }: Call,
  notes: readonly string[] = [],
): Promise<IngestedImage> {
  const ingest: ToolJob = { kind: 'ingest', params: {}, wish: { file: false }, ...job }
  const found = Ingested.parse((await scheduler.runTool(request, ingest, signal, onProgress)).params)
  if (notes.length === 0) return { ...found, folder: job.outDir }
  const own = Array.isArray(found.image.notes) ? found.image.notes : []
  return { ...found, image: { ...found.image, notes: [...own, ...notes] }, folder: job.outDir }
}
