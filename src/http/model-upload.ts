/** What an administrator sends to PUT or PATCH a model, in all its forms, as the registry takes it. */
import { readFile } from 'node:fs/promises'
import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { AppError } from '../errors.js'
import { MOST_NETWORKS } from '../pipelines/model-config-schema.js'
import type { ModelSource } from '../registry/registry.js'
import { receiveUpload, type Upload, type UploadLimits } from './upload.js'

export interface ModelUploadLimits {
  readonly maxModelBytes: number
  readonly maxConfigBytes: number
}

const version = z.union([z.string().min(1), z.number().transform(String)])
const Source = z.union([
  z
    .strictObject({ path: z.string().min(1).max(1024), version: version.optional() })
    .transform((given) => ({ kind: 'catalog', ...given }) as const),
  z
    .strictObject({ url: z.url().max(2048), sha256: z.string().regex(/^[0-9a-fA-F]{64}$/) })
    .transform((given) => ({ kind: 'url', ...given }) as const),
  z
    .strictObject({ generation: z.coerce.number().int().positive() })
    .transform((given) => ({ kind: 'generation', ...given }) as const),
])
const SOURCE_HINT =
  'send {"path", "version"} or {"url", "sha256"} of the model catalogue, {"generation"} to roll back, or a multipart ' +
  'body with config and data'
const PARTS_HINT =
  'the parts are config (config_aiaa.json) and data (ONNX, or a zip of an MMAR, MONAI bundle or ONNX; or several parts data, ' +
  'each with its file name: the networks of one model), or config, encoder and decoder'
const NETWORKS: readonly string[] = ['encoder', 'decoder']
/** As many networks as a model has, each with a file of external data, and the config. */
const MOST_FILES = 2 * MOST_NETWORKS + 1

/** Reads a PUT. Its files lie in `folder` and may be moved away. Rejects BAD_REQUEST, TOO_LARGE or BAD_MODEL_CONFIG. */
export async function receiveModel(
  request: FastifyRequest,
  folder: string,
  limits: ModelUploadLimits,
): Promise<ModelSource> {
  if (typeof request.body === 'string') return sourceOf(request.body)
  const upload = await receiveUpload(request, folder, {
    maxUploadBytes: limits.maxModelBytes,
    maxUploadFiles: MOST_FILES,
    maxParamsBytes: limits.maxConfigBytes,
    bytesFlag: '--max-model-bytes',
  } satisfies UploadLimits)
  const ngc = await textOf(upload, 'ngc', limits)
  if (ngc !== undefined) return sourceOf(ngc)
  const config = await textOf(upload, 'config', limits)
  const files = upload.files.filter(({ field }) => field !== 'config')
  // A bare body, which receiveUpload calls image, is the weights.
  const networks = files.filter(({ field }) => NETWORKS.includes(field))
  const odd = files.find(
    (file) => !networks.includes(file) && file.field !== 'data' && (request.isMultipart() || file.field !== 'image'),
  )
  if (odd) throw new AppError('BAD_REQUEST', `the part '${odd.field.slice(0, 80)}' is not known`, { hint: PARTS_HINT })
  if (networks.length > 0) {
    const [encoder, decoder] = NETWORKS.map((name) => networks.find(({ field }) => field === name))
    if (!encoder || !decoder || files.length > 2)
      throw new AppError('BAD_REQUEST', 'a model of two parts is sent as one file encoder and one file decoder', {
        hint: PARTS_HINT,
      })
    const own = config === undefined ? undefined : parseJson(config, 'config')
    return { kind: 'parts', config: own, encoder: encoder.path, decoder: decoder.path }
  }
  if (upload.fields.has('data'))
    throw new AppError('BAD_REQUEST', 'the part data is text, not a file', { hint: PARTS_HINT })
  const parsed = config === undefined ? undefined : parseJson(config, 'config')
  if (files.length < 2) return { kind: 'files', config: parsed, data: files[0]?.path }
  const nameless = files.find(({ filename }) => filename === '')
  if (nameless) throw new AppError('BAD_REQUEST', 'one of several parts data has no file name', { hint: PARTS_HINT })
  const several = files.map(({ filename, path, bytes }) => ({ entryName: filename, path, bytes }))
  return { kind: 'files', config: parsed, several }
}

/** Reads a PATCH: the body is the whole config. */
export function receiveConfig(body: unknown): unknown {
  if (typeof body !== 'string' || body.trim() === '')
    throw new AppError('BAD_REQUEST', 'the body is empty; it is the new config_aiaa.json', {
      hint: 'send it as application/json, as in curl -H "Content-Type: application/json" -d @config_aiaa.json',
    })
  return parseJson(body, 'the body')
}

function sourceOf(text: string): ModelSource {
  const json = parseJson(text, 'the body')
  // A config has a type, and no source does: a pipeline may be sent as its config alone.
  if (typeof json === 'object' && json !== null && 'type' in json) return { kind: 'files', config: json }
  const parsed = Source.safeParse(json)
  if (parsed.success) return parsed.data
  throw new AppError('BAD_REQUEST', 'the body does not name a model', { hint: SOURCE_HINT })
}

/** A part as text, whether it came as a file or as a field. */
async function textOf(upload: Upload, name: string, limits: ModelUploadLimits): Promise<string | undefined> {
  const file = upload.files.find(({ field }) => field === name)
  if (!file) return upload.fields.get(name)
  if (file.bytes > limits.maxConfigBytes)
    throw new AppError('TOO_LARGE', `the part ${name} has ${file.bytes} bytes; the limit is ${limits.maxConfigBytes}`)
  return readFile(file.path, 'utf8')
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (cause) {
    const where =
      cause instanceof Error ? /at position \d+( \(line \d+ column \d+\))?/.exec(cause.message)?.[0] : undefined
    throw new AppError('BAD_MODEL_CONFIG', `${what} is not JSON${where === undefined ? '' : `: it breaks ${where}`}`, {
      cause,
    })
  }
}
