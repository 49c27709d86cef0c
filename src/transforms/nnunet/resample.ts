/** An image at the spacing that a model was trained at, and its scores back, as nnU-Net does both. */
import { z } from 'zod'
import { AppError } from '../../errors.js'
import { roundHalfEven } from '../../volume/affine.js'
import { weightsOfLinear } from '../../volume/axis-weights.js'
import { resizeCubic } from '../../volume/cubic.js'
import {
  type LinearTable,
  type LinearTables,
  nearestExactTable,
  resampleSeparable,
  resizeLinearTable,
} from '../../volume/resample.js'
import { extremes } from '../../volume/stats.js'
import { makeVolume, spacingOf, type Vec3, type Volume, voxelCount } from '../../volume/volume.js'
import { fieldArgs, numbers } from '../args.js'
import { eachImage, spatialAxes } from '../fields.js'
import { checkNewGrid } from '../new-grid.js'
import { nearestMap, scaledGrid } from '../resize.js'
import type { ImageField, TransformDefinition } from '../types.js'
import { moved, resizeStep } from '../undo.js'

type Axis = 0 | 1 | 2

/** Splines of these orders are made here: the nearest voxel, linear, cubic. */
const order = z.union([z.literal(0), z.literal(1), z.literal(3)], 'must be 0, 1 or 3')

/** The keywords of nnU-Net's resample_data_or_seg_to_shape. */
export const How = z.strictObject({
  order: order.default(3),
  /** Along the axis of thick slices, where that is resampled on its own. */
  order_z: order.default(0),
  /** Null: where one axis is more than `separate_z_anisotropy_threshold` times as coarse as another. */
  force_separate_z: z.boolean().nullable().default(null),
  separate_z_anisotropy_threshold: z.number().positive().default(3),
})
export type How = z.output<typeof How>

const args = fieldArgs({
  /** mm along the array's axes; two numbers are those of its last two, and the first keeps its own. */
  spacing: numbers.pipe(z.array(z.number().positive()).min(2).max(3)),
  data: How.prefault({}),
  probabilities: How.prefault({ order: 1 }),
})

/**
 * nnU-Net's resampling: round(size x spacing / target) voxels over the same field of view, cubic as a rule, held between the
 * extremes of what it was made from. The way back for scores is that of `probabilities`.
 */
export const nnunetResample: TransformDefinition<typeof args> = {
  names: ['NnUNetResampled'],
  args,
  create: (a) => {
    if (a.probabilities.order === 3 || a.probabilities.order_z === 3)
      throw new AppError('BAD_MODEL_CONFIG', 'probabilities are resampled with order 0 or 1 here, not 3')
    return eachImage(a, (field) => resampled(field, a.spacing, a.data, a.probabilities))
  },
}

function resampled(field: ImageField, spacing: readonly number[], data: How, back: How): ImageField {
  const before = field.volume
  const own = spacingOf(before)
  const wanted = spacingAlong(field, spacing)
  const size = before.size.map((n, axis) =>
    Math.max(1, roundHalfEven((own[axis]! / wanted[axis]!) * n)),
  ) as unknown as Vec3
  if (size.every((n, axis) => n === before.size[axis])) return field
  checkNewGrid(field, size, 'NnUNetResampled')
  const volume = resize(before, size, data, thickAxis(data, own, wanted))
  const tables = tablesBack(size, before.size, back, thickAxis(back, wanted, own))
  const linear = (scores: Volume): Volume => resampleSeparable(scores, tables, before.affine)
  const step = resizeStep('NnUNetResampled', before, nearestMap(size, before.size, 'nearest-exact'), linear, {
    undo: linear,
    weights: () => weightsOfLinear(tables),
  })
  return { ...moved(field, volume, step), scratch: true }
}

/** The spacing that is wanted along the memory's axes; `spacing` counts the array's, from the last. */
export function spacingAlong(field: ImageField, spacing: readonly number[]): Vec3 {
  const array = spatialAxes(field)
  const wanted: [number, number, number] = [...spacingOf(field.volume)]
  for (const [i, mm] of spacing.entries()) wanted[array.at(i - spacing.length)!] = mm
  return wanted
}

