/** Scaling a field of view to another number of voxels: MONAI's Resized and Zoomd, Clara's ScaleTo... and ScaleBy... */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { affineFrom, linearPart, roundHalfEven, transformPoint } from '../volume/affine.js'
import { type AxisWeights, weightsOfArea, weightsOfLinear, weightsOfMap } from '../volume/axis-weights.js'
import {
  type AxisMap,
  gather,
  type LinearTables,
  nearestExactTable,
  nearestTable,
  resampleArea,
  resampleSeparable,
  resizeLinearTable,
} from '../volume/resample.js'
import { type Grid, spacingOf, type Vec3, type Volume } from '../volume/volume.js'
import { fieldArgs, integers, numbers, onlyNull } from './args.js'
import { boxOptions, centred, checkedPadding, padding, padTo } from './crop-pad.js'
import { DESCRIBING } from './describing.js'
import { eachImage, perMemoryAxis, spatialAxes } from './fields.js'
import { checkNewGrid } from './new-grid.js'
import type { ImageField, TransformDefinition } from './types.js'
import { moved, resizeStep } from './undo.js'

type Mode = 'nearest' | 'nearest-exact' | 'linear' | 'area'

const MODES: Readonly<Record<string, Mode>> = {
  nearest: 'nearest',
  'nearest-exact': 'nearest-exact',
  linear: 'linear',
  bilinear: 'linear',
  trilinear: 'linear',
  area: 'area',
}

const modeArg = z.union([z.string(), z.array(z.string())])

const resizedArgs = fieldArgs({
  spatial_size: integers,
  size_mode: z.enum(['all', 'longest']).default('all'),
  mode: modeArg.default('area'),
  align_corners: z.union([z.boolean(), z.null(), z.array(z.boolean().nullable())]).optional(),
  anti_aliasing: z.union([z.literal(false), z.array(z.literal(false))], 'only false is supported').optional(),
  anti_aliasing_sigma: onlyNull('needs anti_aliasing, which is not supported'),
  dtype: DESCRIBING.compute_dtype,
})

/** MONAI's Resized (torch's `interpolate`): sizes of zero or less keep the axis. */
export const resized: TransformDefinition<typeof resizedArgs> = {
  names: ['Resized', 'ResizeD', 'ResizeDict', 'Resize'],
  args: resizedArgs,
  create: (a) => {
    const modes = (typeof a.mode === 'string' ? [a.mode] : a.mode).map(checkMode)
    const aligned = [a.align_corners ?? false].flat().map((value) => value ?? false)
    return eachImage(a, (field, index) => {
      const own = field.volume.size
      let size: readonly number[] = perMemoryAxis(field, a.spatial_size, own as [number, number, number])
      if (a.size_mode === 'longest') {
        const longest = Math.max(...spatialAxes(field).map((axis) => own[axis]))
        size = perMemoryAxis(
          field,
          spatialAxes(field).map((axis) => roundHalfEven((own[axis] * a.spatial_size[0]!) / longest)),
          own as [number, number, number],
        )
      }
      const target = size.map((n, axis) => (n > 0 ? n : own[axis]!)) as unknown as Vec3
      return resizeTo(
        field,
        target,
        modes[index] ?? modes.at(-1)!,
        aligned[index] ?? aligned.at(-1)!,
        'Resized',
        'nearest',
      )
    })
  },
}

const zoomArgs = fieldArgs({
  zoom: numbers,
  mode: modeArg.default('area'),
  align_corners: z.boolean().nullable().optional(),
  keep_size: z.boolean().default(true),
  padding_mode: padding.mode,
  value: padding.value,
  constant_values: padding.constant_values,
  dtype: DESCRIBING.compute_dtype,
})

/**
 * MONAI's Zoomd: each axis times its factor, rounded down; then the middle cut out or padded to the size before, unless
 * `keep_size` is false.
 */
