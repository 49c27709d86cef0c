/**
 * Scores brought back to the grid of the file and turned into labels there, one class and one slab at a time: classes
 * times voxels are never held, neither on the network's grid nor on the file's.
 *
 * A config that restores scores linearly before it takes the best class (MONAI's Invertd with `nearest_interp` false before
 * AsDiscreted) means this: a boundary then lies where the scores of two classes meet, and not on the nearest voxel.
 */
import type { AxisWeights, WeightTable } from '../volume/axis-weights.js'
import { weightsSize } from '../volume/axis-weights.js'
import type { Vec3, VoxelArray } from '../volume/volume.js'
import { cut, makeSink, type Reduction, type Sink } from './reduction.js'

export type Activation = 'none' | 'sigmoid' | 'softmax'

/** The scores of one layer of the network's slowest axis, where they lie. */
export interface Layer {
  readonly scores: ArrayLike<number>
  readonly start: number
  readonly channelStride: number
  readonly rowStride: number
  readonly step: number
  /** What overlapping windows have been summed with, laid out as the scores of one channel. */
  readonly counts?: { readonly data: Float32Array; readonly start: number } | undefined
}

/** What takes the layers of the network's slowest axis: in order, each once. */
export interface LayerEnd {
  add(layer: number, scores: Layer): void
}

export class ScoreRestorer implements LayerEnd {
  readonly #size: Vec3
  readonly #sink: Sink
  readonly #way: AxisWeights
  readonly #channels: number
  /** The source extent: along a row, rows, layers. */
  readonly #source: Vec3
  readonly #kept = new Map<number, { scores: Float32Array; most: Float64Array }>()
  readonly #spare: Float32Array[] = []
  /** Target layers in the order in which their last source layer arrives. */
  readonly #waiting: { readonly target: number; readonly first: number; readonly last: number }[]
  #next = 0
  readonly #row: Float64Array
  readonly #plane: Float64Array
  readonly #best: Float32Array
  /** The restored score from which on a thresholded channel is 1. */
  readonly #threshold: number

