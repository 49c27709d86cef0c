/**
 * The two orders of a DICOM image's rows. NIfTI files of DICOM series have rows upwards, as dcm2niix writes them; so do our
 * volumes. NRRD files have them downwards, as ITK reads DICOM. A viewer that shows the DICOM files themselves and wants
 * NRRD back (OHIF) counts its clicks, and reads the result's voxels, in the latter order.
 */
import { makeVolume, type Volume } from '../volume/volume.js'

/** The same image with its rows the other way round, affine and all. The voxels are turned where they lie: the old volume is spent. */
export function turnRows({ size, channels, data, affine }: Volume): Volume {
  const [columns, rows] = size
  const slices = data.length / (columns * rows)
  for (let s = 0; s < slices; s++) {
    let top = s * rows * columns
    for (let bottom = top + (rows - 1) * columns; top < bottom; top += columns, bottom -= columns) {
      const row = data.slice(top, top + columns)
      data.copyWithin(top, bottom, bottom + columns)
      data.set(row, bottom)
    }
  }
  const moved = Float64Array.from(affine)
  for (let axis = 0; axis < 3; axis++) {
    const step = affine[4 * axis + 1]!
    moved[4 * axis + 1] = -step + 0
    moved[4 * axis + 3] = affine[4 * axis + 3]! + step * (rows - 1)
  }
  return makeVolume(size, moved, data, { channels })
}
