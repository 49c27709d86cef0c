/**
 * The folder in which a server keeps its models, its sessions and the files of its requests. Owned here: the mark that says
 * it is a workspace, the servers that share it, and the only way in which anything in it is removed that another process,
 * or an earlier run, may have made: by its own name, in one step, and with a line in the log.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import { Background } from '../util/background.js'
import type { Log } from '../util/log.js'
import { markWorkspace } from './mark.js'
import { DISCARDED, isRemovable, MODELS, REWRITES, SERVERS, SESSIONS, TMP } from './names.js'
import { Servers } from './servers.js'

/** How often we look whether our own lease still stands, and for what is left of others. */
const KEEP_MS = 10_000
const SWEEP_MS = 60_000

export interface Workspace {
  /** Absolute. */
  readonly path: string
  readonly models: string
  readonly sessions: string
  /** See kept-choices.ts. */
  readonly rewrites: string
  /** Where this server's requests keep their files; gone when it closes. */
  readonly requests: string
  /** This server's name, for what it holds. */
  readonly server: string
  /** Whether that server may still use what bears its name. */
  mayServe(server: string): Promise<boolean>
  /** Whether other servers may use this workspace just now. */
  othersServe(): Promise<boolean>
  /**
   * Removes a file or folder of ours: it is gone at once for everybody, and its bytes when this resolves. What is not there
   * is removed already. Rejects when `path` does not bear one of our own names (names.ts), and with the disk's own errors.
   */
  discard(path: string): Promise<void>
  /** Makes sure that our own lease stands; done now and then anyway. */
  keep(): Promise<void>
  /** Removes what servers left that are gone; done now and then anyway. */
  sweep(): Promise<void>
  close(): Promise<void>
}

export interface WorkspaceOptions {
  readonly log: Log
  /** Milliseconds of this process's own running time. */
  readonly now?: () => number
}

/** Opens the workspace at `path`, made when it is absent. Throws WorkspaceRefused when the folder is not ours to use. */
export async function openWorkspace(path: string, options: WorkspaceOptions): Promise<Workspace> {
  const root = resolve(path)
  const { log } = options
  const state = await markWorkspace(root)
  if (state === 'old') log.info({}, 'a workspace of an earlier Aidant is taken over; what is not its own stays')
  const [models, sessions, rewrites, tmp] = [
    join(root, MODELS),
    join(root, SESSIONS),
    join(root, REWRITES),
    join(root, TMP),
  ]
  for (const folder of [models, sessions, rewrites]) await mkdir(folder, { recursive: true })

  const discard = async (given: string): Promise<void> => {
    const steps = relative(root, resolve(given)).split(sep)
    if (!isRemovable(steps)) throw new Error(`not ours to remove: ${steps.join('/')}`)
    const target = DISCARDED.test(basename(given)) ? given : join(dirname(given), `${randomUUID()}.discarded`)
    if (target !== given && !(await renameIfThere(given, target))) return
    await rm(target, { recursive: true, force: true, maxRetries: 3, retryDelay: 100 })
    log.info(described(steps), 'removed')
  }
  const servers = new Servers({ ...options, leases: join(root, SERVERS), tmp, discard })
  await servers.open()
  const background = new Background(log)
  const sweep = async () => {
    await servers.sweep()
    for (const path of await discardedIn([sessions, rewrites, tmp, ...(await foldersOf(models))])) await discard(path)
  }
  // The first look is not worth a start that fails.
  void background.start('what earlier servers left', sweep)
  background.every(KEEP_MS, 'the lease of this server', () => servers.keep())
  background.every(SWEEP_MS, 'what other servers left', sweep)

  return {
    path: root,
    models,
    sessions,
    rewrites,
    requests: servers.requests,
    server: servers.own,
    mayServe: (server) => servers.mayServe(server),
    othersServe: () => servers.othersServe(),
    discard,
    keep: () => servers.keep(),
    sweep,
    async close() {
      await background.close()
      await servers.close()
    },
  }
}

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

/** Removals that were cut short. */
async function discardedIn(folders: readonly string[]): Promise<string[]> {
  const found: string[] = []
  for (const folder of folders)
    for (const name of await readdir(folder).catch(() => [])) if (DISCARDED.test(name)) found.push(join(folder, name))
  return found
}

async function foldersOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name))
}

/** For the log: a model's file by name, a session not, since its id opens it. */
function described([area, ...steps]: readonly string[]): Record<string, string> {
  if (area === MODELS) return { area: area!, model: steps[0]!, file: steps[1]! }
  return area === SESSIONS ? { area } : { area: area!, folder: steps[0]! }
}
