/** The image on the screen: a session's volume, where it came from and how it lies. */
import type { ImageFacts, SessionInfo } from './api.js'
import type { Vec3 } from './geometry.js'
import { readNifti, type Voxels } from './nifti.js'

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

/** The voxels: x fastest; colours are planes of their own, time points come after each other. */
export interface ScanImage {
  readonly data: Voxels
  /** Three, or four with transparency; undefined for grey. */
  readonly colours: 3 | 4 | undefined
  /** Time points, echoes: images on one grid. */
  readonly frames: number
}

const PICTURES = new Set(['png', 'jpeg', 'tiff', 'bmp'])

export function scanOf(info: SessionInfo, name: string, volume: ArrayBuffer): { scan: Scan; image: ScanImage } {
  const { size, affine, header, data, channels } = readNifti(volume)
  const { colours } = info.image
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
  return { scan, image: { data, colours, frames: channels / (colours ?? 1) } }
}

/** 'liver.nii.gz' → 'liver'. */
export function stemOf(name: string): string {
  return name.replace(/\.(nii|nii\.gz|nrrd|nhdr|mha|mhd|zip|dcm|png|jpe?g|tiff?|bmp|gz)$/i, '') || 'scan'
}
