/** What the file of an image or a label is called in a download. */
import type { ImageVersion } from '../../datastore/datastore.js'

/** A name that every file system takes; the suffix is not said twice. */
export function fileName(id: string, extension: string): string {
  const stem = id.toLowerCase().endsWith(extension) ? id.slice(0, -extension.length) : id
  return stem.replace(/[^A-Za-z0-9_-]+/g, '_').slice(0, 100) || 'image'
}

/** `.nii.gz` of `source.nii.gz`. */
export function suffixOf(file: string): string {
  return file.slice(file.indexOf('.'))
}

/**
 * Of the file that GET /datastore/image gives: a DICOM series as NRRD, whose rows are those of its files, because clients ask
 * for results as NRRD and count clicks on what they downloaded (see formats/dicom-rows.ts).
 */
export function imageSuffix({ source, image }: Pick<ImageVersion, 'source' | 'image'>): string {
  return isSeries(image) ? SERIES_SUFFIX : suffixOf(source.file)
}

export const SERIES_SUFFIX = '.nrrd'

/** By the facts of an image. */
export function isSeries(image: ImageVersion['image']): boolean {
  return image.format === 'dicom'
}
