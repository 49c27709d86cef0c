/**
 * The datastore on disk: one folder an image under `images/`, called after the hash of its id, with `index.json` and a
 * folder for each version of the image and of its labels. Versions are moved in whole and never written again; the index
 * that names them is replaced in one step, so that a crash leaves the old state or the new. The index file's modification
 * time is the last use.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../errors.js'
import { Background } from '../util/background.js'
import type { Clock } from '../util/clock.js'
import { folderBytes } from '../util/folder-bytes.js'
import { hashFile } from '../util/hash-file.js'
import type { Lease } from '../util/lease.js'
import type { Log } from '../util/log.js'
import { moveFolder } from '../util/move-folder.js'
import type { Timers } from '../util/timers.js'
import type { Datastore, HeldItem, ImageVersion, LabelVersion, NewImage, NewLabel, StoredItem } from './datastore.js'
import { INDEX, type Index, readIndex, writeIndex } from './index-file.js'
import { checkImageId, checkTag, folderOf, IMAGE_FOLDER, LEFTOVER, VERSION } from './names.js'
import { openFolder } from './open-folder.js'
import { FINAL } from './strategies.js'

export interface DatastoreOptions {
  /** Absolute. */
  readonly path: string
  readonly clock: Clock
  readonly timers?: Timers
  readonly log: Log
  /** Of everything, all versions among it (`--datastore-max-bytes`). */
  readonly maxBytes: number
  /** (`--datastore-max-images`) */
  readonly maxImages: number
  /** Seconds after the last use; 0: for ever (`--datastore-expiry`). */
  readonly expirySeconds: number
}

const SWEEP_MS = 60_000
const VOLUME = 'volume.nii'
const SERIES = 'series'

interface Entry {
  index: Index
  readonly folder: string
  bytes: number
  lastUseAt: number
  holders: number
  /** Made anew when the index changes. */
  view: StoredItem
}

/** Throws DatastoreRefused when the folder is not ours to use. */
export async function createDatastore(options: DatastoreOptions): Promise<Datastore> {
  const lease = await openFolder(options.path)
  const store = new FolderDatastore(options, lease)
  await store.open()
  return store
}

class FolderDatastore implements Datastore {
  readonly #options: DatastoreOptions
  readonly #lease: Lease
  readonly #images: string
  readonly #background: Background
  /** By id, in order of arrival. */
  readonly #entries = new Map<string, Entry>()
  /** Changes happen one after the other, so that two never count on the same room. */
  #changing: Promise<unknown> = Promise.resolve()

  constructor(options: DatastoreOptions, lease: Lease) {
    this.#options = options
    this.#lease = lease
    this.#images = join(options.path, 'images')
    this.#background = new Background(options.log, options.timers)
  }

