/**
 * Frames of a DICOM object as stored values: native bytes in either byte order, or decoded from RLE, JPEG, JPEG-LS and
 * JPEG 2000. Owned here: where a frame's bytes lie, and the checks before a decoder sees them.
 */
import { createRequire } from 'node:module'
import { AppError } from '../errors.js'
import { codestreamEnds, codestreamSize } from './codestream-size.js'
import {
  DEFLATED_LITTLE,
  type DicomBytes,
  type DicomHeader,
  EXPLICIT_BIG,
  EXPLICIT_LITTLE,
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
const NATIVE: readonly string[] = [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE]

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

/** Bytes of one frame's values once decoded: rows x columns x samples, each in its allocated bytes. */
export function frameBytes({ rows, columns, samples, bitsAllocated }: DicomHeader): number {
  return rows * columns * samples * (bitsAllocated / 8)
}

/** Throws unless this server can decode the object and the bytes that its header promises are there. */
export function checkPixels(header: DicomHeader, bytes: DicomBytes, name: string): void {
  const { transferSyntax, pixels, frames } = header
  if (pixels.length === undefined) {
    if (transferSyntax !== RLE && !CODECS.has(transferSyntax)) throw unsupportedSyntax(name, transferSyntax)
    return
  }
  if (!NATIVE.includes(transferSyntax)) throw unsupportedSyntax(name, transferSyntax)
  const expected = frameBytes(header) * frames.length
  const found = Math.min(pixels.length, bytes.size - pixels.offset)
  if (found < expected) {
    throw new AppError('UNREADABLE_IMAGE', `${name} is cut short: ${expected} bytes of pixels expected, ${found} found`)
  }
}

export interface FrameReader {
  /** Fills `target` with frame `index`, little-endian, samples side by side as decoded. */
  readFrame(index: number, target: Uint8Array): Promise<void>
}

/** Opens the pixels of an object that `checkPixels` accepted. */
export function openFrames(header: DicomHeader, bytes: DicomBytes, limits: ReadLimits, name: string): FrameReader {
  return header.pixels.length === undefined
    ? encapsulatedFrames(header, bytes, limits, name)
    : nativeFrames(header, bytes, name)
}

function nativeFrames(header: DicomHeader, bytes: DicomBytes, name: string): FrameReader {
  const size = frameBytes(header)
  return {
    async readFrame(index, target) {
      const got = bytes.read(target, header.pixels.offset + index * size)
      if (got < size) throw new AppError('UNREADABLE_IMAGE', `${name} is cut short`)
      if (header.transferSyntax !== EXPLICIT_BIG) return
      const view = Buffer.from(target.buffer, target.byteOffset, target.byteLength)
      if (header.bitsAllocated === 16) view.swap16()
      else if (header.bitsAllocated === 32) view.swap32()
    },
  }
}

interface Fragment {
  readonly offset: number
  readonly length: number
}

function encapsulatedFrames(header: DicomHeader, bytes: DicomBytes, limits: ReadLimits, name: string): FrameReader {
  const frames = findFrames(header, bytes, name)
  const codec = CODECS.get(header.transferSyntax)
  const size = frameBytes(header)
  return {
    async readFrame(index, target) {
      const fragments = frames[index]!
      const length = fragments.reduce((sum, one) => sum + one.length, 0)
      if (length > limits.maxVolumeBytes) throw damaged(name)
      const encoded = new Uint8Array(length)
      let filled = 0
      for (const one of fragments) {
        filled += bytes.read(encoded.subarray(filled, filled + one.length), one.offset)
      }
      if (codec === undefined) {
        if (!unpackRle(encoded, target, header.samples, header.bitsAllocated / 8)) throw damaged(name)
        return
      }
      checkCodestream(encoded, header, name)
      const decoded = await decodeFrame(codec, encoded, header, name)
      if (decoded.length !== size)
        throw new AppError('UNREADABLE_IMAGE', `${name} decodes to ${decoded.length} bytes a frame, not ${size}`)
      target.set(decoded)
    },
  }
}

/** Walks the fragments' item headers, and tells which frame each belongs to (PS3.5 A.4). */
function findFrames(header: DicomHeader, bytes: DicomBytes, name: string): Fragment[][] {
  const head = Buffer.alloc(8)
  let place = header.pixels.offset
  const next = (): Fragment | undefined => {
    if (bytes.read(head, place) < 8) return undefined
    const tag = head.readUInt32LE(0)
    const length = head.readUInt32LE(4)
    if (tag === SEQUENCE_END) return undefined
    if (tag !== ITEM) throw damaged(name)
    if (length === UNDEFINED_LENGTH || place + 8 + length > bytes.size) throw damaged(name)
    const fragment = { offset: place + 8, length }
    place += 8 + length
    return fragment
  }
  const table = next()
  if (!table) throw damaged(name)
  const firstFragment = place
  const fragments: Fragment[] = []
  for (let one = next(); one; one = next()) {
    if (fragments.length >= MAX_FRAGMENTS) throw damaged(name)
    fragments.push(one)
  }
  const count = header.frames.length
  if (count === 1 && fragments.length > 0) return [fragments]
  if (fragments.length === count) return fragments.map((one) => [one])
  if (table.length !== count * 4) {
    throw new AppError('UNREADABLE_IMAGE', `${name} has ${fragments.length} pixel fragments for ${count} frames`)
  }
  const offsets = Buffer.alloc(table.length)
  bytes.read(offsets, table.offset)
  const frames: Fragment[][] = Array.from({ length: count }, () => [])
  let frame = -1
  for (const one of fragments) {
    if (frame + 1 < count && one.offset - 8 - firstFragment >= offsets.readUInt32LE((frame + 1) * 4)) frame++
    if (frame < 0) throw damaged(name)
    frames[frame]!.push(one)
  }
  if (frames.some((one) => one.length === 0)) throw damaged(name)
  return frames
}

/** A codestream says its own size; one that disagrees with the header could make the decoder allocate anything. */
function checkCodestream(encoded: Uint8Array, header: DicomHeader, name: string): void {
  const found = codestreamSize(encoded)
  if (!found) throw damaged(name)
  if (!codestreamEnds(encoded))
    throw new AppError('UNREADABLE_IMAGE', `${name} has compressed pixels that end too early`)
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
    const decoded = NativeCodecs[codec](
      context,
      codec === 'decodeJpeg' ? { convertColorspaceToRgb: header.samples === 3 } : {},
    )
    return decoded.getDecodedBuffer() ?? new Uint8Array(0)
  } catch (cause) {
    // A trap leaves the module's heap as it was in mid-flight; the next frame starts from a fresh one.
    NativeCodecs.release()
    throw new AppError('UNREADABLE_IMAGE', `${name} has damaged compressed pixels`, { cause })
  }
}

function unsupportedSyntax(name: string, syntax: string): AppError {
  const uid = /^[0-9.]{1,64}$/.test(syntax) ? syntax : 'an unknown one'
  return new AppError('UNSUPPORTED_FORMAT', `${name} has transfer syntax ${uid}, which is not supported`)
}

function damaged(name: string): AppError {
  return new AppError('UNREADABLE_IMAGE', `${name} has damaged compressed pixels`)
}
