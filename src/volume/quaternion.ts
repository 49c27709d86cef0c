/**
 * Rotations as NIfTI's qform stores them, the rotation hidden in an affine, and the border between LPS+ and RAS+.
 * Matrices are row-major Float64Arrays: 4x4 affines and 3x3 linear parts.
 */
import { invert3, linearPart, transpose3 } from './affine.js'

/** Determinant of a 3x3: negative when the axes are left-handed. */
export function determinant3(m: Float64Array): number {
  return (
    m[0]! * (m[4]! * m[8]! - m[5]! * m[7]!) -
    m[1]! * (m[3]! * m[8]! - m[5]! * m[6]!) +
    m[2]! * (m[3]! * m[7]! - m[4]! * m[6]!)
  )
}

/** A voxel's edge in mm is far from both; products of edges beyond them overflow, or vanish. */
const EDGE_MM = [1e-9, 1e9] as const

/** Volume of the box that three unit axes span, below which they lie in one plane but for rounding. */
const FLAT = 1e-9

/**
 * Whether an affine places every voxel somewhere of its own: finite, its three columns of a length that a voxel can have,
 * and not in one plane.
 */
export function isInvertible(affine: Float64Array): boolean {
  if (!affine.every(Number.isFinite)) return false
  const edges = [0, 1, 2].map((c) => Math.hypot(affine[c]!, affine[4 + c]!, affine[8 + c]!))
  if (edges.some((edge) => edge < EDGE_MM[0] || edge > EDGE_MM[1])) return false
  const directions = linearPart(affine).map((value, i) => value / edges[i % 3]!)
  return Math.abs(determinant3(directions)) > FLAT
}

/** LPS+ to RAS+ or back (the same act): the first two rows change sign. A new affine, without -0. */
export function flipLpsRas(affine: Float64Array): Float64Array {
  return affine.map((value, i) => (i < 8 && value !== 0 ? -value : value))
}

/**
 * The orthogonal 3x3 nearest to an affine's axes (polar decomposition of its unit columns by Higham's Newton
 * iteration, 1986); its determinant has the affine's sign. Throws RangeError when the affine is singular.
 */
export function nearestRotation(affine: Float64Array): Float64Array {
  const linear = linearPart(affine)
  invert3(linear)
  let x = linear.map((value, i) => value / Math.hypot(linear[i % 3]!, linear[3 + (i % 3)]!, linear[6 + (i % 3)]!))
  for (let step = 0; step < 50; step++) {
    const inverse = transpose3(invert3(x, 0))
    const next = x.map((value, i) => (value + inverse[i]!) / 2)
    const change = next.reduce((most, value, i) => Math.max(most, Math.abs(value - x[i]!)), 0)
    x = next
    if (change < 1e-15) break
  }
  return x
}

/**
 * The rotation of the unit quaternion whose b, c, d a NIfTI header stores. a is what is missing to length 1; where
 * rounding left b, c, d a hair over 1 (half turns), a is 0 and the rest is normalised. Method and threshold:
 * nibabel.quaternions.fillpositive and quat2mat, except that nibabel refuses what is far over 1.
 */
export function rotationFromQuaternion(b: number, c: number, d: number, threshold: number): Float64Array {
  const rest = 1 - (b * b + c * c + d * d)
  const a = rest < threshold ? 0 : Math.sqrt(rest)
  const norm = a * a + b * b + c * c + d * d
  if (norm < 2 ** -52) return Float64Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1)
  const s = 2 / norm
  const [B, C, D] = [b * s, c * s, d * s]
  const [aB, aC, aD] = [a * B, a * C, a * D]
  const [bB, bC, bD] = [b * B, b * C, b * D]
  const [cC, cD, dD] = [c * C, c * D, d * D]
  return Float64Array.of(
    1 - (cC + dD),
    bC - aD,
    bD + aC,
    bC + aD,
    1 - (bB + dD),
    cD - aB,
    bD - aC,
    cD + aB,
    1 - (bB + cC),
  )
}

/** b, c, d of the unit quaternion (a >= 0) of a proper rotation. Method: Shepperd 1978. */
export function quaternionOfRotation(r: Float64Array): [number, number, number] {
  const [xx, xy, xz, yx, yy, yz, zx, zy, zz] = Array.from(r) as [
    ...[number, number, number],
    ...[number, number, number],
    ...[number, number, number],
  ]
  const trace = xx + yy + zz
  let [a, b, c, d] = [1 + trace, zy - yz, xz - zx, yx - xy]
  if (trace < xx || trace < yy || trace < zz) {
    if (xx >= yy && xx >= zz) [a, b, c, d] = [zy - yz, 1 + xx - yy - zz, yx + xy, xz + zx]
    else if (yy >= zz) [a, b, c, d] = [xz - zx, yx + xy, 1 + yy - xx - zz, zy + yz]
    else [a, b, c, d] = [yx - xy, xz + zx, zy + yz, 1 + zz - xx - yy]
  }
  const scale = (a < 0 ? -1 : 1) / Math.hypot(a, b, c, d)
  return [b * scale, c * scale, d * scale]
}
