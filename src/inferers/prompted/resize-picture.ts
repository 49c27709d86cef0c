/** Resizing pictures along each axis, each in the manner of the library that a network was trained with. Rows and columns are counted from the top left. */
import { resizeCubic } from '../../volume/cubic.js'

/** Target pixel i is the sum of `weight[k]` x source pixel `first[i] + k - start[i]` over k from `start[i]` to before `start[i + 1]`. */
export interface LineWeights {
  readonly source: number
  readonly start: Int32Array
  readonly first: Int32Array
  readonly weight: Float64Array
}

type Row = readonly [first: number, weights: readonly number[]]

function lineOf(source: number, rows: readonly Row[]): LineWeights {
  const start = new Int32Array(rows.length + 1)
  for (const [i, [, weights]] of rows.entries()) start[i + 1] = start[i]! + weights.length
  return {
    source,
    start,
    first: Int32Array.from(rows, ([first]) => first),
    weight: Float64Array.from(rows.flatMap(([, weights]) => weights)),
  }
}

const rowsOf = (count: number, row: (i: number) => Row): Row[] => Array.from({ length: count }, (_, i) => row(i))

/** Linear between pixels, whose field of view is kept: torch's `bilinear` without `align_corners`. Nothing is averaged where it shrinks. */
export function linear(source: number, target: number): LineWeights {
  return lineOf(
    source,
    rowsOf(target, (i) => {
      const at = Math.max(0, ((i + 0.5) * source) / target - 0.5)
      const low = Math.min(Math.floor(at), source - 1)
      const share = at - low
      return low === source - 1 ? [low, [1]] : [low, [1 - share, share]]
    }),
  )
}

/** Pillow's BILINEAR, and torchvision's with `antialias`: a triangle that grows with the step where the picture shrinks. */
export function triangle(source: number, target: number): LineWeights {
  const scale = source / target
  const reach = Math.max(scale, 1)
  return lineOf(
    source,
    rowsOf(target, (i) => {
      const centre = (i + 0.5) * scale
      const low = Math.max(0, Math.trunc(centre - reach + 0.5))
      const high = Math.min(source, Math.trunc(centre + reach + 0.5))
      const weights = Array.from({ length: high - low }, (_, k) =>
        Math.max(0, 1 - Math.abs((low + k - centre + 0.5) / reach)),
      )
      const sum = weights.reduce((total, weight) => total + weight, 0)
      return [low, weights.map((weight) => weight / sum)]
    }),
  )
}

/** OpenCV's INTER_AREA: the mean of what a pixel covers where the picture shrinks, else linear within each source pixel's last part. */
export function area(source: number, target: number): LineWeights {
  const scale = source / target
  return lineOf(
    source,
    rowsOf(target, (i) => {
      if (scale < 1) {
        const low = Math.min(Math.floor(i * scale), source - 1)
        const past = i + 1 - (low + 1) / scale
        const share = past <= 0 ? 0 : past - Math.floor(past)
        return low === source - 1 ? [low, [1]] : [low, [1 - share, share]]
      }
      const [from, to] = [i * scale, (i + 1) * scale]
      const low = Math.floor(from + 1e-9)
      const high = Math.min(source, Math.ceil(to - 1e-9))
      const weights = Array.from({ length: high - low }, (_, k) => {
        return Math.min(low + k + 1, to) - Math.max(low + k, from)
      })
      const sum = weights.reduce((total, weight) => total + weight, 0)
      return [low, weights.map((weight) => weight / sum)]
    }),
  )
}

/** `first`, of whose pixels the first `kept` are resized by `second`, as one. */
export function inOne(first: LineWeights, second: LineWeights): LineWeights {
  return lineOf(
    first.source,
    rowsOf(second.first.length, (i) => {
      const sums = new Map<number, number>()
      for (let k = second.start[i]!; k < second.start[i + 1]!; k++) {
        const middle = second.first[i]! + k - second.start[i]!
        for (let j = first.start[middle]!; j < first.start[middle + 1]!; j++) {
          const at = first.first[middle]! + j - first.start[middle]!
          sums.set(at, (sums.get(at) ?? 0) + first.weight[j]! * second.weight[k]!)
        }
      }
      const low = Math.min(...sums.keys())
      const high = Math.max(...sums.keys())
      return [low, Array.from({ length: high - low + 1 }, (_, k) => sums.get(low + k) ?? 0)]
    }),
  )
}

/** One plane of `columns.source` by `rows.source` pixels, resized; `rounds`: to whole numbers of 8 bits after each axis. */
export function resizePlane(
  plane: ArrayLike<number>,
  columns: LineWeights,
  rows: LineWeights,
  rounds = false,
): Float32Array {
  const [from, to] = [columns.source, columns.first.length]
  const wide = new Float32Array(to * rows.source)
  for (let y = 0; y < rows.source; y++) {
    for (let x = 0; x < to; x++) {
      const low = y * from + columns.first[x]! - columns.start[x]!
      let sum = 0
      for (let k = columns.start[x]!; k < columns.start[x + 1]!; k++) sum += plane[low + k]! * columns.weight[k]!
      wide[y * to + x] = sum
    }
  }
  if (rounds) toWhole(wide)
  const out = new Float32Array(to * rows.first.length)
  for (let y = 0; y < rows.first.length; y++) {
    const row = y * to
    for (let k = rows.start[y]!; k < rows.start[y + 1]!; k++) {
      const weight = rows.weight[k]!
      const source = (rows.first[y]! + k - rows.start[y]!) * to
      for (let x = 0; x < to; x++) out[row + x]! += wide[source + x]! * weight
    }
  }
  if (rounds) toWhole(out)
  return out
}

/** scikit-image's `resize` of order 3 where both axes grow or stay; the values stay within the plane's own. */
export function growCubic(
  plane: ArrayLike<number>,
  width: number,
  height: number,
  to: readonly [number, number],
): Float32Array {
  const data = Float32Array.from(plane)
  let [low, high] = [Infinity, -Infinity]
  for (let i = 0; i < data.length; i++) {
    low = Math.min(low, data[i]!)
    high = Math.max(high, data[i]!)
  }
  const wide = to[1] === width ? data : resizeCubic(data, [width, height, 1], 0, to[1])
  const out = to[0] === height ? wide : resizeCubic(wide, [to[1], height, 1], 1, to[0])
  return out.map((value) => Math.trunc(Math.min(Math.max(value, low), high)))
}

function toWhole(values: Float32Array): void {
  for (let i = 0; i < values.length; i++) values[i] = Math.min(255, Math.max(0, Math.floor(values[i]! + 0.5)))
}