export const zoom: TransformDefinition<typeof zoomArgs> = {
  names: ['Zoomd', 'ZoomD', 'ZoomDict', 'Zoom'],
  args: zoomArgs,
  create: (a) => {
    const modes = (typeof a.mode === 'string' ? [a.mode] : a.mode).map(checkMode)
    const { padding_mode: padMode, value, constant_values, keep_size: keeps } = a
    if (!keeps && [padMode, value, constant_values].some((given) => given !== undefined))
      throw new AppError('BAD_MODEL_CONFIG', 'padding counts only where keep_size is true')
    const pads = checkedPadding({ mode: padMode ?? (['edge'] as const), value, constant_values })
    return eachImage(a, (field, index) => {
      const factors = perMemoryAxis(field, a.zoom, [1, 1, 1])
      const size = field.volume.size.map((n, axis) => Math.max(1, Math.floor(n * factors[axis]!))) as unknown as Vec3
      const zoomed = resizeTo(field, size, modes[index] ?? modes.at(-1)!, a.align_corners ?? false, 'Zoomd', 'nearest')
      if (!keeps) return zoomed
      const own = spatialAxes(field).map((axis) => field.volume.size[axis])
      return padTo(centred(zoomed, own, 'Zoomd'), field.volume.size, 'symmetric', 'Zoomd', boxOptions(pads, index))
    })
  },
}

const clara = { is_label: z.boolean().default(false), dtype: DESCRIBING.compute_dtype }

const byResolutionArgs = fieldArgs({ target_resolution: numbers, ...clara })

/** Clara's ScaleByResolution: round(size x spacing / target) voxels over the same field of view. */
export const scaleByResolution: TransformDefinition<typeof byResolutionArgs> = {
  names: ['ScaleByResolution'],
  args: byResolutionArgs,
  create: (a) => eachImage(a, (field) => resizeToSpacing(field, a.target_resolution, a.is_label, 'ScaleByResolution')),
}

const bySpacingArgs = fieldArgs({ target_spacing: numbers, ...clara })

/** The same under the name that speaks of spacing. */
export const scaleBySpacing: TransformDefinition<typeof bySpacingArgs> = {
  names: ['ScaleBySpacing'],
  args: bySpacingArgs,
  create: (a) => eachImage(a, (field) => resizeToSpacing(field, a.target_spacing, a.is_label, 'ScaleBySpacing')),
}

const byFactorArgs = fieldArgs({ factor: numbers, ...clara })

/** Clara's ScaleByFactor: round(size x factor) voxels. */
export const scaleByFactor: TransformDefinition<typeof byFactorArgs> = {
  names: ['ScaleByFactor'],
  args: byFactorArgs,
  create: (a) =>
    eachImage(a, (field) => {
      const factors = perMemoryAxis(field, a.factor, [1, 1, 1])
      const size = field.volume.size.map((n, axis) => Math.max(1, Math.round(n * factors[axis]!))) as unknown as Vec3
      return resizeTo(field, size, a.is_label ? 'nearest-exact' : 'linear', false, 'ScaleByFactor')
    }),
}

const toShapeArgs = fieldArgs({ target_shape: integers, ...clara })

/** Clara's ScaleToShape. */
export const scaleToShape: TransformDefinition<typeof toShapeArgs> = {
  names: ['ScaleToShape'],
  args: toShapeArgs,
  create: (a) =>
    eachImage(a, (field) => {
      const own = field.volume.size as [number, number, number]
      const size = perMemoryAxis(field, a.target_shape, own).map((n, axis) => (n > 0 ? n : own[axis]!))
      return resizeTo(field, size as unknown as Vec3, a.is_label ? 'nearest-exact' : 'linear', false, 'ScaleToShape')
    }),
}