/** The axis that is resampled on its own: the one coarsest axis, before or after, where axes differ that much. */
export function thickAxis(
  { force_separate_z: force, separate_z_anisotropy_threshold: most }: How,
  now: Vec3,
  next: Vec3,
): Axis | undefined {
  if (force === false) return undefined
  const isThick = (spacing: Vec3) => Math.max(...spacing) / Math.min(...spacing) > most
  const spacing = force || isThick(now) ? now : isThick(next) ? next : undefined
  if (!spacing) return undefined
  // headers state equal spacings to a few digits only
  const coarsest = ([0, 1, 2] as const).filter((axis) => spacing[axis] > Math.max(...spacing) * (1 - 1e-4))
  return coarsest.length === 1 ? coarsest[0] : undefined
}

function resize(before: Volume, size: Vec3, { order, order_z }: How, thick: Axis | undefined): Volume<Float32Array> {
  const grid = scaledGrid(before, size)
  const voxels = voxelCount(before)
  const target = size[0] * size[1] * size[2]
  const out = new Float32Array(target * before.channels)
  for (let c = 0; c < before.channels; c++) {
    let part = new Float32Array(before.data.subarray(c * voxels, (c + 1) * voxels))
    let now: Vec3 = before.size
    const along = (axes: readonly Axis[], by: number): void => {
      const next = now.map((n, axis) => (axes.includes(axis as Axis) ? size[axis]! : n)) as unknown as Vec3
      part = resizeAxes(part, now, next, by)
      now = next
    }
    if (thick === undefined) {
      const range = extremes(part)
      along([0, 1, 2], order)
      if (order === 3) hold(part, range)
    } else {
      const ranges = order === 3 ? sliceExtremes(part, now, thick) : undefined
      along(
        ([0, 1, 2] as const).filter((axis) => axis !== thick),
        order,
      )
      if (ranges) holdSlices(part, now, thick, ranges)
      along([thick], order_z)
    }
    out.set(part, c * target)
  }
  return makeVolume(size, grid.affine, out, { channels: before.channels })
}

/** Along all three axes at once: the nearest voxel, linear, or cubic. */
export function resizeAxes(data: Float32Array, from: Vec3, to: Vec3, order: number): Float32Array<ArrayBuffer> {
  if (order === 3) {
    let part = data
    const size: [number, number, number] = [...from]
    for (const axis of [0, 1, 2] as const) {
      if (to[axis] === size[axis]) continue
      part = resizeCubic(part, size, axis, to[axis])
      size[axis] = to[axis]
    }
    return part as Float32Array<ArrayBuffer>
  }
  const tables = from.map((n, axis) => table(n, to[axis]!, order)) as unknown as LinearTables
  return resampleSeparable({ size: from, channels: 1, data }, tables, new Float64Array(16))
    .data as Float32Array<ArrayBuffer>
}

function table(source: number, target: number, order: number): LinearTable {
  if (order === 1) return resizeLinearTable(source, target, false)
  const index = nearestExactTable(source, target)
  return { low: index, high: index, weight: new Float64Array(target) }
}

function tablesBack(source: Vec3, target: Vec3, { order, order_z }: How, thick: Axis | undefined): LinearTables {
  return source.map((n, axis) => table(n, target[axis]!, axis === thick ? order_z : order)) as unknown as LinearTables
}

interface Range {
  readonly min: number
  readonly max: number
}

function hold(data: Float32Array, { min, max }: Range): void {
  for (let i = 0; i < data.length; i++)
    if (data[i]! < min) data[i] = min
    else if (data[i]! > max) data[i] = max
}

/** Calls `each` with every run of voxels in memory, from `from` to before `to`, that lies in one slice across `axis`. */
function eachRun([nx, ny, nz]: Vec3, axis: Axis, each: (slice: number, from: number, to: number) => void): void {
  for (let z = 0; z < nz; z++)
    for (let y = 0; y < ny; y++) {
      const row = (z * ny + y) * nx
      if (axis === 0) for (let x = 0; x < nx; x++) each(x, row + x, row + x + 1)
      else each(axis === 1 ? y : z, row, row + nx)
    }
}

function sliceExtremes(data: Float32Array, size: Vec3, axis: Axis): Range[] {
  const ranges = Array.from({ length: size[axis] }, () => ({ min: Infinity, max: -Infinity }))
  eachRun(size, axis, (slice, from, to) => {
    const range = ranges[slice]!
    for (let i = from; i < to; i++) {
      if (data[i]! < range.min) range.min = data[i]!
      if (data[i]! > range.max) range.max = data[i]!
    }
  })
  return ranges
}

function holdSlices(data: Float32Array, size: Vec3, axis: Axis, ranges: readonly Range[]): void {
  eachRun(size, axis, (slice, from, to) => {
    hold(data.subarray(from, to), ranges[slice]!)
  })
}
