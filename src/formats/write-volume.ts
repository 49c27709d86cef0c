/** The door out: Volume -> file. */
import { createWriteStream } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createDeflate, createGzip, type ZlibOptions } from 'node:zlib'
import { AppError } from '../errors.js'
import type { Volume } from '../volume/volume.js'
import type { DtypeName, ResultExtension } from './format.js'
import { gzipMask } from './mask-gzip.js'
import { metaHeaderBytes } from './meta-write.js'
import { niftiHeaderBytes } from './nifti-write.js'
import { nrrdHeaderBytes } from './nrrd-write.js'
import { writePicture } from './picture.js'
import { type Segment, segmentLines } from './seg-nrrd.js'
import { castBytes, castVoxels, writtenType } from './voxel-cast.js'

export interface WriteOptions {
  readonly extension: ResultExtension
  /** NRRD and MetaImage: pack the voxels. The extension decides for NIfTI, and pictures are compressed anyway. */
  readonly compress?: boolean | undefined
  /** Values that do not fit are refused. Default: see writtenType. */
  readonly dtype?: DtypeName | undefined
  readonly kind: 'labels' | 'intensity'
  /** What the labels are called: .seg.nrrd says so. */
  readonly segments?: readonly Segment[] | undefined
}

const CHUNK_BYTES = 1024 * 1024

/**
 * Writes a volume in the format of `extension`, replacing `path`; nothing is left there on failure.
 * Errors: BAD_PARAMS when the format or the type cannot hold the values.
 */
export async function writeVolume(
  volume: Volume,
  path: string,
  options: WriteOptions,
): Promise<{ contentType: string }> {
  const { extension, kind } = options
  // A picture's samples are whole numbers like labels, whatever they mean.
  const picture = extension === '.png' || extension === '.jpg'
  const dtype = writtenType(volume.data, picture ? 'labels' : kind, options.dtype)
  switch (extension) {
    case '.nii':
    case '.nii.gz':
      await writeParts(path, castBytes(volume.data, dtype), {
        head: niftiHeaderBytes(volume, dtype),
        gzip: extension === '.nii.gz' ? kind : undefined,
      })
      return { contentType: 'application/octet-stream' }
    case '.nrrd':
    case '.seg.nrrd': {
      const segmentation = extension === '.seg.nrrd'
      if (segmentation && (kind !== 'labels' || volume.channels > 1))
        throw new AppError('BAD_PARAMS', "result_extension '.seg.nrrd' holds a label map, and the result is none", {
          hint: "Ask for result_extension '.nrrd'.",
        })
      // Slicer writes its segmentations compressed.
      const gzip = options.compress ?? segmentation
      const keyValues = segmentation ? segmentLines(volume, options.segments ?? []) : []
      const header = nrrdHeaderBytes(volume, dtype, { gzip, keyValues })
      await writeParts(path, castBytes(volume.data, dtype), { plain: header, gzip: gzip ? kind : undefined })
      return { contentType: 'application/octet-stream' }
    }
    case '.mha': {
      const samples = castBytes(volume.data, dtype, volume.channels)
      const packed = options.compress ? await deflated(samples, kind) : undefined
      await writeParts(path, packed ?? samples, {
        plain: metaHeaderBytes(
          volume,
          dtype,
          packed?.reduce((sum, piece) => sum + piece.length, 0),
        ),
        gzip: undefined,
      })
      return { contentType: 'application/octet-stream' }
    }
    case '.png':
      await writePicture(volume, castVoxels(volume.data, dtype), path, 'png')
      return { contentType: 'image/png' }
    case '.jpg':
      if (kind === 'labels') {
        throw new AppError('BAD_PARAMS', "result_extension '.jpg' changes labels, since JPEG is lossy", {
          hint: "Ask for result_extension '.png'.",
        })
      }
      await writePicture(volume, castVoxels(volume.data, dtype), path, 'jpeg')
      return { contentType: 'image/jpeg' }
  }
}

/** Scans hardly shrink further at higher levels, which take several times as long. */
const INTENSITY_GZIP: ZlibOptions = { level: 1, chunkSize: 256 * 1024 }

/** In memory, since a MetaImage's header says how many bytes they are. */
async function deflated(parts: Iterable<Uint8Array>, kind: WriteOptions['kind']): Promise<readonly Uint8Array[]> {
  const deflate = createDeflate(kind === 'labels' ? { level: 1, strategy: constants.Z_RLE } : INTENSITY_GZIP)
  const packed: Uint8Array[] = []
  await pipeline(
    Readable.from(slices(parts), { objectMode: false }),
    deflate,
    async (pieces: AsyncIterable<Buffer>) => {
      for await (const piece of pieces) packed.push(piece)
    },
  )
  return packed
}

interface Framing {
  /** Goes first and unpacked. */
  readonly plain?: Uint8Array
  /** Goes before the parts, and through gzip with them. */
  readonly head?: Uint8Array
  readonly gzip: WriteOptions['kind'] | undefined
}

async function writeParts(path: string, voxels: Iterable<Uint8Array>, { plain, head, gzip }: Framing): Promise<void> {
  const parts = head ? chain([head], voxels) : voxels
  const pieces = gzip === 'labels' ? gathered(gzipMask(parts)) : slices(parts)
  const source = Readable.from(pieces, { objectMode: false })
  try {
    if (plain) await writeFile(path, plain)
    const target = createWriteStream(path, { flags: plain ? 'a' : 'w' })
    if (gzip === 'intensity') await pipeline(source, createGzip(INTENSITY_GZIP), target)
    else await pipeline(source, target)
  } catch (error) {
    await rm(path, { force: true })
    throw error
  }
}

function* chain<T>(...lists: readonly Iterable<T>[]): Generator<T> {
  for (const list of lists) yield* list
}

/** Small pieces put together, since each one's way through the stream costs more than its bytes. */
function* gathered(pieces: Iterable<Uint8Array>): Generator<Uint8Array> {
  let held: Uint8Array[] = []
  let bytes = 0
  for (const piece of pieces) {
    held.push(piece)
    bytes += piece.length
    if (bytes < CHUNK_BYTES) continue
    yield Buffer.concat(held, bytes)
    held = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(held, bytes)
}

function* slices(parts: Iterable<Uint8Array>): Generator<Uint8Array> {
  for (const part of parts) {
    for (let at = 0; at < part.length; at += CHUNK_BYTES) yield part.subarray(at, at + CHUNK_BYTES)
  }
}
