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

export const spawnRunner: SpawnRunner = (entry, events) => {
  const child = fork(entry.path, [], {
    execArgv: [...entry.execArgv],
    env: runnerEnvironment(),
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

/** A runner works on files of strangers with networks of strangers: the server's own settings, tokens among them, stay out. */
function runnerEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.toUpperCase().startsWith('AIDANT_')))
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
