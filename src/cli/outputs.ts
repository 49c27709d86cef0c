/** Where results go: one file for one scan, or a folder that keeps the structure of what was given. */
import { createWriteStream } from 'node:fs'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { UsageError } from './exit-codes.js'
import type { ScanInput } from './inputs.js'

/** What a server writes; `.dcm` is asked for as a DICOM SEG. Longest first. */
const EXTENSIONS = ['.seg.nrrd', '.nii.gz', '.nii', '.nrrd', '.mha', '.png', '.dcm', '.json'] as const
type Extension = (typeof EXTENSIONS)[number]

export interface OutputPlan {
  /** Undefined: the server chooses by the input. */
  readonly extension: Extension | undefined
  /** The path of a result, without a suffix where the server chooses it. */
  readonly pathOf: (input: ScanInput) => string
  /** The path is whole: no suffix is added. */
  readonly whole: boolean
}

/**
 * `out` names a file when one scan was given and `out` ends like a file or is none of the folders that exist; else a folder.
 * Throws UsageError when it cannot be, or when a result would replace its own input.
 */
export async function planOutput(
  out: string,
  inputs: readonly ScanInput[],
  format: string | undefined,
): Promise<OutputPlan> {
  const wanted = format === undefined ? undefined : known(format)
  if (format !== undefined && !wanted) throw new UsageError(`--format '${format}' is none of ${EXTENSIONS.join(', ')}`)
  const named = EXTENSIONS.find((extension) => out.toLowerCase().endsWith(extension))
  const isFolder = (await stat(out).catch(() => undefined))?.isDirectory() ?? false
  if (named && !isFolder) {
    if (inputs.length > 1)
      throw new UsageError(`-o '${out}' is one file, and there are ${inputs.length} scans`, 'name a folder')
    if (wanted && wanted !== named) throw new UsageError(`-o '${out}' and --format '${format}' differ`)
    return checked({ extension: named, pathOf: () => out, whole: true }, inputs)
  }
  return checked({ extension: wanted, pathOf: ({ name }) => join(out, name), whole: false }, inputs)
}

function known(format: string): Extension | undefined {
  const word = format
    .toLowerCase()
    .replace(/^\.?/, '.')
    .replace(/^\.dicom_?seg$/, '.dcm')
  return EXTENSIONS.find((extension) => extension === word)
}

function checked(plan: OutputPlan, inputs: readonly ScanInput[]): OutputPlan {
  for (const input of inputs) {
    const target = resolve(plan.pathOf(input))
    const own = input.files.find((file) => {
      const source = resolve(file)
      return plan.whole ? source === target : EXTENSIONS.some((extension) => source === target + extension)
    })
    if (own) throw new UsageError(`the result for '${own}' would replace it`, 'name another folder with -o')
  }
  return plan
}

/** Writes a result under its final name only when it is whole. */
export async function writeResult(path: string, content: Readable | string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const part = `${path}.part`
  try {
    if (content instanceof Readable) await pipeline(content, createWriteStream(part))
    else await writeFile(part, content)
    await rename(part, path)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}
