/**
 * NIfTI-1 and NIfTI-2 headers. nifti-reader-js decodes the fields, out of a buffer of exactly one header; whether
 * they can be believed is decided here, before anything is allocated.
 */
import { NIFTI1, NIFTI2 } from 'nifti-reader-js'
import { AppError } from '../errors.js'
import type { NiftiGeometry } from '../volume/volume.js'
import type { ByteSource } from './byte-source.js'
import type { StoredType } from './voxel-types.js'

export const HEADER_BYTES = { 1: 348, 2: 540 } as const

export interface NiftiHeader {
  readonly geometry: NiftiGeometry
  /** dim[1..dim[0]], each at least 1. */
  readonly shape: readonly number[]
  readonly type: StoredType
  /** Samples interleaved in one voxel: 3 for RGB24, 4 for RGBA32, else 1. */
  readonly samples: 1 | 3 | 4
  readonly littleEndian: boolean
  /** Where the voxels start, in the file that holds them. */
  readonly voxelOffset: number
  /** Undefined: the voxels are taken as stored. */
  readonly scaling: { readonly slope: number; readonly inter: number } | undefined
  /** Header and voxels in two files (.hdr and .img). */
  readonly detached: boolean
}

const TYPES: Readonly<Record<number, StoredType>> = {
  2: 'uint8',
  4: 'int16',
  8: 'int32',
  16: 'float32',
  64: 'float64',
  128: 'uint8',
  256: 'int8',
  512: 'uint16',
  768: 'uint32',
  1024: 'int64',
  1280: 'uint64',
  2304: 'uint8',
}
const RGB24 = 128
const RGBA32 = 2304
const UNSUPPORTED_TYPES: Readonly<Record<number, string>> = {
  1: '1-bit voxels',
  32: 'complex voxels (complex64)',
  1536: '128-bit floats',
  1792: 'complex voxels (complex128)',
  2048: 'complex voxels (complex256)',
}

export type NiftiKind = { readonly version: 1 | 2; readonly littleEndian: boolean; readonly detached: boolean }

/** What kind of NIfTI starts with these bytes (540 of them, fewer only at the end of a short file), if it is one. */
export function niftiKind(bytes: Uint8Array): NiftiKind | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length >= HEADER_BYTES[2]) {
    const littleEndian = view.getInt32(0, true) === HEADER_BYTES[2]
    const magic = latin1(bytes, 4, 8)
    if ((littleEndian || view.getInt32(0, false) === HEADER_BYTES[2]) && (magic === 'n+2\0' || magic === 'ni2\0'))
      return { version: 2, littleEndian, detached: magic === 'ni2\0' }
  }
  if (bytes.length < HEADER_BYTES[1]) return undefined
  const magic = latin1(bytes, 344, 348)
  if (magic !== 'n+1\0' && magic !== 'ni1\0') return undefined
  // nibabel takes a wrong sizeof_hdr for a slip, and the byte order from dim[0] then.
  const sizes = [view.getInt32(0, true), view.getInt32(0, false)]
  const littleEndian = sizes.includes(HEADER_BYTES[1]) ? sizes[0] === HEADER_BYTES[1] : inRange(view.getInt16(40, true))
  return { version: 1, littleEndian, detached: magic === 'ni1\0' }
}

const inRange = (dims: number) => dims >= 1 && dims <= 7
const latin1 = (bytes: Uint8Array, from: number, to: number) => Buffer.from(bytes.subarray(from, to)).toString('latin1')

