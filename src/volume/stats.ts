/** Numbers about voxels: extremes, moments, percentiles. One or two flat passes each. */

/** Ignores NaN; [0, 0] when there is nothing else. */
export function extremes(data: Float32Array): { min: number; max: number } {
  let min = Infinity
  let max = -Infinity
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!
    if (value < min) min = value
    if (value > max) max = value
  }
  return min <= max ? { min, max } : { min: 0, max: 0 }
}

/** Mean and population standard deviation, of the non-zero voxels only when `nonzero`; `count` is how many. */
export function moments(data: Float32Array, nonzero: boolean): { mean: number; std: number; count: number } {
  let sum = 0
  let zeros = 0
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!
    sum += value
    if (value === 0) zeros++
  }
  const count = nonzero ? data.length - zeros : data.length
  if (count === 0) return { mean: 0, std: 0, count }
  const mean = sum / count
  let squares = 0
  for (let i = 0; i < data.length; i++) {
    const off = data[i]! - mean
    squares += off * off
  }
  // the zeros were counted as mean squared each
  const variance = (squares - (nonzero ? zeros * mean * mean : 0)) / count
  return { mean, std: Math.sqrt(Math.max(0, variance)), count }
}

const BINS = 1 << 16

/**
 * Percentiles (0..100) as numpy's default: linear between the two nearest ranks. A histogram over the upper half of each
 * value's bits finds the bin of a rank, and only that bin is sorted.
 */
export function percentiles(values: Float32Array, wanted: readonly number[]): number[] {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const counts = new Uint32Array(BINS)
  for (let i = 0; i < bits.length; i++) counts[orderedBits(bits[i]!) >>> 16]!++
  const ranks = wanted.map((percent) => (percent / 100) * (values.length - 1))
  const sorted = new Map<number, Float32Array>()
  const at = (rank: number): number => {
    let bin = 0
    let before = 0
    while (before + counts[bin]! <= rank) before += counts[bin++]!
    let members = sorted.get(bin)
    if (!members) {
      members = new Float32Array(counts[bin]!)
      let n = 0
      for (let i = 0; i < bits.length; i++) if (orderedBits(bits[i]!) >>> 16 === bin) members[n++] = values[i]!
      sorted.set(bin, members.sort())
    }
    return members[rank - before]!
  }
  return ranks.map((rank) => {
    const low = Math.floor(rank)
    const a = at(low)
    return rank === low ? a : a + (at(low + 1) - a) * (rank - low)
  })
}

/** The bits of a float32 as an unsigned number that sorts as the floats do. */
function orderedBits(bits: number): number {
  return (bits & 0x80000000 ? ~bits : bits | 0x80000000) >>> 0
}
