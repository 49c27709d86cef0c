/** From what an administrator sent to a config and the files of an ONNX model, still where they were put. */
import { mkdir, readFile, stat } from 'node:fs/promises'
import { posix } from 'node:path'
import { AppError } from '../errors.js'
import { parseModelConfig } from '../pipelines/parse-model-config.js'
import { networkNames } from '../pipelines/several-networks.js'
import { looksLikeZip, type UnzipLimits, type UnzippedFile, unzipTo } from '../util/unzip.js'
import { auto3dsegRoot, readAuto3dseg } from './auto3dseg.js'
import { readHead, refuseForeignArchive, refuseForeignFile, refuseForeignLayout } from './foreign-weights.js'
import { bundleConfig } from './monai-bundle.js'
import { isNnunet, readNnunet } from './nnunet-archive.js'
import { type OnnxFiles, onnxFiles } from './onnx-files.js'
import { type OnnxHeader, readOnnxHeader } from './onnx-header.js'
import { partsIn, pickParts } from './part-files.js'
import type { ModelFiles } from './registry.js'

export interface Intake {
  /** As sent or found; not yet parsed. */
  readonly config: unknown
  /** One for each network that the config names, in its order; none for a model without weights of its own. */
  readonly networks: readonly OnnxFiles[]
}

export interface IntakeLimits extends UnzipLimits {
  /** Bytes of one config or metadata file in an archive. */
  readonly maxConfigBytes: number
}

const MMAR_CONFIG = 'config/config_aiaa.json'
const BUNDLE_METADATA = 'configs/metadata.json'

/**
 * Looks at an upload. `workFolder` does not exist yet; an archive is unpacked there, and the caller removes it.
 * A config that was sent wins over the one in an archive. Throws BAD_MODEL or BAD_MODEL_CONFIG in words that say what
 * is missing.
 */
export async function takeIn(
  config: unknown,
  data: string | undefined,
  workFolder: string,
  limits: IntakeLimits,
  signal?: AbortSignal,
): Promise<Intake> {
  if (data === undefined) {
    if (config === undefined)
      throw new AppError('BAD_REQUEST', 'neither config nor data was sent', {
        hint: 'send the parts config (config_aiaa.json) and data (model.onnx), or data alone as an MMAR or MONAI bundle zip',
      })
    return { config, networks: [] }
  }
  if (!isZip(await readHead(data))) {
    await refuseForeignFile(data)
    const own = config ?? embeddedConfig(await readOnnxHeader(data))
    return { config: needConfig(own, 'an ONNX file'), networks: [{ path: data, beside: [] }] }
  }
  await mkdir(workFolder)
  const files = await unzip(data, workFolder, limits, signal)
  const twice = nameOfTwo(files)
  if (twice !== undefined)
    throw new AppError('BAD_MODEL', `the archive holds two files called '${twice}'`, { hint: 'leave one of them out' })
  // A bundle's message says how to export it with MONAI itself.
  const names = files.map((file) => file.entryName)
  if (config === undefined) refuseForeignLayout(names)
  if (bundleRoot(files) === undefined && auto3dsegRoot(files) === undefined && !isNnunet(files))
    refuseForeignArchive(names)
  return readLayout(config, files, limits)
}

/** An encoder and a decoder that came as two files. Throws BAD_MODEL_CONFIG without a config that has `inference.parts`. */
export function takeParts({
  config,
  encoder,
  decoder,
}: {
  readonly config?: unknown
  readonly encoder: string
  readonly decoder: string
}): Intake {
  const networks = [encoder, decoder].map((path) => ({ path, beside: [] }))
  if (partsIn(config)) return { config, networks }
  throw new AppError(
    'BAD_MODEL_CONFIG',
    'the parts encoder and decoder were sent, and the config has no inference.parts',
    {
      hint: 'send the part config with it, as {"type": "deepgrow", "inference": {"parts": {}}}',
    },
  )
}

/** The same for one file, or several that were sent side by side. */
export async function takeInFiles(
  { config, data, several }: ModelFiles,
  workFolder: string,
  limits: IntakeLimits,
  signal?: AbortSignal,
): Promise<Intake> {
  if (!several) return takeIn(config, data, workFolder, limits, signal)
  const twice = nameOfTwo(several)
  if (twice !== undefined)
    throw new AppError('BAD_REQUEST', `two parts data are called '${twice}'`, {
      hint: 'give each file of a model of several networks a name of its own',
    })
  for (const { path, entryName } of several)
    if (isZip(await readHead(path)))
      throw new AppError(
        'BAD_REQUEST',
        `the part data '${entryName.slice(0, 200)}' is a zip, and is not the only one`,
        {
          hint: 'send one zip, or the files of a model of several networks as they are',
        },
      )
  return readLayout(config, several, limits)
}

/** A name that two of the files have: which of them is meant nobody could say. */
function nameOfTwo(files: readonly UnzippedFile[]): string | undefined {
  const seen = new Set<string>()
  for (const { entryName } of files) {
    if (seen.has(entryName)) return entryName.slice(0, 200)
    seen.add(entryName)
  }
  return undefined
}

