/** What a label map says in numbers, for the reply's `label_statistics`. */
import { forEachOccupiedRow } from '../volume/occupied.js'
import { spacingOf, type Volume } from '../volume/volume.js'

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

/** One entry per label that occurs, in increasing order. `image` lies on the label map's grid. */
export function labelStatistics(labels: Volume, image: Volume, names: readonly string[]): LabelStatistics[] {
  const { data, size } = labels
  const most = data instanceof Uint8Array ? 255 : largest(labels)
  const counts = new Float64Array(most + 1)
  const sums = new Float64Array(most + 1)
  const boxes = new Int32Array(6 * (most + 1))
  for (let label = 0; label <= most; label++) boxes.set([size[0], size[1], size[2], -1, -1, -1], 6 * label)
  forEachOccupiedRow(labels, (start, y, z) => {
    for (let x = 0; x < size[0]; x++) {
      const label = data[start + x]!
      if (label <= 0) continue
      counts[label]!++
      sums[label]! += image.data[start + x]!
      const box = 6 * label
      if (x < boxes[box]!) boxes[box] = x
      if (y < boxes[box + 1]!) boxes[box + 1] = y
      if (z < boxes[box + 2]!) boxes[box + 2] = z
      if (x > boxes[box + 3]!) boxes[box + 3] = x
      if (y > boxes[box + 4]!) boxes[box + 4] = y
      if (z > boxes[box + 5]!) boxes[box + 5] = z
    }
  })
  const [sx, sy, sz] = spacingOf(labels)
  const voxelMl = (sx * sy * sz) / 1000
  const found: LabelStatistics[] = []
  for (let label = 1; label <= most; label++) {
    const voxels = counts[label]!
    if (voxels === 0) continue
    const mean = sums[label]! / voxels
    found.push({
      label,
      name: labelName(label, names),
      voxels,
      volume_ml: rounded(voxels * voxelMl),
      bbox: [
        Array.from(boxes.subarray(6 * label, 6 * label + 3)),
        Array.from(boxes.subarray(6 * label + 3, 6 * label + 6)),
      ],
      mean_intensity: Number.isFinite(mean) ? rounded(mean) : 0,
    })
  }
  return found
}

/** A config names foreground labels from value 1 on, or every value from 0 on when the first is the background. */
export function labelName(label: number, names: readonly string[]): string {
  const offset = /^(background|bg|unlabell?ed)$/i.test(names[0] ?? '') ? 0 : 1
  return names[label - offset] ?? `label ${label}`
}

function largest(labels: Volume): number {
  let most = 0
  forEachOccupiedRow(labels, (start) => {
    for (let x = 0; x < labels.size[0]; x++) if (labels.data[start + x]! > most) most = labels.data[start + x]!
  })
  return most
}

/** Seven significant digits: what float32 voxels are worth. */
function rounded(value: number): number {
  return Number(value.toPrecision(7))
}
