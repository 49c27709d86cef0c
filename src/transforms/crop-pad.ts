/** Boxes: cutting them out and padding around, MONAI's crop and pad transforms. Outside voxels are zero unless said. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { shiftedAffine } from '../volume/crop.js'
import { PAD_STATISTICS, type PadStatistic, padByStatistic } from '../volume/pad-statistics.js'
import { type AxisMap, gather, windowTable } from '../volume/resample.js'
import type { Vec3, Volume } from '../volume/volume.js'
import { describing, fieldArgs, integers, number } from './args.js'
import { eachImage, perMemoryAxis, requireImage, spatialAxes, withImage } from './fields.js'
import { checkNewGrid } from './new-grid.js'
import type { ImageField, Item, TransformDefinition } from './types.js'
import { axisStep, moved } from './undo.js'

/** The box [start, end) of a field; parts beyond the image become `fill`. Undone by putting it back into zeros. */
export function boxed(
  field: ImageField,
  start: Vec3,
  end: Vec3,
  name: string,
  { fill = 0, kind = 'crop', mode = 'constant' }: BoxOptions = {},
): ImageField {
  const { size, affine } = field.volume
  const boxSize = end.map((value, axis) => value - start[axis]!) as unknown as Vec3
  if (start.every((value, axis) => value === 0 && end[axis] === size[axis])) return field
  if (!boxSize.every((n) => n > 0)) {
    throw new AppError('BAD_PARAMS', `${name} leaves nothing of an image of ${size.join(' x ')} voxels`)
  }
  checkNewGrid(field, boxSize, name)
  const volume = isStatistic(mode)
    ? padded(field, start, boxSize, mode)
    : gather(field.volume, boxMap(start, boxSize, size, mode), shiftedAffine(affine, start), fill)
  const back = boxMap(start.map((value) => -value) as unknown as Vec3, size, boxSize)
  return { ...moved(field, volume, axisStep(name, kind, { size, affine }, back)), scratch: true }
}

/** A box that reaches over the image on all sides, filled up from its own numbers. */
function padded(field: ImageField, start: Vec3, boxSize: Vec3, statistic: PadStatistic): Volume<Float32Array> {
  const { size, affine } = field.volume
  const source = { ...field.volume, data: Float32Array.from(field.volume.data) }
  const volume = gather(source, boxMap(start, boxSize, size), shiftedAffine(affine, start))
  const low = start.map((value) => -value) as unknown as Vec3
  const high = low.map((value, axis) => value + size[axis]!) as unknown as Vec3
  padByStatistic(volume.data, boxSize, [low, high], spatialAxes(field), statistic)
  return volume
}

interface BoxOptions {
  readonly fill?: number
  readonly kind?: 'crop' | 'clicked'
  readonly mode?: PadMode
}

/** Reads `size` voxels from `start` on out of a source of `source` voxels, which goes on beyond its edges as `mode` says. */
export function boxMap(start: Vec3, size: Vec3, source: Vec3, mode: Gathered = 'constant'): AxisMap {
  const index = start.map((value, axis) =>
    windowTable(value, size[axis]!, source[axis]!).map((at, i) =>
      at >= 0 ? at : beyond(value + i, source[axis]!, mode),
    ),
  )
  return { from: [0, 1, 2], index: index as unknown as AxisMap['index'] }
}

/** What lies at `at`, which is outside an axis of `length`: a voxel of it, or -1 for the fill. */
function beyond(at: number, length: number, mode: Gathered): number {
  if (mode === 'constant') return -1
  if (mode === 'edge') return at < 0 ? 0 : length - 1
  if (mode === 'wrap') return ((at % length) + length) % length
  // there and back again: reflect shows the edge voxel once, symmetric twice
  const period = mode === 'reflect' ? Math.max(2 * (length - 1), 1) : 2 * length
  const inside = ((at % period) + period) % period
  return inside < length ? inside : mode === 'reflect' ? period - inside : period - 1 - inside
}

/** What lies beyond the image is a voxel of it, or the fill. */
type Gathered = 'constant' | 'edge' | 'reflect' | 'symmetric' | 'wrap'
type PadMode = Gathered | PadStatistic

function isStatistic(mode: PadMode): mode is PadStatistic {
  return (PAD_STATISTICS as readonly string[]).includes(mode)
}

/** numpy's words and torch's; numpy's `empty` leaves what is there to chance, so it is not one of them. */
const PAD_MODES: Readonly<Record<string, PadMode>> = {
  constant: 'constant',
  edge: 'edge',
  replicate: 'edge',
  reflect: 'reflect',
  symmetric: 'symmetric',
  wrap: 'wrap',
  circular: 'wrap',
  ...Object.fromEntries(PAD_STATISTICS.map((word) => [word, word])),
}

