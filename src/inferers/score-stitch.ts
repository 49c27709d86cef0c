/**
 * The scores of overlapping windows, summed and reduced layer by layer: plain arrays in, plain arrays out, so that it runs
 * wherever there is a processor for it.
 */

import type { Tensor } from '../contract/tensor.js'
import { makeSink, type Reduction, reduceStretch, type Sink } from '../transforms/reduction.js'
import type { Layer, LayerEnd } from '../transforms/restore-scores.js'
import type { Vec3 } from '../volume/volume.js'
import type { OutputLayout } from './ensemble.js'
import type { WindowPlan } from './windows.js'

/** Where windows may lie. */
export type WindowGrid = Pick<WindowPlan, 'roi' | 'padded' | 'before'>
/** How the scores of a window lie. */
export type ScoreLayout = Pick<OutputLayout, 'channels' | 'channelStride' | 'step'>

/** Turns layers into labels, or keeps them, on the network's own grid. */
export class LayerReducer implements LayerEnd {
  readonly sink: Sink
  readonly #voxels: number

  constructor(
    readonly reduction: Reduction,
    private readonly channels: number,
    private readonly extent: Vec3,
  ) {
    this.#voxels = extent[0] * extent[1] * extent[2]
    this.sink = makeSink(reduction, channels, this.#voxels)
  }

  add(layer: number, { scores, start, channelStride, rowStride, step, counts }: Layer): void {
    const { channels, extent } = this
    // Rows that lie one behind the other go as one: each class is then read in one go.
    const [rows, length] = rowStride === extent[2] ? [1, extent[1] * extent[2]] : [extent[1], extent[2]]
    for (let j = 0; j < rows; j++) {
      const stretch = { scores, start: start + j * rowStride, channelStride, step, channels, length }
      const weights = counts && { data: counts.data, start: counts.start + j * rowStride }
      reduceStretch(this.reduction, stretch, this.sink, (layer * rows + j) * length, this.#voxels, weights)
    }
  }
}

/**
 * Sums overlapping windows. Since windows come with their first axis slowest, only as many layers along it as a window
 * is deep are ever open; those that no later window touches are reduced into the result and their room is used again.
 */
export class WindowSums {
  readonly #end: LayerEnd
  readonly #sums: Float32Array
  readonly #counts: Float32Array | undefined
  readonly #layer: number
  #open = 0

  /**
   * `extent` is the image's size along the plan's axes, without its padding; `weights` say how much each voxel of a window
   * counts. With `hasCounts` the end gets what the scores have been summed with, to divide by.
   */
  constructor(
    private readonly plan: WindowGrid,
    private readonly extent: Vec3,
    private readonly shape: ScoreLayout,
    private readonly weights: Float32Array | undefined,
    end: LayerEnd,
    hasCounts: boolean,
  ) {
    this.#layer = plan.padded[1] * plan.padded[2]
    this.#sums = new Float32Array(shape.channels * plan.roi[0] * this.#layer)
    this.#counts = hasCounts ? new Float32Array(plan.roi[0] * this.#layer) : undefined
    this.#end = end
  }

  /** `isCounted` is false for what only adds to the scores of windows that are counted already. */
  add(scores: Tensor['data'], offset: number, start: Vec3, isCounted: boolean): void {
    this.#close(start[0])
    const { roi, padded } = this.plan
    const { channels, channelStride, step } = this.shape
    const row = roi[2]
    // The order in which scores lie: with many classes any other waits for memory most of the time.
    const [planes, among] = step === 1 ? [channels, 1] : [1, channels]
    for (let plane = 0; plane < planes; plane++)
      for (let i = 0; i < roi[0]; i++) {
        const ring = (start[0] + i) % roi[0]
        for (let j = 0; j < roi[1]; j++) {
          const inRow = (i * roi[1] + j) * row
          const at = ring * this.#layer + (start[1] + j) * padded[2] + start[2]
          for (let c = plane; c < plane + among; c++) {
            const to = c * roi[0] * this.#layer + at
            addRow(this.#sums, to, scores, offset + c * channelStride + inRow * step, step, row, this.weights, inRow)
          }
          if (plane === 0 && this.#counts && isCounted) addCounts(this.#counts, at, row, this.weights, inRow)
        }
      }
  }

  finish(): void {
    this.#close(this.plan.padded[0])
  }

  /** Passes on the layers before `start`, and clears them. */
  #close(start: number): void {
    const { roi, padded, before } = this.plan
    const { extent } = this
    const { channels } = this.shape
    for (; this.#open < start; this.#open++) {
      const ring = (this.#open % roi[0]) * this.#layer
      const layer = this.#open - before[0]
      if (layer >= 0 && layer < extent[0]) {
        const start = ring + before[1] * padded[2] + before[2]
        const counts = this.#counts && { data: this.#counts, start }
        const channelStride = roi[0] * this.#layer
        this.#end.add(layer, { scores: this.#sums, start, channelStride, rowStride: padded[2], step: 1, counts })
      }
      for (let c = 0; c < channels; c++) {
        const plane = c * roi[0] * this.#layer + ring
        this.#sums.fill(0, plane, plane + this.#layer)
      }
      this.#counts?.fill(0, ring, ring + this.#layer)
    }
  }
}

function addRow(
  sums: Float32Array,
  to: number,
  scores: Tensor['data'],
  from: number,
  step: number,
  length: number,
  weights: Float32Array | undefined,
  at: number,
): void {
  // steps of one, the usual case, apart: the multiplication by `step` costs as much as the rest
  if (step !== 1) {
    for (let k = 0; k < length; k++) sums[to + k]! += scores[from + k * step]! * (weights ? weights[at + k]! : 1)
  } else if (weights) addWeighted(sums, to, scores, from, length, weights, at)
  else for (let k = 0; k < length; k++) sums[to + k]! += scores[from + k]!
}

/** Four at a time, which is a fifth faster: with many classes this loop takes a quarter of a job. */
function addWeighted(
  sums: Float32Array,
  to: number,
  scores: Tensor['data'],
  from: number,
  length: number,
  weights: Float32Array,
  at: number,
): void {
  const fours = length & ~3
  for (let k = 0; k < fours; k += 4) {
    sums[to + k]! += scores[from + k]! * weights[at + k]!
    sums[to + k + 1]! += scores[from + k + 1]! * weights[at + k + 1]!
    sums[to + k + 2]! += scores[from + k + 2]! * weights[at + k + 2]!
    sums[to + k + 3]! += scores[from + k + 3]! * weights[at + k + 3]!
  }
  for (let k = fours; k < length; k++) sums[to + k]! += scores[from + k]! * weights[at + k]!
}

function addCounts(
  counts: Float32Array,
  to: number,
  length: number,
  weights: Float32Array | undefined,
  at: number,
): void {
  if (!weights) for (let k = 0; k < length; k++) counts[to + k]! += 1
  else for (let k = 0; k < length; k++) counts[to + k]! += weights[at + k]!
}
