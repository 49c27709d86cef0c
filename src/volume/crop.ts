/** Boxes of voxels: cut out, and put back into an empty grid. Ends are exclusive; affines follow. */
import { type Grid, makeVolume, type Vec3, type Volume } from './volume.js'

/** The voxels of [start, end) of every channel. */
export function cropVolume(volume: Volume, start: Vec3, end: Vec3): Volume {
  const [nx, ny, nz] = volume.size
  const size: Vec3 = [end[0] - start[0], end[1] - start[1], end[2] - start[2]]
  const data = emptyLike(volume.data, size[0] * size[1] * size[2] * volume.channels)
  let at = 0
  for (let c = 0; c < volume.channels; c++)
    for (let z = start[2]; z < end[2]; z++)
      for (let y = start[1]; y < end[1]; y++) {
        const row = nx * (y + ny * (z + nz * c))
        data.set(volume.data.subarray(row + start[0], row + end[0]), at)
        at += size[0]
      }
  return makeVolume(size, shiftedAffine(volume.affine, start), data, { channels: volume.channels })
}

/** The crop, placed at `start` of an otherwise empty volume on the grid `before`. What lies outside is dropped. */
export function uncropVolume(crop: Volume, before: Grid, start: Vec3): Volume {
  const [nx, ny, nz] = before.size
  const [cx, cy, cz] = crop.size
  const data = emptyLike(crop.data, nx * ny * nz * crop.channels)
  const width = Math.min(cx, nx - start[0])
  for (let c = 0; c < crop.channels; c++)
    for (let z = 0; z < Math.min(cz, nz - start[2]); z++)
      for (let y = 0; y < Math.min(cy, ny - start[1]); y++) {
        const row = cx * (y + cy * (z + cz * c))
        data.set(crop.data.subarray(row, row + width), start[0] + nx * (start[1] + y + ny * (start[2] + z + nz * c)))
      }
  return makeVolume(before.size, before.affine, data, { channels: crop.channels })
}

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
