/**
 * The store of sessions: one folder each under workspace/sessions, moved in whole, so that a crash leaves a session or
 * none. `meta.json` says what it is; the file's modification time is the last use, so a restart, or another server on
 * the same workspace, counts expiry from the same moment. Without it the session is gone: it is renamed to `gone.json`
 * when the session ends, and the folder goes with the last that holds it. A server that uses a session has a file
 * `<server>.hold` in it; those of servers that are gone count for nothing.
 */
import { randomUUID } from 'node:crypto'
import { readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../errors.js'
import { RESULT_EXTENSIONS } from '../formats/format.js'
import { writeFileAtomic } from '../util/atomic-write.js'
import { Background } from '../util/background.js'
import type { Clock } from '../util/clock.js'
import { folderBytes } from '../util/folder-bytes.js'
import type { Log } from '../util/log.js'
import { moveFolder } from '../util/move-folder.js'
import { systemTimers, type Timers } from '../util/timers.js'
import { HOLD, INCOMING_SESSION, SESSION } from '../workspace/names.js'
import type { Workspace } from '../workspace/open-workspace.js'
import type { HeldSession, NewSession, Session, SessionMeta, Sessions } from './sessions.js'

export interface SessionsOptions {
  readonly workspace: Pick<Workspace, 'sessions' | 'server' | 'mayServe' | 'discard'>
  readonly clock: Clock
  readonly timers?: Timers
  readonly log: Log
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
/** A session that an older server ended, which keeps no `gone.json`: no job of it can last longer than this. */
const FORGOTTEN_MS = 24 * 3600_000

/** How long our mark stays after a use: a click follows another, and each would write it and remove it. */
const NEXT_USE_MS = 5000

const META = 'meta.json'
const GONE = 'gone.json'
const VOLUME = 'volume.nii'
const SERIES = 'series'

const Meta: z.ZodType<SessionMeta> = z.object({
  id: z.string().regex(SESSION),
  createdAt: z.number(),
  expirySeconds: z.number().positive(),
  bytes: z.number().nonnegative(),
  extension: z.enum(RESULT_EXTENSIONS),
  source: z.object({ file: z.string().regex(/^[\w.-]+$/), contentType: z.string() }),
  image: z.record(z.string(), z.unknown()),
  received: z.object({ files: z.number(), announced: z.number().optional() }).optional(),
  origin: z.string().optional(),
})

/** One session in memory. */
interface Entry {
  readonly meta: SessionMeta
  readonly seriesPaths: readonly string[]
  /** False when its volume is not there: nobody can use it, and it expires like any other. */
  readonly whole: boolean
  lastAccessAt: number
  /** Requests of this server that use it. */
  holders: number
  /** While the next use is waited for: ends that. */
  stopWaiting: (() => void) | undefined
  /** Whether our hold file lies in its folder, and the changes of that, one after the other. */
  marked: boolean
  marking: Promise<void>
  /** Deleted or expired: nobody new may hold it, and its files go with the last holder. */
  gone: boolean
}

/** Opens the store, picking up the sessions of an earlier run. What is no session of ours is left alone. */
export async function createSessions(options: SessionsOptions): Promise<Sessions> {
  const store = new SessionStore(options)
  await store.open()
  return store
}

class SessionStore implements Sessions {
  readonly #options: SessionsOptions
  readonly #folder: string
  readonly #background: Background
  readonly #entries = new Map<string, Entry>()
  /** Sessions that only a newer server can read; told once. */
  readonly #unreadable = new Set<string>()
  /** Sessions enter one after the other, so that two of them never count on the same room. */
  #entering: Promise<unknown> = Promise.resolve()

  constructor(options: SessionsOptions) {
    this.#options = options
    this.#folder = options.workspace.sessions
    this.#background = new Background(options.log, options.timers)
  }

  async open(): Promise<void> {
    // What cannot be read or removed now is tried again; it is no reason not to start.
    await this.#background.start('sessions on disk', () => this.#look())
    await this.#background.start('expired sessions', () => this.#sweep())
    this.#background.every(SWEEP_SECONDS * 1000, 'expired sessions', async () => {
      await this.#look()
      await this.#sweep()
    })
  }

  create(session: NewSession): Promise<Session> {
    const entered = this.#entering.then(() => this.#enter(session))
    this.#entering = entered.catch(() => undefined)
    return entered
  }

  async #enter(session: NewSession): Promise<Session> {
    const { clock, defaultExpirySeconds, maxExpirySeconds, workspace } = this.#options
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
      ...(session.origin === undefined ? {} : { origin: session.origin }),
    }
    await writeFileAtomic(join(session.folder, META), JSON.stringify(meta))
    await moveFolder(session.folder, join(this.#folder, id), join(this.#folder, `${workspace.server}.${id}.part`))
    const entry = await this.#load(id)
    if (!entry) throw new Error('a session that was just written cannot be read')
    await this.#touch(entry)
    return this.#view(entry)
  }

  async hold(id: string): Promise<HeldSession> {
    const held = await this.#use(id, true)
    if (held) return held
    throw new AppError('SESSION_EXPIRED', 'the session is unknown or has expired', {
      hint: 'upload the image again with PUT /session/',
    })
  }

  async holdOrigin(origin: string): Promise<HeldSession | undefined> {
    for (const { meta, gone } of [...this.#entries.values()]) {
      if (gone || meta.origin !== origin) continue
      const held = await this.#use(meta.id, true)
      if (held) return held
    }
    return undefined
  }

  async get(id: string, { renew }: { renew: boolean }): Promise<HeldSession> {
    const held = await this.#use(id, renew)
    if (held) return held
    throw notFound()
  }

  async remove(id: string): Promise<Session> {
    const held = await this.#use(id, false)
    const entry = this.#entries.get(id)
    if (!held || !entry) throw notFound()
    try {
      await this.#end(entry)
    } finally {
      await held.release()
    }
    return held
  }

  usage(): { sessions: number; bytes: number } {
    const live = [...this.#entries.values()].filter((entry) => !entry.gone)
    return { sessions: live.length, bytes: live.reduce((sum, entry) => sum + entry.meta.bytes, 0) }
  }

  async close(): Promise<void> {
    const waiting = [...this.#entries.values()].filter(({ stopWaiting }) => stopWaiting)
    const closing = this.#background.close()
    await Promise.all(
      waiting.map((entry) => {
        entry.stopWaiting?.()
        return this.#leave(entry)
      }),
    )
    await closing
  }

  // ---- using ----

  /** Holds the session; undefined when there is none that may still be used. */
  async #use(id: string, renew: boolean): Promise<HeldSession | undefined> {
    if (!SESSION.test(id)) return undefined
    const entry = this.#entries.get(id) ?? (await this.#load(id))
    if (!entry?.whole || entry.gone) return undefined
    entry.holders++
    entry.stopWaiting?.()
    entry.stopWaiting = undefined
    let isHeld = true
    const release = async () => {
      if (!isHeld) return
      isHeld = false
      await this.#letGo(entry)
    }
    try {
      // First the mark, then the look: another server that ends the session looks for marks after it has done so.
      await this.#mark(entry)
      if (!(await this.#lives(entry, renew))) {
        await release()
        return undefined
      }
    } catch (error) {
      await release()
      throw error
    }
    return { ...this.#view(entry), release }
  }

  /**
   * Resolves when the session is as it should be without this holder, or when that failed and is tried again. Our mark
   * stays a while, but not beyond the session's own time, as if somebody held it still.
   */
  async #letGo(entry: Entry): Promise<void> {
    entry.holders--
    if (entry.holders > 0) return
    const leftMs = entry.lastAccessAt + entry.meta.expirySeconds * 1000 - this.#options.clock.now()
    if (entry.gone || leftMs <= 0 || this.#background.closed) return this.#leave(entry)
    const { timers = systemTimers } = this.#options
    entry.stopWaiting = timers.after(Math.min(leftMs, NEXT_USE_MS), () => void this.#leave(entry))
  }

  /** Nobody here uses the session any more. */
  #leave(entry: Entry): Promise<void> {
    entry.stopWaiting = undefined
    return this.#background.start('a session that is no longer used', async () => {
      await this.#mark(entry)
      if (entry.holders > 0) return
      // Another server may have ended it meanwhile, and left the rest to us.
      if (entry.gone || !(await this.#isThere(entry))) await this.#erase(entry)
      else if (this.#expired(entry) && !(await this.#isHeldElsewhere(entry.meta.id))) await this.#end(entry)
    })
  }

  /** Puts our hold file into the session when somebody holds it, and takes it out when nobody does. */
  #mark(entry: Entry): Promise<void> {
    entry.marking = entry.marking.then(async () => {
      const wanted = entry.holders > 0
      if (wanted === entry.marked) return
      const path = join(this.#folder, entry.meta.id, `${this.#options.workspace.server}.hold`)
      try {
        if (wanted) await writeFile(path, '')
        else await rm(path, { force: true })
        entry.marked = wanted
      } catch (error) {
        // On a disk that is full or cannot be written the session can still be read, which is what it is for.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
          this.#options.log.warn({ err: error }, 'the use of a session could not be told to other servers')
      }
    })
    return entry.marking
  }

  /** Whether the session may still be used, and renews it: another server may have renewed or ended it, and the disk knows. */
  async #lives(entry: Entry, renew: boolean): Promise<boolean> {
    if (entry.gone) return false
    // Its last use is only read where what we know of it is too long ago: a click visits the disk once.
    if (renew && !this.#expired(entry)) return this.#touch(entry)
    if (!(await this.#isThere(entry))) return false
    // What somebody else uses does not expire meanwhile.
    const lives = !this.#expired(entry) || entry.holders > 1 || (await this.#isHeldElsewhere(entry.meta.id))
    return lives && (!renew || this.#touch(entry))
  }

  /** Reads its last use. Only a file that is missing is an end: a disk that fails for a moment is an error. */
  async #isThere(entry: Entry): Promise<boolean> {
    try {
      const { mtimeMs } = await stat(join(this.#folder, entry.meta.id, META))
      entry.lastAccessAt = Math.max(entry.lastAccessAt, mtimeMs)
      return true
    } catch (error) {
      if (!isMissing(error)) throw error
      entry.gone = true
      return false
    }
  }

  #expired(entry: Entry): boolean {
    return this.#options.clock.now() - entry.lastAccessAt >= entry.meta.expirySeconds * 1000
  }

  /** Renews its last use; false when it has ended. A disk that cannot be written does not keep anybody from using it. */
  async #touch(entry: Entry): Promise<boolean> {
    entry.lastAccessAt = this.#options.clock.now()
    const seconds = entry.lastAccessAt / 1000
    try {
      await utimes(join(this.#folder, entry.meta.id, META), seconds, seconds)
      return true
    } catch {
      return this.#isThere(entry)
    }
  }

  #view(entry: Entry): Session {
    const folder = join(this.#folder, entry.meta.id)
    return {
      meta: entry.meta,
      lastAccessAt: entry.lastAccessAt,
      volumePath: join(folder, VOLUME),
      sourcePath: join(folder, entry.meta.source.file),
      seriesPaths: entry.seriesPaths,
    }
  }

  // ---- finding ----

  /** Undefined when there is no such session, or none that this server can read. */
  async #load(id: string): Promise<Entry | undefined> {
    const folder = join(this.#folder, id)
    let parsed: SessionMeta
    let lastAccessAt: number
    try {
      const text = await readFile(join(folder, META), 'utf8')
      lastAccessAt = (await stat(join(folder, META))).mtimeMs
      parsed = Meta.parse(JSON.parse(text))
    } catch (error) {
      if (isMissing(error)) return undefined
      if (!(error instanceof SyntaxError || error instanceof z.ZodError)) throw error
      if (!this.#unreadable.has(id))
        this.#options.log.warn(
          {},
          'a session was made by another version of Aidant and cannot be used; it is left alone',
        )
      this.#unreadable.add(id)
      return undefined
    }
    const whole = await isFile(join(folder, VOLUME))
    const series = await readdir(join(folder, SERIES)).catch(() => [])
    const entry: Entry = {
      meta: { ...parsed, id },
      seriesPaths: series.sort().map((name) => join(folder, SERIES, name)),
      whole,
      lastAccessAt,
      holders: 0,
      stopWaiting: undefined,
      marked: false,
      marking: Promise.resolve(),
      gone: false,
    }
    // Two requests may load the same session at once; the first one's entry counts the holders.
    const known = this.#entries.get(id)
    if (known) return known
    this.#entries.set(id, entry)
    return entry
  }

  /** Picks up sessions that other servers made, and removes what is left of those that ended. One bad one stops no other. */
  async #look(): Promise<void> {
    const { workspace } = this.#options
    await forEachSafely(await readdir(this.#folder), async (name) => {
      const server = INCOMING_SESSION.exec(name)?.[1]
      if (server !== undefined && !(await workspace.mayServe(server))) await workspace.discard(join(this.#folder, name))
      if (!SESSION.test(name) || this.#entries.has(name) || this.#unreadable.has(name)) return
      if (await this.#load(name)) await this.#isHeldElsewhere(name)
      else if (await this.#isOver(name)) await workspace.discard(join(this.#folder, name))
    })
  }

  /** Whether a folder is a session that has ended and that nobody holds. */
  async #isOver(id: string): Promise<boolean> {
    const folder = join(this.#folder, id)
    const names = new Set(await this.#filesOf(id))
    if (names.has(META)) return false
    if (names.has(GONE)) return !(await this.#isHeldElsewhere(id))
    const isOurs = [...names].every((name) => name === VOLUME || name === SERIES || name.startsWith('source.'))
    return isOurs && this.#options.clock.now() - (await stat(folder)).mtimeMs > FORGOTTEN_MS
  }

  // ---- ending ----

  async #sweep(): Promise<void> {
    await forEachSafely([...this.#entries.values()], async (entry) => {
      if (entry.holders > 0) return
      if (!entry.gone && (await this.#isThere(entry))) {
        if (!this.#expired(entry) || (await this.#isHeldElsewhere(entry.meta.id))) return
        if (entry.holders === 0) await this.#end(entry)
      } else await this.#erase(entry)
    })
  }

  /** Nobody new may hold it, here or on another server; its files go when nobody does. */
  async #end(entry: Entry): Promise<void> {
    const folder = join(this.#folder, entry.meta.id)
    try {
      await rename(join(folder, META), join(folder, GONE))
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    entry.gone = true
    if (entry.holders === 0) await this.#erase(entry)
  }

  /** Removes what is left of a session, unless somebody still holds it: then that one does. */
  async #erase(entry: Entry): Promise<void> {
    const { id } = entry.meta
    if (entry.holders > 0 || (await this.#isHeldElsewhere(id))) return
    entry.stopWaiting?.()
    entry.stopWaiting = undefined
    await this.#options.workspace.discard(join(this.#folder, id))
    this.#entries.delete(id)
  }

  /** Whether another server that may be alive uses the session. The marks of those that are gone go. */
  async #isHeldElsewhere(id: string): Promise<boolean> {
    const { server: own, mayServe } = this.#options.workspace
    for (const name of await this.#filesOf(id)) {
      const server = HOLD.exec(name)?.[1]
      if (server === undefined || server === own) continue
      if (await mayServe(server)) return true
      await rm(join(this.#folder, id, name), { force: true }).catch(() => undefined)
    }
    return false
  }

  async #filesOf(id: string): Promise<string[]> {
    try {
      return await readdir(join(this.#folder, id))
    } catch (error) {
      if (isMissing(error)) return []
      throw error
    }
  }

  /** Ends the oldest idle sessions until `bytes` more fit. */
  async #makeRoom(bytes: number): Promise<void> {
    const { maxBytes, maxSessions } = this.#options
    if (bytes > maxBytes)
      throw new AppError('TOO_LARGE', `the session needs ${bytes} bytes, all sessions together may have ${maxBytes}`, {
        hint: 'start the server with a larger --session-max-bytes',
      })
    await this.#sweep().catch((error: unknown) => this.#options.log.warn({ err: error }, 'expired sessions stay'))
    const fits = () => this.usage().bytes + bytes <= maxBytes && this.usage().sessions < maxSessions
    const idle = [...this.#entries.values()]
      .filter((entry) => entry.holders === 0 && !entry.gone)
      .sort((a, b) => a.lastAccessAt - b.lastAccessAt)
    for (const entry of idle) {
      if (fits()) return
      if (entry.holders > 0 || (await this.#isHeldElsewhere(entry.meta.id))) continue
      await this.#end(entry)
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

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

function isMissing(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
}

/** Does `work` for each, also after one that failed, and then rejects with the first failure. */
async function forEachSafely<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const failures: unknown[] = []
  for (const item of items) await work(item).catch((error: unknown) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}
