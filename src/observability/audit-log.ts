/**
 * Who changed what, and what became of it: a JSON line when a change is asked for, before it is made, and another when it
 * has ended. Owned here: that a line is on the disk before anybody goes on, that lines of several servers do not mix, and
 * that the files together stay bounded.
 */
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AppError } from '../errors.js'
import { syncFolder } from '../util/atomic-write.js'
import type { Log } from '../util/log.js'

/** Files that were full, beside the one that is written. */
const KEPT_FILES = 9

export interface AuditLine {
  /** As the log calls the request; the line of its end has the same. */
  readonly request: string
  /** Whose token came, if any was wanted. */
  readonly who: string | undefined
  readonly address: string
  /** What was asked for, by the operation's name in the OpenAPI document. */
  readonly action: string
  readonly model: string | undefined
}

export interface AuditEnd extends AuditLine {
  readonly outcome: 'done' | 'refused' | 'failed'
  /** HTTP status. */
  readonly status: number
  /** Of the error, if it was one. */
  readonly code: string | undefined
}

export interface AuditOptions {
  readonly path: string
  /** Makes the folder of the file with the first line. */
  readonly makesFolder?: boolean
  /** What all files together may take. */
  readonly maxBytes: number
  readonly log: Log
  readonly now?: () => Date
  /** Told of every line that could not be written. */
  readonly onFailure?: () => void
}

export class AuditLog {
  readonly #options: AuditOptions
  /** Lines are written one after the other. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: AuditOptions) {
    this.#options = options
  }

  /** Before the change. Rejects BUSY where the line cannot be kept: the change must not be made then. */
  async begin(line: AuditLine): Promise<void> {
    try {
      await this.#write({ ...line, outcome: 'begun' })
    } catch (error) {
      this.#failed(error, line)
      throw new AppError('BUSY', 'the change was not made: the audit log cannot be written', {
        hint: 'an administrator must look at where --audit-log lies',
        retryAfterSeconds: 60,
        cause: error,
      })
    }
  }

  /** After the change. It has been made by then, so a line that cannot be kept is only logged. */
  async end(line: AuditEnd): Promise<void> {
    await this.#write(line).catch((error) => this.#failed(error, line))
  }

  /** Waits for what is being written. */
  async close(): Promise<void> {
    await this.#last
  }

  #failed(error: unknown, { request, action }: AuditLine): void {
    this.#options.onFailure?.()
    this.#options.log.error({ err: error, request, action }, 'the audit log cannot be written')
  }

  #write(line: object): Promise<void> {
    const written = this.#last.then(() => this.#append(line))
    this.#last = written.catch(() => undefined)
    return written
  }

  async #append(line: object): Promise<void> {
    const { path, now = () => new Date() } = this.#options
    const bytes = Buffer.from(`${JSON.stringify({ time: now().toISOString(), ...line })}\n`)
    if (this.#options.makesFolder) await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await this.#makeRoom(bytes.length)
    // Opened anew: another server may have put the full file away, or an administrator.
    const file = await open(path, 'a', 0o600)
    try {
      const isNew = (await file.stat()).size === 0
      // One call: a line of another server comes before it or after it.
      const { bytesWritten } = await file.write(bytes)
      if (bytesWritten !== bytes.length) throw new Error('the line was cut short')
      await file.datasync()
      if (isNew) await syncFolder(dirname(path))
    } finally {
      await file.close()
    }
  }

  /** Puts a full file away under the time, and removes the oldest of those beyond the bound. */
  async #makeRoom(bytes: number): Promise<void> {
    const { path, maxBytes, now = () => new Date() } = this.#options
    const size = await stat(path).then(
      (found) => found.size,
      () => 0,
    )
    if (size === 0 || size + bytes <= maxBytes / (KEPT_FILES + 1)) return
    const folder = dirname(path)
    const name = basename(path)
    // The process in the name: two servers that find it full at once put away two files.
    await rename(path, join(folder, `${name}.${now().toISOString().replaceAll(/[:.]/g, '-')}-${process.pid}`))
    const old = (await readdir(folder)).filter((entry) => isPutAway(entry, name)).sort()
    for (const entry of old.slice(0, Math.max(0, old.length - KEPT_FILES)))
      await rm(join(folder, entry), { force: true })
  }
}

function isPutAway(entry: string, name: string): boolean {
  return entry.startsWith(`${name}.`) && /^\.\d{4}-\d\d-\d\dT[\d-]+Z-\d+$/.test(entry.slice(name.length))
}
