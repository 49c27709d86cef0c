/** The door in: files -> Volume. The type is told by content, never by name. */
import { AppError } from '../errors.js'
import { openBytes } from './byte-source.js'
import type { ReadLimits, ReadResult } from './format.js'
import { decodeNiftiHeader, HEADER_BYTES, type NiftiHeader, niftiKind } from './nifti-header.js'
import { halfOfPair, readNiftiVoxels } from './nifti-read.js'

/** As many leading bytes as tell every type apart: a NIfTI-2 header. */
const HEAD_BYTES = HEADER_BYTES[2]

/**
 * Reads one image: one file, or the two halves of a .hdr/.img pair in either order.
 * Errors: UNREADABLE_IMAGE (damaged, cut short, a header that cannot be believed), UNSUPPORTED_FORMAT, TOO_LARGE;
 * an aborted `signal` rejects with its reason.
 */
export async function readVolume(
  paths: readonly string[],
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<ReadResult> {
  const [first, second] = paths
  if (first === undefined) throw new AppError('MISSING_IMAGE', 'no image was sent')
  const heads = await Promise.all(paths.slice(0, 2).map((path) => headOf(path, signal)))
  for (const [index, head] of heads.entries()) {
    const header = detachedHeader(head)
    if (!header) continue
    if (second === undefined || paths.length > 2) throw halfOfPair()
    return readPair(header, index === 0 ? second : first, limits, signal)
  }
  return readSingle(first, heads[0]!, limits, signal)
}

async function readSingle(
  path: string,
  head: Uint8Array,
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult> {
  if (head.length === 0) throw new AppError('UNREADABLE_IMAGE', 'the image file is empty')
  const nifti = niftiKind(head)
  if (!nifti) throw unknownFormat(head)
  const header = decodeNiftiHeader(head, nifti)
  const source = await openBytes(path, { signal })
  try {
    await source.skip(HEADER_BYTES[nifti.version])
    return await readNiftiVoxels(header, source, limits)
  } finally {
    await source.close()
  }
}

function detachedHeader(head: Uint8Array): NiftiHeader | undefined {
  const kind = niftiKind(head)
  return kind?.detached ? decodeNiftiHeader(head, kind) : undefined
}

async function readPair(
  header: NiftiHeader,
  voxelPath: string,
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult> {
  const source = await openBytes(voxelPath, { signal })
  try {
    return await readNiftiVoxels(header, source, limits)
  } finally {
    await source.close()
  }
}

async function headOf(path: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const source = await openBytes(path, { signal })
  try {
    const head = new Uint8Array(HEAD_BYTES)
    return head.subarray(0, await source.read(head))
  } finally {
    await source.close()
  }
}

function unknownFormat(_head: Uint8Array): AppError {
  return new AppError('UNSUPPORTED_FORMAT', 'the file is not an image of a known type', {
    hint: 'Send NIfTI (.nii, .nii.gz), NRRD, PNG, JPEG or DICOM.',
  })
}
