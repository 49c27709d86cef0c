import { z } from 'zod'
import { spacingOf, type Vec3 } from '../volume/volume.js'
import { fieldArgs } from './args.js'
import { boxed } from './crop-pad.js'
import { requireImage, withImage, withValue } from './fields.js'
import { mapPoints, pointsOf } from './guidance.js'
import type { TransformDefinition } from './types.js'

const args = fieldArgs({
  points: z.string().default('points'),
  padding: z.number().min(0).default(20),
  roi: z.array(z.int().positive()).length(3).optional(),
})

/** Extreme points on the image's current grid, and the size of that grid. */
export interface PointSet {
  readonly points: readonly Vec3[]
  readonly size: Vec3
}

/**
 * Crops to the box of the extreme points with `padding` mm around it, the way the AIAA clients crop before they upload:
 * `int(padding / spacing)` voxels each way, cut at the border, the last voxel left out. An image that already has the
 * size `roi` (array order) was cropped by the client and passes unchanged.
 * Method: Maninis et al., arXiv 1711.09081; Roth et al., arXiv 2009.11988.
 */
export const cropByExtremePoints: TransformDefinition<typeof args> = {
  names: ['CropByExtremePointsd', 'CropByExtremePointsD', 'CropByExtremePointsDict', 'CropByExtremePoints'],
  args,
  traits: () => ({ readsClicks: true }),
  create: (a) => (item) => {
    const first = requireImage(item, a.keys[0]!)
    const { size } = first.volume
    const points = mapPoints(pointsOf(item, a.points), first.source, first.volume)
    if (points.length === 0 || isRoi(first.axes, size, a.roi))
      return withValue(item, a.points, { points, size } satisfies PointSet)

    const { start, end } = paddedBox(points, size, spacingOf(first.volume), a.padding)
    const next = a.keys.reduce(
      (current, key) => withImage(current, key, boxed(requireImage(current, key), start, end, 'CropByExtremePointsd')),
      item,
    )
    const inside: PointSet = {
      points: points.map(([x, y, z]): Vec3 => [x - start[0], y - start[1], z - start[2]]),
      size: [end[0] - start[0], end[1] - start[1], end[2] - start[2]],
    }
    return withValue(next, a.points, inside)
  },
}

function isRoi(axes: string, size: Vec3, roi: readonly number[] | undefined): boolean {
  if (!roi) return false
  const spatial = [...axes].filter((letter) => letter !== 'C')
  return spatial.every((letter, i) => size['XYZ'.indexOf(letter)] === roi[i + roi.length - spatial.length])
}

/** The clients' crop: both ends included in voxels, the end then left out, at least one voxel kept. */
export function paddedBox(
  points: readonly Vec3[],
  size: Vec3,
  spacing: Vec3,
  padding: number,
): { start: Vec3; end: Vec3 } {
  const along = (axis: 0 | 1 | 2) => {
    const pad = Math.trunc(padding / spacing[axis])
    const values = points.map((p) => p[axis])
    const start = Math.max(Math.min(...values) - pad, 0)
    const end = Math.min(Math.max(...values) + pad, size[axis] - 1)
    return [start, Math.max(end, start + 1)] as const
  }
  const [x, y, z] = [along(0), along(1), along(2)]
  return { start: [x[0], y[0], z[0]], end: [x[1], y[1], z[1]] }
}
