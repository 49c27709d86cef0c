/** Clicks as an image: a Gaussian blob at each point, the way MONAI's GaussianFilter blurs a volume of single ones. */
import type { Vec3 } from '../volume/volume.js'

const TRUNCATED_AT_SIGMAS = 4

/**
 * MONAI's `gaussian_1d(sigma, truncated=4, approx="erf")`: the integral of a Gaussian over each voxel, `2*tail + 1` long,
 * not normalised.
 */
export function erfKernel(sigma: number, truncated = TRUNCATED_AT_SIGMAS): Float64Array {
  const tail = Math.trunc(Math.max(sigma * truncated, 0.5) + 0.5)
  const kernel = new Float64Array(2 * tail + 1)
  const t = Math.SQRT1_2 / Math.abs(sigma)
  for (let i = -tail; i <= tail; i++) {
    kernel[i + tail] = Math.max(0, 0.5 * (erf(t * (i + 0.5)) - erf(t * (i - 0.5))))
  }
  return kernel
}

/** Abramowitz and Stegun 7.1.5 near zero (its power series), a continued fraction beyond: about 1e-15 everywhere. */
function erf(x: number): number {
  const a = Math.abs(x)
  if (a > 6) return Math.sign(x)
  if (a < 2.5) {
    let term = a
    let sum = a
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= -(a * a) / n
      sum += term / (2 * n + 1)
      if (n > 200) break
    }
    return Math.sign(x) * sum * (2 / Math.sqrt(Math.PI))
  }
  let fraction = 0
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction)
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction))
}

/**
 * Writes one channel of `size` (x fastest) at `offset` of `target`: 1 at each point, blurred by `sigma` voxels, then
 * scaled so that the least value becomes `low` and the greatest `high`. Axes of length 1 are not blurred along, as in a
 * 2-D image. Points outside are moved onto the nearest voxel, those with a negative coordinate are left out (MONAI's
 * AddGuidanceSignald). With no point the channel is all `empty`.
 *
 * Blurring a few ones is adding a few separable blobs, so the cost does not depend on the size of the grid.
 */
export function writePointSignal(
  target: Float32Array,
  offset: number,
  size: Vec3,
  points: readonly Vec3[],
  { sigma, low, high, empty }: { sigma: number; low: number; high: number; empty: number },
): void {
  const [nx, ny, nz] = size
  const voxels = nx * ny * nz
  const ones = new Set<number>()
  for (const [px, py, pz] of points) {
    if (px < 0 || py < 0 || pz < 0) continue
    ones.add(Math.min(px, nx - 1) + nx * (Math.min(py, ny - 1) + ny * Math.min(pz, nz - 1)))
  }
  if (ones.size === 0) {
    target.fill(empty, offset, offset + voxels)
    return
  }
  const kernel = erfKernel(sigma)
  const flat = Float64Array.of(1)
  const kernels = size.map((n) => (n === 1 ? flat : kernel))
  const [kx, ky, kz] = kernels as [Float64Array, Float64Array, Float64Array]
  const [tx, ty, tz] = kernels.map(({ length }) => (length - 1) / 2) as unknown as Vec3
  const blobs = [...ones].map((one) => {
    const [x, y, z] = [one % nx, Math.trunc(one / nx) % ny, Math.trunc(one / (nx * ny))] as const
    const low: Vec3 = [Math.max(0, x - tx), Math.max(0, y - ty), Math.max(0, z - tz)]
    const high: Vec3 = [Math.min(nx - 1, x + tx), Math.min(ny - 1, y + ty), Math.min(nz - 1, z + tz)]
    return { center: [x, y, z] as const, low, high }
  })
  const box: Box = {
    low: [0, 1, 2].map((axis) => Math.min(...blobs.map(({ low: start }) => start[axis]!))) as unknown as Vec3,
    high: [0, 1, 2].map((axis) => Math.max(...blobs.map(({ high: end }) => end[axis]!))) as unknown as Vec3,
  }
  target.fill(low, offset, offset + voxels)
  forEachRow(size, box, (start, end) => target.fill(0, offset + start, offset + end))
  for (const { center, low: first, high: last } of blobs) {
    for (let k = first[2]; k <= last[2]; k++) {
      for (let j = first[1]; j <= last[1]; j++) {
        const weight = kz[k - center[2] + tz]! * ky[j - center[1] + ty]!
        const row = offset + nx * (j + ny * k)
        for (let i = first[0]; i <= last[0]; i++) target[row + i]! += weight * kx[i - center[0] + tx]!
      }
    }
  }
  rescaleBox(target, offset, size, box, low, high)
}

/** Both ends inside. */
interface Box {
  readonly low: Vec3
  readonly high: Vec3
}

function forEachRow([nx, ny]: Vec3, { low, high }: Box, visit: (start: number, end: number) => void): void {
  for (let z = low[2]; z <= high[2]; z++)
    for (let y = low[1]; y <= high[1]; y++) {
      const row = nx * (y + ny * z)
      visit(row + low[0], row + high[0] + 1)
    }
}

/** Scales the box of the blobs. Where there is a voxel beyond it, the least value there is, is zero. */
function rescaleBox(target: Float32Array, offset: number, size: Vec3, box: Box, low: number, high: number): void {
  const whole = size.every((n, axis) => box.low[axis] === 0 && box.high[axis] === n - 1)
  let least = whole ? Number.POSITIVE_INFINITY : 0
  let greatest = Number.NEGATIVE_INFINITY
  forEachRow(size, box, (start, end) => {
    for (let i = offset + start; i < offset + end; i++) {
      const value = target[i]!
      if (value < least) least = value
      if (value > greatest) greatest = value
    }
  })
  const gain = greatest === least ? 0 : (high - low) / (greatest - least)
  // All alike (a blob on a single voxel): every one of them is the peak.
  const base = gain === 0 ? high : low
  forEachRow(size, box, (start, end) => {
    for (let i = offset + start; i < offset + end; i++) target[i] = (target[i]! - least) * gain + base
  })
}
