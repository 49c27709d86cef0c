/**
 * `--model-catalog`: where PUT {"path", "version"} and {"url", "sha256"} look. It stands in for NGC: a folder of models,
 * or a JSON file that names them. Nothing is downloaded.
 *
 * Folder: <path>[/<version>] is a folder with config_aiaa.json and model.onnx (an MMAR works too), or <path>[/<version>].zip.
 * File:   {"<path>": {"file": "spleen.zip", "sha256": "…", "version": "1", "url": "https://…"}}, files beside it; a
 *         bare .onnx also has "config": "spleen.json".
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { z } from 'zod'
import { AppError } from '../errors.js'
import { hashFile } from '../util/hash-file.js'
import type { UnzippedFile } from '../util/unzip.js'
import { isMissing } from './manifest.js'
import { exists } from './weights-store.js'

const Item = z.strictObject({
  file: z.string().min(1),
  /** For a bare .onnx: its config_aiaa.json. */
  config: z.string().min(1).optional(),
  sha256: z
    .string()
    .regex(/^[0-9a-fA-F]{64}$/)
    .optional(),
  version: z.union([z.string(), z.number().transform(String)]).optional(),
  url: z.string().optional(),
})
const CatalogFile = z.record(z.string(), Item)

const STEP = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/
const MAX_FOLDER_FILES = 10_000

/** A model of the catalogue: a file to take in like an upload, or a folder to read like an unpacked archive. */
export type CatalogModel =
  | { readonly kind: 'file'; readonly path: string; readonly config?: unknown }
  | { readonly kind: 'folder'; readonly files: readonly UnzippedFile[] }

/** Throws MODEL_NOT_FOUND when the catalogue has no such model. */
export async function findByPath(catalog: string, path: string, version: string | undefined): Promise<CatalogModel> {
  const steps = [...path.split('/'), ...(version === undefined ? [] : [version])]
  if (!steps.every((step) => STEP.test(step)))
    throw new AppError('BAD_NAME', `path '${path.slice(0, 200)}' is not the path of a model`, {
      hint: 'use letters, digits, dots, dashes, underscores and single slashes',
    })
  if ((await stat(catalog)).isDirectory()) {
    const places = version === undefined ? [path] : [`${path}/${version}`, path]
    for (const place of places) {
      const found = await placeIn(catalog, place)
      if (found) return found
    }
  } else {
    const item = (await readCatalog(catalog))[path]
    if (item && (version === undefined || item.version === undefined || item.version === version))
      return fileOf(catalog, item, undefined)
  }
  throw unknown(version === undefined ? `'${path}'` : `'${path}' of version '${version}'`)
}

/** A catalogue entry whose url is `url`; its file must have that hash. */
export async function findByUrl(catalog: string, url: string, sha256: string): Promise<CatalogModel> {
  if ((await stat(catalog)).isDirectory())
    throw new AppError('BAD_REQUEST', 'url needs a catalogue file; --model-catalog is a folder here', {
      hint: 'name the model by path and version, or list the url in a JSON catalogue',
    })
  const item = Object.values(await readCatalog(catalog)).find((one) => one.url === url)
  if (!item) throw unknown('with that url')
  return fileOf(catalog, item, sha256)
}

async function readCatalog(path: string): Promise<z.infer<typeof CatalogFile>> {
  const parsed = CatalogFile.safeParse(JSON.parse(await readFile(path, 'utf8')))
  if (parsed.success) return parsed.data
  throw new AppError('BAD_REQUEST', `the model catalogue is not usable: ${parsed.error.issues[0]?.message}`)
}

async function fileOf(catalog: string, item: z.infer<typeof Item>, wanted: string | undefined): Promise<CatalogModel> {
  const path = await inside(dirname(resolve(catalog)), item.file)
  const hashes = [item.sha256, wanted].filter((hash) => hash !== undefined).map((hash) => hash.toLowerCase())
  if (hashes.length > 0) {
    const { sha256 } = await hashFile(path)
    if (hashes.some((hash) => hash !== sha256))
      throw new AppError(
        'BAD_MODEL',
        `the model's file has sha256 ${sha256}, not ${hashes.find((hash) => hash !== sha256)}`,
      )
  }
  if (item.config === undefined) return { kind: 'file', path }
  const config: unknown = JSON.parse(await readFile(await inside(dirname(resolve(catalog)), item.config), 'utf8'))
  return { kind: 'file', path, config }
}

async function placeIn(root: string, place: string): Promise<CatalogModel | undefined> {
  if (await exists(join(root, `${place}.zip`))) return { kind: 'file', path: await inside(root, `${place}.zip`) }
  const folder = join(root, place)
  if (!(await exists(folder)) || !(await stat(folder)).isDirectory()) return undefined
  const files = await filesIn(await inside(root, place))
  return files.some((file) => /\.(onnx|json)$/i.test(file.entryName)) ? { kind: 'folder', files } : undefined
}

async function filesIn(folder: string): Promise<UnzippedFile[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true })
  const files = entries.filter((entry) => entry.isFile())
  if (files.length > MAX_FOLDER_FILES) throw new AppError('TOO_LARGE', `a model's folder has ${files.length} files`)
  return Promise.all(
    files.map(async (entry) => {
      const path = join(entry.parentPath, entry.name)
      return { entryName: relative(folder, path).split(sep).join('/'), path, bytes: (await stat(path)).size }
    }),
  )
}

/** `name` under `root`, links followed; a way out of it is as good as absent. */
async function inside(root: string, name: string): Promise<string> {
  try {
    const [base, path] = await Promise.all([realpath(root), realpath(resolve(root, name))])
    if (path.startsWith(`${base}${sep}`)) return path
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  throw unknown('whose file is there')
}

function unknown(what: string): AppError {
  return new AppError('MODEL_NOT_FOUND', `the catalogue has no model ${what}`, {
    hint: 'look at the folder or file that --model-catalog names',
  })
}
