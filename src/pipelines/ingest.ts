/** A session's image, decoded once: whatever was uploaded or fetched becomes an uncompressed volume beside its source. */
import { renameSync } from 'node:fs'
import { mkdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { JobControl, JobResult, ToolJob } from '../contract/job.js'
import { AppError } from '../errors.js'
import type { FormatName, ReadResult } from '../formats/format.js'
import { readVolume } from '../formats/read-volume.js'
import { dtypeOf } from '../formats/voxel-types.js'
import { writeVolume } from '../formats/write-volume.js'
import { askRoom } from '../volume/room.js'
import { spacingOf } from '../volume/volume.js'
import { stackChannels } from './stack-channels.js'

const VOLUME = 'volume.nii'
const OCTETS = 'application/octet-stream'

/** Pictures as GET ?image=true gives them: their suffix there, which is not always that of results, and media type. */
export const PICTURES: Readonly<Partial<Record<FormatName, { suffix: string; contentType: string }>>> = {
  png: { suffix: '.png', contentType: 'image/png' },
  jpeg: { suffix: '.jpg', contentType: 'image/jpeg' },
  tiff: { suffix: '.tif', contentType: 'image/tiff' },
  bmp: { suffix: '.bmp', contentType: 'image/bmp' },
}

/**
 * Fills `job.outDir` with what a session keeps: `volume.nii`, the source as it came (`source.*`), or, for a DICOM series,
 * its slices under `series/` in file order. The result's `params` are the facts of the image, its `extension` and `source`.
 */
export async function ingest(job: ToolJob, control: JobControl): Promise<JobResult> {
  if (job.images.length === 0) throw new AppError('MISSING_IMAGE', 'the session has no image')
  await control.checkpoint('read', 0, 1)
  const started = performance.now()
  const read = await readAll(job, control.signal)
  const readMs = performance.now() - started

  await control.checkpoint('write', 0, 1)
  const written = performance.now()
  await writeVolume(read.volume, join(job.outDir, VOLUME), { extension: '.nii', kind: 'intensity' })
  const source = await keepSource(read.files ?? job.images.flatMap(({ paths }) => paths), read, job.outDir)
  return {
    params: { extension: read.extension, source, image: await describe(read, job.outDir) },
    timings: { read: readMs, write: performance.now() - written },
    notes: read.notes,
  }
}

/** The image of a session; several files of one case are its channels, in their order. */
async function readAll({ images, limits }: ToolJob, signal: AbortSignal): Promise<ReadResult> {
  const reads: ReadResult[] = []
  for (const image of images) {
    const heldBytes = reads.reduce((sum, { volume }) => sum + volume.data.byteLength, 0)
    const read = await readVolume(image.paths, { ...limits, heldBytes }, signal)
    if (images.length > 1 && read.format === 'dicom')
      throw new AppError(
        'BAD_PARAMS',
        'the files sent are not one DICOM series, and DICOM is not stacked into channels',
        {
          hint: 'send the slices of one DICOM series, or one file for each channel, all on one grid',
        },
      )
    reads.push({ ...read, notes: [...(image.notes ?? []), ...read.notes] })
  }
  const [only] = reads
  if (reads.length === 1) return only!
  const { colours: _, files: __, ...stacked } = stackedReads(reads, limits)
  return { ...stacked, notes: [...new Set(reads.flatMap(({ notes }) => notes))] }
}

function stackedReads(reads: readonly ReadResult[], { maxVolumeBytes }: ToolJob['limits']): ReadResult {
  const bytes = reads.reduce((sum, { volume }) => sum + volume.data.byteLength, 0)
  const all = reads.reduce((sum, { volume }) => sum + volume.data.length, 0)
  askRoom(4 * all, bytes, maxVolumeBytes, 'stacking the channels')
  return stackChannels(reads)
}

/** Moves the upload into the session. GET ?image=true gives one file, so several files are given as the volume. */
async function keepSource(
  paths: readonly string[],
  read: ReadResult,
  folder: string,
): Promise<{ file: string; contentType: string }> {
  if (read.format === 'dicom') {
    await mkdir(join(folder, 'series'))
    const digits = String(paths.length).length
    // Hundreds of calls that each take microseconds here and many times that by way of another thread.
    for (const [i, path] of paths.entries())
      renameSync(path, join(folder, 'series', `${String(i).padStart(digits, '0')}.dcm`))
    return { file: VOLUME, contentType: OCTETS }
  }
  const [path] = paths
  if (path === undefined || paths.length > 1) return { file: VOLUME, contentType: OCTETS }
  const { suffix, contentType } = PICTURES[read.format] ?? { suffix: read.extension, contentType: OCTETS }
  const file = `source${suffix}`
  await rename(path, join(folder, file))
  return { file, contentType }
}

async function describe(read: ReadResult, folder: string): Promise<Record<string, unknown>> {
  const { size, channels, data } = read.volume
  return {
    format: read.format,
    size,
    channels,
    ...(read.colours === undefined ? {} : { colours: read.colours }),
    spacing: spacingOf(read.volume).map((mm) => Number(mm.toPrecision(7))),
    dtype: dtypeOf(data),
    bytes: (await stat(join(folder, VOLUME))).size,
    ...(read.uneven ? { uneven: read.uneven } : {}),
    ...(read.notes.length > 0 ? { notes: read.notes } : {}),
  }
}
