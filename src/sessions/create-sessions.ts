/**
 * The store of sessions: one folder each under workspace/sessions, moved in whole, so that a crash leaves a session or
 * none. `meta.json` says what it is; the file's modification time is the last use, so a restart, or another server on
 * the same workspace, counts expiry from the same moment.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../errors.js'
import { RESULT_EXTENSIONS } from '../formats/format.js'
import { writeFileAtomic } from '../util/atomic-write.js'
import type { Clock } from '../util/clock.js'
import type { HeldSession, NewSession, Session, SessionMeta, Sessions } from './sessions.js'

export interface SessionsOptions {
  readonly folder: string
  readonly clock: Clock
  /** All sessions together; the oldest idle ones make room (`--session-max-bytes`). */
  readonly maxBytes: number
  /** (`--max-sessions`) */
  readonly maxSessions: number
  /** When a client names none, or 0 (`--session-expiry`). */
  readonly defaultExpirySeconds: number
  /** (`--session-max-expiry`) */
  readonly maxExpirySeconds: number
}

/** How often expired sessions are looked for; a request finds an expired one at once. */
export const SWEEP_SECONDS = 30
/** Retry-After when every session that could make room is in use. */
const BUSY_RETRY_SECONDS = 5

const META = 'meta.json'
const VOLUME = 'volume.nii'
const SERIES = 'series'
/** Only this form is ever looked up on disk; every other id is unknown. */
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

const Meta: z.ZodType<SessionMeta> = z.object({
  id: z.string().regex(ID),
  createdAt: z.number(),
  expirySeconds: z.number().positive(),
  bytes: z.number().nonnegative(),
  extension: z.enum(RESULT_EXTENSIONS),
  source: z.object({ file: z.string().regex(/^[\w.-]+$/), contentType: z.string() }),
  image: z.record(z.string(), z.unknown()),
  received: z.object({ files: z.number(), announced: z.number().optional() }).optional(),
})

/** One session in memory. */
interface Entry {
  readonly meta: SessionMeta
  readonly seriesPaths: readonly string[]
  lastAccessAt: number
  holders: number
  /** Deleted or expired: nobody new may hold it, and its files go with the last holder. */
  gone: boolean
}

/** Opens the store, picking up the sessions of an earlier run and sweeping what has expired or was left half-made. */
export async function createSessions(options: SessionsOptions): Promise<Sessions> {
  const store = new SessionStore(options)
  await store.open()
  return store
}

class SessionStore implements Sessions {
  readonly #options: SessionsOptions
  readonly #entries = new Map<string, Entry>()
  #sweeper: NodeJS.Timeout | undefined
  /** Sessions enter one after the other, so that two of them never count on the same room. */
  #entering: Promise<unknown> = Promise.resolve()

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  async open(): Promise<void> {
    const { folder } = this.#options
    await mkdir(folder, { recursive: true })
    for (const name of await readdir(folder)) {
      const entry = ID.test(name) ? await this.#load(name) : undefined
      if (!entry) await rm(join(folder, name), { recursive: true, force: true })
    }
    await this.#sweep()
    this.#sweeper = setInterval(() => void this.#sweep(), SWEEP_SECONDS * 1000)
    this.#sweeper.unref()
  }

  create(session: NewSession): Promise<Session> {
    const entered = this.#entering.then(() => this.#enter(session))
    this.#entering = entered.catch(() => undefined)
    return entered
  }

