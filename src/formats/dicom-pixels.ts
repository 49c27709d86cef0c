/**
 * Frames of a DICOM object as stored values: native bytes in either byte order, or decoded from RLE, JPEG, JPEG-LS and
 * JPEG 2000. Owned here: where a frame's bytes lie, and the checks before a decoder sees them.
 */
import { createRequire } from 'node:module'
import { AppError } from '../errors.js'
import { readCodestream } from './codestream.js'
import {
  DEFLATED_LITTLE,
  type DicomBytes,
  type DicomHeader,
  EXPLICIT_BIG,
  EXPLICIT_LITTLE,
  GE_BIG_PIXELS,
  IMPLICIT_LITTLE,
} from './dicom-header.js'
import type { ReadLimits } from './format.js'
import { unpackRle } from './rle.js'

type Codec = 'decodeJpeg' | 'decodeJpegLs' | 'decodeJpeg2000' | 'decodeHtJpeg2000'

const CODECS: ReadonlyMap<string, Codec> = new Map([
  ['1.2.840.10008.1.2.4.50', 'decodeJpeg'], // baseline, 8 bits
  ['1.2.840.10008.1.2.4.51', 'decodeJpeg'], // extended, 12 bits
  ['1.2.840.10008.1.2.4.57', 'decodeJpeg'], // lossless, any predictor
  ['1.2.840.10008.1.2.4.70', 'decodeJpeg'], // lossless, first-order prediction
  ['1.2.840.10008.1.2.4.80', 'decodeJpegLs'],
  ['1.2.840.10008.1.2.4.81', 'decodeJpegLs'],
  ['1.2.840.10008.1.2.4.90', 'decodeJpeg2000'],
  ['1.2.840.10008.1.2.4.91', 'decodeJpeg2000'],
  ['1.2.840.10008.1.2.4.201', 'decodeHtJpeg2000'],
  ['1.2.840.10008.1.2.4.202', 'decodeHtJpeg2000'],
  ['1.2.840.10008.1.2.4.203', 'decodeHtJpeg2000'],
])
const RLE = '1.2.840.10008.1.2.5'
const NATIVE: readonly string[] = [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE, GE_BIG_PIXELS]
/** JPEG whose streams may say themselves what their colours are. */
const JPEG_WITH_COLOURS = new Set(['1.2.840.10008.1.2.4.50', '1.2.840.10008.1.2.4.51'])

/** Every transfer syntax that `openFrames` reads: what a store of ours may accept. */
export const SUPPORTED_TRANSFER_SYNTAXES: readonly string[] = [
  EXPLICIT_LITTLE,
  IMPLICIT_LITTLE,
  RLE,
  ...CODECS.keys(),
  EXPLICIT_BIG,
  DEFLATED_LITTLE,
]

const MAX_FRAGMENTS = 1_000_000
const UNDEFINED_LENGTH = 0xffffffff
/** Tags as a little-endian 32-bit word reads them. */
const ITEM = 0xe000fffe
const SEQUENCE_END = 0xe0ddfffe

/** Whether a decoder of its own makes the frames, as for JPEG and its kin. */
export const isDecoded = ({ transferSyntax }: DicomHeader): boolean => CODECS.has(transferSyntax)

/** Bytes of one frame once decoded: rows x columns x samples, each in its allocated bytes, single bits in a byte each. */
export function frameBytes({ rows, columns, samples, bitsAllocated }: DicomHeader): number {
  return rows * columns * samples * Math.ceil(bitsAllocated / 8)
}

/** How an object's frames lie in the file, and what its decoded samples are. */
export interface PixelLayout {
  /** Bits of one frame in the file where it is not compressed. */
  readonly nativeBits: number | undefined
  /** Decoded frames have one plane after the other instead of samples side by side. */
  readonly planar: boolean
  readonly colour: ColourModel
  /** Two neighbouring pixels share their chroma: Y1 Y2 Cb Cr. */
  readonly shared: boolean
}

export type ColourModel = 'grey' | 'palette' | 'rgb' | 'ybr'

