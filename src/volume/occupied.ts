/** Label maps are mostly zeros; finding where they are not, at the speed of memory comparison, keeps counting cheap. */
import type { Volume, VoxelArray } from './volume.js'

/** Calls `visit` with the start in `data` and the y and z of every row of the first channel that has a non-zero voxel. */
export function forEachOccupiedRow(
  { data, size }: Pick<Volume, 'data' | 'size'>,
  visit: (start: number, y: number, z: number) => void,
): void {
  const [nx, ny, nz] = size
  const zeros = Buffer.alloc(nx * ny * data.BYTES_PER_ELEMENT)
  for (let z = 0; z < nz; z++) {
    if (isZero(data, z * nx * ny, nx * ny, zeros)) continue
    for (let y = 0; y < ny; y++) {
      const start = (z * ny + y) * nx
      if (!isZero(data, start, nx, zeros)) visit(start, y, z)
    }
  }
}

/** Whether `length` values from `start` on are all zero; `zeros` has at least as many bytes, all zero. */
export function isZero(data: VoxelArray, start: number, length: number, zeros: Buffer): boolean {
  const bytes = length * data.BYTES_PER_ELEMENT
  const view = Buffer.from(data.buffer, data.byteOffset + start * data.BYTES_PER_ELEMENT, bytes)
  return view.compare(zeros, 0, bytes) === 0
}
