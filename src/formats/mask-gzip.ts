/**
 * gzip for label maps. A map is mostly zeros (the one slice a click changed, in a volume of a hundred), so blocks of zeros
 * are neither compressed nor summed again: one block's deflate stream is copied, and the CRC is moved past it by algebra.
 * The result is one ordinary gzip member (RFC 1952) that every reader takes.
 */
import { constants, crc32, deflateRawSync } from 'node:zlib'

/** Zeros are looked for in blocks of this many bytes; smaller finds more of them, larger writes fewer flushes. */
const BLOCK_BYTES = 64 * 1024
/** The most that is compressed in one call, so that a full volume does not double in memory. */
const RUN_BLOCKS = 64

/** Masks are long runs: with Z_RLE they come out smaller than with the default strategy, 4 times as fast. */
const MASK_DEFLATE = { level: 1, strategy: constants.Z_RLE, finishFlush: constants.Z_FULL_FLUSH } as const

const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])
/** An empty final deflate block. */
const LAST_BLOCK = Buffer.from([0x03, 0x00])

/** Yields the pieces of the gzip file of `parts`, one after the other. */
export function* gzipMask(parts: Iterable<Uint8Array>): Generator<Buffer> {
  yield HEADER
  let crc = 0
  let length = 0
  for (const part of parts) {
    const bytes = Buffer.from(part.buffer, part.byteOffset, part.byteLength)
    for (const { start, end, zero } of runs(bytes)) {
      if (zero) {
        yield ZERO_BLOCK.deflated
        crc = multiply(ZERO_BLOCK.shift, crc) ^ ZERO_BLOCK.crc
      } else {
        const piece = bytes.subarray(start, end)
        yield deflateRawSync(piece, MASK_DEFLATE)
        crc = crc32(piece, crc >>> 0)
      }
      length += end - start
    }
  }
  yield LAST_BLOCK
  const trailer = Buffer.alloc(8)
  trailer.writeUInt32LE(crc >>> 0, 0)
  trailer.writeUInt32LE(length % 2 ** 32, 4)
  yield trailer
}

interface Run {
  readonly start: number
  readonly end: number
  /** A whole block of zeros. */
  readonly zero: boolean
}

function* runs(bytes: Buffer): Generator<Run> {
  let start = 0
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const end = at + BLOCK_BYTES
    const zero = end <= bytes.length && bytes.compare(ZEROS, 0, BLOCK_BYTES, at, end) === 0
    if (zero || at - start >= RUN_BLOCKS * BLOCK_BYTES) {
      if (at > start) yield { start, end: at, zero: false }
      start = at
    }
    if (zero) {
      yield { start: at, end, zero }
      start = end
    }
  }
  if (start < bytes.length) yield { start, end: bytes.length, zero: false }
}

const ZEROS = Buffer.alloc(BLOCK_BYTES)
const ZERO_BLOCK = {
  deflated: deflateRawSync(ZEROS, MASK_DEFLATE),
  crc: crc32(ZEROS),
  shift: powerOfX(8 * BLOCK_BYTES),
}

/** The product of two polynomials over GF(2) modulo the CRC's, bits reflected as in zlib's crc32_combine. */
function multiply(a: number, b: number): number {
  let product = 0
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) product ^= b
    b = b & 1 ? (b >>> 1) ^ 0xedb88320 : b >>> 1
  }
  return product
}

/** x to the power n modulo the CRC's polynomial. */
function powerOfX(n: number): number {
  let result = 1 << 31
  for (let square = 1 << 30; n > 0; n = Math.floor(n / 2)) {
    if (n % 2 === 1) result = multiply(square, result)
    square = multiply(square, square)
  }
  return result
}