/**
 * What follows from transfer syntax, photometric interpretation, samples and planar configuration, in one place (PS3.3
 * C.7.6.3.1, PS3.5 8.2). `compressed`: how the pixels are really packed. Throws UNSUPPORTED_FORMAT for other combinations.
 *
 * | photometric interpretation | not compressed | RLE, JPEG-LS, lossless JPEG | baseline JPEG | JPEG 2000 |
 * |---|---|---|---|---|
 * | RGB | RGB | RGB | RGB, unless the stream says otherwise | RGB |
 * | YBR_FULL | YBR | YBR | YBR, unless … | YBR |
 * | YBR_FULL_422 | YBR, shared chroma | YBR | YBR, unless … | YBR |
 * | YBR_ICT, YBR_RCT | RGB: it was decoded once | RGB | YBR, unless … | RGB: its decoder undoes them |
 */
export function pixelLayout(header: DicomHeader, compressed: boolean, name: string): PixelLayout {
  const { photometric, samples, rows, columns, bitsAllocated, planar, pixels, frames } = header
  const nativeBits = (perPixel: number) => (compressed ? undefined : rows * columns * perPixel * bitsAllocated)
  if (photometric === 'PALETTE COLOR' || samples === 1) {
    if (samples !== 1) throw unsupported(name, `a palette and ${samples} samples a pixel`)
    const colour = photometric === 'PALETTE COLOR' ? 'palette' : 'grey'
    return { nativeBits: nativeBits(1), planar: false, colour, shared: false }
  }
  if (samples !== 3) throw unsupported(name, `${samples} samples a pixel`)
  if (bitsAllocated === 1 || header.sampleType !== 'integer')
    throw unsupported(name, 'colours that are not whole bytes')
  const jpeg = compressed && JPEG_WITH_COLOURS.has(header.transferSyntax)
  switch (photometric) {
    case 'RGB':
      return { nativeBits: nativeBits(3), planar: planar && !compressed, colour: 'rgb', shared: false }
    case 'YBR_FULL_422': {
      // Files that say 4:2:2 and have chroma for every pixel are common: their length tells.
      const whole = !compressed && pixels.length !== undefined && pixels.length * 8 >= nativeBits(3)! * frames.length
      const shared = !compressed && !whole
      if (shared && columns % 2 === 1)
        throw unsupported(name, 'YBR_FULL_422 pixels (4:2:2) in an odd number of columns')
      return { nativeBits: nativeBits(shared ? 2 : 3), planar: planar && whole, colour: 'ybr', shared }
    }
    case 'YBR_FULL':
      return { nativeBits: nativeBits(3), planar: planar && !compressed, colour: 'ybr', shared: false }
    case 'YBR_ICT':
    case 'YBR_RCT':
      return { nativeBits: nativeBits(3), planar: planar && !compressed, colour: jpeg ? 'ybr' : 'rgb', shared: false }
    case 'YBR_PARTIAL_420':
    case 'YBR_PARTIAL_422':
      if (jpeg) return { nativeBits: undefined, planar: false, colour: 'ybr', shared: false }
      throw unsupported(
        name,
        `${photometric} pixels (4:2:${photometric.endsWith('0') ? '0' : '2'}) that are not compressed as JPEG`,
      )
    default:
      throw unsupported(
        name,
        `three samples a pixel and a photometric interpretation that is no colour model of theirs`,
      )
  }
}

/** How an object's pixels are packed. */
interface Packing {
  readonly codec: Codec | 'rle' | undefined
  readonly layout: PixelLayout
  readonly notes: readonly string[]
}

