/** The image formats Aidant speaks, and the limits every reader keeps. Types only: the doors are read-volume and write-volume. */
import type { Volume } from '../volume/volume.js'

export type FormatName = 'nifti' | 'nrrd' | 'png' | 'jpeg' | 'dicom'

export interface ReadLimits {
  /** Bytes of one unpacked image: checked against the header before allocating, and while inflating. */
  readonly maxVolumeBytes: number
  /** Voxels of one image, channels included. */
  readonly maxVoxels: number
}

export interface ReadResult {
  readonly volume: Volume
  readonly format: FormatName
  /** The extension a result in the same format gets, as the client would expect it back: '.nii.gz', '.nii', '.nrrd', '.png', '.jpg'. */
  readonly extension: ResultExtension
  /** What the reader did that a user should know ("gantry tilt kept as a sheared affine"). */
  readonly notes: readonly string[]
  /** The files it was read from, where those are not the ones that were given: what came out of a zip. */
  readonly files?: readonly string[] | undefined
}

export const RESULT_EXTENSIONS = ['.nii.gz', '.nii', '.nrrd', '.png', '.jpg'] as const
export type ResultExtension = (typeof RESULT_EXTENSIONS)[number]

/** numpy's names, which `result_dtype` and writers use. */
export type DtypeName = 'uint8' | 'int8' | 'uint16' | 'int16' | 'uint32' | 'int32' | 'float32' | 'float64'
