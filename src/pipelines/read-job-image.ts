/** One image of a job, as it was posted or as a session keeps it. */

import type { JobImage } from '../contract/job.js'
import type { ReadLimits, ReadResult } from '../formats/format.js'
import { readVolume } from '../formats/read-volume.js'

/** Reads it; what was said of a session's file when it was uploaded is said again. Errors are those of `read`. */
export async function readJobImage(
  image: JobImage,
  limits: ReadLimits,
  read = ({ paths }: JobImage): Promise<ReadResult> => readVolume(paths, limits),
): Promise<ReadResult> {
  const found = await read(image)
  return { ...found, notes: [...new Set([...(image.notes ?? []), ...found.notes])] }
}
