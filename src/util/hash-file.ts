import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'

/** Pieces in which a file is read: few enough calls, little enough memory. */
const PIECE_BYTES = 1 << 20

/** The SHA-256 of a file's bytes, in hexadecimal, and how many there are. Rejects with the error of the file system. */
export async function hashFile(path: string): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash('sha256')
  // One buffer for all pieces: a stream takes fresh memory for each, and a start hashes every bundled model.
  const piece = Buffer.allocUnsafe(PIECE_BYTES)
  let bytes = 0
  const file = await open(path)
  try {
    for (;;) {
      const { bytesRead } = await file.read(piece)
      if (bytesRead === 0) return { sha256: hash.digest('hex'), bytes }
      hash.update(piece.subarray(0, bytesRead))
      bytes += bytesRead
    }
  } finally {
    await file.close()
  }
}