  async #enter(session: NewSession): Promise<Session> {
    const { folder, clock, defaultExpirySeconds, maxExpirySeconds } = this.#options
    const id = randomUUID()
    const bytes = await folderBytes(session.folder)
    await this.#makeRoom(bytes)
    const wanted = session.expirySeconds
    const meta: SessionMeta = {
      id,
      createdAt: clock.now(),
      expirySeconds: Math.min(maxExpirySeconds, wanted && wanted > 0 ? wanted : defaultExpirySeconds),
      bytes,
      extension: session.extension,
      source: session.source,
      image: session.image,
      ...(session.received ? { received: session.received } : {}),
    }
    await writeFileAtomic(join(session.folder, META), JSON.stringify(meta))
    await rename(session.folder, join(folder, id))
    const entry = await this.#load(id)
    if (!entry) throw new Error('a session that was just written cannot be read')
    await this.#touch(entry)
    return this.#view(entry)
  }

  async hold(id: string): Promise<HeldSession> {
    const entry = await this.#live(id)
    if (!entry)
      throw new AppError('SESSION_EXPIRED', 'the session is unknown or has expired', {
        hint: 'upload the image again with PUT /session/',
      })
    await this.#touch(entry)
    return this.#held(entry)
  }

  async get(id: string, { renew }: { renew: boolean }): Promise<HeldSession> {
    const entry = await this.#live(id)
    if (!entry) throw notFound()
    if (renew) await this.#touch(entry)
    return this.#held(entry)
  }

  async remove(id: string): Promise<Session> {
    const entry = await this.#live(id)
    if (!entry) throw notFound()
    const session = this.#view(entry)
    await this.#drop(entry)
    return session
  }

  usage(): { sessions: number; bytes: number } {
    const live = [...this.#entries.values()].filter((entry) => !entry.gone)
    return { sessions: live.length, bytes: live.reduce((sum, entry) => sum + entry.meta.bytes, 0) }
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper)
  }

  /** The session if it may still be used; expired ones go at this moment. */
  async #live(id: string): Promise<Entry | undefined> {
    if (!ID.test(id)) return undefined
    const entry = this.#entries.get(id) ?? (await this.#load(id))
    if (!entry || entry.gone) return undefined
    if (entry.holders === 0 && !(await this.#stillThere(entry))) return undefined
    return entry
  }

  /** Another server may have renewed or removed it: the disk knows. Removes it when it has expired. */
  async #stillThere(entry: Entry): Promise<boolean> {
    const meta = await stat(join(this.#options.folder, entry.meta.id, META)).catch(() => undefined)
    if (!meta) {
      this.#entries.delete(entry.meta.id)
      return false
    }
    entry.lastAccessAt = Math.max(entry.lastAccessAt, meta.mtimeMs)
    if (!this.#expired(entry)) return true
    await this.#drop(entry)
    return false
  }

  #expired(entry: Entry): boolean {
    return this.#options.clock.now() - entry.lastAccessAt >= entry.meta.expirySeconds * 1000
  }

  async #load(id: string): Promise<Entry | undefined> {
    const folder = join(this.#options.folder, id)
    try {
      const parsed = Meta.parse(JSON.parse(await readFile(join(folder, META), 'utf8')))
      const { mtimeMs } = await stat(join(folder, META))
      await stat(join(folder, VOLUME))
      const series = await readdir(join(folder, SERIES)).catch(() => [])
      const entry: Entry = {
        meta: { ...parsed, id },
        seriesPaths: series.sort().map((name) => join(folder, SERIES, name)),
        lastAccessAt: mtimeMs,
        holders: 0,
        gone: false,
      }
      // Two requests may load the same session at once; the first one's entry counts the holders.
      const known = this.#entries.get(id)
      if (known) return known
      this.#entries.set(id, entry)
      return entry
    } catch {
      return undefined
    }
  }

  async #touch(entry: Entry): Promise<void> {
    entry.lastAccessAt = this.#options.clock.now()
    const seconds = entry.lastAccessAt / 1000
    await utimes(join(this.#options.folder, entry.meta.id, META), seconds, seconds).catch(() => undefined)
  }

  #view(entry: Entry): Session {
    const folder = join(this.#options.folder, entry.meta.id)
    return {
      meta: entry.meta,
      lastAccessAt: entry.lastAccessAt,
      volumePath: join(folder, VOLUME),
      sourcePath: join(folder, entry.meta.source.file),
      seriesPaths: entry.seriesPaths,
    }
  }

  #held(entry: Entry): HeldSession {
    entry.holders++
    let released = false
    return {
      ...this.#view(entry),
      release: () => {
        if (released) return
        released = true
        entry.holders--
        if (entry.gone && entry.holders === 0) void this.#erase(entry)
      },
    }
  }

  async #drop(entry: Entry): Promise<void> {
    entry.gone = true
    // Without its meta.json the session is gone for a restart and for other servers, even while a job still reads it.
    await rm(join(this.#options.folder, entry.meta.id, META), { force: true })
    if (entry.holders === 0) await this.#erase(entry)
  }

  async #erase(entry: Entry): Promise<void> {
    this.#entries.delete(entry.meta.id)
    await rm(join(this.#options.folder, entry.meta.id), { recursive: true, force: true })
  }

  async #sweep(): Promise<void> {
    for (const entry of [...this.#entries.values()])
      if (entry.holders === 0 && !entry.gone && this.#expired(entry)) await this.#stillThere(entry)
  }

  /** Removes the oldest idle sessions until `bytes` more fit. */
  async #makeRoom(bytes: number): Promise<void> {
    const { maxBytes, maxSessions } = this.#options
    if (bytes > maxBytes)
      throw new AppError('TOO_LARGE', `the session needs ${bytes} bytes, all sessions together may have ${maxBytes}`, {
        hint: 'start the server with a larger --session-max-bytes',
      })
    await this.#sweep()
    const fits = () => this.usage().bytes + bytes <= maxBytes && this.usage().sessions < maxSessions
    const idle = [...this.#entries.values()]
      .filter((entry) => entry.holders === 0 && !entry.gone)
      .sort((a, b) => a.lastAccessAt - b.lastAccessAt)
    for (const entry of idle) {
      if (fits()) return
      await this.#drop(entry)
    }
    if (!fits())
      throw new AppError('BUSY', 'there is no room for another session: those there are all in use', {
        hint: 'try again shortly, or start the server with larger --session-max-bytes and --max-sessions',
        retryAfterSeconds: BUSY_RETRY_SECONDS,
      })
  }
}

function notFound(): AppError {
  return new AppError('SESSION_NOT_FOUND', 'the session is unknown or has expired', {
    hint: 'create one with PUT /session/',
  })
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size
  return bytes
}
