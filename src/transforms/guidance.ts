/**
 * Clicks on their way to a network: integer voxel indices [x, y, z] of the image's current grid, whatever order the
 * network sees the axes in. Owned here: the type, reading points out of an item, and moving them between grids.
 */
import { AppError } from '../errors.js'
import { indexToIndex } from '../volume/affine.js'
import type { Grid, Vec3 } from '../volume/volume.js'
import { describing } from './args.js'
import type { Item } from './types.js'

/** Where MONAI's deepgrow transforms leave their boxes for each other; here a field's undo steps do that. */
export const coordKeys = describing('start_coord_key', 'end_coord_key', 'original_shape_key', 'cropped_shape_key')

export interface Guidance {
  readonly foreground: readonly Vec3[]
  readonly background: readonly Vec3[]
  /** The size of the grid that the points index. */
  readonly size: Vec3
  /** For 2-D models: the index of the clicked slice along the slice axis. */
  readonly slice?: number | undefined
}

/** The guidance another transform left under `key`. */
export function guidanceOf(item: Item, key: string): Guidance {
  const value = item.values.get(key)
  if (!isGuidance(value))
    throw new AppError('BAD_MODEL_CONFIG', `there is no guidance '${key}' yet`, {
      hint: 'AddGuidanceFromPointsd has to come before this transform',
    })
  return value
}

function isGuidance(value: unknown): value is Guidance {
  return (
    typeof value === 'object' && value !== null && 'foreground' in value && 'background' in value && 'size' in value
  )
}

/** The points a client sent under `key`: already checked lists of [x, y, z], or none. */
export function pointsOf(item: Item, key: string): readonly Vec3[] {
  return (item.values.get(key) as readonly Vec3[] | undefined) ?? []
}

/**
 * Moves voxel indices of `source` onto `current`, a grid made from it by reordering, flipping, resampling or cropping.
 * Along an axis whose field of view merely got another number of voxels the index is multiplied by new / old length and
 * truncated, as MONAI's deepgrow app does; everything else follows the affines, to the nearest voxel.
 */
export function mapPoints(points: readonly Vec3[], source: Grid, current: Grid): Vec3[] {
  if (points.length === 0) return []
  const m = indexToIndex(source, current)
  const axes = alignedAxes(m)
  return points.map((p) => {
    const moved: [number, number, number] = [0, 0, 0]
    for (let row = 0; row < 3; row++) {
      const from = axes?.[row]
      const exact = m[row * 4]! * p[0] + m[row * 4 + 1]! * p[1] + m[row * 4 + 2]! * p[2] + m[row * 4 + 3]!
      if (from === undefined || !sameExtent(source.size[from]!, current.size[row]!, m[row * 4 + from]!)) {
        moved[row] = Math.round(exact)
        continue
      }
      const index = m[row * 4 + from]! < 0 ? source.size[from]! - 1 - p[from]! : p[from]!
      moved[row] = Math.trunc((index * current.size[row]!) / source.size[from]!)
    }
    return moved
  })
}

/** For each row of an index-to-index matrix the one source axis that feeds it; undefined when any row mixes axes. */
function alignedAxes(m: Float64Array): readonly number[] | undefined {
  const axes: number[] = []
  for (let row = 0; row < 3; row++) {
    const weights = [0, 1, 2].map((c) => Math.abs(m[row * 4 + c]!))
    const largest = Math.max(...weights)
    const feeding = weights.flatMap((w, c) => (w > largest * 1e-3 ? [c] : []))
    if (feeding.length !== 1) return undefined
    axes.push(feeding[0]!)
  }
  return axes
}

/** Whether `from` voxels seen at `scale` new voxels each cover about `to` voxels: a resampling, not a crop. */
function sameExtent(from: number, to: number, scale: number): boolean {
  return Math.abs(from * Math.abs(scale) - to) <= Math.max(1, Math.abs(scale))
}
