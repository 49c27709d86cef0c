/** NIfTI-1 and 2 as this server writes them: one file, little endian, unpacked. Read here, and written with other voxels. */
import type { Vec3 } from './geometry.js'

export type Voxels =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array

export interface NiftiImage {
  readonly size: Vec3
  /** Channels of a colour picture, or time points. */
  readonly channels: number
  readonly affine: Float64Array
  readonly data: Voxels
  /** Everything before the voxels. */
  readonly header: Uint8Array
}

const ARRAYS = {
  2: Uint8Array,
  4: Int16Array,
  8: Int32Array,
  16: Float32Array,
  64: Float64Array,
  256: Int8Array,
  512: Uint16Array,
  768: Uint32Array,
} as const

const UINT8 = 2

/** Where NIfTI-1 and 2 keep what is read and written here. Dimensions and sizes are 16 and 32 bits in 1, 64 bits in 2. */
const PLACES = {
  1: {
    dim: 40,
    datatype: 70,
    pixdim: 76,
    offset: 108,
    slope: 112,
    calMax: 124,
    qform: 252,
    sform: 254,
    quatern: 256,
    srow: 280,
  },
  2: {
    dim: 16,
    datatype: 12,
    pixdim: 104,
    offset: 168,
    slope: 176,
    calMax: 192,
    qform: 344,
    sform: 348,
    quatern: 352,
    srow: 400,
  },
} as const

interface Header {
  readonly version: 1 | 2
  readonly view: DataView
  /** The offset of a floating-point field's element, and its reading. */
  readonly real: (place: number, index: number) => number
  readonly dim: (index: number) => number
}

function openHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = view.getInt32(0, true) === 540 ? 2 : 1
  const { dim } = PLACES[version]
  return {
    version,
    view,
    real: (place, index) =>
      version === 1 ? view.getFloat32(place + 4 * index, true) : view.getFloat64(place + 8 * index, true),
    dim: (index) =>
      version === 1 ? view.getInt16(dim + 2 * index, true) : Number(view.getBigInt64(dim + 8 * index, true)),
  }
}

/** Throws RangeError on anything but such a file. The voxels are a view of `buffer` where its alignment allows that. */
export function readNifti(buffer: ArrayBuffer): NiftiImage {
  const bytes = new Uint8Array(buffer)
  if (bytes.length < 352) throw new RangeError('the answer is no NIfTI file')
  const { version, view, real, dim } = openHeader(bytes)
  const places = PLACES[version]
  const offset = version === 1 ? real(places.offset, 0) : Number(view.getBigInt64(places.offset, true))
  const rank = dim(0)
  const along = (axis: number) => (axis <= rank ? Math.max(1, dim(axis)) : 1)
  const size: Vec3 = [along(1), along(2), along(3)]
  let channels = 1
  for (let axis = 4; axis <= 7; axis++) channels *= along(axis)
  const ArrayType = ARRAYS[view.getInt16(places.datatype, true) as keyof typeof ARRAYS]
  if (ArrayType === undefined) throw new RangeError('the answer has a type of voxels that this page does not know')
  const count = size[0] * size[1] * size[2] * channels
  if (bytes.length < offset + count * ArrayType.BYTES_PER_ELEMENT) throw new RangeError('the answer is too short')
  const aligned = offset % ArrayType.BYTES_PER_ELEMENT === 0
  const data = aligned
    ? new ArrayType(buffer, offset, count)
    : new ArrayType(buffer.slice(offset, offset + count * ArrayType.BYTES_PER_ELEMENT))
  return { size, channels, affine: affineOf(version, view, real, dim), data, header: bytes.slice(0, offset) }
}

