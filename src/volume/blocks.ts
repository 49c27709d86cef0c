/**
 * Voxel loops over arrays of any type, at the speed of one type.
 *
 * A loop that has met more than four kinds of typed array runs 10 to 40 times slower for the rest of the process's life
 * (V8 gives up on its inline caches), and a runner meets all of them sooner or later. So loops that take any VoxelArray
 * copy a block into float64, which holds every voxel value exactly, work there, and copy back; `TypedArray.set` does
 * both copies in native code. 50 million int16, minimum and maximum, after every type has been seen: 1785 ms before,
 * about 100 ms this way.
 */
import type { VoxelArray } from './volume.js'

/** Voxels in a block: 128 KiB of float64, which stay in the second-level cache. */
const BLOCK_VOXELS = 16 * 1024

/** Calls `work` with the values of `data`, a block at a time; `block` is reused, its first `count` values count. */
export function eachBlock(data: VoxelArray, work: (block: Float64Array, count: number, start: number) => void): void {
  const block = new Float64Array(Math.min(BLOCK_VOXELS, data.length))
  for (let start = 0; start < data.length; start += BLOCK_VOXELS) {
    const count = Math.min(BLOCK_VOXELS, data.length - start)
    block.set(data.subarray(start, start + count))
    work(block, count, start)
  }
}

/**
 * `target` = what `work` makes of `source`, block by block in place; values are converted to target's type as by
 * assignment to its elements. Target may be the source itself.
 */
export function mapBlocks(
  source: VoxelArray,
  target: VoxelArray,
  work: (block: Float64Array, count: number, start: number) => void,
): void {
  eachBlock(source, (block, count, start) => {
    work(block, count, start)
    target.set(count === block.length ? block : block.subarray(0, count), start)
  })
}

/**
 * The same bytes as one of four kinds of array, by width: enough for loops that only copy or permute voxels, and few
 * enough to keep such a loop fast.
 */
export function asPlainWidth({ buffer, byteOffset, length, BYTES_PER_ELEMENT }: VoxelArray): VoxelArray {
  if (BYTES_PER_ELEMENT === 1) return new Uint8Array(buffer, byteOffset, length)
  if (BYTES_PER_ELEMENT === 2) return new Uint16Array(buffer, byteOffset, length)
  if (BYTES_PER_ELEMENT === 4) return new Uint32Array(buffer, byteOffset, length)
  return new Float64Array(buffer, byteOffset, length)
}
