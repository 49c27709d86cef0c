/** The door in: files -> Volume. The type is told by content, never by name. */
import { dirname } from 'node:path'
import { AppError } from '../errors.js'
import { type ByteSource, openBytes } from './byte-source.js'
import { DETACHED_HEAD_BYTES, detachedKind } from './detached-header.js'
import { detect, unknownFormat } from './detect.js'
import { readDicomSeries } from './dicom-series.js'
import { expandUpload } from './expand-upload.js'
import { replaceNonFinite } from './finite-voxels.js'
import type { ReadLimits, ReadResult } from './format.js'
import { decodeMetaHeader, META_MAX_HEADER_BYTES } from './meta-header.js'
import { readMetaVoxels } from './meta-read.js'
import { decodeNiftiHeader, HEADER_BYTES, niftiKind } from './nifti-header.js'
import { readNiftiVoxels } from './nifti-read.js'
import { decodeNrrdHeader, NRRD_MAX_HEADER_BYTES } from './nrrd-header.js'
import { readNrrdVoxels } from './nrrd-read.js'
import { readPicture } from './picture.js'
import { toWorkingType } from './voxel-data.js'

/** As many leading bytes as tell every type apart: a NIfTI-2 header. */
const HEAD_BYTES = HEADER_BYTES[2]

/**
 * Reads one image: one file, the objects of one DICOM series in any order, or a header and its data in either
 * order: .hdr and .img, .mhd or .nhdr and what it names, these in its order. A zip of these is unpacked beside itself. Voxels come as uint8, int16, float32 or float64,
 * all of them finite: what was not is replaced, with a note (see finite-voxels).
 * Errors: UNREADABLE_IMAGE (damaged, cut short, a header that cannot be believed), UNSUPPORTED_FORMAT, TOO_LARGE,
 * BAD_GEOMETRY (DICOM slices that make no grid); an aborted `signal` rejects with its reason.
 */
export async function readVolume(
  given: readonly string[],
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<ReadResult> {
  const [only] = given
  if (only === undefined) throw new AppError('MISSING_IMAGE', 'no image was sent')
  const { paths, notes } = await expandUpload(given, dirname(only), limits, signal)
  const found = await readFiles(paths, limits, signal)
  const note = replaceNonFinite(found.volume)
  const read = {
    ...found,
    volume: { ...found.volume, data: toWorkingType(found.volume.data, limits) },
    notes: [...notes, ...found.notes, ...(note === undefined ? [] : [note])],
  }
  return paths === given ? read : { ...read, files: paths }
}

async function readFiles(
  paths: readonly string[],
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult> {
  const [first, second] = paths
  if (first === undefined) throw new AppError('MISSING_IMAGE', 'no image was sent')
  if (second === undefined) return withSource(first, signal, (source) => readOne(first, source, limits, signal))
  // A series is told by its first file: looking into each of hundreds for a header takes as long as reading them.
  const series = paths.length > 2 && detect(await headOf(first, signal)) === 'dicom'
  if (series) return readDicomSeries(paths, limits, signal)
  const beside = await readDetached(paths, limits, signal)
  if (beside) return beside
  if (detect(await headOf(first, signal)) === 'dicom') return readDicomSeries(paths, limits, signal)
  throw new AppError(
    'BAD_REQUEST',
    `${paths.length} files were sent as one image; they are neither a DICOM series nor a header with its data (.hdr/.img, .mhd/.raw, .nhdr/.raw)`,
    { hint: 'Send one file for each image of the model.' },
  )
}

async function readOne(
  path: string,
  source: ByteSource,
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult> {
  const head = await source.peek(HEAD_BYTES)
  const format = detect(head)
  switch (format) {
    case 'nifti':
      return readNifti(source, limits)
    case 'nrrd':
      if (source.compressed) break
      return readNrrdVoxels(decodeNrrdHeader(await source.peek(NRRD_MAX_HEADER_BYTES)), path, [], limits, signal)
    case 'metaimage':
      if (source.compressed) break
      return readMetaVoxels(decodeMetaHeader(await source.peek(META_MAX_HEADER_BYTES)), path, [], limits, signal)
    case 'dicom':
      if (source.compressed) break
      return readDicomSeries([path], limits, signal)
    case 'png':
    case 'jpeg':
    case 'tiff':
    case 'bmp':
      if (source.compressed) break
      return readPicture(path, format, limits)
  }
  throw unknownFormat(head)
}

async function readNifti(source: ByteSource, limits: ReadLimits): Promise<ReadResult> {
  const head = await source.peek(HEAD_BYTES)
  const kind = niftiKind(head)
  if (!kind) throw unknownFormat(head)
  const header = decodeNiftiHeader(head, kind)
  if (header.detached) {
    throw new AppError('UNREADABLE_IMAGE', 'the file is the header (.hdr) of a pair; its voxels (.img) are missing', {
      hint: 'Send both files, or one .nii or .nii.gz.',
    })
  }
  await source.skip(HEADER_BYTES[kind.version])
  return readNiftiVoxels(header, source, limits)
}

/** A header among the files, with the others as its data; undefined when there is none. */
async function readDetached(
  paths: readonly string[],
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult | undefined> {
  for (const path of paths) {
    const data = paths.filter((other) => other !== path)
    const read = await withSource(path, signal, async (source) => {
      const kind = detachedKind(await source.peek(DETACHED_HEAD_BYTES))
      if (kind === 'nrrd') {
        const header = decodeNrrdHeader(await source.peek(NRRD_MAX_HEADER_BYTES))
        return readNrrdVoxels(header, path, data, limits, signal)
      }
      if (kind === 'metaimage') {
        const header = decodeMetaHeader(await source.peek(META_MAX_HEADER_BYTES))
        return readMetaVoxels(header, path, data, limits, signal)
      }
      if (kind !== 'nifti' || data.length !== 1) return undefined
      const head = await source.peek(HEAD_BYTES)
      const header = decodeNiftiHeader(head, niftiKind(head)!)
      return withSource(data[0]!, signal, (voxels) => readNiftiVoxels(header, voxels, limits))
    })
    if (read) return read
  }
  return undefined
}

function headOf(path: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  return withSource(path, signal, (source) => source.peek(HEAD_BYTES))
}

async function withSource<T>(
  path: string,
  signal: AbortSignal | undefined,
  use: (source: ByteSource) => Promise<T>,
): Promise<T> {
  const source = await openBytes(path, { signal })
  try {
    return await use(source)
  } finally {
    await source.close()
  }
}
