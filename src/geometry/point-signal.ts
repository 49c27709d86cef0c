/** Clicks as an image: a Gaussian blob at each point, the way MONAI's GaussianFilter blurs a volume of single ones. */
import type { Vec3 } from '../volume/volume.js'

const TRUNCATED_AT_SIGMAS = 4

/**
 * MONAI's `gaussian_1d(sigma, truncated=4, approx="erf")`: the integral of a Gaussian over each voxel, `2*tail + 1` long,
 * not normalised.
 */
export function erfKernel(sigma: number): Float64Array {
  const tail = Math.trunc(Math.max(sigma * TRUNCATED_AT_SIGMAS, 0.5) + 0.5)
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
  target.fill(0, offset, offset + voxels)
  const kernel = erfKernel(sigma)
  const flat = Float64Array.of(1)
  const kx = nx === 1 ? flat : kernel
  const ky = ny === 1 ? flat : kernel
  const kz = nz === 1 ? flat : kernel
  const tx = (kx.length - 1) / 2
  const ty = (ky.length - 1) / 2
  const tz = (kz.length - 1) / 2
  for (const one of ones) {
    const x = one % nx
    const y = Math.trunc(one / nx) % ny
    const z = Math.trunc(one / (nx * ny))
    for (let k = Math.max(0, z - tz); k <= Math.min(nz - 1, z + tz); k++) {
      for (let j = Math.max(0, y - ty); j <= Math.min(ny - 1, y + ty); j++) {
        const weight = kz[k - z + tz]! * ky[j - y + ty]!
        const row = offset + nx * (j + ny * k)
        const end = Math.min(nx - 1, x + tx)
        for (let i = Math.max(0, x - tx); i <= end; i++) target[row + i]! += weight * kx[i - x + tx]!
      }
    }
  }
  rescale(target, offset, voxels, low, high)
}

function rescale(target: Float32Array, offset: number, voxels: number, low: number, high: number): void {
  let least = Number.POSITIVE_INFINITY
  let greatest = Number.NEGATIVE_INFINITY
  for (let i = offset; i < offset + voxels; i++) {
    const value = target[i]!
    if (value < least) least = value
    if (value > greatest) greatest = value
  }
  if (greatest === least) {
    target.fill(high, offset, offset + voxels)
    return
  }
  const gain = (high - low) / (greatest - least)
  for (let i = offset; i < offset + voxels; i++) target[i] = (target[i]! - least) * gain + low
}
