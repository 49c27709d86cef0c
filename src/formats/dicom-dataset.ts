/**
 * DICOM data sets (PS3.5 section 7) as elements with their place in the bytes. Owned here: where an element begins and
 * ends, in explicit and implicit VR and either byte order, and the reading of its value. Nothing is decoded before it is
 * asked for, sequences included.
 *
 * Real files break the encoding that they announce, for a whole data set or for one element. So each element is read in
 * the encoding of the one before it, and only where that leads nowhere (to no tag that could follow) in the others.
 */

/** `group * 65536 + element`. */
export type Tag = number

export interface Encoding {
  readonly explicit: boolean
  readonly littleEndian: boolean
}

export interface DicomElement {
  readonly tag: Tag
  /** Two letters; empty where the encoding is implicit. */
  readonly vr: string
  /** Of the value's first byte. */
  readonly offset: number
  /** Bytes of the value; of one of undefined length those up to its end, delimiter included. */
  readonly length: number
  readonly undefinedLength: boolean
  /** How the items of a sequence are encoded. */
  readonly explicit: boolean
}

/** Thrown where the bytes end inside an element: there may be more in the file. */
export class DataSetEnds extends Error {
  override readonly name = 'DataSetEnds'
}

/** Thrown for sequences inside each other that no object has. */
export class NestedTooDeep extends Error {
  override readonly name = 'NestedTooDeep'
}

/** VRs with a 32-bit length and two reserved bytes before it; the length of all others is 16-bit. */
const LONG = ['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV']
const SHORT = [
  ...['AE', 'AS', 'AT', 'CS', 'DA', 'DS', 'DT', 'FD', 'FL', 'IS', 'LO', 'LT', 'PN', 'SH', 'SL', 'SS', 'ST', 'TM'],
  ...['UI', 'UL', 'US'],
]

interface KnownVr {
  readonly name: string
  readonly long: boolean
}

/** By their two letters as one number: a header is hundreds of elements, and a series hundreds of headers. */
const KNOWN: readonly (KnownVr | undefined)[] = (() => {
  const table: (KnownVr | undefined)[] = new Array(65_536).fill(undefined)
  for (const name of [...LONG, ...SHORT])
    table[name.charCodeAt(0) * 256 + name.charCodeAt(1)] = { name, long: LONG.includes(name) }
  return table
})()
const ITEM = 0xfffee000
const ITEM_END = 0xfffee00d
const SEQUENCE_END = 0xfffee0dd
const UNDEFINED_LENGTH = 0xffffffff
/** Sequences inside sequences; the standard's own go six deep. */
const MAX_DEPTH = 64

const BINARY: Readonly<
  Record<string, { readonly bytes: number; get(view: DataView, at: number, le: boolean): number }>
> = {
  US: { bytes: 2, get: (view, at, le) => view.getUint16(at, le) },
  SS: { bytes: 2, get: (view, at, le) => view.getInt16(at, le) },
  UL: { bytes: 4, get: (view, at, le) => view.getUint32(at, le) },
  SL: { bytes: 4, get: (view, at, le) => view.getInt32(at, le) },
  FL: { bytes: 4, get: (view, at, le) => view.getFloat32(at, le) },
  FD: { bytes: 8, get: (view, at, le) => view.getFloat64(at, le) },
  UV: { bytes: 8, get: (view, at, le) => Number(view.getBigUint64(at, le)) },
  SV: { bytes: 8, get: (view, at, le) => Number(view.getBigInt64(at, le)) },
}

export class DataSet {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #elements: ReadonlyMap<Tag, DicomElement>
  readonly littleEndian: boolean
  readonly #depth: number

