/** One image of a job, as it was posted or as a session keeps it. */

import type { JobImage } from '../contract/job.js'
import type { ReadLimits, ReadResult } from '../formats/format.js'
import { readVolume } from '../formats/read-volume.js'

/** Reads it; what was said of a session's file when it was uploaded is said again. Errors are those of readVolume. */
export async function readJobImage({ paths, notes = [] }: JobImage, limits: ReadLimits): Promise<ReadResult> {
  const read = await readVolume(paths, limits)
  return { ...read, notes: [...new Set([...notes, ...read.notes])] }
}
