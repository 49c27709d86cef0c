/**
 * One writer per model name, also among servers that share a workspace: a lock file made by a hard link, which is atomic
 * on NFS too. Its holder touches it; a lock whose process is gone (same machine) or that nobody has touched for a while
 * (another machine) is taken over. The holder asks `verify` before it publishes, for the case that it slept through its
 * own lease.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { type FileHandle, link, mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { AppError } from '../errors.js'
import { isMissing } from './manifest.js'

const HEARTBEAT_MS = 5_000
/** Six missed heartbeats: longer than any pause of a living server, short enough to wait for after a crash elsewhere. */
const LEASE_MS = 30_000
/** A brief holder takes milliseconds; on a slow network disk perhaps this. */
const BRIEF_MS = 2_000
const RETRY_MS = 20

const Holder = z.object({
  owner: z.string(),
  use: z.enum(['brief', 'long']),
  machine: z.string(),
  pid: z.number(),
  started: z.number(),
})
type Holder = z.infer<typeof Holder>

export class NameLock {
  readonly #path: string
  readonly #owner: string
  readonly #file: FileHandle
  readonly #heartbeat: NodeJS.Timeout

  private constructor(path: string, owner: string, file: FileHandle, text: string) {
    this.#path = path
    this.#owner = owner
    this.#file = file
    // Written again rather than touched, so that the file server's clock says when, and into our own file only.
    this.#heartbeat = setInterval(() => {
      file.write(text, 0).catch(() => undefined)
    }, HEARTBEAT_MS)
    this.#heartbeat.unref()
  }

  /**
   * Takes the lock of `name` in `folder`. A holder that said it is `brief` (a removal, a clean-up) is waited for; one that
   * is not (an upload and its proof) means BUSY_NAME at once.
   */
  static async acquire(folder: string, name: string, use: 'brief' | 'long'): Promise<NameLock> {
    await mkdir(folder, { recursive: true })
    const path = join(folder, `${name}.lock`)
    const owner = randomUUID()
    const holder: Holder = { owner, use, machine: thisMachine(), pid: process.pid, started: performance.timeOrigin }
    const own = JSON.stringify(holder)
    for (let waited = 0; waited < BRIEF_MS; ) {
      const file = await createExclusive(path, own)
      if (file) return new NameLock(path, owner, file, own)
      const text = await readFile(path, 'utf8').catch(() => undefined)
      if (text === undefined) continue
      const abandoned = await isAbandoned(path, text)
      if (abandoned && (await removeIfStill(path, text, own))) continue
      if (!abandoned && parseHolder(text)?.use === 'long') break
      await sleep(RETRY_MS)
      waited += RETRY_MS
    }
    throw new AppError('BUSY_NAME', `model '${name}' is being changed by another request`, {
      hint: 'wait for that one to finish, then try again',
      retryAfterSeconds: 2,
    })
  }

  /** Whether the lock is still ours. */
  async verify(): Promise<boolean> {
    const text = await readFile(this.#path, 'utf8').catch(() => '')
    return parseHolder(text)?.owner === this.#owner
  }

  async release(): Promise<void> {
    clearInterval(this.#heartbeat)
    await this.#file.close()
    if (await this.verify()) await rm(this.#path, { force: true })
  }
}

/** Names that have a lock file, for a sweep to try; what died beside them is removed here. */
export async function abandonedNames(folder: string): Promise<string[]> {
  const files = await readdir(folder).catch(() => [])
  const names: string[] = []
  for (const file of files) {
    const path = join(folder, file)
    if (file.endsWith('.lock')) names.push(file.slice(0, -'.lock'.length))
    else if (await isAbandoned(path, await readFile(path, 'utf8').catch(() => ''))) await rm(path, { force: true })
  }
  return names
}

/**
 * A lock appears with its holder in it, by a link of a file that is complete: a half-written one could not be judged.
 * Gives the open file; undefined when there is a lock already.
 */
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

function parseHolder(text: string): Holder | undefined {
  try {
    return Holder.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

async function isAbandoned(path: string, text: string): Promise<boolean> {
  const holder = parseHolder(text)
  if (holder?.machine === thisMachine()) {
    if (holder.pid === process.pid) return holder.started !== performance.timeOrigin
    return !isAlive(holder.pid)
  }
  // Another machine's clock is not ours: compare with a file written just now to the same file system.
  const probe = `${path}.${randomUUID()}.probe`
  try {
    await writeFile(probe, '')
    const [now, then] = await Promise.all([stat(probe), stat(path)])
    return now.mtimeMs - then.mtimeMs > LEASE_MS
  } catch (error) {
    if (isMissing(error)) return true
    throw error
  } finally {
    await rm(probe, { force: true })
  }
}

/**
 * Removes the lock that holds `text`, unless it has changed hands meanwhile. Only who holds the second lock beside it may:
 * otherwise two who judged the same lock abandoned could each remove the other's fresh one.
 */
async function removeIfStill(path: string, text: string, holder: string): Promise<boolean> {
  const guard = `${path}.takeover`
  const file = await createExclusive(guard, holder)
  if (!file) {
    const other = await readFile(guard, 'utf8').catch(() => undefined)
    if (other !== undefined && (await isAbandoned(guard, other))) await rm(guard, { force: true })
    return false
  }
  try {
    await file.close()
    const now = await readFile(path, 'utf8').catch(() => undefined)
    if (now === text) await rm(path, { force: true })
    return now === undefined || now === text
  } finally {
    await rm(guard, { force: true })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
  // A killed process that its parent has not asked after yet (state Z) holds nothing any more.
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z'
}

/** Where a process id means something: this boot of this machine, in this container. */
function thisMachine(): string {
  return [
    hostname(),
    attempt(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    attempt(() => readlinkSync('/proc/self/ns/pid')),
  ].join(' ')
}

function attempt(read: () => string): string {
  try {
    return read()
  } catch {
    return '-'
  }
}
