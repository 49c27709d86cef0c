/** What was uploaded or fetched -> the files of one image: a zip becomes the DICOM series, or the one image, inside it. */
import { mkdtemp, open } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../errors.js'
import { forEachConcurrently } from '../util/concurrently.js'
import { looksLikeZip, type UnzippedFile, unzipTo } from '../util/unzip.js'
import { openBytes } from './byte-source.js'
import type { DataFiles } from './data-files.js'
import { DETACHED_HEAD_BYTES, detachedKind } from './detached-header.js'
import { detect } from './detect.js'
import { looksLikeDicom } from './dicom-header.js'
import type { ReadLimits } from './format.js'
import { decodeMetaHeader } from './meta-header.js'
import { decodeNrrdHeader } from './nrrd-header.js'

/** A zip of one series holds a file per slice; whole studies come to a few thousand. */
const MAX_ZIP_ENTRIES = 20_000
/** Files looked into at once: a zip may hold thousands, and a process may open about a thousand. */
const OPEN_FILES = 16
/** As much of a file as tells a zip. */
const ZIP_HEAD_BYTES = 4

export interface ExpandedUpload {
  /** The files to give to `readVolume`: the ones that came in, unless that was one zip. */
  readonly paths: readonly string[]
  readonly notes: readonly string[]
}

/** One of the images of a zip. */
export interface ZippedImage {
  readonly format: string
  /** The image, or a header and then its data, or all objects of a DICOM series. */
  readonly files: readonly string[]
  /** What the archive calls the image, '' for a series. */
  readonly name: string
}

export interface UnpackedUpload {
  readonly images: readonly ZippedImage[]
  readonly notes: readonly string[]
}

/**
 * Unpacks a single zip into a new folder under `folder` and picks the image's files: all DICOM files, or else the one
 * image it holds (a header with its data counts as one), whatever text lies beside it. Anything that is not a zip passes. Throws TOO_LARGE, UNREADABLE_IMAGE for a bad archive,
 * UNSUPPORTED_FORMAT when nobody could tell which file is meant.
 */
export async function expandUpload(
  paths: readonly string[],
  folder: string,
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<ExpandedUpload> {
  const [only] = paths
  const unpacked = only === undefined || paths.length > 1 ? undefined : await unpackUpload(only, folder, limits, signal)
  if (!unpacked) return { paths, notes: [] }
  const { images, notes } = unpacked
  if (images.length === 1) return { paths: images[0]!.files, notes }
  throw new AppError(
    'UNSUPPORTED_FORMAT',
    `the zip holds ${images.length} images (${images.map(({ format }) => format).join(', ')}), and only one can be taken`,
    { hint: 'Send a zip of one DICOM series, or of one image.' },
  )
}

/** The images of a zip, one or more, unpacked into a new folder under `folder`; undefined for anything that is not a zip. */
export async function unpackUpload(
  path: string,
  folder: string,
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<UnpackedUpload | undefined> {
  if (!looksLikeZip(await headOf(path))) return undefined
  const target = await mkdtemp(join(folder, 'zip-'))
  const caps = { maxEntries: MAX_ZIP_ENTRIES, maxBytes: limits.maxVolumeBytes }
  const files = (await unzipTo(path, target, caps, signal)).filter((file) => file.bytes > 0 && !isClutter(file))
  const dicom: string[] = []
  const others: UnzippedFile[] = []
  for (const file of files) {
    const { path: found, head } = file
    if (looksLikeDicom(head)) dicom.push(found)
    else if (looksLikeZip(head))
      throw new AppError('UNSUPPORTED_FORMAT', 'the zip holds another zip, which is not unpacked', {
        hint: 'Zip the files themselves.',
      })
    else others.push(file)
  }
  if (dicom.length > 0) {
    const notes = others.length > 0 ? [`${others.length} file(s) in the zip are not DICOM and were left out`] : []
    return { images: [{ format: 'dicom', files: dicom, name: '' }], notes }
  }
  const images = await imagesAmong(others)
  // Bare DICOM files were found above.
  if (images.some(({ format }) => format === 'dicom'))
    throw new AppError('UNSUPPORTED_FORMAT', 'the zip holds DICOM files that are packed with gzip once more', {
      hint: 'Zip the DICOM files themselves.',
    })
  const beside = others.length - images.flatMap(({ files }) => files).length
  const notes = beside > 0 ? [`${beside} file(s) in the zip are no images and were left out`] : []
  if (images.length > 0) return { images, notes }
  // Nobody knows what it is: the reader says so in its own words.
  const [lone] = others
  if (lone && others.length === 1)
    return { images: [{ format: 'unknown', files: [lone.path], name: lone.entryName }], notes: [] }
  const what = others.length === 0 ? 'is empty' : `holds ${others.length} files and none is DICOM or another image`
  throw new AppError('UNSUPPORTED_FORMAT', `the zip ${what}`, {
    hint: 'Send a zip of one DICOM series, or of one image.',
  })
}

/** The images among files that are no DICOM; a header takes the files that it names, or the one called as itself. */
async function imagesAmong(entries: readonly UnzippedFile[]): Promise<ZippedImage[]> {
  const images: ZippedImage[] = []
  const taken = new Set<string>()
  const told: ({ entry: UnzippedFile } & Awaited<ReturnType<typeof tell>>)[] = []
  await forEachConcurrently(entries, OPEN_FILES, async (entry, i) => {
    told[i] = { entry, ...(await tell(entry.path)) }
  })
  for (const { entry, format, data } of told) {
    if (format === undefined || data === undefined) continue
    const wanted = data === 'own name' ? [stemOf(entry)] : data.map((name) => baseOf(name))
    const called = (other: UnzippedFile) =>
      other !== entry && (data === 'own name' ? stemOf(other) : baseOf(other.entryName))
    const found = wanted.flatMap((name) => entries.find((other) => called(other) === name)?.path ?? [])
    images.push({ format, files: [entry.path, ...found], name: entry.entryName })
    for (const path of found) taken.add(path)
  }
  for (const { entry, format, data } of told)
    if (format !== undefined && data === undefined && !taken.has(entry.path))
      images.push({ format, files: [entry.path], name: entry.entryName })
  return images
}

/** What a file is, and, of a header without voxels, which files have them. */
async function tell(path: string): Promise<{ format?: string; data?: DataFiles | 'own name' | undefined }> {
  const source = await openBytes(path)
  try {
    const head = await source.peek(DETACHED_HEAD_BYTES)
    const format = detect(head)
    if (format === undefined) return {}
    const kind = detachedKind(head)
    if (kind === 'nifti') return { format, data: 'own name' }
    if (kind === 'nrrd') return { format, data: decodeNrrdHeader(head).dataFiles }
    return { format, data: kind === 'metaimage' ? decodeMetaHeader(head).dataFiles : undefined }
  } finally {
    await source.close()
  }
}

const baseOf = (name: string): string => name.split(/[\\/]/).at(-1)!.toLowerCase()
const stemOf = ({ entryName }: UnzippedFile): string => baseOf(entryName).replace(/\.(hdr|img)(\.gz)?$/, '')

/** What operating systems and archives' servers put beside the images. */
function isClutter({ entryName }: UnzippedFile): boolean {
  const parts = entryName.split('/')
  return parts.includes('__MACOSX') || parts.at(-1)!.startsWith('.') || parts.at(-1)! === 'Thumbs.db'
}

async function headOf(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r')
  try {
    const head = new Uint8Array(ZIP_HEAD_BYTES)
    const { bytesRead } = await file.read(head, 0, ZIP_HEAD_BYTES, 0)
    return head.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}
