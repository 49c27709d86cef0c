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

/**
 * Percentiles (0..100) as numpy's default: linear between the two nearest ranks. Whole numbers of 16 bits, as scanners
 * store them, are counted one by one; other values through the upper half of their bits.
 */
export function percentiles(values: Float32Array, wanted: readonly number[]): number[] {
  const at = wholeAtRank(values) ?? floatAtRank(values)
  return wanted.map((percent) => {
    const rank = (percent / 100) * (values.length - 1)
    const low = Math.floor(rank)
    const a = at(low)
    return rank === low ? a : a + (at(low + 1) - a) * (rank - low)
  })
}

/** From the least int16 to the greatest uint16. */
const LEAST_WHOLE = -(1 << 15)
const WHOLES = (1 << 15) + (1 << 16)

/** The value of a rank among whole numbers of 16 bits; undefined when any value is none. */
function wholeAtRank(values: Float32Array): ((rank: number) => number) | undefined {
  const counts = new Uint32Array(WHOLES)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    const bin = (value | 0) - LEAST_WHOLE
    if ((value | 0) !== value || bin < 0 || bin >= WHOLES) return undefined
    counts[bin]!++
  }
  return (rank) => {
    let bin = 0
    let before = 0
    while (before + counts[bin]! <= rank) before += counts[bin++]!
    return bin + LEAST_WHOLE
  }
}

const BINS = 1 << 16

/** A histogram over the upper half of each value's bits finds the bin of a rank, and only that bin is sorted. */
function floatAtRank(values: Float32Array): (rank: number) => number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const counts = new Uint32Array(BINS)
  for (let i = 0; i < bits.length; i++) counts[orderedBits(bits[i]!) >>> 16]!++
  const sorted = new Map<number, Float32Array>()
  return (rank) => {
    let bin = 0
    let before = 0
    while (before + counts[bin]! <= rank) before += counts[bin++]!
    let members = sorted.get(bin)
    if (!members) {
      members = new Float32Array(counts[bin]!)
      let n = 0
      for (let i = 0; i < bits.length; i++) if (orderedBits(bits[i]!) >>> 16 === bin) members[n++] = values[i]!
      // The background of an image is one value many times over, and sorted as it is.
      if (members.some((value) => value !== members![0])) members.sort()
      sorted.set(bin, members)
    }
    return members[rank - before]!
  }
}

/** The bits of a float32 as an unsigned number that sorts as the floats do. */
function orderedBits(bits: number): number {
  return (bits & 0x80000000 ? ~bits : bits | 0x80000000) >>> 0
}
