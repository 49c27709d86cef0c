/** The decoded volume of a DICOM series as a file to download: NRRD, whose rows are those of the DICOM files (see dicom-rows). */
import { join } from 'node:path'
import type { JobControl, JobResult, ToolJob } from '../contract/job.js'
import { AppError } from '../errors.js'
import { turnRows } from '../formats/dicom-rows.js'
import { readVolume } from '../formats/read-volume.js'
import { writeVolume } from '../formats/write-volume.js'

/**
 * A viewer that opens this file counts its clicks as a request for an NRRD result does, and gets its mask on the same voxels.
 * A picture has these rows already.
 */
export async function seriesFile(job: ToolJob, control: JobControl): Promise<JobResult> {
  const [image] = job.images
  if (image === undefined) throw new AppError('MISSING_IMAGE', 'there is no image to write')
  await control.checkpoint('read', 0, 1)
  const { volume } = await readVolume(image.paths, job.limits, control.signal)
  await control.checkpoint('write', 0, 1)
  const path = join(job.outDir, 'series.nrrd')
  const turned = image.extension === '.png' ? volume : turnRows(volume)
  const { contentType } = await writeVolume(turned, path, { extension: '.nrrd', kind: 'intensity', compress: true })
  return { file: { path, extension: '.nrrd', contentType }, params: {}, timings: {}, notes: [] }
}
