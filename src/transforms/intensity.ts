/** Intensities: MONAI's and Clara's scalings and normalisations. All yield float32, in place when nobody else holds the voxels. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { smoothAxis } from '../geometry/gaussian.js'
import { erfKernel } from '../geometry/point-signal.js'
import { extremes, moments, percentiles } from '../volume/stats.js'
import { makeVolume, voxelCount } from '../volume/volume.js'
import { describing, fieldArgs, number, numbers, onlyNull } from './args.js'
import { arrayTypeOf, castField } from './dtype.js'
import { eachImage, ownFloats, perMemoryAxis } from './fields.js'
import type { ImageField, Traits, TransformDefinition } from './types.js'

/** The type of the result; whole numbers cut fractions off. */
const dtype = z.string().nullable().optional()

/**
 * Lets `change` rewrite the voxels as float32: of the whole image, or channel by channel. They are the field's own when
 * nobody else holds them, else a copy. Labels that were scaled are labels no more.
 */
function rescaled(
  field: ImageField,
  channelWise: boolean,
  change: (values: Float32Array, channel: number) => void,
  named?: string | null,
): ImageField {
  const type = named ? arrayTypeOf(named) : undefined
  const { volume } = field
  const data = ownFloats(field)
  if (!channelWise) change(data, 0)
  else {
    const n = voxelCount(volume)
    for (let c = 0; c < volume.channels; c++) change(data.subarray(c * n, (c + 1) * n), c)
  }
  const made: ImageField = {
    ...field,
    content: field.content === 'labels' ? 'intensity' : field.content,
    volume: makeVolume(volume.size, volume.affine, data, { channels: volume.channels }),
    scratch: true,
  }
  return !type || type === Float32Array || type === Float64Array ? made : castField(made, type)
}

/** The traits of a change of each value by itself, unless the result is cast to whole numbers. */
function asFloats(
  { dtype: named }: { readonly dtype?: string | null | undefined },
  eachValue: Traits['eachValue'],
): Traits {
  const type = named ? arrayTypeOf(named) : undefined
  return !type || type === Float32Array || type === Float64Array ? { eachValue } : {}
}

/** Refuses a type that is none before any image comes. */
function checked<T extends { readonly dtype?: string | null | undefined }>(a: T): T {
  if (a.dtype) arrayTypeOf(a.dtype)
  return a
}

/** values = values * gain + bias, the one pass most of these come down to. */
function linear(values: Float32Array, gain: number, bias: number): void {
  if (gain === 1 && bias === 0) return
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * gain + bias
}

function clipped(values: Float32Array, gain: number, bias: number, low: number, high: number): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]! * gain + bias
    values[i] = value < low ? low : value > high ? high : value
  }
}

interface Window {
  readonly a_min: number
  readonly a_max: number
  readonly b_min: number | null
  readonly b_max: number | null
  readonly clip: boolean
}

/** [a_min, a_max] onto [b_min, b_max]; MONAI's ScaleIntensityRange, with its answer to an empty window. */
function scaleRange(values: Float32Array, { a_min, a_max, b_min, b_max, clip }: Window): void {
  if (a_max - a_min === 0) {
    linear(values, 1, b_min === null ? -a_min : b_min - a_min)
    return
  }
  const span = b_min === null || b_max === null ? 1 : b_max - b_min
  const gain = span / (a_max - a_min)
  const bias = (b_min === null || b_max === null ? 0 : b_min) - a_min * gain
  if (clip && (b_min !== null || b_max !== null)) {
    clipped(values, gain, bias, b_min ?? -Infinity, b_max ?? Infinity)
  } else linear(values, gain, bias)
}

const bound = number.nullable()

const monaiRangeArgs = fieldArgs({
  a_min: number,
  a_max: number,
  b_min: bound.default(null),
  b_max: bound.default(null),
  clip: z.boolean().default(false),
  dtype,
})

/** MONAI's ScaleIntensityRanged. */
export const scaleIntensityRange: TransformDefinition<typeof monaiRangeArgs> = {
  names: ['ScaleIntensityRanged', 'ScaleIntensityRangeD', 'ScaleIntensityRangeDict'],
  args: monaiRangeArgs,
  traits: (a) => asFloats(a, (values) => scaleRange(values, a)),
  create: (a) => eachImage(checked(a), (field) => rescaled(field, false, (values) => scaleRange(values, a), a.dtype)),
}

const claraRangeArgs = fieldArgs({
  a_min: number,
  a_max: number,
  b_min: number.default(0),
  b_max: number.default(1),
  a_offset: number.default(0),
  b_offset: number.default(0),
  clip: z.boolean().default(false),
  dtype,
})

/** Clara's ScaleIntensityRange: the same onto [0, 1] unless told otherwise. */
export const claraScaleIntensityRange: TransformDefinition<typeof claraRangeArgs> = {
  names: ['ScaleIntensityRange'],
  args: claraRangeArgs,
  traits: (a) => asFloats(a, (values) => scaleRange(values, claraWindow(a))),
  create: (a) =>
    eachImage(checked(a), (field) => rescaled(field, false, (values) => scaleRange(values, claraWindow(a)), a.dtype)),
}

