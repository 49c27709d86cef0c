/** A label map on another grid's voxels: the same label map where it lies in other axes, the nearest voxels of it elsewhere. */
import { indexToIndex } from './affine.js'
import { resampleNearest } from './resample.js'
import { type Grid, type Volume, type VoxelArray, voxelCount } from './volume.js'

/** Of a voxel, over the whole grid: files keep affines as float32 and decimals. */
const TOLERANCE = 0.02

export interface OntoGrid<T extends VoxelArray> {
  readonly volume: Volume<T>
  /** False: a voxel of one grid is no voxel of the other, so that nearest ones were taken. */
  readonly exact: boolean
  /** Voxels that are not 0 and lie outside of the grid; counted where the move is exact. */
  readonly lost: number
}

/** Moves labels of one channel. Neither grid need hold the other. */
export function ontoGrid<T extends VoxelArray>(labels: Volume<T>, grid: Grid): OntoGrid<T> {
  const toSource = indexToIndex(grid, labels)
  const rounded = toSource.map(Math.round)
  const exact = toSource.every((value, i) => {
    const reach = i % 4 === 3 ? 1 : grid.size[i % 4]!
    return Math.abs(value - rounded[i]!) * reach <= TOLERANCE
  })
  if (exact && isIdentity(rounded) && grid.size.every((n, axis) => n === labels.size[axis]))
    return { volume: { ...labels, affine: grid.affine }, exact, lost: 0 }
  const { size, affine } = grid
  const volume = resampleNearest(labels, { toSource: exact ? rounded : toSource, size, affine, outside: 'zeros' })
  return { volume, exact, lost: exact ? labelled(labels) - labelled(volume) : 0 }
}

function isIdentity(m: Float64Array): boolean {
  return m.every((value, i) => value === (i % 5 === 0 ? 1 : 0))
}

function labelled(volume: Volume): number {
  const { data } = volume
  const count = voxelCount(volume)
  let found = 0
  for (let i = 0; i < count; i++) if (data[i] !== 0) found++
  return found
}
