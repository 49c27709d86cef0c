import { z } from 'zod'
import type { Vec3 } from '../volume/volume.js'
import { describing } from './args.js'
import { requireImage, withValue } from './fields.js'
import { guidanceOf } from './guidance.js'
import type { TransformDefinition } from './types.js'

const args = z.strictObject({
  guidance: z.string().default('guidance'),
  ref_image: z.string().default('image'),
  ...describing('meta_keys', 'meta_key_postfix', 'cropped_shape_key'),
})

/** Clicks follow the image that was resized: index x new / old length, truncated. Source: monai.apps.deepgrow ResizeGuidanced. */
export const resizeGuidance: TransformDefinition<typeof args> = {
  names: ['ResizeGuidanced', 'ResizeGuidanceD', 'ResizeGuidanceDict', 'ResizeGuidance'],
  args,
  traits: () => ({ readsClicks: true }),
  create: (a) => (item) => {
    const guidance = guidanceOf(item, a.guidance)
    const { size } = requireImage(item, a.ref_image).volume
    return withValue(item, a.guidance, {
      ...guidance,
      foreground: scalePoints(guidance.foreground, guidance.size, size),
      background: scalePoints(guidance.background, guidance.size, size),
      size,
    })
  },
}

/** Indices of a grid of `from` voxels on one of `to` voxels over the same field of view, truncated as MONAI does. */
export function scalePoints(points: readonly Vec3[], from: Vec3, to: Vec3): Vec3[] {
  return points.map(([x, y, z]) => [
    Math.trunc((x * to[0]) / from[0]),
    Math.trunc((y * to[1]) / from[1]),
    Math.trunc((z * to[2]) / from[2]),
  ])
}
