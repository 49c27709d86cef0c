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
import { spacingOf } from '../volume/volume.js'

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
  const [image, ...more] = job.images
  if (image === undefined) throw new AppError('MISSING_IMAGE', 'the session has no image')
  if (more.length > 0)
    throw new AppError('BAD_PARAMS', 'a session holds one image; the files sent are not one series', {
      hint: 'send one file, the slices of one DICOM series, or the two halves of a .hdr/.img pair',
    })
  await control.checkpoint('read', 0, 1)
  const started = performance.now()
  const read = await readVolume(image.paths, job.limits, control.signal)
  const readMs = performance.now() - started

  await control.checkpoint('write', 0, 1)
  const written = performance.now()
  await writeVolume(read.volume, join(job.outDir, VOLUME), { extension: '.nii', kind: 'intensity' })
  const source = await keepSource(read.files ?? image.paths, read, job.outDir)
  return {
    params: { extension: read.extension, source, image: await describe(read, job.outDir) },
    timings: { read: readMs, write: performance.now() - written },
    notes: read.notes,
  }
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
