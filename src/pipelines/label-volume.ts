/** A label that is kept, as a volume on the voxels of its image: what a program trains on. */
import { join } from 'node:path'
import { type JobControl, type JobResult, LABELLED_FIELD, type ToolJob } from '../contract/job.js'
import { AppError } from '../errors.js'
import { readVolume } from '../formats/read-volume.js'
import { writeVolume } from '../formats/write-volume.js'
import { ontoGrid } from '../volume/onto-grid.js'
import { askRoom } from '../volume/room.js'

/**
 * Labels that were saved in other axes than the image is decoded in come out in its axes. One that lies on no voxels of the
 * image stays on its own.
 */
export async function labelVolume(job: ToolJob, control: JobControl): Promise<JobResult> {
  const beside = job.images.findLast(({ field }) => field === LABELLED_FIELD)
  const label = job.images.find((image) => image !== beside)
  if (label === undefined || beside === undefined) throw new AppError('MISSING_IMAGE', 'there is no label to write')
  await control.checkpoint('read', 0, 2)
  const { size, affine } = (await readVolume(beside.paths, job.limits, control.signal)).volume
  await control.checkpoint('read', 1, 2)
  const { volume, extension } = await readVolume(label.paths, job.limits, control.signal)
  await control.checkpoint('write', 0, 1)
  // A picture says nothing of where it lies.
  const isPlaced = volume.channels === 1 && extension !== '.png'
  if (isPlaced)
    askRoom(volume.data.byteLength, volume.data.byteLength, job.limits.maxVolumeBytes, 'turning the label map')
  const moved = isPlaced ? ontoGrid(volume, { size, affine }) : undefined
  const path = join(job.outDir, 'label.nii')
  const onGrid = moved?.exact && moved.lost === 0 ? moved.volume : volume
  const { contentType } = await writeVolume(onGrid, path, { extension: '.nii', kind: 'intensity' })
  return { file: { path, extension: '.nii', contentType }, params: {}, timings: {}, notes: [] }
}
