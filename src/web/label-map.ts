/** The segments' voxels: one byte each, 0 for none, in the order of the session's volume. */
import { type Box, boxSize, isInside, type Vec3, wholeBox } from './geometry.js'

export class LabelMap {
  readonly size: Vec3
  readonly data: Uint8Array<ArrayBuffer>
  /** Voxels of every label, kept as boxes are written, so that nobody has to count a large volume. */
  readonly #counts = new Float64Array(256)

  constructor(size: Vec3, data?: Uint8Array<ArrayBuffer>) {
    const voxels = size[0] * size[1] * size[2]
    if (data !== undefined && data.length !== voxels) throw new RangeError('as many labels as voxels are needed')
    this.size = size
    this.data = data ?? new Uint8Array(voxels)
    if (data === undefined) this.#counts[0] = voxels
    else for (let i = 0; i < data.length; i++) this.#counts[data[i]!]!++
  }

  /** Voxels of a label. What a stroke writes past `write` counts when it has become a step. */
  count(label: number): number {
    return this.#counts[label]!
  }

  at(voxel: Vec3): number {
    return isInside(voxel, this.size) ? this.data[this.indexOf(voxel)]! : 0
  }

  indexOf([x, y, z]: Vec3): number {
    return x + this.size[0] * (y + this.size[1] * z)
  }

  /** The labels inside a box, x fastest. */
  read(box: Box): Uint8Array<ArrayBuffer> {
    const [nx, ny, nz] = boxSize(box)
    const out = new Uint8Array(nx * ny * nz)
    this.#rows(box, (from, to, row) => out.set(this.data.subarray(from, to), row * nx))
    return out
  }

  write(box: Box, labels: Uint8Array): void {
    const nx = boxSize(box)[0]
    const { data } = this
    const counts = this.#counts
    this.#rows(box, (from, to, row) => {
      for (let i = from, k = row * nx; i < to; i++, k++) {
        const [before, after] = [data[i]!, labels[k]!]
        if (before === after) continue
        counts[before]!--
        counts[after]!++
        data[i] = after
      }
    })
  }

  /** The smallest box around the voxels of a label within `within`; undefined when there is none. */
  boxOf(label: number, within: Box = wholeBox(this.size)): Box | undefined {
    const { data, size } = this
    if (this.count(label) === 0) return undefined
    const min = [...size] as [number, number, number]
    const max: [number, number, number] = [-1, -1, -1]
    for (let z = within.min[2]; z <= within.max[2]; z++)
      for (let y = within.min[1]; y <= within.max[1]; y++) {
        const row = size[0] * (y + size[1] * z)
        const end = row + within.max[0]
        let first = row + within.min[0]
        while (first <= end && data[first] !== label) first++
        if (first > end) continue
        let last = end
        while (data[last] !== label) last--
        min[0] = Math.min(min[0], first - row)
        max[0] = Math.max(max[0], last - row)
        min[1] = Math.min(min[1], y)
        max[1] = Math.max(max[1], y)
        min[2] = Math.min(min[2], z)
        max[2] = Math.max(max[2], z)
      }
    return max[0] < 0 ? undefined : { min, max }
  }

  #rows({ min, max }: Box, visit: (from: number, to: number, row: number) => void): void {
    const length = max[0] - min[0] + 1
    let row = 0
    for (let z = min[2]; z <= max[2]; z++)
      for (let y = min[1]; y <= max[1]; y++) {
        const from = this.indexOf([min[0], y, z])
        visit(from, from + length, row++)
      }
  }
}
