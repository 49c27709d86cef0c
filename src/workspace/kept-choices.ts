/**
 * What trials of rewritten networks found on this machine, `rewrites/<hash>.json`, one file a model's revision and kind of
 * machine, so that a model's first user after a start does not wait for a trial again. Servers of one workspace share
 * them: a file is replaced whole, the last writer wins, and what cannot be read is a trial not yet made.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { RewriteChoice, type RewriteChoices } from '../contract/model.js'
import { writeFileAtomic } from '../util/atomic-write.js'
import type { Log } from '../util/log.js'
import { KEPT_CHOICE } from './names.js'

/** Some hundred bytes each; a server with more models than this tries those again that were tried longest ago. */
const MOST_KEPT = 1000

const Kept = z.object({ format: z.literal(1), revision: z.string(), machine: z.string(), choice: RewriteChoice })

export interface KeptChoicesOptions {
  readonly folder: string
  /** What times depend on beside the network: processor, threads, wished device. Choices of another machine are not ours to follow. */
  readonly machine: string
  readonly discard: (path: string) => Promise<void>
  readonly log: Pick<Log, 'warn'>
  readonly mostKept?: number
}

export class KeptChoices implements RewriteChoices {
  readonly #options: KeptChoicesOptions
  #known: ReadonlyMap<string, RewriteChoice> = new Map()
  /** Those that were measured on a busy machine. */
  readonly #passing = new Map<string, RewriteChoice>()
  #writing: Promise<void> = Promise.resolve()

  private constructor(options: KeptChoicesOptions) {
    this.#options = options
  }

  static async open(options: KeptChoicesOptions): Promise<KeptChoices> {
    const choices = new KeptChoices(options)
    await choices.refresh()
    return choices
  }

  known(revision: string): RewriteChoice | undefined {
    return this.#known.get(revision)
  }

  /**
   * Known at once, and on disk a little later; a disk that is full costs a trial after the next start, and nothing now. So does
   * a choice that was measured on a busy machine, which is known until the end and not kept.
   */
  keep(revision: string, choice: RewriteChoice): void {
    this.#known = new Map([...this.#known, [revision, choice]])
    if (choice.busy) {
      this.#passing.set(revision, choice)
      return
    }
    this.#passing.delete(revision)
    this.#writing = this.#writing.then(() => this.#write(revision, choice))
  }

  /** Learns what other servers have found. What is no longer there was one too many. */
  async refresh(): Promise<void> {
    await this.#writing
    const { folder, machine } = this.#options
    const found = new Map(this.#passing)
    for (const name of await readdir(folder)) {
      const kept = KEPT_CHOICE.test(name) ? await readKept(join(folder, name)) : undefined
      if (kept?.machine === machine) found.set(kept.revision, kept.choice)
    }
    this.#known = found
  }

  /** Resolves when all that was to be kept is on disk. */
  async close(): Promise<void> {
    await this.#writing
  }

  async #write(revision: string, choice: RewriteChoice): Promise<void> {
    const { folder, machine, log } = this.#options
    const name = createHash('sha256').update(`${revision}\n${machine}`).digest('hex')
    try {
      const kept: z.infer<typeof Kept> = { format: 1, revision, machine, choice }
      await writeFileAtomic(join(folder, `${name}.json`), `${JSON.stringify(kept, undefined, 2)}\n`)
      await this.#discardOldest()
    } catch (error) {
      log.warn({ err: error }, 'what a trial of a network found could not be kept')
    }
  }

  /** Files of writers that died count too. */
  async #discardOldest(): Promise<void> {
    const { folder, discard, mostKept = MOST_KEPT } = this.#options
    const names = (await readdir(folder)).filter((name) => KEPT_CHOICE.test(name))
    if (names.length <= mostKept) return
    const dated = await Promise.all(
      names.map(async (name) => ({ path: join(folder, name), at: await writtenAt(join(folder, name)) })),
    )
    const oldestFirst = dated.toSorted((a, b) => a.at - b.at)
    for (const { path } of oldestFirst.slice(0, names.length - mostKept)) await discard(path)
  }
}

/** Undefined where it is gone, damaged, or of a later layout. */
async function readKept(path: string): Promise<z.infer<typeof Kept> | undefined> {
  try {
    return Kept.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return undefined
  }
}

/** What another server has just removed is as old as can be. */
async function writtenAt(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  )
}
