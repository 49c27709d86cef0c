/** DICOM files -> Volume: one object or a whole series, in any order, whatever the files are called. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AppError } from '../errors.js'
import { identity4 } from '../volume/affine.js'
import { makeVolume, type Volume, type VoxelArray } from '../volume/volume.js'
import { colourPlanes, isColour } from './dicom-colour.js'
import { type Stack, stackFrames } from './dicom-geometry.js'
import { type DicomFrame, type DicomHeader, openDicomBytes, readDicomHeader } from './dicom-header.js'
import { checkPixels, frameBytes, openFrames } from './dicom-pixels.js'
import { turnRows } from './dicom-rows.js'
import type { DtypeName, ReadLimits, ReadResult } from './format.js'
import { checkedVoxels } from './voxel-data.js'
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
 * ITK does. A single image in colour, or without a place in the patient, becomes a picture. The grid is dcm2niix's (see dicom-geometry).
 *
 * Errors: UNREADABLE_IMAGE, UNSUPPORTED_FORMAT, TOO_LARGE, and BAD_GEOMETRY where the slices make no honest grid.
 */
export async function readDicomSeries(
  paths: readonly string[],
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<ReadResult> {
  const { objects, notes } = await readObjects(paths, limits, signal)
  const only = objects[0]!
  if (isColour(only.header)) {
    if (objects.length > 1 || only.header.frames.length > 1)
      throw new AppError('UNSUPPORTED_FORMAT', 'the series is in colour; only a single colour image is supported')
    return readPicture(only, limits, notes)
  }
  const series = arrange(objects, notes)
  const data = await readSlices(series.slices, limits, signal)
  const { columns, rows } = only.header
  const volume = makeVolume([columns, rows, series.slices.length], series.stack.affine, data)
  if (isRadiograph(objects)) return asPicture(volume, series)
  return { volume, format: 'dicom', extension: '.nii.gz', notes: series.notes }
}

/** One frame that says nothing of where it lies in the patient: a radiograph, a photograph, a screen shot. */
function isRadiograph(objects: readonly DicomObject[]): boolean {
  const [only, ...more] = objects
  return more.length === 0 && only!.header.frames.length === 1 && only!.header.frames[0]!.position === undefined
}

/** Rows downwards, as viewers show it and as networks for pictures were trained; its pixel size is kept. */
function asPicture(volume: Volume, { slices, notes }: DicomSeries): ReadResult {
  const [betweenRows, betweenColumns] = slices[0]!.frame.pixelSpacing ?? [1, 1]
  const affine = identity4()
  affine[0] = betweenColumns
  affine[5] = betweenRows
  const picture = makeVolume(volume.size, affine, turnRows(volume).data)
  return { volume: picture, format: 'dicom', extension: '.png', notes }
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
  const objects = found.filter((object) => object !== undefined)
  if (objects.length === 0) throw new AppError('UNREADABLE_IMAGE', 'the DICOM object has no pixel data')
  const skipped = paths.length - objects.length
  const notes = skipped > 0 ? [`${skipped} DICOM object(s) without pixel data left out`] : []
  checkOneSeries(objects)
  return { objects, notes }
}

function checkOneSeries(objects: readonly DicomObject[]): void {
  const series = new Set(objects.map(({ header }) => header.seriesUid))
  if (series.size > 1) {
    throw new AppError('BAD_GEOMETRY', `the files belong to ${series.size} different series`, {
      hint: 'Send the files of one series.',
    })
  }
  const first = objects[0]!.header
  const size = (h: DicomHeader) => `${h.columns}x${h.rows}`
  const kind = (h: DicomHeader) =>
    `${h.samples} sample(s) of ${h.bitsAllocated} bits, ${h.signed ? 'signed' : 'unsigned'}, ${h.photometric}`
  for (const { header, name } of objects) {
    if (size(header) !== size(first))
      throw new AppError('BAD_GEOMETRY', `${name} is ${size(header)}, the first is ${size(first)}: not one stack`)
    if (kind(header) !== kind(first))
      throw new AppError('UNSUPPORTED_FORMAT', `${name} has other pixels than the first (${kind(first)})`)
  }
  const seen = new Set<string>()
  for (const { header } of objects) {
    if (header.sopInstanceUid !== '' && seen.has(header.sopInstanceUid))
      throw new AppError('BAD_GEOMETRY', 'the same slice came more than once', { hint: 'Send each file once.' })
    seen.add(header.sopInstanceUid)
  }
}

function arrange(objects: readonly DicomObject[], notes: readonly string[]): DicomSeries {
  const { rows, columns, frameSpacing, sliceThickness } = objects[0]!.header
  const unordered = objects.flatMap((object) =>
    object.header.frames.map((frame, index): DicomSlice => ({ object, index, frame })),
  )
  const gap = objects.length === 1 ? frameSpacing : undefined
  const stack = stackFrames(
    unordered.map((slice) => slice.frame),
    rows,
    columns,
    gap,
    frameSpacing ?? sliceThickness,
  )
  return { slices: stack.order.map((i) => unordered[i]!), stack, notes: [...notes, ...stack.notes] }
}

async function readSlices(
  slices: readonly DicomSlice[],
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<VoxelArray> {
  const first = slices[0]!.object.header
  if (first.samples !== 1)
    throw new AppError('UNSUPPORTED_FORMAT', `the image has ${first.samples} samples a pixel and is not in colour`)
  const plan = planVoxels(slices)
  const bytesPerVoxel = Math.max(DTYPES[plan.dtype].bytes, first.bitsAllocated / 8)
  const sizes = [first.columns, first.rows, slices.length]
  const voxels = checkedVoxels(sizes, bytesPerVoxel, limits, { mostBytes: Number.POSITIVE_INFINITY, compressed: true })
  let data: VoxelArray | undefined
  const scratch = new Uint8Array(frameBytes(first))
  for (const [object, places] of placesByObject(slices)) {
    const bytes = openDicomBytes(object.path, object.header, limits, object.name)
    try {
      checkPixels(object.header, bytes, object.name)
      const frames = openFrames(object.header, bytes, limits, object.name)
      for (const z of places) {
        await nextTurn()
        signal?.throwIfAborted()
        const { index, frame } = slices[z]!
        await frames.readFrame(index, scratch)
        // Only when one frame has come out as the header promised is memory taken for all of them.
        data ??= DTYPES[plan.dtype].make(voxels)
        placeSlice(object.header, scratch, data, z, plan.scaled ? frame.slope : 1, plan.scaled ? frame.intercept : 0)
      }
    } finally {
      bytes.close()
    }
  }
  return plan.scaled ? data! : settle(data!, first.bitsAllocated, slices[0]!.frame)
}

/**
 * Which type the voxels get, as far as the headers tell. `scaled` false: stored values are kept in the type they came in,
 * to be scaled once their real range is known.
 */
function planVoxels(slices: readonly DicomSlice[]): { dtype: DtypeName; scaled: boolean } {
  const { slope, intercept } = slices[0]!.frame
  const alike = slices.every(({ frame }) => frame.slope === slope && frame.intercept === intercept)
  const { bitsAllocated, signed } = slices[0]!.object.header
  const bits = Math.max(...slices.map(({ object }) => object.header.bitsStored))
  if (!alike || !Number.isInteger(slope) || !Number.isInteger(intercept))
    return { dtype: bits > 24 ? 'float64' : 'float32', scaled: true }
  const low = signed ? -(2 ** (bits - 1)) : 0
  const high = signed ? 2 ** (bits - 1) - 1 : 2 ** bits - 1
  const ends = [low * slope + intercept, high * slope + intercept]
  const range = { min: Math.min(...ends), max: Math.max(...ends), integral: true }
  const dtype =
    bitsAllocated <= 16 ? firstFitting(bitsAllocated === 8 ? ['uint8', 'int16'] : ['int16'], range) : undefined
  if (dtype) return { dtype, scaled: true }
  return { dtype: `${signed ? '' : 'u'}int${bitsAllocated}` as DtypeName, scaled: false }
}

/** Whole stored values to real ones, in the smallest type that holds those that occur; in place where it can be. */
function settle(data: VoxelArray, bitsAllocated: number, { slope, intercept }: DicomFrame): VoxelArray {
  const found = rangeOf(data)
  const ends = [found.min * slope + intercept, found.max * slope + intercept]
  const range = { min: Math.min(...ends), max: Math.max(...ends), integral: true }
  const choices: DtypeName[] = bitsAllocated === 32 ? ['int32', 'uint32'] : ['int16', 'uint16', 'int32']
  const dtype = firstFitting(choices, range) ?? (bitsAllocated === 32 ? 'float64' : 'float32')
  const same = DTYPES[dtype].bytes === data.BYTES_PER_ELEMENT
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
  { rows, columns, bitsAllocated, bitsStored, highBit, signed, photometric }: DicomHeader,
  bytes: Uint8Array,
  target: VoxelArray,
  z: number,
  slope: number,
  intercept: number,
): void {
  const source = storedView(bytes, bitsAllocated, signed)
  const start = z * rows * columns
  const invert = photometric === 'MONOCHROME1'
  const plain = bitsStored === bitsAllocated && !invert
  if (plain && slope === 1 && intercept === 0 && source.constructor === target.constructor) {
    for (let r = 0; r < rows; r++)
      target.set(source.subarray(r * columns, (r + 1) * columns), start + (rows - 1 - r) * columns)
    return
  }
  if (source instanceof Uint16Array && target instanceof Int16Array && !invert && slope === 1) {
    placeWhole(source, target, start, rows, columns, highBit + 1 - bitsStored, 2 ** bitsStored - 1, intercept)
    return
  }
  const up = 31 - highBit
  const down = 32 - bitsStored
  // ITK's rule: lowest + highest storable value - value.
  const sum = invert ? (signed ? -1 : 2 ** bitsStored - 1) : 0
  const sign = invert ? -1 : 1
  for (let r = 0; r < rows; r++) {
    let to = start + (rows - 1 - r) * columns
    for (let from = r * columns; from < (r + 1) * columns; from++) {
      const shifted = source[from]! << up
      const value = signed ? shifted >> down : shifted >>> down
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

function storedView(bytes: Uint8Array, bits: number, signed: boolean): VoxelArray {
  const { buffer, byteOffset, byteLength } = bytes
  if (bits === 8) return signed ? new Int8Array(buffer, byteOffset, byteLength) : bytes
  if (bits === 16)
    return signed
      ? new Int16Array(buffer, byteOffset, byteLength / 2)
      : new Uint16Array(buffer, byteOffset, byteLength / 2)
  return signed
    ? new Int32Array(buffer, byteOffset, byteLength / 4)
    : new Uint32Array(buffer, byteOffset, byteLength / 4)
}

/** A single colour image: a picture with three channels, rows downwards, as PNG and JPEG are read. */
async function readPicture(object: DicomObject, limits: ReadLimits, notes: readonly string[]): Promise<ReadResult> {
  const { header, name, path } = object
  const bytes = openDicomBytes(path, header, limits, name)
  try {
    checkPixels(header, bytes, name)
    const sizes = [header.columns, header.rows, 3]
    checkedVoxels(sizes, header.bitsAllocated / 8, limits, { mostBytes: Number.POSITIVE_INFINITY, compressed: true })
    const frames = openFrames(header, bytes, limits, name)
    const frame = new Uint8Array(frameBytes(header))
    await frames.readFrame(0, frame)
    const data = colourPlanes(header, frame, name)
    const volume = makeVolume([header.columns, header.rows, 1], identity4(), data, { channels: 3 })
    return { volume, format: 'dicom', extension: '.png', colours: 3, notes }
  } finally {
    bytes.close()
  }
}
