/**
 * What one DICOM file says about its pixels, as plain numbers. Owned here: finding the data set in whatever transfer
 * syntax, and the attributes that geometry and pixels need. Nothing of a patient leaves this file.
 *
 * Vectors are DICOM's own here: millimetres in LPS+, `row` points along a row (growing column), `column` down a column.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { inflateRawSync } from 'node:zlib'
import { AppError } from '../errors.js'
import { cross } from '../volume/vec3.js'
import type { Vec3 } from '../volume/volume.js'
import { type DataSet, DataSetEnds, type Encoding, NestedTooDeep, parseDataSet, type Tag } from './dicom-dataset.js'
import type { ReadLimits } from './format.js'

/** One frame's place in space and the way from stored values to real ones. */
export interface DicomFrame {
  readonly position: Vec3 | undefined
  /** Digits behind the point that the position was written with, at most in its three numbers. */
  readonly positionDecimals: number
  readonly row: Vec3 | undefined
  readonly column: Vec3 | undefined
  /** Millimetres between rows, then between columns, as PixelSpacing has them. */
  readonly pixelSpacing: readonly [number, number] | undefined
  readonly slope: number
  readonly intercept: number
}

export interface PixelLocation {
  readonly tag: Tag
  /** Of the first byte of the value (native) or of the Basic Offset Table's item (encapsulated). */
  readonly offset: number
  /** Bytes of the value; undefined when encapsulated. */
  readonly length: number | undefined
}

export interface Palette {
  readonly bits: 8 | 16
  /** Stored value that the first entry belongs to. */
  readonly first: number
  readonly red: Uint16Array
  readonly green: Uint16Array
  readonly blue: Uint16Array
}

export interface DicomHeader {
  readonly sopClassUid: string
  readonly sopInstanceUid: string
  readonly studyUid: string
  readonly seriesUid: string
  readonly instanceNumber: number | undefined
  readonly modality: string
  readonly transferSyntax: string
  readonly rows: number
  readonly columns: number
  readonly samples: number
  readonly photometric: string
  /** Colour planes one after the other instead of samples side by side. */
  readonly planar: boolean
  readonly sampleType: 'integer' | 'float32' | 'float64'
  /** Pixels that are not compressed have their highest byte first. */
  readonly bigEndian: boolean
  readonly bitsAllocated: number
  readonly bitsStored: number
  readonly highBit: number
  readonly signed: boolean
  readonly frames: readonly DicomFrame[]
  /** SpacingBetweenSlices of a multi-frame object that gives its frames no places of their own. */
  readonly frameSpacing: number | undefined
  readonly sliceThickness: number | undefined
  readonly palette: Palette | undefined
  readonly pixels: PixelLocation
  /** The Extended Offset Table: where each frame's fragments begin, from the first one on. */
  readonly frameOffsets: readonly number[] | undefined
  /** How the file was read where its header cannot be taken at its word: "its NumberOfFrames is 0, read as 1". */
  readonly notes: readonly string[]
}

/**
 * Bytes of one file at will: from the disk, or from memory where the whole data set was deflated. Reading blocks: these
 * files have just been written, and asking another thread for what the system holds in memory takes longer than copying
 * it (200 slices: 0.1 s). Whoever reads many lets the event loop turn in between.
 */
export interface DicomBytes {
  readonly size: number
  /** Fills `target` from `offset`; returns how many bytes there were. */
  read(target: Uint8Array, offset: number): number
  close(): void
}

export const IMPLICIT_LITTLE = '1.2.840.10008.1.2'
export const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1'
export const DEFLATED_LITTLE = '1.2.840.10008.1.2.1.99'
export const EXPLICIT_BIG = '1.2.840.10008.1.2.2'
/** An implicit little-endian data set whose pixels are big-endian: what GE's scanners wrote once. */
export const GE_BIG_PIXELS = '1.2.840.113619.5.2'

/** Enough for the header of nearly every single-frame file; more is read only where the pixels have not begun by then. */
const FIRST_READ_BYTES = 64 * 1024
/** A header is parsed into objects many times its size, so it gets a bound of its own; 20 000 enhanced frames fit. */
const MAX_HEADER_BYTES = 32 * 1024 * 1024
const MAX_FRAMES = 65_536
const PREAMBLE_BYTES = 128
/** Of integers, of 32-bit floats and of 64-bit floats: a data set has one of them. */
const PIXEL_DATA: Readonly<Record<Tag, DicomHeader['sampleType']>> = {
  2145386504: 'float32',
  2145386505: 'float64',
  2145386512: 'integer',
}
const isPixelData = (tag: Tag): boolean => tag in PIXEL_DATA