/** The sform where there is one, else the qform, else the voxel sizes: the order of nibabel, ITK and the server. */
function affineOf(version: 1 | 2, view: DataView, real: Header['real'], dim: Header['dim']): Float64Array {
  const { pixdim, qform, sform, quatern, srow } = PLACES[version]
  const code = (place: number) => (version === 1 ? view.getInt16(place, true) : view.getInt32(place, true))
  if (code(sform) > 0) {
    const rows = Array.from({ length: 12 }, (_, i) => real(srow, i))
    return Float64Array.from([...rows, 0, 0, 0, 1])
  }
  const [dx, dy, dz] = [real(pixdim, 1), real(pixdim, 2), real(pixdim, 3)]
  if (code(qform) > 0) {
    const [b, c, d] = [real(quatern, 0), real(quatern, 1), real(quatern, 2)]
    const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d))
    const z = real(pixdim, 0) < 0 ? -dz : dz
    return Float64Array.from([
      ...[(a * a + b * b - c * c - d * d) * dx, 2 * (b * c - a * d) * dy, 2 * (b * d + a * c) * z, real(quatern, 3)],
      ...[2 * (b * c + a * d) * dx, (a * a + c * c - b * b - d * d) * dy, 2 * (c * d - a * b) * z, real(quatern, 4)],
      ...[2 * (b * d - a * c) * dx, 2 * (c * d + a * b) * dy, (a * a + d * d - b * b - c * c) * z, real(quatern, 5)],
      ...[0, 0, 0, 1],
    ])
  }
  // nibabel's fallback: the middle of the image is the origin, and x runs to the left.
  const centre = (axis: number) => ((dim(axis) || 1) - 1) / 2
  return Float64Array.from([
    -dx,
    0,
    0,
    dx * centre(1),
    0,
    dy,
    0,
    -dy * centre(2),
    0,
    0,
    dz,
    -dz * centre(3),
    0,
    0,
    0,
    1,
  ])
}

/** The same header around a label map of one byte a voxel: what the server restated of the scan's geometry stays bit for bit. */
export function labelNifti(header: Uint8Array, labels: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(header.length + labels.length)
  bytes.set(header)
  bytes.set(labels, header.length)
  const { version, view, dim } = openHeader(bytes)
  setType(view, version, UINT8, 8)
  setReal(view, version, PLACES[version].slope, [1, 0])
  setReal(view, version, PLACES[version].calMax, [0, 0])
  setDims(view, version, [Math.min(dim(0), 3), dim(1), dim(2), dim(3), 1, 1, 1, 1])
  return bytes
}

/** A volume in the axes R, A, S as a file: what the 3-D view is given. */
export function displayNifti(data: Voxels, size: Vec3, spacing: Vec3): ArrayBuffer {
  const shown = data instanceof Float64Array ? Float32Array.from(data) : data
  const centred = spacing.map((mm, axis) => (-mm * (size[axis]! - 1)) / 2)
  const srow = [0, 1, 2].flatMap((row) => [0, 1, 2].map((c) => (c === row ? spacing[c]! : 0)).concat(centred[row]!))
  return imageNifti(shown, [3, ...size, 1, 1, 1, 1], spacing, srow).buffer
}

/** One slice as an image of its own, for the tools that work on slices. */
export function sliceNifti(data: Voxels, width: number, height: number): Uint8Array<ArrayBuffer> {
  return imageNifti(data, [2, width, height, 1, 1, 1, 1, 1], [1, 1, 1], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0])
}

function imageNifti(
  data: Voxels,
  dims: readonly number[],
  spacing: Vec3,
  srow: readonly number[],
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(352 + data.byteLength)
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 352)
  const view = new DataView(bytes.buffer)
  view.setInt32(0, 348, true)
  setDims(view, 1, dims)
  const type = Number(Object.entries(ARRAYS).find(([, ArrayType]) => data instanceof ArrayType)![0])
  setType(view, 1, type, data.BYTES_PER_ELEMENT * 8)
  setReal(view, 1, PLACES[1].pixdim, [1, ...spacing, 1])
  setReal(view, 1, PLACES[1].offset, [352, 1, 0])
  // NIFTI_UNITS_MM
  bytes[123] = 2
  view.setInt16(PLACES[1].sform, 1, true)
  setReal(view, 1, PLACES[1].srow, srow)
  bytes.set([0x6e, 0x2b, 0x31], 344)
  return bytes
}

function setDims(view: DataView, version: 1 | 2, dims: readonly number[]): void {
  dims.forEach((n, i) => {
    if (version === 1) view.setInt16(PLACES[1].dim + 2 * i, n, true)
    else view.setBigInt64(PLACES[2].dim + 8 * i, BigInt(n), true)
  })
}

function setType(view: DataView, version: 1 | 2, datatype: number, bits: number): void {
  view.setInt16(PLACES[version].datatype, datatype, true)
  view.setInt16(PLACES[version].datatype + 2, bits, true)
}

function setReal(view: DataView, version: 1 | 2, place: number, values: readonly number[]): void {
  values.forEach((value, i) => {
    if (version === 1) view.setFloat32(place + 4 * i, value, true)
    else view.setFloat64(place + 8 * i, value, true)
  })
}
