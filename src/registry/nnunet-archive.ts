/** An archive of nnU-Net v2: plans.json and dataset.json of one configuration, or of the two of a cascade, and an ONNX file a fold. */
import { posix } from 'node:path'
import { AppError } from '../errors.js'
import type { UnzippedFile } from '../util/unzip.js'
import { configurationSaid, type NnunetStage, nnunetConfig, previousStage } from './nnunet.js'
import { type OnnxFiles, onnxFiles } from './onnx-files.js'
import { readOnnxHeader } from './onnx-header.js'

const EXPORT_HINT =
  'run training/nnunet_to_zip.py (see docs/models.md) in the Python environment of nnU-Net: it writes plans.json, dataset.json ' +
  'and an ONNX file for each fold into one zip'

/** The folders that hold both files, the root as ''. */
function folders(files: readonly UnzippedFile[]): string[] {
  const names = new Set(files.map(({ entryName }) => entryName))
  return files
    .map(({ entryName }) => entryName)
    .filter((name) => posix.basename(name) === 'plans.json' && !name.startsWith('__MACOSX/'))
    .map((name) => name.slice(0, -'plans.json'.length))
    .filter((folder) => names.has(`${folder}dataset.json`))
}

export function isNnunet(files: readonly UnzippedFile[]): boolean {
  return folders(files).length > 0
}

/** `config`, when one was sent, wins over what the archive says. Throws BAD_MODEL or BAD_MODEL_CONFIG. */
export async function readNnunet(
  config: unknown,
  files: readonly UnzippedFile[],
  json: ReadJson,
): Promise<{ readonly config: unknown; readonly networks: readonly OnnxFiles[] }> {
  const { root, previous } = await chosenFolders(files, json)
  const folds = foldsOf(files, root)
  if (folds.length === 0)
    throw new AppError('BAD_MODEL', 'the nnU-Net archive holds no ONNX model, only what it was trained with', {
      hint: EXPORT_HINT,
    })
  const before = previous === undefined ? [] : foldsOf(files, previous)
  const networks = [...folds, ...before].map((file) => onnxFiles(file, files))
  if (config !== undefined) return { config, networks }
  const at = (name: string) => files.find(({ entryName }) => entryName === `${root}${name}`)
  const from = previous === undefined ? root.length : commonFolder(root, previous).length
  const stage = async (folder: string, found: readonly UnzippedFile[]): Promise<NnunetStage> => {
    const { inputs } = await readOnnxHeader(found[0]!.path)
    return {
      ...(await saidOf(files, folder, json)),
      patch: (inputs[0]?.dims ?? []).slice(2),
      networks: found.map(({ entryName }) => entryName.slice(from)),
    }
  }
  const derived = nnunetConfig({
    plans: await json(at('plans.json')!),
    dataset: await json(at('dataset.json')!),
    ...(await stage(root, folds)),
    ...(previous === undefined ? {} : { previous: await stage(previous, before) }),
  })
  return { config: derived, networks }
}

type ReadJson = (file: UnzippedFile) => Promise<unknown>

/** What a folder and its nnunet_export.json say of themselves. */
async function saidOf(
  files: readonly UnzippedFile[],
  root: string,
  json: ReadJson,
): Promise<Pick<NnunetStage, 'exported' | 'folder'>> {
  const exported = files.find(({ entryName }) => entryName === `${root}nnunet_export.json`)
  return { ...(exported ? { exported: await json(exported) } : {}), folder: folderName(root) }
}

/** The folder that both lie in, with its slash; '' for the root. */
function commonFolder(a: string, b: string): string {
  const [one, other] = [a.split('/'), b.split('/')]
  let same = 0
  while (same < one.length - 1 && one[same] === other[same]) same++
  return one
    .slice(0, same)
    .map((step) => `${step}/`)
    .join('')
}

/** `<trainer>__<plans>__<configuration>`; any other name says nothing. */
function folderName(root: string): string | undefined {
  const name = posix.basename(root)
  return name.split('__').length === 3 ? name : undefined
}

/**
 * The configuration to run, and the stage before it where two are a cascade. Throws BAD_MODEL for any other several: which
 * one is meant, nobody could tell.
 */
async function chosenFolders(
  files: readonly UnzippedFile[],
  json: ReadJson,
): Promise<{ readonly root: string; readonly previous?: string | undefined }> {
  const all = folders(files)
  const withNetworks = all.filter((root) => foldsOf(files, root).length > 0)
  const [chosen, other, ...others] = withNetworks.length > 0 ? withNetworks : all
  if (other === undefined) return { root: chosen! }
  if (others.length === 0)
    for (const [root, previous] of [
      [chosen!, other],
      [other, chosen!],
    ] as const) {
      const plans = await json(files.find(({ entryName }) => entryName === `${root}plans.json`)!)
      const before = previousStage(plans, await saidOf(files, root, json))
      if (before !== undefined && before === configurationSaid(await saidOf(files, previous, json)))
        return { root, previous }
    }
  throw new AppError(
    'BAD_MODEL',
    `the archive holds ${2 + others.length} trained configurations that are no cascade: ${[chosen!, other, ...others].join(', ')}`,
    {
      hint: 'send one of them, or 3d_lowres with 3d_cascade_fullres; an ensemble of configurations is not run as one model',
    },
  )
}

/** One ONNX file in each fold_N, or else those beside plans.json. Throws BAD_MODEL for a fold with several. */
function foldsOf(files: readonly UnzippedFile[], root: string): UnzippedFile[] {
  const inside = files.filter(
    ({ entryName }) => entryName.startsWith(root) && /(^|\/)(?!\._)[^/]+\.onnx$/i.test(entryName),
  )
  const byFold = new Map<string, UnzippedFile>()
  for (const file of inside) {
    const [, fold] = /^(fold_[^/]+)\/[^/]+$/.exec(file.entryName.slice(root.length)) ?? []
    if (fold === undefined) continue
    if (byFold.has(fold))
      throw new AppError('BAD_MODEL', `${root}${fold} holds several ONNX files`, { hint: 'leave one in each fold' })
    byFold.set(fold, file)
  }
  if (byFold.size > 0)
    return [...byFold].toSorted(([a], [b]) => a.localeCompare(b, 'en', { numeric: true })).map(([, file]) => file)
  return inside.filter(({ entryName }) => !entryName.slice(root.length).includes('/'))
}