/** Whether a file that begins with these bytes is worth parsing as DICOM: with its preamble, or a bare data set. */
export function looksLikeDicom(head: Uint8Array): boolean {
  return startOf(head) !== undefined
}

/** Where the file's first element is: behind the preamble, behind a prefix without one, or at once. */
function startOf(head: Uint8Array): number | undefined {
  const prefixAt = (at: number) => Buffer.from(head.subarray(at, at + 4)).toString('latin1') === 'DICM'
  if (prefixAt(PREAMBLE_BYTES)) return PREAMBLE_BYTES + 4
  if (prefixAt(0)) return 4
  return beginsBare(head) ? 0 : undefined
}

/**
 * Whether bytes without a prefix are meta information or a data set: those begin with group 2 or 8, and an element of few
 * bytes with another of these groups behind it.
 */
function beginsBare(head: Uint8Array): boolean {
  if (head.length < 16) return false
  const groups = [head[0]! + head[1]! * 256, head[0]! * 256 + head[1]!]
  if (!groups.some((group) => group === 2 || group === 8)) return false
  let elements = 0
  let last = -1
  try {
    // Elements come in the order of their tags; small whole numbers, as voxels often are, do not.
    const count = (tag: Tag) => {
      if (tag <= last) elements = Number.NEGATIVE_INFINITY
      last = tag
      return tag > 0x00280000 || ++elements > 2 || elements < 0
    }
    parseDataSet(head, 0, { explicit: true, littleEndian: true }, { until: count })
  } catch {}
  return elements > 2
}

/**
 * Reads a file's header; `undefined` when the object has no pixel data (a report, a DICOMDIR, a plan). `name` says which
 * file it is in messages ("file 3 of 20"). Throws UNREADABLE_IMAGE, UNSUPPORTED_FORMAT and TOO_LARGE.
 */
export function readDicomHeader(path: string, limits: ReadLimits, name: string): DicomHeader | undefined {
  const found = openDataSet(path, limits, name)
  found.bytes.close()
  try {
    return readHeader(found, name)
  } catch (error) {
    throw error instanceof DataSetEnds ? unreadable(name, 'ends inside its DICOM header') : error
  }
}

/** The elements of a file that stand before its pixels: for what is to be copied as it is. */
export function readDicomAttributes(path: string, limits: ReadLimits, name: string): DataSet {
  const found = openDataSet(path, limits, name)
  found.bytes.close()
  return found.set
}

/** Opens the bytes that `header.pixels` points into. The caller closes them. */
export function openDicomBytes(path: string, header: DicomHeader, limits: ReadLimits, name: string): DicomBytes {
  return header.transferSyntax === DEFLATED_LITTLE ? openDataSet(path, limits, name).bytes : openFile(path)
}

function openFile(path: string): DicomBytes {
  const file = openSync(path, 'r')
  try {
    return fileBytes(file, fstatSync(file).size)
  } catch (error) {
    closeSync(file)
    throw error
  }
}

