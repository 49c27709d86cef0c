/**
 * Weights on disk: `<sha256>.onnx`, or a folder `<sha256>.d` for a model with external data. They arrive under a name
 * of their own (`<uuid>.part`), are synced, and get their final name in one rename; a file with a final name is never
 * written again.
 */
import { createHash, randomUUID } from 'node:crypto'
import { copyFile, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '../errors.js'
import { syncFolder } from '../util/atomic-write.js'
import { hashFile } from '../util/hash-file.js'
import { isMissing, type Weights } from './manifest.js'
import { outlineOnnx } from './onnx-external-data.js'

/** What a model with external data is called in its folder. */
const ONNX_NAME = 'model.onnx'

/** A file of an ONNX model: where it lies now, and the name by which the model asks for it. */
export interface ModelFile {
  readonly name: string
  readonly path: string
}

/**
 * Brings an ONNX file, with those of `beside` that it asks for, into `folder` under its hash. `take` says whether the
 * files are ours to move. Throws BAD_MODEL for anything that is not ONNX or is not complete.
 */
export async function storeWeights(
  folder: string,
  onnx: string,
  beside: readonly ModelFile[],
  take: boolean,
): Promise<{ weights: Weights; isNew: boolean }> {
  const { externalFiles } = await outlineOnnx(onnx)
  const clash = externalFiles.find(
    (name) => name === ONNX_NAME || externalFiles.some((one) => one.startsWith(`${name}/`)),
  )
  if (clash !== undefined)
    throw new AppError(
      'BAD_MODEL',
      `the ONNX model uses '${clash.slice(0, 200)}' both as a file of data and as something else`,
    )
  const parts = externalFiles.map((name) => {
    const found = beside.find((file) => file.name === name)
    if (!found)
      throw new AppError(
        'BAD_MODEL',
        `the ONNX model keeps data in '${name.slice(0, 200)}', which was not sent with it`,
        {
          hint: 'send a zip that holds the .onnx file and its external data side by side',
        },
      )
    return found
  })
  return parts.length === 0 ? storeFile(folder, onnx, take) : storeFolder(folder, onnx, parts, take)
}

async function storeFile(folder: string, onnx: string, take: boolean): Promise<{ weights: Weights; isNew: boolean }> {
  const part = join(folder, `${randomUUID()}.part`)
  await bring(onnx, part, take)
  const { sha256, bytes } = await hashAndSync(part)
  const file = `${sha256}.onnx`
  const isNew = await place(part, join(folder, file))
  return { weights: { file, sha256, bytes }, isNew }
}

async function storeFolder(
  folder: string,
  onnx: string,
  parts: readonly ModelFile[],
  take: boolean,
): Promise<{ weights: Weights; isNew: boolean }> {
  const part = join(folder, `${randomUUID()}.part`)
  const hash = createHash('sha256')
  let bytes = 0
  for (const { name, path } of [{ name: ONNX_NAME, path: onnx }, ...parts]) {
    const target = join(part, name)
    await mkdir(dirname(target), { recursive: true })
    await bring(path, target, take)
    const one = await hashAndSync(target)
    hash.update(`${one.sha256} ${name}\n`)
    bytes += one.bytes
    await syncFolder(dirname(target))
  }
  const sha256 = hash.digest('hex')
  const isNew = await place(part, join(folder, `${sha256}.d`))
  return { weights: { file: `${sha256}.d/${ONNX_NAME}`, sha256, bytes }, isNew }
}

/** Moves where it may and can, else copies. */
async function bring(from: string, to: string, take: boolean): Promise<void> {
  if (take) {
    try {
      await rename(from, to)
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    }
  }
  await copyFile(from, to)
}

async function hashAndSync(path: string): Promise<{ sha256: string; bytes: number }> {
  const hashed = await hashFile(path)
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
  return hashed
}

/** Gives the arrived weights their final name. False when they were there already, the same to the bit. */
async function place(part: string, target: string): Promise<boolean> {
  if (await exists(target)) {
    await rm(part, { recursive: true, force: true })
    return false
  }
  await rename(part, target)
  await syncFolder(dirname(target))
  return true
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}
