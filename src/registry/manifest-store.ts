/** The manifests of a workspace on disk: models/<name>/manifest.json. One of them is the model; see manifest.ts for what it says. */
import { randomUUID } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { syncFolder } from '../util/atomic-write.js'
import { childPath } from '../util/safe-name.js'
import { foldersIn } from './bundled-models.js'
import {
  isMissing,
  isUnreadable,
  MANIFEST_FILE,
  type Manifest,
  readManifest,
  type Weights,
  writeManifest,
} from './manifest.js'

export class ManifestStore {
  /** `<workspace>/models`. */
  readonly folder: string

  constructor(folder: string) {
    this.folder = folder
  }

  /** Names that have a folder, whether or not a model is in it. */
  names(): Promise<string[]> {
    return foldersIn(this.folder)
  }

  /** The folder of a model. Throws BAD_NAME. */
  folderOf(name: string): string {
    return childPath(this.folder, name, 'model')
  }

  async makeFolder(name: string): Promise<string> {
    const folder = this.folderOf(name)
    if (await mkdir(folder, { recursive: true })) await syncFolder(this.folder)
    return folder
  }

  /** Undefined when there is none; throws when it is there but cannot be read. */
  read(name: string): Promise<Manifest | undefined> {
    return readManifest(this.#path(name))
  }

  /** The same, where a manifest that is none of ours is as good as none: it is about to be replaced. */
  async readUsable(name: string): Promise<Manifest | undefined> {
    try {
      return await this.read(name)
    } catch (error) {
      if (isUnreadable(error)) return undefined
      throw error
    }
  }

  /** Replaces it in one step. What is there and is no manifest of ours is set aside, not overwritten. */
  async write(name: string, manifest: Manifest): Promise<void> {
    await this.#setAsideForeign(name)
    await writeManifest(this.#path(name), manifest)
  }

  async remove(name: string): Promise<void> {
    await this.#setAsideForeign(name)
    await rm(this.#path(name), { force: true })
    await syncFolder(this.folderOf(name))
  }

  /**
   * Changes whenever the manifest is replaced: every replacement is a new file. The file is opened for it, since NFS looks
   * at the server's truth on open, while a plain stat may answer from a cache that is a minute old.
   */
  async signature(name: string): Promise<string> {
    try {
      const file = await open(this.#path(name), 'r')
      try {
        const { ino, size, mtimeNs } = await file.stat({ bigint: true })
        return `${ino} ${size} ${mtimeNs}`
      } finally {
        await file.close()
      }
    } catch (error) {
      if (isMissing(error)) return 'none'
      throw error
    }
  }

  weightsPath(name: string, weights: Weights): string {
    return join(this.folderOf(name), weights.file)
  }

  async #setAsideForeign(name: string): Promise<void> {
    try {
      await this.read(name)
    } catch (error) {
      if (!isUnreadable(error)) throw error
      await rename(this.#path(name), `${this.#path(name)}.${randomUUID()}.set-aside`)
    }
  }

  #path(name: string): string {
    return join(this.folderOf(name), MANIFEST_FILE)
  }
}

/** The file or folder that these weights are, in their model's folder. */
export function ownFile(weights: Weights): string {
  return weights.file.split('/')[0]!
}
