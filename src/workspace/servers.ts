/**
 * The servers on one workspace: each has a lease `servers/<server>.lease`, and a folder `tmp/<server>/` where its requests
 * keep their files. What a server holds elsewhere (a session in use) bears its name, so that one heartbeat speaks
 * for all of it. What a server that is gone left behind is removed by the others.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { findLease, Lease, SilenceWatch } from '../util/lease.js'
import type { Log } from '../util/log.js'
import { isOldRequests, OLD_REQUESTS, SERVER, SERVER_LEASE } from './names.js'

/**
 * A server whose process cannot be asked after is taken for gone when we ourselves have seen it do nothing for this long:
 * its machine may be suspended for a while, and the files of its requests are not worth a mistake.
 */
const GONE_MS = 15 * 60_000

/** What dies beside leases when their makers do: see util/lease.ts. */
const LEFTOVER = /^server-[0-9a-f-]{36}\.lease\.(asked|takeover|(takeover\.)?[0-9a-f-]{36}\.(new|probe))$/

export interface ServersOptions {
  /** `<workspace>/servers`. */
  readonly leases: string
  /** `<workspace>/tmp`. */
  readonly tmp: string
  readonly discard: (path: string) => Promise<void>
  readonly log: Log
  /** Milliseconds of this process's own running time. */
  readonly now?: () => number
}

export class Servers {
  /** This server's own name. */
  readonly own = `server-${randomUUID()}`
  readonly #options: ServersOptions
  readonly #watch: SilenceWatch
  #lease: Lease | undefined

  constructor(options: ServersOptions) {
    this.#options = options
    this.#watch = new SilenceWatch(options.now)
  }

  /** Where this server's requests keep their files. */
  get requests(): string {
    return join(this.#options.tmp, this.own)
  }

  async open(): Promise<void> {
    await mkdir(this.#options.leases, { recursive: true })
    await this.#enter()
  }

  /** Puts the own lease and folder back, should somebody have removed them: they took us for gone while we slept. */
  async keep(): Promise<void> {
    const now = new Date()
    // Servers from before the leases look at the folder's own time.
    await utimes(this.requests, now, now).catch(() => undefined)
    if (await this.#lease?.verify()) return
    this.#options.log.warn({ server: this.own }, 'the lease of this server was lost; it is taken anew')
    await this.#lease?.release()
    await this.#enter()
  }

  /** Whether that server may still use what bears its name. */
  async mayServe(server: string): Promise<boolean> {
    return server === this.own || !(await this.#isGone(server))
  }

  /** Whether other servers may use this workspace just now. */
  async othersServe(): Promise<boolean> {
    for (const name of await readdir(this.#options.leases)) {
      const server = SERVER_LEASE.exec(name)?.[1]
      if (server !== undefined && server !== this.own && !(await this.#isGone(server))) return true
    }
    return false
  }

  /** Removes what servers left that are gone. */
  async sweep(): Promise<void> {
    const { leases, tmp, discard } = this.#options
    const [leaseNames, tmpNames] = [await readdir(leases), await readdir(tmp)]
    this.#watch.keep(
      new Set([...leaseNames.map((name) => join(leases, name)), ...tmpNames.map((name) => join(tmp, name))]),
    )
    const servers = new Set(tmpNames.filter((name) => SERVER.test(name)))
    for (const name of leaseNames) {
      const server = SERVER_LEASE.exec(name)?.[1]
      if (server !== undefined) servers.add(server)
    }
    servers.delete(this.own)
    // Each is judged once: one that ends while we look keeps its lease, without which nobody would know whose its folder is.
    for (const server of servers) {
      if (!(await this.#isGone(server))) continue
      await discard(join(tmp, server))
      await rm(this.#leasePath(server), { force: true })
    }
    for (const name of tmpNames) {
      const path = join(tmp, name)
      // a server's name may look like a host and a process id
      if (SERVER.test(name) || !OLD_REQUESTS.test(name)) continue
      if ((await this.#isSilent(path)) && (await isOldRequests(path))) await discard(path)
    }
    for (const name of leaseNames) {
      const path = join(leases, name)
      if (LEFTOVER.test(name) && (await this.#isSilent(path))) await rm(path, { force: true })
    }
  }

  async close(): Promise<void> {
    await rm(this.requests, { recursive: true, force: true, maxRetries: 3, retryDelay: 100 })
    await this.#lease?.release()
  }

  async #enter(): Promise<void> {
    this.#lease = await Lease.take(this.#leasePath(this.own), 'server')
    await mkdir(this.requests, { recursive: true })
  }

  async #isGone(server: string): Promise<boolean> {
    const path = this.#leasePath(server)
    const found = await findLease(path)
    if (found?.state === 'held') return false
    return found?.state === 'abandoned' || this.#isSilent(found ? path : join(this.#options.tmp, server))
  }

  /** Whether we have seen nothing happen to it for long; what is not there is silent at once. */
  async #isSilent(path: string): Promise<boolean> {
    try {
      const { mtimeMs, ino } = await stat(path)
      return this.#watch.silence(path, `${ino} ${mtimeMs}`) >= GONE_MS
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true
      throw error
    }
  }

  #leasePath(server: string): string {
    return join(this.#options.leases, `${server}.lease`)
  }
}
