/**
 * Where requests keep their files: workspace/tmp/<host>-<pid>/<request id>. Several servers may share one workspace, so each
 * has a folder of its own and shows with its time that it lives; what dead servers left is removed by the others.
 */
import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Clock } from './clock.js'

const BEAT_MS = 60_000
/** A server of another machine is taken for dead when its folder has not been touched for this long. */
const DEAD_MS = 15 * 60_000

export interface TmpRoot {
  readonly path: string
  /** Removes the folder and all it holds. */
  close(): Promise<void>
}

/** Makes this process's folder under `root`, empty, and removes those of servers that are gone. */
export async function openTmpRoot(root: string, clock: Clock): Promise<TmpRoot> {
  const host = hostname().replace(/[^A-Za-z0-9.]/g, '_')
  const name = `${host}-${process.pid}`
  const path = join(root, name)
  await rm(path, { recursive: true, force: true })
  await mkdir(path, { recursive: true })
  await sweep(root, host, clock)
  const timer = setInterval(() => {
    const now = clock.now() / 1000
    utimes(path, now, now)
      .then(() => sweep(root, host, clock))
      .catch(() => {
        // The workspace is away for a moment (a network share); the next beat tries again.
      })
  }, BEAT_MS)
  timer.unref()
  return {
    path,
    async close() {
      clearInterval(timer)
      await rm(path, { recursive: true, force: true, maxRetries: 3, retryDelay: 100 })
    },
  }
}

async function sweep(root: string, host: string, clock: Clock): Promise<void> {
  for (const name of await readdir(root)) {
    const path = join(root, name)
    if (await isDead(name, path, host, clock)) await rm(path, { recursive: true, force: true })
  }
}

async function isDead(name: string, path: string, host: string, clock: Clock): Promise<boolean> {
  const dash = name.lastIndexOf('-')
  const pid = Number(name.slice(dash + 1))
  if (name.slice(0, dash) === host && Number.isInteger(pid)) {
    if (pid === process.pid) return false
    if (!isRunning(pid)) return true
  }
  try {
    return clock.now() - (await stat(path)).mtimeMs > DEAD_MS
  } catch {
    return false
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
