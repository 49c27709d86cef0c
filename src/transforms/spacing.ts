import { z } from 'zod'
import { AppError } from '../errors.js'
import {
  affineFrom,
  indexToIndex,
  invert3,
  linearPart,
  multiply3,
  roundHalfEven,
  transformPoint,
  transpose3,
} from '../volume/affine.js'
import { weightsOfAffine, weightsOfMap } from '../volume/axis-weights.js'
import { axisAlignedMap, resampleLinear, resampleNearest } from '../volume/resample.js'
import { resampleSpline, type SplineOrder } from '../volume/spline.js'
import { type Grid, spacingOf, type Vec3, type Volume } from '../volume/volume.js'
import { describing, fieldArgs, numbers } from './args.js'
import { DESCRIBING } from './describing.js'
import { eachImage, perMemoryAxis, requireImage } from './fields.js'
import { checkNewGrid } from './new-grid.js'
import type { ImageField, TransformDefinition, UndoStep } from './types.js'
import { moved } from './undo.js'

/** How voxels are looked up between others: by a B-spline where a number says its order, as scipy does. */
type Mode = 'linear' | 'nearest' | SplineOrder
type Outside = 'border' | 'zeros'

const oneMode = z.union([z.string(), z.int()])
const modeArg = z.union([oneMode, z.array(oneMode)]).default('bilinear')
const padArg = z.union([z.string(), z.array(z.string())]).default('border')
/** Places in the source are the same either way, unless a spline looks for them. */
const cornersArg = z.union([z.boolean(), z.array(z.boolean())]).optional()

const args = fieldArgs({
  pixdim: numbers,
  diagonal: z.boolean().default(false),
  mode: modeArg,
  padding_mode: padArg,
  align_corners: cornersArg,
  scale_extent: z.boolean().default(false),
  recompute_affine: z.literal(false, 'only false is supported').optional(),
  min_pixdim: numbers.nullable().optional(),
  max_pixdim: numbers.nullable().optional(),
  ...describing('ensure_same_shape'),
  dtype: DESCRIBING.compute_dtype,
})

/**
 * Resamples to `pixdim` mm a voxel, keeping the directions of the axes (MONAI 1.6's Spacingd: shearing is dropped, the
 * field of view kept from first to last voxel centre, linear with the border held). An axis whose pixdim is not positive
 * keeps its spacing.
 */
export const spacing: TransformDefinition<typeof args> = {
  names: ['Spacingd', 'SpacingD', 'SpacingDict', 'Spacing'],
  args,
  create: (a) => {
    const { modes, pads } = lookUps(a)
    return eachImage(a, (field, index) => {
      const own = spacingOf(field.volume)
      const pixdim = perMemoryAxis(field, a.pixdim, own)
      const low = a.min_pixdim && perMemoryAxis(field, a.min_pixdim, own)
      const high = a.max_pixdim && perMemoryAxis(field, a.max_pixdim, own)
      const target = own.map((have, axis) => {
        const want = pixdim[axis]!
        const min = Math.min(low?.[axis] ?? want, want)
        const max = Math.max(high?.[axis] ?? want, want)
        const keep = want <= 0 || ((low || high) && have >= min - 1e-3 && have <= max + 1e-3)
        return keep ? have : want
      }) as unknown as Vec3
      const grid = spacedGrid(field.volume, target, a)
      return resampleTo(field, grid, modes[index] ?? modes.at(-1)!, pads[index] ?? pads.at(-1)!)
    })
  },
}

/** Throws BAD_MODEL_CONFIG for words that are no mode, and for what a spline cannot honour. */
function lookUps(a: {
  readonly mode: z.output<typeof modeArg>
  readonly padding_mode: z.output<typeof padArg>
  readonly align_corners?: z.output<typeof cornersArg>
}): { modes: Mode[]; pads: Outside[] } {
  const modes = [a.mode].flat().map(checkMode)
  const splines = modes.some((mode) => typeof mode === 'number')
  if (splines && [a.align_corners ?? false].flat().includes(true))
    throw new AppError('BAD_MODEL_CONFIG', 'align_corners must be false where mode is a number')
  return { modes, pads: [a.padding_mode].flat().map((word) => checkPadding(word, splines)) }
}

function checkMode(mode: string | number): Mode {
  const word = String(mode).toLowerCase()
  if (word === 'nearest' || word === '0') return 'nearest'
  if (['bilinear', 'trilinear', 'linear', '1'].includes(word)) return 'linear'
  if (/^[2-5]$/.test(word)) return Number(word) as SplineOrder
  throw new AppError('BAD_MODEL_CONFIG', `mode must be one of bilinear, nearest or a number from 0 to 5, got '${mode}'`)
}

function checkPadding(mode: string, splines: boolean): Outside {
  if (mode === 'border' || mode === 'zeros') return mode
  // scipy's words, which MONAI takes beside a number
  if (splines && mode === 'nearest') return 'border'
  if (splines && mode === 'constant') return 'zeros'
  throw new AppError('BAD_MODEL_CONFIG', `padding_mode must be border or zeros, got '${mode}'`)
}

