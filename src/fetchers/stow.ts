/** Storing an instance at a DICOMweb server: STOW-RS (PS3.18 section 10.5), and what the server says of it. */
import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { AppError } from '../errors.js'
import { type JsonDataSet, jsonDataSets, jsonItems, jsonNumber } from './dicom-json.js'
import type { FileBody } from './http-fetch.js'

/** Why a server does not take an instance (PS3.4 annex GG.4.2, PS3.18 table 10.5.3-3), by the first that fits. */
const REASONS: readonly (readonly [from: number, to: number, words: string])[] = [
  [0x0110, 0x0110, 'it failed while it processed it'],
  [0x0111, 0x0111, 'it has it already'],
  [0x0122, 0x0122, 'it does not take objects of this class'],
  [0x0124, 0x0124, 'this server is not authorised to store'],
  [0xa700, 0xa7ff, 'it is out of resources'],
  [0xa900, 0xa9ff, 'it finds the object does not match its class'],
  [0xc000, 0xcfff, 'it does not understand the object'],
]
/** What it says beside an instance that it did store (PS3.18 table 10.5.3-2). */
const WARNINGS: Readonly<Record<number, string>> = {
  45056: 'it changed elements of it',
  45062: 'it left elements out',
  45063: 'it finds the object does not match its class',
}

/** One DICOM file as a multipart/related body, and the headers that say so. */
export async function stowBody(path: string): Promise<{ body: FileBody; headers: Record<string, string> }> {
  const boundary = `aidant-${randomBytes(18).toString('hex')}`
  const head = Buffer.from(`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`)
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`)
  const bytes = head.length + (await stat(path)).size + tail.length
  async function* pieces(): AsyncGenerator<Buffer> {
    yield head
    yield* createReadStream(path)
    yield tail
  }
  return {
    body: { bytes, open: () => Readable.from(pieces(), { objectMode: false }) },
    headers: {
      'content-type': `multipart/related; type="application/dicom"; boundary=${boundary}`,
      accept: 'application/dicom+json',
    },
  }
}

/**
 * Reads the answer to one instance: `status` and the JSON of the body, if it had any. Gives what the user should know when it
 * was stored. Throws STORE_FAILED with the server's reason when it was not, whatever the status says.
 */
export function readStowAnswer(status: number, body: unknown): string[] {
  const [answer] = body === undefined ? [] : (jsonDataSets(body) ?? [])
  const [failed] = answer === undefined ? [] : jsonItems(answer, '00081198')
  if (failed !== undefined) throw refused(`the DICOMweb server did not take the label: ${reasonOf(failed)}`)
  if (status < 200 || status > 299) throw refused(`the DICOMweb server did not take the label: it answered ${status}`)
  const [stored] = answer === undefined ? [] : jsonItems(answer, '00081199')
  const warning = stored === undefined ? undefined : jsonNumber(stored, '00081196')
  if (warning !== undefined)
    return [`the DICOMweb server stored the label and says: ${WARNINGS[warning] ?? 'a warning'} (${hex(warning)})`]
  // 202 means that something is not as it was sent, and servers without JSON say no more than that.
  return status === 202 && stored === undefined
    ? ['the DICOMweb server accepted the label with a warning (202) and did not say which']
    : []
}

function reasonOf(failed: JsonDataSet): string {
  const code = jsonNumber(failed, '00081197')
  if (code === undefined) return 'it gives no reason'
  const words = REASONS.find(([from, to]) => code >= from && code <= to)?.[2] ?? 'it gives a reason of its own'
  return `${words} (failure reason ${hex(code)})`
}

function hex(code: number): string {
  return `0x${code.toString(16).toUpperCase().padStart(4, '0')}`
}

function refused(message: string): AppError {
  return new AppError('STORE_FAILED', message, {
    hint: 'the administrator of the DICOMweb server can say more',
  })
}
