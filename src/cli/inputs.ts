/**
 * Which scans the words of a command line name. A file is a scan; a folder is searched: the DICOM files that lie together
 * in one folder are one scan, every other image file is one of its own.
 */
import { open, readdir, stat } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { UsageError } from './exit-codes.js'

export interface ScanInput {
  /** As a person would name it: the path of the file or of the series' folder. */
  readonly path: string
  /** What is sent: one file, the two of a pair, or the slices of a series. */
  readonly files: readonly string[]
  /** Where its result goes below the output folder, without a suffix; forward or backward slashes as the system has them. */
  readonly name: string
}

/** Longest first, so that `.seg.nrrd` and `.nii.gz` go as a whole. */
const SUFFIXES = [
  '.seg.nrrd',
  '.nii.gz',
  '.img.gz',
  '.hdr.gz',
  '.nii',
  '.nrrd',
  '.nhdr',
  '.mha',
  '.mhd',
  '.hdr',
  '.png',
  '.jpeg',
  '.jpg',
  '.tiff',
  '.tif',
  '.bmp',
  '.zip',
  '.dcm',
]
/** A header that cannot be read without the file beside it. */
const PAIRS: Readonly<Record<string, readonly string[]>> = {
  '.hdr': ['.img', '.img.gz'],
  '.hdr.gz': ['.img.gz', '.img'],
  '.mhd': ['.raw', '.zraw', '.raw.gz'],
  '.nhdr': ['.raw', '.raw.gz'],
}

/** Throws UsageError for a path that is not there and for one under which no image lies. */
export async function findInputs(paths: readonly string[]): Promise<ScanInput[]> {
  const found: ScanInput[] = []
  for (const path of paths) {
    const about = await stat(path).catch(() => undefined)
    if (!about) throw new UsageError(`there is no file or folder '${path}'`)
    const inputs = about.isDirectory() ? await searchFolder(path, path) : [await oneFile(path, basename(path))]
    if (inputs.length === 0) throw new UsageError(`no image lies in '${path}'`)
    found.push(...inputs)
  }
  const twice = found.find(({ name }, i) => found.findIndex((other) => other.name === name) !== i)
  if (twice)
    throw new UsageError(
      `two inputs would give one result, '${twice.name}'`,
      'give the folder that holds both, so that their results keep its structure',
    )
  return found
}

async function searchFolder(root: string, folder: string): Promise<ScanInput[]> {
  const entries = (await readdir(folder, { withFileTypes: true })).filter(({ name }) => !name.startsWith('.'))
  entries.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
  const found: ScanInput[] = []
  const slices: string[] = []
  for (const entry of entries) {
    const path = join(folder, entry.name)
    const suffix = suffixOf(entry.name)
    if (entry.isDirectory()) found.push(...(await searchFolder(root, path)))
    else if (!entry.isFile()) continue
    else if (await isDicom(path)) slices.push(path)
    else if (suffix !== undefined && suffix !== '.dcm') found.push(await oneFile(path, relative(root, path)))
  }
  if (slices.length > 0) found.push({ path: folder, files: slices, name: relative(root, folder) || basename(folder) })
  return found
}

async function oneFile(path: string, name: string): Promise<ScanInput> {
  const suffix = suffixOf(name)
  const stem = suffix === undefined ? path : path.slice(0, -suffix.length)
  const beside = suffix === undefined ? [] : (PAIRS[suffix] ?? [])
  for (const other of beside) {
    const partner = stem + other
    if (await stat(partner).catch(() => undefined)) return { path, files: [path, partner], name: withoutSuffix(name) }
  }
  return { path, files: [path], name: withoutSuffix(name) }
}

function suffixOf(name: string): string | undefined {
  const lower = name.toLowerCase()
  return SUFFIXES.find((suffix) => lower.endsWith(suffix) && lower.length > suffix.length)
}

export function withoutSuffix(name: string): string {
  return name.slice(0, name.length - (suffixOf(name)?.length ?? 0))
}

const MAGIC_AT = 128

async function isDicom(path: string): Promise<boolean> {
  if (path.toLowerCase().endsWith('.dcm')) return true
  const file = await open(path, 'r')
  try {
    const magic = Buffer.alloc(4)
    await file.read(magic, 0, 4, MAGIC_AT)
    return magic.toString('latin1') === 'DICM'
  } finally {
    await file.close()
  }
}
