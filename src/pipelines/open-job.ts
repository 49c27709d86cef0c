/**
 * A job as its pipeline takes it: the files of an upload sorted into images, and long params read. The server does neither,
 * since it looks into no file and keeps nobody waiting for a long text.
 */
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Job, JobFile, JobImage } from '../contract/job.js'
import { openBytes } from '../formats/byte-source.js'
import { DETACHED_HEAD_BYTES, detachedKind } from '../formats/detached-header.js'
import { detect } from '../formats/detect.js'
import { unpackUpload } from '../formats/expand-upload.js'
import type { ReadLimits } from '../formats/format.js'
import { inChannelOrder } from '../util/channel-order.js'
import { forEachConcurrently } from '../util/concurrently.js'
import { parseParams } from '../util/parse-params.js'
import { parseWishParams } from './wish-params.js'

/** Files looked into at once: a series has thousands, and a process may open about a thousand. */
const OPEN_FILES = 16

/** Rejects BAD_PARAMS for params that are no JSON object. */
export async function openJob<J extends Job>(job: J, signal: AbortSignal): Promise<J> {
  const images =
    job.files === undefined ? job.images : [...(await imagesOf(job.files, signal, stacking(job))), ...job.images]
  const opened = { ...job, images, files: undefined }
  if (job.paramsPath === undefined) return opened
  const params = parseParams(await readFile(job.paramsPath, 'utf8'))
  const { extension, dtype, compress } = parseWishParams(params)
  const wish = { ...job.wish, extension: extension ?? job.wish.extension, dtype, compress }
  return { ...opened, params, wish }
}

/**
 * Files that belong together (the slices of a DICOM series, a header such as .hdr, .mhd or .nhdr and its data) as one
 * image of several paths, everything else as one image a file under its own field. With `limits`, one zip may hold several images. `datapoint`, and a single file under any name, is `image`.
 */
export async function imagesOf(
  files: readonly JobFile[],
  signal: AbortSignal,
  limits?: ReadLimits,
): Promise<JobImage[]> {
  if (files.length === 1) return limits ? zippedImages(files[0]!.path, limits, signal) : [imageOf(files[0]!.path)]
  const parts: ('slice' | 'header' | 'other')[] = []
  await forEachConcurrently(files, OPEN_FILES, async ({ path }, i) => {
    parts[i] = await partOf(path, signal)
  })
  const headers = parts.filter((part) => part === 'header').length
  const together = parts.every((part) => part === 'slice') || (headers === 1 && !parts.includes('slice'))
  if (together) return [{ field: 'image', paths: files.map(({ path }) => path) }]
  return files.map(({ field, path }) => ({ field: field === 'datapoint' ? 'image' : field, paths: [path] }))
}

/** The limits of jobs that take several images, which a zip may hold too; of tools that take one, undefined. */
function stacking({ kind, limits }: Job): ReadLimits | undefined {
  return kind === 'inference' || kind === 'ingest' ? limits : undefined
}

function imageOf(path: string): JobImage {
  return { field: 'image', paths: [path] }
}

/** The images of a zip, in the order of nnU-Net's numbers or else of their names; one image for anything else. */
async function zippedImages(path: string, limits: ReadLimits, signal: AbortSignal): Promise<JobImage[]> {
  const unpacked = await unpackUpload(path, dirname(path), limits, signal)
  if (!unpacked) return [imageOf(path)]
  const { images, notes } = unpacked
  const byName = images.toSorted((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
  const files = byName.map(({ name, files: paths }, i) => ({
    field: i === 0 ? 'image' : `image${i}`,
    filename: name.split('/').at(-1)!,
    paths,
  }))
  const told =
    images.length > 1
      ? [...notes, `the ${images.length} images of the zip were taken in the order of their names`]
      : notes
  return inChannelOrder(files).map(({ field, paths }, i) => ({ field, paths, ...(i === 0 ? { notes: told } : {}) }))
}

/** What a file of several may be to the others. */
async function partOf(path: string, signal: AbortSignal): Promise<'slice' | 'header' | 'other'> {
  const source = await openBytes(path, { signal })
  try {
    const head = await source.peek(DETACHED_HEAD_BYTES)
    if (detect(head) === 'dicom') return 'slice'
    return detachedKind(head) ? 'header' : 'other'
  } finally {
    await source.close()
  }
}
