/** Where a label ends: the six extreme points and the box that clients start an annotation from. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import type { Volume } from '../volume/volume.js'
import { describing, fieldArgs, names, oneKey } from './args.js'
import { requireImage, requireNamed, withImage, withResult } from './fields.js'
import type { Item, TransformDefinition } from './types.js'
import { restore } from './undo.js'

type Point = [number, number, number]

/**
 * For each axis the voxel of the label (anything but 0) with the least and the greatest index, in the order x, y, z.
 * Of several, the middle one in scan order, so that equal masks always give equal points. Empty when there is no label.
 */
export function extremePoints({ size, data }: Pick<Volume, 'size' | 'data'>): Point[] {
  const box = labelBox({ size, data })
  if (!box) return []
  const [nx, ny] = size
  const points: Point[] = []
  for (const axis of [0, 1, 2] as const) {
    for (const index of [box[0][axis], box[1][axis]]) {
      const low: Point = [...box[0]]
      const high: Point = [...box[1]]
      low[axis] = index
      high[axis] = index
      const found: Point[] = []
      for (let z = low[2]; z <= high[2]; z++) {
        for (let y = low[1]; y <= high[1]; y++) {
          for (let x = low[0]; x <= high[0]; x++) if (data[x + nx * (y + ny * z)] !== 0) found.push([x, y, z])
        }
      }
      points.push(found[found.length >> 1]!)
    }
  }
  return points
}

/** First and last index (inclusive) of the label on each axis. */
export function labelBox({ size, data }: Pick<Volume, 'size' | 'data'>): [Point, Point] | undefined {
  const [nx, ny, nz] = size
  const low: Point = [nx, ny, nz]
  const high: Point = [-1, -1, -1]
  for (let z = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      const row = nx * (y + ny * z)
      let first = 0
      while (first < nx && data[row + first] === 0) first++
      if (first === nx) continue
      let last = nx - 1
      while (data[row + last] === 0) last--
      if (first < low[0]) low[0] = first
      if (last > high[0]) high[0] = last
      if (y < low[1]) low[1] = y
      if (y > high[1]) high[1] = y
      if (z < low[2]) low[2] = z
      if (z > high[2]) high[2] = z
    }
  }
  return high[0] < 0 ? undefined : [low, high]
}

/**
 * The item with the field on the grid of its file. Points are indices of that file, so the label goes there before they
 * are read; a restore later in the config then has nothing left to do.
 */
function onFileGrid(item: Item, key: string): { item: Item; volume: Volume } {
  const field = restore(requireImage(item, key))
  return { item: withImage(item, key, field), volume: field.volume }
}

const fetchArgs = z.strictObject({
  keys: names.optional(),
  image_field: z.string().optional(),
  label_field: z.string().optional(),
  points: z.string().default('points'),
})

/** Clara's FetchExtremePoints: the six points, in voxels of the posted file, as `points` of the reply. */
export const fetchExtremePoints: TransformDefinition<typeof fetchArgs> = {
  names: ['FetchExtremePoints'],
  args: fetchArgs,
  create: (a) => {
    if (a.label_field !== undefined && a.keys !== undefined)
      throw new AppError('BAD_MODEL_CONFIG', 'label_field and keys name the same; give one of them')
    return (item) => fetched(item, a)
  },
}

function fetched(item: Item, a: z.output<typeof fetchArgs>): Item {
  requireNamed(item, a.image_field)
  const found = onFileGrid(item, a.label_field ?? a.keys?.[0] ?? 'model')
  return withResult(found.item, { [a.points]: extremePoints(found.volume) })
}

const pointsArgs = fieldArgs({
  keys: oneKey,
  ...describing('result'),
  points: z.string().default('points'),
  pert: z.literal(0, "points are the label's own here; only 0 is supported").optional(),
})

/** AIAA's ExtremePointsd. */
export const extremePointsTransform: TransformDefinition<typeof pointsArgs> = {
  names: ['ExtremePointsd', 'ExtremePointsD', 'ExtremePoints'],
  args: pointsArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) => (item) => {
    const found = onFileGrid(item, a.keys[0]!)
    return withResult(found.item, { [a.points]: extremePoints(found.volume) })
  },
}

const boxArgs = fieldArgs({ keys: oneKey, ...describing('result'), bbox: z.string().default('bbox') })

/** AIAA's BoundingBoxd: [[least x, y, z], [greatest x, y, z]] of the label, in voxels of the posted file. */
export const boundingBox: TransformDefinition<typeof boxArgs> = {
  names: ['BoundingBoxd', 'BoundingBoxD', 'BoundingBox'],
  args: boxArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) => (item) => {
    const found = onFileGrid(item, a.keys[0]!)
    return withResult(found.item, { [a.bbox]: labelBox(found.volume) ?? [] })
  },
}
