import { z } from 'zod'
import { writePointSignal } from '../geometry/point-signal.js'
import { makeVolume, type Vec3 } from '../volume/volume.js'
import { describing } from './args.js'
import type { PointSet } from './crop-by-extreme-points.js'
import { DESCRIBING } from './describing.js'
import { requireImage, withImage } from './fields.js'
import { mapPoints } from './guidance.js'
import { scalePoints } from './resize-guidance.js'
import type { Item, TransformDefinition } from './types.js'

const onlyZero = 'points come from the request; only 0 is supported'

const args = z
  .strictObject({
    keys: z.union([z.string(), z.array(z.string()).length(1)]).optional(),
    image_field: z.string().optional(),
    points: z.string().default('points'),
    ...describing('label_field', 'label_key'),
    /** The channel as a field of its own, instead of one behind the image's. */
    points_channel_field: z.string().nullable().optional(),
    dtype: DESCRIBING.compute_dtype,
    permutation: z.literal(0, onlyZero).optional(),
    background: z.literal(0, onlyZero).optional(),
    pert: z.literal(0, onlyZero).optional(),
    sigma: z.number().positive().max(50).default(3),
    rescale_min: z.number().default(-1),
    rescale_max: z.number().default(1),
  })
  .transform(({ keys, image_field, ...rest }) => ({
    ...rest,
    image: image_field ?? (typeof keys === 'string' ? keys : keys?.[0]) ?? 'image',
  }))

/**
 * Adds one channel with a blob of `sigma` voxels at each extreme point, scaled to [rescale_min, rescale_max]. This is the
 * serving form: the points come from the request (`points`), not from a label.
 * Source: MONAI's extreme_points_to_image; Clara Train's AddExtremePointsChannel.
 */
export const addExtremePointsChannel: TransformDefinition<typeof args> = {
  names: [
    'AddExtremePointsChannel',
    'AddExtremePointsChanneld',
    'AddExtremePointsChannelD',
    'AddExtremePointsChannelDict',
  ],
  args,
  traits: (a) => ({ readsClicks: true, channels: a.points_channel_field ? 0 : 1 }),
  create: (a) => (item) => {
    const image = requireImage(item, a.image)
    const { size, affine, data, channels } = image.volume
    const voxels = size[0] * size[1] * size[2]
    const stacked = new Float32Array(voxels * (channels + 1))
    stacked.set(data)
    writePointSignal(stacked, voxels * channels, size, currentPoints(item, a.points, a.image), {
      sigma: a.sigma,
      low: a.rescale_min,
      high: a.rescale_max,
      empty: a.rescale_min,
    })
    const axes = image.axes.includes('C') ? image.axes : `C${image.axes}`
    if (a.points_channel_field) {
      const alone = stacked.subarray(voxels * channels)
      return withImage(item, a.points_channel_field, { ...image, axes, volume: makeVolume(size, affine, alone) })
    }
    return withImage(item, a.image, {
      ...image,
      axes,
      volume: makeVolume(size, affine, stacked, { channels: channels + 1 }),
    })
  },
}

/** After a crop the points index the crop and follow its resizing; without one they are still the file's own. */
function currentPoints(item: Item, key: string, imageKey: string): readonly Vec3[] {
  const image = requireImage(item, imageKey)
  const value = item.values.get(key) as PointSet | readonly Vec3[] | undefined
  if (value === undefined) return []
  if ('size' in value) return scalePoints(value.points, value.size, image.volume.size)
  return mapPoints(value, image.source, image.volume)
}