  async open(): Promise<void> {
    const found: Entry[] = []
    for (const name of await readdir(this.#images)) {
      const entry = IMAGE_FOLDER.test(name) ? await this.#load(name) : undefined
      if (entry) found.push(entry)
    }
    found.sort((a, b) => a.index.images[0]!.createdAt - b.index.images[0]!.createdAt)
    for (const entry of found) this.#entries.set(entry.index.id, entry)
    if (this.#options.expirySeconds === 0) return
    await this.#background.start('expired images', () => this.#sweep())
    this.#background.every(SWEEP_MS, 'expired images', () => this.#sweep())
  }

  list(): readonly StoredItem[] {
    return [...this.#entries.values()].map(({ view }) => view)
  }

  counts(): { total: number; completed: number } {
    let completed = 0
    for (const { view } of this.#entries.values()) if (view.labels.has(FINAL)) completed++
    return { total: this.#entries.size, completed }
  }

  find(id: string): StoredItem | undefined {
    return this.#entries.get(id)?.view
  }

  get(id: string): StoredItem {
    return this.#find(id).view
  }

  async hold(id: string): Promise<HeldItem> {
    const entry = this.#find(id)
    entry.holders++
    const meta = entry.view.image
    const folder = join(entry.folder, meta.id)
    let isHeld = true
    await this.#touch(entry)
    const series = await readdir(join(folder, SERIES)).catch(() => [])
    return {
      meta,
      volumePath: join(folder, VOLUME),
      sourcePath: join(folder, meta.source.file),
      seriesPaths: series.sort().map((name) => join(folder, SERIES, name)),
      release: async () => {
        if (isHeld) entry.holders--
        isHeld = false
      },
    }
  }

  async labelFile(id: string, tag: string): Promise<{ path: string; label: LabelVersion }> {
    const entry = this.#find(id)
    const label = entry.view.labels.get(tag)
    if (!label) throw new AppError('NOT_FOUND', `query parameter 'tag': the image has no label of this tag`)
    await this.#touch(entry)
    return { path: join(entry.folder, label.id, label.file), label }
  }

  async putImage(id: string, { folder, sha256, source, ...facts }: NewImage): Promise<StoredItem> {
    checkImageId(id)
    return this.#change(async () => {
      const known = this.#entries.get(id)
      if (known?.view.image.sha256 === sha256) {
        await this.#touch(known)
        return known.view
      }
      const { sha256: ofSource } = await hashFile(join(folder, source.file))
      return this.#enter(id, folder, (version) => {
        const image: ImageVersion = { ...version, sha256, ...facts, source: { ...source, sha256: ofSource } }
        return known ? { ...known.index, images: [...known.index.images, image] } : { id, images: [image], labels: [] }
      })
    })
  }

  async putLabel(id: string, tag: string, { folder, ...label }: NewLabel): Promise<StoredItem> {
    checkTag(tag)
    return this.#change(() => {
      const { index } = this.#find(id)
      return this.#enter(id, folder, (version) => {
        const before = index.labels.find((one) => one.tag === tag)?.versions ?? []
        const others = index.labels.filter((one) => one.tag !== tag)
        return { ...index, labels: [...others, { tag, versions: [...before, { ...version, ...label }] }] }
      })
    })
  }

  async close(): Promise<void> {
    await this.#background.close()
    await this.#changing
    await this.#lease.release()
  }

  #find(id: string): Entry {
    const entry = this.#entries.get(id)
    if (entry) return entry
    throw new AppError('NOT_FOUND', "query parameter 'image': the datastore has no image of this name", {
      hint: 'PUT /datastore/?image=NAME stores one; GET /datastore/?output=all lists them',
    })
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(work)
    this.#changing = done.catch(() => undefined)
    return done
  }

  /** Moves the folder in as a version, then replaces the index: until that moment the version is nobody's. */
  async #enter(
    id: string,
    from: string,
    change: (version: Pick<ImageVersion, 'id' | 'createdAt' | 'bytes'>) => Index,
  ): Promise<StoredItem> {
    const bytes = await folderBytes(from)
    const known = this.#entries.get(id)
    this.#makeRoom(bytes, known === undefined)
    const version = { id: randomUUID(), createdAt: this.#options.clock.now(), bytes }
    const folder = join(this.#images, folderOf(id))
    const to = join(folder, version.id)
    const index = change(version)
    await mkdir(folder, { recursive: true })
    try {
      await moveFolder(from, to, `${to}.part`)
      await writeIndex(folder, index)
    } catch (error) {
      await rm(to, { recursive: true, force: true })
      throw error
    }
    const entry = known ?? { index, folder, bytes: 0, lastUseAt: 0, holders: 0, view: viewOf(index) }
    entry.index = index
    entry.view = viewOf(index)
    entry.bytes += bytes
    this.#entries.set(id, entry)
    await this.#touch(entry)
    return entry.view
  }

  /** What somebody stored to keep is never removed for something new. */
  #makeRoom(bytes: number, isNew: boolean): void {
    const { maxBytes, maxImages } = this.#options
    const full = (what: string, flag: string) =>
      new AppError('TOO_LARGE', `the datastore is full: ${what}`, {
        hint: `the operator of the server can raise this limit with ${flag}, or move the datastore away`,
      })
    let used = bytes
    for (const entry of this.#entries.values()) used += entry.bytes
    if (used > maxBytes) throw full(`it may have ${maxBytes} bytes`, '--datastore-max-bytes')
    if (isNew && this.#entries.size >= maxImages)
      throw full(`it may have ${maxImages} images`, '--datastore-max-images')
  }

  /** A folder that is no image's as we know it is left alone, but for what our own unfinished writes left in it. */
  async #load(name: string): Promise<Entry | undefined> {
    const folder = join(this.#images, name)
    let index: Index | undefined
    try {
      index = await readIndex(folder)
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      if (!isMissing && !(error instanceof SyntaxError || error instanceof z.ZodError)) throw error
      if (!isMissing)
        this.#options.log.warn({ folder: name }, 'an image of the datastore cannot be read; it is left alone')
      // Without an index there never was an image: the write of the first version was cut short.
      if (!isMissing) return undefined
    }
    if (index && folderOf(index.id) !== name) return undefined
    const known = new Set(
      index ? [...index.images, ...index.labels.flatMap(({ versions }) => versions)].map(({ id }) => id) : [],
    )
    for (const one of await readdir(folder))
      if (LEFTOVER.test(one) || (VERSION.test(one) && !known.has(one)))
        await rm(join(folder, one), { recursive: true, force: true })
    if (!index) return undefined
    const bytes = [...index.images, ...index.labels.flatMap(({ versions }) => versions)].reduce(
      (sum, one) => sum + one.bytes,
      0,
    )
    const { mtimeMs } = await stat(join(folder, INDEX))
    return { index, folder, bytes, lastUseAt: mtimeMs, holders: 0, view: viewOf(index) }
  }

  async #touch(entry: Entry): Promise<void> {
    entry.lastUseAt = this.#options.clock.now()
    const seconds = entry.lastUseAt / 1000
    await utimes(join(entry.folder, INDEX), seconds, seconds).catch(() => undefined)
  }

  async #sweep(): Promise<void> {
    const { clock, expirySeconds, log } = this.#options
    for (const entry of this.#entries.values()) {
      if (entry.holders > 0 || clock.now() - entry.lastUseAt < expirySeconds * 1000) continue
      await this.#change(async () => {
        if (entry.holders > 0) return
        this.#entries.delete(entry.index.id)
        // Without its index it is no image any more, whatever becomes of the rest.
        await rename(join(entry.folder, INDEX), join(entry.folder, `${randomUUID()}.gone`))
        await rm(entry.folder, { recursive: true, force: true, maxRetries: 3, retryDelay: 100 })
        log.info({}, 'an image of the datastore expired and was removed with its labels')
      })
    }
  }
}

function viewOf({ id, images, labels }: Index): StoredItem {
  return {
    id,
    image: images.at(-1)!,
    labels: new Map(labels.map(({ tag, versions }) => [tag, versions.at(-1)!])),
    versions: labels.reduce((sum, { versions }) => sum + versions.length, images.length),
  }
}
