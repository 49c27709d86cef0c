/** A DICOM Segmentation object (PS3.3 A.51) -> a label map: voxels of segment n are n. */
import { AppError } from '../errors.js'
import { identity4 } from '../volume/affine.js'
import { cross, dot } from '../volume/vec3.js'
import { makeVolume, type Vec3, type Volume } from '../volume/volume.js'
import { samplesOf } from './dicom-colour.js'
import type { DataSet } from './dicom-dataset.js'
import { GAP_TOLERANCE_MM, type Stack, stackFrames } from './dicom-geometry.js'
import { type DicomFrame, type DicomHeader, openDicomBytes, readDicomAttributes } from './dicom-header.js'
import { frameBytes, openFrames } from './dicom-pixels.js'
import type { DicomObject } from './dicom-series.js'
import type { ReadLimits, ReadResult } from './format.js'
import { checkedVoxels } from './voxel-data.js'

export const SEGMENTATION_STORAGE = '1.2.840.10008.5.1.4.1.1.66.4'
const LABEL_MAP_STORAGE = '1.2.840.10008.5.1.4.1.1.66.7'
/** As many as an image may have frames: indices are numbers of 32 bits, and a slice costs memory. */
const MAX_SLICES = 65_536
/** Frames may lie this share of the step beside their place in the row. */
const PLACE_TOLERANCE = 0.1

export function isSegmentation({ sopClassUid }: DicomHeader): boolean {
  return sopClassUid === SEGMENTATION_STORAGE || sopClassUid === LABEL_MAP_STORAGE
}

/** One frame: which segment it shows (0: its pixels say it), and which slice it lies in. */
interface SegFrame {
  readonly segment: number
  /** From 0. */
  readonly slice: number
}

/**
 * Reads BINARY, FRACTIONAL (a voxel counts from half of the highest value on) and LABELMAP segmentations. The grid is that
 * of the slices they were made from, as far as the object tells: frames of empty slices are left out of these objects, and
 * the dimension indices say how many lie before the first and between. Where segments overlap the highest number stands,
 * with a note. Throws UNSUPPORTED_FORMAT, UNREADABLE_IMAGE, TOO_LARGE and BAD_GEOMETRY.
 */
export async function readDicomSeg(object: DicomObject, limits: ReadLimits, signal?: AbortSignal): Promise<ReadResult> {
  const { header, path, name } = object
  const set = readDicomAttributes(path, limits, name)
  const type = set.text(0x00620001) ?? 'BINARY'
  if (header.samples !== 1 || header.bitsAllocated > 16)
    throw new AppError('UNSUPPORTED_FORMAT', `${name} is a segmentation of ${header.bitsAllocated} bits a pixel`)
  const { frames, depth, affine, picture, notes } = placeFrames(set, header)
  const { rows, columns } = header
  const voxels = rows * columns
  const room = { mostBytes: Number.POSITIVE_INFINITY, compressed: true }
  // labels of two bytes, then of one where those hold them
  checkedVoxels([columns, rows, depth], 2, limits, room, { peak: 3 })
  const data = new Uint16Array(voxels * depth)
  const bytes = openDicomBytes(path, header, limits, name)
  let overlaps = 0
  try {
    const reader = openFrames(header, bytes, limits, name)
    const frame = new Uint8Array(frameBytes(header))
    const samples = samplesOf(frame, header)
    const least = type === 'FRACTIONAL' ? (set.uint16(0x0062000e) ?? 255) / 2 : 1
    for (const [index, { segment, slice }] of frames.entries()) {
      signal?.throwIfAborted()
      await reader.readFrame(index, frame)
      for (let r = 0; r < rows; r++) {
        let to = slice * voxels + (picture ? r : rows - 1 - r) * columns
        for (let from = r * columns; from < (r + 1) * columns; from++, to++) {
          if (samples[from]! < least) continue
          const label = segment === 0 ? samples[from]! : segment
          if (data[to] !== 0 && data[to] !== label) overlaps++
          data[to] = Math.max(data[to]!, label)
        }
      }
    }
    notes.push(...reader.notes)
  } finally {
    bytes.close()
  }
  if (overlaps > 0) notes.push(`${overlaps} voxel(s) belong to several segments: the highest number was taken`)
  const labels = data.some((label) => label > 255) ? data : new Uint8Array(data)
  const volume: Volume = makeVolume([columns, rows, depth], affine, labels)
  return { volume, format: 'dicom', extension: picture ? '.png' : '.nii.gz', notes }
}

