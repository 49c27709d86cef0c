/** `index.json` of one image: its id, its versions and those of its labels, oldest first; replaced in one step. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { RESULT_EXTENSIONS } from '../formats/format.js'
import { writeFileAtomic } from '../util/atomic-write.js'
import type { ImageVersion, LabelVersion } from './datastore.js'
import { VERSION } from './names.js'

export const INDEX = 'index.json'

const version = {
  id: z.string().regex(VERSION),
  createdAt: z.number(),
  bytes: z.number().nonnegative(),
}
const File = z.string().regex(/^[\w.-]+$/)
const free = z.record(z.string(), z.unknown())

const Image: z.ZodType<ImageVersion> = z.object({
  ...version,
  sha256: z.string(),
  extension: z.enum(RESULT_EXTENSIONS),
  source: z.object({ file: File, contentType: z.string(), sha256: z.string() }),
  image: free,
})
const Label: z.ZodType<LabelVersion> = z.object({ ...version, file: File, contentType: z.string(), info: free })

const Index = z.object({
  id: z.string(),
  images: z.array(Image).min(1),
  labels: z.array(z.object({ tag: z.string(), versions: z.array(Label).min(1) })),
})
export type Index = z.infer<typeof Index>

/** Rejects with the disk's errors, SyntaxError or ZodError. */
export async function readIndex(folder: string): Promise<Index> {
  return Index.parse(JSON.parse(await readFile(join(folder, INDEX), 'utf8')))
}

export async function writeIndex(folder: string, index: Index): Promise<void> {
  await writeFileAtomic(join(folder, INDEX), JSON.stringify(index))
}
