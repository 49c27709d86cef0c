/** The image on the screen: a session's volume, where it came from and how it lies. */
import type { ImageFacts, SessionInfo } from './api.js'
import type { Vec3 } from './geometry.js'
import { type NiftiImage, readNifti } from './nifti.js'

export interface Scan {
  readonly session: string
  /** The file's own name, for the names of what is saved; it never leaves the page. */
  readonly name: string
  readonly facts: ImageFacts
  readonly size: Vec3
  readonly spacing: Vec3
  readonly affine: Float64Array
  /** The header of the volume, restated around what is saved. */
  readonly header: Uint8Array
  /** A PNG or JPEG, or one more that lies nowhere in a patient: shown as a picture, rows downwards. */
  readonly isPicture: boolean
}

const PICTURES = new Set(['png', 'jpeg', 'tiff', 'bmp'])

export function scanOf(info: SessionInfo, name: string, volume: ArrayBuffer): { scan: Scan; image: NiftiImage } {
  const image = readNifti(volume)
  const { size, affine, header } = image
  const scan: Scan = {
    session: info.session_id,
    name,
    facts: info.image,
    size,
    spacing: info.image.spacing,
    affine,
    header,
    isPicture: PICTURES.has(info.image.format),
  }
  return { scan, image }
}

/** 'liver.nii.gz' → 'liver'. */
export function stemOf(name: string): string {
  return name.replace(/\.(nii|nii\.gz|nrrd|nhdr|mha|mhd|zip|dcm|png|jpe?g|tiff?|bmp|gz)$/i, '') || 'scan'
}
