/**
 * Zip archives from outside, unpacked into a folder of ours. Nothing an archive says is believed: its files get our own
 * names, links and devices are refused, and every limit is checked against what it declares and again while inflating.
 */
import { createWriteStream } from 'node:fs'
import { type FileHandle, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { constants, crc32, inflateRaw } from 'node:zlib'
import * as yauzl from 'yauzl'
import { AppError, machineFault } from '../errors.js'
import { forEachConcurrently } from './concurrently.js'

export interface UnzipLimits {
  /** Entries, folders included. */
  readonly maxEntries: number
  /** Bytes of all unpacked files together. */
  readonly maxBytes: number
}

export interface UnzippedFile {
  /** What the archive calls it: relative, no `..`, forward slashes. For looking at; never a path on this machine. */
  readonly entryName: string
  /** Where it lies now, under a name of ours. */
  readonly path: string
  readonly bytes: number
}

export interface UnpackedEntry extends UnzippedFile {
  /** The file's first bytes, at most HEAD_BYTES, so that nobody need open it to see what it is. */
  readonly head: Uint8Array
}

/** As much of a file as tells a zip or a DICOM file. */
const HEAD_BYTES = 132

/** Zlib inflates on the pool's four threads; two entries more keep these from waiting for the one that hands out work. */
const CONCURRENT_ENTRIES = 6

/** Entries up to this size are read and inflated in one call each: a third of a stream's time (200 slices of 512x512). */
const ONE_CALL_BYTES = 16 * 1024 * 1024

const FILE_TYPE_MASK = 0o170000
const REGULAR_FILE = 0o100000
const FOLDER = 0o040000
/** Makers whose entries carry a Unix mode: Unix itself, and Darwin. */
const MADE_ON_UNIX: readonly number[] = [3, 19]

/** How each entry of the central directory begins. */
const DIRECTORY_SIGNATURE = 0x02014b50

/**
 * Unpacks `zipPath` into the existing `folder` and gives the files in the archive's order. An archive inside the archive
 * stays what it is: a file. Throws UNREADABLE_IMAGE for a damaged, encrypted or dishonest archive, TOO_LARGE over a limit;
 * what was unpacked until then is the caller's to remove with the folder.
 */
export async function unzipTo(
  zipPath: string,
  folder: string,
  limits: UnzipLimits,
  signal?: AbortSignal,
): Promise<UnpackedEntry[]> {
  const zip = await openZip(zipPath)
  let archive: FileHandle | undefined
  try {
    const { entries, declaredBytes } = await listEntries(zip, limits)
    if (declaredBytes > limits.maxBytes) throw tooLarge(`${declaredBytes} bytes`, `${limits.maxBytes} bytes`)
    const room = { left: limits.maxBytes }
    const files: UnpackedEntry[] = new Array(entries.length)
    const file = await open(zipPath, 'r')
    archive = file
    await checkDirectoryEnd(zip, file)
    await forEachConcurrently(entries, CONCURRENT_ENTRIES, async (entry, i) => {
      signal?.throwIfAborted()
      const path = join(folder, `entry-${String(i).padStart(6, '0')}`)
      const small = entry.isCompressed() && Math.max(entry.uncompressedSize, entry.compressedSize) <= ONE_CALL_BYTES
      const head = small
        ? await extractAtOnce(file, entry, path)
        : await extractStreaming(zip, entry, path, room, limits, signal)
      files[i] = { entryName: entry.fileName, path, bytes: entry.uncompressedSize, head }
    })
    return files
  } catch (error) {
    if (error instanceof AppError) throw error
    signal?.throwIfAborted()
    throw (
      machineFault(error) ??
      new AppError('UNREADABLE_IMAGE', `the zip archive is damaged: ${reason(error)}`, { cause: error })
    )
  } finally {
    zip.close()
    await archive?.close()
  }
}

/** Whether these first bytes are a zip archive's (with entries, or an empty one). */
export function looksLikeZip(head: Uint8Array): boolean {
  return head[0] === 0x50 && head[1] === 0x4b && ((head[2] === 3 && head[3] === 4) || (head[2] === 5 && head[3] === 6))
}

function openZip(path: string): Promise<yauzl.ZipFile> {
  return new Promise((resolve, reject) => {
    yauzl.open(path, { lazyEntries: true, autoClose: false, strictFileNames: true }, (error, zip) => {
      if (!error) return resolve(zip)
      reject(new AppError('UNREADABLE_IMAGE', `not a readable zip archive: ${reason(error)}`, { cause: error }))
    })
  })
}

/** Reads the central directory to its end, refusing what could hurt before anything is written. */
function listEntries(
  zip: yauzl.ZipFile,
  limits: UnzipLimits,
): Promise<{ entries: yauzl.Entry[]; declaredBytes: number }> {
  if (zip.entryCount > limits.maxEntries) throw tooLarge(`${zip.entryCount} entries`, `${limits.maxEntries}`)
  return new Promise((resolve, reject) => {
    const entries: yauzl.Entry[] = []
    let declaredBytes = 0
    let seen = 0
    zip.on('error', reject)
    zip.on('end', () => resolve({ entries, declaredBytes }))
    zip.on('entry', (entry: yauzl.Entry) => {
      try {
        if (++seen > limits.maxEntries) throw tooLarge(`over ${limits.maxEntries} entries`, `${limits.maxEntries}`)
        if (isFile(entry)) {
          entries.push(entry)
          declaredBytes += entry.uncompressedSize
        }
        zip.readEntry()
      } catch (error) {
        reject(error)
      }
    })
    zip.readEntry()
  })
}

/** What yauzl keeps to itself: where it has read the central directory up to. */
interface ZipInside {
  readonly readEntryCursor: number
}

/** An archive that counts fewer entries than it lists would lose the others, slices of a series perhaps, without a word. */
async function checkDirectoryEnd(zip: yauzl.ZipFile, archive: FileHandle): Promise<void> {
  const { readEntryCursor } = zip as unknown as ZipInside
  const next = await readExactly(archive, 4, readEntryCursor)
  if (next.readUInt32LE(0) === DIRECTORY_SIGNATURE) throw new Error('it lists more entries than it counts')
}

/** True for a file, false for a folder; throws for anything else, and for entries nobody could unpack. */
function isFile(entry: yauzl.Entry): boolean {
  const mode = MADE_ON_UNIX.includes(entry.versionMadeBy >>> 8)
    ? (entry.externalFileAttributes >>> 16) & FILE_TYPE_MASK
    : 0
  if (mode !== 0 && mode !== REGULAR_FILE && mode !== FOLDER)
    throw new AppError('UNREADABLE_IMAGE', 'the zip archive holds a link or a device; only plain files are taken')
  if (entry.isEncrypted()) throw new AppError('UNREADABLE_IMAGE', 'the zip archive is encrypted')
  return !(entry.fileName.endsWith('/') || mode === FOLDER)
}

const inflate = promisify(inflateRaw)

const LOCAL_HEADER_BYTES = 30
const LOCAL_HEADER_SIGNATURE = 0x04034b50

/** The declared sizes are within every limit already, so it is enough to hold the entry to its own. */
async function extractAtOnce(archive: FileHandle, entry: yauzl.Entry, path: string): Promise<Uint8Array> {
  const header = await readExactly(archive, LOCAL_HEADER_BYTES, entry.relativeOffsetOfLocalHeader)
  if (header.readUInt32LE(0) !== LOCAL_HEADER_SIGNATURE) throw new Error('an entry is not where it should be')
  const skip = LOCAL_HEADER_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28)
  const packed = await readExactly(archive, entry.compressedSize, entry.relativeOffsetOfLocalHeader + skip)
  const declared = entry.uncompressedSize
  // A byte of room more than declared lets zlib see the end, and too much, without a second buffer.
  const room = declared + 1
  const bytes = await inflate(packed, { maxOutputLength: room, chunkSize: Math.max(constants.Z_MIN_CHUNK, room) })
  if (bytes.length !== declared) throw new Error('an entry is not as long as declared')
  if (crc32(bytes) !== entry.crc32) throw wrongSum()
  await writeFile(path, bytes, { flag: 'wx' })
  return Uint8Array.from(bytes.subarray(0, HEAD_BYTES))
}

