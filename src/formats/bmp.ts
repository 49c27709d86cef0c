/**
 * BMP, which libvips does not read: headers of every version (OS/2's to V5), 1 to 32 bits, bit masks, both run-length
 * encodings, bottom-up and top-down. Source: Microsoft's documentation of BITMAPINFOHEADER and of bitmap compression.
 */
import { AppError } from '../errors.js'

export interface Bmp {
  readonly width: number
  readonly height: number
  /** Red, green, blue of each pixel, row by row from the top. */
  readonly rgb: Uint8Array
  /** Palette index of each pixel, where there is a palette. */
  readonly index?: Uint8Array | undefined
  /** Alpha of each pixel, where a mask says which bits hold it. */
  readonly alpha?: Uint8Array | undefined
}

export interface BmpHeader {
  readonly width: number
  readonly height: number
  readonly topDown: boolean
  readonly bits: number
  readonly compression: number
  readonly pixelsAt: number
  readonly palette: Uint8Array
  /** Bit masks of red, green, blue, alpha. */
  readonly masks: readonly [number, number, number, number]
}

const RGB = 0
const RLE8 = 1
const RLE4 = 2
const BITFIELDS = 3
const ALPHA_BITFIELDS = 6
const HEADER_SIZES = [12, 16, 40, 52, 56, 64, 108, 124]
const FILE_HEADER = 14

export function isBmp(head: Uint8Array): boolean {
  return (
    head.length > 18 && head[0] === 0x42 && head[1] === 0x4d && HEADER_SIZES.includes(viewOf(head).getUint32(14, true))
  )
}

/** Throws UNREADABLE_IMAGE or UNSUPPORTED_FORMAT. */
export function decodeBmpHeader(bytes: Uint8Array): BmpHeader {
  const view = viewOf(bytes)
  const headerBytes = view.getUint32(14, true)
  const old = headerBytes === 12
  if (bytes.length < FILE_HEADER + headerBytes) throw cutShort()
  const width = old ? view.getUint16(18, true) : view.getInt32(18, true)
  const tall = old ? view.getUint16(20, true) : view.getInt32(22, true)
  const bits = view.getUint16(old ? 24 : 28, true)
  const compression = headerBytes >= 40 ? view.getUint32(30, true) : RGB
  if (width < 1 || tall === 0) throw new AppError('UNREADABLE_IMAGE', `the BMP says it is ${width} x ${tall} pixels`)
  const packed = (compression === RLE8 && bits === 8) || (compression === RLE4 && bits === 4)
  const fields = (compression === BITFIELDS || compression === ALPHA_BITFIELDS) && (bits === 16 || bits === 32)
  const plain = compression === RGB && [1, 4, 8, 16, 24, 32].includes(bits)
  if (!packed && !fields && !plain)
    throw new AppError('UNSUPPORTED_FORMAT', `the BMP has ${bits} bits a pixel in compression ${compression}`, {
      hint: 'Save it without compression, or as PNG.',
    })
  const entry = old ? 3 : 4
  const masksAfter = headerBytes === 40 && fields ? (compression === BITFIELDS ? 12 : 16) : 0
  const used = old ? 0 : headerBytes >= 40 ? view.getUint32(46, true) : 0
  const colours = bits > 8 ? 0 : Math.min(used || 2 ** bits, 2 ** bits)
  const paletteAt = FILE_HEADER + headerBytes + masksAfter
  const palette = new Uint8Array(3 * 2 ** (bits > 8 ? 0 : bits))
  for (let i = 0; i < colours; i++)
    for (let c = 0; c < 3; c++) palette[3 * i + c] = bytes[paletteAt + entry * i + 2 - c] ?? 0
  const masks = fields ? ([0, 1, 2, 3].map((i) => maskAt(view, i, headerBytes, masksAfter)) as number[]) : []
  const standard = bits === 16 ? [0x7c00, 0x3e0, 0x1f, 0] : [0xff0000, 0xff00, 0xff, 0]
  return {
    width,
    height: Math.abs(tall),
    topDown: tall < 0,
    bits,
    compression,
    pixelsAt: view.getUint32(10, true),
    palette,
    masks: (fields ? masks : standard) as unknown as BmpHeader['masks'],
  }
}

function maskAt(view: DataView, i: number, headerBytes: number, masksAfter: number): number {
  const there = headerBytes >= 56 || i < 3 || masksAfter === 16
  return there && FILE_HEADER + 40 + 4 * i + 4 <= view.byteLength ? view.getUint32(FILE_HEADER + 40 + 4 * i, true) : 0
}