  constructor(bytes: Uint8Array, elements: ReadonlyMap<Tag, DicomElement>, littleEndian: boolean, depth = 0) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#elements = elements
    this.littleEndian = littleEndian
    this.#depth = depth
  }

  get tags(): Iterable<Tag> {
    return this.#elements.keys()
  }

  /** Undefined also where the element has no value. */
  element(tag: Tag): DicomElement | undefined {
    const found = this.#elements.get(tag)
    return found?.length ? found : undefined
  }

  /** The value as it stands in the file: a view, not a copy. */
  bytes(tag: Tag): Uint8Array | undefined {
    const found = this.element(tag)
    return found && this.#bytes.subarray(found.offset, found.offset + found.length)
  }

  /** A value of letters and digits (UI, CS, DS …), each byte one sign, without the padding around it. */
  text(tag: Tag): string | undefined {
    const found = this.bytes(tag)
    return found && trimmed(Buffer.from(found.buffer, found.byteOffset, found.byteLength).toString('latin1'))
  }

  /** The values of a text with several. */
  texts(tag: Tag): string[] {
    return this.text(tag)?.split('\\').map(trimmed) ?? []
  }

  /**
   * The first `count` numbers; undefined when there are fewer, or one is not finite. `implied` is the element's own VR in
   * the standard, for where the file gives none: text (DS, IS), two bytes (US) or four (UL).
   */
  numbers(tag: Tag, count: number, implied: 'DS' | 'US' | 'UL' = 'DS'): number[] | undefined {
    const found = this.element(tag)
    if (!found) return undefined
    const binary = BINARY[found.vr === '' || found.vr === 'UN' || found.vr === 'OW' ? implied : found.vr]
    if (!binary) {
      const values = this.texts(tag).slice(0, count).map(decimal)
      return values.length === count && values.every(Number.isFinite) ? values : undefined
    }
    if (found.length < count * binary.bytes) return undefined
    const at = (i: number) => binary.get(this.#view, found.offset + i * binary.bytes, this.littleEndian)
    const values = Array.from({ length: count }, (_, i) => at(i))
    return values.every(Number.isFinite) ? values : undefined
  }

  /** A number that the standard gives two bytes (rows, bits), in whatever VR it was written. */
  uint16(tag: Tag): number | undefined {
    return this.numbers(tag, 1, 'US')?.[0]
  }

  /** Numbers of two bytes each: the tables of a palette. A copy. */
  words(tag: Tag): Uint16Array | undefined {
    const found = this.element(tag)
    return (
      found &&
      Uint16Array.from({ length: found.length >> 1 }, (_, i) =>
        this.#view.getUint16(found.offset + 2 * i, this.littleEndian),
      )
    )
  }

  /** Numbers of eight bytes each, as far as they are exact. */
  longs(tag: Tag): number[] | undefined {
    const found = this.element(tag)
    return (
      found &&
      Array.from({ length: found.length >> 3 }, (_, i) =>
        Number(this.#view.getBigUint64(found.offset + 8 * i, this.littleEndian)),
      )
    )
  }

  /** The items of a sequence; none where it is no sequence. Throws DataSetEnds where one is cut short. */
  items(tag: Tag): DataSet[] {
    const found = this.element(tag)
    if (!found || this.#depth >= MAX_DEPTH) return []
    const walk = new Walk(this.#bytes, this.littleEndian, this.#bytes.length)
    const sets: DataSet[] = []
    const end = found.offset + found.length
    let at = found.offset
    while (at + 8 <= end && walk.tagAt(at) === ITEM) {
      const length = walk.uint32(at + 4)
      const start = at + 8
      const limit = length === UNDEFINED_LENGTH ? end : Math.min(end, start + length)
      const elements = new Map<Tag, DicomElement>()
      const stop = walk.elements(start, limit, found.explicit, (element) => {
        elements.set(element.tag, element)
        return true
      })
      sets.push(new DataSet(this.#bytes, elements, this.littleEndian, this.#depth + 1))
      at = length === UNDEFINED_LENGTH ? stop : limit
    }
    return sets
  }
}

/** Spaces and NULs pad values on either side. */
function trimmed(text: string): string {
  return text.replace(/^[ \0]+|[ \0]+$/g, '')
}

/** Number('') is 0, and a decimal string has no hexadecimal. */
function decimal(text: string): number {
  return /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text) ? Number(text) : Number.NaN
}

export interface ParsedDataSet {
  readonly set: DataSet
  /** The first byte that was not parsed: behind the last element, or of the element that parsing stopped before. */
  readonly end: number
  /** The encoding of the first element, which may be another than was announced. */
  readonly encoding: Encoding
}

/**
 * Parses from `start` on, up to the end or to the first tag that `until` says yes to, which is kept with its length as it
 * stands (`undefinedLength`) and not walked. `bytes` may be the beginning of `total`. Throws DataSetEnds where it breaks off.
 */
export function parseDataSet(
  bytes: Uint8Array,
  start: number,
  announced: Encoding,
  { until, total = bytes.length }: { until: (tag: Tag) => boolean; total?: number },
): ParsedDataSet {
  const littleEndian = byteOrder(bytes, start, announced.littleEndian)
  const walk = new Walk(bytes, littleEndian, total)
  const elements = new Map<Tag, DicomElement>()
  let explicit: boolean | undefined
  const end = walk.elements(
    start,
    total,
    announced.explicit,
    (element) => {
      explicit ??= element.vr !== ''
      elements.set(element.tag, element)
      return true
    },
    until,
  )
  const encoding = { explicit: explicit ?? announced.explicit, littleEndian }
  return { set: new DataSet(bytes, elements, littleEndian), end, encoding }
}

/** Data sets begin with a group below 256, so that its zero byte tells the order. */
function byteOrder(bytes: Uint8Array, start: number, announced: boolean): boolean {
  const [low, high] = bytes.subarray(start, start + 2)
  if (low === 0 && high !== 0) return false
  return low !== 0 && high === 0 ? true : announced
}

interface Head {
  readonly vr: string
  readonly offset: number
  readonly length: number
}

/** Finds element after element in bytes of one order. */
class Walk {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #littleEndian: boolean
  readonly #total: number

  constructor(bytes: Uint8Array, littleEndian: boolean, total: number) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#littleEndian = littleEndian
    this.#total = total
  }

  uint32(at: number): number {
    if (at + 4 > this.#bytes.length) throw new DataSetEnds()
    return this.#view.getUint32(at, this.#littleEndian)
  }

  tagAt(at: number): Tag {
    if (at + 4 > this.#bytes.length) throw new DataSetEnds()
    return this.#view.getUint16(at, this.#littleEndian) * 65536 + this.#view.getUint16(at + 2, this.#littleEndian)
  }

  /**
   * Shows each element from `at` to `limit`, or to an item's delimiter; returns the first byte behind them. `until` ends the
   * walk with the element it says yes to, whose place is returned.
   */
  elements(
    at: number,
    limit: number,
    explicit: boolean,
    show: (element: DicomElement) => void,
    until?: (tag: Tag) => boolean,
    depth = 0,
  ): number {
    let place = at
    let inExplicit = explicit
    let others = 0
    // Fewer bytes than a tag and a length are padding.
    while (place + 8 <= limit) {
      const tag = this.tagAt(place)
      if (tag === ITEM_END) return place + 8
      // A sequence that ends where its item has not: the item's delimiter was forgotten.
      if (tag === SEQUENCE_END) return place
      const stops = until?.(tag) ?? false
      const head = this.#head(place, tag, limit, inExplicit, stops)
      others = (head.vr !== '') === inExplicit ? 0 : others + 1
      // One element that breaks the rule is an accident; where the first does, or two in a row do, it is the rule.
      if (others > 0 && (place === at || others > 1)) inExplicit = !inExplicit
      const undefinedLength = head.length === UNDEFINED_LENGTH
      // What was of unknown VR when it was made explicit kept the items it had: implicit ones (PS3.5 6.2.2).
      const itemsExplicit = head.vr !== '' && head.vr !== 'UN'
      if (stops) {
        const length = undefinedLength ? this.#total - head.offset : head.length
        show({ tag, vr: head.vr, offset: head.offset, length, undefinedLength, explicit: itemsExplicit })
        return place
      }
      const end = undefinedLength
        ? this.#sequenceEnd(head.offset, limit, itemsExplicit, depth + 1)
        : head.offset + head.length
      if (end > this.#bytes.length) throw new DataSetEnds()
      const length = Math.min(end, limit) - head.offset
      show({ tag, vr: head.vr, offset: head.offset, length, undefinedLength, explicit: itemsExplicit })
      place = end
    }
    return Math.max(place, Math.min(limit, this.#bytes.length))
  }

  /** The first byte behind the delimiter of a sequence, or of fragments of pixels. */
  #sequenceEnd(start: number, limit: number, explicit: boolean, depth: number): number {
    if (depth > MAX_DEPTH) throw new NestedTooDeep()
    let at = start
    while (at + 8 <= limit) {
      const tag = this.tagAt(at)
      const length = this.uint32(at + 4)
      if (tag === SEQUENCE_END) return at + 8
      if (tag !== ITEM) return at
      at += 8
      at = length === UNDEFINED_LENGTH ? this.elements(at, limit, explicit, () => {}, undefined, depth) : at + length
    }
    return limit
  }

  /** The element's VR, value and length in the first encoding that leads to where another element could begin. */
  #head(at: number, tag: Tag, limit: number, explicit: boolean, last: boolean): Head {
    if (at + 8 > this.#bytes.length) throw new DataSetEnds()
    if (tag >= ITEM && tag < ITEM + 0x2000) return { vr: '', offset: at + 8, length: this.uint32(at + 4) }
    const known = KNOWN[this.#bytes[at + 4]! * 256 + this.#bytes[at + 5]!]
    if (explicit && known) {
      const head = known.long ? this.#long(at, known.name) : this.#short(at, known.name)
      if (last || this.#leadsOn(head, tag, limit)) return head
    }
    if (!explicit) {
      const head = this.#implicit(at)
      if (this.#leadsOn(head, tag, limit)) return head
    }
    return this.#likeliestHead(at, tag, limit, explicit, known)
  }

  #implicit(at: number): Head {
    return { vr: '', offset: at + 8, length: this.uint32(at + 4) }
  }

  #short(at: number, vr: string): Head {
    return { vr, offset: at + 8, length: this.#view.getUint16(at + 6, this.#littleEndian) }
  }

  #long(at: number, vr: string): Head {
    return { vr, offset: at + 12, length: this.uint32(at + 8) }
  }

  /** Of an element that is not in the encoding of those before it. */
  #likeliestHead(at: number, tag: number, limit: number, explicit: boolean, known: KnownVr | undefined): Head {
    const name = known?.name ?? 'UN'
    const implicit = () => this.#implicit(at)
    const short = () => this.#short(at, name)
    const long = () => this.#long(at, name)
    const standard = known?.long ? long : short
    // VRs of a later standard have a long length, those of careless writers ("??", "ZZ") mostly a short one.
    const letters = [4, 5].every((i) => this.#bytes[at + i]! >= 0x41 && this.#bytes[at + i]! <= 0x5a)
    const named = letters ? [long, short, implicit] : [implicit, short, long]
    const broken = known ? [standard, standard === long ? short : long, implicit] : named
    const candidates = explicit ? broken : known ? [implicit, standard] : [implicit, ...named]
    for (const candidate of candidates) {
      if (candidate === long && at + 12 > this.#bytes.length) continue
      const head = candidate()
      if (this.#leadsOn(head, tag, limit)) return head
    }
    return candidates[0]!()
  }

  /** Whether another element could begin behind this one; taken for granted where the bytes do not reach so far. */
  #leadsOn({ offset, length }: Head, tag: Tag, limit: number): boolean {
    if (length === UNDEFINED_LENGTH) {
      if (offset + 4 > this.#bytes.length) return true
      const next = this.tagAt(offset)
      return next === ITEM || next === SEQUENCE_END
    }
    const end = offset + length
    if (end >= limit) return end === limit
    if (end + 4 > this.#bytes.length) return end < this.#total
    const next = this.tagAt(end)
    return next > tag
  }
}