export const padding = {
  mode: z
    .union([z.string(), z.array(z.string())])
    .transform((words, context) => {
      const modes = [words].flat().map((word) => PAD_MODES[word])
      if (modes.every((mode) => mode !== undefined)) return modes
      context.addIssue({ code: 'custom', message: `must be one of ${Object.keys(PAD_MODES).join(', ')}` })
      return z.NEVER
    })
    .optional(),
  /** torch's word for what a constant border holds, and numpy's. */
  value: z.number().optional(),
  constant_values: z.number().optional(),
}

interface Padding {
  readonly mode?: readonly PadMode[] | undefined
  readonly value?: number | undefined
  readonly constant_values?: number | undefined
}

/** Throws BAD_MODEL_CONFIG for a value that no border would hold. */
export function checkedPadding<T extends Padding>(a: T): T {
  const { value, constant_values: constant, mode = ['constant'] } = a
  if (value !== undefined && constant !== undefined)
    throw new AppError('BAD_MODEL_CONFIG', 'value and constant_values mean the same; give one of them')
  if ((value ?? constant) !== undefined && !mode.includes('constant'))
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `${value === undefined ? 'constant_values' : 'value'} counts only in mode constant, and mode is ${mode.join(', ')}`,
    )
  return a
}

/** The padding of the field that is `index`-th of the keys. */
export function boxOptions(a: Padding, index: number): BoxOptions {
  return { fill: a.constant_values ?? a.value ?? 0, mode: a.mode?.[index] ?? a.mode?.at(-1) ?? 'constant' }
}

const spatialPadArgs = fieldArgs({
  spatial_size: integers,
  method: z.enum(['symmetric', 'end']).default('symmetric'),
  ...padding,
})

/** Pads up to `spatial_size`, half on each side (the odd voxel at the end), or all at the end. */
export const spatialPad: TransformDefinition<typeof spatialPadArgs> = {
  names: ['SpatialPadd', 'SpatialPadD', 'SpatialPadDict', 'SpatialPad'],
  args: spatialPadArgs,
  create: (a) =>
    eachImage(checkedPadding(a), (field, index) => {
      const want = perMemoryAxis(field, a.spatial_size, field.volume.size as [number, number, number])
      return padTo(field, want, a.method, 'SpatialPadd', boxOptions(a, index))
    }),
}

const divisiblePadArgs = fieldArgs({
  k: integers,
  method: z.enum(['symmetric', 'end']).default('symmetric'),
  ...padding,
})

/** Pads each axis up to a multiple of `k`. */
export const divisiblePad: TransformDefinition<typeof divisiblePadArgs> = {
  names: ['DivisiblePadd', 'DivisiblePadD', 'DivisiblePadDict', 'DivisiblePad'],
  args: divisiblePadArgs,
  create: (a) =>
    eachImage(checkedPadding(a), (field, index) => {
      const k = perMemoryAxis(field, a.k, [1, 1, 1])
      const want = field.volume.size.map((n, axis) => (k[axis]! > 0 ? Math.ceil(n / k[axis]!) * k[axis]! : n))
      return padTo(field, want, a.method, 'DivisiblePadd', boxOptions(a, index))
    }),
}

export function padTo(
  field: ImageField,
  want: readonly number[],
  method: 'symmetric' | 'end',
  name: string,
  options: BoxOptions,
): ImageField {
  const start = field.volume.size.map((n, axis) =>
    method === 'symmetric' ? -(Math.max(want[axis]! - n, 0) >> 1) : 0,
  ) as unknown as Vec3
  const end = field.volume.size.map((n, axis) => start[axis]! + Math.max(want[axis]!, n)) as unknown as Vec3
  return boxed(field, start, end, name, options)
}

const borderPadArgs = fieldArgs({ spatial_border: integers, ...padding })

/** Adds a border: one width for all, one per axis, or a pair per axis. */
export const borderPad: TransformDefinition<typeof borderPadArgs> = {
  names: ['BorderPadd', 'BorderPadD', 'BorderPadDict', 'BorderPad'],
  args: borderPadArgs,
  create: (a) =>
    eachImage(checkedPadding(a), (field, index) => {
      const axes = spatialAxes(field)
      const widths = a.spatial_border
      const paired = widths.length === 2 * axes.length && widths.length > 1
      if (!paired && widths.length !== 1 && widths.length !== axes.length) {
        throw new AppError(
          'BAD_MODEL_CONFIG',
          `spatial_border must have 1, ${axes.length} or ${2 * axes.length} numbers, got ${widths.length}`,
        )
      }
      const before = axes.map((_, i) => (paired ? widths[2 * i]! : (widths[i] ?? widths[0]!)))
      const after = axes.map((_, i) => (paired ? widths[2 * i + 1]! : (widths[i] ?? widths[0]!)))
      const start = perMemoryAxis(field, before, [0, 0, 0]).map((width) => -width) as unknown as Vec3
      const grow = perMemoryAxis(field, after, [0, 0, 0])
      const end = field.volume.size.map((n, axis) => n + grow[axis]!) as unknown as Vec3
      return boxed(field, start, end, 'BorderPadd', boxOptions(a, index))
    }),
}