/** The pixels behind a header. Throws UNREADABLE_IMAGE when there are too few bytes. */
export function decodeBmp(bytes: Uint8Array, header: BmpHeader): Bmp {
  const { width, height, bits, compression, palette } = header
  if (bits > 8) return directColours(bytes, header)
  const index =
    compression === RGB ? plainIndices(bytes, header) : packedIndices(bytes, header, compression === RLE4 ? 4 : 8)
  const rgb = new Uint8Array(3 * width * height)
  for (let i = 0; i < index.length; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = palette[3 * index[i]! + c]!
  return { width, height, rgb, index }
}

/** Where row `y`, counted from the top, starts: rows are padded to four bytes. */
function rowsOf(bytes: Uint8Array, { width, height, bits, topDown, pixelsAt }: BmpHeader): (y: number) => number {
  const stride = 4 * Math.ceil((width * bits) / 32)
  if (pixelsAt + stride * height > bytes.length + stride - Math.ceil((width * bits) / 8)) throw cutShort()
  return (y) => pixelsAt + stride * (topDown ? y : height - 1 - y)
}

function plainIndices(bytes: Uint8Array, header: BmpHeader): Uint8Array {
  const { width, height, bits } = header
  const rowAt = rowsOf(bytes, header)
  const index = new Uint8Array(width * height)
  const mask = 2 ** bits - 1
  const each = 8 / bits
  for (let y = 0, at = 0; y < height; y++) {
    const row = rowAt(y)
    for (let x = 0; x < width; x++, at++)
      index[at] = (bytes[row + Math.floor(x / each)]! >> (8 - bits * ((x % each) + 1))) & mask
  }
  return index
}

/** Runs, literal pixels, and jumps; pixels that a jump leaves out are index 0. */
function packedIndices(bytes: Uint8Array, { width, height, pixelsAt }: BmpHeader, bits: 4 | 8): Uint8Array {
  const index = new Uint8Array(width * height)
  let [x, y, at] = [0, 0, pixelsAt]
  const put = (value: number) => {
    if (x < width && y < height) index[(height - 1 - y) * width + x] = value
    x++
  }
  while (at + 1 < bytes.length && y < height) {
    const [count, value] = [bytes[at]!, bytes[at + 1]!]
    at += 2
    if (count > 0) {
      for (let i = 0; i < count; i++) put(bits === 8 ? value : i % 2 === 0 ? value >> 4 : value & 15)
    } else if (value === 0) [x, y] = [0, y + 1]
    else if (value === 1) return index
    else if (value === 2) {
      x += bytes[at] ?? 0
      y += bytes[at + 1] ?? 0
      at += 2
    } else {
      for (let i = 0; i < value; i++) {
        const byte = bytes[at + (bits === 8 ? i : i >> 1)] ?? 0
        put(bits === 8 ? byte : i % 2 === 0 ? byte >> 4 : byte & 15)
      }
      at += 2 * Math.ceil((bits === 8 ? value : Math.ceil(value / 2)) / 2)
    }
  }
  if (y < height - 1) throw cutShort()
  return index
}

function directColours(bytes: Uint8Array, header: BmpHeader): Bmp {
  const { width, height, bits, masks } = header
  const rowAt = rowsOf(bytes, header)
  const view = viewOf(bytes)
  const step = bits / 8
  const rgb = new Uint8Array(3 * width * height)
  const alpha = masks[3] === 0 ? undefined : new Uint8Array(width * height)
  const scales = masks.map(channelOf)
  for (let y = 0, i = 0; y < height; y++) {
    let at = rowAt(y)
    for (let x = 0; x < width; x++, i++, at += step) {
      const pixel =
        bits === 16
          ? view.getUint16(at, true)
          : bits === 32
            ? view.getUint32(at, true)
            : bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16)
      for (let c = 0; c < 3; c++) rgb[3 * i + c] = scales[c]!(pixel)
      if (alpha) alpha[i] = scales[3]!(pixel)
    }
  }
  return { width, height, rgb, alpha }
}

/** The bits of a mask, spread over 0 to 255. */
function channelOf(mask: number): (pixel: number) => number {
  if (mask === 0) return () => 0
  const shift = 31 - Math.clz32(mask & -mask)
  const most = mask >>> shift
  return (pixel) => Math.round((((pixel & mask) >>> shift) * 255) / most)
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function cutShort(): AppError {
  return new AppError('UNREADABLE_IMAGE', 'the BMP picture is cut short', { hint: 'Send the whole file again.' })
}