/** MONAI's zoom_affine and compute_shape_offset: the grid with that spacing over the same field of view. */
export function spacedGrid(
  grid: Grid,
  spacing: Vec3,
  { diagonal = false, scale_extent = false }: { diagonal?: boolean; scale_extent?: boolean } = {},
): Grid {
  const linear = zoomed(linearPart(grid.affine), spacing, diagonal)
  const toTarget = indexToIndex(grid, { affine: affineFrom(linear, [0, 0, 0]) })
  const edge = scale_extent ? 0.5 : 0
  const low = [Infinity, Infinity, Infinity]
  const high = [-Infinity, -Infinity, -Infinity]
  const corners: Vec3[] = []
  for (let k = 0; k < 8; k++) {
    // numpy's meshgrid with indexing 'ij' counts the last axis fastest
    const bits = [(k >> 2) & 1, (k >> 1) & 1, k & 1]
    const corner = bits.map((bit, axis) => (bit ? grid.size[axis]! - 1 + edge : -edge)) as unknown as Vec3
    corners.push(corner)
    transformPoint(toTarget, corner).forEach((value, axis) => {
      low[axis] = Math.min(low[axis]!, value)
      high[axis] = Math.max(high[axis]!, value)
    })
  }
  const size = low.map((value, axis) =>
    Math.max(1, roundHalfEven(high[axis]! - value + (scale_extent ? 0 : 1))),
  ) as unknown as Vec3
  return { size, affine: affineFrom(linear, originOf(grid, linear, size, corners, toTarget, low, edge)) }
}

/** The corner that comes first along every new axis; the centres aligned when there is none. */
function originOf(
  grid: Grid,
  linear: Float64Array,
  size: Vec3,
  corners: readonly Vec3[],
  toTarget: Float64Array,
  low: readonly number[],
  edge: number,
): Vec3 {
  const first = corners.find((corner) =>
    transformPoint(toTarget, corner).every((value, axis) => Math.abs(value - low[axis]!) <= 1e-8),
  )
  if (first && edge > 0) {
    // half a new voxel inside the outer edge of the field of view
    const world = transformPoint(grid.affine, first)
    const half = affineFrom(linear, world)
    return transformPoint(half, [0.5, 0.5, 0.5])
  }
  if (first) return transformPoint(grid.affine, first)
  const middle = transformPoint(grid.affine, [grid.size[0] / 2, grid.size[1] / 2, grid.size[2] / 2])
  const half = transformPoint(affineFrom(linear, [0, 0, 0]), [size[0] / 2, size[1] / 2, size[2] / 2])
  return [middle[0] - half[0], middle[1] - half[1], middle[2] - half[2]]
}

/** The rotation of a linear part with new column lengths: Q of its QR decomposition (through Cholesky, as MONAI). */
function zoomed(linear: Float64Array, spacing: Vec3, diagonal: boolean): Float64Array {
  const scale = Float64Array.of(spacing[0], 0, 0, 0, spacing[1], 0, 0, 0, spacing[2])
  if (diagonal) return scale
  const m = multiply3(transpose3(linear), linear)
  const a = Math.sqrt(m[0]!)
  const b = m[3]! / a
  const c = m[6]! / a
  const d = Math.sqrt(m[4]! - b * b)
  const e = (m[7]! - b * c) / d
  const f = Math.sqrt(m[8]! - c * c - e * e)
  const upper = Float64Array.of(a, b, c, 0, d, e, 0, 0, f)
  return multiply3(multiply3(linear, invert3(upper)), scale)
}

/** Resamples a field onto another grid of the same world (labels by nearest voxel), and notes the way back. */
export function resampleTo(field: ImageField, grid: Grid, mode: Mode, outside: Outside, name = 'Spacingd'): ImageField {
  checkNewGrid(field, grid.size, name)
  const { size, affine } = field.volume
  const toSource = indexToIndex(grid, field.volume)
  if (isSameGrid(toSource, grid.size, size)) return field
  const sampling = { toSource, size: grid.size, affine: grid.affine, outside }
  const volume: Volume =
    mode === 'nearest' || field.content === 'labels'
      ? resampleNearest(field.volume, sampling)
      : typeof mode === 'number'
        ? resampleSpline(field.volume, sampling, mode)
        : resampleLinear(field.volume, sampling)
  const back = { toSource: indexToIndex(field.volume, grid), size, affine, outside }
  const step: UndoStep = {
    name,
    kind: 'spacing',
    before: { size, affine },
    map: axisAlignedMap(grid.size, size, back.toSource, outside),
    undo: (result, undoMode) => {
      if (undoMode === 'nearest' || (undoMode === 'own' && mode === 'nearest')) return resampleNearest(result, back)
      return undoMode === 'own' && typeof mode === 'number'
        ? resampleSpline(result, back, mode)
        : resampleLinear(result, back)
    },
    weights: () => {
      // a spline reaches over the whole axis
      if (typeof mode === 'number') return undefined
      if (mode === 'linear') return weightsOfAffine(grid.size, size, back.toSource, outside)
      const map = axisAlignedMap(grid.size, size, back.toSource, outside)
      return map && weightsOfMap(map)
    },
  }
  return { ...moved(field, volume, step), scratch: true }
}

const matchArgs = fieldArgs({
  key_dst: z.string(),
  mode: modeArg,
  padding_mode: padArg,
  align_corners: cornersArg,
  dtype: DESCRIBING.compute_dtype,
})

/** MONAI's ResampleToMatchd: onto the grid of the field `key_dst`, wherever both lie in the world. */
export const resampleToMatch: TransformDefinition<typeof matchArgs> = {
  names: ['ResampleToMatchd', 'ResampleToMatchD', 'ResampleToMatchDict'],
  args: matchArgs,
  create: (a) => {
    const { modes, pads } = lookUps(a)
    return eachImage(a, (field, index, item) => {
      const { size, affine } = requireImage(item, a.key_dst).volume
      const mode = modes[index] ?? modes.at(-1)!
      return resampleTo(field, { size, affine }, mode, pads[index] ?? pads.at(-1)!, 'ResampleToMatchd')
    })
  },
}

function isSameGrid(toSource: Float64Array, size: Vec3, source: Vec3): boolean {
  return (
    size.every((n, axis) => n === source[axis]) &&
    toSource.every((value, i) => Math.abs(value - (i % 5 === 0 ? 1 : 0)) <= 1e-3)
  )
}
