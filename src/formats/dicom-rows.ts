/**
 * The two orders of a DICOM image's rows. NIfTI files of DICOM series have rows upwards, as dcm2niix writes them; so do our
 * volumes. NRRD files have them downwards, as ITK reads DICOM. A viewer that shows the DICOM files themselves and wants
 * NRRD back (OHIF) counts its clicks, and reads the result's voxels, in the latter order.
 */
import { makeVolume, type Volume } from '../volume/volume.js'

/** The same image with its rows the other way round, affine and all. A new volume. */
export function turnRows({ size, channels, data, affine }: Volume): Volume {
  const [columns, rows] = size
  const turned = data.slice()
  const slices = data.length / (columns * rows)
  for (let s = 0; s < slices; s++) {
    const start = s * rows * columns
    for (let r = 0; r < rows; r++) {
      const from = start + r * columns
      turned.set(data.subarray(from, from + columns), start + (rows - 1 - r) * columns)
    }
  }
  const moved = Float64Array.from(affine)
  for (let axis = 0; axis < 3; axis++) {
    const step = affine[4 * axis + 1]!
    moved[4 * axis + 1] = -step + 0
    moved[4 * axis + 3] = affine[4 * axis + 3]! + step * (rows - 1)
  }
  return makeVolume(size, moved, turned, { channels })
}
