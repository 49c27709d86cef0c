/** An archive of nnU-Net v2: plans.json and dataset.json of one configuration, and an ONNX file a fold. */
import { posix } from 'node:path'
import { AppError } from '../errors.js'
import type { UnzippedFile } from '../util/unzip.js'
import { nnunetConfig } from './nnunet.js'
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
  json: (file: UnzippedFile) => Promise<unknown>,
): Promise<{ readonly config: unknown; readonly networks: readonly OnnxFiles[] }> {
  const root = chosenFolder(files)
  const folds = foldsOf(files, root)
  if (folds.length === 0)
    throw new AppError('BAD_MODEL', 'the nnU-Net archive holds no ONNX model, only what it was trained with', {
      hint: EXPORT_HINT,
    })
  const networks = folds.map((file) => onnxFiles(file, files))
  if (config !== undefined) return { config, networks }
  const at = (name: string) => files.find(({ entryName }) => entryName === `${root}${name}`)
  const exported = at('nnunet_export.json')
  const { inputs } = await readOnnxHeader(folds[0]!.path)
  const derived = nnunetConfig({
    plans: await json(at('plans.json')!),
    dataset: await json(at('dataset.json')!),
    ...(exported ? { exported: await json(exported) } : {}),
    folder: folderName(root),
    patch: (inputs[0]?.dims ?? []).slice(2),
    networks: folds.map(({ entryName }) => entryName.slice(root.length)),
  })
  return { config: derived, networks }
}

/** `<trainer>__<plans>__<configuration>`; any other name says nothing. */
function folderName(root: string): string | undefined {
  const name = posix.basename(root)
  return name.split('__').length === 3 ? name : undefined
}

/** Throws BAD_MODEL when there are several: which one is meant, nobody could tell. */
function chosenFolder(files: readonly UnzippedFile[]): string {
  const all = folders(files)
  const withNetworks = all.filter((root) => foldsOf(files, root).length > 0)
  const [chosen, ...others] = withNetworks.length > 0 ? withNetworks : all
  if (others.length === 0) return chosen!
  throw new AppError(
    'BAD_MODEL',
    `the archive holds ${1 + others.length} trained configurations: ${[chosen!, ...others].join(', ')}`,
    { hint: 'send one of them; a cascade and an ensemble of configurations are not run as one model' },
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
