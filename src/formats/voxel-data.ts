/** Stored voxels -> a typed array: checked against the limits, read once, swapped in place, scaled. */
import { AppError } from '../errors.js'
import { asPlainWidth, mapBlocks } from '../volume/blocks.js'
import { askRoom } from '../volume/room.js'
import type { VoxelArray } from '../volume/volume.js'
import type { ByteSource } from './byte-source.js'
import type { DtypeName, ReadLimits } from './format.js'
import {
  bytesOf,
  DTYPES,
  dtypeOf,
  firstFitting,
  isFloat,
  rangeOf,
  type StoredType,
  type ValueRange,
} from './voxel-types.js'

interface CheckOptions {
  /** Bytes before the voxels: headers, extensions, padding. */
  readonly leadBytes?: number
  /** Bytes of memory a voxel that reading takes at its peak, where those are more than the file's. */
  readonly peak?: number
  /** Bytes of memory beside the voxels: a packed file as a whole, a frame before it is placed. */
  readonly beside?: number
}

/**
 * Product of the sizes, as voxels of an image this server may hold. Call before any allocation: throws TOO_LARGE with
 * the limit and its flag, UNREADABLE_IMAGE when the bytes that could still come are fewer than the header claims. The
 * bytes before the voxels may not pass the limit either, since a packed file could make us inflate them for hours.
 */
