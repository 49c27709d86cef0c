/**
 * What one DICOM file says about its pixels, as plain numbers. Owned here: finding the data set in whatever transfer
 * syntax, and the attributes that geometry and pixels need. Nothing of a patient leaves this file.
 *
 * Vectors are DICOM's own here: millimetres in LPS+, `row` points along a row (growing column), `column` down a column.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { inflateRawSync } from 'node:zlib'
import dicomParser, { type DataSet, type Element } from 'dicom-parser'
import { AppError } from '../errors.js'
import type { Vec3 } from '../volume/volume.js'
import type { ReadLimits } from './format.js'

/** One frame's place in space and the way from stored values to real ones. */
export interface DicomFrame {
  readonly position: Vec3 | undefined
  readonly row: Vec3 | undefined
  readonly column: Vec3 | undefined
  /** Millimetres between rows, then between columns, as PixelSpacing has them. */
  readonly pixelSpacing: readonly [number, number] | undefined
  readonly slope: number
  readonly intercept: number
}

export interface PixelLocation {
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
  readonly modality: string
  readonly transferSyntax: string
  readonly rows: number
  readonly columns: number
  readonly samples: number
  readonly photometric: string
  /** Colour planes one after the other instead of samples side by side. */
  readonly planar: boolean
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

/** Enough for the header of nearly every single-frame file; more is read only where the pixels have not begun by then. */
const FIRST_READ_BYTES = 64 * 1024
/** A header is parsed into objects many times its size, so it gets a bound of its own; 20 000 enhanced frames fit. */
const MAX_HEADER_BYTES = 32 * 1024 * 1024
const MAX_FRAMES = 65_536
const PIXEL_DATA = 'x7fe00010'
const PREAMBLE_BYTES = 128

/** Whether a file that begins with these bytes is worth parsing as DICOM: with its preamble, or a bare data set. */
export function looksLikeDicom(head: Uint8Array): boolean {
  return hasPreamble(head) || bareSyntax(head) !== undefined
}

function hasPreamble(head: Uint8Array): boolean {
  const [d, i, c, m] = head.subarray(PREAMBLE_BYTES, PREAMBLE_BYTES + 4)
  return d === 0x44 && i === 0x49 && c === 0x43 && m === 0x4d
}

/** Data sets written without preamble begin with group 0008; the VR's letters, if any, tell explicit from implicit. */
function bareSyntax(head: Uint8Array): string | undefined {
  if (head.length < 16 || head[0] !== 8 || head[1] !== 0 || head[3] !== 0 || head[2]! > 0x18) return undefined
  const letter = (byte: number) => byte >= 0x41 && byte <= 0x5a
  if (letter(head[4]!) && letter(head[5]!)) return EXPLICIT_LITTLE
  const length = head[4]! + head[5]! * 256
  if (head[6] !== 0 || head[7] !== 0 || length > 64) return undefined
  return tagAt(head, 8 + length) > tagAt(head, 0) ? IMPLICIT_LITTLE : undefined
}

/** Group and element in the order a data set is sorted by; -1 where the group is none of a header's first ones. */
function tagAt(head: Uint8Array, at: number): number {
  const [group = 0, high, low = 0, element = 0] = head.subarray(at, at + 4)
  return high === 0 && group >= 8 && group <= 0x28 ? group * 65536 + element * 256 + low : -1
}

/**
 * Reads a file's header; `undefined` when the object has no pixel data (a report, a DICOMDIR, a plan). `name` says which
 * file it is in messages ("file 3 of 20"). Throws UNREADABLE_IMAGE, UNSUPPORTED_FORMAT and TOO_LARGE.
 */
export function readDicomHeader(path: string, limits: ReadLimits, name: string): DicomHeader | undefined {
  const file = openFile(path)
  try {
    const { set, syntax } = findDataSet(file, limits, name)
    if (set.elements[PIXEL_DATA]) return readHeader(set, syntax, name)
    if (set.elements.x7fe00008 || set.elements.x7fe00009)
      throw new AppError('UNSUPPORTED_FORMAT', `${name} holds floating-point pixels, which are not supported`)
    return undefined
  } catch (error) {
    // The parser throws plain strings where a value is cut short.
    throw typeof error === 'string' ? unreadable(name, 'is damaged: its DICOM header cannot be read', error) : error
  } finally {
    file.close()
  }
}

/** Opens the bytes that `header.pixels` points into. The caller closes them. */
export function openDicomBytes(path: string, header: DicomHeader, limits: ReadLimits, name: string): DicomBytes {
  const file = openFile(path)
  if (header.transferSyntax !== DEFLATED_LITTLE) return file
  try {
    return memoryBytes(inflateDataSet(file, limits, name).inflated)
  } finally {
    file.close()
  }
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
  readonly syntax: string
}

function findDataSet(file: DicomBytes, limits: ReadLimits, name: string): Found {
  const { size } = file
  let head: Uint8Array = new Uint8Array(Math.min(size, FIRST_READ_BYTES))
  file.read(head, 0)
  const bare = hasPreamble(head) ? undefined : bareSyntax(head)
  if (!hasPreamble(head) && !bare) throw unreadable(name, 'is not a DICOM file')
  const syntax = bare ?? transferSyntaxOf(head, name)
  if (syntax === DEFLATED_LITTLE) return inflateDataSet(file, limits, name)
  for (;;) {
    let fault: unknown
    try {
      const set = parse(head, bare ? { TransferSyntaxUID: bare } : {})
      if (set.elements[PIXEL_DATA] || head.length >= size) return { set, syntax }
    } catch (error) {
      fault = error
    }
    // Cut short by our own reading: the next round reads on from where this one began, eight times as much.
    if (head.length >= size) throw unreadable(name, 'is damaged: its DICOM header cannot be parsed', fault)
    if (head.length >= MAX_HEADER_BYTES) throw unreadable(name, `has no pixel data in its first ${head.length} bytes`)
    head = new Uint8Array(Math.min(size, MAX_HEADER_BYTES, head.length * 8))
    file.read(head, 0)
  }
}

function parse(head: Uint8Array, options: { TransferSyntaxUID?: string; inflater?: (all: Uint8Array) => Uint8Array }) {
  return dicomParser.parseDicom(head, { ...options, untilTag: PIXEL_DATA } as dicomParser.ParseDicomOptions)
}

function transferSyntaxOf(head: Uint8Array, name: string): string {
  try {
    const meta = dicomParser.readPart10Header(head)
    return meta.string('x00020010') ?? EXPLICIT_LITTLE
  } catch (cause) {
    throw unreadable(name, 'is damaged: its DICOM file meta information cannot be parsed', cause)
  }
}

function inflateDataSet(file: DicomBytes, limits: ReadLimits, name: string): Found & { readonly inflated: Uint8Array } {
  const { size } = file
  if (size > limits.maxVolumeBytes) throw tooLarge(name, size, limits)
  const all = new Uint8Array(size)
  file.read(all, 0)
  let inflated: Uint8Array = all
  const inflater = (bytes: Uint8Array, start?: number): Uint8Array => {
    inflated = inflateRawSync(bytes.subarray(start), { maxOutputLength: limits.maxVolumeBytes })
    return inflated
  }
  try {
    const set = parse(all, { inflater })
    return { set, syntax: DEFLATED_LITTLE, inflated }
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException)?.code
    if (code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(name, limits.maxVolumeBytes, limits)
    throw unreadable(name, 'is damaged: its deflated data set cannot be read', cause)
  }
}

function readHeader(set: DataSet, transferSyntax: string, name: string): DicomHeader {
  const rows = set.uint16('x00280010') ?? 0
  const columns = set.uint16('x00280011') ?? 0
  if (rows === 0 || columns === 0) throw unreadable(name, `has ${rows} rows and ${columns} columns`)
  const frameCount = set.elements.x00280008?.length ? (set.intString('x00280008') ?? Number.NaN) : 1
  if (!(Number.isInteger(frameCount) && frameCount >= 1 && frameCount <= MAX_FRAMES))
    throw unreadable(name, `has a NumberOfFrames that is not between 1 and ${MAX_FRAMES}`)
  const bitsAllocated = set.uint16('x00280100') ?? 0
  if (bitsAllocated !== 8 && bitsAllocated !== 16 && bitsAllocated !== 32)
    throw new AppError('UNSUPPORTED_FORMAT', `${name} has ${bitsAllocated} bits a pixel; 8, 16 and 32 are supported`)
  const bitsStored = set.uint16('x00280101') ?? bitsAllocated
  const highBit = set.uint16('x00280102') ?? bitsStored - 1
  const fits = bitsStored >= 1 && highBit >= bitsStored - 1 && highBit < bitsAllocated
  if (!fits) throw unreadable(name, `has ${bitsStored} bits stored up to bit ${highBit} in ${bitsAllocated} allocated`)
  const pixel = set.elements[PIXEL_DATA]!
  return {
    sopClassUid: set.string('x00080016') ?? '',
    sopInstanceUid: set.string('x00080018') ?? '',
    studyUid: set.string('x0020000d') ?? '',
    seriesUid: set.string('x0020000e') ?? '',
    modality: set.string('x00080060') ?? '',
    transferSyntax,
    rows,
    columns,
    samples: set.uint16('x00280002') ?? 1,
    photometric: set.string('x00280004') ?? 'MONOCHROME2',
    planar: set.uint16('x00280006') === 1,
    bitsAllocated,
    bitsStored,
    highBit,
    signed: set.uint16('x00280103') === 1,
    frames: readFrames(set, frameCount, name),
    frameSpacing: numbers(set, 'x00180088', 1)?.[0],
    sliceThickness: numbers(set, 'x00180050', 1)?.[0],
    palette: readPalette(set),
    pixels: { offset: pixel.dataOffset, length: pixel.hadUndefinedLength ? undefined : pixel.length },
  }
}

/** Enhanced objects say these per frame or shared, in functional groups; all others once, at the top. */
function readFrames(set: DataSet, count: number, name: string): DicomFrame[] {
  const shared = items(set, 'x52009229')[0]
  const own = items(set, 'x52009230')
  if (own.length > 0 && own.length !== count)
    throw unreadable(name, `describes ${own.length} frames and announces ${count}`)
  const detector = items(set, 'x00540022')[0]
  const top = groupsOf(set, [set, detector])
  const common = shared ? groupsOf(shared, undefined, top) : top
  return Array.from({ length: count }, (_, i) => (own[i] ? groupsOf(own[i], undefined, common) : common))
}

function groupsOf(set: DataSet, flat?: readonly (DataSet | undefined)[], fallback?: DicomFrame): DicomFrame {
  const from = (group: string) => flat ?? items(set, group)
  const first = (group: string, tag: string, count: number) => {
    for (const one of from(group)) {
      const found = one && numbers(one, tag, count)
      if (found) return found
    }
    return undefined
  }
  const position = first('x00209113', 'x00200032', 3)
  const directions = first('x00209116', 'x00200037', 6)
  const spacing = first('x00289110', 'x00280030', 2) ?? (flat ? first('', 'x00181164', 2) : undefined)
  const slope = first('x00289145', 'x00281053', 1)
  const intercept = first('x00289145', 'x00281052', 1)
  return {
    position: position ? [position[0]!, position[1]!, position[2]!] : fallback?.position,
    row: directions ? [directions[0]!, directions[1]!, directions[2]!] : fallback?.row,
    column: directions ? [directions[3]!, directions[4]!, directions[5]!] : fallback?.column,
    pixelSpacing: spacing ? [spacing[0]!, spacing[1]!] : fallback?.pixelSpacing,
    // A slope of zero would make every value the same; it is written by mistake, and GDCM and dcm2niix read it as one.
    slope: (slope?.[0] ?? fallback?.slope) || 1,
    intercept: intercept?.[0] ?? fallback?.intercept ?? 0,
  }
}

function items(set: DataSet, tag: string): DataSet[] {
  const list: Element[] = set.elements[tag]?.items ?? []
  return list.flatMap((item) => item.dataSet ?? [])
}

/** `count` finite decimal strings, or undefined when there are fewer or others. */
function numbers(set: DataSet, tag: string, count: number): number[] | undefined {
  if (!set.elements[tag]?.length || (set.numStringValues(tag) ?? 0) < count) return undefined
  const found: number[] = []
  for (let i = 0; i < count; i++) {
    const value = set.floatString(tag, i)
    if (value === undefined || !Number.isFinite(value)) return undefined
    found.push(value)
  }
  return found
}

function readPalette(set: DataSet): Palette | undefined {
  const entries = set.uint16('x00281101', 0)
  const first = set.uint16('x00281101', 1)
  const bits = set.uint16('x00281101', 2)
  if (entries === undefined || first === undefined || (bits !== 8 && bits !== 16)) return undefined
  const count = entries === 0 ? 65_536 : entries
  const table = (tag: string): Uint16Array | undefined => {
    const element = set.elements[tag]
    if (!element || element.length < count * (bits / 8)) return undefined
    const wide = element.length >= count * 2
    const read = set.byteArrayParser
    return Uint16Array.from({ length: count }, (_, i) =>
      wide ? read.readUint16(set.byteArray, element.dataOffset + 2 * i) : set.byteArray[element.dataOffset + i]!,
    )
  }
  const [red, green, blue] = [table('x00281201'), table('x00281202'), table('x00281203')]
  return red && green && blue ? { bits, first, red, green, blue } : undefined
}

function unreadable(name: string, what: string, cause?: unknown): AppError {
  return new AppError('UNREADABLE_IMAGE', `${name} ${what}`, { cause })
}

function tooLarge(name: string, bytes: number, limits: ReadLimits): AppError {
  return new AppError(
    'TOO_LARGE',
    `${name} unpacks to over ${bytes} bytes; at most ${limits.maxVolumeBytes} are accepted`,
    {
      hint: 'The limit is --max-volume-bytes.',
    },
  )
}
