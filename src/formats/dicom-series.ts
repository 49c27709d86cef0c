/** DICOM files -> Volume: one object or a whole series, in any order, whatever the files are called. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AppError } from '../errors.js'
import { identity4 } from '../volume/affine.js'
import { type Grid, makeVolume, type Vec3, type Volume, type VoxelArray } from '../volume/volume.js'
import { colourPlanes, isColour, samplesOf } from './dicom-colour.js'
import { ORIENTATION_TOLERANCE, type Stack, stackFrames } from './dicom-geometry.js'
import {
  DEFLATED_LITTLE,
  type DicomFrame,
  type DicomHeader,
  INFLATING,
  openDicomBytes,
  readDicomHeader,
} from './dicom-header.js'
import { type FrameReader, frameBytes, isDecoded, openFrames } from './dicom-pixels.js'
import { turnRows } from './dicom-rows.js'
import { isSegmentation, readDicomSeg } from './dicom-seg-read.js'
import type { DtypeName, ReadLimits, ReadResult } from './format.js'
import { askFor, checkedVoxels } from './voxel-data.js'
import { DTYPES, firstFitting, rangeOf } from './voxel-types.js'

/** A series of this many files is no series; each costs a header in memory. */
const MAX_FILES = 20_000

export interface DicomObject {
  readonly path: string
  /** "file 3 of 20", for messages. */
  readonly name: string
  readonly header: DicomHeader
}

export interface DicomSlice {
  readonly object: DicomObject
  /** Which frame of the object, from 0. */
  readonly index: number
  readonly frame: DicomFrame
}

export interface DicomSeries {
  /** In the grid's order along z. */
  readonly slices: readonly DicomSlice[]
  readonly stack: Stack
  readonly notes: readonly string[]
}

/**
 * Reads one DICOM object or the objects of one series. Voxels are real values (rescale slope and intercept applied slice
 * by slice): int16 where they are whole and fit, else the next larger integer, else float32. MONOCHROME1 is inverted, as
 * ITK does. A single image in colour, or without a place in the patient, becomes a picture; several in colour a volume of
 * their luminance; a segmentation a label map (see dicom-seg-read). The grid is dcm2niix's (see dicom-geometry).
 *
 * Errors: UNREADABLE_IMAGE, UNSUPPORTED_FORMAT, TOO_LARGE, and BAD_GEOMETRY where the slices make no stack.
 */
