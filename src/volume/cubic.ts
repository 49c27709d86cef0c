/**
 * Resizing along one axis with cubic B-splines, the field of view kept: scipy's `ndimage.zoom` of order 3 in grid mode with
 * mode `nearest`, which scikit-image's `resize` and so nnU-Net use. Nothing is smoothed before an axis is made shorter.
 * Source: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 16 (1999).
 */
import type { Vec3 } from './volume.js'

const POLE = Math.sqrt(3) - 2
/** Beyond either edge lie this many voxels of the edge's own value; further ones would change nothing (pole^12 is 1e-7). */
const PAD = 12
/** Lines that run side by side in memory are filtered together, as many as stay in the first cache. */
const MOST_LINES = 64

/**
 * `data` (x fastest, one channel of `size` voxels) with `target` voxels along `axis`. Values may go beyond those of the
 * source, as splines do.
 */
export function resizeCubic(data: Float32Array, size: Vec3, axis: 0 | 1 | 2, target: number): Float32Array {
  const n = size[axis]
  const stride = axis === 0 ? 1 : axis === 1 ? size[0] : size[0] * size[1]
  const blocks = data.length / (n * stride)
  const out = new Float32Array(blocks * target * stride)
  const most = Math.min(stride, MOST_LINES)
  const spline = new Float64Array((n + 2 * PAD) * most)
  const taps = tapsOf(n, target)
  for (let block = 0; block < blocks; block++) {
    for (let first = 0; first < stride; first += most) {
      const lines = Math.min(most, stride - first)
      load(data, block * n * stride + first, stride, spline, n, lines)
      prefilter(spline, n + 2 * PAD, lines)
      evaluate(spline, taps, lines, out, block * target * stride + first, stride)
    }
  }
  return out
}

/** Per target voxel the first of its four spline coefficients and their weights. */
interface Taps {
  readonly first: Int32Array
  readonly weights: Float64Array
}

function tapsOf(n: number, target: number): Taps {
  const first = new Int32Array(target)
  const weights = new Float64Array(4 * target)
  for (let i = 0; i < target; i++) {
    const at = ((i + 0.5) * n) / target - 0.5 + PAD
    const low = Math.floor(at)
    const t = at - low
    const s = 1 - t
    first[i] = low - 1
    weights[4 * i] = (s * s * s) / 6
    weights[4 * i + 1] = (t * t * (t - 2) * 3 + 4) / 6
    weights[4 * i + 2] = (s * s * (s - 2) * 3 + 4) / 6
    weights[4 * i + 3] = (t * t * t) / 6
  }
  return { first, weights }
}

/** `lines` lines side by side, the edge voxels repeated before and after. */
function load(data: Float32Array, from: number, stride: number, spline: Float64Array, n: number, lines: number): void {
  for (let i = 0; i < n + 2 * PAD; i++) {
    const source = from + Math.min(Math.max(i - PAD, 0), n - 1) * stride
    for (let j = 0; j < lines; j++) spline[i * lines + j] = data[source + j]!
  }
}

/** From values to spline coefficients, in place: forward and backward through a filter with one pole. */
function prefilter(spline: Float64Array, n: number, lines: number): void {
  const steady = 6 / (1 - POLE)
  for (let j = 0; j < lines; j++) spline[j]! *= steady
  for (let i = lines; i < n * lines; i++) spline[i] = 6 * spline[i]! + POLE * spline[i - lines]!
  const last = (n - 1) * lines
  for (let j = 0; j < lines; j++) spline[last + j]! *= -POLE / (1 - POLE)
  for (let i = last - 1; i >= 0; i--) spline[i] = POLE * (spline[i + lines]! - spline[i]!)
}

function evaluate(
  spline: Float64Array,
  { first, weights }: Taps,
  lines: number,
  out: Float32Array,
  to: number,
  stride: number,
): void {
  for (let i = 0; i < first.length; i++) {
    const a = first[i]! * lines
    const [wa, wb, wc, wd] = [weights[4 * i]!, weights[4 * i + 1]!, weights[4 * i + 2]!, weights[4 * i + 3]!]
    const row = to + i * stride
    for (let j = 0; j < lines; j++) {
      const at = a + j
      out[row + j] =
        wa * spline[at]! + wb * spline[at + lines]! + wc * spline[at + 2 * lines]! + wd * spline[at + 3 * lines]!
    }
  }
}
