/**
 * Leases: files on a shared disk that say who holds what, for as long as their holder lives. A lease names its holder
 * (process-identity.ts) and is written again every few seconds, its heartbeat. Where the holder's process can be asked
 * after, that decides; where it cannot (another machine, another container), silence does. Who finds a lease may ask its
 * holder to give it back early.
 *
 * A lease appears with its holder in it, by a hard link of a complete file, which is atomic on NFS too. A holder that may
 * have slept through its own lease asks `verify` before it acts on it.
 */
import { randomUUID } from 'node:crypto'
import { type FileHandle, link, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { z } from 'zod'
import { ProcessIdentity, runs, thisProcess } from './process-identity.js'

const BEAT_MS = 5_000
/** Six missed beats: longer than any pause of a living server, short enough to wait for after a crash elsewhere. */
export const SILENCE_MS = 30_000

const Holder = z.object({
  owner: z.string(),
  /** What the lease is used for, in its holder's words. */
  use: z.string(),
  process: ProcessIdentity,
})
type Holder = z.infer<typeof Holder>

export interface FoundLease {
  /** 'unknown': its holder's process cannot be asked after, or the file cannot be read as a lease. */
  readonly state: 'held' | 'abandoned' | 'unknown'
  readonly use: string | undefined
  readonly owner: string | undefined
  /** The file as it was; undefined when it cannot be read at all. */
  readonly text: string | undefined
}

export class Lease {
  readonly #path: string
  readonly #owner: string
  readonly #file: FileHandle
  readonly #beat: NodeJS.Timeout

  private constructor(path: string, { owner }: Holder, file: FileHandle, text: string) {
    this.#path = path
    this.#owner = owner
    this.#file = file
    // Written again rather than touched, so that the file server's clock says when, and into our own file only.
    this.#beat = setInterval(() => {
      // A disk that is away for a moment; if it stays away, `verify` tells.
      file.write(text, 0).catch(() => undefined)
    }, BEAT_MS)
    this.#beat.unref()
  }

  /** Takes the lease at `path`; undefined when it is taken. */
  static async take(path: string, use: string): Promise<Lease | undefined> {
    const holder: Holder = { owner: randomUUID(), use, process: thisProcess }
    const text = JSON.stringify(holder)
    const file = await createExclusive(path, text)
    return file && new Lease(path, holder, file, text)
  }

  /** Whether it is still ours. */
  async verify(): Promise<boolean> {
    return (await findLease(this.#path))?.owner === this.#owner
  }

  /** Whether somebody has asked for it since it was taken. */
  async isAsked(): Promise<boolean> {
    return (await readFile(askedPath(this.#path), 'utf8').catch(() => '')) === this.#owner
  }

  async release(): Promise<void> {
    clearInterval(this.#beat)
    await this.#file.close()
    if (!(await this.verify())) return
    await rm(this.#path, { force: true })
    await rm(askedPath(this.#path), { force: true })
  }
}

/** What lies at `path`; undefined when nothing does. */
export async function findLease(path: string): Promise<FoundLease | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    return { state: 'unknown', use: undefined, owner: undefined, text: undefined }
  }
  const holder = parseHolder(text)
  if (!holder) return { state: 'unknown', use: undefined, owner: undefined, text }
  const running = runs(holder.process)
  const state = running === undefined ? 'unknown' : running ? 'held' : 'abandoned'
  return { state, use: holder.use, owner: holder.owner, text }
}

/** Asks whoever holds the lease to give it back; it does when it can. */
export async function askForLease(path: string, { owner }: FoundLease): Promise<void> {
  if (owner !== undefined) await writeFile(askedPath(path), owner).catch(() => undefined)
}

/**
 * Whether the file at `path` has not been written for `ms`, by the clock of the disk it lies on: another machine's clock
 * is not ours, so it is compared with a file written just now beside it.
 */
export async function isSilent(path: string, ms: number): Promise<boolean> {
  const probe = `${path}.${randomUUID()}.probe`
  try {
    await writeFile(probe, '')
    const [now, then] = await Promise.all([stat(probe), stat(path)])
    return now.mtimeMs - then.mtimeMs > ms
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true
    throw error
  } finally {
    await rm(probe, { force: true })
  }
}

/**
 * Whether the holder of the lease found at `path` is gone: its process has ended, or cannot be asked after and is silent.
 * What cannot be read at all (a folder, another user's file) is nobody's lease, and not ours to remove.
 */
export async function isAbandoned(path: string, { state, text }: FoundLease): Promise<boolean> {
  if (text === undefined || state === 'held') return false
  return state === 'abandoned' || isSilent(path, SILENCE_MS)
}

/**
 * Removes the lease that was found, unless it has changed hands meanwhile. Only who holds the second lease beside it may:
 * otherwise two who judged the same one abandoned could each remove the other's fresh one. False when somebody else is at it.
 */
export async function removeAbandoned(path: string, found: FoundLease): Promise<boolean> {
  const guardPath = `${path}.takeover`
  const guard = await Lease.take(guardPath, 'takeover')
  if (!guard) {
    const other = await findLease(guardPath)
    if (other && (await isAbandoned(guardPath, other))) await rm(guardPath, { force: true })
    return false
  }
  try {
    const now = await readFile(path, 'utf8').catch(() => undefined)
    if (now === found.text) await rm(path, { force: true })
    return now === undefined || now === found.text
  } finally {
    await guard.release()
  }
}

/**
 * How long things have been seen to stand still, by this process's own clock: a server that was just started, or has slept,
 * or whose clock is wrong, takes nobody for dead.
 */
export class SilenceWatch {
  readonly #seen = new Map<string, { sign: string; since: number }>()
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Milliseconds since `sign`, which changes with every beat of `key`, was first seen as it is. */
  silence(key: string, sign: string): number {
    const known = this.#seen.get(key)
    if (known?.sign === sign) return this.#now() - known.since
    this.#seen.set(key, { sign, since: this.#now() })
    return 0
  }

  /** Forgets all but these. */
  keep(keys: ReadonlySet<string>): void {
    for (const key of this.#seen.keys()) if (!keys.has(key)) this.#seen.delete(key)
  }
}

function askedPath(path: string): string {
  return `${path}.asked`
}

function parseHolder(text: string): Holder | undefined {
  try {
    return Holder.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** Gives the open file; undefined when there is one of that name already. */
async function createExclusive(path: string, text: string): Promise<FileHandle | undefined> {
  const complete = `${path}.${randomUUID()}.new`
  const file = await open(complete, 'wx')
  try {
    await file.write(text, 0)
    await link(complete, path)
    return file
  } catch (error) {
    await file.close()
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return undefined
    // A file system without hard links (exFAT, some network disks) still has exclusive creation.
    if (code === 'EPERM' || code === 'ENOTSUP' || code === 'ENOSYS') return createWithoutLink(path, text)
    throw error
  } finally {
    await rm(complete, { force: true })
  }
}

async function createWithoutLink(path: string, text: string): Promise<FileHandle | undefined> {
  try {
    const file = await open(path, 'wx')
    await file.write(text, 0)
    return file
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined
    throw error
  }
}
