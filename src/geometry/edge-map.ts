import type { Volume } from '../volume/volume.js'
import type { RowAxis } from './mask-to-polygon.js'

/** Pixels of a slice, [column, row], ends included. */
export interface Box {
  readonly column0: number
  readonly row0: number
  readonly column1: number
  readonly row1: number
}

/** Standard deviation of the smoothing in pixels: enough against a scanner's noise, too little to move an edge. */
const SIGMA = 1
/** Half the distance over which a slope is measured, in pixels. */
const HALF_STEP = 1

/** A smoothed part of a slice that tells how steeply the image rises in a direction. */
export class EdgeMap {
  readonly #box: Box
  readonly #columns: number
  readonly #rows: number
  readonly #smooth: Float32Array
  /** Rise per pixel at the median place: what is no steeper is texture or noise, and no edge. */
  readonly texture: number

  /** Colours are averaged; what is not a number counts as 0. `box` must lie on the slice. */
  constructor(volume: Volume, rowAxis: RowAxis, slice: number, box: Box) {
    this.#box = box
    this.#columns = box.column1 - box.column0 + 1
    this.#rows = box.row1 - box.row0 + 1
    this.#smooth = blur(cut(volume, rowAxis, slice, box), this.#columns, this.#rows)
    this.texture = medianRise(this.#smooth, this.#columns, this.#rows)
  }

  /** Rise per pixel along the unit vector [directionColumn, directionRow] around a place of the slice. */
  slope(column: number, row: number, directionColumn: number, directionRow: number): number {
    const c = directionColumn * HALF_STEP
    const r = directionRow * HALF_STEP
    return (this.level(column + c, row + r) - this.level(column - c, row - r)) / (2 * HALF_STEP)
  }

  /** Smoothed brightness between pixels, bilinear; the outermost pixels continue outside. */
  level(column: number, row: number): number {
    const c = Math.min(this.#columns - 1, Math.max(0, column - this.#box.column0))
    const r = Math.min(this.#rows - 1, Math.max(0, row - this.#box.row0))
    const c0 = Math.floor(c)
    const r0 = Math.floor(r)
    const c1 = Math.min(c0 + 1, this.#columns - 1)
    const r1 = Math.min(r0 + 1, this.#rows - 1)
    const fc = c - c0
    const fr = r - r0
    const a = this.#smooth[r0 * this.#columns + c0]!
    const b = this.#smooth[r1 * this.#columns + c0]!
    // As differences, so that a flat image is exactly flat between its pixels too.
    const upper = a + (this.#smooth[r0 * this.#columns + c1]! - a) * fc
    const lower = b + (this.#smooth[r1 * this.#columns + c1]! - b) * fc
    return upper + (lower - upper) * fr
  }
}

function cut({ size, channels, data }: Volume, rowAxis: RowAxis, slice: number, box: Box): Float32Array {
  const [nx, ny, nz] = size
  const columns = box.column1 - box.column0 + 1
  const rows = box.row1 - box.row0 + 1
  const columnStep = rowAxis === 'x' ? nx : 1
  const rowStep = rowAxis === 'x' ? 1 : nx
  const colours = Math.min(channels, 3)
  const patch = new Float32Array(columns * rows)
  for (let channel = 0; channel < colours; channel++) {
    const origin = (channel * nz + slice) * nx * ny + box.column0 * columnStep + box.row0 * rowStep
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = data[origin + row * rowStep + column * columnStep]!
        if (Number.isFinite(value)) patch[row * columns + column]! += value / colours
      }
    }
  }
  return patch
}

/** Separable Gaussian; the weights are made to sum to 1 at the borders, so a flat image stays flat there. */
function blur(image: Float32Array, columns: number, rows: number): Float32Array {
  const radius = Math.ceil(3 * SIGMA)
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * SIGMA ** 2)),
  )
  const across = blurLines(image, columns, rows, 1, columns, kernel, radius)
  return blurLines(across, rows, columns, columns, 1, kernel, radius)
}

function blurLines(
  image: Float32Array,
  length: number,
  lines: number,
  step: number,
  lineStep: number,
  kernel: Float64Array,
  radius: number,
): Float32Array {
  const out = new Float32Array(image.length)
  for (let line = 0; line < lines; line++) {
    const origin = line * lineStep
    for (let i = 0; i < length; i++) {
      // Weighted differences to the middle pixel, so that equal pixels give exactly that pixel.
      const middle = image[origin + i * step]!
      let sum = 0
      let weight = 0
      for (let k = Math.max(-radius, -i); k <= Math.min(radius, length - 1 - i); k++) {
        const w = kernel[k + radius]!
        sum += w * (image[origin + (i + k) * step]! - middle)
        weight += w
      }
      out[origin + i * step] = middle + sum / weight
    }
  }
  return out
}

/** Every third pixel in both directions tells as much as all of them. */
const STRIDE = 3

function medianRise(image: Float32Array, columns: number, rows: number): number {
  const rises: number[] = []
  for (let row = 1; row < rows - 1; row += STRIDE) {
    for (let column = 1; column < columns - 1; column += STRIDE) {
      const at = row * columns + column
      rises.push(Math.hypot(image[at + 1]! - image[at - 1]!, image[at + columns]! - image[at - columns]!) / 2)
    }
  }
  return Float64Array.from(rises).sort()[rises.length >> 1] ?? 0
}
