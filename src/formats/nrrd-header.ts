/** NRRD headers (teem's format definition, versions 1 to 5), attached to their voxels (.nrrd) or beside them (.nhdr). */
import { AppError } from '../errors.js'
import { flipLpsRas, isInvertible } from '../volume/quaternion.js'
import type { Vec3 } from '../volume/volume.js'
import { type DataFiles, dataFilesOf } from './data-files.js'
import type { StoredType } from './voxel-types.js'

export interface NrrdHeader {
  /** Bytes up to and including the empty line. */
  readonly headerBytes: number
  readonly type: StoredType
  readonly encoding: 'raw' | 'gzip' | 'text' | 'hex'
  /** Undefined where the voxels follow the header. */
  readonly dataFiles: DataFiles | undefined
  /** Lines to step over before the voxels. */
  readonly lineSkip: number
  /** What programs say beside the format's own fields, `key:=value`. */
  readonly keyValues: ReadonlyMap<string, string>
  readonly littleEndian: boolean
  /** Bytes to step over before the voxels, in the unpacked stream; -1 means: the voxels are the last bytes of the file. */
  readonly byteSkip: number
  readonly size: Vec3
  /** Length of the non-spatial axis, and whether it is the fastest. */
  readonly channels: number
  readonly channelsFirst: boolean
  /** The channels are red, green, blue (and alpha). */
  readonly colours?: 3 | 4 | undefined
  /** Index -> mm, RAS+. */
  readonly affine: Float64Array
  readonly notes: readonly string[]
}

/** A header longer than this is no header: real ones are a few hundred bytes, with DICOM tags as key/values some 100 KB. */
export const NRRD_MAX_HEADER_BYTES = 1024 * 1024

const TYPES: Readonly<Record<string, StoredType>> = {
  'signed char': 'int8',
  int8: 'int8',
  int8_t: 'int8',
  uchar: 'uint8',
  'unsigned char': 'uint8',
  uint8: 'uint8',
  uint8_t: 'uint8',
  short: 'int16',
  'short int': 'int16',
  'signed short': 'int16',
  'signed short int': 'int16',
  int16: 'int16',
  int16_t: 'int16',
  ushort: 'uint16',
  'unsigned short': 'uint16',
  'unsigned short int': 'uint16',
  uint16: 'uint16',
  uint16_t: 'uint16',
  int: 'int32',
  'signed int': 'int32',
  int32: 'int32',
  int32_t: 'int32',
  uint: 'uint32',
  'unsigned int': 'uint32',
  uint32: 'uint32',
  uint32_t: 'uint32',
  longlong: 'int64',
  'long long': 'int64',
  'long long int': 'int64',
  'signed long long': 'int64',
  'signed long long int': 'int64',
  int64: 'int64',
  int64_t: 'int64',
  ulonglong: 'uint64',
  'unsigned long long': 'uint64',
  'unsigned long long int': 'uint64',
  uint64: 'uint64',
  uint64_t: 'uint64',
  float: 'float32',
  double: 'float64',
}

/** bzip2 needs a library that nothing else here does; Slicer and teem write gzip. */
const ENCODINGS: Readonly<Record<string, NrrdHeader['encoding']>> = {
  raw: 'raw',
  gzip: 'gzip',
  gz: 'gzip',
  ascii: 'text',
  text: 'text',
  txt: 'text',
  hex: 'hex',
}

/** For each space: which of x and y run the other way than in RAS+. Spaces without anatomy count as LPS+, as ITK has it. */
const SPACES: Readonly<Record<string, readonly [boolean, boolean]>> = {
  'right-anterior-superior': [false, false],
  ras: [false, false],
  'left-anterior-superior': [true, false],
  las: [true, false],
  'left-posterior-superior': [true, true],
  lps: [true, true],
  'scanner-xyz': [true, true],
  '3d-right-handed': [true, true],
  '3d-left-handed': [true, true],
}

export function isNrrd(head: Uint8Array): boolean {
  return /^NRRD000\d/.test(Buffer.from(head.subarray(0, 8)).toString('latin1'))
}

