import { z } from 'zod'
import { AppError } from '../errors.js'
import type { Vec3 } from '../volume/volume.js'
import { requireImage, withValue } from './fields.js'
import { type Guidance, mapPoints, pointsOf } from './guidance.js'
import type { TransformDefinition } from './types.js'

const args = z.strictObject({
  ref_image: z.string().default('image'),
  guidance: z.string().default('guidance'),
  foreground: z.string().default('foreground'),
  background: z.string().default('background'),
  axis: z.int().min(0).max(2).default(0),
  depth_first: z.boolean().default(true),
  spatial_dims: z.literal([2, 3]).optional(),
  dimensions: z.literal([2, 3]).optional(),
  slice_key: z.string().default('slice'),
  meta_keys: z.unknown().optional(),
  meta_key_postfix: z.string().optional(),
})

/**
 * Turns the client's clicks, voxel indices of the file it posted, into guidance on the image's current grid. In two
 * dimensions only the clicks of one slice stay: the one `slice_key` names, else the lowest that has any.
 * Source: monai.apps.deepgrow.transforms.AddGuidanceFromPointsd.
 */
export const addGuidanceFromPoints: TransformDefinition<typeof args> = {
  names: ['AddGuidanceFromPointsd', 'AddGuidanceFromPointsD', 'AddGuidanceFromPointsDict', 'AddGuidanceFromPoints'],
  args,
  readsClicks: () => true,
  create: (a) => (item) => {
    const image = requireImage(item, a.ref_image)
    const { size } = image.volume
    const move = (key: string) => mapPoints(pointsOf(item, key), image.source, image.volume)
    const foreground = move(a.foreground)
    const background = move(a.background)
    if ((a.spatial_dims ?? a.dimensions ?? 2) === 3)
      return withValue(item, a.guidance, { foreground, background, size } satisfies Guidance)

    const axis = sliceAxis(image.axes, a.axis, a.depth_first)
    const all = [...foreground, ...background]
    if (all.length === 0) throw new AppError('BAD_PARAMS', `'${a.foreground}' and '${a.background}' hold no point`)
    const wanted = item.values.get(a.slice_key)
    const slice =
      typeof wanted === 'number' ? onCurrentGrid(wanted, axis, item, image) : Math.min(...all.map((p) => p[axis]!))
    const here = (points: readonly Vec3[]) => points.filter((p) => p[axis] === slice)
    const guidance: Guidance = { foreground: here(foreground), background: here(background), size, slice }
    if (guidance.foreground.length + guidance.background.length === 0)
      throw new AppError('BAD_PARAMS', `no click lies on slice ${String(wanted)}`, {
        hint: "click on the slice that 'current_point' names, or leave 'current_point' out",
      })
    return withValue(item, a.guidance, guidance)
  },
}

/** The storage axis (0 = x) that holds the slices: `axis` of the array, whose depth MONAI rolls to the front. */
export function sliceAxis(axes: string, axis: number, depthFirst: boolean): number {
  const spatial = axes.replace('C', '')
  const letter = depthFirst ? spatial[axis] : 'XYZ'[axis]
  return 'XYZ'.indexOf(letter ?? 'Z')
}

/** A slice index of the posted file, on the current grid. */
function onCurrentGrid(
  slice: number,
  axis: number,
  item: Parameters<typeof requireImage>[0],
  image: ReturnType<typeof requireImage>,
): number {
  const current = item.values.get('current_point') as Vec3 | undefined
  const probe = current ?? ([0, 1, 2].map((i) => (i === axis ? slice : 0)) as unknown as Vec3)
  return mapPoints([probe], image.source, image.volume)[0]![axis]!
}
