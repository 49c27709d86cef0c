/**
 * Where the windows of a scan lie and how much each of their voxels counts: exactly as MONAI's sliding_window_inference,
 * or, with even steps and nnunetWeights, as nnU-Net's predictor.
 */
import { float32FromHalf, halfFromFloat32 } from '../util/float16.js'
import { roundHalfEven } from '../volume/affine.js'
import type { Vec3 } from '../volume/volume.js'

export interface WindowPlan {
  /** Window size; zero or less in the wish means the whole axis. */
  readonly roi: Vec3
  /** Size after padding up to the window. */
  readonly padded: Vec3
  /** Padding before the first voxel of each axis. */
  readonly before: Vec3
  /** Start of each window in the padded image, the first axis slowest. */
  readonly starts: readonly Vec3[]
}

/** `overlap` in 0..1 of the window, one number for all axes or one each; `even` spreads the windows over the whole axis. */
export function planWindows(size: Vec3, wish: readonly number[], overlap: number | Vec3, even = false): WindowPlan {
  const roi = size.map((n, axis) => ((wish[axis] ?? 0) > 0 ? wish[axis]! : n)) as unknown as Vec3
  const padded = size.map((n, axis) => Math.max(n, roi[axis]!)) as unknown as Vec3
  const before = size.map((n, axis) => (padded[axis]! - n) >> 1) as unknown as Vec3
  const perAxis = size.map((_, axis) => {
    const share = typeof overlap === 'number' ? overlap : overlap[axis]!
    return (even ? evenStarts : axisStarts)(padded[axis]!, roi[axis]!, share)
  })
  const starts: Vec3[] = []
  for (const a of perAxis[0]!) for (const b of perAxis[1]!) for (const c of perAxis[2]!) starts.push([a, b, c])
  return { roi, padded, before, starts }
}

function axisStarts(size: number, roi: number, overlap: number): number[] {
  const interval = roi === size ? roi : Math.max(1, Math.trunc(roi * (1 - overlap)))
  const starts: number[] = []
  for (let start = 0; ; start += interval) {
    starts.push(Math.min(start, size - roi))
    if (start + roi >= size) return starts
  }
}

/** As many windows as such an overlap needs at least, equally far apart from the first voxel to the last. */
function evenStarts(size: number, roi: number, overlap: number): number[] {
  const most = Math.max(1, roi * (1 - overlap))
  const count = Math.ceil((size - roi) / most) + 1
  const step = count > 1 ? (size - roi) / (count - 1) : 0
  return Array.from({ length: count }, (_, i) => roundHalfEven(step * i))
}

/**
 * nnU-Net's importance map: a Gaussian of sigma = 1/8 of the window around voxel floor(n / 2), 10 at its peak, in half
 * precision, where what is nothing becomes the least that is something.
 */
export function nnunetWeights(roi: Vec3): Float32Array {
  const axes = roi.map((n) =>
    Float64Array.from({ length: n }, (_, i) => Math.exp(-(((i - Math.floor(n / 2)) / (n / 8)) ** 2) / 2)),
  )
  const weights = new Float32Array(roi[0] * roi[1] * roi[2])
  let at = 0
  for (let i = 0; i < roi[0]; i++)
    for (let j = 0; j < roi[1]; j++)
      for (let k = 0; k < roi[2]; k++) weights[at++] = 10 * axes[0]![i]! * axes[1]![j]! * axes[2]![k]!
  const half = float32FromHalf(halfFromFloat32(weights))
  let least = Infinity
  for (let i = 0; i < half.length; i++) if (half[i]! > 0 && half[i]! < least) least = half[i]!
  return half.map((weight) => weight || least)
}

/**
 * MONAI's importance map: a Gaussian of sigma = `sigmaScale` of the window along each axis, never below the larger of its
 * least value and 0.001.
 */
export function gaussianWeights(roi: Vec3, sigmaScale: Vec3 = [0.125, 0.125, 0.125]): Float32Array {
  const axes = roi.map((n, axis) =>
    Float32Array.from({ length: n }, (_, i) => {
      const x = i - (n - 1) / 2
      const sigma = n * sigmaScale[axis]!
      return Math.exp(-(x * x) / (2 * sigma * sigma))
    }),
  )
  const weights = new Float32Array(roi[0] * roi[1] * roi[2])
  let n = 0
  let least = Infinity
  for (let i = 0; i < roi[0]; i++) {
    for (let j = 0; j < roi[1]; j++) {
      const ij = Math.fround(axes[0]![i]! * axes[1]![j]!)
      for (let k = 0; k < roi[2]; k++) {
        const weight = Math.fround(ij * axes[2]![k]!)
        weights[n++] = weight
        if (weight < least) least = weight
      }
    }
  }
  const floor = Math.max(least, 1e-3)
  for (let i = 0; i < n; i++) if (weights[i]! < floor) weights[i] = floor
  return weights
}
