/** One image of a job, as it was posted or as a session keeps it. */

import type { JobImage } from '../contract/job.js'
import type { ReadLimits, ReadResult } from '../formats/format.js'
import { readVolume } from '../formats/read-volume.js'

/** Reads it; what was known of a session's file when it was uploaded is known again. Errors are those of `read`; an aborted `signal` rejects with its reason. */
export async function readJobImage(
  image: JobImage,
  limits: ReadLimits,
  signal: AbortSignal,
  read = ({ paths }: JobImage): Promise<ReadResult> => readVolume(paths, limits, signal),
): Promise<ReadResult> {
  const found = await read(image)
  const colours = image.colours ?? found.colours
  return {
    ...found,
    ...(colours === undefined ? {} : { colours }),
    uneven: image.uneven ?? found.uneven,
    notes: [...new Set([...(image.notes ?? []), ...found.notes])],
  }
}
