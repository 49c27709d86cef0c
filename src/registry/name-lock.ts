/** One writer per model name, also among servers that share a workspace: a lease `<name>.lock`. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.js'
import { askForLease, findLease, isAbandoned, isSilent, Lease, removeAbandoned, SILENCE_MS } from '../util/lease.js'

/** A brief holder takes milliseconds; on a slow network disk perhaps this. */
const BRIEF_MS = 2_000
const RETRY_MS = 20

/** What dies beside locks when their makers do: see util/lease.ts. */
const LEFTOVER = /\.lock\.(asked|takeover|(takeover\.)?[0-9a-f-]{36}\.(new|probe))$/

/**
 * Takes the lock of `name` in `folder`. A holder that said it is `brief` (a removal, a clean-up) is asked for it and waited
 * for; one that is not (an upload and its proof) means BUSY_NAME at once. A lock whose holder is gone is taken over.
 */
export async function lockName(folder: string, name: string, use: 'brief' | 'long'): Promise<Lease> {
  await mkdir(folder, { recursive: true })
  const path = join(folder, `${name}.lock`)
  const deadline = performance.now() + BRIEF_MS
  for (let asked = ''; ; ) {
    const lease = await Lease.take(path, use)
    if (lease) return lease
    const found = await findLease(path)
    if (performance.now() > deadline) throw busy(name)
    if (found !== undefined) {
      const abandoned = await isAbandoned(path, found)
      if (abandoned && (await removeAbandoned(path, found))) continue
      if (!abandoned && found.use !== 'brief') throw busy(name)
      if (found.owner !== undefined && found.owner !== asked) {
        asked = found.owner
        await askForLease(path, found)
      }
    }
    await sleep(RETRY_MS)
  }
}

/** Names that have a lock file, for a sweep to try; what died beside them is removed here. */
export async function lockedNames(folder: string): Promise<string[]> {
  const files = await readdir(folder).catch(() => [])
  for (const file of files) {
    const path = join(folder, file)
    if (LEFTOVER.test(file) && (await isSilent(path, SILENCE_MS))) await rm(path, { force: true })
  }
  return files.filter((file) => file.endsWith('.lock')).map((file) => file.slice(0, -'.lock'.length))
}

function busy(name: string): AppError {
  return new AppError('BUSY_NAME', `model '${name}' is being changed by another request`, {
    hint: 'wait for that one to finish, then try again',
    retryAfterSeconds: 2,
  })
}
