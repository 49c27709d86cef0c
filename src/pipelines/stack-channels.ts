/** Several files of one case, such as the sequences of an MR, as the channels of one image. */
import { AppError } from '../errors.js'
import type { ReadResult } from '../formats/format.js'
import { makeVolume, spacingOf, type VoxelArray, voxelCount } from '../volume/volume.js'

/** The channels of all files on the first one's grid, in the order they were sent. Throws BAD_PARAMS when grids differ. */
export function stackChannels(results: readonly ReadResult[]): ReadResult {
  const first = results[0]!
  const { size, affine, nifti } = first.volume
  const spacing = Math.min(...spacingOf(first.volume))
  const odd = results.findIndex(
    ({ volume }) =>
      volume.size.some((n, axis) => n !== size[axis]) ||
      volume.affine.some((value, i) => Math.abs(value - affine[i]!) > 0.01 * spacing),
  )
  if (odd > 0)
    throw new AppError(
      'BAD_PARAMS',
      `the files of this request become channels of one image and must lie on one grid; file ${odd + 1} is not on that of file 1`,
      { hint: 'resample them to one of them first' },
    )
  const channels = results.reduce((sum, { volume }) => sum + volume.channels, 0)
  const Type = results.every(({ volume }) => volume.data.constructor === first.volume.data.constructor)
    ? (first.volume.data.constructor as new (
        length: number,
      ) => VoxelArray)
    : Float32Array
  const data = new Type(voxelCount(first.volume) * channels)
  let at = 0
  for (const { volume } of results) {
    data.set(volume.data, at)
    at += volume.data.length
  }
  return { ...first, volume: makeVolume(size, affine, data, { channels, nifti }) }
}
