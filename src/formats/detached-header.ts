/** Headers without voxels, told by their first bytes: what the server asks of files that were sent together. */
import { isMeta } from './meta-header.js'
import { niftiKind } from './nifti-header.js'
import { isNrrd } from './nrrd-header.js'

/** As much of a file as tells `detachedKind`: NRRD headers with DICOM tags in them run to some ten kilobytes. */
export const DETACHED_HEAD_BYTES = 64 * 1024

/** Which format of header a file is whose voxels are in other files: .hdr, .nhdr, .mhd; undefined for everything else. */
export function detachedKind(head: Uint8Array): 'nifti' | 'nrrd' | 'metaimage' | undefined {
  const text = () => Buffer.from(head.buffer, head.byteOffset, head.byteLength).toString('latin1')
  if (isNrrd(head)) return /^data ?file:/im.test(text().split(/\r?\n\r?\n/, 1)[0]!) ? 'nrrd' : undefined
  if (!isMeta(head)) return niftiKind(head)?.detached ? 'nifti' : undefined
  const where = /^[ \t]*ElementDataFile[ \t]*=[ \t]*(\S*)/m.exec(text())?.[1]
  return where !== undefined && where.toUpperCase() !== 'LOCAL' ? 'metaimage' : undefined
}
