/** The image formats Aidant speaks, and the limits every reader keeps. The doors are read-volume and write-volume. */
import type { ResultExtension } from '../contract/files.js'
import type { Volume } from '../volume/volume.js'
import type { DicomSeries } from './dicom-series.js'

export { type DtypeName, RESULT_EXTENSIONS, type ReadLimits, type ResultExtension } from '../contract/files.js'

export type FormatName = 'nifti' | 'nrrd' | 'metaimage' | 'png' | 'jpeg' | 'tiff' | 'bmp' | 'dicom'

export interface ReadResult {
  readonly volume: Volume
  readonly format: FormatName
  /** The extension a result in the same format gets, as the client would expect it back: '.nii.gz', '.nii', '.nrrd', '.png', '.jpg'. */
  readonly extension: ResultExtension
  /**
   * The channels are colours: so many samples a pixel (red, green, blue, and alpha), the fastest of the channels. Absent:
   * every channel is an image of its own, such as a time point or a modality.
   */
  readonly colours?: 3 | 4 | undefined
  /** What the reader did that a user should know ("gantry tilt kept as a sheared affine"). */
  readonly notes: readonly string[]
  /** The files it was read from, where those are not the ones that were given: what came out of a zip. */
  readonly files?: readonly string[] | undefined
  /** The slices of a DICOM series and where they lie, in the order of the grid: what a DICOM SEG is made for. */
  readonly dicom?: DicomSeries | undefined
  /** What is wrong with the gaps between the slices, where they differ: work on single slices alone makes sense then. */
  readonly uneven?: string | undefined
}
