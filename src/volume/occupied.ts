/** Label maps are mostly zeros; finding where they are not, at the speed of memory comparison, keeps counting cheap. */
import type { Volume, VoxelArray } from './volume.js'

/** Calls `visit` with the start in `data` and the y and z of every row of the first channel that has a non-zero voxel. */
export function forEachOccupiedRow(
  { data, size }: Pick<Volume, 'data' | 'size'>,
  visit: (start: number, y: number, z: number) => void,
): void {
  const [nx, ny, nz] = size
  for (let z = 0; z < nz; z++) {
    if (isZero(data, z * nx * ny, nx * ny)) continue
    for (let y = 0; y < ny; y++) {
      const start = (z * ny + y) * nx
      if (!isZero(data, start, nx)) visit(start, y, z)
    }
  }
}

const ZEROS = Buffer.alloc(64 * 1024)

/** Whether every byte of `length` values from `start` on is zero. */
export function isZero(data: VoxelArray, start: number, length: number): boolean {
  const bytes = length * data.BYTES_PER_ELEMENT
  const view = Buffer.from(data.buffer, data.byteOffset + start * data.BYTES_PER_ELEMENT, bytes)
  for (let at = 0; at < bytes; at += ZEROS.length) {
    const count = Math.min(ZEROS.length, bytes - at)
    if (view.compare(ZEROS, 0, count, at, at + count) !== 0) return false
  }
  return true
}