function fileBytes(file: number, size: number): DicomBytes {
  return {
    size,
    read(target, offset) {
      let filled = 0
      while (filled < target.length) {
        const bytesRead = readSync(file, target, filled, target.length - filled, offset + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return filled
    },
    close: () => closeSync(file),
  }
}

function memoryBytes(bytes: Uint8Array): DicomBytes {
  return {
    size: bytes.length,
    read(target, offset) {
      const part = bytes.subarray(offset, offset + target.length)
      target.set(part)
      return part.length
    },
    close() {},
  }
}

interface Found {
  readonly set: DataSet
  /** The tag and place of its pixels, if it has any. */
  readonly pixels: PixelLocation | undefined
  readonly syntax: string
  readonly littleEndian: boolean
  /** The file's own, or the inflated data set. */
  readonly bytes: DicomBytes
  readonly notes: readonly string[]
}

/** The caller closes `bytes`. */
function openDataSet(path: string, limits: ReadLimits, name: string): Found {
  const file = openFile(path)
  try {
    return findDataSet(file, limits, name)
  } catch (error) {
    file.close()
    throw error instanceof NestedTooDeep ? unreadable(name, 'has sequences nested too deeply') : error
  }
}

function findDataSet(file: DicomBytes, limits: ReadLimits, name: string): Found {
  const { size } = file
  let head: Uint8Array = new Uint8Array(Math.min(size, FIRST_READ_BYTES))
  file.read(head, 0)
  const start = startOf(head)
  if (start === undefined) throw unreadable(name, 'is not a DICOM file')
  for (;;) {
    try {
      return parseFile(file, head, start, limits, name)
    } catch (error) {
      if (!(error instanceof DataSetEnds)) throw error
    }
    if (head.length >= size) throw unreadable(name, 'ends inside its DICOM header')
    if (head.length >= MAX_HEADER_BYTES) throw unreadable(name, `has no pixel data in its first ${head.length} bytes`)
    // Cut short by our own reading: the next round begins again with eight times as much.
    head = new Uint8Array(Math.min(size, MAX_HEADER_BYTES, head.length * 8))
    file.read(head, 0)
  }
}

function parseFile(file: DicomBytes, head: Uint8Array, start: number, limits: ReadLimits, name: string): Found {
  const plain: Encoding = { explicit: true, littleEndian: true }
  const meta = parseDataSet(head, start, plain, { until: (tag) => tag >= 0x00030000, total: file.size })
  const stated = meta.set.text(0x00020010)
  if (stated === DEFLATED_LITTLE) return inflateDataSet(file, meta.end, limits, name)
  const announced = encodingOf(stated)
  const parsed = parseDataSet(head, meta.end, announced, { until: isPixelData, total: file.size })
  const { encoding } = parsed
  const notes: string[] = []
  if (stated !== undefined && encoding.explicit !== announced.explicit)
    notes.push(`its transfer syntax says ${kindOf(announced)}, its data set is ${kindOf(encoding)} and was read so`)
  else if (stated !== undefined && encoding.littleEndian !== announced.littleEndian)
    notes.push('its data set has the other byte order than its transfer syntax says, and was read so')
  const syntax = stated ?? syntaxOf(encoding)
  const { littleEndian } = encoding
  return { set: parsed.set, pixels: pixelsOf(parsed.set), syntax, littleEndian, bytes: file, notes }
}

const kindOf = ({ explicit }: Encoding): string => (explicit ? 'explicit' : 'implicit')

function encodingOf(syntax: string | undefined): Encoding {
  return {
    explicit: syntax !== IMPLICIT_LITTLE && syntax !== GE_BIG_PIXELS,
    littleEndian: syntax !== EXPLICIT_BIG,
  }
}

/** Of a data set that came without meta information. */
function syntaxOf({ explicit, littleEndian }: Encoding): string {
  return littleEndian ? (explicit ? EXPLICIT_LITTLE : IMPLICIT_LITTLE) : EXPLICIT_BIG
}

function pixelsOf(set: DataSet): PixelLocation | undefined {
  for (const tag of [0x7fe00010, 0x7fe00008, 0x7fe00009]) {
    const found = set.element(tag)
    if (found) return { tag, offset: found.offset, length: found.undefinedLength ? undefined : found.length }
  }
  return undefined
}

/** What a deflated data set takes while it is inflated, times its bytes: zlib holds the pieces when it joins them. */
export const INFLATING = 2

function inflateDataSet(file: DicomBytes, start: number, limits: ReadLimits, name: string): Found {
  const { size } = file
  if (size > limits.maxVolumeBytes) throw tooLarge(name, size, limits)
  const packed = new Uint8Array(size - start)
  file.read(packed, start)
  let inflated: Uint8Array
  try {
    inflated = inflateRawSync(packed, { maxOutputLength: Math.max(1, Math.floor(limits.maxVolumeBytes / INFLATING)) })
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException)?.code
    if (code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(name, Math.floor(limits.maxVolumeBytes / INFLATING), limits)
    throw unreadable(name, 'is damaged: its deflated data set cannot be read', cause)
  }
  const { set } = parseDataSet(inflated, 0, encodingOf(DEFLATED_LITTLE), { until: isPixelData })
  file.close()
  const found = { set, pixels: pixelsOf(set), syntax: DEFLATED_LITTLE, littleEndian: true }
  return { ...found, bytes: memoryBytes(inflated), notes: [] }
}

function readHeader({ set, pixels, syntax, littleEndian, notes }: Found, name: string): DicomHeader | undefined {
  if (!pixels) return undefined
  const rows = set.uint16(0x00280010) ?? 0
  const columns = set.uint16(0x00280011) ?? 0
  if (rows === 0 || columns === 0) throw unreadable(name, `has ${rows} rows and ${columns} columns`)
  const frameCount = set.element(0x00280008) ? (set.numbers(0x00280008, 1)?.[0] ?? Number.NaN) : 1
  if (!(Number.isInteger(frameCount) && frameCount >= 0 && frameCount <= MAX_FRAMES))
    throw unreadable(name, `has a NumberOfFrames that is not between 1 and ${MAX_FRAMES}`)
  const own = [...notes]
  if (frameCount === 0) own.push('its NumberOfFrames is 0, read as 1')
  const sampleType = PIXEL_DATA[pixels.tag]!
  return {
    sopClassUid: set.text(0x00080016) ?? '',
    sopInstanceUid: set.text(0x00080018) ?? '',
    studyUid: set.text(0x0020000d) ?? '',
    seriesUid: set.text(0x0020000e) ?? '',
    instanceNumber: set.numbers(0x00200013, 1)?.[0],
    modality: set.text(0x00080060) ?? '',
    transferSyntax: syntax,
    rows,
    columns,
    samples: set.uint16(0x00280002) ?? 1,
    photometric: set.text(0x00280004) ?? 'MONOCHROME2',
    planar: set.uint16(0x00280006) === 1,
    sampleType,
    bigEndian: !littleEndian || syntax === GE_BIG_PIXELS,
    ...readBits(set, sampleType, name, own),
    signed: set.uint16(0x00280103) === 1,
    frames: readFrames(set, Math.max(1, frameCount), name),
    frameSpacing: set.numbers(0x00180088, 1)?.[0],
    sliceThickness: set.numbers(0x00180050, 1)?.[0],
    palette: readPalette(set),
    pixels,
    frameOffsets: set.longs(0x7fe00001),
    notes: own,
  }
}

function readBits(
  set: DataSet,
  sampleType: DicomHeader['sampleType'],
  name: string,
  notes: string[],
): Pick<DicomHeader, 'bitsAllocated' | 'bitsStored' | 'highBit'> {
  const floating = sampleType === 'float32' ? 32 : 64
  const bitsAllocated = sampleType === 'integer' ? (set.uint16(0x00280100) ?? 0) : floating
  if (sampleType !== 'integer') return { bitsAllocated, bitsStored: bitsAllocated, highBit: bitsAllocated - 1 }
  if (![1, 8, 16, 32].includes(bitsAllocated))
    throw new AppError('UNSUPPORTED_FORMAT', `${name} has ${bitsAllocated} bits a pixel; 1, 8, 16 and 32 are supported`)
  const stated = set.uint16(0x00280101) ?? bitsAllocated
  const bitsStored = stated >= 1 && stated <= bitsAllocated ? stated : bitsAllocated
  if (bitsStored !== stated) notes.push(`its BitsStored is ${stated}, read as ${bitsStored}, its BitsAllocated`)
  const top = set.uint16(0x00280102) ?? bitsStored - 1
  const highBit = top >= bitsStored - 1 && top < bitsAllocated ? top : bitsStored - 1
  if (highBit !== top) notes.push(`its HighBit is ${top}, read as ${highBit}, since its BitsStored is ${bitsStored}`)
  return { bitsAllocated, bitsStored, highBit }
}

/** Enhanced objects say these per frame or shared, in functional groups; all others once, at the top. */
function readFrames(set: DataSet, count: number, name: string): DicomFrame[] {
  const shared = set.items(0x52009229)[0]
  const own = set.items(0x52009230)
  if (own.length > 0 && own.length !== count)
    throw unreadable(name, `describes ${own.length} frames and announces ${count}`)
  const detector = set.items(0x00540022)[0]
  const top = groupsOf(set, [set, detector])
  const common = shared ? groupsOf(shared, undefined, top) : top
  if (own.length > 0) return own.map((group) => groupsOf(group, undefined, common))
  // A dose grid's frames lie so far from the first along the normal, or at such places of the patient's z axis.
  const offsets = count > 1 ? set.numbers(0x3004000c, count) : undefined
  const { position, row, column } = common
  if (!offsets || !position || !row || !column) return new Array<DicomFrame>(count).fill(common)
  const normal = cross(row, column)
  const first = offsets[0] === 0 ? 0 : position[2]
  return offsets.map((offset) => ({
    ...common,
    position: [0, 1, 2].map((axis) => position[axis]! + (offset - first) * normal[axis]!) as unknown as Vec3,
  }))
}

function groupsOf(set: DataSet, flat?: readonly (DataSet | undefined)[], fallback?: DicomFrame): DicomFrame {
  const from = (group: Tag) => flat ?? set.items(group)
  const first = (group: Tag, tag: Tag, count: number): { values: number[]; texts: string[] } | undefined => {
    for (const one of from(group)) {
      const values = one?.numbers(tag, count)
      if (values) return { values, texts: one!.texts(tag) }
    }
    return undefined
  }
  const position = first(0x00209113, 0x00200032, 3)
  const directions = first(0x00209116, 0x00200037, 6)?.values
  const spacing = (first(0x00289110, 0x00280030, 2) ?? (flat ? first(0, 0x00181164, 2) : undefined))?.values
  const slope = first(0x00289145, 0x00281053, 1) ?? (flat ? first(0, 0x3004000e, 1) : undefined)
  const intercept = first(0x00289145, 0x00281052, 1)
  return {
    position: position ? vec(position.values, 0) : fallback?.position,
    positionDecimals: position ? Math.max(...position.texts.map(decimalsOf)) : (fallback?.positionDecimals ?? 0),
    row: directions ? vec(directions, 0) : fallback?.row,
    column: directions ? vec(directions, 3) : fallback?.column,
    pixelSpacing: spacing ? [spacing[0]!, spacing[1]!] : fallback?.pixelSpacing,
    // A slope of zero would make every value the same; it is written by mistake, and GDCM and dcm2niix read it as one.
    slope: (slope?.values[0] ?? fallback?.slope) || 1,
    intercept: intercept?.values[0] ?? fallback?.intercept ?? 0,
  }
}

const vec = (values: readonly number[], at: number): Vec3 => [values[at]!, values[at + 1]!, values[at + 2]!]

/** "-12.50" and "-1.250e1" have two. */
function decimalsOf(text: string): number {
  const [, fraction = '', exponent = '0'] = /^[^.eE]*(?:\.(\d*))?(?:[eE]([-+]?\d+))?$/.exec(text) ?? []
  return Math.max(0, fraction.length - Number(exponent))
}

function readPalette(set: DataSet): Palette | undefined {
  const [entries, start, bits] = set.numbers(0x00281101, 3, 'US') ?? []
  if (entries === undefined || start === undefined || (bits !== 8 && bits !== 16)) return undefined
  // The first stored value is signed where the pixels are, though nearly all files write it in an unsigned VR.
  const first = set.uint16(0x00280103) === 1 && start > 32_767 ? start - 65_536 : start
  const count = entries === 0 ? 65_536 : entries
  const table = (tag: Tag): Uint16Array | undefined => {
    const bytes = set.bytes(tag)
    if (!bytes || bytes.length < count * (bits / 8)) return undefined
    return bytes.length >= count * 2 ? set.words(tag)!.subarray(0, count) : Uint16Array.from(bytes.subarray(0, count))
  }
  const [red, green, blue] = [table(0x00281201), table(0x00281202), table(0x00281203)]
  return red && green && blue ? { bits, first, red, green, blue } : undefined
}

function unreadable(name: string, what: string, cause?: unknown): AppError {
  return new AppError('UNREADABLE_IMAGE', `${name} ${what}`, { cause })
}

function tooLarge(name: string, bytes: number, limits: ReadLimits): AppError {
  return new AppError(
    'TOO_LARGE',
    `${name} unpacks to over ${bytes} bytes; at most ${limits.maxVolumeBytes} of memory may be used for one request's images`,
    {
      hint: 'The limit is --max-volume-bytes.',
    },
  )
}
