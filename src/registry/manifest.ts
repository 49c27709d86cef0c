/** The file that makes a model exist: models/<name>/manifest.json, replaced whole or not at all. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { RewriteChoice } from '../contract/model.js'
import type { TensorSpec } from '../contract/tensor.js'
import { writeFileAtomic } from '../util/atomic-write.js'

export const MANIFEST_FILE = 'manifest.json'

const Weights = z.object({
  /** `<sha256>.onnx`, or `<sha256>.d/model.onnx` beside its external data. */
  file: z.string().regex(/^[0-9a-f]{64}(\.onnx|\.d\/model\.onnx)$/),
  sha256: z.string(),
  bytes: z.number(),
})
export type Weights = z.infer<typeof Weights>

const Tensors = z.object({ inputs: z.array(z.custom<TensorSpec>()), outputs: z.array(z.custom<TensorSpec>()) })

const Published = z.object({
  generation: z.number().int().positive(),
  revision: z.string(),
  createdAt: z.string(),
  /** As uploaded; parsed on every read, so that a newer server reads it with newer eyes. */
  config: z.unknown(),
  weights: Weights.optional(),
  /** Of the config's `inference.networks`, those after the first, in its order. */
  more: z.array(Weights).optional(),
  tensors: Tensors.optional(),
  rewrites: RewriteChoice.optional(),
})
export type Published = z.infer<typeof Published>

const Live = Published.extend({
  format: z.literal(1),
  name: z.string(),
  deleted: z.literal(false),
  /** The publish before, kept for a roll-back and for servers that have not yet heard. */
  previous: Published.optional(),
})
/** A bundled name that was deleted: without the mark, the bundled model would show again. */
const Tombstone = z.object({
  format: z.literal(1),
  name: z.string(),
  deleted: z.literal(true),
  generation: z.number().int().positive(),
})
const Manifest = z.discriminatedUnion('deleted', [Live, Tombstone])
export type Manifest = z.infer<typeof Manifest>
export type LiveManifest = z.infer<typeof Live>

/** All weights that a publish names. */
export function allWeights({ weights, more = [] }: Pick<Published, 'weights' | 'more'>): Weights[] {
  return weights ? [weights, ...more] : more
}

/** Undefined when there is none; throws when it is there but cannot be read. */
export async function readManifest(path: string): Promise<Manifest | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  return Manifest.parse(JSON.parse(text))
}

export async function writeManifest(path: string, manifest: Manifest): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(manifest, undefined, 2)}\n`)
}

/** Changes with the weights and with anything in the config but the order of its keys. */
export function revisionOf(config: unknown, weightsSha256: string | undefined): string {
  return createHash('sha256')
    .update(`${weightsSha256 ?? '-'}\n${canonical(config)}`)
    .digest('hex')
    .slice(0, 32)
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(',')}}`
}

/** Whether a manifest was read but is not one, as opposed to a disk that could not be read just now. */
export function isUnreadable(error: unknown): boolean {
  return error instanceof SyntaxError || error instanceof z.ZodError
}

export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'ENOENT' || code === 'ENOTDIR'
}
