/**
 * Windows that hold one value a channel all over, such as padding or the air that a clipped CT has around a body. A network
 * answers all of the same values alike, so it sees the first and the others get its answer: what comes out is the same.
 */
import type { Tensor } from '../contract/tensor.js'
import type { Vec3 } from '../volume/volume.js'
import type { Layout } from './layout.js'

/** Bytes of the answers that are kept for other windows: more would cost more memory than the runs are worth. */
const MOST_KEPT_BYTES = 2 ** 27

export class RepeatedWindows {
  readonly #answers = new Map<string, Tensor['data']>()
  #bytes = 0

  /** `box` is the size of a window along the layouts' order. */
  constructor(
    private readonly layouts: readonly Layout[],
    private readonly box: Vec3,
  ) {}

  /** The values that the window at `start` is made of, as a key; undefined where they differ from voxel to voxel. */
  keyOf(start: Vec3): string | undefined {
    const values: number[] = []
    for (const layout of this.layouts) {
      for (let c = 0; c < layout.channels; c++) {
        const value = onlyValue(layout, c, start, this.box)
        if (value === undefined) return undefined
        values.push(value)
      }
    }
    return values.join()
  }

  /** What the network answered to such a window. */
  answer(key: string | undefined): Tensor['data'] | undefined {
    return key === undefined ? undefined : this.#answers.get(key)
  }

  /** Keeps a copy of the answer, `length` values from `from` on. */
  keep(key: string | undefined, data: Tensor['data'], from: number, length: number): void {
    const bytes = length * data.BYTES_PER_ELEMENT
    if (key === undefined || this.#answers.has(key) || this.#bytes + bytes > MOST_KEPT_BYTES) return
    this.#bytes += bytes
    this.#answers.set(key, data.slice(from, from + length))
  }
}

/** The value of every voxel of the box in one channel; beyond the image lies 0. Undefined where there are several. */
function onlyValue({ field, order, extent }: Layout, channel: number, start: Vec3, box: Vec3): number | undefined {
  const { size, data } = field.volume
  const memory = [1, size[0], size[0] * size[1]] as const
  const [s0, s1, s2] = order.map((axis) => memory[axis]!) as [number, number, number]
  const low = start.map((value) => Math.max(0, value))
  const high = box.map((n, i) => Math.min(start[i]! + n, extent[i]!))
  const from = channel * size[0] * size[1] * size[2]
  const inside = low.every((value, i) => value === start[i]) && high.every((value, i) => value === start[i]! + box[i]!)
  const { least, values } = field.valueTable ?? { least: 0, values: undefined }
  const first = data[from + low[0]! * s0 + low[1]! * s1 + low[2]! * s2]!
  const value = inside ? (values ? values[first - least]! : first) : 0
  for (let i = low[0]!; i < high[0]!; i++)
    for (let j = low[1]!; j < high[1]!; j++) {
      const row = from + i * s0 + j * s1
      for (let k = low[2]!; k < high[2]!; k++) {
        const voxel = data[row + k * s2]!
        if ((values ? values[voxel - least] : voxel) !== value) return undefined
      }
    }
  return value
}
