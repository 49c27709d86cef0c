import { z } from 'zod'
import type { Vec3 } from '../volume/volume.js'
import { fieldArgs } from './args.js'
import { boxed } from './crop-pad.js'
import { requireImage, withImage, withValue } from './fields.js'
import { coordKeys, guidanceOf } from './guidance.js'
import type { TransformDefinition } from './types.js'

const args = fieldArgs({
  guidance: z.string().default('guidance'),
  spatial_size: z.array(z.int().positive()).min(1).max(3),
  margin: z.union([z.int().min(0), z.array(z.int().min(0))]).default(20),
  ...coordKeys,
})

interface Box {
  readonly start: Vec3
  readonly end: Vec3
}

/**
 * Crops around the clicks: `spatial_size` voxels about the middle of their box, or the box itself with `margin` when that
 * is larger anywhere. A request's own `spatial_size` goes before the config's. Sizes and margins are in the array's axis
 * order; missing leading sizes mean the full extent.
 * Source: monai.apps.deepgrow.transforms.SpatialCropGuidanced, which in 3-D starts at the first slice whatever was
 * clicked, since it means to keep all of them; here that holds only where all of them fit.
 */
export const spatialCropGuidance: TransformDefinition<typeof args> = {
  names: ['SpatialCropGuidanced', 'SpatialCropGuidanceD', 'SpatialCropGuidanceDict', 'SpatialCropGuidance'],
  args,
  traits: () => ({ readsClicks: true }),
  create: (a) => (item) => {
    const guidance = guidanceOf(item, a.guidance)
    const first = requireImage(item, a.keys[0]!)
    const spatial = [...first.axes].filter((letter) => letter !== 'C').map((letter) => 'XYZ'.indexOf(letter))
    const asked = item.values.get('spatial_size') as readonly number[] | undefined
    const wanted = asked && asked.length > 0 ? asked : a.spatial_size
    const box = cropBox([...guidance.foreground, ...guidance.background], first.volume.size, spatial, wanted, a.margin)

    const next = a.keys.reduce(
      (current, key) =>
        withImage(
          current,
          key,
          boxed(requireImage(current, key), box.start, box.end, 'SpatialCropGuidanced', { kind: 'clicked' }),
        ),
      item,
    )
    const shift = (points: readonly Vec3[]) =>
      points.map(([x, y, z]): Vec3 => [x - box.start[0], y - box.start[1], z - box.start[2]])
    return withValue(next, a.guidance, {
      ...guidance,
      foreground: shift(guidance.foreground),
      background: shift(guidance.background),
      size: [box.end[0] - box.start[0], box.end[1] - box.start[1], box.end[2] - box.start[2]],
    })
  },
}

/** `spatial` lists the storage axes in array order, slowest first. */
function cropBox(
  points: readonly Vec3[],
  size: Vec3,
  spatial: readonly number[],
  wanted: readonly number[],
  margin: number | readonly number[],
): Box {
  const start = [0, 0, 0]
  const end = [1, 1, 1]
  const target = [1, 1, 1]
  const sizes = wanted.slice(-spatial.length)
  const missing = spatial.length - sizes.length
  let fits = true
  spatial.forEach((axis, i) => {
    const pad = typeof margin === 'number' ? margin : (margin[i] ?? margin.at(-1) ?? 0)
    const along = points.map((p) => p[axis]!)
    start[axis] = Math.max(Math.min(...along) - pad, 0)
    end[axis] = Math.min(size[axis]!, Math.max(...along) + pad + 1)
    target[axis] = i < missing ? size[axis]! : sizes[i - missing]!
    if (i >= missing && end[axis]! - start[axis]! >= target[axis]!) fits = false
  })
  if (fits) {
    spatial.forEach((axis, i) => {
      const middle = Math.trunc((start[axis]! + end[axis]!) / 2)
      const whole = spatial.length === 3 && i === 0 && target[axis]! >= size[axis]!
      start[axis] = whole ? 0 : Math.max(middle - (target[axis]! >> 1), 0)
      end[axis] = Math.min(start[axis]! + target[axis]!, size[axis]!)
    })
  }
  return { start: start as unknown as Vec3, end: end as unknown as Vec3 }
}
