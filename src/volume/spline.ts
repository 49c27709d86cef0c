/**
 * Resampling with B-splines of order 2 to 5 through any affine: scipy's `ndimage.map_coordinates`, which MONAI takes where a
 * `mode` is a number. Values may go beyond those of the source, as splines do.
 * Source: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 16 (1999).
 */
import { type AffineSampling, isDiagonal } from './resample.js'
import { makeVolume, type Vec3, type Volume } from './volume.js'

export type SplineOrder = 2 | 3 | 4 | 5

const POLES: Readonly<Record<SplineOrder, readonly number[]>> = {
  2: [Math.sqrt(8) - 3],
  3: [Math.sqrt(3) - 2],
  4: [
    Math.sqrt(664 - Math.sqrt(438976)) + Math.sqrt(304) - 19,
    Math.sqrt(664 + Math.sqrt(438976)) - Math.sqrt(304) - 19,
  ],
  5: [
    Math.sqrt(67.5 - Math.sqrt(4436.25)) + Math.sqrt(26.25) - 6.5,
    Math.sqrt(67.5 + Math.sqrt(4436.25)) - Math.sqrt(26.25) - 6.5,
  ],
}

/** Voxels of the edge's own value beyond either edge, where the border is held; scipy's number. */
const PAD = 12

interface Coefficients {
  readonly data: Float32Array
  readonly size: Vec3
  readonly pad: number
}

/** One field of `source`, channel by channel, at the target voxels' places. float32 out. */
export function resampleSpline(
  source: Pick<Volume, 'size' | 'channels' | 'data'>,
  sampling: AffineSampling,
  order: SplineOrder,
): Volume<Float32Array> {
  const { size, affine, toSource } = sampling
  const voxels = size[0] * size[1] * size[2]
  const target = new Float32Array(voxels * source.channels)
  const straight = isDiagonal(source.size, size, toSource)
  for (let c = 0; c < source.channels; c++) {
    const coefficients = coefficientsOf(source, c, order, sampling.outside)
    const out = target.subarray(c * voxels, (c + 1) * voxels)
    if (straight) alongAxes(coefficients, sampling, order, out)
    else throughAffine(coefficients, sampling, order, out)
  }
  return makeVolume(size, affine, target, { channels: source.channels })
}

function coefficientsOf(
  { size, data }: Pick<Volume, 'size' | 'data'>,
  channel: number,
  order: SplineOrder,
  outside: AffineSampling['outside'],
): Coefficients {
  const pad = outside === 'border' ? PAD : 0
  const [nx, ny, nz] = size.map((n) => n + 2 * pad) as [number, number, number]
  const from = channel * size[0] * size[1] * size[2]
  const inside = (at: number, n: number) => Math.min(Math.max(at - pad, 0), n - 1)
  const padded = new Float32Array(nx * ny * nz)
  for (let z = 0; z < nz; z++)
    for (let y = 0; y < ny; y++) {
      const row = from + size[0] * (inside(y, size[1]) + size[1] * inside(z, size[2]))
      const to = nx * (y + ny * z)
      for (let x = 0; x < nx; x++) padded[to + x] = data[row + inside(x, size[0])]!
    }
  const made = [nx, ny, nz] as const
  for (const axis of [0, 1, 2] as const) prefilter(padded, made, axis, POLES[order], pad > 0)
  return { data: padded, size: made, pad }
}

/** From values to spline coefficients along one axis, in place: forward and backward through a filter for each pole. */
function prefilter(data: Float32Array, size: Vec3, axis: 0 | 1 | 2, poles: readonly number[], held: boolean): void {
  const n = size[axis]
  if (n < 2) return
  const stride = axis === 0 ? 1 : axis === 1 ? size[0] : size[0] * size[1]
  const line = new Float64Array(n)
  const gain = poles.reduce((product, pole) => product * (1 - pole) * (1 - 1 / pole), 1)
  for (let start = 0; start < data.length; start++) {
    if (Math.floor(start / stride) % n !== 0) {
      start += stride * (n - 1) - 1
      continue
    }
    for (let i = 0; i < n; i++) line[i] = data[start + i * stride]! * gain
    for (const pole of poles) {
      line[0] = held ? line[0]! / (1 - pole) : mirroredSum(line, pole)
      for (let i = 1; i < n; i++) line[i]! += pole * line[i - 1]!
      line[n - 1] = held
        ? (-pole / (1 - pole)) * line[n - 1]!
        : (pole / (pole * pole - 1)) * (line[n - 1]! + pole * line[n - 2]!)
      for (let i = n - 2; i >= 0; i--) line[i] = pole * (line[i + 1]! - line[i]!)
    }
    for (let i = 0; i < n; i++) data[start + i * stride] = line[i]!
  }
}

