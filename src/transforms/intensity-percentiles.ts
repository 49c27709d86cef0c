/** Intensities by where they stand among all others: percentile clipping and histogram equalisation. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { extremes, percentiles } from '../volume/stats.js'
import { makeVolume, voxelCount } from '../volume/volume.js'
import { describing, fieldArgs, integer, number, onlyNull } from './args.js'
import { arrayTypeOf, castField } from './dtype.js'
import { eachImage, ownFloats, requireImage } from './fields.js'
import type { ImageField, TransformDefinition } from './types.js'

const percent = number.pipe(z.number().min(0).max(100)).nullable().default(null)

const clipArgs = fieldArgs({
  lower: percent,
  upper: percent,
  sharpness_factor: number.pipe(z.number().positive()).nullable().default(null),
  channel_wise: z.boolean().default(false),
  ...describing('return_clipping_values'),
  dtype: z.string().nullable().optional(),
})

/** MONAI's ClipIntensityPercentilesd: clipped at two percentiles of the image, softly where `sharpness_factor` says how. */
export const clipIntensityPercentiles: TransformDefinition<typeof clipArgs> = {
  names: [
    ...['ClipIntensityPercentilesd', 'ClipIntensityPercentilesD', 'ClipIntensityPercentilesDict'],
    'ClipIntensityPercentiles',
  ],
  args: clipArgs,
  create: (a) => {
    if (a.lower === null && a.upper === null) throw new AppError('BAD_MODEL_CONFIG', 'lower or upper must be given')
    if ((a.lower ?? 0) > (a.upper ?? 100)) throw new AppError('BAD_MODEL_CONFIG', 'upper must not be below lower')
    return eachImage(a, (field) =>
      changed(field, a.channel_wise, a.dtype, (values) => {
        const [low, high] = percentiles(values, [a.lower ?? 0, a.upper ?? 100]) as [number, number]
        if (a.sharpness_factor === null) {
          for (let i = 0; i < values.length; i++) values[i] = Math.min(Math.max(values[i]!, low), high)
          return
        }
        const sharpness = a.sharpness_factor
        for (let i = 0; i < values.length; i++) {
          const value = values[i]!
          const up = a.lower === null ? 0 : softplus(-sharpness * (value - low)) / sharpness
          const down = a.upper === null ? 0 : softplus(sharpness * (value - high)) / sharpness
          values[i] = value + up - down
        }
      }),
    )
  },
}

/** log(1 + exp(x)) without overflow. */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))
}

function changed(
  field: ImageField,
  channelWise: boolean,
  dtype: string | null | undefined,
  change: (values: Float32Array) => void,
): ImageField {
  const type = dtype ? arrayTypeOf(dtype) : Float32Array
  const { volume } = field
  const data = ownFloats(field)
  const voxels = channelWise ? voxelCount(volume) : data.length
  for (let start = 0; start < data.length; start += voxels) change(data.subarray(start, start + voxels))
  const made = makeVolume(volume.size, volume.affine, data, { channels: volume.channels })
  const result: ImageField = { ...field, volume: made, content: 'intensity', scratch: true }
  return type === Float32Array || type === Float64Array ? result : castField(result, type)
}

const histogramArgs = fieldArgs({
  num_bins: integer.pipe(z.int().min(1).max(65_536)).default(256),
  min: number.default(0),
  max: number.default(255),
  mask: onlyNull('name a field with mask_key instead'),
  mask_key: z.string().nullable().optional(),
  dtype: z.string().nullable().optional(),
})

/** MONAI's HistogramNormalized: intensities through the cumulative histogram (of the voxels in `mask_key`), onto min..max. */
export const histogramNormalize: TransformDefinition<typeof histogramArgs> = {
  names: ['HistogramNormalized', 'HistogramNormalizeD', 'HistogramNormalizeDict', 'HistogramNormalize'],
  args: histogramArgs,
  create: (a) =>
    eachImage(a, (field, _, item) => {
      const mask = a.mask_key ? requireImage(item, a.mask_key).volume.data : undefined
      return changed(field, false, a.dtype, (values) => {
        const counted = mask ? values.filter((_, i) => mask[i % mask.length] !== 0) : values
        equalise(values, counted, a)
      })
    }),
}

function equalise(
  values: Float32Array,
  counted: Float32Array,
  { num_bins: bins, min, max }: { readonly num_bins: number; readonly min: number; readonly max: number },
): void {
  const own = extremes(counted)
  // numpy widens a histogram of one value by a half on either side
  const [low, high] = own.min === own.max ? [own.min - 0.5, own.max + 0.5] : [own.min, own.max]
  const width = (high - low) / bins
  const sums = new Float64Array(bins)
  for (let i = 0; i < counted.length; i++) sums[Math.min(bins - 1, Math.floor((counted[i]! - low) / width))]!++
  for (let bin = 1; bin < bins; bin++) sums[bin]! += sums[bin - 1]!
  const [first, last] = [sums[0]!, sums[bins - 1]!]
  const scaled = sums.map((sum) => (first === last ? sum * min : ((sum - first) / (last - first)) * (max - min) + min))
  for (let i = 0; i < values.length; i++) {
    const at = (values[i]! - low) / width - 0.5
    const below = Math.floor(at)
    if (below < 0) values[i] = scaled[0]!
    else if (below >= bins - 1) values[i] = scaled[bins - 1]!
    else values[i] = scaled[below]! + (scaled[below + 1]! - scaled[below]!) * (at - below)
  }
}

const fillArgs = fieldArgs({ replacement: number.default(0) })

/** MONAI's SignalFillEmptyd: what is not a number becomes `replacement`. */
export const signalFillEmpty: TransformDefinition<typeof fillArgs> = {
  names: ['SignalFillEmptyd', 'SignalFillEmptyD', 'SignalFillEmptyDict', 'SignalFillEmpty'],
  args: fillArgs,
  create: (a) =>
    eachImage(a, (field) =>
      changed(field, false, null, (values) => {
        for (let i = 0; i < values.length; i++) if (Number.isNaN(values[i])) values[i] = a.replacement
      }),
    ),
}
