/** Polygons of a mask, slice by slice along the third stored axis, as AIAA's mask2polygon gives them. */
import type { Volume, VoxelArray } from '../volume/volume.js'
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

/** Buffers that one slice after another uses, so that a volume of many slices allocates once. */
export interface SliceScratch {
  foreground: Uint8Array
  cells: Int32Array
}

export const sliceScratch = (): SliceScratch => ({ foreground: new Uint8Array(0), cells: new Int32Array(0) })

/** The polygons of slice `z` of a mask, what is not zero, as [column, row] pairs in OpenCV's order; [] for an empty slice. */
export function slicePolygons(
  volume: Volume,
  z: number,
  options: PolygonOptions,
  scratch: SliceScratch = sliceScratch(),
): Int32Array[] {
  const [nx, ny] = volume.size
  if (!markForeground(volume, z, scratch)) return []
  const box = boxOf(scratch.foreground, nx, ny)
  if (!box) return []
  const byX = options.rowAxis === 'x'
  const framed = frame(scratch, nx, box, byX)
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

/** Writes 1 for foreground and 0 for the rest of a slice, x-fastest; false when the slice is known to be empty. */
function markForeground({ size, data }: Volume, z: number, scratch: SliceScratch): boolean {
  const voxels = size[0] * size[1]
  const from = z * voxels
  if (isAllZeroBytes(data, from, voxels)) return false
  if (scratch.foreground.length === voxels) scratch.foreground.fill(0)
  else scratch.foreground = new Uint8Array(voxels)
  const { foreground } = scratch
  const width = data.BYTES_PER_ELEMENT
  const start = data.byteOffset + from * width
  // Most of a mask is nothing: words of it are passed over. What a header's offset leaves askew is looked at one by one.
  const words = start % 4 === 0 ? new Int32Array(data.buffer, start, (voxels * width) >> 2) : new Int32Array(0)
  const each = 4 / width
  const inWords = Math.floor(words.length * each)
  for (let w = 0; w < words.length; w++) {
    if (words[w] === 0) continue
    const end = (w + 1) * each
    for (let i = Math.floor(w * each); i < end; i++) if (isForeground(data[from + i]!)) foreground[i] = 1
  }
  for (let i = inWords; i < voxels; i++) if (isForeground(data[from + i]!)) foreground[i] = 1
  return true
}

/** NaN is none. */
const isForeground = (value: number): boolean => value < 0 || value > 0

/** Whether every byte of these voxels is zero: a comparison of memory, ten times faster than looking at each voxel. */
function isAllZeroBytes(data: VoxelArray, from: number, count: number): boolean {
  const width = data.BYTES_PER_ELEMENT
  const bytes = Buffer.from(data.buffer, data.byteOffset + from * width, count * width)
  if (bytes.length > 0 && bytes[0] !== 0) return false
  // A run of bytes equals itself shifted by one exactly when all of them equal the first.
  return bytes.subarray(1).equals(bytes.subarray(0, -1))
}

/** The smallest box around the foreground, ends included. */
interface Box {
  readonly x0: number
  readonly x1: number
  readonly y0: number
  readonly y1: number
}

function boxOf(foreground: Uint8Array, nx: number, ny: number): Box | undefined {
  let x0 = nx
  let x1 = -1
  let y0 = ny
  let y1 = -1
  for (let y = 0; y < ny; y++) {
    const line = y * nx
    const first = foreground.indexOf(1, line)
    if (first < 0) break
    if (first >= line + nx) {
      y = Math.floor(first / nx) - 1
      continue
    }
    const last = foreground.lastIndexOf(1, line + nx - 1) - line
    if (first - line < x0) x0 = first - line
    if (last > x1) x1 = last
    if (y < y0) y0 = y
    y1 = y
  }
  return x1 < 0 ? undefined : { x0, x1, y0, y1 }
}

/** The box as a framed mask, its rows being x or y. */
function frame(scratch: SliceScratch, nx: number, box: Box, byX: boolean): FramedMask {
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
    let from = box.x0 + (box.y0 + y) * nx
    let to = stride + 1 + y * stepY
    for (let x = 0; x < width; x++, from++, to += stepX) cells[to] = scratch.foreground[from]!
  }
  return { cells, columns, rows }
}
