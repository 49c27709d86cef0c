/** The folder of a datastore: marked as ours, and served by one server at a time. */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { writeFileAtomic } from '../util/atomic-write.js'
import { findLease, isAbandoned, Lease, removeAbandoned, SILENCE_MS } from '../util/lease.js'

const MARK = 'aidant-datastore.json'
const LEASE = 'server.lease'
const FORMAT = 1
const Mark = z.looseObject({ format: z.int().positive() })

/** How often a lease that may be abandoned is looked at, and how often before it counts as held. */
const LOOK_MS = 50
const LOOKS = 20

/** The folder cannot be the datastore; the message says why, for the operator. */
export class DatastoreRefused extends Error {}

/**
 * Takes the folder at `path`, made when it is absent. A folder without our mark is taken only when it is empty. Throws
 * DatastoreRefused.
 */
export async function openFolder(path: string): Promise<Lease> {
  await mkdir(path, { recursive: true })
  await checkMark(path)
  await mkdir(join(path, 'images'), { recursive: true })
  const lease = join(path, LEASE)
  for (let look = 0; look < LOOKS; look++) {
    const taken = await Lease.take(lease, 'datastore')
    if (taken) return taken
    const found = await findLease(lease)
    if (found?.state === 'held') break
    if (found !== undefined && (await isAbandoned(lease, found))) await removeAbandoned(lease, found)
    await sleep(LOOK_MS)
  }
  throw new DatastoreRefused(
    `another server has '${path}'; one that was ended by force elsewhere counts as there for ${SILENCE_MS / 1000} s`,
  )
}

async function checkMark(path: string): Promise<void> {
  const names = await readdir(path)
  if (!names.includes(MARK)) {
    if (names.length > 0) throw new DatastoreRefused(`'${path}' holds other files; name an empty or a new folder`)
    await writeFileAtomic(join(path, MARK), JSON.stringify({ format: FORMAT }))
    return
  }
  let mark: z.infer<typeof Mark>
  try {
    mark = Mark.parse(JSON.parse(await readFile(join(path, MARK), 'utf8')))
  } catch {
    throw new DatastoreRefused(`'${path}': ${MARK} cannot be read`)
  }
  if (mark.format > FORMAT) throw new DatastoreRefused(`'${path}' was made by a newer Aidant`)
}
