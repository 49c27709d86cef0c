/** Starts the runner program as a child process, from dist/ or, in tests and development, from source. */
import { fork } from 'node:child_process'
import { createRequire } from 'node:module'
import { getPriority, setPriority } from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { ToRunner } from '../contract/wire.js'

export interface RunnerEntry {
  readonly path: string
  /** Flags of Node, before the path. */
  readonly execArgv: readonly string[]
}

export interface ChannelEvents {
  message(message: unknown): void
  /** Exactly once, last. `output` is the end of what the program wrote to its standard error. */
  exit(code: number | null, signal: NodeJS.Signals | null, output: string): void
}

/** A running runner program, as the scheduler sees it. */
export interface RunnerChannel {
  readonly pid: number | undefined
  send(message: ToRunner): void
  /** Ends it at once, whatever it does; `exit` follows. */
  kill(): void
}

export type SpawnRunner = (entry: RunnerEntry, events: ChannelEvents) => RunnerChannel

/** The runner program beside this file: compiled where this file is, else through tsx. */
export function runnerEntry(): RunnerEntry {
  const here = import.meta.url
  if (!here.endsWith('.ts')) return { path: fileURLToPath(new URL('../runner/main.js', here)), execArgv: [] }
  const tsx = pathToFileURL(createRequire(here).resolve('tsx')).href
  return { path: fileURLToPath(new URL('../runner/main.ts', here)), execArgv: ['--import', tsx] }
}

const OUTPUT_KEPT = 2000

/**
 * The engine collects without helpers. Arrays lie outside its heap, which stays small, but large ones make it collect often,
 * and each time it would wait until its helpers have had a core: those are busy with the network's threads.
 */
const ONE_COLLECTOR = '--single-threaded-gc'

export const spawnRunner: SpawnRunner = (entry, events) => {
  const child = fork(entry.path, [], {
    execArgv: [ONE_COLLECTOR, ...entry.execArgv],
    env: runnerEnvironment(process.env),
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  giveWayToServer(child.pid)
  let output = ''
  let over = false
  const exit = (code: number | null, signal: NodeJS.Signals | null) => {
    if (over) return
    over = true
    events.exit(code, signal, output)
  }
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-OUTPUT_KEPT)
  })
  child.on('message', (message) => {
    if (!over) events.message(message)
  })
  child.on('exit', exit)
  child.on('error', () => {
    if (child.pid === undefined) exit(1, null)
  })
  return {
    pid: child.pid,
    send(message) {
      // A channel that has just closed is told by `exit`, not here.
      if (child.connected) child.send(message, () => {})
    },
    kill() {
      child.kill('SIGKILL')
    },
  }
}

/**
 * Linux with glibc: arrays of megabytes come in pages of 2 MB instead of 512 times as many of 4 KB. A volume is then read
 * in half the time, most of which went into first touching its memory. Other systems do not know the variable.
 */
const LARGE_PAGES = 'glibc.malloc.hugetlb=1'

/**
 * The server's environment for a runner. It works on files of strangers with networks of strangers: the server's own
 * settings, tokens among them, stay out. Tunables that an operator has set go before ours.
 */
export function runnerEnvironment(server: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(server).filter(([name]) => !name.toUpperCase().startsWith('AIDANT_'))
  const tunables = server.GLIBC_TUNABLES ? `${LARGE_PAGES}:${server.GLIBC_TUNABLES}` : LARGE_PAGES
  return { ...Object.fromEntries(kept), GLIBC_TUNABLES: tunables }
}

/** How much nicer a runner is than the server. */
const NICER_BY = 5

/**
 * A runner keeps every core busy for minutes; the server needs one for a millisecond, and at once. Alone on its machine
 * a runner loses nothing by this.
 */
function giveWayToServer(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    setPriority(pid, Math.min(19, getPriority() + NICER_BY))
  } catch {
    // Gone already, or a system that does not allow it: the runner then competes as an equal.
  }
}
