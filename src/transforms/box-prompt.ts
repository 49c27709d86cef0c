/** A box that a user drew around a structure, in one slice of the posted image: what a request's `box` is among an item's values. */
import type { Vec3 } from '../volume/volume.js'
import type { Item } from './types.js'

export interface BoxPrompt {
  /** Opposite corners in voxels of the posted image, fractions kept; their third index is the slice. */
  readonly first: Vec3
  readonly last: Vec3
}

/** Among the values of an item. */
export const BOX_VALUE = '@box'

export function boxOf(item: Item): BoxPrompt | undefined {
  return item.values.get(BOX_VALUE) as BoxPrompt | undefined
}