  /**
   * `way` leads from the network's volume (x along the tensor's last axis, `source` voxels) to the file's grid. Scores are
   * activated before they are moved, and reduced after.
   */
  constructor(
    way: AxisWeights,
    source: Vec3,
    channels: number,
    private readonly activation: Activation,
    private readonly reduction: Reduction,
  ) {
    this.#way = way
    this.#source = source
    this.#channels = channels
    this.#size = weightsSize(way)
    this.#sink = makeSink(reduction, channels, this.#size[0] * this.#size[1] * this.#size[2])
    const { start, index } = this.#table(2)
    this.#waiting = Array.from({ length: start.length - 1 }, (_, target) => {
      const used = index.subarray(start[target]!, start[target + 1]!)
      return { target, first: used[0] ?? -1, last: used.at(-1) ?? -1 }
    }).toSorted((a, b) => a.last - b.last)
    this.#plane = new Float64Array(source[0] * source[1])
    this.#row = new Float64Array(source[0])
    this.#best = new Float32Array(this.#length(0) * this.#length(1))
    this.#threshold = reduction.kind === 'threshold' ? cut(reduction) : 0
    while (this.#waiting[this.#next]?.last === -1) this.#outside(this.#waiting[this.#next++]!.target)
  }

  add(layer: number, { scores, start, channelStride, rowStride, step, counts }: Layer): void {
    const [width, height] = this.#source
    const plane = width * height
    const own = this.#spare.pop() ?? new Float32Array(plane * this.#channels)
    for (let c = 0; c < this.#channels; c++) {
      for (let row = 0; row < height; row++) {
        const from = start + c * channelStride + row * rowStride
        const to = c * plane + row * width
        if (counts) {
          const over = counts.start + row * rowStride
          for (let i = 0; i < width; i++) own[to + i] = scores[from + i * step]! / counts.data[over + i]!
        } else for (let i = 0; i < width; i++) own[to + i] = scores[from + i * step]!
      }
    }
    activate(own, this.activation, plane, this.#channels)
    this.#kept.set(layer, { scores: own, most: this.#largest(own, plane) })
    while ((this.#waiting[this.#next]?.last ?? Infinity) <= layer) this.#finish(this.#waiting[this.#next++]!.target)
    const needed = Math.min(...this.#waiting.slice(this.#next).map(({ first }) => first))
    for (const [index, { scores: old }] of this.#kept)
      if (index < needed) {
        this.#kept.delete(index)
        this.#spare.push(old)
      }
  }

  /** The labels (or scores) on the file's grid, x fastest, channels slowest. */
  result(): { readonly data: VoxelArray; readonly channels: number; readonly size: Vec3 } {
    return { ...this.#sink, size: this.#size }
  }

  /** The table of the target axis that runs along a source axis. */
  #table(source: 0 | 1 | 2): WeightTable {
    return this.#way.tables[this.#way.from.indexOf(source)]!
  }

  #length(source: 0 | 1 | 2): number {
    return this.#table(source).start.length - 1
  }

  /** How far apart neighbours along a source axis lie in the target's memory. */
  #stride(source: 0 | 1 | 2): number {
    const axis = this.#way.from.indexOf(source)
    return axis === 0 ? 1 : axis === 1 ? this.#size[0] : this.#size[0] * this.#size[1]
  }

  /** Where nothing of the network's grid reaches, every score is zero. */
  #outside(target: number): void {
    if (this.reduction.kind !== 'threshold' || this.#threshold > 0) return
    const { data } = this.#sink
    const voxels = this.#size[0] * this.#size[1] * this.#size[2]
    for (let c = 0; c < this.#channels; c++)
      for (let y = 0; y < this.#length(1); y++)
        for (let x = 0; x < this.#length(0); x++)
          data[c * voxels + target * this.#stride(2) + y * this.#stride(1) + x * this.#stride(0)] = 1
  }

  /**
   * A class can be the best of a voxel only where its probability reaches 1 / classes, since they sum to one there; most
   * classes of a large map are nowhere near in most layers.
   */
  #largest(scores: Float32Array, plane: number): Float64Array {
    const most = new Float64Array(this.#channels)
    if (this.activation !== 'softmax' || this.reduction.kind !== 'argmax') return most.fill(Infinity)
    for (let c = 0; c < this.#channels; c++) {
      let value = 0
      for (let i = c * plane; i < (c + 1) * plane; i++) if (scores[i]! > value) value = scores[i]!
      most[c] = value
    }
    return most
  }

  #finish(target: number): void {
    const { start, index, weight } = this.#table(2)
    const [from, to] = [start[target]!, start[target + 1]!]
    const layers = Array.from(index.subarray(from, to), (layer) => this.#kept.get(layer)!)
    const best = this.#best
    // the first class wins where all are zero
    best.fill(this.reduction.kind === 'argmax' ? -Infinity : 0)
    const [width, height] = this.#source
    const length = width * height
    const least = (1 - 1e-6) / this.#channels
    for (let c = 0; c < this.#channels; c++) {
      if (c > 0 && layers.every(({ most }) => most[c]! < least)) continue
      const plane = this.#plane.fill(0)
      for (const [k, { scores }] of layers.entries()) {
        const share = weight[from + k]!
        const at = c * length
        for (let i = 0; i < length; i++) plane[i]! += scores[at + i]! * share
      }
      this.#reduce(target, c)
    }
  }

  /** Stretches the plane of one class onto the target's plane, row by row, and reduces it there. */
  #reduce(target: number, channel: number): void {
    const rows = this.#table(1)
    const columns = this.#table(0)
    const width = this.#source[0]
    const plane = this.#plane
    const row = this.#row
    const best = this.#best
    const { data } = this.#sink
    const { reduction } = this
    const [across, down] = [this.#stride(0), this.#stride(1)]
    const voxels = this.#size[0] * this.#size[1] * this.#size[2]
    const origin = target * this.#stride(2)
    const count = columns.start.length - 1
    const threshold = this.#threshold
    for (let y = 0; y < rows.start.length - 1; y++) {
      row.fill(0)
      for (let k = rows.start[y]!; k < rows.start[y + 1]!; k++) {
        const share = rows.weight[k]!
        const at = rows.index[k]! * width
        for (let i = 0; i < width; i++) row[i]! += plane[at + i]! * share
      }
      let to = origin + y * down
      for (let x = 0; x < count; x++, to += across) {
        let sum = 0
        for (let k = columns.start[x]!; k < columns.start[x + 1]!; k++)
          sum += row[columns.index[k]!]! * columns.weight[k]!
        if (reduction.kind === 'argmax') {
          const score = Math.fround(sum)
          if (score > best[y * count + x]!) {
            best[y * count + x] = score
            data[to] = channel
          }
        } else data[channel * voxels + to] = reduction.kind === 'scores' ? sum : Math.fround(sum) >= threshold ? 1 : 0
      }
    }
  }
}

/** In place, over `channels` planes of `plane` scores each. */
export function activate(scores: Float32Array, activation: Activation, plane: number, channels: number): void {
  if (activation === 'sigmoid') for (let i = 0; i < scores.length; i++) scores[i] = 1 / (1 + Math.exp(-scores[i]!))
  if (activation === 'softmax') softmax(scores, plane, channels)
}

function softmax(scores: Float32Array, plane: number, channels: number): void {
  const most = new Float32Array(plane).fill(-Infinity)
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < plane; i++) if (scores[c * plane + i]! > most[i]!) most[i] = scores[c * plane + i]!
  const sums = new Float64Array(plane)
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < plane; i++) {
      const power = Math.exp(scores[c * plane + i]! - most[i]!)
      scores[c * plane + i] = power
      sums[i]! += power
    }
  for (let c = 0; c < channels; c++) for (let i = 0; i < plane; i++) scores[c * plane + i]! /= sums[i]!
}