interface Placed {
  readonly frames: readonly SegFrame[]
  readonly depth: number
  readonly affine: Float64Array
  /** One slice without a place in the patient: rows downwards, as its image is read. */
  readonly picture: boolean
  readonly notes: string[]
}

function placeFrames(set: DataSet, header: DicomHeader): Placed {
  const groups = set.items(0x52009230)
  const shared = set.items(0x52009229)[0]
  const segments = header.frames.map((_, i) => {
    const found = groups[i]?.items(0x0062000a)[0] ?? shared?.items(0x0062000a)[0]
    return found?.uint16(0x0062000b) ?? 0
  })
  const axis = placeDimension(set)
  const indices = groups.map((group) => group.items(0x00209111)[0]?.numbers(0x00209157, axis + 1, 'UL')?.[axis])
  const placed = header.frames.every(({ position, row, column }) => position && row && column)
  const slices = placed ? slicesByPlace(set, header, indices) : slicesByNumber(header, indices)
  const frames = segments.map((segment, i) => ({ segment, slice: slices.of[i]! }))
  return { ...slices, frames }
}

type Slices = Omit<Placed, 'frames'> & { readonly of: readonly number[] }

/** Which of the dimension indices counts places; -1 + 1 = 0 finds none. */
function placeDimension(set: DataSet): number {
  const dimensions = set.items(0x00209222)
  const pointers = dimensions.map((one) => pointerOf(one.bytes(0x00209165)))
  const found = pointers.findIndex((tag) => tag === 0x00200032 || tag === 0x00209057)
  return found < 0 ? pointers.length : found
}

/** An attribute's tag as a value: two little-endian numbers. */
function pointerOf(bytes: Uint8Array | undefined): number {
  if (!bytes || bytes.length < 4) return 0
  return (bytes[0]! + bytes[1]! * 256) * 65_536 + bytes[2]! + bytes[3]! * 256
}

/** Frames without places: a picture, or a stack in the order of their numbers. */
function slicesByNumber(header: DicomHeader, indices: readonly (number | undefined)[]): Slices {
  const numbered = indices.length > 0 && indices.every((index) => index !== undefined)
  const of = header.frames.map((_, i) => (numbered ? Math.max(0, indices[i]! - 1) : 0))
  const depth = Math.max(...of) + 1
  checkDepth(depth)
  const notes = depth > 1 ? ['the segmentation does not say where its frames lie: they are stacked in order'] : []
  const affine = identity4()
  const [betweenRows, betweenColumns] = header.frames[0]!.pixelSpacing ?? [1, 1]
  affine[0] = betweenColumns
  affine[5] = betweenRows
  return { of, depth, affine, picture: depth === 1, notes }
}

function slicesByPlace(set: DataSet, header: DicomHeader, indices: readonly (number | undefined)[]): Slices {
  const first = header.frames[0]!
  const normal = cross(first.row!, first.column!)
  const heights = header.frames.map(({ position }) => dot(position!, normal))
  const distinct = [...heights]
    .sort((a, b) => a - b)
    .filter((height, i, all) => i === 0 || height - all[i - 1]! > GAP_TOLERANCE_MM)
  const spacing = spacingOf(set)
  const gaps = distinct.slice(1).map((height, i) => height - distinct[i]!)
  const counted = countedByIndex(heights, indices)
  const step = counted?.step ?? (spacing || Math.min(...gaps, header.sliceThickness || Number.POSITIVE_INFINITY))
  const known = Number.isFinite(step) ? step : 1
  const place = (height: number) => (height - distinct[0]!) / known
  const even = distinct.every((height) => Math.abs(place(height) - Math.round(place(height))) <= PLACE_TOLERANCE)
  const before = even && counted ? counted.before : 0
  const last = even ? Math.round(place(distinct.at(-1)!)) : distinct.length - 1
  const depth = Math.max(before + last + 1, even && counted ? sourceSlices(set) : 0)
  checkDepth(depth)
  const nearest = (height: number) => distinct.findIndex((one) => Math.abs(one - height) <= GAP_TOLERANCE_MM)
  const of = heights.map((height) => before + (even ? Math.round(place(height)) : nearest(height)))
  const stack = stackOf(header, distinct, heights, { known, before, depth, even, normal })
  return { of, depth, affine: stack.affine, picture: false, notes: [...stack.notes] }
}

