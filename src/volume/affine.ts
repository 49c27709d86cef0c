/** 4x4 matrices, row-major, as `Volume.affine` holds them: index <-> world maths and nothing else. */
import type { Grid, Vec3 } from './volume.js'

export function identity4(): Float64Array {
  return Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
}

/** a times b. */
export function multiply4(a: Float64Array, b: Float64Array): Float64Array {
  const out = new Float64Array(16)
  for (let row = 0; row < 4; row++) {
    for (let column = 0; column < 4; column++) {
      let sum = 0
      for (let k = 0; k < 4; k++) sum += a[row * 4 + k]! * b[k * 4 + column]!
      out[row * 4 + column] = sum
    }
  }
  return out
}

/** The inverse of an affine (last row 0 0 0 1). Throws RangeError when its three columns lie in a plane. */
export function invertAffine(m: Float64Array): Float64Array {
  const linear = invert3(linearPart(m))
  const out = identity4()
  for (let row = 0; row < 3; row++) {
    let shift = 0
    for (let column = 0; column < 3; column++) {
      out[row * 4 + column] = linear[row * 3 + column]!
      shift -= linear[row * 3 + column]! * m[column * 4 + 3]!
    }
    out[row * 4 + 3] = shift
  }
  return out
}

export function transformPoint(m: Float64Array, [x, y, z]: Vec3): [number, number, number] {
  return [
    m[0]! * x + m[1]! * y + m[2]! * z + m[3]!,
    m[4]! * x + m[5]! * y + m[6]! * z + m[7]!,
    m[8]! * x + m[9]! * y + m[10]! * z + m[11]!,
  ]
}

/** The upper left 3x3, row-major. */
export function linearPart(m: Float64Array): Float64Array {
  return Float64Array.of(m[0]!, m[1]!, m[2]!, m[4]!, m[5]!, m[6]!, m[8]!, m[9]!, m[10]!)
}

/** An affine from a 3x3 linear part and the world position of voxel 0, 0, 0. */
export function affineFrom(linear: Float64Array, origin: Vec3): Float64Array {
  const l = linear
  return Float64Array.of(
    ...[l[0]!, l[1]!, l[2]!, origin[0]],
    ...[l[3]!, l[4]!, l[5]!, origin[1]],
    ...[l[6]!, l[7]!, l[8]!, origin[2]],
    ...[0, 0, 0, 1],
  )
}

export function multiply3(a: Float64Array, b: Float64Array): Float64Array {
  const out = new Float64Array(9)
  for (let row = 0; row < 3; row++) {
    for (let column = 0; column < 3; column++) {
      let sum = 0
      for (let k = 0; k < 3; k++) sum += a[row * 3 + k]! * b[k * 3 + column]!
      out[row * 3 + column] = sum
    }
  }
  return out
}

export function transpose3(a: Float64Array): Float64Array {
  return Float64Array.of(a[0]!, a[3]!, a[6]!, a[1]!, a[4]!, a[7]!, a[2]!, a[5]!, a[8]!)
}

/** How small a determinant may be beside the product of the columns' lengths. */
const SINGULAR = 1e-12

/** Throws RangeError on a singular matrix: one whose determinant is at most `singular` of its columns' lengths. */
export function invert3(m: Float64Array, singular = SINGULAR): Float64Array {
  const [a, b, c, d, e, f, g, h, i] = m as unknown as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
  const scale = Math.hypot(a, d, g) * Math.hypot(b, e, h) * Math.hypot(c, f, i)
  if (!(Math.abs(determinant) > scale * singular)) throw new RangeError('the affine is singular')
  const k = 1 / determinant
  return Float64Array.of(
    ...[(e * i - f * h) * k, (c * h - b * i) * k, (b * f - c * e) * k],
    ...[(f * g - d * i) * k, (a * i - c * g) * k, (c * d - a * f) * k],
    ...[(d * h - e * g) * k, (b * g - a * h) * k, (a * e - b * d) * k],
  )
}

/** Maps voxel indices of `target` to (fractional) voxel indices of `source`, both grids lying in the same world. */
export function indexToIndex(target: Pick<Grid, 'affine'>, source: Pick<Grid, 'affine'>): Float64Array {
  return multiply4(invertAffine(source.affine), target.affine)
}

/** Rounds half to even, as numpy and torch do. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}
