/**
 * Room for voxels, asked for before it is taken: what one request's images and the work on them hold at once stays under
 * `--max-volume-bytes`. Asked for are arrays as large as the image; rows, slices and windows beside them are not.
 */
import { AppError } from '../errors.js'
import { collectGarbage } from '../util/collect-garbage.js'

/** What work on an image may take. */
export interface Room {
  /** Bytes that may be held at once. */
  readonly bytes: number
  /** What is held for as long as the work lasts: the voxels of the request's images as they were read. */
  readonly held: readonly ArrayBufferLike[]
}

/** Not worth a look at what is held already. */
const SMALL = 1024 * 1024

/** Arrays of so many bytes are worth the collector's ten milliseconds: the work on them takes longer. */
const LARGE = 128 * 1024 * 1024

/**
 * Throws TOO_LARGE, naming the flag and what would be needed, when `wanted` bytes beside the `held` ones pass `most`; else
 * sees to it that what was dropped before does not stand in the way. `what` begins the sentence: "reading the image".
 */
export function askRoom(wanted: number, held: number, most: number, what: string): void {
  const needed = held + wanted
  if (!(needed <= most)) {
    throw new AppError(
      'TOO_LARGE',
      `${what} takes ${needed} bytes of memory at once; at most ${most} may be used for the images of one request`,
      { hint: `The limit is --max-volume-bytes; ${needed} would be needed.` },
    )
  }
  if (wanted < SMALL) return
  const { arrayBuffers } = process.memoryUsage()
  const inTheWay = arrayBuffers + wanted > most
  // what an earlier request or step has dropped, and sessions keep: a large image would stand beside it
  const others = arrayBuffers - held
  if (inTheWay || (wanted >= LARGE && others >= LARGE)) collectGarbage()
}

/** Bytes of different arrays; two views of the same memory count once. */
export function bytesHeld(buffers: Iterable<ArrayBufferLike>): number {
  let bytes = 0
  for (const buffer of new Set(buffers)) bytes += buffer.byteLength
  return bytes
}

/**
 * Does `work` on an image of so many bytes. Of a large one, what was dropped before and what the work drops is collected: else it may stay
 * beside all that the next steps make, since the engine looks at its own heap and not at arrays.
 */
export async function withoutWaste<T>(bytes: number, work: () => Promise<T>): Promise<T> {
  giveBack(bytes)
  const result = await work()
  giveBack(bytes)
  return result
}

/**
 * Collects what was dropped, when that or the work around it is of so many bytes. Arrays that follow find memory that the system
 * need not clear anew, which costs more than the collector.
 */
export function giveBack(bytes: number): void {
  if (bytes >= LARGE) collectGarbage()
}
