import { z } from 'zod'
import { AppError } from '../errors.js'
import type { Vec3 } from '../volume/volume.js'
import { describing } from './args.js'
import { boxOf } from './box-prompt.js'
import { requireImage, withValue } from './fields.js'
import { type Guidance, mapPoints, pointsOf } from './guidance.js'
import type { Item, TransformDefinition } from './types.js'

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
  ...describing('meta_keys', 'meta_key_postfix'),
})

/**
 * Turns the client's clicks, voxel indices of the file it posted, into guidance on the image's current grid. In two
 * dimensions only the clicks of one slice stay: that of a box, else the one `slice_key` names, else that of `current_point`,
 * where a click lies there; else the lowest that has any.
 * Source: monai.apps.deepgrow.transforms.AddGuidanceFromPointsd.
 */
export const addGuidanceFromPoints: TransformDefinition<typeof args> = {
  names: ['AddGuidanceFromPointsd', 'AddGuidanceFromPointsD', 'AddGuidanceFromPointsDict', 'AddGuidanceFromPoints'],
  args,
  traits: (a) => ({ readsClicks: true, slices: (a.spatial_dims ?? a.dimensions ?? 2) === 2 }),
  create: (a) => {
    if (a.spatial_dims !== undefined && a.dimensions !== undefined && a.spatial_dims !== a.dimensions)
      throw new AppError('BAD_MODEL_CONFIG', `spatial_dims is ${a.spatial_dims} and dimensions ${a.dimensions}`)
    return (item) => guided(item, a)
  },
}

function guided(item: Item, a: z.output<typeof args>): Item {
  const image = requireImage(item, a.ref_image)
  const { size } = image.volume
  const move = (key: string) => mapPoints(pointsOf(item, key), image.source, image.volume)
  const foreground = move(a.foreground)
  const background = move(a.background)
  if ((a.spatial_dims ?? a.dimensions ?? 2) === 3)
    return withValue(item, a.guidance, { foreground, background, size } satisfies Guidance)

  const axis = sliceAxis(image.axes, a.axis, a.depth_first)
  const box = boxOf(item)
  const boxed = box && mapPoints([wholeVoxel(box.first)], image.source, image.volume)[0]![axis]
  const all = [...foreground, ...background]
  if (all.length === 0 && boxed === undefined)
    throw new AppError('BAD_PARAMS', `'${a.foreground}' and '${a.background}' hold no point`)
  const wanted = mapPoints(wantedVoxel(item, a.slice_key, axis), image.source, image.volume)[0]?.[axis]
  const clicked = all.map((p) => p[axis]!)
  const slice = boxed ?? (wanted !== undefined && clicked.includes(wanted) ? wanted : Math.min(...clicked))
  const onSlice = (points: readonly Vec3[]) => points.filter((p) => p[axis] === slice)
  const guidance: Guidance = { foreground: onSlice(foreground), background: onSlice(background), size, slice }
  // Clicks on other slices are no part of this request: EnforceClicksd, at the end, must not see them.
  const used = (key: string, mapped: readonly Vec3[]) =>
    pointsOf(item, key).filter((_, i) => mapped[i]![axis] === slice)
  const kept = withValue(item, a.foreground, used(a.foreground, foreground))
  return withValue(withValue(kept, a.background, used(a.background, background)), a.guidance, guidance)
}

function wholeVoxel([x, y, z]: Vec3): Vec3 {
  return [Math.floor(x), Math.floor(y), Math.floor(z)]
}

/** The storage axis (0 = x) that holds the slices: `axis` of the array, whose depth MONAI rolls to the front. */
export function sliceAxis(axes: string, axis: number, depthFirst: boolean): number {
  const spatial = axes.replace('C', '')
  const letter = depthFirst ? spatial[axis] : 'XYZ'[axis]
  return 'XYZ'.indexOf(letter ?? 'Z')
}

/** A voxel of the posted file on the slice that the request means: its slice number, else its current point, else none. */
function wantedVoxel(item: Item, key: string, axis: number): readonly Vec3[] {
  const slice = item.values.get(key)
  if (typeof slice === 'number') return [[axis === 0 ? slice : 0, axis === 1 ? slice : 0, axis === 2 ? slice : 0]]
  const current = item.values.get('current_point') as Vec3 | undefined
  return current ? [current] : []
}