export function checkedVoxels(
  sizes: readonly number[],
  bytesPerVoxel: number,
  limits: ReadLimits,
  { mostBytes, compressed }: Pick<ByteSource, 'mostBytes' | 'compressed'>,
  { leadBytes = 0, peak = bytesPerVoxel, beside = 0 }: CheckOptions = {},
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
  askFor(voxels * peak, limits, `reading the image (${words} of ${bytesPerVoxel} bytes)`, beside)
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

/** Throws TOO_LARGE when reading an image would take `bytes` more than its request may. */
export function askFor(bytes: number, limits: ReadLimits, what = 'reading the image', held = 0): void {
  askRoom(bytes, held + (limits.heldBytes ?? 0), limits.maxVolumeBytes, what)
}

/** How voxels lie in a file. */
export interface StoredVoxels {
  readonly type: StoredType
  /** Numbers, samples included. */
  readonly count: number
  readonly littleEndian: boolean
  /** Samples of a voxel that lie side by side, such as colours; and how many images of such voxels follow one another. */
  readonly samples: number
  readonly frames: number
}

/**
 * Reads exactly `count` numbers. Samples side by side become planes as they are read (channel slowest). 64-bit integers
 * come out as `workingType` says.
 */
export async function readVoxels(source: ByteSource, stored: StoredVoxels, limits: ReadLimits): Promise<VoxelArray> {
  const { type, count, littleEndian, samples, frames } = stored
  if (type === 'int64' || type === 'uint64') {
    const words = allocate(count * 2, (n) => new Uint32Array(n)) as Uint32Array
    await readInto(source, words, 8, littleEndian, true)
    return framesToPlanes(narrow(words, type === 'int64', limits), samples, frames, limits)
  }
  const data = allocate(count, DTYPES[type].make)
  if (samples === 1) await readInto(source, data, bytesOf(type), littleEndian, true)
  else await readPlanes(source, data, stored)
  return data
}

async function readInto(
  source: ByteSource,
  data: VoxelArray,
  width: number,
  littleEndian: boolean,
  isBlank = false,
): Promise<void> {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const found = await source.read(bytes, isBlank)
  if (found < bytes.length) throw cutShort(bytes.length, `${found} are`)
  if (!littleEndian) swapInPlace(bytes, width)
}

/** Voxels whose samples are put into their planes at once. */
const PIECE_VOXELS = 64 * 1024

async function readPlanes(
  source: ByteSource,
  data: VoxelArray,
  { littleEndian, samples, frames }: StoredVoxels,
): Promise<void> {
  const to = asPlainWidth(data)
  const voxels = data.length / samples / frames
  const piece = DTYPES[dtypeOf(data)].make(Math.min(PIECE_VOXELS, voxels) * samples)
  for (let frame = 0; frame < frames; frame++) {
    for (let first = 0; first < voxels; first += PIECE_VOXELS) {
      const length = Math.min(PIECE_VOXELS, voxels - first)
      const part = piece.subarray(0, length * samples) as VoxelArray
      await readInto(source, part, data.BYTES_PER_ELEMENT, littleEndian)
      const from = asPlainWidth(part)
      for (let c = 0; c < samples; c++) {
        const offset = (frame * samples + c) * voxels + first
        for (let i = 0, at = c; i < length; i++, at += samples) to[offset + i] = from[at]!
      }
    }
  }
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
function narrow(words: Uint32Array, signed: boolean, limits: ReadLimits): VoxelArray {
  const count = words.length / 2
  const high = signed ? new Int32Array(words.buffer) : words
  let min = Infinity
  let max = -Infinity
  for (let i = 0; i < count; i++) {
    const value = high[2 * i + 1]! * 4294967296 + words[2 * i]!
    if (value < min) min = value
    if (value > max) max = value
  }
  const dtype = workingType({ min, max, integral: true })
  askFor(
    count * DTYPES[dtype].bytes,
    limits,
    `reading the image, whose 64-bit numbers become ${dtype},`,
    words.byteLength,
  )
  const data = DTYPES[dtype].make(count)
  mapBlocks(data, data, (block, length, start) => {
    for (let i = 0, at = 2 * start; i < length; i++, at += 2) block[i] = high[at + 1]! * 4294967296 + words[at]!
  })
  return data
}

/** The smallest type that holds whole numbers that came as 64-bit integers. */
export function exactType(values: Float64Array): DtypeName {
  return values.length === 0 ? 'uint8' : workingType(rangeOf(values))
}

/** The smallest of the four working types that holds whole numbers exactly (float64 does so to 2^53 only). */
function workingType(range: ValueRange): DtypeName {
  const exact = Math.max(Math.abs(range.min), Math.abs(range.max)) <= 2 ** 24 ? 'float32' : 'float64'
  return firstFitting(['uint8', 'int16'], range) ?? exact
}

/**
 * The same values as uint8, int16, float32 or float64, whichever is the smallest that is exact. Every voxel loop behind
 * this door meets these four kinds of array only: V8 keeps loops over at most four kinds fast, and a runner that has
 * met the eight that files may hold was 12 to 30 times slower from then on.
 */
export function toWorkingType(data: VoxelArray, limits: ReadLimits): VoxelArray {
  const have = dtypeOf(data)
  if (have === 'uint8' || have === 'int16' || isFloat(have)) return data
  const want = data.length === 0 ? 'int16' : have === 'int8' ? 'int16' : workingType(rangeOf(data))
  const target = roomFor(want, data, limits)
  mapBlocks(data, target, () => {})
  return target
}

/** An array to turn `data` into: its own memory where the numbers are as wide. Throws TOO_LARGE where both are too much. */
function roomFor(dtype: DtypeName, data: VoxelArray, limits: ReadLimits): VoxelArray {
  const { bytes, make, over } = DTYPES[dtype]
  if (bytes === data.BYTES_PER_ELEMENT) return over(data.buffer as ArrayBuffer, data.byteOffset, data.length)
  const what = `reading the image, whose ${dtypeOf(data)} numbers become ${dtype},`
  askFor(data.length * bytes, limits, what, data.byteLength)
  return make(data.length)
}

/** Bytes a voxel that `scaleVoxels` is sure to take, the stored ones included. */
export function scaledPeak(type: StoredType, slope: number, inter: number): number {
  const width = bytesOf(type)
  const whole = Number.isInteger(slope) && Number.isInteger(inter)
  return whole || isFloat(type) || width === 4 ? width : width + DTYPES.float32.bytes
}

/**
 * value * slope + inter, in double precision as nibabel. Whole numbers scaled by whole numbers stay integers where
 * 16 bits hold them, in place where their own type does; everything else becomes float32, or float64 where that is
 * what came, or what float32 cannot say.
 */
export function scaleVoxels(data: VoxelArray, slope: number, inter: number, limits: ReadLimits): VoxelArray {
  if (slope === 1 && inter === 0) return data
  const stored = dtypeOf(data)
  const { min, max } = rangeOf(data)
  const ends = min > max ? [0] : [min * slope + inter, max * slope + inter]
  const range = { min: Math.min(...ends), max: Math.max(...ends), integral: true }
  const whole = !isFloat(stored) && Number.isInteger(slope) && Number.isInteger(inter)
  const dtype = whole ? workingType(range) : scaledType(stored, range)
  const target = roomFor(dtype, data, limits)
  mapBlocks(data, target, (block, count) => {
    for (let i = 0; i < count; i++) block[i] = block[i]! * slope + inter
  })
  return target
}

function scaledType(stored: DtypeName, { min, max }: ValueRange): DtypeName {
  const furthest = Math.max(Math.abs(min), Math.abs(max))
  return stored === 'float64' || (Number.isFinite(furthest) && furthest > FLOAT32_MAX) ? 'float64' : 'float32'
}

const FLOAT32_MAX = 3.4028234663852886e38

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

/** The same for each of `frames` images that follow one another. Throws TOO_LARGE where the copy of one is too much. */
export function framesToPlanes<T extends VoxelArray>(data: T, samples: number, frames: number, limits: ReadLimits): T {
  if (samples === 1) return data
  const frame = data.length / frames
  askFor((data.byteLength / frames) * (frames === 1 ? 1 : 2), limits, 'reading the image', data.byteLength)
  if (frames === 1) return toPlanes(data, samples)
  for (let t = 0; t < frames; t++) {
    const interleaved = data.slice(t * frame, (t + 1) * frame) as T
    data.set(toPlanes(interleaved, samples), t * frame)
  }
  return data
}

/** Planes (channel slowest) to interleaved samples (channel fastest). A new array when there is more than one channel. */
export function toSamples<T extends VoxelArray>(data: T, channels: number): T {
  if (channels === 1) return data
  const samples = DTYPES[dtypeOf(data)].make(data.length) as T
  const [from, to] = [asPlainWidth(data), asPlainWidth(samples)]
  const voxels = data.length / channels
  for (let c = 0; c < channels; c++) {
    const offset = c * voxels
    for (let i = 0, at = c; i < voxels; i++, at += channels) to[at] = from[offset + i]!
  }
  return samples
}
