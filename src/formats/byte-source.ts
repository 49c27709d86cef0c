/**
 * Bytes of a file from front to back, inflated where they are gzip. Readers pull exactly what a header promised into
 * memory they allocated once, so a file can never make us hold more than its own checked header says.
 */
import { createReadStream, readSync } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { createGunzip, createInflate } from 'node:zlib'
import { AppError } from '../errors.js'
import { isZero } from '../volume/occupied.js'

export interface ByteSource {
  readonly compressed: boolean
  /** Upper bound of what there is from the start: the file's bytes, times deflate's best ratio where it is compressed. */
  readonly mostBytes: number
  /** The next `count` bytes (fewer at the end), without moving. */
  peek(count: number): Promise<Uint8Array>
  /**
   * Fills `target` from the current place and returns how many bytes there were. With `isBlank` it is all zero so far, and
   * zeros need not be written: memory that holds only zeros of a label map is then never taken from the system.
   */
  read(target: Uint8Array, isBlank?: boolean): Promise<number>
  /** Moves on and returns by how much it could. */
  skip(count: number): Promise<number>
  /** Reads on to the end of a gzip stream, so that its checksum is compared; a tail of over 1 MiB is left alone. */
  finish(): Promise<void>
  close(): Promise<void>
}

/** No deflate stream expands more than 1032 to 1 (a 258-byte match in 2 bits). */
const DEFLATE_BEST_RATIO = 1032
const CHUNK_BYTES = 256 * 1024
const TAIL_BYTES = 1024 * 1024
/** As much is looked at for zeros at once: it fits the second cache. */
const PIECE_BYTES = 1024 * 1024
/** As much is read before others in this process have a turn: from a disk of 1 MB/s, eight seconds. */
const MOST_BLOCKING_BYTES = 8 * 1024 * 1024
const MOST_AT_ONCE_BYTES = 64 * 1024 * 1024

export interface OpenOptions {
  /** The byte to begin at. */
  readonly start?: number
  /** Undefined means: look for gzip's magic bytes. */
  readonly packing?: 'none' | 'gzip' | 'zlib'
  readonly signal?: AbortSignal | undefined
}

export async function openBytes(path: string, { start = 0, packing, signal }: OpenOptions = {}): Promise<ByteSource> {
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    const rest = Math.max(0, size - start)
    const known = packing ?? ((await startsAsGzip(file, start)) ? 'gzip' : 'none')
    if (known !== 'none') {
      await file.close()
      return inflateSource(path, known, start, rest, signal)
    }
    return plainSource(file, start, rest, signal)
  } catch (error) {
    await file.close()
    throw error
  }
}

/**
 * Several files as one. One is open at a time, since a volume may have a file for every slice and a process may open about
 * a thousand; each but the last is read to its end.
 */
export async function openChain(paths: readonly string[], options: OpenOptions = {}): Promise<ByteSource> {
  let last = 0
  let source = await openBytes(paths[0]!, options)
  const { compressed, mostBytes: firstBytes } = source
  let mostBytes = firstBytes
  try {
    for (const path of paths.slice(1)) mostBytes += (await stat(path)).size * (compressed ? DEFLATE_BEST_RATIO : 1)
  } catch (error) {
    await source.close()
    throw error
  }
  /** False when there is no further file. */
  const turn = async (): Promise<boolean> => {
    if (last + 1 >= paths.length) return false
    await source.finish()
    await source.close()
    source = await openBytes(paths[++last]!, options)
    return true
  }
  const from = async (work: (done: number) => Promise<number>, count: number): Promise<number> => {
    let done = await work(0)
    while (done < count && (await turn())) done += await work(done)
    return done
  }
  return {
    compressed,
    mostBytes,
    peek: (count) => source.peek(count),
    read: (target, isBlank) => from((done) => source.read(target.subarray(done), isBlank), target.length),
    skip: (count) => from((done) => source.skip(count - done), count),
    async finish() {
      do await source.finish()
      while (await turn())
    },
    close: () => source.close(),
  }
}

async function startsAsGzip(file: FileHandle, start: number): Promise<boolean> {
  const magic = new Uint8Array(3)
  await file.read(magic, 0, 3, start)
  return magic[0] === 0x1f && magic[1] === 0x8b && magic[2] === 8
}