export const isZip = looksLikeZip

/** The config that an ONNX file brings in its `metadata_props`, under `config_aiaa`. Throws BAD_MODEL_CONFIG if it is no JSON. */
export function embeddedConfig({ metadata }: Pick<OnnxHeader, 'metadata'>): unknown {
  const text = metadata.config_aiaa ?? metadata['config_aiaa.json']
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new AppError('BAD_MODEL_CONFIG', 'config_aiaa in the metadata_props of the ONNX file is not JSON', { cause })
  }
}

async function unzip(zip: string, folder: string, limits: UnzipLimits, signal?: AbortSignal): Promise<UnzippedFile[]> {
  try {
    return await unzipTo(zip, folder, limits, signal)
  } catch (error) {
    // The unpacker speaks of images, which is what most archives hold.
    if (error instanceof AppError && error.code === 'UNREADABLE_IMAGE')
      throw new AppError('BAD_MODEL', error.message, { cause: error })
    throw error
  }
}

/** An archive, or a folder of the catalogue, told by the files it has. */
export async function readLayout(
  config: unknown,
  files: readonly UnzippedFile[],
  limits: IntakeLimits,
): Promise<Intake> {
  const find = (name: string) => files.find((file) => file.entryName === name)
  const json = async (file: UnzippedFile) => readJson(file, limits)
  const mmar = find(MMAR_CONFIG) ?? find('config_aiaa.json')
  if (mmar) {
    const found = withNetworks(config ?? (await json(mmar)), files)
    return { config: found, networks: await pickNetworks(found, files) }
  }
  const enclosed = files.find((file) => file.entryName.endsWith(`/${MMAR_CONFIG}`))
  if (enclosed && config === undefined)
    throw new AppError('BAD_MODEL', `the MMAR archive has '${MMAR_CONFIG}' inside another folder, not at its root`, {
      hint: 'zip the content of the MMAR folder, not the folder itself: cd MMAR && zip -r ../mmar.zip .',
    })
  const root = bundleRoot(files)
  if (root !== undefined) {
    const networks = await pickNetworks(config, files)
    const inference = find(`${root}configs/inference.json`) ?? files.find(({ entryName }) => isYamlOf(entryName, root))
    if (networks.length === 0)
      throw new AppError('BAD_MODEL', 'the MONAI bundle holds no ONNX model', {
        hint: `in the bundle's folder run: ${exportCommand(files, root, inference)}; then zip the folder and send it`,
      })
    if (config !== undefined) return { config, networks }
    const said = inference && (await parsedConfig(inference, limits))
    const metadata = await json(find(`${root}${BUNDLE_METADATA}`)!)
    return { config: bundleConfig(metadata, said, inference && posix.basename(inference.entryName)), networks }
  }
  const algorithm = auto3dsegRoot(files)
  if (algorithm !== undefined) {
    const networks = await pickNetworks(config, files)
    if (networks.length === 0)
      throw new AppError('BAD_MODEL', 'the Auto3DSeg algorithm holds no ONNX model', {
        hint: 'export its network with torch.onnx.export(network, example, "model.onnx"), put the file beside configs/ and zip the folder again',
      })
    if (config !== undefined) return { config, networks }
    return { config: await readAuto3dseg(files, algorithm, (file) => parsedConfig(file, limits)), networks }
  }
  if (isNnunet(files)) return readNnunet(config, files, json)
  const own = withNetworks(config, files)
  const networks = await pickNetworks(own, files)
  if (networks.length === 0)
    throw new AppError('BAD_MODEL', 'the archive holds no ONNX model', {
      hint: `send model.onnx, an MMAR (${MMAR_CONFIG}, models/model.onnx) or a MONAI bundle (${BUNDLE_METADATA}, models/model.onnx)`,
    })
  return { config: needConfig(own, `an archive without ${MMAR_CONFIG} or ${BUNDLE_METADATA}`), networks }
}

/** What stands before `configs/metadata.json`: nothing, or the bundle's own folder. Undefined for other archives. */
function bundleRoot(files: readonly UnzippedFile[]): string | undefined {
  const metadata = files.find((file) => /^([^/]+\/)?configs\/metadata\.json$/.test(file.entryName))
  return metadata?.entryName.slice(0, -BUNDLE_METADATA.length)
}

function isYamlOf(entryName: string, root: string): boolean {
  return entryName.startsWith(root) && /^configs\/inference\.ya?ml$/.test(entryName.slice(root.length))
}

/** MONAI's own command for this bundle, with the files it has. */
function exportCommand(files: readonly UnzippedFile[], root: string, inference: UnzippedFile | undefined): string {
  const inside = files.map(({ entryName }) => entryName).filter((name) => name.startsWith(root))
  const weights = inside.filter((name) => /\/models\/[^/]+\.pth?$/.test(`/${name}`)).toSorted()
  const usual = weights.find((name) => /\/model\.pth?$/.test(name)) ?? weights[0] ?? `${root}models/model.pt`
  const config = inference?.entryName ?? `${root}configs/inference.json`
  const own = (name: string) => name.slice(root.length)
  return (
    'python -m monai.bundle onnx_export --net_id network_def --filepath models/model.onnx ' +
    `--ckpt_file ${own(usual)} --meta_file ${BUNDLE_METADATA} --config_file ${own(config)}`
  )
}

