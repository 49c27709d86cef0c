/** A slice of the volume as pixels: grey or colour by the window, and the labels over it. No DOM: pixels are RGBA in a Uint32Array. */
import type { Vec3 } from './geometry.js'
import type { Voxels } from './nifti.js'
import type { Plane } from './planes.js'

/** Little-endian, as every machine with a browser is: alpha in the highest byte. */
const OPAQUE = 0xff000000

/** Where the pixels of a slice lie among the voxels. */
export interface SliceGrid {
  readonly width: number
  readonly height: number
  /** The voxel of the upper left pixel, and the steps to the pixel on the right and to the one below. */
  readonly first: number
  readonly right: number
  readonly down: number
}

export function sliceGrid(size: Vec3, { across, right, down }: Plane, slice: number): SliceGrid {
  const strides = [1, size[0], size[0] * size[1]] as const
  const start = ({ axis, step }: Plane['right']) => (step < 0 ? (size[axis] - 1) * strides[axis] : 0)
  return {
    width: size[right.axis],
    height: size[down.axis],
    first: slice * strides[across] + start(right) + start(down),
    right: right.step * strides[right.axis],
    down: down.step * strides[down.axis],
  }
}

/** Grey, black at `low` and white from `high` on. `frame`: the first voxel of the time point that is shown. */
export function paintGrey(
  pixels: Uint32Array,
  data: Voxels,
  grid: SliceGrid,
  [low, high]: readonly [number, number],
  frame: number,
): void {
  const { width, height, right, down } = grid
  const scale = 255 / (high - low)
  let to = 0
  for (let y = 0; y < height; y++) {
    let from = frame + grid.first + y * down
    for (let x = 0; x < width; x++, from += right) {
      const grey = byte((data[from]! - low) * scale)
      pixels[to++] = OPAQUE | (grey << 16) | (grey << 8) | grey
    }
  }
}

/** Red, green and blue, each of `voxels` values after the other, from `frame` on. */
export function paintColour(
  pixels: Uint32Array,
  data: Voxels,
  grid: SliceGrid,
  [low, high]: readonly [number, number],
  frame: number,
  voxels: number,
): void {
  const { width, height, right, down } = grid
  const scale = 255 / (high - low)
  let to = 0
  for (let y = 0; y < height; y++) {
    let from = frame + grid.first + y * down
    for (let x = 0; x < width; x++, from += right) {
      const red = byte((data[from]! - low) * scale)
      const green = byte((data[from + voxels]! - low) * scale)
      const blue = byte((data[from + 2 * voxels]! - low) * scale)
      pixels[to++] = OPAQUE | (blue << 16) | (green << 8) | red
    }
  }
}

/**
 * Labels by a table of 256 pixels; where `edges` is given, it colours the pixels of a label that touch another one or none.
 * Gives whether anything is to be seen.
 */
export function paintLabels(
  pixels: Uint32Array,
  labels: Uint8Array,
  grid: SliceGrid,
  colors: Uint32Array,
  edges: Uint32Array | undefined,
): boolean {
  const { width, height, right, down } = grid
  let to = 0
  let isSeen = false
  for (let y = 0; y < height; y++) {
    let from = grid.first + y * down
    for (let x = 0; x < width; x++, from += right) {
      const label = labels[from]!
      if (label === 0) {
        pixels[to++] = 0
        continue
      }
      isSeen = true
      const isEdge =
        edges !== undefined &&
        ((x > 0 && labels[from - right] !== label) ||
          (x < width - 1 && labels[from + right] !== label) ||
          (y > 0 && labels[from - down] !== label) ||
          (y < height - 1 && labels[from + down] !== label))
      pixels[to++] = isEdge ? edges[label]! : colors[label]!
    }
  }
  return isSeen
}

/**
 * Values between which most of an image lies: its 1 % and 99.5 % quantiles, of a sample of a large one. Much of a scan is air,
 * so the upper end cuts off little.
 */
export function usualWindow(data: Voxels): readonly [number, number] {
  const step = Math.max(1, Math.floor(data.length / MOST_SAMPLED))
  const sample = new Float64Array(Math.ceil(data.length / step))
  for (let i = 0, from = 0; i < sample.length; i++, from += step) sample[i] = data[from]!
  sample.sort()
  const at = (part: number) => sample[Math.round(part * (sample.length - 1))]!
  const [low, high] = [at(0.01), at(0.995)]
  if (low < high) return [low, high]
  // Almost empty: all there is.
  const [least, most] = extremesOf(data)
  return least < most ? [least, most] : [least, least + 1]
}

export function extremesOf(data: Voxels): readonly [number, number] {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const value of data) {
    if (value < least) least = value
    if (value > most) most = value
  }
  return [least, most]
}

const MOST_SAMPLED = 200_000

function byte(value: number): number {
  return value <= 0 ? 0 : value >= 255 ? 255 : (value + 0.5) | 0
}
