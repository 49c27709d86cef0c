/** What a file is, by its first bytes. */
import { AppError } from '../errors.js'
import { looksLikeDicom } from './dicom-header.js'
import type { FormatName } from './format.js'
import { isMeta } from './meta-header.js'
import { HEADER_BYTES, niftiKind } from './nifti-header.js'
import { isNrrd } from './nrrd-header.js'
import { pictureKind } from './picture.js'

/** `head`: up to 540 bytes, unpacked where the file is gzip. */
export function detect(head: Uint8Array): FormatName | undefined {
  if (isNrrd(head)) return 'nrrd'
  if (isMeta(head)) return 'metaimage'
  const picture = pictureKind(head)
  // A DICOM file may begin as a TIFF of the same pixels, which says less.
  if (picture && !(picture === 'tiff' && looksLikeDicom(head))) return picture
  if (niftiKind(head)) return 'nifti'
  return looksLikeDicom(head) ? 'dicom' : undefined
}

const KNOWN = 'Send NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha), PNG, JPEG, TIFF, BMP or DICOM.'

/** Says as much as can be said about a file that is none of ours. */
export function unknownFormat(head: Uint8Array): AppError {
  if (head.length === 0) return new AppError('UNREADABLE_IMAGE', 'the image file is empty')
  // Known as DICOM and yet not read as such: it came inside gzip.
  if (looksLikeDicom(head))
    return new AppError('UNSUPPORTED_FORMAT', 'the file is DICOM packed with gzip', {
      hint: 'Send the DICOM files themselves, or a zip of them.',
    })
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
  if (head.length >= 4) {
    const start = [view.getInt32(0, true), view.getInt32(0, false)]
    if (start.includes(HEADER_BYTES[1])) {
      if (head.length < HEADER_BYTES[1]) {
        return new AppError(
          'UNREADABLE_IMAGE',
          `the image is cut short: a header of 348 bytes expected, ${head.length} are in it`,
        )
      }
      return new AppError(
        'UNSUPPORTED_FORMAT',
        'the file is ANALYZE 7.5, or a NIfTI without its magic word; left and right cannot be told',
        {
          hint: 'Convert it to NIfTI with a tool that knows where it comes from.',
        },
      )
    }
    if (start[1] === 1) {
      return new AppError('UNSUPPORTED_FORMAT', 'the file may be FreeSurfer MGH, which is not read', {
        hint: 'Convert it: mri_convert in.mgz out.nii.gz',
      })
    }
  }
  const text = Buffer.from(head).toString('latin1').trimStart().slice(0, 9).toLowerCase()
  if (text.startsWith('<!doctype') || text.startsWith('<html'))
    return new AppError('UNSUPPORTED_FORMAT', 'the file is a web page, not an image', { hint: KNOWN })
  return new AppError('UNSUPPORTED_FORMAT', 'the file is not an image of a known type', { hint: KNOWN })
}