const centerCropArgs = fieldArgs({ roi_size: integers })

/** The middle `roi_size` voxels; an axis that is shorter, or whose size is zero or less, stays. */
export const centerSpatialCrop: TransformDefinition<typeof centerCropArgs> = {
  names: ['CenterSpatialCropd', 'CenterSpatialCropD', 'CenterSpatialCropDict', 'CenterSpatialCrop'],
  args: centerCropArgs,
  create: (a) => eachImage(a, (field) => centred(field, a.roi_size, 'CenterSpatialCropd')),
}

export function centred(field: ImageField, roiSize: readonly number[], name: string): ImageField {
  const size = field.volume.size
  const roi = perMemoryAxis(field, roiSize, size as [number, number, number])
  const start = size.map((n, axis) =>
    roi[axis]! > 0 ? Math.max((n >> 1) - (roi[axis]! >> 1), 0) : 0,
  ) as unknown as Vec3
  const end = size.map((n, axis) =>
    roi[axis]! > 0 ? Math.min(Math.max((n >> 1) - (roi[axis]! >> 1) + roi[axis]!, start[axis]!), n) : n,
  ) as unknown as Vec3
  return boxed(field, start, end, name)
}

const padOrCropArgs = fieldArgs({
  spatial_size: integers,
  method: z.enum(['symmetric', 'end']).default('symmetric'),
  ...padding,
})

/** MONAI's ResizeWithPadOrCropd: the middle cut out where the image is larger, padded where it is smaller. */
export const resizeWithPadOrCrop: TransformDefinition<typeof padOrCropArgs> = {
  names: ['ResizeWithPadOrCropd', 'ResizeWithPadOrCropD', 'ResizeWithPadOrCropDict', 'ResizeWithPadOrCrop'],
  args: padOrCropArgs,
  create: (a) =>
    eachImage(checkedPadding(a), (field, index) => {
      const cut = centred(field, a.spatial_size, 'ResizeWithPadOrCropd')
      const want = perMemoryAxis(cut, a.spatial_size, cut.volume.size as [number, number, number])
      return padTo(cut, want, a.method, 'ResizeWithPadOrCropd', boxOptions(a, index))
    }),
}

const spatialCropArgs = fieldArgs({
  roi_center: integers.optional(),
  roi_size: integers.optional(),
  roi_start: integers.optional(),
  roi_end: integers.optional(),
})

/** A fixed box, by centre and size or by start and end, cut down to what lies in the image. */
export const spatialCrop: TransformDefinition<typeof spatialCropArgs> = {
  names: ['SpatialCropd', 'SpatialCropD', 'SpatialCropDict', 'SpatialCrop'],
  args: spatialCropArgs,
  create: (a) => {
    const byCentre = a.roi_center !== undefined && a.roi_size !== undefined
    const byEnds = a.roi_start !== undefined && a.roi_end !== undefined
    const given = [a.roi_center, a.roi_size, a.roi_start, a.roi_end].filter((value) => value !== undefined)
    if ((!byCentre && !byEnds) || given.length > 2) {
      throw new AppError('BAD_MODEL_CONFIG', 'a crop needs roi_center and roi_size, or roi_start and roi_end, not both')
    }
    return eachImage(a, (field) => {
      const size = field.volume.size
      const whole = size as [number, number, number]
      let start: readonly number[]
      let end: readonly number[]
      if (byCentre) {
        const centre = perMemoryAxis(field, a.roi_center!, [0, 0, 0])
        const roi = perMemoryAxis(field, a.roi_size!, [-1, -1, -1])
        start = size.map((_, axis) => (roi[axis]! > 0 ? Math.max(centre[axis]! - (roi[axis]! >> 1), 0) : 0))
        end = size.map((n, axis) => (roi[axis]! > 0 ? Math.max(start[axis]! + roi[axis]!, 0) : n))
      } else {
        start = perMemoryAxis(field, a.roi_start!, [0, 0, 0]).map((value) => Math.max(value, 0))
        end = perMemoryAxis(field, a.roi_end!, whole).map((value, axis) => Math.max(value, start[axis]!))
      }
      const clipped = end.map((value, axis) => Math.min(value, size[axis]!)) as unknown as Vec3
      return boxed(field, start as unknown as Vec3, clipped, 'SpatialCropd')
    })
  },
}