/** Throws unless this server can decode the object and the bytes that its header promises are there. */
function packingOf(header: DicomHeader, bytes: DicomBytes, name: string): Packing {
  const { transferSyntax, pixels, frames } = header
  const named = transferSyntax === RLE ? 'rle' : CODECS.get(transferSyntax)
  const native = NATIVE.includes(transferSyntax)
  if (pixels.length === undefined) {
    if (named) return { codec: named, layout: pixelLayout(header, true, name), notes: [] }
    const found = native ? codecOf(firstFragment(header, bytes)) : undefined
    if (!found) throw unsupportedSyntax(name, transferSyntax)
    const notes = ['its transfer syntax says that its pixels are not compressed; they are, and were read so']
    return { codec: found, layout: pixelLayout(header, true, name), notes }
  }
  if (!native && !named) throw unsupportedSyntax(name, transferSyntax)
  const layout = pixelLayout(header, false, name)
  const expected = Math.ceil((layout.nativeBits! * frames.length) / 8)
  const found = Math.min(pixels.length, bytes.size - pixels.offset)
  if (found < expected) {
    throw new AppError('UNREADABLE_IMAGE', `${name} is cut short: ${expected} bytes of pixels expected, ${found} found`)
  }
  const notes = native
    ? []
    : ['its transfer syntax says that its pixels are compressed; they are not, and were read so']
  return { codec: undefined, layout, notes }
}

export interface FrameReader {
  readonly layout: PixelLayout
  /** How the pixels were read where the header cannot be taken at its word. */
  readonly notes: readonly string[]
  /** Fills `target` with frame `index`, little-endian, in the layout's order. */
  readFrame(index: number, target: Uint8Array): Promise<void>
}

/** Opens an object's pixels: UNSUPPORTED_FORMAT or UNREADABLE_IMAGE where they cannot be what the header promises. */
export function openFrames(header: DicomHeader, bytes: DicomBytes, limits: ReadLimits, name: string): FrameReader {
  const packing = packingOf(header, bytes, name)
  return packing.codec === undefined
    ? nativeFrames(header, bytes, packing, name)
    : encapsulatedFrames(header, bytes, packing.codec, packing, limits, name)
}

function nativeFrames(header: DicomHeader, bytes: DicomBytes, packing: Packing, name: string): FrameReader {
  const { layout, notes } = packing
  const { bitsAllocated, bigEndian, pixels } = header
  const bits = layout.nativeBits!
  const read = (target: Uint8Array, at: number): void => {
    if (bytes.read(target, pixels.offset + at) < target.length)
      throw new AppError('UNREADABLE_IMAGE', `${name} is cut short`)
  }
  return {
    layout,
    notes,
    async readFrame(index, target) {
      if (bitsAllocated === 1) {
        // Frames of single bits follow each other without a gap, lowest bit first.
        const first = index * bits
        const packed = new Uint8Array(Math.ceil((first + bits) / 8) - (first >> 3))
        read(packed, first >> 3)
        for (let i = 0, bit = first & 7; i < bits; i++, bit++) target[i] = (packed[bit >> 3]! >> (bit & 7)) & 1
        return
      }
      if (layout.shared) {
        const packed = new Uint8Array(bits / 8)
        read(packed, (index * bits) / 8)
        shareOut(packed, target)
        return
      }
      read(target, (index * bits) / 8)
      if (!bigEndian) return
      const view = Buffer.from(target.buffer, target.byteOffset, target.byteLength)
      if (bitsAllocated === 16) view.swap16()
      else if (bitsAllocated === 32) view.swap32()
      else if (bitsAllocated === 64) view.swap64()
    },
  }
}

/** Y1 Y2 Cb Cr -> Y1 Cb Cr Y2 Cb Cr. */
function shareOut(packed: Uint8Array, target: Uint8Array): void {
  for (let from = 0, to = 0; from < packed.length; from += 4, to += 6) {
    target[to] = packed[from]!
    target[to + 3] = packed[from + 1]!
    target[to + 1] = target[to + 4] = packed[from + 2]!
    target[to + 2] = target[to + 5] = packed[from + 3]!
  }
}

interface Fragment {
  readonly offset: number
  readonly length: number
}