/** Decodes the header at the start of `bytes`, which are the whole file where it is a header alone. Throws UNREADABLE_IMAGE or UNSUPPORTED_FORMAT, naming the field. */
export function decodeNrrdHeader(bytes: Uint8Array): NrrdHeader {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  const end = /\r?\n\r?\n/.exec(text)
  const headerBytes = end ? end.index + end[0].length : bytes.length
  const header = end ? text.slice(0, end.index) : text
  const data = /^data ?file: *(.*?)[ \r]*$/im.exec(header)
  if (!end && !data) {
    if (bytes.length >= NRRD_MAX_HEADER_BYTES) throw unreadable(`it does not end within ${NRRD_MAX_HEADER_BYTES} bytes`)
    throw unreadable('it ends without an empty line, and names no data file')
  }
  const { fields, keyValues } = fieldsOf(header)

  const dimension = wholeNumber(fields, 'dimension')
  const sizes = words(required(fields, 'sizes')).map(Number)
  if (sizes.length !== dimension || !sizes.every((n) => Number.isSafeInteger(n) && n > 0))
    throw unreadable(`'sizes' must be ${dimension} whole numbers of at least 1`)
  const type = TYPES[required(fields, 'type').toLowerCase()]
  if (!type) throw unsupported(`type '${required(fields, 'type')}' is not a number type`)
  const named = required(fields, 'encoding').toLowerCase()
  const encoding = ENCODINGS[named]
  if (!encoding) throw unsupported(`encoding '${named}' is not raw, gzip, text or hex`)
  const endian = fields.get('endian')?.toLowerCase()
  const anyOrder = type === 'uint8' || type === 'int8' || encoding === 'text'
  if (!anyOrder && endian !== 'little' && endian !== 'big') throw unreadable("'endian' must be little or big")
  const byteSkip = fields.has('byte skip') ? Number(fields.get('byte skip')) : 0
  if (!Number.isSafeInteger(byteSkip) || byteSkip < -1) throw unreadable("'byte skip' must be a whole number")

  return {
    headerBytes,
    type,
    encoding,
    dataFiles: data ? dataFilesOf(data[1]!, header.slice(data.index + data[0].length)) : undefined,
    lineSkip: fields.has('line skip') ? wholeNumber(fields, 'line skip') : 0,
    keyValues,
    littleEndian: endian !== 'big',
    byteSkip,
    ...placement(fields, sizes),
  }
}

type Placement = Pick<NrrdHeader, 'size' | 'channels' | 'channelsFirst' | 'colours' | 'affine' | 'notes'>

/** Tells the spatial axes from the one that is none, and where they lie in the world. */
function placement(fields: ReadonlyMap<string, string>, sizes: readonly number[]): Placement {
  const directions = fields.get('space directions')
  const vectors = directions === undefined ? undefined : vectorsOf(directions)
  if (vectors && vectors.length !== sizes.length)
    throw unreadable(`'space directions' must have one entry for each of the ${sizes.length} axes`)
  const spatial = spatialAxes(fields, sizes, vectors)
  const others = sizes.map((_, axis) => axis).filter((axis) => !spatial.includes(axis))
  const [other] = others
  const middle = other !== undefined && other > spatial[0]! && other < spatial.at(-1)!
  if (others.length > 1 || middle || spatial.length === 0 || spatial.length > 3) {
    throw unsupported(
      `of its ${sizes.length} axes ${spatial.length} are spatial; up to 3, with at most one other axis first or last, can be read`,
    )
  }
  const size = [0, 1, 2].map((i) => (spatial[i] === undefined ? 1 : sizes[spatial[i]]!)) as unknown as Vec3
  return {
    size,
    channels: other === undefined ? 1 : sizes[other]!,
    channelsFirst: other !== undefined && other < spatial[0]!,
    colours: other === undefined ? undefined : coloursOf(fields, other, sizes[other]!),
    ...affineOf(fields, spatial, vectors),
  }
}

/** What teem says of colours; 3D Slicer writes those of pictures as a `vector` of bytes. */
function coloursOf(fields: ReadonlyMap<string, string>, axis: number, samples: number): 3 | 4 | undefined {
  if (samples !== 3 && samples !== 4) return undefined
  const kind = fields.has('kinds') ? words(required(fields, 'kinds').toLowerCase())[axis] : undefined
  if (kind === undefined) return undefined
  const bytes = TYPES[required(fields, 'type').toLowerCase()] === 'uint8'
  return kind.endsWith('-color') || (bytes && kind.endsWith('vector')) ? samples : undefined
}