async function readExactly(file: FileHandle, length: number, position: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, position + filled)
    if (bytesRead === 0) throw new Error('it ends inside an entry')
    filled += bytesRead
  }
  return bytes
}

async function extractStreaming(
  zip: yauzl.ZipFile,
  entry: yauzl.Entry,
  path: string,
  room: { left: number },
  limits: UnzipLimits,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  let head = Buffer.alloc(0)
  let sum = 0
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sum = crc32(chunk, sum)
      if (head.length < HEAD_BYTES) head = Buffer.concat([head, chunk.subarray(0, HEAD_BYTES - head.length)])
      room.left -= chunk.length
      if (room.left < 0) done(tooLarge(`over ${limits.maxBytes} bytes`, `${limits.maxBytes} bytes`))
      else done(null, chunk)
    },
  })
  const source = await openEntry(zip, entry)
  await pipeline(source, counted, createWriteStream(path, { flags: 'wx' }), signal ? { signal } : {})
  if (sum !== entry.crc32) throw wrongSum()
  return head
}

/** yauzl leaves the checksum to its caller. */
function wrongSum(): Error {
  return new Error('the checksum of an entry is wrong')
}

function openEntry(zip: yauzl.ZipFile, entry: yauzl.Entry): Promise<Readable> {
  return new Promise((resolve, reject) => {
    zip.openReadStream(entry, (error, stream) => (error ? reject(error) : resolve(stream)))
  })
}

function tooLarge(found: string, limit: string): AppError {
  return new AppError('TOO_LARGE', `the zip archive unpacks to ${found}; the limit is ${limit}`)
}

/** yauzl's messages name the fault and sometimes an entry; an entry's name may be a patient's, so quotes go. */
function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : 'unknown fault'
  return /file ?name|absolute path|relative path/i.test(text) ? 'an entry has an unsafe name' : text.slice(0, 120)
}