function encapsulatedFrames(
  header: DicomHeader,
  bytes: DicomBytes,
  codec: Codec | 'rle',
  { layout, notes }: Packing,
  limits: ReadLimits,
  name: string,
): FrameReader {
  const frames = findFrames(header, bytes, name)
  const size = frameBytes(header)
  const encodedFrame = (index: number): Uint8Array => {
    const fragments = frames[index]!
    const length = fragments.reduce((sum, one) => sum + one.length, 0)
    if (length > limits.maxVolumeBytes) throw damaged(name)
    const encoded = new Uint8Array(length)
    let filled = 0
    for (const one of fragments) filled += bytes.read(encoded.subarray(filled, filled + one.length), one.offset)
    return encoded
  }
  const stream = codec === 'rle' ? undefined : readCodestream(encodedFrame(0))
  const really = stream && layout.colour !== 'grey' && stream.kind === 'jpeg' ? stream.colour : undefined
  return {
    layout: really && layout.colour !== 'palette' ? { ...layout, colour: really } : layout,
    notes,
    async readFrame(index, target) {
      const encoded = encodedFrame(index)
      if (codec === 'rle') {
        if (!unpackRle(encoded, target, header.samples, header.bitsAllocated / 8)) throw damaged(name)
        return
      }
      checkCodestream(encoded, header, name)
      const decoded = await decodeFrame(codecOf(encoded, codec) ?? codec, encoded, header, name)
      if (decoded.length !== size)
        throw new AppError('UNREADABLE_IMAGE', `${name} decodes to ${decoded.length} bytes a frame, not ${size}`)
      target.set(decoded)
    },
  }
}

/** The decoder that a codestream itself calls for; HTJ2K begins as JPEG 2000 does. */
function codecOf(encoded: Uint8Array, named?: Codec): Codec | undefined {
  const kind = readCodestream(encoded)?.kind
  if (kind === 'jpeg-2000') return named === 'decodeHtJpeg2000' ? named : 'decodeJpeg2000'
  return kind === 'jpeg-ls' ? 'decodeJpegLs' : kind === 'jpeg' ? 'decodeJpeg' : undefined
}

/** Items from `start` on, up to the sequence's delimiter or the end of the file. */
function* walkFragments(start: number, bytes: DicomBytes, name: string): Generator<Fragment> {
  const head = Buffer.alloc(8)
  let place = start
  for (let count = 0; bytes.read(head, place) === 8; count++) {
    const tag = head.readUInt32LE(0)
    const length = head.readUInt32LE(4)
    if (tag === SEQUENCE_END) return
    if (tag !== ITEM || length === UNDEFINED_LENGTH || place + 8 + length > bytes.size) throw damaged(name)
    if (count > MAX_FRAGMENTS) throw damaged(name)
    yield { offset: place + 8, length }
    place += 8 + length
  }
}

function firstFragment(header: DicomHeader, bytes: DicomBytes): Uint8Array {
  const [, first] = walkFragments(header.pixels.offset, bytes, '')
  const encoded = new Uint8Array(first?.length ?? 0)
  if (first) bytes.read(encoded, first.offset)
  return encoded
}

/** Tells which frame each fragment belongs to (PS3.5 A.4). */
function findFrames(header: DicomHeader, bytes: DicomBytes, name: string): Fragment[][] {
  const [table, ...fragments] = walkFragments(header.pixels.offset, bytes, name)
  const count = header.frames.length
  if (!table || fragments.length === 0) throw damaged(name)
  if (count === 1) return [fragments]
  if (fragments.length === count) return fragments.map((one) => [one])
  const starts = frameStarts(header, table, fragments, bytes)
  if (!starts)
    throw new AppError('UNREADABLE_IMAGE', `${name} has ${fragments.length} pixel fragments for ${count} frames`)
  const frames: Fragment[][] = Array.from({ length: count }, () => [])
  let frame = -1
  for (const one of fragments) {
    if (frame + 1 < count && one.offset - 8 >= starts[frame + 1]!) frame++
    if (frame < 0) throw damaged(name)
    frames[frame]!.push(one)
  }
  if (frames.some((one) => one.length === 0)) throw damaged(name)
  return frames
}