function claraWindow(a: z.output<typeof claraRangeArgs>): Window {
  return {
    ...a,
    a_min: a.a_min + a.a_offset,
    a_max: a.a_max + a.a_offset,
    b_min: a.b_min + a.b_offset,
    b_max: a.b_max + a.b_offset,
  }
}

const percentileArgs = fieldArgs({
  lower: number.pipe(z.number().min(0).max(100)),
  upper: number.pipe(z.number().min(0).max(100)),
  b_min: bound,
  b_max: bound,
  clip: z.boolean().default(false),
  relative: z.boolean().default(false),
  channel_wise: z.boolean().default(false),
  dtype,
})

/** MONAI's ScaleIntensityRangePercentilesd: the window lies between two percentiles of the image. */
export const scaleIntensityRangePercentiles: TransformDefinition<typeof percentileArgs> = {
  names: [
    ...['ScaleIntensityRangePercentilesd', 'ScaleIntensityRangePercentilesD'],
    ...['ScaleIntensityRangePercentilesDict', 'ScaleIntensityRangePercentiles'],
  ],
  args: percentileArgs,
  create: (a) => {
    if (a.relative && (a.b_min === null || a.b_max === null)) {
      throw new AppError('BAD_MODEL_CONFIG', 'relative needs both b_min and b_max')
    }
    const span = (a.b_max ?? 0) - (a.b_min ?? 0)
    const b_min = a.relative ? (span * a.lower) / 100 + a.b_min! : a.b_min
    const b_max = a.relative ? (span * a.upper) / 100 + a.b_min! : a.b_max
    return eachImage(checked(a), (field) =>
      rescaled(
        field,
        a.channel_wise,
        (values) => {
          const [a_min, a_max] = percentiles(values, [a.lower, a.upper]) as [number, number]
          scaleRange(values, { a_min, a_max, b_min, b_max, clip: a.clip })
        },
        a.dtype,
      ),
    )
  },
}

const scaleArgs = fieldArgs({
  minv: bound.default(0),
  maxv: bound.default(1),
  factor: bound.default(null),
  channel_wise: z.boolean().default(false),
  dtype,
})

/** MONAI's ScaleIntensityd: the image's own extremes onto [minv, maxv]; with both null, times 1 + factor. */
export const scaleIntensity: TransformDefinition<typeof scaleArgs> = {
  names: ['ScaleIntensityd', 'ScaleIntensityD', 'ScaleIntensityDict', 'ScaleIntensity'],
  args: scaleArgs,
  create: ({ minv, maxv, factor, ...a }) => {
    if (factor !== null && (minv !== null || maxv !== null))
      throw new AppError('BAD_MODEL_CONFIG', 'factor counts only where minv and maxv are null')
    return eachImage(checked(a), (field) =>
      rescaled(
        field,
        a.channel_wise,
        (values) => {
          const own = minv === null && maxv === null ? undefined : extremes(values)
          if (!own) linear(values, 1 + (factor ?? 0), 0)
          else if (own.min === own.max) linear(values, minv ?? 1, 0)
          else {
            const span = minv === null || maxv === null ? 1 : maxv - minv
            const gain = span / (own.max - own.min)
            linear(values, gain, (minv === null || maxv === null ? 0 : minv) - own.min * gain)
          }
        },
        a.dtype,
      ),
    )
  },
}

const perChannel = z
  .union([number, z.array(number)])
  .nullable()
  .optional()

const normalizeArgs = fieldArgs({
  subtrahend: perChannel,
  divisor: perChannel,
  nonzero: z.boolean().default(false),
  channel_wise: z.boolean().default(false),
  dtype,
})

/** MONAI's NormalizeIntensityd: (v - subtrahend) / divisor, by default the mean and standard deviation. */
export const normalizeIntensity: TransformDefinition<typeof normalizeArgs> = {
  names: ['NormalizeIntensityd', 'NormalizeIntensityD', 'NormalizeIntensityDict', 'NormalizeIntensity'],
  args: normalizeArgs,
  traits: normalizing,
  create: (a) => {
    const lists = Array.isArray(a.subtrahend) || Array.isArray(a.divisor)
    if (lists && !a.channel_wise) {
      throw new AppError('BAD_MODEL_CONFIG', 'lists of subtrahend or divisor need channel_wise true')
    }
    return eachImage(checked(a), (field) =>
      rescaled(
        field,
        a.channel_wise,
        (values, channel) => normalize(values, a.nonzero, pick(a.subtrahend, channel), pick(a.divisor, channel)),
        a.dtype,
      ),
    )
  },
}

const nonzeroArgs = fieldArgs({ dtype, channel_wise: z.boolean().default(false) })

/** Clara's NormalizeNonzeroIntensities: z-scores over the voxels that are not zero; the others stay zero. */
export const normalizeNonzeroIntensities: TransformDefinition<typeof nonzeroArgs> = {
  names: ['NormalizeNonzeroIntensities'],
  args: nonzeroArgs,
  create: (a) =>
    eachImage(checked(a), (field) =>
      rescaled(field, a.channel_wise, (values) => normalize(values, true, undefined, undefined), a.dtype),
    ),
}

