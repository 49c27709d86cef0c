/** Volume -> NIfTI, header and geometry. */
import { linearPart } from '../volume/affine.js'
import { determinant3, isInvertible, nearestRotation, quaternionOfRotation } from '../volume/quaternion.js'
import { type NiftiGeometry, spacingOf, type Volume } from '../volume/volume.js'
import type { DtypeName } from './format.js'
import { HEADER_BYTES } from './nifti-header.js'
import { DTYPES } from './voxel-types.js'

const DATATYPE: Readonly<Record<DtypeName, number>> = {
  uint8: 2,
  int16: 4,
  int32: 8,
  float32: 16,
  float64: 64,
  int8: 256,
  uint16: 512,
  uint32: 768,
}
const SCANNER = 1
const MILLIMETRES = 2
const NIFTI1_MAX_DIM = 32767

/**
 * Everything before the voxels: header, extension flag. The geometry of a volume that came from NIfTI is restated bit
 * for bit; for any other, sform and qform both say the affine. Beside a sheared sform (a tilted gantry's), which a qform
 * cannot say, the qform is the nearest rotation, as dcm2niix writes it: ITK, and with it 3D Slicer, refuses a file that
 * has nothing else. NIfTI-2 where the source was, or where a dimension does not fit NIfTI-1.
 */
export function niftiHeaderBytes(volume: Volume, dtype: DtypeName): Uint8Array {
  const geometry = volume.nifti ? withQform(volume.nifti, volume.affine) : geometryOf(volume)
  const dim = dimsOf(volume, geometry)
  const version = geometry.version === 2 || Math.max(...dim) > NIFTI1_MAX_DIM ? 2 : 1
  return version === 1 ? header1(geometry, dim, dtype) : header2(geometry, dim, dtype)
}

/** dim[0..7]. The source's number of dimensions is kept where it says the same image (2-D, or a trailing 1). */
function dimsOf({ size, channels }: Volume, { dims }: NiftiGeometry): number[] {
  const least = channels > 1 ? 4 : size[2] > 1 ? 3 : size[1] > 1 ? 2 : 1
  const most = channels > 1 ? 4 : 7
  return [Math.min(most, Math.max(least, dims)), ...size, channels, 1, 1, 1]
}

function geometryOf(volume: Volume): NiftiGeometry {
  const { affine } = volume
  const srow = Array.from(affine.subarray(0, 12))
  const pixdim = [1, ...spacingOf(volume), 1, 1, 1, 1]
  const base = { version: 1, dims: 3, xyztUnits: MILLIMETRES, sformCode: SCANNER, srow, pixdim } as const
  if (isInvertible(affine)) return { ...base, ...nearestQform(affine, pixdim) }
  return { ...base, qformCode: 0, quatern: [0, 0, 0, affine[3]!, affine[7]!, affine[11]!] }
}

/** The source's geometry, with a qform where all it has is an sform with which ITK would not open it. */
function withQform(geometry: NiftiGeometry, affine: Float64Array): NiftiGeometry {
  const { sformCode, qformCode, srow, pixdim } = geometry
  if (qformCode > 0 || sformCode <= 0 || !isInvertible(affine)) return geometry
  const sform = Float64Array.of(...srow, 0, 0, 0, 1)
  if (isInvertible(sform) && isRigid(sform)) return geometry
  return { ...geometry, ...nearestQform(affine, pixdim) }
}

/** The rotation nearest to the affine's axes, at its first voxel; `pixdim` gets the handedness that goes with it. */
function nearestQform(
  affine: Float64Array,
  pixdim: readonly number[],
): Pick<NiftiGeometry, 'qformCode' | 'pixdim' | 'quatern'> {
  const rotation = nearestRotation(affine)
  const qfac = determinant3(rotation) < 0 ? -1 : 1
  const proper = rotation.map((value, i) => (i % 3 === 2 ? value * qfac : value))
  return {
    qformCode: SCANNER,
    pixdim: [qfac, ...pixdim.slice(1)],
    quatern: [...quaternionOfRotation(proper), affine[3]!, affine[7]!, affine[11]!],
  }
}

/** Whether an affine's axes are orthogonal, but for what float32 rounds away. */
function isRigid(affine: Float64Array): boolean {
  const rotation = nearestRotation(affine)
  const linear = linearPart(affine)
  return linear.every((value, i) => {
    const length = Math.hypot(linear[i % 3]!, linear[3 + (i % 3)]!, linear[6 + (i % 3)]!)
    return Math.abs(value / length - rotation[i]!) <= 1e-5
  })
}

function header1(geometry: NiftiGeometry, dim: readonly number[], dtype: DtypeName): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES[1] + 4)
  const view = new DataView(bytes.buffer)
  const floats = (offset: number, values: readonly number[]) => {
    values.forEach((value, i) => {
      view.setFloat32(offset + 4 * i, value, true)
    })
  }
  view.setInt32(0, HEADER_BYTES[1], true)
  bytes[38] = 0x72 // 'r', "regular": ANALYZE wanted it
  dim.forEach((n, i) => {
    view.setInt16(40 + 2 * i, n, true)
  })
  view.setInt16(70, DATATYPE[dtype], true)
  view.setInt16(72, DTYPES[dtype].bytes * 8, true)
  floats(76, geometry.pixdim)
  floats(108, [bytes.length, 1, 0])
  bytes[123] = geometry.xyztUnits
  bytes.set(Buffer.from('Aidant', 'latin1'), 148)
  view.setInt16(252, geometry.qformCode, true)
  view.setInt16(254, geometry.sformCode, true)
  floats(256, geometry.quatern)
  floats(280, geometry.srow)
  bytes.set(Buffer.from('n+1\0', 'latin1'), 344)
  return bytes
}

function header2(geometry: NiftiGeometry, dim: readonly number[], dtype: DtypeName): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES[2] + 4)
  const view = new DataView(bytes.buffer)
  const doubles = (offset: number, values: readonly number[]) => {
    values.forEach((value, i) => {
      view.setFloat64(offset + 8 * i, value, true)
    })
  }
  view.setInt32(0, HEADER_BYTES[2], true)
  bytes.set(Buffer.from('n+2\0\r\n\x1a\n', 'latin1'), 4)
  view.setInt16(12, DATATYPE[dtype], true)
  view.setInt16(14, DTYPES[dtype].bytes * 8, true)
  dim.forEach((n, i) => {
    view.setBigInt64(16 + 8 * i, BigInt(n), true)
  })
  doubles(104, geometry.pixdim)
  view.setBigInt64(168, BigInt(bytes.length), true)
  doubles(176, [1, 0])
  bytes.set(Buffer.from('Aidant', 'latin1'), 240)
  view.setInt32(344, geometry.qformCode, true)
  view.setInt32(348, geometry.sformCode, true)
  doubles(352, geometry.quatern)
  doubles(400, geometry.srow)
  view.setInt32(500, geometry.xyztUnits, true)
  return bytes
}
