/** What a label map says in numbers, for the reply's `label_statistics`. */
import { forEachOccupiedRow } from '../volume/occupied.js'
import { spacingOf, type Volume } from '../volume/volume.js'
import { labelName } from './label-names.js'

export interface LabelStatistics {
  readonly label: number
  readonly name: string
  readonly voxels: number
  readonly volume_ml: number
  /** First and last voxel index [x, y, z] of the posted image, both inside. */
  readonly bbox: readonly [readonly number[], readonly number[]]
  /** Of the posted image's first channel, before any transform. */
  readonly mean_intensity: number
}

/** One entry per label that occurs, in increasing order; 0 is the background. `image` lies on the label map's grid. */
export function labelStatistics(labels: Volume, image: Volume, names: readonly string[]): LabelStatistics[] {
  const { data, size } = labels
  const counts = new Map<number, Count>()
  // most voxels have the label of the one before
  let label = 0
  let count: Count | undefined
  forEachOccupiedRow(labels, (start, y, z) => {
    for (let x = 0; x < size[0]; x++) {
      const here = data[start + x]!
      if (here === 0) continue
      if (here !== label || !count) {
        label = here
        count = counts.get(label) ?? { voxels: 0, sum: 0, low: [x, y, z], high: [x, y, z] }
        counts.set(label, count)
      }
      count.voxels++
      count.sum += image.data[start + x]!
      const { low, high } = count
      if (x < low[0]) low[0] = x
      if (y < low[1]) low[1] = y
      if (x > high[0]) high[0] = x
      if (y > high[1]) high[1] = y
      high[2] = z
    }
  })
  const [sx, sy, sz] = spacingOf(labels)
  const voxelMl = (sx * sy * sz) / 1000
  return [...counts]
    .sort(([a], [b]) => a - b)
    .map(([value, { voxels, sum, low, high }]) => ({
      label: value,
      name: labelName(value, names),
      voxels,
      volume_ml: rounded(voxels * voxelMl),
      bbox: [low, high],
      mean_intensity: Number.isFinite(sum) ? rounded(sum / voxels) : 0,
    }))
}

/** Of one label: its voxels, the sum of their intensities, and the first and last index on each axis. */
interface Count {
  voxels: number
  sum: number
  readonly low: [number, number, number]
  readonly high: [number, number, number]
}

/** Seven significant digits: what float32 voxels are worth. */
function rounded(value: number): number {
  return Number(value.toPrecision(7))
}
