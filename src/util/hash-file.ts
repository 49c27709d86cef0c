import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'

/** Pieces in which a file is read: few enough calls, little enough memory. */
const PIECE_BYTES = 1 << 20

/** The SHA-256 of a file's bytes, in hexadecimal, and how many there are. Rejects with the error of the file system. */
export async function hashFile(path: string): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES }) as AsyncIterable<Buffer>) {
    hash.update(piece)
    bytes += piece.length
  }
  return { sha256: hash.digest('hex'), bytes }
}