/** What the forward filter starts from where the line goes on as its own mirror image, the edge seen once. */
function mirroredSum(line: Float64Array, pole: number): number {
  const n = line.length
  let sum = line[0]! + pole ** (n - 1) * line[n - 1]!
  for (let i = 1; i < n - 1; i++) sum += (pole ** i + pole ** (2 * n - 2 - i)) * line[i]!
  return sum / (1 - pole ** (2 * n - 2))
}

const FACTORIALS = [1, 1, 2, 6, 24, 120]
const BINOMIALS: Readonly<Record<SplineOrder, readonly number[]>> = {
  2: [1, -3, 3, -1],
  3: [1, -4, 6, -4, 1],
  4: [1, -5, 10, -10, 5, -1],
  5: [1, -6, 15, -20, 15, -6, 1],
}

/** The B-spline of that order about zero. */
function basis(order: SplineOrder, x: number): number {
  let sum = 0
  for (const [j, binomial] of BINOMIALS[order].entries()) {
    const t = x + (order + 1) / 2 - j
    if (t > 0) sum += binomial * t ** order
  }
  return sum / FACTORIALS[order]!
}

/** Writes the taps of place `at` on an axis of `n` coefficients; false where the place is outside. */
function tapsAt(
  at: number,
  n: number,
  order: SplineOrder,
  held: boolean,
  index: Int32Array,
  weight: Float64Array,
  to: number,
): boolean {
  const place = held ? Math.min(Math.max(at, 0), n - 1) : at
  if (place < 0 || place > n - 1) return false
  const first = Math.floor(order % 2 === 1 ? place : place + 0.5) - (order >> 1)
  const period = Math.max(2 * (n - 1), 1)
  for (let k = 0; k <= order; k++) {
    const i = first + k
    const inside = ((i % period) + period) % period
    index[to + k] = inside < n ? inside : period - inside
    weight[to + k] = basis(order, place - i)
  }
  return true
}

function alongAxes(
  { data, size, pad }: Coefficients,
  { size: target, toSource, outside }: AffineSampling,
  order: SplineOrder,
  out: Float32Array,
): void {
  let current = data
  let shape: [number, number, number] = [size[0], size[1], size[2]]
  const taps = order + 1
  for (const axis of [0, 1, 2] as const) {
    const n = target[axis]
    const index = new Int32Array(n * taps)
    const weight = new Float64Array(n * taps)
    for (let i = 0; i < n; i++)
      tapsAt(
        toSource[axis * 4 + 3]! + i * toSource[axis * 5]! + pad,
        size[axis],
        order,
        outside === 'border',
        index,
        weight,
        i * taps,
      )
    const stride = axis === 0 ? 1 : axis === 1 ? shape[0] : shape[0] * shape[1]
    const blocks = current.length / (shape[axis] * stride)
    const made = axis === 2 ? out : new Float32Array(blocks * n * stride)
    for (let block = 0; block < blocks; block++) {
      for (let i = 0; i < n; i++) {
        const to = (block * n + i) * stride
        const from = block * shape[axis] * stride
        for (let j = 0; j < stride; j++) {
          let sum = 0
          for (let k = i * taps; k < (i + 1) * taps; k++) sum += weight[k]! * current[from + index[k]! * stride + j]!
          made[to + j] = sum
        }
      }
    }
    current = made
    shape = [axis === 0 ? n : shape[0], axis === 1 ? n : shape[1], axis === 2 ? n : shape[2]]
  }
}

function throughAffine(
  { data, size, pad }: Coefficients,
  { size: target, toSource: m, outside }: AffineSampling,
  order: SplineOrder,
  out: Float32Array,
): void {
  const taps = order + 1
  const index = [0, 1, 2].map(() => new Int32Array(taps)) as [Int32Array, Int32Array, Int32Array]
  const weight = [0, 1, 2].map(() => new Float64Array(taps)) as [Float64Array, Float64Array, Float64Array]
  const held = outside === 'border'
  let at = 0
  for (let z = 0; z < target[2]; z++)
    for (let y = 0; y < target[1]; y++)
      for (let x = 0; x < target[0]; x++, at++) {
        let inside = true
        for (const axis of [0, 1, 2] as const) {
          const row = axis * 4
          const place = m[row]! * x + m[row + 1]! * y + m[row + 2]! * z + m[row + 3]! + pad
          inside &&= tapsAt(place, size[axis], order, held, index[axis], weight[axis], 0)
        }
        if (inside) out[at] = weighed(data, size, index, weight)
      }
}

function weighed(
  data: Float32Array,
  [nx, ny]: Vec3,
  [ix, iy, iz]: readonly [Int32Array, Int32Array, Int32Array],
  [wx, wy, wz]: readonly [Float64Array, Float64Array, Float64Array],
): number {
  let sum = 0
  for (let c = 0; c < iz.length; c++)
    for (let b = 0; b < iy.length; b++) {
      const row = nx * (iy[b]! + ny * iz[c]!)
      let part = 0
      for (let a = 0; a < ix.length; a++) part += wx[a]! * data[row + ix[a]!]!
      sum += part * wy[b]! * wz[c]!
    }
  return sum
}
