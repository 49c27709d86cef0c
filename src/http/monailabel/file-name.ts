/** What the file of an image or a label is called in a download. */

/** A name that every file system takes; the suffix is not said twice. */
export function fileName(id: string, extension: string): string {
  const stem = id.toLowerCase().endsWith(extension) ? id.slice(0, -extension.length) : id
  return stem.replace(/[^A-Za-z0-9_-]+/g, '_').slice(0, 100) || 'image'
}

/** `.nii.gz` of `source.nii.gz`. */
export function suffixOf(file: string): string {
  return file.slice(file.indexOf('.'))
}