/** Where the item of each frame's first fragment begins: by a table of offsets, else by the codestreams' own beginnings. */
function frameStarts(
  { frames, frameOffsets }: DicomHeader,
  table: Fragment,
  fragments: readonly Fragment[],
  bytes: DicomBytes,
): number[] | undefined {
  const origin = fragments[0]!.offset - 8
  if (table.length === frames.length * 4) {
    const offsets = Buffer.alloc(table.length)
    bytes.read(offsets, table.offset)
    return frames.map((_, i) => origin + offsets.readUInt32LE(i * 4))
  }
  if (frameOffsets?.length === frames.length) return frameOffsets.map((offset) => origin + offset)
  const head = Buffer.alloc(8)
  const starts = fragments.filter(({ offset }) => {
    bytes.read(head, offset)
    return head.readUInt16BE(0) === 0xffd8 || head.readUInt32BE(0) === 0xff4fff51 || head.readUInt32BE(4) === 0x6a502020
  })
  return starts.length === frames.length ? starts.map(({ offset }) => offset - 8) : undefined
}

/** A codestream says its own size; one that disagrees with the header could make the decoder allocate anything. */
function checkCodestream(encoded: Uint8Array, header: DicomHeader, name: string): void {
  const found = readCodestream(encoded)
  if (!found) throw damaged(name)
  if (!found.ends) throw new AppError('UNREADABLE_IMAGE', `${name} has compressed pixels that end too early`)
  if (found.width !== header.columns || found.height !== header.rows || found.components !== header.samples) {
    const words = `${found.width}x${found.height}x${found.components}`
    const want = `${header.columns}x${header.rows}x${header.samples}`
    throw new AppError('UNREADABLE_IMAGE', `${name} is ${want} in its header and ${words} in its compressed pixels`)
  }
}

interface CodecModule {
  readonly NativeCodecs: {
    initializeAsync(options: { logCodecsInfo: boolean; logCodecsTrace: boolean }): Promise<void>
    isInitialized(): boolean
    release(): void
  } & Readonly<Record<Codec, (context: CodecContext, parameters?: object) => CodecContext>>
  readonly Context: new (attributes: object) => CodecContext
  readonly log: { setLevel(level: string): void }
}

interface CodecContext {
  getDecodedBuffer(): Uint8Array | undefined
}

const require = createRequire(import.meta.url)

async function decodeFrame(codec: Codec, encoded: Uint8Array, header: DicomHeader, name: string): Promise<Uint8Array> {
  // Loaded on first need: four megabytes of WebAssembly that most requests never use. Node caches the module.
  const { NativeCodecs, Context, log } = require('dcmjs-codecs') as CodecModule
  if (!NativeCodecs.isInitialized()) {
    log.setLevel('silent')
    await NativeCodecs.initializeAsync({ logCodecsInfo: false, logCodecsTrace: false })
  }
  try {
    const context = new Context({
      width: header.columns,
      height: header.rows,
      bitsAllocated: header.bitsAllocated,
      bitsStored: header.bitsStored,
      samplesPerPixel: header.samples,
      pixelRepresentation: header.signed ? 1 : 0,
      planarConfiguration: header.planar ? 1 : 0,
      photometricInterpretation: header.photometric,
      encodedBuffer: encoded,
    })
    // Colours stay as they are in the stream: what they are is the table's business, not the decoder's.
    const decoded = NativeCodecs[codec](context, codec === 'decodeJpeg' ? { convertColorspaceToRgb: false } : {})
    return decoded.getDecodedBuffer() ?? new Uint8Array(0)
  } catch (cause) {
    // A trap leaves the module's heap as it was in mid-flight; the next frame starts from a fresh one.
    NativeCodecs.release()
    throw new AppError('UNREADABLE_IMAGE', `${name} has damaged compressed pixels`, { cause })
  }
}

function unsupported(name: string, what: string): AppError {
  return new AppError('UNSUPPORTED_FORMAT', `${name} has ${what}, which is not supported`)
}

function unsupportedSyntax(name: string, syntax: string): AppError {
  const uid = /^[0-9.]{1,64}$/.test(syntax) ? syntax : 'an unknown one'
  return new AppError('UNSUPPORTED_FORMAT', `${name} has transfer syntax ${uid}, which is not supported`)
}

function damaged(name: string): AppError {
  return new AppError('UNREADABLE_IMAGE', `${name} has damaged compressed pixels`)
}
