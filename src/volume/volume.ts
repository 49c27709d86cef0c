/**
 * Volume: an image in memory. Owned here: the type, its invariants, and index <-> world maths.
 *
 * Conventions, used everywhere in this codebase:
 * - `data` is x-fastest: voxel (x, y, z) of channel c lives at `x + y*nx + z*nx*ny + c*nx*ny*nz`.
 * - `size` is [nx, ny, nz]; a 2-D image has nz = 1. `channels` is 1 for a plain scan; colours and time points are channels.
 * - `affine` is row-major 4x4 and maps voxel centres to millimetres in RAS+ (as NIfTI does).
 *   DICOM, NRRD and ITK speak LPS+; `formats/` converts at the border.
 * - A point from a client is an integer voxel index [x, y, z] of the file it posted.
 */
export type VoxelArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array

export type Vec3 = readonly [number, number, number]

/** How a NIfTI file stated its geometry, kept so that a result can restate it bit for bit. */
export interface NiftiGeometry {
  readonly version: 1 | 2
  readonly dims: number
  readonly qformCode: number
  readonly sformCode: number
  /** pixdim[0..7], pixdim[0] being qfac. */
  readonly pixdim: readonly number[]
  /** quatern_b, c, d and qoffset_x, y, z. */
  readonly quatern: readonly [number, number, number, number, number, number]
  /** srow_x, srow_y, srow_z: 12 numbers. */
  readonly srow: readonly number[]
  readonly xyztUnits: number
}

export interface Grid {
  readonly size: Vec3
  readonly affine: Float64Array
}

export interface Volume<T extends VoxelArray = VoxelArray> extends Grid {
  readonly channels: number
  readonly data: T
  /** Present when the volume came from a NIfTI file and still lies on that file's grid. */
  readonly nifti?: NiftiGeometry | undefined
}

/** Throws RangeError when the parts disagree; every reader ends with this call. */
export function makeVolume<T extends VoxelArray>(
  size: Vec3,
  affine: Float64Array,
  data: T,
  { channels = 1, nifti }: { channels?: number; nifti?: NiftiGeometry | undefined } = {},
): Volume<T> {
  if (!size.every((n) => Number.isSafeInteger(n) && n > 0)) throw new RangeError(`bad size ${size.join('x')}`)
  const expected = size[0] * size[1] * size[2] * channels
  if (data.length !== expected)
    throw new RangeError(`expected ${expected} voxels for ${size.join('x')} x ${channels}, got ${data.length}`)
  if (affine.length !== 16) throw new RangeError(`expected a 4x4 affine, got ${affine.length} numbers`)
  return nifti ? { size, affine, channels, data, nifti } : { size, affine, channels, data }
}

/** Voxels of one channel. */
export function voxelCount({ size }: Pick<Grid, 'size'>): number {
  return size[0] * size[1] * size[2]
}

/** Voxel edge lengths in mm: the column norms of the affine, so never stored twice. */
export function spacingOf({ affine }: Pick<Grid, 'affine'>): [number, number, number] {
  const norm = (c: number) => Math.hypot(affine[c]!, affine[4 + c]!, affine[8 + c]!)
  return [norm(0), norm(1), norm(2)]
}
