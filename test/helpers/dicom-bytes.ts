/** A small writer of DICOM objects of one frame, for tests: explicit VR, little-endian, uncompressed. */

export interface DicomSpec {
  readonly columns: number
  readonly rows: number
  /** Samples of the first pixel, then of the next, row by row; 8-bit, three a pixel for colours. */
  readonly pixels: Uint8Array
  readonly modality: 'DX' | 'US' | 'CT'
  /** Where the first pixel lies, mm in LPS+; absent: it lies nowhere, as a radiograph does. */
  readonly position?: readonly [number, number, number]
}

const SOP_CLASS = {
  DX: '1.2.840.10008.5.1.4.1.1.1.1',
  US: '1.2.840.10008.5.1.4.1.1.6.1',
  CT: '1.2.840.10008.5.1.4.1.1.2',
}
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1'

/** The bytes of the file. Pixels are 1 mm apart. */
export function dicomBytes({ columns, rows, pixels, modality, position }: DicomSpec): Buffer {
  const samples = pixels.length / columns / rows
  const uid = `2.25.${columns}${rows}${samples}${modality.charCodeAt(0)}`
  const meta = Buffer.concat([
    element(0x0002_0001, 'OB', Buffer.of(0, 1)),
    element(0x0002_0002, 'UI', SOP_CLASS[modality]),
    element(0x0002_0003, 'UI', uid),
    element(0x0002_0010, 'UI', EXPLICIT_LITTLE),
    element(0x0002_0012, 'UI', '2.25.1'),
  ])
  const place = position && [
    element(0x0020_0032, 'DS', position.join('\\')),
    element(0x0020_0037, 'DS', '1\\0\\0\\0\\1\\0'),
  ]
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from('DICM'),
    element(0x0002_0000, 'UL', whole(meta.length, 4)),
    meta,
    element(0x0008_0016, 'UI', SOP_CLASS[modality]),
    element(0x0008_0018, 'UI', uid),
    element(0x0008_0060, 'CS', modality),
    element(0x0018_0050, 'DS', '1'),
    element(0x0020_000d, 'UI', `${uid}.1`),
    element(0x0020_000e, 'UI', `${uid}.2`),
    ...(place ?? []),
    element(0x0028_0002, 'US', whole(samples)),
    element(0x0028_0004, 'CS', samples === 3 ? 'RGB' : 'MONOCHROME2'),
    ...(samples === 3 ? [element(0x0028_0006, 'US', whole(0))] : []),
    element(0x0028_0010, 'US', whole(rows)),
    element(0x0028_0011, 'US', whole(columns)),
    element(0x0028_0030, 'DS', '1\\1'),
    element(0x0028_0100, 'US', whole(8)),
    element(0x0028_0101, 'US', whole(8)),
    element(0x0028_0102, 'US', whole(7)),
    element(0x0028_0103, 'US', whole(0)),
    element(0x7fe0_0010, 'OB', Buffer.from(pixels)),
  ])
}

function whole(value: number, bytes: 2 | 4 = 2): Buffer {
  const out = Buffer.alloc(bytes)
  out.writeUIntLE(value, 0, bytes)
  return out
}

/** One element; text is padded to an even length as its VR asks. */
function element(tag: number, vr: string, value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value
  const padding = Buffer.alloc(bytes.length % 2, vr === 'UI' || vr === 'OB' ? 0 : 0x20)
  const length = bytes.length + padding.length
  const head = Buffer.alloc(6)
  head.writeUInt16LE(tag >>> 16, 0)
  head.writeUInt16LE(tag & 0xffff, 2)
  head.write(vr, 4, 'latin1')
  const size = vr === 'OB' ? Buffer.concat([Buffer.alloc(2), whole(length, 4)]) : whole(length)
  return Buffer.concat([head, size, bytes, padding])
}
