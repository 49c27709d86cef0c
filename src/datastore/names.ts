/** What clients may call images and labels, and what those are called on disk: no word of a client is ever part of a path. */
import { createHash } from 'node:crypto'
import { AppError } from '../errors.js'
import { checkName } from '../util/safe-name.js'

/** Longer than any name of a file or UID, and short enough for a URL. */
export const LONGEST_ID = 500

/** Throws BAD_PARAMS for text that no client could show: empty, endless, with control characters or halves of characters. */
export function checkImageId(id: string): string {
  const wrong =
    id.trim() === ''
      ? 'is empty'
      : id.length > LONGEST_ID
        ? `has more than ${LONGEST_ID} characters`
        : /[\p{Cc}\p{Cs}\u2028\u2029\ufffd]/u.test(id)
          ? 'has characters that are no text'
          : undefined
  if (wrong === undefined) return id
  throw new AppError('BAD_PARAMS', `query parameter 'image': the name of the image ${wrong}`)
}

/** Throws BAD_NAME. */
export function checkTag(tag: string): string {
  return checkName(tag, 'the tag')
}

/** The folder of an image under `images/`. */
export function folderOf(id: string): string {
  return createHash('sha256').update(id, 'utf8').digest('hex')
}

export const IMAGE_FOLDER = /^[0-9a-f]{64}$/

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
/** A version's folder. */
export const VERSION = new RegExp(`^${UUID}$`)
/** What a write that was cut short leaves: a version on its way, an index on its way, something on its way out. */
export const LEFTOVER = new RegExp(`^(${UUID}\\.(part|gone)|index\\.json\\.${UUID}\\.tmp)$`)