function plainSource(file: FileHandle, start: number, rest: number, signal: AbortSignal | undefined): ByteSource {
  let place = start
  const end = start + rest
  return {
    compressed: false,
    mostBytes: rest,
    async peek(count) {
      const bytes = new Uint8Array(Math.min(count, end - place))
      const { bytesRead } = await file.read(bytes, 0, bytes.length, place)
      return bytes.subarray(0, bytesRead)
    },
    async read(target, isBlank = false) {
      const piece = isBlank ? Buffer.allocUnsafe(Math.min(PIECE_BYTES, target.length)) : undefined
      let filled = 0
      let most = piece ? PIECE_BYTES : MOST_AT_ONCE_BYTES
      while (filled < target.length) {
        signal?.throwIfAborted()
        const rest = target.length - filled
        const zeros = piece ? zerosAt(file.fd, place, Math.min(rest, MOST_BLOCKING_BYTES), piece) : 0
        if (zeros > 0) await setImmediate()
        const count = zeros || (await file.read(target, filled, Math.min(rest, most), place)).bytesRead
        if (count === 0) break
        filled += count
        place += count
        // where much is no zero, little of it is looked at
        most = zeros > 0 ? PIECE_BYTES : Math.min(2 * most, MOST_AT_ONCE_BYTES)
      }
      return filled
    },
    async skip(count) {
      const step = Math.min(count, end - place)
      place += step
      return step
    },
    async finish() {},
    close: () => file.close(),
  }
}

/**
 * How many of the `most` bytes from `place` on lie before the first `piece` of them that is not all zero. The reads block: with
 * many small ones the way through the thread pool would take most of the time.
 */
function zerosAt(fd: number, place: number, most: number, piece: Buffer): number {
  for (let passed = 0; ; ) {
    const found = readSync(fd, piece, 0, Math.min(piece.length, most - passed), place + passed)
    if (found === 0 || !isZero(piece, 0, found)) return passed
    passed += found
  }
}

function inflateSource(
  path: string,
  packing: 'gzip' | 'zlib',
  start: number,
  rest: number,
  signal: AbortSignal | undefined,
): ByteSource {
  const input = createReadStream(path, { start, highWaterMark: CHUNK_BYTES })
  const gunzip =
    packing === 'gzip' ? createGunzip({ chunkSize: CHUNK_BYTES }) : createInflate({ chunkSize: CHUNK_BYTES })
  // The callback is needed for pipeline to pass a read error on to the stream we iterate; the iterator reports it.
  pipeline(input, gunzip, () => {})
  const chunks: AsyncIterator<Buffer> = gunzip[Symbol.asyncIterator]()
  let chunk: Uint8Array = new Uint8Array(0)
  let inflated = 0
  let cutShort = false

  const more = async (): Promise<boolean> => {
    signal?.throwIfAborted()
    try {
      const next = await chunks.next()
      if (next.done) return false
      chunk = next.value
      inflated += chunk.length
      return true
    } catch (error) {
      if (!isZlibError(error)) throw error
      // A stream that ends too early is an end like any other: the reader says what it missed.
      cutShort = error.code === 'Z_BUF_ERROR'
      if (cutShort) return false
      throw new AppError(
        'UNREADABLE_IMAGE',
        `the image's ${packing} stream is damaged after ${inflated} unpacked bytes`,
        {
          hint: packing === 'gzip' ? 'Send the file again; check it with gzip -t.' : 'Send the file again.',
          cause: error,
        },
      )
    }
  }
  const skip = async (count: number): Promise<number> => {
    let skipped = 0
    while (skipped < count) {
      if (chunk.length === 0 && !(await more())) break
      const step = Math.min(chunk.length, count - skipped)
      chunk = chunk.subarray(step)
      skipped += step
    }
    return skipped
  }
  return {
    compressed: true,
    mostBytes: rest * DEFLATE_BEST_RATIO,
    async peek(count) {
      while (chunk.length < count) {
        const held = chunk
        if (!(await more())) break
        chunk = Buffer.concat([held, chunk])
      }
      return new Uint8Array(chunk.subarray(0, count))
    },
    async read(target, isBlank = false) {
      let filled = 0
      while (filled < target.length) {
        if (chunk.length === 0 && !(await more())) break
        const step = Math.min(chunk.length, target.length - filled)
        const part = step === chunk.length ? chunk : chunk.subarray(0, step)
        if (!isBlank || !isZero(part, 0, step)) target.set(part, filled)
        chunk = chunk.subarray(step)
        filled += step
      }
      return filled
    },
    skip,
    async finish() {
      await skip(TAIL_BYTES)
      if (cutShort) {
        throw new AppError(
          'UNREADABLE_IMAGE',
          `the image's ${packing} stream is cut short after ${inflated} unpacked bytes`,
          {
            hint:
              packing === 'gzip' ? 'Send the whole file again; check it with gzip -t.' : 'Send the whole file again.',
          },
        )
      }
    },
    async close() {
      gunzip.destroy()
      input.destroy()
    },
  }
}

function isZlibError(error: unknown): error is Error & { code: string } {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('Z_')
}
