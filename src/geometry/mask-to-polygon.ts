/** Polygons of a mask, slice by slice along the third stored axis, as AIAA's mask2polygon gives them. */
import { isZero } from '../volume/occupied.js'
import type { Volume } from '../volume/volume.js'
import { type FramedMask, followBorders } from './contour.js'
import { simplifyRing } from './simplify.js'

/**
 * Which stored axis runs down the rows of a slice. A polygon's point is [column, row] "of the array as loaded": nibabel
 * loads array[x, y, z], so that the rows of a volume's slice are x and a point is [y, x]; a 2-D picture is loaded with
 * rows y, and a point is [x, y].
 */
export type RowAxis = 'x' | 'y'

export interface PolygonOptions {
  /** Points left out between two kept ones; 0 keeps them all. */
  readonly morePoints: number
  /** Douglas-Peucker tolerance in voxels; when given, it decides instead of `morePoints`. */
  readonly simplify?: number | undefined
  readonly rowAxis: RowAxis
}

/** Contours of at most this many points are kept whole whatever `morePoints` says. */
const WHOLE_UP_TO = 5

/** What one slice after another uses, so that a volume of many slices allocates once. */
export interface SliceScratch {
  cells: Int32Array
}

export const sliceScratch = (): SliceScratch => ({ cells: new Int32Array(0) })

/** The polygons of slice `z` of a mask, what is not zero, as [column, row] pairs in OpenCV's order; [] for an empty slice. */
export function slicePolygons(
  volume: Volume,
  z: number,
  options: PolygonOptions,
  scratch: SliceScratch = sliceScratch(),
): Int32Array[] {
  const box = boxOf(volume, z)
  if (!box) return []
  const byX = options.rowAxis === 'x'
  const framed = frame(volume, z, box, byX, scratch)
  const contours = followBorders(framed, byX ? box.y0 : box.x0, byX ? box.x0 : box.y0)
  const polygons: Int32Array[] = []
  for (let i = 0; i < contours.count; i++) {
    const start = contours.starts[i]!
    const ring = contours.points.subarray(2 * start, 2 * (start + contours.lengths[i]!))
    polygons.push(
      options.simplify === undefined ? everyNth(ring, options.morePoints + 1) : simplifyRing(ring, options.simplify),
    )
  }
  return polygons
}

function everyNth(ring: Int32Array, step: number): Int32Array {
  const n = ring.length >> 1
  if (step === 1 || n <= WHOLE_UP_TO) return ring
  const kept = new Int32Array(2 * Math.ceil(n / step))
  for (let i = 0, at = 0; i < n; i += step) {
    kept[at++] = ring[2 * i]!
    kept[at++] = ring[2 * i + 1]!
  }
  return kept
}

/** NaN is none. */
const isForeground = (value: number): boolean => value < 0 || value > 0

/** The smallest box around the foreground, ends included. */
interface Box {
  readonly x0: number
  readonly x1: number
  readonly y0: number
  readonly y1: number
}

/** Most of a mask is nothing, which memory is compared for: a slice, then each of its rows. */
function boxOf({ size, data }: Volume, z: number): Box | undefined {
  const [nx, ny] = size
  const from = z * nx * ny
  if (isZero(data, from, nx * ny)) return undefined
  let x0 = nx
  let x1 = -1
  let y0 = ny
  let y1 = -1
  for (let y = 0; y < ny; y++) {
    const row = from + y * nx
    if (isZero(data, row, nx)) continue
    let first = 0
    while (first < nx && !isForeground(data[row + first]!)) first++
    if (first === nx) continue
    let last = nx - 1
    while (!isForeground(data[row + last]!)) last--
    if (first < x0) x0 = first
    if (last > x1) x1 = last
    if (y < y0) y0 = y
    y1 = y
  }
  return x1 < 0 ? undefined : { x0, x1, y0, y1 }
}

/** The box as a framed mask, its rows being x or y. */
function frame({ size, data }: Volume, z: number, box: Box, byX: boolean, scratch: SliceScratch): FramedMask {
  const [nx, ny] = size
  const width = box.x1 - box.x0 + 1
  const height = box.y1 - box.y0 + 1
  const columns = byX ? height : width
  const rows = byX ? width : height
  const stride = columns + 2
  const needed = stride * (rows + 2)
  if (scratch.cells.length < needed) scratch.cells = new Int32Array(needed)
  const cells = scratch.cells.fill(0, 0, needed)
  const stepX = byX ? stride : 1
  const stepY = byX ? 1 : stride
  for (let y = 0; y < height; y++) {
    let from = box.x0 + (z * ny + box.y0 + y) * nx
    let to = stride + 1 + y * stepY
    for (let x = 0; x < width; x++, from++, to += stepX) if (isForeground(data[from]!)) cells[to] = 1
  }
  return { cells, columns, rows }
}
