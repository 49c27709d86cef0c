/** The models that come with the program: folders of config_aiaa.json and model.onnx, read and never written. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { forEachConcurrently } from '../util/concurrently.js'
import { hashFile } from '../util/hash-file.js'
import { SAFE_NAME } from '../util/safe-name.js'
import { isMissing, revisionOf } from './manifest.js'
import { exists } from './weights-store.js'

export const BUNDLED_CONFIG = 'config_aiaa.json'
export const BUNDLED_WEIGHTS = 'model.onnx'

/** Hashing has as many threads, by Node's default; a catalogue of hundreds keeps no more files open. */
const READ_AT_ONCE = 4

export interface BundledModel {
  readonly name: string
  readonly revision: string
  readonly config: unknown
  readonly weights?: { readonly path: string; readonly sha256: string; readonly bytes: number } | undefined
  readonly createdAt: string
}

/** Folders without a config are not models yet and are passed over. */
export async function readBundledModels(folder: string): Promise<BundledModel[]> {
  const names = await foldersIn(folder)
  const models: (BundledModel | undefined)[] = []
  // One is read while another is hashed: a start waits for this.
  await forEachConcurrently(names, READ_AT_ONCE, async (name, i) => {
    models[i] = await readBundledModel(folder, name)
  })
  return models.filter((model) => model !== undefined)
}

async function readBundledModel(folder: string, name: string): Promise<BundledModel | undefined> {
  const configPath = join(folder, name, BUNDLED_CONFIG)
  if (!(await exists(configPath))) return undefined
  const config = readJson(await readFile(configPath, 'utf8'))
  const path = join(folder, name, BUNDLED_WEIGHTS)
  const weights = (await exists(path)) ? { path, ...(await hashFile(path)) } : undefined
  const { mtime } = await stat(configPath)
  return { name, revision: revisionOf(config, weights?.sha256), config, weights, createdAt: mtime.toISOString() }
}

/** Subfolders whose names could be a model's, sorted; none when the folder itself is absent. */
export async function foldersIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries
      .filter((entry) => entry.isDirectory() && SAFE_NAME.test(entry.name))
      .map((entry) => entry.name)
      .toSorted()
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

/** Text that is not JSON is no config; the model then shows as FAILED instead of keeping the server from starting. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