/** Clara's CenterData: (v - subtrahend) / divisor, by default the mean and standard deviation of all voxels. */
export const centerData: TransformDefinition<typeof normalizeArgs> = {
  names: ['CenterData'],
  args: normalizeArgs,
  traits: normalizing,
  create: normalizeIntensity.create,
}

/** With both numbers given for all channels nothing is asked of the image. */
function normalizing({ subtrahend, divisor, nonzero, dtype }: z.output<typeof normalizeArgs>): Traits {
  if (typeof subtrahend !== 'number' || typeof divisor !== 'number') return {}
  return asFloats({ dtype }, (values) => normalize(values, nonzero, subtrahend, divisor))
}

function pick(value: number | readonly number[] | null | undefined, channel: number): number | undefined {
  if (value === null || value === undefined) return undefined
  if (typeof value === 'number') return value
  if (channel < value.length) return value[channel]
  throw new AppError('BAD_PARAMS', `the image has more channels than the ${value.length} the model is normalised for`)
}

function normalize(
  values: Float32Array,
  nonzero: boolean,
  subtrahend: number | undefined,
  divisor: number | undefined,
): void {
  const found = subtrahend === undefined || divisor === undefined ? moments(values, nonzero) : undefined
  const empty = found?.count === 0
  const gain = empty ? 1 : 1 / ((divisor ?? found!.std) || 1)
  const bias = empty ? 0 : -(subtrahend ?? found!.mean) * gain
  if (!nonzero) linear(values, gain, bias)
  else for (let i = 0; i < values.length; i++) if (values[i] !== 0) values[i] = values[i]! * gain + bias
}

const shiftArgs = fieldArgs({
  offset: number,
  ...describing('safe'),
  factor_key: onlyNull('metadata of a file is not read here; give the offset itself'),
})

/** MONAI's ShiftIntensityd: v + offset. */
export const shiftIntensity: TransformDefinition<typeof shiftArgs> = {
  names: ['ShiftIntensityd', 'ShiftIntensityD', 'ShiftIntensityDict', 'ShiftIntensity'],
  args: shiftArgs,
  traits: (a) => asFloats({}, (values) => linear(values, 1, a.offset)),
  create: (a) => eachImage(a, (field) => rescaled(field, false, (values) => linear(values, 1, a.offset))),
}

const scaleShiftArgs = fieldArgs({ scale: number.default(1), shift: number.default(0), dtype })

/** v x scale + shift. */
export const scaleShift: TransformDefinition<typeof scaleShiftArgs> = {
  names: ['ScaleShift', 'ScaleShiftIntensity'],
  args: scaleShiftArgs,
  traits: (a) => asFloats(a, (values) => linear(values, a.scale, a.shift)),
  create: (a) =>
    eachImage(checked(a), (field) => rescaled(field, false, (values) => linear(values, a.scale, a.shift), a.dtype)),
}

const thresholdArgs = fieldArgs({ threshold: number, above: z.boolean().default(true), cval: number.default(0) })

/** MONAI's ThresholdIntensityd: what is not above (or not below) the threshold becomes `cval`. */
export const thresholdIntensity: TransformDefinition<typeof thresholdArgs> = {
  names: ['ThresholdIntensityd', 'ThresholdIntensityD', 'ThresholdIntensityDict', 'ThresholdIntensity'],
  args: thresholdArgs,
  traits: (a) => asFloats({}, (values) => cutAt(values, a)),
  create: (a) => eachImage(a, (field) => rescaled(field, false, (values) => cutAt(values, a))),
}

function cutAt(values: Float32Array, { threshold, above, cval }: z.output<typeof thresholdArgs>): void {
  for (let i = 0; i < values.length; i++) {
    if (!(above ? values[i]! > threshold : values[i]! < threshold)) values[i] = cval
  }
}

const smoothArgs = fieldArgs({ sigma: numbers.default([1]), approx: z.literal('erf').default('erf') })

/** MONAI's GaussianSmoothd: sigma in voxels per axis, kernel cut at 4 sigma, zero beyond the border. */
export const gaussianSmooth: TransformDefinition<typeof smoothArgs> = {
  names: ['GaussianSmoothd', 'GaussianSmoothD', 'GaussianSmoothDict', 'GaussianSmooth'],
  args: smoothArgs,
  create: (a) =>
    eachImage(a, (field) => {
      const { volume } = field
      const sigma = perMemoryAxis(field, a.sigma, [0, 0, 0])
      let data: Float32Array = ownFloats(field)
      for (const axis of [0, 1, 2] as const) {
        if (sigma[axis] > 0) data = smoothAxis(data, volume.size, axis, erfKernel(sigma[axis]))
      }
      const out = makeVolume(volume.size, volume.affine, data, { channels: volume.channels })
      return { ...field, volume: out, scratch: true }
    }),
}
