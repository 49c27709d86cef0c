/** The arrays that hold label maps. What makes a map a map of labels is its field's `content`, not its array. */
import type { VoxelArray } from './volume.js'

/** An array for labels from `min` to `max`, the smallest of uint8, uint16 and int32 that holds them. */
export function labelArray(length: number, min: number, max: number): Uint8Array | Uint16Array | Int32Array {
  if (min >= 0 && max <= 255) return new Uint8Array(length)
  return min >= 0 && max <= 65_535 ? new Uint16Array(length) : new Int32Array(length)
}

/** The same labels in the smallest type that holds them; the array itself when that is its own. */
export function narrowed(labels: Uint8Array | Int32Array): VoxelArray {
  if (labels instanceof Uint8Array) return labels
  let min = 0
  let max = 0
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!
    if (label < min) min = label
    if (label > max) max = label
  }
  const target = labelArray(labels.length, min, max)
  if (target instanceof Int32Array) return labels
  target.set(labels)
  return target
}
