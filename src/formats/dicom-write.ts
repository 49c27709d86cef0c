/** DICOM data sets to bytes: explicit VR little endian, sequences of defined length. */
import { EXPLICIT_LITTLE } from './dicom-header.js'

/** Text, numbers of a binary VR, bytes as they are, or the items of a sequence. */
export type AttributeValue = string | readonly number[] | Uint8Array | readonly (readonly Attribute[])[]
/** Tag (`group * 65536 + element`), VR, value. */
export type Attribute = readonly [tag: number, vr: string, value: AttributeValue]

/** Of the project, by UUID (PS3.5 B.2). */
export const IMPLEMENTATION_CLASS_UID = '2.25.302043790172249692526321623266752743501'

const LONG_FORM: readonly string[] = ['OB', 'OW', 'SQ', 'UN']
const SHORT_FORM_MAX_BYTES = 0xfffe
const NUMBER_BYTES: Readonly<Record<string, 2 | 4>> = { US: 2, UL: 4, AT: 4 }

/** The whole file: preamble, meta information, data set. */
export function encodePart10(sopClassUid: string, sopInstanceUid: string, attributes: readonly Attribute[]): Buffer {
  return Buffer.concat([part10Head(sopClassUid, sopInstanceUid, EXPLICIT_LITTLE), encodeDataSet(attributes)])
}

/** What stands before a file's data set (PS3.10 section 7.1), itself always explicit VR little endian. */
export function part10Head(sopClassUid: string, sopInstanceUid: string, transferSyntaxUid: string): Buffer {
  const meta = encodeDataSet([
    [0x00020001, 'OB', Uint8Array.of(0, 1)],
    [0x00020002, 'UI', sopClassUid],
    [0x00020003, 'UI', sopInstanceUid],
    [0x00020010, 'UI', transferSyntaxUid],
    [0x00020012, 'UI', IMPLEMENTATION_CLASS_UID],
  ])
  const length = encodeDataSet([[0x00020000, 'UL', [meta.length]]])
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM', 'latin1'), length, meta])
}

/** Attributes in any order; a tag that comes twice is a mistake of the caller. */
export function encodeDataSet(attributes: readonly Attribute[]): Buffer {
  const sorted = [...attributes].sort(([a], [b]) => a - b)
  return Buffer.concat(sorted.flatMap(encodeElement))
}

function encodeElement([tag, vr, value]: Attribute): Uint8Array[] {
  const bytes = encodeValue(vr, value)
  const odd = bytes.length % 2
  const padded = bytes.length + odd
  const long = LONG_FORM.includes(vr)
  if (!long && padded > SHORT_FORM_MAX_BYTES) throw new RangeError(`${padded} bytes do not fit an element of VR ${vr}`)
  const head = Buffer.alloc(long ? 12 : 8)
  head.writeUInt16LE(tag >>> 16, 0)
  head.writeUInt16LE(tag & 0xffff, 2)
  head.write(vr, 4, 'latin1')
  if (long) head.writeUInt32LE(padded, 8)
  else head.writeUInt16LE(padded, 6)
  if (!odd) return [head, bytes]
  // Identifiers and bytes are padded with zero, text with a space.
  return [head, bytes, Uint8Array.of(vr === 'UI' || long ? 0 : 0x20)]
}

function encodeValue(vr: string, value: AttributeValue): Uint8Array {
  if (typeof value === 'string') return Buffer.from(value, 'utf8')
  if (value instanceof Uint8Array) return value
  if (vr === 'SQ') return Buffer.concat((value as readonly (readonly Attribute[])[]).flatMap(encodeItem))
  const numbers = value as readonly number[]
  const width = NUMBER_BYTES[vr]
  if (!width) throw new RangeError(`numbers of VR ${vr} are not written`)
  const bytes = Buffer.alloc(numbers.length * width)
  for (const [i, number] of numbers.entries()) {
    if (vr === 'US') bytes.writeUInt16LE(number, i * 2)
    else if (vr === 'UL') bytes.writeUInt32LE(number, i * 4)
    else {
      // A tag is two numbers of 16 bits.
      bytes.writeUInt16LE(number >>> 16, i * 4)
      bytes.writeUInt16LE(number & 0xffff, i * 4 + 2)
    }
  }
  return bytes
}

function encodeItem(attributes: readonly Attribute[]): Uint8Array[] {
  const content = encodeDataSet(attributes)
  const head = Buffer.from([0xfe, 0xff, 0x00, 0xe0, 0, 0, 0, 0])
  head.writeUInt32LE(content.length, 4)
  return [head, content]
}