function checkDepth(depth: number): void {
  if (!(depth >= 1 && depth <= MAX_SLICES))
    throw new AppError('BAD_GEOMETRY', `the segmentation's frames are spread over more than ${MAX_SLICES} slices`)
}

/** SpacingBetweenSlices, shared by all frames or at the top. */
function spacingOf(set: DataSet): number {
  const measures = set.items(0x52009229)[0]?.items(0x00289110)[0]
  return Math.abs(measures?.numbers(0x00180088, 1)?.[0] ?? set.numbers(0x00180088, 1)?.[0] ?? 0)
}

interface Counted {
  /** Millimetres from one index to the next; undefined where there is but one place. */
  readonly step: number | undefined
  /** Slices before the lowest frame. */
  readonly before: number
}

/** What the dimension indices say of the row of slices; undefined where they are none, or run the other way. */
function countedByIndex(heights: readonly number[], indices: readonly (number | undefined)[]): Counted | undefined {
  if (indices.length === 0 || indices.some((index) => index === undefined || index < 1)) return undefined
  const low = heights.indexOf(Math.min(...heights))
  const high = heights.indexOf(Math.max(...heights))
  const count = indices[high]! - indices[low]!
  const span = heights[high]! - heights[low]!
  if (count < 0 || (count === 0) !== span <= GAP_TOLERANCE_MM) return undefined
  const step = count === 0 ? undefined : span / count
  const along = (height: number) => (step === undefined ? 0 : (height - heights[low]!) / step)
  const inRow = heights.every((height, i) => Math.abs(along(height) - (indices[i]! - indices[low]!)) <= PLACE_TOLERANCE)
  return inRow ? { step, before: indices[low]! - 1 } : undefined
}

/** How many single-frame images the segmentation says it was made from. */
function sourceSlices(set: DataSet): number {
  const series = set.items(0x00081115)[0]
  return series?.items(0x0008114a).length ?? 0
}

interface Row {
  readonly known: number
  readonly before: number
  readonly depth: number
  readonly even: boolean
  readonly normal: Vec3
}

/** The grid through one frame of each slice; slices without a frame are put where they belong. */
function stackOf(
  header: DicomHeader,
  distinct: readonly number[],
  heights: readonly number[],
  { known, before, depth, even, normal }: Row,
): Stack {
  const shape = { rows: header.rows, columns: header.columns, gap: undefined, thickness: known }
  const ofHeight = (height: number) =>
    header.frames[heights.findIndex((one) => Math.abs(one - height) <= GAP_TOLERANCE_MM)]!
  if (!even || depth === 1) return stackFrames(distinct.map(ofHeight), shape)
  const [from, to] = [ofHeight(distinct[0]!), ofHeight(distinct.at(-1)!)]
  const slices = Math.round((distinct.at(-1)! - distinct[0]!) / known)
  // Of slices that lean, the step is the way from one frame to the next, not the normal.
  const step = [0, 1, 2].map((axis) =>
    slices > 0 ? (to.position![axis]! - from.position![axis]!) / slices : normal[axis]! * known,
  )
  const frames = Array.from({ length: depth }, (_, k): DicomFrame => {
    const position = from.position!.map((value, axis) => value + step[axis]! * (k - before)) as unknown as Vec3
    return { ...from, position }
  })
  return stackFrames(frames, shape)
}