/** Decodes and checks a header that `niftiKind` recognised. Throws UNREADABLE_IMAGE or UNSUPPORTED_FORMAT. */
export function decodeNiftiHeader(bytes: Uint8Array, { version, littleEndian, detached }: NiftiKind): NiftiHeader {
  const size = HEADER_BYTES[version]
  const own = new Uint8Array(size)
  own.set(bytes.subarray(0, size))
  const view = new DataView(own.buffer)
  view.setInt32(0, size, littleEndian)
  const fields = version === 1 ? new NIFTI1() : new NIFTI2()
  fields.readHeader(own.buffer)

  const float = (offset: number) =>
    version === 1 ? view.getFloat32(offset, littleEndian) : view.getFloat64(offset, littleEndian)
  const srow: number[] = []
  for (let i = 0; i < 12; i++) srow.push(version === 1 ? float(280 + 4 * i) : float(400 + 8 * i))
  const dims = fields.dims[0]!
  if (!inRange(dims)) throw unreadable(`dim[0] is ${dims}; a NIfTI image has 1 to 7 dimensions`)
  const shape = fields.dims.slice(1, 1 + dims)
  const bad = shape.findIndex((n) => !Number.isSafeInteger(n) || n < 1)
  if (bad >= 0) throw unreadable(`dim[${bad + 1}] is ${shape[bad]}; it must be at least 1`)

  const intent = version === 1 ? view.getInt16(68, littleEndian) : view.getInt32(504, littleEndian)
  if (intent >= 3000 && intent < 3100)
    throw new AppError('UNSUPPORTED_FORMAT', 'the file is a CIFTI matrix, not an image on a voxel grid', {
      hint: 'Send the volume it was made from as NIfTI.',
    })
  const type = TYPES[fields.datatypeCode]
  if (!type) {
    const known = UNSUPPORTED_TYPES[fields.datatypeCode]
    if (known) {
      throw new AppError('UNSUPPORTED_FORMAT', `the image has ${known}, which cannot be segmented`, {
        hint: 'Save the magnitude as a real type such as float32.',
      })
    }
    throw unreadable(`datatype ${fields.datatypeCode} is not one of NIfTI's`)
  }

  const least = detached ? 0 : size + 4
  const voxelOffset = fields.vox_offset === 0 ? least : Math.trunc(fields.vox_offset)
  if (!Number.isSafeInteger(voxelOffset) || voxelOffset < least)
    throw unreadable(`vox_offset is ${fields.vox_offset}; it must be 0 or at least ${least}`)

  const scaled = fields.scl_slope !== 0 && Number.isFinite(fields.scl_slope)
  if (scaled && !Number.isFinite(fields.scl_inter))
    throw unreadable(`scl_inter is ${fields.scl_inter} beside a scl_slope of ${fields.scl_slope}; it must be finite`)
  const samples = fields.datatypeCode === RGB24 ? 3 : fields.datatypeCode === RGBA32 ? 4 : 1
  return {
    geometry: {
      version,
      dims,
      qformCode: fields.qform_code,
      sformCode: fields.sform_code,
      pixdim: fields.pixDims.slice(0, 8),
      quatern: [
        ...([fields.quatern_b, fields.quatern_c, fields.quatern_d] as const),
        ...([fields.qoffset_x, fields.qoffset_y, fields.qoffset_z] as const),
      ],
      srow,
      xyztUnits: fields.xyzt_units,
    },
    shape,
    type,
    samples,
    littleEndian,
    voxelOffset,
    scaling: scaled && samples === 1 ? { slope: fields.scl_slope, inter: fields.scl_inter } : undefined,
    detached,
  }
}

/**
 * Steps over the extensions to the voxels, which start where vox_offset says. The chain is followed only as far as it
 * fits before them, and its content is not looked at; a length that leads backwards is refused.
 * `source` stands right behind the header, and right at the voxels afterwards.
 */
export async function skipExtensions(source: ByteSource, headerBytes: number, header: NiftiHeader): Promise<void> {
  const flag = new Uint8Array(4)
  await source.read(flag)
  let left = header.voxelOffset - headerBytes - 4
  const start = new Uint8Array(8)
  while (flag[0] !== 0 && left >= 16) {
    if ((await source.read(start)) < 8) return
    left -= 8
    const bytes = new DataView(start.buffer).getInt32(0, header.littleEndian)
    if (bytes < 8) throw unreadable(`a header extension says it is ${bytes} bytes long; it must be at least 8`)
    if (bytes - 8 > left) break
    left -= bytes - 8
    await source.skip(bytes - 8)
  }
  await source.skip(left)
}

function unreadable(what: string): AppError {
  return new AppError('UNREADABLE_IMAGE', `the NIfTI header cannot be used: ${what}`)
}
