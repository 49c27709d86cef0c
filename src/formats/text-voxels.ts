/** Voxels as text: numbers between spaces, or bytes as pairs of hexadecimal digits. */
import { AppError } from '../errors.js'
import type { VoxelArray } from '../volume/volume.js'
import type { ByteSource } from './byte-source.js'
import { exactType } from './voxel-data.js'
import { DTYPES, isFloat, type StoredType } from './voxel-types.js'

const CHUNK_BYTES = 1024 * 1024
/** Bytes that a number takes while it is read, beside those of its own type. */
export const TEXT_BYTES = 8
/** A number is not longer than this in any notation. */
const MOST_DIGITS = 400

/** Reads exactly `count` numbers. Throws UNREADABLE_IMAGE where there are fewer, or what is there is none of `type`. */
export async function readTextVoxels(source: ByteSource, type: StoredType, count: number): Promise<VoxelArray> {
  if (2 * count - 1 > source.mostBytes) throw tooFew(count)
  const values = new Float64Array(count)
  const chunk = Buffer.alloc(CHUNK_BYTES)
  let found = 0
  let rest = ''
  while (found < count) {
    const length = await source.read(chunk)
    const text = rest + chunk.toString('latin1', 0, length)
    const words = text.split(/[\s,]+/)
    rest = length === 0 ? '' : words.pop()!
    if (rest.length > MOST_DIGITS) throw noNumber(rest)
    for (const word of words) {
      if (word === '' || found === count) continue
      values[found++] = numberOf(word, type)
    }
    if (length === 0) break
  }
  if (found < count) throw tooFew(count, found)
  const dtype = type === 'int64' || type === 'uint64' ? exactType(values) : type
  if (dtype === 'float64') return values
  const data = DTYPES[dtype].make(count)
  data.set(values)
  return data
}

function numberOf(word: string, type: StoredType): number {
  const value = /^[+-]?(nan|inf(inity)?)$/i.test(word) ? named(word) : Number(word)
  if (isFloat(type)) {
    if (Number.isNaN(value) && !/nan/i.test(word)) throw noNumber(word)
    return value
  }
  const { min, max } = type === 'int64' || type === 'uint64' ? { min: -(2 ** 63), max: 2 ** 64 } : DTYPES[type]
  if (!Number.isInteger(value) || value < min || value > max) throw noNumber(word)
  return value
}

function named(word: string): number {
  if (/nan/i.test(word)) return Number.NaN
  return word.startsWith('-') ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
}

function noNumber(word: string): AppError {
  return new AppError(
    'UNREADABLE_IMAGE',
    `'${word.slice(0, 40).replaceAll(/[^ -~]/g, '?')}' among the image's voxels is no number of its type`,
  )
}

function tooFew(count: number, found?: number): AppError {
  const there = found === undefined ? 'there is no room for as many' : `${found} are`
  return new AppError('UNREADABLE_IMAGE', `the image is cut short: ${count} numbers expected, ${there} in it`, {
    hint: 'Send the whole file again.',
  })
}

/** The bytes that pairs of hexadecimal digits say; whitespace between them means nothing. */
export function hexSource(source: ByteSource): ByteSource {
  let half: number | undefined
  const chunk = new Uint8Array(CHUNK_BYTES)
  let [at, length] = [0, 0]
  const read = async (target: Uint8Array): Promise<number> => {
    let filled = 0
    while (filled < target.length) {
      if (at === length) {
        length = await source.read(chunk)
        at = 0
        if (length === 0) break
      }
      const digit = digitOf(chunk[at++]!)
      if (digit === undefined) continue
      if (half === undefined) half = digit
      else {
        target[filled++] = half * 16 + digit
        half = undefined
      }
    }
    return filled
  }
  return {
    ...source,
    mostBytes: Math.floor(source.mostBytes / 2),
    read,
    peek: () => Promise.reject(new Error('hexadecimal text is read from front to back')),
    async skip(count) {
      let skipped = 0
      while (skipped < count) {
        const step = await read(new Uint8Array(Math.min(CHUNK_BYTES, count - skipped)))
        if (step === 0) break
        skipped += step
      }
      return skipped
    },
  }
}

function digitOf(code: number): number | undefined {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  const letter = code | 0x20
  if (letter >= 0x61 && letter <= 0x66) return letter - 0x61 + 10
  if (code === 0x20 || (code >= 0x09 && code <= 0x0d)) return undefined
  throw new AppError('UNREADABLE_IMAGE', "the image's hexadecimal voxels hold another sign")
}
