/** Index -> mm for a NIfTI header, in nibabel's order: sform, else qform, else pixdim. */
import { isInvertible, rotationFromQuaternion } from '../volume/quaternion.js'
import type { NiftiGeometry } from '../volume/volume.js'

export interface ChosenAffine {
  readonly affine: Float64Array
  readonly notes: readonly string[]
}

/**
 * The affine in RAS+, as nibabel's get_best_affine: form codes outside 0..5 count as 0, negative pixdim as positive,
 * zero pixdim as 1. Where nibabel would hand out an affine that cannot be inverted (a zero sform), the next one is taken and a note
 * says so. Units other than mm are not applied (nibabel does not either); a note says so.
 */
export function niftiAffine(geometry: NiftiGeometry, shape: readonly number[]): ChosenAffine {
  const notes: string[] = []
  const { srow, pixdim, quatern } = geometry
  const spatialUnits = geometry.xyztUnits & 7
  if (spatialUnits === 1 || spatialUnits === 3)
    notes.push(
      `the header gives lengths in ${spatialUnits === 1 ? 'metres' : 'micrometres'}; they are taken as millimetres`,
    )
  const zooms = [1, 2, 3].map((i) => (i > geometry.dims ? 1 : Math.abs(pixdim[i]!) || 1))

  if (isFormCode(geometry.sformCode)) {
    const affine = Float64Array.of(...srow, 0, 0, 0, 1)
    if (isInvertible(affine)) return { affine, notes }
    notes.push('the sform cannot be inverted and was not used')
  }
  if (isFormCode(geometry.qformCode)) {
    const [b, c, d, x, y, z] = quatern
    const r = rotationFromQuaternion(b, c, d, 3 * (geometry.version === 1 ? 2 ** -23 : 2 ** -52))
    const [u, v] = [Math.abs(pixdim[1]!) || 1, Math.abs(pixdim[2]!) || 1]
    const w = (Math.abs(pixdim[3]!) || 1) * (pixdim[0] === -1 ? -1 : 1)
    const affine = Float64Array.of(
      ...[r[0]! * u, r[1]! * v, r[2]! * w, x],
      ...[r[3]! * u, r[4]! * v, r[5]! * w, y],
      ...[r[6]! * u, r[7]! * v, r[8]! * w, z],
      ...[0, 0, 0, 1],
    )
    if (isInvertible(affine)) return { affine, notes }
    notes.push('the qform cannot be inverted and was not used')
  }
  const base = centred(
    zooms.map((zoom) => (Number.isFinite(zoom) ? zoom : 1)),
    shape,
  )
  if (isInvertible(base)) return { affine: base, notes }
  notes.push('pixdim says no size that a voxel can have; 1 mm was used')
  return { affine: centred([1, 1, 1], shape), notes }
}

/** Nothing but voxel sizes is known: x to the left, the origin in the middle. */
function centred(zooms: readonly number[], shape: readonly number[]): Float64Array {
  const base = new Float64Array(16)
  for (let axis = 0; axis < 3; axis++) {
    const step = zooms[axis]! * (axis === 0 ? -1 : 1)
    base[axis * 5] = step
    base[axis * 4 + 3] = (-((shape[axis] ?? 1) - 1) / 2) * step
  }
  base[15] = 1
  return base
}

const isFormCode = (code: number): boolean => code >= 1 && code <= 5
