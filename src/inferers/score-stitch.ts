/**
 * The scores of overlapping windows, summed and reduced layer by layer: plain arrays in, plain arrays out, so that it runs
 * wherever there is a processor for it.
 */

import type { Tensor } from '../contract/tensor.js'
import { makeSink, type Reduction, reduceStretch, type Sink } from '../transforms/reduction.js'
import type { Layer, LayerEnd } from '../transforms/restore-scores.js'
import type { Vec3 } from '../volume/volume.js'
import type { OutputLayout } from './ensemble.js'
import { WindowMemory } from './window-memory.js'
import { plainScores } from './window-scores.js'
import type { WindowPlan } from './windows.js'

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
  /** Undefined where scores lie otherwise than one channel behind the other, or sums are too large for it. */
  readonly #memory: WindowMemory | undefined
  readonly #sums: Float32Array
  readonly #counts: Float32Array | undefined
  readonly #layer: number
  #open = 0

  /**
   * `extent` is the image's size along the plan's axes, without its padding; `weights` say how much each voxel of a window
   * counts. With `hasCounts` the end gets what the scores have been summed with, to divide by.
   */
  constructor(
    private readonly plan: WindowPlan,
    private readonly extent: Vec3,
    private readonly shape: ScoreLayout,
    private readonly weights: Float32Array | undefined,
    end: LayerEnd,
    hasCounts: boolean,
  ) {
    const { channels, step } = shape
    this.#layer = plan.padded[1] * plan.padded[2]
    const summed = { channels, isSummed: true }
    if (step === 1 && WindowMemory.fits(plan, summed)) this.#memory = new WindowMemory(plan, summed, weights)
    this.#sums = this.#memory?.sums ?? new Float32Array(channels * plan.roi[0] * this.#layer)
    this.#counts = hasCounts ? new Float32Array(plan.roi[0] * this.#layer) : undefined
    this.#end = end
  }

  /** `isCounted` is false for what only adds to the scores of windows that are counted already. */
  add(scores: Tensor['data'], offset: number, start: Vec3, isCounted: boolean): void {
    this.#close(start[0])
    if (this.#memory) this.#addInMemory(this.#memory, scores, offset, start, isCounted)
    else this.#addRows(scores, offset, start)
    if (this.#counts && isCounted) this.#addCounts(this.#counts, start)
  }

  #addInMemory(memory: WindowMemory, scores: Tensor['data'], offset: number, start: Vec3, isCounted: boolean): void {
    const { channels, channelStride } = this.shape
    const window = plainScores(scores, offset, channelStride)
    const [layers] = memory.turns(start)
    // The order in which scores lie: with many classes any other waits for memory most of the time.
    for (let channel = 0; channel < channels; channel++)
      for (const turn of layers)
        for (let layer = turn.from; layer < turn.to; layer++) {
          window.read(memory, channel, layer)
          memory.addLayer(start, layer, channel, turn.isFirst && isCounted, false)
        }
  }

  #addRows(scores: Tensor['data'], offset: number, start: Vec3): void {
    const { roi } = this.plan
    const { channels, channelStride, step } = this.shape
    const { weights } = this
    const sums = this.#sums
    const [planes, among] = step === 1 ? [channels, 1] : [1, channels]
    for (let plane = 0; plane < planes; plane++)
      this.#eachRow(start, (at, inRow) => {
        for (let c = plane; c < plane + among; c++) {
          const to = c * roi[0] * this.#layer + at
          const from = offset + c * channelStride + inRow * step
          for (let k = 0; k < roi[2]; k++)
            sums[to + k]! += scores[from + k * step]! * (weights ? weights[inRow + k]! : 1)
        }
      })
  }

  #addCounts(counts: Float32Array, start: Vec3): void {
    const { weights } = this
    const [, , length] = this.plan.roi
    this.#eachRow(start, (at, inRow) => {
      for (let k = 0; k < length; k++) counts[at + k]! += weights ? weights[inRow + k]! : 1
    })
  }

  /** Where each row of a window lies in one channel of the sums, and in the window. */
  #eachRow(start: Vec3, work: (at: number, inRow: number) => void): void {
    const { roi, padded } = this.plan
    for (let i = 0; i < roi[0]; i++)
      for (let j = 0; j < roi[1]; j++) {
        const ring = (start[0] + i) % roi[0]
        work(ring * this.#layer + (start[1] + j) * padded[2] + start[2], (i * roi[1] + j) * roi[2])
      }
  }

  finish(): void {
    this.#close(this.plan.padded[0])
  }

  /** Passes on the layers before `start`, and clears what is added to without being written first. */
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
      for (let c = 0; !this.#memory && c < channels; c++) {
        const plane = c * roi[0] * this.#layer + ring
        this.#sums.fill(0, plane, plane + this.#layer)
      }
      this.#counts?.fill(0, ring, ring + this.#layer)
    }
  }
}
