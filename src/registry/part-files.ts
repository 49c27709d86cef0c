/** Which of an archive's ONNX files is the encoder of a model of two parts, and which its decoder. */
import { posix } from 'node:path'
import { AppError } from '../errors.js'
import type { UnzippedFile } from '../util/unzip.js'
import { type OnnxFiles, onnxFiles } from './onnx-files.js'
import { readOnnxHeader } from './onnx-header.js'

/** What `inference.parts` says of files, before the config is checked as a whole. */
interface NamedParts {
  readonly encoder?: unknown
  readonly decoder?: unknown
}

/** `inference.parts` of a config as it was sent, where it is there. */
export function partsIn(config: unknown): NamedParts | undefined {
  const parts = (config as { inference?: { parts?: unknown } | null } | null | undefined)?.inference?.parts
  return typeof parts === 'object' && parts !== null ? parts : undefined
}

/**
 * Encoder and decoder, in this order: those that `parts` names, else the files whose names say so, else told by their
 * tensors, since a decoder reads what an encoder gives. Throws BAD_MODEL when there are not just two to choose from.
 */
export async function pickParts(parts: NamedParts, files: readonly UnzippedFile[]): Promise<OnnxFiles[]> {
  const candidates = files.filter(
    ({ entryName }) => /\.onnx$/i.test(entryName) && !posix.basename(entryName).startsWith('._'),
  )
  const named = (role: 'encoder' | 'decoder') => {
    const name = parts[role]
    if (name === undefined) return undefined
    const found = candidates.filter(({ entryName }) => entryName === name || posix.basename(entryName) === name)
    if (found.length === 1) return found[0]
    throw new AppError(
      'BAD_MODEL',
      `the archive holds no '${String(name).slice(0, 200)}', which inference.parts.${role} names`,
      { hint: `its networks: ${candidates.map(({ entryName }) => entryName).join(', ') || 'none'}` },
    )
  }
  let encoder = named('encoder')
  let decoder = named('decoder')
  const free = candidates.filter((file) => file !== encoder && file !== decoder)
  const called = (word: RegExp) => {
    const found = free.filter(({ entryName }) => word.test(posix.basename(entryName)))
    return found.length === 1 ? found[0] : undefined
  }
  encoder ??= called(/enc/i) ?? (decoder && free.length === 1 ? free[0] : undefined)
  decoder ??= called(/dec/i) ?? (encoder && free.length === 1 && free[0] !== encoder ? free[0] : undefined)
  const left = free.filter((file) => file !== encoder && file !== decoder)
  if (encoder && !decoder && left.length === 1) decoder = left[0]
  if (decoder && !encoder && left.length === 1) encoder = left[0]
  if (!encoder && !decoder && free.length === 2) [encoder, decoder] = await byTensors(free[0]!, free[1]!)
  if (!encoder || !decoder || encoder === decoder)
    throw new AppError(
      'BAD_MODEL',
      `a model of two parts is an encoder and a decoder; the archive holds ${candidates.length} ONNX ${candidates.length === 1 ? 'model' : 'models'}`,
      { hint: 'zip both, and name them in inference.parts: {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}' },
    )
  return [onnxFiles(encoder, files), onnxFiles(decoder, files)]
}

async function byTensors(a: UnzippedFile, b: UnzippedFile): Promise<[UnzippedFile, UnzippedFile]> {
  const [first, second] = [await readOnnxHeader(a.path), await readOnnxHeader(b.path)]
  const reads = (by: typeof first, from: typeof first) =>
    by.inputs.some(({ name }) => from.outputs.some((output) => output.name === name))
  if (reads(first, second) !== reads(second, first)) return reads(second, first) ? [a, b] : [b, a]
  return first.inputs.length <= second.inputs.length ? [a, b] : [b, a]
}
