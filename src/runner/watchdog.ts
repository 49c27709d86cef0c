/**
 * Ends this process when its parent is gone or its memory passes a limit, also while a network's run() blocks the main
 * thread: so it lives in a thread of its own, which does nothing else.
 */
import { writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'

/** How a runner that passed its memory limit ends, so that the server can tell; SIGKILL where there are no such signals. */
export const MEMORY_LIMIT_SIGNAL = 'SIGUSR2'

const PROGRAM = `
const { workerData } = require('node:worker_threads')
const { parent, limit, signal } = workerData
setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL')
  if (limit !== undefined && process.memoryUsage.rss() > limit) {
    try {
      process.kill(process.pid, signal)
    } catch {
      process.kill(process.pid, 'SIGKILL')
    }
  }
}, 200)
`

export function startWatchdog(memoryLimitBytes: number | undefined): void {
  const worker = new Worker(PROGRAM, {
    eval: true,
    workerData: { parent: process.ppid, limit: memoryLimitBytes, signal: MEMORY_LIMIT_SIGNAL },
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
  })
  worker.unref()
}

/** When the machine runs out of memory, the system should end a runner, not the server (Linux; elsewhere it has no say). */
export function volunteerForOutOfMemory(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '500')
  } catch {
    // Not Linux, or not allowed: the system chooses by size, and runners are the large ones.
  }
}
