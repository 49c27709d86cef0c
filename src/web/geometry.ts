/**
 * Voxels and millimetres. Voxel indices are those of the session's volume, [x, y, z] with x fastest: what clicks are sent
 * in and what results come back on. An affine is row-major 4x4 and maps voxel centres to RAS+ millimetres.
 */
export type Vec3 = readonly [number, number, number]

/** Inclusive on both ends, in voxels. */
export interface Box {
  readonly min: Vec3
  readonly max: Vec3
}

export function wholeBox(size: Vec3): Box {
  return { min: [0, 0, 0], max: [size[0] - 1, size[1] - 1, size[2] - 1] }
}

export function boxSize({ min, max }: Box): Vec3 {
  return [max[0] - min[0] + 1, max[1] - min[1] + 1, max[2] - min[2] + 1]
}

/** The smallest box around both; either may be missing. */
export function union(a: Box | undefined, b: Box | undefined): Box | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return {
    min: [Math.min(a.min[0], b.min[0]), Math.min(a.min[1], b.min[1]), Math.min(a.min[2], b.min[2])],
    max: [Math.max(a.max[0], b.max[0]), Math.max(a.max[1], b.max[1]), Math.max(a.max[2], b.max[2])],
  }
}

export function isInside(voxel: Vec3, size: Vec3): boolean {
  return voxel.every((v, axis) => v >= 0 && v < size[axis]!)
}

export function toWorld(affine: Float64Array, [x, y, z]: Vec3): Vec3 {
  const row = (r: number) => affine[4 * r]! * x + affine[4 * r + 1]! * y + affine[4 * r + 2]! * z + affine[4 * r + 3]!
  return [row(0), row(1), row(2)]
}

/** Voxel edge lengths in mm: the norms of the affine's columns. */
export function spacingOf(affine: Float64Array): Vec3 {
  const norm = (c: number) => Math.hypot(affine[c]!, affine[4 + c]!, affine[8 + c]!)
  return [norm(0), norm(1), norm(2)]
}

/** Whether the affine says where voxels lie at all: finite, and no axis vanishes or lies in the plane of the others. */
export function isUsable(affine: Float64Array): boolean {
  const [sx, sy, sz] = spacingOf(affine)
  const volume = Math.abs(determinant(affine))
  return Number.isFinite(volume) && volume > 1e-6 * sx * sy * sz && volume > 0
}

/** The voxel axis that lies nearest to an axis of the patient, and whether its indices run against that axis. */
export interface PatientAxis {
  readonly axis: 0 | 1 | 2
  readonly backwards: boolean
}

const PAIRINGS = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const

/** The voxel axes along R, A and S: of the six pairings the one whose cosines together are greatest. The affine has to be usable. */
export function patientAxes(affine: Float64Array): readonly PatientAxis[] {
  const spacing = spacingOf(affine)
  const cosine = (row: number, column: 0 | 1 | 2) => affine[4 * row + column]! / spacing[column]
  const sum = (pairing: readonly (0 | 1 | 2)[]) =>
    pairing.reduce<number>((total, column, row) => total + Math.abs(cosine(row, column)), 0)
  const best = PAIRINGS.reduce((a, b) => (sum(b) > sum(a) + 1e-9 ? b : a))
  return best.map((axis, row) => ({ axis, backwards: cosine(row, axis) < 0 }))
}

function determinant(a: Float64Array): number {
  return (
    a[0]! * (a[5]! * a[10]! - a[6]! * a[9]!) -
    a[1]! * (a[4]! * a[10]! - a[6]! * a[8]!) +
    a[2]! * (a[4]! * a[9]! - a[5]! * a[8]!)
  )
}
