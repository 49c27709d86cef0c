/**
 * Voxels that are no numbers: NaN and infinity, as resampled PET, masked MR and cropped CT carry them, and numbers beyond
 * float32, in which networks compute. One of them anywhere would make a mean, and with it a whole result, NaN.
 *
 * The one rule: such a voxel becomes the least finite voxel of its channel, or 0 where that is greater. So the background
 * of a CT becomes air, that of an MR, a PET or a label map 0, and no other voxel changes.
 */
import { AppError } from '../errors.js'
import { type Volume, type VoxelArray, voxelCount } from '../volume/volume.js'

/**
 * Replaces them in place, and says how many there were; the note is absent when there were none.
 * Throws UNREADABLE_IMAGE when no voxel at all is a number.
 */
export function replaceNonFinite(volume: Volume): string | undefined {
  const { data } = volume
  if (!(data instanceof Float32Array || data instanceof Float64Array) || allFinite(data)) return undefined
  const voxels = voxelCount(volume)
  const fills = new Set<number>()
  let count = 0
  for (let start = 0; start < data.length; start += voxels) {
    const channel = data.subarray(start, start + voxels)
    const found = replaceIn(channel)
    if (found.count > 0) fills.add(found.fill)
    count += found.count
  }
  if (count === data.length) {
    throw new AppError('UNREADABLE_IMAGE', 'the image holds no number: all its voxels are NaN or infinite', {
      hint: 'Check the program that wrote it; a masked image keeps finite voxels inside its mask.',
    })
  }
  const [fill] = fills
  const value = fills.size === 1 ? `${fill}` : 'the least value of their channel'
  return count === 1
    ? `1 voxel is NaN or infinite and was read as ${value}`
    : `${count} voxels are NaN or infinite and were read as ${value}`
}

/** A number times 0 is 0, unless it is none. Four sums, since one would wait for itself. */
function allFinite(data: Float32Array | Float64Array): boolean {
  let [a, b, c, d] = [0, 0, 0, 0]
  if (data instanceof Float64Array) {
    for (let i = 0; i < data.length; i++) a += Math.fround(data[i]!) * 0
    return a === 0
  }
  const even = data.length & ~3
  for (let i = 0; i < even; i += 4) {
    a += data[i]! * 0
    b += data[i + 1]! * 0
    c += data[i + 2]! * 0
    d += data[i + 3]! * 0
  }
  for (let i = even; i < data.length; i++) a += data[i]! * 0
  return a + b + c + d === 0
}

function replaceIn(channel: VoxelArray): { fill: number; count: number } {
  let fill = 0
  let count = 0
  for (let i = 0; i < channel.length; i++) {
    const value = channel[i]!
    if (Math.fround(value) * 0 !== 0) count++
    else if (value < fill) fill = value
  }
  if (count > 0) for (let i = 0; i < channel.length; i++) if (Math.fround(channel[i]!) * 0 !== 0) channel[i] = fill
  return { fill, count }
}
