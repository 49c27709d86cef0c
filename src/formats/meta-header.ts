/** MetaImage headers (.mha, and .mhd beside its data), as MetaIO and ITK read them. */
import { AppError } from '../errors.js'
import { flipLpsRas, isInvertible } from '../volume/quaternion.js'
import type { Vec3 } from '../volume/volume.js'
import { type DataFiles, dataFilesOf } from './data-files.js'
import type { StoredType } from './voxel-types.js'

export interface MetaHeader {
  /** Bytes up to and including the line that says where the voxels are. */
  readonly headerBytes: number
  readonly type: StoredType
  readonly size: Vec3
  /** Times of a fourth axis. */
  readonly times: number
  /** Numbers of one voxel, which lie together. */
  readonly samples: number
  readonly littleEndian: boolean
  readonly compressed: boolean
  /** Numbers as text. */
  readonly text: boolean
  /** Bytes before the voxels in their file; -1 means: the voxels are its last bytes. */
  readonly skip: number
  /** Undefined where the voxels follow the header. */
  readonly dataFiles: DataFiles | undefined
  /** Index -> mm, RAS+. */
  readonly affine: Float64Array
  readonly notes: readonly string[]
}

/** A header longer than this is none: real ones are half a kilobyte. */
export const META_MAX_HEADER_BYTES = 256 * 1024

const TYPES: Readonly<Record<string, StoredType>> = {
  CHAR: 'int8',
  UCHAR: 'uint8',
  SHORT: 'int16',
  USHORT: 'uint16',
  INT: 'int32',
  UINT: 'uint32',
  LONG: 'int32',
  ULONG: 'uint32',
  LONG_LONG: 'int64',
  ULONG_LONG: 'uint64',
  FLOAT: 'float32',
  DOUBLE: 'float64',
}

export function isMeta(head: Uint8Array): boolean {
  const text = Buffer.from(head.subarray(0, 64)).toString('latin1')
  return /^\s*(ObjectType|NDims|Comment|ObjectSubType|BinaryData)\s*=/.test(text)
}

/** Decodes the header at the start of `bytes`. Throws UNREADABLE_IMAGE or UNSUPPORTED_FORMAT, naming the field. */
export function decodeMetaHeader(bytes: Uint8Array): MetaHeader {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  const data = /^[ \t]*ElementDataFile[ \t]*=[ \t]*(.*?)[ \t\r]*(\n|$)/m.exec(text)
  if (!data) throw unreadable("'ElementDataFile' is missing")
  const fields = fieldsOf(text.slice(0, data.index))
  const kind = fields.get('ObjectType') ?? 'Image'
  if (kind !== 'Image') throw unsupported(`its ObjectType is '${kind.slice(0, 40)}', not Image`)
  const headerBytes = data.index + data[0].length

  const dims = number(fields, 'NDims')
  const sizes = numbers(fields, ['DimSize']) ?? []
  if (sizes.length !== dims || !sizes.every((n) => Number.isSafeInteger(n) && n > 0))
    throw unreadable(`'DimSize' must be ${dims} whole numbers of at least 1`)
  if (dims < 1 || dims > 4) throw unsupported(`it has ${dims} dimensions; up to 3, and time, can be read`)
  const named = fields.get('ElementType') ?? ''
  const type = TYPES[named.replace(/^MET_/, '').replace(/_ARRAY$/, '')]
  if (!type) throw unsupported(`ElementType '${named.slice(0, 40)}' is not a number type`)
  const samples = fields.has('ElementNumberOfChannels') ? number(fields, 'ElementNumberOfChannels') : 1
  if (!Number.isSafeInteger(samples) || samples < 1)
    throw unreadable("'ElementNumberOfChannels' must be a whole number of at least 1")
  const skip = fields.has('HeaderSize') ? number(fields, 'HeaderSize') : 0
  if (!Number.isSafeInteger(skip) || skip < -1) throw unreadable("'HeaderSize' must be a whole number")
  const msb = fields.get('BinaryDataByteOrderMSB') ?? fields.get('ElementByteOrderMSB')
  const local = data[1]!.toUpperCase() === 'LOCAL'
  return {
    headerBytes,
    type,
    size: [sizes[0]!, sizes[1] ?? 1, sizes[2] ?? 1],
    times: sizes[3] ?? 1,
    samples,
    littleEndian: !isTrue(msb),
    compressed: isTrue(fields.get('CompressedData')),
    text: fields.has('BinaryData') && !isTrue(fields.get('BinaryData')),
    skip,
    dataFiles: local ? undefined : dataFilesOf(data[1]!, text.slice(headerBytes)),
    ...affineOf(fields, dims),
  }
}

/** Direction of each axis, one after the other, times its spacing; the origin is the first voxel's centre. All in LPS+. */
function affineOf(fields: ReadonlyMap<string, string>, dims: number): Pick<MetaHeader, 'affine' | 'notes'> {
  const matrix = numbers(fields, ['TransformMatrix', 'Rotation', 'Orientation'])
  const spacing = numbers(fields, ['ElementSpacing', 'ElementSize'])
  const origin = numbers(fields, ['Offset', 'Position', 'Origin'])
  const lps = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
  const spatial = Math.min(3, dims)
  for (let axis = 0; axis < spatial; axis++) {
    for (let row = 0; row < spatial; row++)
      lps[row * 4 + axis] = (matrix?.[axis * dims + row] ?? (row === axis ? 1 : 0)) * (spacing?.[axis] ?? 1)
    lps[axis * 4 + 3] = origin?.[axis] ?? 0
  }
  if (isInvertible(lps)) return { affine: flipLpsRas(lps), notes: [] }
  return {
    affine: flipLpsRas(Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)),
    notes: ['the TransformMatrix and ElementSpacing cannot be inverted and were not used'],
  }
}

function fieldsOf(text: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const line of text.split(/\r?\n/)) {
    const [, key, value] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(line) ?? []
    if (key !== undefined && value !== undefined) fields.set(key, value)
  }
  return fields
}

const isTrue = (word: string | undefined): boolean => /^(true|t|1|yes|y)$/i.test(word ?? '')

function numbers(fields: ReadonlyMap<string, string>, names: readonly string[]): number[] | undefined {
  const name = names.find((one) => fields.has(one))
  if (name === undefined) return undefined
  const values = fields.get(name)!.split(/\s+/).map(Number)
  if (!values.every(Number.isFinite)) throw unreadable(`'${name}' must be numbers`)
  return values
}

function number(fields: ReadonlyMap<string, string>, name: string): number {
  const value = Number(fields.get(name) ?? Number.NaN)
  if (!Number.isFinite(value)) throw unreadable(`'${name}' must be a number`)
  return value
}

function unreadable(what: string): AppError {
  return new AppError('UNREADABLE_IMAGE', `the MetaImage header cannot be used: ${what}`)
}

function unsupported(what: string): AppError {
  return new AppError('UNSUPPORTED_FORMAT', `this MetaImage cannot be read: ${what}`)
}
