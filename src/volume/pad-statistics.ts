/** Padding with numbers made of the image itself, line by line and axis by axis: the statistics of numpy's `pad`. */
import type { Vec3 } from './volume.js'

export const PAD_STATISTICS = ['minimum', 'maximum', 'mean', 'median', 'linear_ramp'] as const
export type PadStatistic = (typeof PAD_STATISTICS)[number]

/**
 * Fills what lies outside the box [low, high) of `data` (x fastest, then y, z and channels; `size` voxels a channel), in
 * place. `order` lists the axes as the array counts them, since the median of medians depends on it. `linear_ramp` falls to zero.
 */
export function padByStatistic(
  data: Float32Array,
  size: Vec3,
  [low, high]: readonly [Vec3, Vec3],
  order: readonly (0 | 1 | 2)[],
  statistic: PadStatistic,
): void {
  const voxels = size[0] * size[1] * size[2]
  const strides = [1, size[0], size[0] * size[1]]
  for (let base = 0; base < data.length; base += voxels) {
    const from = [...low]
    const to = [...high]
    for (const axis of order) {
      const [first, last] = [from[axis]!, to[axis]!]
      const n = size[axis]
      if (first > 0 || last < n) {
        const [a, b] = [0, 1, 2].filter((other) => other !== axis) as [number, number]
        for (let i = from[a]!; i < to[a]!; i++)
          for (let j = from[b]!; j < to[b]!; j++)
            fillLine(data, base + i * strides[a]! + j * strides[b]!, strides[axis]!, [first, last, n], statistic)
      }
      from[axis] = 0
      to[axis] = n
    }
  }
}

function fillLine(
  data: Float32Array,
  start: number,
  stride: number,
  [first, last, n]: readonly [number, number, number],
  statistic: PadStatistic,
): void {
  const at = (i: number) => start + i * stride
  if (statistic === 'linear_ramp') {
    const [left, right] = [data[at(first)]!, data[at(last - 1)]!]
    for (let i = 0; i < first; i++) data[at(i)] = (left * i) / first
    for (let i = last; i < n; i++) data[at(i)] = (right * (n - 1 - i)) / (n - last)
    return
  }
  const inside = Float32Array.from({ length: last - first }, (_, i) => data[at(first + i)]!)
  const value = statisticOf(inside, statistic)
  for (let i = 0; i < first; i++) data[at(i)] = value
  for (let i = last; i < n; i++) data[at(i)] = value
}

function statisticOf(values: Float32Array, statistic: Exclude<PadStatistic, 'linear_ramp'>): number {
  switch (statistic) {
    case 'minimum':
      return values.reduce((least, value) => Math.min(least, value), Infinity)
    case 'maximum':
      return values.reduce((most, value) => Math.max(most, value), -Infinity)
    case 'mean':
      return values.reduce((sum, value) => sum + value, 0) / values.length
    case 'median': {
      const sorted = values.toSorted()
      const middle = sorted.length >> 1
      return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
    }
  }
}