export async function readDicomSeries(
  paths: readonly string[],
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<ReadResult> {
  const { objects, notes: found } = await readObjects(paths, limits, signal)
  const [first, ...more] = objects
  if (more.length === 0 && isSegmentation(first!.header)) return readDicomSeg(first!, limits, signal)
  const series = arrange(objects, found)
  const { slices, stack } = series
  const only = slices[0]!.object
  const reading = new Set<string>()
  const picture = isPicture(series)
  const colour = isColour(only.header)
  const volume =
    picture && colour ? await readPicture(only, limits, reading) : await readStack(series, limits, reading, signal)
  const notes = [...series.notes, ...reading]
  if (colour && !picture) notes.push(`the ${slices.length} slices are in colour: their luminance was taken`)
  if (!picture) return { volume, format: 'dicom', extension: '.nii.gz', notes, dicom: series, uneven: stack.uneven }
  const shared = { format: 'dicom', extension: '.png', notes, dicom: series } as const
  return colour ? { ...shared, volume, colours: 3 } : { ...shared, volume: asPicture(volume, series) }
}

/** One frame in colour, or one that says nothing of where it lies in the patient: a radiograph, a photograph, a screen shot. */
export function isPicture({ slices, stack }: DicomSeries): boolean {
  const [only, ...more] = slices
  return more.length === 0 && (!stack.placed || isColour(only!.object.header))
}

async function readStack(
  { slices, stack }: DicomSeries,
  limits: ReadLimits,
  reading: Set<string>,
  signal: AbortSignal | undefined,
): Promise<Volume> {
  const data = await readSlices(slices, limits, reading, signal)
  return makeVolume(stackSize(slices), stack.affine, data)
}

function stackSize(slices: readonly DicomSlice[]): Vec3 {
  const { columns, rows } = slices[0]!.object.header
  return [columns, rows, slices.length]
}

/** The grid of the volume that `readDicomSeries` makes of the series, without reading a pixel. */
export function gridOf(series: DicomSeries): Grid {
  const { slices, stack } = series
  return { size: stackSize(slices), affine: isPicture(series) ? pictureAffine(series) : stack.affine }
}

/** Rows downwards, as viewers show it and as networks for pictures were trained; its pixel size is kept. */
function asPicture(volume: Volume, series: DicomSeries): Volume {
  return makeVolume(volume.size, pictureAffine(series), turnRows(volume).data)
}

function pictureAffine({ slices }: DicomSeries): Float64Array {
  const [betweenRows, betweenColumns] = slices[0]!.frame.pixelSpacing ?? [1, 1]
  const affine = identity4()
  affine[0] = betweenColumns
  affine[5] = betweenRows
  return affine
}

/** The slices of a series in the order of the grid that `readDicomSeries` gives, without their pixels. */
export async function arrangeDicomSeries(
  paths: readonly string[],
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<DicomSeries> {
  const { objects, notes } = await readObjects(paths, limits, signal)
  return arrange(objects, notes)
}

async function readObjects(
  paths: readonly string[],
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<{ objects: DicomObject[]; notes: string[] }> {
  if (paths.length > MAX_FILES)
    throw new AppError('TOO_LARGE', `the series has ${paths.length} files; at most ${MAX_FILES} are accepted`)
  const found: (DicomObject | undefined)[] = new Array(paths.length)
  for (const [i, path] of paths.entries()) {
    await nextTurn()
    signal?.throwIfAborted()
    const name = paths.length === 1 ? 'the DICOM file' : `file ${i + 1} of ${paths.length}`
    const header = readDicomHeader(path, limits, name)
    found[i] = header && { path, name, header }
  }
  const all = found.filter((object) => object !== undefined)
  if (all.length === 0) throw new AppError('UNREADABLE_IMAGE', 'the DICOM object has no pixel data')
  const skipped = paths.length - all.length
  const { objects, notes } = oneStack(all)
  checkRepeats(objects, notes)
  if (skipped > 0) notes.unshift(`${skipped} DICOM object(s) without pixel data left out`)
  return { objects, notes: [...notes, ...headerNotes(objects)] }
}

/** A scout or a dose page or two among the slices are left out; the slices must be at least this many times as many. */
const STACK_SHARE = 2
const MAX_ODD_FILES_OF_A_KIND = 3

interface Kind {
  readonly objects: DicomObject[]
  /** What the objects have in common, and the others have not. */
  readonly header: DicomHeader
}

/**
 * The objects that can be one stack. A few others among them (another size, orientation or series) are left out and named
 * in the notes; where there is no telling which are meant, throws BAD_GEOMETRY.
 */
function oneStack(all: readonly DicomObject[]): { objects: DicomObject[]; notes: string[] } {
  const kinds: Kind[] = []
  for (const object of all) {
    const kind = kinds.find(({ header }) => difference(object.header, header) === undefined)
    if (kind) kind.objects.push(object)
    else kinds.push({ objects: [object], header: object.header })
  }
  const [main, ...others] = kinds.sort((a, b) => b.objects.length - a.objects.length)
  const odd = others.flatMap(({ objects }) => objects)
  const few = others.every(({ objects }) => objects.length <= MAX_ODD_FILES_OF_A_KIND)
  if (!few || main!.objects.length < STACK_SHARE * odd.length) {
    const series = new Set(all.map(({ header }) => header.seriesUid)).size
    if (series > 1)
      throw new AppError('BAD_GEOMETRY', `the files belong to ${series} different series`, {
        hint: 'Send the files of one series.',
      })
    const { name, header } = odd[0]!
    throw new AppError('BAD_GEOMETRY', `${name} ${difference(header, main!.header)}: not one stack`, {
      hint: 'Send one stack of parallel slices; leave localizers out.',
    })
  }
  const notes = odd.map(({ name, header }) => `${name} left out: it ${difference(header, main!.header)}`)
  return { objects: main!.objects, notes: summed(notes) }
}

/** Why two objects cannot be slices of one stack: "is 512x512, most are 256x256"; undefined where they can. */
function difference(one: DicomHeader, most: DicomHeader): string | undefined {
  const size = (h: DicomHeader) => `${h.columns}x${h.rows}`
  if (size(one) !== size(most)) return `is ${size(one)}, most are ${size(most)}`
  if (one.seriesUid !== most.seriesUid) return 'is of another series than most'
  if (isColour(one) !== isColour(most))
    return isColour(one) ? 'is in colour, most are not' : 'is grey, most are in colour'
  const [a, b] = [one.frames[0]!, most.frames[0]!]
  if ((a.position === undefined) !== (b.position === undefined))
    return a.position ? 'says where it lies, most do not' : 'does not say where it lies, most do'
  const turned = (x: readonly number[] | undefined, y: readonly number[] | undefined) =>
    x !== undefined && y !== undefined && x.some((value, i) => Math.abs(value - y[i]!) > ORIENTATION_TOLERANCE)
  if (turned(a.row, b.row) || turned(a.column, b.column)) return 'has another orientation than most'
  return undefined
}

/** Where the same slice came twice one of the two files is too many; files that only share a UID are different slices. */
function checkRepeats(objects: readonly DicomObject[], notes: string[]): void {
  const seen = new Map<string, DicomObject[]>()
  let shared = 0
  for (const object of objects) {
    const { sopInstanceUid, frames } = object.header
    if (sopInstanceUid === '') continue
    const before = seen.get(sopInstanceUid)
    if (!before) {
      seen.set(sopInstanceUid, [object])
      continue
    }
    const place = String(frames[0]!.position)
    const twin = before.find(({ header }) => String(header.frames[0]!.position) === place)
    if (twin)
      throw new AppError('BAD_GEOMETRY', `the same slice came more than once: ${twin.name} and ${object.name}`, {
        hint: 'Send each file once.',
      })
    before.push(object)
    shared++
  }
  if (shared > 0)
    notes.push(
      `${shared + 1} of ${objects.length} files share their SOPInstanceUID with another: each was taken for a slice`,
    )
}

/** What single files were read as, each remark once: "3 of 3 files: its NumberOfFrames is 0, read as 1". */
function headerNotes(objects: readonly DicomObject[]): string[] {
  const named = new Map<string, string[]>()
  for (const { name, header } of objects)
    for (const note of header.notes) named.set(note, [...(named.get(note) ?? []), name])
  return [...named].map(([note, names]) => {
    if (names.length === 1) return `${names[0]}: ${note}`
    return `${names.length} of ${objects.length} files: ${note}`
  })
}

/** At most a handful of remarks of one kind. */
function summed(notes: readonly string[]): string[] {
  const most = 5
  return notes.length <= most ? [...notes] : [...notes.slice(0, most), `${notes.length - most} more files left out`]
}

function arrange(unsorted: readonly DicomObject[], notes: readonly string[]): DicomSeries {
  const objects = inOrder(unsorted)
  const { rows, columns, frameSpacing, sliceThickness } = objects[0]!.header
  const unordered = objects.flatMap((object) =>
    object.header.frames.map((frame, index): DicomSlice => ({ object, index, frame })),
  )
  const stack = stackFrames(
    unordered.map((slice) => slice.frame),
    { rows, columns, gap: objects.length === 1 ? frameSpacing : undefined, thickness: frameSpacing || sliceThickness },
  )
  return { slices: stack.order.map((i) => unordered[i]!), stack, notes: [...notes, ...stack.notes] }
}

/** Files without places are a stack in the order of their numbers, where they all have one. */
function inOrder(objects: readonly DicomObject[]): readonly DicomObject[] {
  const number = ({ header }: DicomObject) => header.instanceNumber
  if (objects.some((object) => object.header.frames[0]!.position || number(object) === undefined)) return objects
  return [...objects].sort((a, b) => number(a)! - number(b)!)
}

async function readSlices(
  slices: readonly DicomSlice[],
  limits: ReadLimits,
  reading: Set<string>,
  signal: AbortSignal | undefined,
): Promise<VoxelArray> {
  const first = slices[0]!.object.header
  const colour = isColour(first)
  const plan: Plan = colour ? { dtype: 'uint8', scaled: true } : planVoxels(slices)
  const storedBytes = Math.max(...slices.map(({ object }) => Math.ceil(object.header.bitsAllocated / 8)))
  const bytesPerVoxel = Math.max(DTYPES[plan.dtype].bytes, storedBytes)
  const sizes = [first.columns, first.rows, slices.length]
  const beside = Math.max(...slices.map(({ object: { header } }) => besideVoxels(header)))
  const room = { mostBytes: Number.POSITIVE_INFINITY, compressed: true }
  const voxels = checkedVoxels(sizes, bytesPerVoxel, limits, room, { beside })
  let data: VoxelArray | undefined
  let scratch = new Uint8Array(0)
  for (const [object, places] of placesByObject(slices)) {
    const bytes = openDicomBytes(object.path, object.header, limits, object.name)
    try {
      const frames = openFrames(object.header, bytes, limits, object.name)
      for (const note of frames.notes) reading.add(note)
      const size = frameBytes(object.header)
      if (scratch.length !== size) scratch = new Uint8Array(size)
      for (const z of places) {
        await nextTurn()
        signal?.throwIfAborted()
        const { index, frame } = slices[z]!
        await frames.readFrame(index, scratch)
        // Only when one frame has come out as the header promised is memory taken for all of them.
        data ??= DTYPES[plan.dtype].make(voxels)
        if (colour) placeLuminance(object, frames, scratch, data, z)
        else
          placeSlice(object.header, scratch, data, z, plan.scaled ? frame.slope : 1, plan.scaled ? frame.intercept : 0)
      }
    } finally {
      bytes.close()
    }
  }
  return plan.scaled ? data! : realValues(data!, first.bitsAllocated, slices[0]!.frame, limits)
}

/**
 * Bytes that reading takes beside the volume's: a frame before it is placed, once more as planes of colours, and twice more
 * where a decoder has it, in its own memory and out of it; a deflated file as a whole.
 */
function besideVoxels(header: DicomHeader): number {
  const frames = 1 + (isColour(header) ? 1 : 0) + (isDecoded(header) ? 2 : 0)
  const whole = header.transferSyntax === DEFLATED_LITTLE ? INFLATING * header.frames.length : 0
  return (frames + whole) * frameBytes(header)
}

/** A colour slice as shades of grey, rows upwards: ITU-R BT.601's luma, as for pictures. */
function placeLuminance(
  { header, name }: DicomObject,
  { layout }: FrameReader,
  frame: Uint8Array,
  target: VoxelArray,
  z: number,
): void {
  const { rows, columns, bitsAllocated } = header
  const voxels = rows * columns
  const planes = colourPlanes(header, layout, frame, name)
  const toByte = layout.colour !== 'palette' && bitsAllocated > 8 ? 1 / 256 : 1
  for (let r = 0; r < rows; r++) {
    let to = z * voxels + (rows - 1 - r) * columns
    for (let i = r * columns; i < (r + 1) * columns; i++) {
      const luma = 0.299 * planes[i]! + 0.587 * planes[voxels + i]! + 0.114 * planes[2 * voxels + i]!
      target[to++] = Math.min(255, luma * toByte + 0.5)
    }
  }
}

interface Plan {
  readonly dtype: DtypeName
  readonly scaled: boolean
}

/**
 * Which type the voxels get, as far as the headers tell. `scaled` false: stored values are kept in the type they came in,
 * to be scaled once their real range is known.
 */
function planVoxels(slices: readonly DicomSlice[]): Plan {
  const { slope, intercept } = slices[0]!.frame
  const headers = [...new Set(slices.map(({ object }) => object.header))]
  if (headers.some(({ sampleType }) => sampleType === 'float64')) return { dtype: 'float64', scaled: true }
  if (headers.some(({ sampleType }) => sampleType === 'float32')) return { dtype: 'float32', scaled: true }
  const alike = slices.every(({ frame }) => frame.slope === slope && frame.intercept === intercept)
  const bits = Math.max(...headers.map(({ bitsStored }) => bitsStored))
  if (!alike || !Number.isInteger(slope) || !Number.isInteger(intercept))
    return { dtype: bits > 24 ? 'float64' : 'float32', scaled: true }
  const low = Math.min(...headers.map(({ signed, bitsStored }) => (signed ? -(2 ** (bitsStored - 1)) : 0)))
  const high = Math.max(...headers.map(({ signed, bitsStored }) => 2 ** (bitsStored - (signed ? 1 : 0)) - 1))
  const ends = [low * slope + intercept, high * slope + intercept]
  const range = { min: Math.min(...ends), max: Math.max(...ends), integral: true }
  const { bitsAllocated, signed } = headers[0]!
  const bytes = headers.every((one) => one.bitsAllocated <= 8)
  const wide = headers.some((one) => one.bitsAllocated === 32)
  const dtype = wide ? undefined : firstFitting(bytes ? ['uint8', 'int16'] : ['int16'], range)
  if (dtype) return { dtype, scaled: true }
  if (headers.every((one) => one.bitsAllocated === bitsAllocated && one.signed === signed))
    return { dtype: `${signed ? '' : 'u'}int${Math.max(8, bitsAllocated)}` as DtypeName, scaled: false }
  return { dtype: firstFitting(['int32', 'uint32'], range) ?? 'float64', scaled: true }
}

/** Whole stored values to real ones, in the smallest type that holds those that occur; in place where it can be. */
function realValues(
  data: VoxelArray,
  bitsAllocated: number,
  { slope, intercept }: DicomFrame,
  limits: ReadLimits,
): VoxelArray {
  const found = rangeOf(data)
  const ends = [found.min * slope + intercept, found.max * slope + intercept]
  const range = { min: Math.min(...ends), max: Math.max(...ends), integral: true }
  const choices: DtypeName[] = bitsAllocated === 32 ? ['int32', 'uint32'] : ['int16', 'uint16', 'int32']
  const dtype = firstFitting(choices, range) ?? (bitsAllocated === 32 ? 'float64' : 'float32')
  const same = DTYPES[dtype].bytes === data.BYTES_PER_ELEMENT
  if (!same) askFor(data.length * DTYPES[dtype].bytes, limits, 'reading the series', data.byteLength)
  const target = same ? viewAs(data, dtype) : DTYPES[dtype].make(data.length)
  if (same && slope === 1 && intercept === 0) return target
  for (let i = 0; i < data.length; i++) target[i] = data[i]! * slope + intercept
  return target
}

function viewAs(data: VoxelArray, dtype: DtypeName): VoxelArray {
  const buffer = data.buffer as ArrayBuffer
  if (dtype === 'int16') return new Int16Array(buffer)
  if (dtype === 'uint16') return new Uint16Array(buffer)
  if (dtype === 'int32') return new Int32Array(buffer)
  if (dtype === 'float32') return new Float32Array(buffer)
  return new Uint32Array(buffer)
}

/** Where the frames of each object go along z, objects in the order of their first slice. */
function placesByObject(slices: readonly DicomSlice[]): Map<DicomObject, number[]> {
  const byObject = new Map<DicomObject, number[]>()
  for (const [z, { object }] of slices.entries()) {
    const places = byObject.get(object)
    if (places) places.push(z)
    else byObject.set(object, [z])
  }
  return byObject
}

/** One slice into the volume: unused bits cleared, sign extended, MONOCHROME1 inverted, rescaled, rows upwards. */
function placeSlice(
  header: DicomHeader,
  bytes: Uint8Array,
  target: VoxelArray,
  z: number,
  slope: number,
  intercept: number,
): void {
  const { rows, columns, bitsAllocated, bitsStored, highBit, signed, photometric, sampleType } = header
  const source = samplesOf(bytes, header)
  const start = z * rows * columns
  const invert = photometric === 'MONOCHROME1'
  const whole = bitsStored === bitsAllocated || bitsAllocated === 1
  if (whole && !invert && slope === 1 && intercept === 0 && source.constructor === target.constructor) {
    for (let r = 0; r < rows; r++)
      target.set(source.subarray(r * columns, (r + 1) * columns), start + (rows - 1 - r) * columns)
    return
  }
  if (source instanceof Uint16Array && target instanceof Int16Array && !invert && slope === 1) {
    placeWhole(source, target, start, rows, columns, highBit + 1 - bitsStored, 2 ** bitsStored - 1, intercept)
    return
  }
  const integers = sampleType === 'integer'
  const up = 31 - highBit
  const down = 32 - bitsStored
  // ITK's rule: lowest + highest storable value - value. Floating-point samples have no highest one: their sign turns.
  const sum = invert && integers ? (signed ? -1 : 2 ** bitsStored - 1) : 0
  const sign = invert ? -1 : 1
  for (let r = 0; r < rows; r++) {
    let to = start + (rows - 1 - r) * columns
    for (let from = r * columns; from < (r + 1) * columns; from++) {
      const shifted = source[from]! << up
      const value = integers ? (signed ? shifted >> down : shifted >>> down) : source[from]!
      target[to++] = (sum + sign * value) * slope + intercept
    }
  }
}

/** Nearly every CT: 32-bit integers all the way, half the time of the general case. An int16 plan has a whole intercept. */
function placeWhole(
  source: Uint16Array,
  target: Int16Array,
  start: number,
  rows: number,
  columns: number,
  shift: number,
  mask: number,
  intercept: number,
): void {
  const add = intercept | 0
  for (let r = 0; r < rows; r++) {
    const end = (r + 1) * columns
    let to = start + (rows - 1 - r) * columns
    for (let from = r * columns; from < end; from++) target[to++] = ((source[from]! >>> shift) & mask) + add
  }
}

/** A single colour image: a picture with three channels, rows downwards, as PNG and JPEG are read. */
async function readPicture(object: DicomObject, limits: ReadLimits, reading: Set<string>): Promise<Volume> {
  const { header, name, path } = object
  const bytes = openDicomBytes(path, header, limits, name)
  try {
    const sizes = [header.columns, header.rows, 3]
    const room = { mostBytes: Number.POSITIVE_INFINITY, compressed: true }
    checkedVoxels(sizes, header.bitsAllocated / 8, limits, room, { beside: besideVoxels(header) })
    const frames = openFrames(header, bytes, limits, name)
    for (const note of frames.notes) reading.add(note)
    const frame = new Uint8Array(frameBytes(header))
    await frames.readFrame(0, frame)
    const data = colourPlanes(header, frames.layout, frame, name)
    return makeVolume([header.columns, header.rows, 1], identity4(), data, { channels: 3 })
  } finally {
    bytes.close()
  }
}