function spatialAxes(
  fields: ReadonlyMap<string, string>,
  sizes: readonly number[],
  vectors: readonly (readonly number[] | undefined)[] | undefined,
): number[] {
  const axes = sizes.map((_, axis) => axis)
  if (vectors) return axes.filter((axis) => vectors[axis] !== undefined)
  const kinds = fields.has('kinds') ? words(required(fields, 'kinds').toLowerCase()) : []
  if (kinds.length === sizes.length && kinds.some((kind) => kind === 'domain' || kind === 'space'))
    return axes.filter((axis) => kinds[axis] === 'domain' || kinds[axis] === 'space' || kinds[axis] === '???')
  return axes.slice(0, 3)
}

function affineOf(
  fields: ReadonlyMap<string, string>,
  spatial: readonly number[],
  vectors: readonly (readonly number[] | undefined)[] | undefined,
): Pick<Placement, 'affine' | 'notes'> {
  const space = fields.get('space')?.toLowerCase()
  if (space?.endsWith('-time') || (space !== undefined && !SPACES[space]))
    throw unsupported(`space '${space}' is not known`)
  const affine = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
  const spacings = fields.has('spacings') ? words(required(fields, 'spacings')).map(Number) : []
  spatial.forEach((axis, column) => {
    const vector = vectors?.[axis]
    const spacing = spacings[axis]
    if (vector) for (let row = 0; row < 3; row++) affine[row * 4 + column] = vector[row] ?? 0
    else if (spacing !== undefined && Number.isFinite(spacing) && spacing !== 0) affine[column * 5] = spacing
  })
  const origin = fields.has('space origin') ? vectorsOf(required(fields, 'space origin'))[0] : undefined
  for (let row = 0; row < 3; row++) affine[row * 4 + 3] = origin?.[row] ?? 0
  const [flipX, flipY] = SPACES[space ?? 'lps']!
  if (!isInvertible(affine)) {
    return {
      affine: flipLpsRas(Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)),
      notes: ['the space directions cannot be inverted and were not used'],
    }
  }
  const signed = affine.map((value, i) =>
    value !== 0 && ((i < 4 && flipX) || (i >= 4 && i < 8 && flipY)) ? -value : value,
  )
  return { affine: signed, notes: [] }
}

function fieldsOf(text: string): { fields: Map<string, string>; keyValues: Map<string, string> } {
  const fields = new Map<string, string>()
  const keyValues = new Map<string, string>()
  for (const line of text.split(/\r?\n/).slice(1)) {
    if (line.startsWith('#')) continue
    const [, key, value] = /^([^:]*):=(.*)$/.exec(line) ?? []
    if (key !== undefined && value !== undefined) {
      keyValues.set(key, Buffer.from(value, 'latin1').toString('utf8').replaceAll('\\n', '\n'))
      continue
    }
    const colon = line.indexOf(': ')
    if (colon > 0) fields.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 2).trim())
  }
  return { fields, keyValues }
}

const words = (text: string): string[] => text.trim().split(/\s+/)

/** '(1,0,0) none (0,0,1)' to vectors. */
function vectorsOf(text: string): (number[] | undefined)[] {
  return [...text.matchAll(/none|\(([^)]*)\)/gi)].map(([, inside]) => {
    if (inside === undefined) return undefined
    const vector = inside.split(',').map(Number)
    if (vector.length < 1 || vector.length > 3 || !vector.every(Number.isFinite))
      throw unreadable(`'(${inside.slice(0, 60)})' is not a vector of up to 3 numbers`)
    return vector
  })
}

function required(fields: ReadonlyMap<string, string>, name: string): string {
  const value = fields.get(name)
  if (value === undefined) throw unreadable(`'${name}' is missing`)
  return value
}

function wholeNumber(fields: ReadonlyMap<string, string>, name: string): number {
  const value = Number(required(fields, name))
  if (!Number.isSafeInteger(value) || value < 0) throw unreadable(`'${name}' must be a whole number`)
  return value
}

function unreadable(what: string): AppError {
  return new AppError('UNREADABLE_IMAGE', `the NRRD header cannot be used: ${what}`)
}

function unsupported(what: string): AppError {
  return new AppError('UNSUPPORTED_FORMAT', `this NRRD cannot be read: ${what}`)
}
