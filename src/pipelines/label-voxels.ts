/** A label map that a client drew -> the same on the grid of the image it was drawn on, as whole numbers. */
import { AppError } from '../errors.js'
import type { ReadLimits, ReadResult } from '../formats/format.js'
import { ontoGrid } from '../volume/onto-grid.js'
import { askRoom } from '../volume/room.js'
import { type Grid, makeVolume, type Volume, voxelCount } from '../volume/volume.js'

/** SegmentNumber has 16 bits. */
const MOST_LABEL = 65_535
/** How far from its number a label of a scaled file may lie. */
const LABEL_TOLERANCE = 1e-3

export interface LabelVoxels {
  readonly volume: Volume<Uint16Array>
  readonly notes: readonly string[]
}

/**
 * Whatever axes the file has: 3D Slicer saves with other ones than those it read. A picture says nothing of where it lies
 * and is taken as it is. Throws BAD_PARAMS for a file that is no label map, BAD_GEOMETRY for one that lies elsewhere, TOO_LARGE.
 */
export function labelVoxels({ volume, format, extension }: ReadResult, grid: Grid, limits: ReadLimits): LabelVoxels {
  if (volume.channels !== 1)
    throw new AppError('BAD_PARAMS', `the label map has ${volume.channels} channels or time points; it needs one`)
  const wanted = Uint16Array.BYTES_PER_ELEMENT * (volume.data.length + voxelCount(grid))
  askRoom(wanted, volume.data.byteLength, limits.maxVolumeBytes, 'placing the label map on its image')
  const labels = makeVolume(volume.size, volume.affine, wholeNumbers(volume))
  const sameSize = grid.size.every((n, axis) => n === volume.size[axis])
  const placeless = extension === '.png' || format === 'png' || format === 'jpeg' || format === 'bmp'
  if (placeless && sameSize) return { volume: makeVolume(grid.size, grid.affine, labels.data), notes: [] }
  const words = (size: readonly number[]) => size.join(' x ')
  if (placeless)
    throw new AppError(
      'BAD_GEOMETRY',
      `the label map has ${words(volume.size)} voxels and its image ${words(grid.size)}`,
    )
  const moved = ontoGrid(labels, grid)
  if (labels.data.some(Boolean) && !moved.volume.data.some(Boolean))
    throw new AppError('BAD_GEOMETRY', 'the label map lies elsewhere than its image: no labelled voxel is within it')
  const notes: string[] = []
  if (!moved.exact)
    notes.push("the label map lies on another grid than its image: the image's voxels got the nearest label")
  if (moved.lost > 0) notes.push(`${moved.lost} labelled voxel(s) lie outside of the image and were left out`)
  return { volume: moved.volume, notes }
}

function wholeNumbers({ data }: Volume): Uint16Array<ArrayBuffer> {
  const whole = new Uint16Array(data.length)
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!
    const near = Math.round(value)
    if (near < 0 || near > MOST_LABEL || Math.abs(value - near) > LABEL_TOLERANCE)
      throw new AppError('BAD_PARAMS', `the label map holds ${value}; labels are whole numbers from 0 to ${MOST_LABEL}`)
    whole[i] = near
  }
  return whole
}
