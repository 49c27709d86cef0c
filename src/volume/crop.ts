import type { Vec3, Volume } from './volume.js'

/** The affine of a grid whose voxel 0 is voxel `start` of the old one. */
export function shiftedAffine(affine: Float64Array, start: Vec3): Float64Array {
  const moved = affine.slice()
  for (let r = 0; r < 3; r++)
    moved[r * 4 + 3] =
      affine[r * 4 + 3]! + affine[r * 4]! * start[0] + affine[r * 4 + 1]! * start[1] + affine[r * 4 + 2]! * start[2]
  return moved
}

/** Zeros of the same element type. */
export function emptyLike<T extends Volume['data']>(data: T, length: number): T {
  return new (data.constructor as new (length: number) => T)(length)
}
