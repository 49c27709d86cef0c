/**
 * Which process this is, so that another one that finds its traces on a shared disk can tell whether it still runs. A
 * process id alone says little: containers count their own from 1, and ids are given again to other programs.
 */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { z } from 'zod'

export const ProcessIdentity = z.object({
  /** For people; containers of one service often share it. */
  machine: z.string(),
  /** One boot of one kernel; '' where the system does not say. */
  boot: z.string(),
  /** Where the process id means something; '' where the system has no such thing. */
  pidNamespace: z.string(),
  pid: z.int(),
  /** When the process was started, in the system's own count: a process id that was given again has another one. */
  startedAt: z.string(),
})
export type ProcessIdentity = z.infer<typeof ProcessIdentity>

export const thisProcess: ProcessIdentity = {
  machine: hostname(),
  boot: attempt(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()) ?? '',
  pidNamespace: attempt(() => readlinkSync('/proc/self/ns/pid')) ?? '',
  pid: process.pid,
  startedAt: statOf(process.pid)?.startedAt ?? String(performance.timeOrigin),
}

/**
 * Whether that process runs, where this one can tell; undefined where only its heartbeat can: on another machine, before
 * another boot, or in another container.
 */
export function runs(other: ProcessIdentity): boolean | undefined {
  const { machine, boot, pidNamespace } = thisProcess
  // A Linux that hides its boot (some sandboxes) may be two containers of one name; elsewhere there are none.
  const isHere = boot !== '' ? other.boot === boot : process.platform !== 'linux' && other.machine === machine
  if (!isHere || other.pidNamespace !== pidNamespace) return undefined
  if (other.pid === process.pid) return other.startedAt === thisProcess.startedAt
  const stat = statOf(other.pid)
  // A killed process that its parent has not asked after yet (state Z) holds nothing any more.
  if (stat) return stat.startedAt === other.startedAt && stat.state !== 'Z' && stat.state !== 'X'
  // No such process, or a system that shows none: then all we can know is that there is none of that id.
  return exists(other.pid) ? undefined : false
}

/** Fields 3 and 22 of /proc/<pid>/stat; the name before them, in parentheses, may hold anything. */
function statOf(pid: number): { state: string; startedAt: string } | undefined {
  const text = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  if (text === undefined) return undefined
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', startedAt: fields[19] ?? '' }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