const foregroundArgs = fieldArgs({
  source_key: z.string().optional(),
  channel_indices: integers.optional(),
  margin: integers.default([0]),
  allow_smaller: z.boolean().default(false),
  k_divisible: integers.default([1]),
  ...padding,
  /** `lambda x: x > 50`; the box holds every voxel for which it is true. */
  select_fn: z.string().optional(),
  ...describing('start_coord_key', 'end_coord_key'),
  threshold: number.optional(),
})

/** The box around everything above zero (or `threshold`) in `source_key`, with a margin. MONAI's CropForegroundd. */
export const cropForeground: TransformDefinition<typeof foregroundArgs> = {
  names: ['CropForegroundd', 'CropForegroundD', 'CropForegroundDict', 'CropForeground'],
  args: foregroundArgs,
  create: (a) => {
    if (a.select_fn !== undefined && a.threshold !== undefined)
      throw new AppError('BAD_MODEL_CONFIG', 'select_fn and threshold say the same; give one of them')
    const threshold = a.select_fn === undefined ? (a.threshold ?? 0) : aboveOf(a.select_fn)
    checkedPadding(a)
    return (item) => cropped(item, a, threshold)
  },
}

/** The c of `lambda x: x > c`. Throws BAD_MODEL_CONFIG for any other function. */
function aboveOf(text: string): number {
  const found = /^\$?\s*lambda\s+(\w+)\s*:\s*(\w+)\s*>\s*(-?\d+\.?\d*(?:e[+-]?\d+)?)\s*$/i.exec(text.trim())
  if (found && found[1] === found[2]) return Number(found[3])
  throw new AppError('BAD_MODEL_CONFIG', "select_fn is read only as 'lambda x: x > number'")
}

function cropped(item: Item, a: z.output<typeof foregroundArgs>, threshold: number): Item {
  const source = requireImage(item, a.source_key ?? a.keys[0]!)
  const box = foregroundBox(source, a.channel_indices, threshold)
  const { size } = source.volume
  if (!box) return item
  const margin = perMemoryAxis(source, a.margin, [0, 0, 0])
  const k = perMemoryAxis(source, a.k_divisible, [1, 1, 1])
  const start: [number, number, number] = [0, 0, 0]
  const end: [number, number, number] = [0, 0, 0]
  for (const axis of [0, 1, 2] as const) {
    let low = box.start[axis] - margin[axis]
    let high = box.end[axis] + margin[axis]
    if (a.allow_smaller) {
      low = Math.max(low, 0)
      high = Math.min(high, size[axis])
    }
    const length = high - low
    const wanted = k[axis] > 0 ? Math.ceil(length / k[axis]) * k[axis] : length
    start[axis] = low - Math.floor((wanted - length) / 2)
    end[axis] = start[axis] + wanted
  }
  // MONAI cuts out what there is first, and pads that
  const inside = [start.map((at) => Math.max(at, 0)), end.map((at, axis) => Math.min(at, size[axis]!))] as unknown
  const [low, high] = inside as [Vec3, Vec3]
  const outer = [start, end].map((corner) => corner.map((at, axis) => at - low[axis]!)) as unknown as [Vec3, Vec3]
  return a.keys.reduce((next, key, index) => {
    if (a.allow_missing_keys && !next.images.has(key)) return next
    const cut = boxed(requireImage(next, key), low, high, 'CropForegroundd')
    return withImage(next, key, boxed(cut, outer[0], outer[1], 'CropForegroundd', boxOptions(a, index)))
  }, item)
}

/** First and one past the last voxel above `threshold` on each axis; undefined when there is none. */
function foregroundBox(
  { volume }: ImageField,
  channels: readonly number[] | undefined,
  threshold: number,
): { start: Vec3; end: Vec3 } | undefined {
  const [nx, ny, nz] = volume.size
  const { data } = volume
  const start: [number, number, number] = [nx, ny, nz]
  const end: [number, number, number] = [0, 0, 0]
  for (const c of channels ?? Array.from({ length: volume.channels }, (_, i) => i)) {
    for (let z = 0; z < nz; z++) {
      for (let y = 0; y < ny; y++) {
        const row = nx * (y + ny * (z + nz * c))
        let first = 0
        while (first < nx && !(data[row + first]! > threshold)) first++
        if (first === nx) continue
        let last = nx - 1
        while (!(data[row + last]! > threshold)) last--
        start[0] = Math.min(start[0], first)
        end[0] = Math.max(end[0], last + 1)
        start[1] = Math.min(start[1], y)
        end[1] = Math.max(end[1], y + 1)
        start[2] = Math.min(start[2], z)
        end[2] = Math.max(end[2], z + 1)
      }
    }
  }
  return end[0] === 0 ? undefined : { start, end }
}
