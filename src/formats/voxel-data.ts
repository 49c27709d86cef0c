/** Stored voxels -> a typed array: checked against the limits, read once, swapped in place, scaled. */
import { AppError } from '../errors.js'
import { asPlainWidth, mapBlocks } from '../volume/blocks.js'
import type { VoxelArray } from '../volume/volume.js'
import type { ByteSource } from './byte-source.js'
import type { DtypeName, ReadLimits } from './format.js'
import { bytesOf, DTYPES, dtypeOf, firstFitting, isFloat, rangeOf, type StoredType } from './voxel-types.js'

/**
 * Product of the sizes, as voxels of an image this server may hold. Call before any allocation: throws TOO_LARGE with
 * the limit and its flag, UNREADABLE_IMAGE when the bytes that could still come are fewer than the header claims.
 * `leadBytes` lie before the voxels (headers, extensions, padding); they may not pass the limit either, since a packed
 * file could make us inflate them for hours.
 */
export function checkedVoxels(
  sizes: readonly number[],
  bytesPerVoxel: number,
  limits: ReadLimits,
  { mostBytes, compressed }: Pick<ByteSource, 'mostBytes' | 'compressed'>,
  leadBytes = 0,
): number {
  const voxels = sizes.reduce((product, n) => product * n, 1)
  const bytes = voxels * bytesPerVoxel
  const words = sizes.join('x')
  if (!(voxels <= limits.maxVoxels)) {
    throw new AppError(
      'TOO_LARGE',
      `the image is ${words}, ${voxels} voxels; at most ${limits.maxVoxels} are accepted`,
      {
        hint: 'The limit is --max-voxels.',
      },
    )
  }
  if (!(bytes <= limits.maxVolumeBytes)) {
    throw new AppError(
      'TOO_LARGE',
      `the image unpacks to ${bytes} bytes (${words} of ${bytesPerVoxel}); at most ${limits.maxVolumeBytes} are accepted`,
      { hint: 'The limit is --max-volume-bytes.' },
    )
  }
  if (leadBytes > limits.maxVolumeBytes) {
    throw new AppError(
      'TOO_LARGE',
      `the voxels start at byte ${leadBytes}; at most ${limits.maxVolumeBytes} bytes before them are accepted`,
      { hint: 'The limit is --max-volume-bytes.' },
    )
  }
  const room = Math.max(0, mostBytes - leadBytes)
  if (bytes > room) throw cutShort(bytes, compressed ? `no more than ${room} can be packed` : `${room} are`)
  return voxels
}

/** Reads exactly `voxels` numbers. 64-bit integers become the smallest type that holds them all exactly, else float64. */
export async function readVoxels(
  source: ByteSource,
  type: StoredType,
  voxels: number,
  littleEndian: boolean,
): Promise<VoxelArray> {
  const wide = type === 'int64' || type === 'uint64'
  const data = allocate(wide ? voxels * 2 : voxels, wide ? (n) => new Uint32Array(n) : DTYPES[type].make)
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const found = await source.read(bytes)
  if (found < bytes.length) throw cutShort(bytes.length, `${found} are`)
  if (!littleEndian) swapInPlace(bytes, bytesOf(type))
  return wide ? narrow(data as Uint32Array, type === 'int64') : data
}

function allocate(length: number, make: (length: number) => VoxelArray): VoxelArray {
  try {
    return make(length)
  } catch (cause) {
    throw new AppError('TOO_LARGE', `the image's ${length} voxels do not fit into this server's memory`, { cause })
  }
}

function cutShort(expected: number, found: string): AppError {
  return new AppError(
    'UNREADABLE_IMAGE',
    `the image is cut short: ${expected} bytes of voxels expected, ${found} in it`,
    {
      hint: 'Send the whole file again.',
    },
  )
}

/** A Buffer cannot be as long as a typed array, so a piece at a time. */
const SWAP_BYTES = 64 * 1024 * 1024

function swapInPlace({ buffer, byteOffset, byteLength }: Uint8Array, width: number): void {
  for (let at = 0; at < byteLength; at += SWAP_BYTES) {
    const piece = Buffer.from(buffer as ArrayBuffer, byteOffset + at, Math.min(SWAP_BYTES, byteLength - at))
    if (width === 2) piece.swap16()
    else if (width === 4) piece.swap32()
    else if (width === 8) piece.swap64()
  }
}

/** Pairs of 32-bit words, low word first, to plain numbers. Beyond 2^53 they round as numpy's astype(float64) does. */
function narrow(words: Uint32Array, signed: boolean): VoxelArray {
  const count = words.length / 2
  const high = signed ? new Int32Array(words.buffer) : words
  let min = Infinity
  let max = -Infinity
  for (let i = 0; i < count; i++) {
    const value = high[2 * i + 1]! * 4294967296 + words[2 * i]!
    if (value < min) min = value
    if (value > max) max = value
  }
  const dtype = firstFitting(['uint8', 'int16', 'uint16', 'int32', 'uint32'], { min, max, integral: true }) ?? 'float64'
  const data = DTYPES[dtype].make(count)
  mapBlocks(data, data, (block, length, start) => {
    for (let i = 0, at = 2 * start; i < length; i++, at += 2) block[i] = high[at + 1]! * 4294967296 + words[at]!
  })
  return data
}

/**
 * value * slope + inter, in double precision as nibabel. Whole numbers scaled by whole numbers stay integers, in place
 * where they fit the type they came in; everything else becomes float32 (float64 from float64, or beyond float32's range).
 */
export function scaleVoxels(data: VoxelArray, slope: number, inter: number): VoxelArray {
  if (slope === 1 && inter === 0) return data
  const stored = dtypeOf(data)
  const { min, max } = rangeOf(data)
  const ends = data.length === 0 ? [0, 0] : [min * slope + inter, max * slope + inter]
  const range = { min: Math.min(...ends), max: Math.max(...ends), integral: true }
  let dtype: DtypeName | undefined
  if (!isFloat(stored) && Number.isInteger(slope) && Number.isInteger(inter)) {
    dtype = firstFitting([stored, 'int16', 'uint16', 'int32', 'uint32'], range)
  }
  if (!dtype) {
    const finite = Math.max(Math.abs(range.min), Math.abs(range.max))
    dtype = stored === 'float64' || (Number.isFinite(finite) && finite > 3.4028234663852886e38) ? 'float64' : 'float32'
  }
  const target = dtype === stored ? data : DTYPES[dtype].make(data.length)
  mapBlocks(data, target, (block, count) => {
    for (let i = 0; i < count; i++) block[i] = block[i]! * slope + inter
  })
  return target
}

/** Interleaved samples (channel fastest) to planes (channel slowest). A new array when there is more than one channel. */
export function toPlanes<T extends VoxelArray>(data: T, channels: number): T {
  if (channels === 1) return data
  const planes = DTYPES[dtypeOf(data)].make(data.length) as T
  const [from, to] = [asPlainWidth(data), asPlainWidth(planes)]
  const voxels = data.length / channels
  for (let c = 0; c < channels; c++) {
    const offset = c * voxels
    for (let i = 0, at = c; i < voxels; i++, at += channels) to[offset + i] = from[at]!
  }
  return planes
}