function resizeToSpacing(field: ImageField, target: readonly number[], isLabel: boolean, name: string): ImageField {
  const own = spacingOf(field.volume)
  const want = perMemoryAxis(field, target, own)
  const size = field.volume.size.map((n, axis) =>
    want[axis]! > 0 ? Math.max(1, Math.round((n * own[axis]!) / want[axis]!)) : n,
  ) as unknown as Vec3
  return resizeTo(field, size, isLabel ? 'nearest-exact' : 'linear', false, name)
}

function checkMode(mode: string): Mode {
  const known = MODES[mode.toLowerCase()]
  if (known) return known
  throw new AppError('BAD_MODEL_CONFIG', `mode must be one of ${Object.keys(MODES).join(', ')}, got '${mode}'`)
}

/** The field of view of `grid` cut into `size` voxels; with `alignCorners` the outer voxel centres stay instead. */
export function scaledGrid(grid: Grid, size: Vec3, alignCorners = false): Grid {
  const scale = size.map((n, axis) => {
    const own = grid.size[axis]!
    return alignCorners && n > 1 ? (own - 1) / (n - 1) : own / n
  })
  const linear = linearPart(grid.affine).map((value, i) => value * scale[i % 3]!)
  const shift = scale.map((s) => (alignCorners ? 0 : (s - 1) / 2)) as unknown as Vec3
  return { size, affine: affineFrom(linear, transformPoint(grid.affine, shift)) }
}

/**
 * Resizes a field, and notes the way back: labels by nearest voxel in the manner of `back`, scores in that of
 * `stated`, as MONAI inverts a resize. Labels take nearest voxels on the way there too: a blend of two of their numbers is a third.
 */
export function resizeTo(
  field: ImageField,
  size: Vec3,
  stated: Mode,
  alignCorners: boolean,
  name: string,
  back: 'nearest' | 'nearest-exact' = 'nearest-exact',
): ImageField {
  // the way back keeps this, and must not keep the voxels
  const before: Grid = { size: field.volume.size, affine: field.volume.affine }
  if (size.every((n, axis) => n === before.size[axis])) return field
  checkNewGrid(field, size, name)
  const blends = stated === 'linear' || stated === 'area'
  const mode = blends && field.content === 'labels' ? 'nearest-exact' : stated
  const grid = scaledGrid(before, size, alignCorners && mode === 'linear')
  const volume = resizeVolume(field.volume, grid, mode, alignCorners)
  const map = nearestMap(size, before.size, back)
  const step = resizeStep(name, before, map, (scores) => resizeVolume(scores, before, 'linear', alignCorners), {
    undo: (scores) => resizeVolume(scores, before, stated, alignCorners),
    weights: () => resizeWeights(size, before.size, stated, alignCorners),
  })
  return { ...moved(field, volume, step), scratch: true }
}

/** What `resizeVolume` does, as weights along each axis. */
export function resizeWeights(source: Vec3, target: Vec3, mode: Mode, alignCorners: boolean): AxisWeights {
  if (mode === 'area') return weightsOfArea(source, target)
  if (mode !== 'linear') return weightsOfMap(nearestMap(source, target, mode))
  const tables = source.map((n, axis) => resizeLinearTable(n, target[axis]!, alignCorners))
  return weightsOfLinear(tables as unknown as LinearTables)
}

export function resizeVolume(volume: Volume, grid: Grid, mode: Mode, alignCorners: boolean): Volume {
  if (mode === 'area') return resampleArea(volume, grid.size, grid.affine)
  if (mode !== 'linear') return gather(volume, nearestMap(volume.size, grid.size, mode), grid.affine)
  const tables = volume.size.map((n, axis) => resizeLinearTable(n, grid.size[axis]!, alignCorners))
  return resampleSeparable(volume, tables as unknown as LinearTables, grid.affine)
}

export function nearestMap(source: Vec3, target: Vec3, mode: 'nearest' | 'nearest-exact'): AxisMap {
  const table = mode === 'nearest' ? nearestTable : nearestExactTable
  const index = source.map((n, axis) => table(n, target[axis]!)) as unknown as AxisMap['index']
  return { from: [0, 1, 2], index }
}
