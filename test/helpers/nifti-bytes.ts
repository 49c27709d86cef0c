/** A second, independent writer of NIfTI files, for tests: either version and byte order, any field spoilt at will. */

export interface NiftiSpec {
  readonly version?: 1 | 2
  readonly littleEndian?: boolean
  /** dim[0..], as many as wanted; the rest is 1. */
  readonly dim?: readonly number[]
  readonly datatype?: number
  readonly pixdim?: readonly number[]
  readonly voxOffset?: number
  readonly slope?: number
  readonly inter?: number
  readonly units?: number
  readonly qformCode?: number
  readonly sformCode?: number
  /** quatern_b, c, d, qoffset_x, y, z. */
  readonly quatern?: readonly number[]
  readonly srow?: readonly number[]
  readonly intent?: number
  readonly magic?: string
  /** Goes between the extension flag (which it sets) and the voxels. */
  readonly extension?: Uint8Array
  /** Voxels in file order, or the bytes themselves. */
  readonly voxels?: readonly (number | bigint)[] | Uint8Array
}

type Setter = (view: DataView, offset: number, value: number | bigint, littleEndian: boolean) => void

const TYPES: Readonly<Record<number, { bytes: number; set: Setter }>> = {
  2: { bytes: 1, set: (view, at, value) => view.setUint8(at, Number(value)) },
  4: { bytes: 2, set: (view, at, value, le) => view.setInt16(at, Number(value), le) },
  8: { bytes: 4, set: (view, at, value, le) => view.setInt32(at, Number(value), le) },
  16: { bytes: 4, set: (view, at, value, le) => view.setFloat32(at, Number(value), le) },
  64: { bytes: 8, set: (view, at, value, le) => view.setFloat64(at, Number(value), le) },
  256: { bytes: 1, set: (view, at, value) => view.setInt8(at, Number(value)) },
  512: { bytes: 2, set: (view, at, value, le) => view.setUint16(at, Number(value), le) },
  768: { bytes: 4, set: (view, at, value, le) => view.setUint32(at, Number(value), le) },
  1024: { bytes: 8, set: (view, at, value, le) => view.setBigInt64(at, BigInt(value), le) },
  1280: { bytes: 8, set: (view, at, value, le) => view.setBigUint64(at, BigInt(value), le) },
}

/** Defaults: NIfTI-1, little-endian, 2x2x1 int16, identity sform, voxels 0, 1, 2, 3. */
export function niftiBytes(spec: NiftiSpec = {}): Uint8Array {
  const { version = 1, littleEndian: le = true, datatype = 4, dim = [3, 2, 2, 1], extension } = spec
  const { voxels = [0, 1, 2, 3] } = spec
  const header = (version === 1 ? 348 : 540) + 4
  const start = header + (extension?.length ?? 0)
  const type = TYPES[datatype] ?? { bytes: 2, set: () => {} }
  const body = voxels instanceof Uint8Array ? voxels : new Uint8Array(voxels.length * type.bytes)
  const bytes = new Uint8Array(Math.max(start, spec.voxOffset ?? 0) + body.length)
  const view = new DataView(bytes.buffer)
  if (!(voxels instanceof Uint8Array)) {
    const own = new DataView(body.buffer)
    voxels.forEach((value, i) => {
      type.set(own, i * type.bytes, value, le)
    })
  }
  bytes.set(body, bytes.length - body.length)
  if (extension) {
    bytes[header - 4] = 1
    bytes.set(extension, header)
  }
  const dims = Array.from({ length: 8 }, (_, i) => dim[i] ?? 1)
  const pixdim = spec.pixdim ?? [1, 1, 1, 1, 1, 1, 1, 1]
  const srow = spec.srow ?? [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
  const quatern = spec.quatern ?? [0, 0, 0, 0, 0, 0]
  const { qformCode = 0, sformCode = 1, slope = 1, inter = 0, units = 2, intent = 0, voxOffset = start } = spec
  const reals = (offset: number, values: readonly number[]) => {
    values.forEach((value, i) => {
      if (version === 1) view.setFloat32(offset + 4 * i, value, le)
      else view.setFloat64(offset + 8 * i, value, le)
    })
  }
  view.setInt32(0, header - 4, le)
  if (version === 1) {
    dims.forEach((n, i) => {
      view.setInt16(40 + 2 * i, n, le)
    })
    view.setInt16(68, intent, le)
    view.setInt16(70, datatype, le)
    view.setInt16(72, type.bytes * 8, le)
    reals(76, pixdim)
    reals(108, [voxOffset, slope, inter])
    bytes[123] = units
    view.setInt16(252, qformCode, le)
    view.setInt16(254, sformCode, le)
    reals(256, quatern)
    reals(280, srow)
    bytes.set(Buffer.from(spec.magic ?? 'n+1\0', 'latin1'), 344)
  } else {
    bytes.set(Buffer.from(spec.magic ?? 'n+2\0\r\n\x1a\n', 'latin1'), 4)
    view.setInt16(12, datatype, le)
    view.setInt16(14, type.bytes * 8, le)
    dims.forEach((n, i) => {
      view.setBigInt64(16 + 8 * i, BigInt(n), le)
    })
    reals(104, pixdim)
    view.setBigInt64(168, BigInt(voxOffset), le)
    reals(176, [slope, inter])
    view.setInt32(344, qformCode, le)
    view.setInt32(348, sformCode, le)
    reals(352, quatern)
    reals(400, srow)
    view.setInt32(500, units, le)
    view.setInt32(504, intent, le)
  }
  return bytes
}

/** One header extension: its size, code and content, whatever the size claims. */
export function niftiExtension(claimed: number, content: Uint8Array, littleEndian = true): Uint8Array {
  const bytes = new Uint8Array(8 + content.length)
  const view = new DataView(bytes.buffer)
  view.setInt32(0, claimed, littleEndian)
  view.setInt32(4, 6, littleEndian)
  bytes.set(content, 8)
  return bytes
}
