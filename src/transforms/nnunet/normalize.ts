/** Intensities as nnU-Net wants them, channel by channel. */
import { z } from 'zod'
import { AppError } from '../../errors.js'
import { fillHoles } from '../../geometry/components.js'
import { extremes } from '../../volume/stats.js'
import { type Volume, voxelCount } from '../../volume/volume.js'
import { fieldArgs } from '../args.js'
import { eachImage, ownFloats } from '../fields.js'
import type { TransformDefinition } from '../types.js'

/** Division by less than this is division by this, as in nnU-Net. */
const EPSILON = 1e-8

export const NNUNET_SCHEMES = [
  ...(['CTNormalization', 'ZScoreNormalization', 'NoNormalization'] as const),
  ...(['RescaleTo01Normalization', 'RGBTo01Normalization'] as const),
] as const

const Properties = z.strictObject({
  mean: z.number(),
  std: z.number(),
  percentile_00_5: z.number(),
  percentile_99_5: z.number(),
})
const Channel = z.strictObject({
  scheme: z.enum(NNUNET_SCHEMES),
  use_mask: z.boolean().default(false),
  /** Of the foreground of the training data; CTNormalization alone reads them. */
  properties: Properties.optional(),
})
type Channel = z.output<typeof Channel>

const args = fieldArgs({ channels: z.array(Channel).min(1) })

/**
 * nnU-Net's normalization_schemes. With `use_mask`, z-scores are those of the voxels that are not zero in every channel and of
 * the holes among them, and all others stay as they are. Made for an image that NnUNetCropd has cut.
 */
export const nnunetNormalize: TransformDefinition<typeof args> = {
  names: ['NnUNetNormalized'],
  args,
  traits: (a) => ({ usesChannels: a.channels.length }),
  create: (a) => {
    const bare = a.channels.findIndex(({ scheme, properties }) => scheme === 'CTNormalization' && !properties)
    if (bare >= 0) throw new AppError('BAD_MODEL_CONFIG', `channel ${bare} is a CTNormalization and has no properties`)
    return eachImage(a, (field) => {
      const { volume } = field
      if (volume.channels !== a.channels.length)
        throw new AppError(
          'BAD_PARAMS',
          `this model reads ${a.channels.length} channels, and the image has ${volume.channels}`,
          { hint: 'send one file a channel, in the order of case_0000, case_0001, or one file that holds them all' },
        )
      const mask = a.channels.some(usesMask) ? nonzeroMask(volume) : undefined
      const data = ownFloats(field)
      const voxels = voxelCount(volume)
      for (const [c, channel] of a.channels.entries())
        normalize(data.subarray(c * voxels, (c + 1) * voxels), channel, usesMask(channel) ? mask : undefined)
      return { ...field, volume: { ...volume, data }, scratch: true }
    })
  },
}

function usesMask({ scheme, use_mask }: Channel): boolean {
  return scheme === 'ZScoreNormalization' && use_mask
}

function normalize(values: Float32Array, { scheme, properties }: Channel, mask: Uint8Array | undefined): void {
  switch (scheme) {
    case 'CTNormalization': {
      const { mean, std, percentile_00_5: low, percentile_99_5: high } = properties!
      const over = Math.max(std, EPSILON)
      for (let i = 0; i < values.length; i++) values[i] = (Math.min(Math.max(values[i]!, low), high) - mean) / over
      return
    }
    case 'ZScoreNormalization':
      zScore(values, mask)
      return
    case 'RescaleTo01Normalization': {
      const { min, max } = extremes(values)
      const over = Math.max(max - min, EPSILON)
      for (let i = 0; i < values.length; i++) values[i] = (values[i]! - min) / over
      return
    }
    case 'RGBTo01Normalization': {
      const { min, max } = extremes(values)
      if (min < 0 || max > 255)
        throw new AppError('BAD_PARAMS', `this model reads colours from 0 to 255; the image goes from ${min} to ${max}`)
      for (let i = 0; i < values.length; i++) values[i]! /= 255
      return
    }
    case 'NoNormalization':
  }
}

function zScore(values: Float32Array, mask: Uint8Array | undefined): void {
  let sum = 0
  let count = 0
  for (let i = 0; i < values.length; i++)
    if (!mask || mask[i]) {
      sum += values[i]!
      count++
    }
  const mean = count === 0 ? 0 : sum / count
  let squares = 0
  for (let i = 0; i < values.length; i++) if (!mask || mask[i]) squares += (values[i]! - mean) ** 2
  const over = Math.max(count === 0 ? 0 : Math.sqrt(squares / count), EPSILON)
  for (let i = 0; i < values.length; i++) if (!mask || mask[i]) values[i] = (values[i]! - mean) / over
}

/** 1 where any channel is not zero, and in what such voxels enclose. An image of one slice encloses nothing, as in scipy. */
function nonzeroMask(volume: Volume): Uint8Array {
  const voxels = voxelCount(volume)
  const mask = new Uint8Array(voxels)
  for (let c = 0; c < volume.channels; c++)
    for (let i = 0, at = c * voxels; i < voxels; i++, at++) if (volume.data[at] !== 0) mask[i] = 1
  if (!volume.size.includes(1)) fillHoles(mask, volume.size, 1, { start: [0, 0, 0], end: volume.size }, 1)
  return mask
}