async function parsedConfig(file: UnzippedFile, limits: IntakeLimits): Promise<unknown> {
  if (file.entryName.endsWith('.json')) return readJson(file, limits)
  const text = await readText(file, limits)
  // Loaded when there is YAML: a server starts faster without.
  const { parse: parseYaml } = await import('yaml')
  try {
    // MONAI reads YAML 1.1, where yes and no are booleans
    return parseYaml(text, { version: '1.1', maxAliasCount: 100, logLevel: 'error' })
  } catch (error) {
    const why = error instanceof Error ? `: ${error.message.split('\n')[0]!.slice(0, 200)}` : ''
    throw new AppError('BAD_MODEL_CONFIG', `${file.entryName} is not YAML${why}`, { cause: error })
  }
}

/** The files of the networks that the config names, else the one ONNX file, or the one that is called model.onnx. */
async function pickNetworks(config: unknown, files: readonly UnzippedFile[]): Promise<OnnxFiles[]> {
  const parts = partsIn(config)
  if (parts) return pickParts(parts, files)
  const named = config === undefined ? undefined : networkNames(parseModelConfig(config, 'model'))
  if (!named) return pickOnnx(files)
  const candidates = onnxAmong(files)
  const unused = candidates.find(({ entryName }) => !named.includes(entryName))
  if (unused)
    throw new AppError(
      'BAD_MODEL',
      `the config names ${named.length} networks, and '${unused.entryName.slice(0, 200)}' is none of them`,
      { hint: 'name it in the config, or leave it out' },
    )
  return named.map((name) => {
    const found = files.find(({ entryName }) => entryName === name)
    if (!found)
      throw new AppError('BAD_MODEL', `there is no '${name.slice(0, 200)}', which the config names as a network`, {
        hint: `the ONNX files are called ${
          candidates
            .map(({ entryName }) => entryName)
            .join(', ')
            .slice(0, 400) || 'otherwise'
        }`,
      })
    return onnxFiles(found, files)
  })
}

/** An ensemble that names no networks is of all the ONNX files that came with it, in the order of their names. */
function withNetworks(config: unknown, files: readonly UnzippedFile[]): unknown {
  const { type, inference } = (config ?? {}) as { type?: unknown; inference?: Record<string, unknown> }
  if (String(type).toLowerCase() !== 'ensemble' || typeof inference !== 'object' || inference === null) return config
  if (inference.networks !== undefined || inference.label_maps !== undefined || inference.first !== undefined)
    return config
  const names = onnxAmong(files).map(({ entryName }) => entryName)
  const networks = names.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }))
  return { ...(config as Record<string, unknown>), inference: { ...inference, networks } }
}

function onnxAmong(files: readonly UnzippedFile[]): UnzippedFile[] {
  return files.filter((file) => /\.onnx$/i.test(file.entryName) && !posix.basename(file.entryName).startsWith('._'))
}

function pickOnnx(files: readonly UnzippedFile[]): OnnxFiles[] {
  const candidates = onnxAmong(files)
  if (candidates.length === 0) return []
  const named = candidates.filter((file) => posix.basename(file.entryName) === 'model.onnx')
  const chosen = candidates.length === 1 ? candidates[0]! : named.length === 1 ? named[0]! : undefined
  if (chosen === undefined)
    throw new AppError(
      'BAD_MODEL',
      `the archive holds ${candidates.length} ONNX models and none alone is called model.onnx`,
      {
        hint: 'call the one to run model.onnx, leave the others out, or name them in the config: several in inference.networks, an encoder and its decoder in inference.parts',
      },
    )
  return [onnxFiles(chosen, files)]
}

function needConfig(config: unknown, what: string): unknown {
  if (config !== undefined) return config
  throw new AppError('BAD_MODEL_CONFIG', `config is missing: ${what} does not say how it is run`, {
    hint: 'send the part config with config_aiaa.json beside data; PUT with ?draft=true, or `aidant import`, drafts one of an ONNX file',
  })
}

async function readText(file: UnzippedFile, limits: IntakeLimits): Promise<string> {
  const { size } = await stat(file.path)
  if (size > limits.maxConfigBytes)
    throw new AppError('TOO_LARGE', `${file.entryName} has ${size} bytes; the limit is ${limits.maxConfigBytes}`)
  return (await readFile(file.path, 'utf8')).replace(/^\uFEFF/, '')
}

async function readJson(file: UnzippedFile, limits: IntakeLimits): Promise<unknown> {
  const text = await readText(file, limits)
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new AppError('BAD_MODEL_CONFIG', `${file.entryName} is not JSON`, {
      cause: error,
    })
  }
}
