/** What was uploaded or fetched -> the files of one image: a zip becomes the DICOM series, or the one image, inside it. */
import { mkdtemp, open } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../errors.js'
import { looksLikeZip, type UnzippedFile, unzipTo } from '../util/unzip.js'
import { looksLikeDicom } from './dicom-header.js'
import type { ReadLimits } from './format.js'

/** A zip of one series holds a file per slice; whole studies come to a few thousand. */
const MAX_ZIP_ENTRIES = 20_000
/** As much of a file as tells a zip. */
const ZIP_HEAD_BYTES = 4

export interface ExpandedUpload {
  /** The files to give to `readVolume`: the ones that came in, unless that was one zip. */
  readonly paths: readonly string[]
  readonly notes: readonly string[]
}

/**
 * Unpacks a single zip into a new folder under `folder` and picks the image's files: all DICOM files, or else the one file
 * (or .hdr/.img pair) it holds. Anything that is not a zip passes. Throws TOO_LARGE, UNREADABLE_IMAGE for a bad archive,
 * UNSUPPORTED_FORMAT when nobody could tell which file is meant.
 */
export async function expandUpload(
  paths: readonly string[],
  folder: string,
  limits: ReadLimits,
  signal?: AbortSignal,
): Promise<ExpandedUpload> {
  const [only] = paths
  if (only === undefined || paths.length > 1 || !looksLikeZip(await headOf(only))) return { paths, notes: [] }
  const target = await mkdtemp(join(folder, 'zip-'))
  const caps = { maxEntries: MAX_ZIP_ENTRIES, maxBytes: limits.maxVolumeBytes }
  const files = (await unzipTo(only, target, caps, signal)).filter((file) => file.bytes > 0 && !isClutter(file))
  const dicom: string[] = []
  const others: string[] = []
  for (const { path, head } of files) {
    if (looksLikeDicom(head)) dicom.push(path)
    else if (looksLikeZip(head))
      throw new AppError('UNSUPPORTED_FORMAT', 'the zip holds another zip, which is not unpacked', {
        hint: 'Zip the files themselves.',
      })
    else others.push(path)
  }
  if (dicom.length > 0) {
    const notes = others.length > 0 ? [`${others.length} file(s) in the zip are not DICOM and were left out`] : []
    return { paths: dicom, notes }
  }
  if (others.length === 1 || others.length === 2) return { paths: others, notes: [] }
  const what = others.length === 0 ? 'is empty' : `holds ${others.length} files and none is DICOM`
  throw new AppError('UNSUPPORTED_FORMAT', `the zip ${what}`, {
    hint: 'Send a zip of one DICOM series, or of one image.',
  })
}

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
