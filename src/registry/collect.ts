/**
 * What no manifest names goes: weights of models that were replaced or removed, and what dead writers left. Only files that
 * bear our own names are looked at. Whoever is writing a name is not disturbed, and a collection that is in a writer's way
 * stops when it is asked for the lock.
 */
import { readdir, rmdir, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelHost } from '../contract/model.js'
import type { Background } from '../util/background.js'
import type { Lease } from '../util/lease.js'
import { isOwnModelFile } from '../workspace/names.js'
import type { Workspace } from '../workspace/open-workspace.js'
import { allWeights, isMissing, isUnreadable, type LiveManifest, MANIFEST_FILE, type Manifest } from './manifest.js'
import { type ManifestStore, ownFile } from './manifest-store.js'
import type { ModelDirectory } from './model-directory.js'

/** Another server may still start a runner for a model it has not heard is gone; its weights stay that long. */
const FOREIGN_USE_MS = 10 * 60_000
const WEIGHTS = /^[0-9a-f]{64}\.(onnx|d)$/

export interface CollectorOptions {
  readonly manifests: ManifestStore
  readonly directory: ModelDirectory
  readonly workspace: Pick<Workspace, 'discard' | 'othersServe'>
  readonly lock: (name: string, use: 'brief' | 'long') => Promise<Lease>
  /** Names that have a lock file. */
  readonly lockedNames: () => Promise<string[]>
  readonly scheduler: Pick<ModelHost, 'retire'>
  readonly background: Background
  /** Resolves when the server closes: runners that still work then are the scheduler's to end. */
  readonly closed: Promise<void>
}

export class Collector {
  readonly #options: CollectorOptions

  constructor(options: CollectorOptions) {
    this.#options = options
  }

  /** Ends the runners of what this name was before, and of the pipelines it is part of. */
  async retire(name: string): Promise<void> {
    const { directory, scheduler } = this.#options
    for (const user of directory.usersOf(name)) await scheduler.retire(user.name, user.revision)
  }

  /**
   * Removes what a change of `name` left behind, as soon as no runner of ours uses it: running jobs finish. Resolves when
   * that is done, or has failed and is tried again. What a closing server does not get to is removed by the next.
   */
  retireAndCollect(name: string): Promise<void> {
    const { background, closed } = this.#options
    return background.start(`what is left of model '${name}'`, async () => {
      const isRetired = await Promise.race([this.retire(name).then(() => true), closed.then(() => false)])
      if (isRetired) await this.collect(name)
    })
  }

  /** At start and now and then: every name. */
  async sweep(): Promise<void> {
    const { manifests, lockedNames, background } = this.#options
    for (const name of new Set([...(await manifests.names()), ...(await lockedNames())])) {
      if (background.closed) return
      await this.collect(name).catch((error: unknown) => {
        // Somebody is writing the name, and collects when done; anything else is tried in the next sweep.
        if ((error as { code?: string }).code !== 'BUSY_NAME') throw error
      })
    }
  }

  /** Removes from a name's folder what its manifest does not name. Rejects BUSY_NAME while somebody writes it. */
  async collect(name: string): Promise<void> {
    const lock = await this.#options.lock(name, 'brief')
    try {
      await this.collectUnder(name, lock)
    } finally {
      await lock.release()
    }
  }

  /** The same for who has the lock already. */
  collectUnder(name: string, lock: Lease): Promise<void> {
    return this.#collect(name, lock)
  }

  /** The same, finished weights excepted: runners may still use those of the version before. */
  collectUnfinished(name: string): Promise<void> {
    return this.#collect(name, undefined)
  }

  /** Starts the clock of weights that are about to lose their manifest. */
  async touch(name: string, manifest: LiveManifest): Promise<void> {
    const now = new Date()
    for (const weights of [manifest, manifest.previous ?? {}].flatMap(allWeights))
      await utimes(join(this.#options.manifests.folderOf(name), ownFile(weights)), now, now).catch(() => undefined)
  }

  async #collect(name: string, lock: Lease | undefined): Promise<void> {
    const { manifests, workspace } = this.#options
    const folder = manifests.folderOf(name)
    let manifest: Manifest | undefined
    try {
      manifest = await manifests.read(name)
    } catch (error) {
      if (isUnreadable(error)) return // it may name anything here
      throw error
    }
    const live = manifest?.deleted === false ? manifest : undefined
    const kept = new Set([live ?? {}, live?.previous ?? {}].flatMap(allWeights).map(ownFile))
    kept.add(MANIFEST_FILE)
    const files = await filesIn(folder)
    const isShared = files.some((file) => WEIGHTS.test(file) && !kept.has(file)) && (await workspace.othersServe())
    let left = 0
    for (const file of files) {
      const path = join(folder, file)
      const isSpared = WEIGHTS.test(file) && (!lock || (isShared && (await isFresh(path))))
      if (kept.has(file) || isSpared || !isOwnModelFile(file)) left++
      else if (await lock?.isAsked()) return
      else await workspace.discard(path)
    }
    if (left === 0) await rmdir(folder).catch(() => undefined)
  }
}

async function filesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

async function isFresh(path: string): Promise<boolean> {
  return Date.now() - (await stat(path)).mtimeMs < FOREIGN_USE_MS
}
