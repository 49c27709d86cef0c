/**
 * Labels that a network gives itself, put into a map. They are names, so where windows overlap nothing is summed: along
 * each axis a voxel takes the label of the window whose centre is nearest, the first of two as near.
 */

import type { Tensor, TensorType } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import type { Vec3 } from '../volume/volume.js'
import type { WindowPlan } from './windows.js'

export type LabelTarget = Uint8Array | Int32Array

const BYTE_TYPES: readonly TensorType[] = ['uint8', 'bool']
const WHOLE_TYPES: readonly TensorType[] = [...BYTE_TYPES, 'int8', 'uint16', 'int16', 'int32', 'int64']

/** Whether a tensor of this type holds whole numbers only. */
export function isWhole(type: TensorType): boolean {
  return WHOLE_TYPES.includes(type)
}

/** Room for `length` labels of a tensor of `type`, all background. */
export function labelTarget(type: TensorType, length: number): LabelTarget {
  return BYTE_TYPES.includes(type) ? new Uint8Array(length) : new Int32Array(length)
}

/**
 * Copies `count` labels, `step` apart in `source`; fractions go to the nearest whole number. Throws BAD_MODEL for a value
 * that is no label: NaN, infinite, or beyond 32 bits.
 */
export function copyLabels(
  source: Tensor['data'],
  from: number,
  step: number,
  target: LabelTarget,
  to: number,
  count: number,
): void {
  if (step === 1 && source instanceof Uint8Array && target instanceof Uint8Array) {
    target.set(source.subarray(from, from + count), to)
    return
  }
  for (let n = 0; n < count; n++) {
    const label = Math.round(source[from + n * step]!)
    // true for whole numbers of 32 bits alone
    if ((label | 0) !== label) {
      throw new AppError('BAD_MODEL', `the network gave ${source[from + n * step]} where its output holds labels`)
    }
    target[to + n] = label
  }
}

export interface LabelShape {
  readonly channels: number
  readonly channelStride: number
  readonly step: number
}

/** Lays the labels of windows side by side. */
export class LabelStitch {
  readonly #own: readonly (readonly Range[])[]

  /** `extent` is the image's size along the plan's axes, without its padding. */
  constructor(
    readonly target: LabelTarget,
    private readonly plan: WindowPlan,
    private readonly shape: LabelShape,
    private readonly extent: Vec3,
  ) {
    this.#own = ([0, 1, 2] as const).map((axis) => {
      const starts = [...new Set(plan.starts.map((start) => start[axis]))]
      return ownRanges(starts, plan.roi[axis], plan.before[axis], plan.before[axis] + extent[axis])
    })
  }

  /** The labels of the window at `start` (in the padded image), from `offset` on. */
  add(labels: Tensor['data'], offset: number, start: Vec3): void {
    const { roi, before } = this.plan
    const { channels, channelStride, step } = this.shape
    const [n0, n1, n2] = this.extent
    const [a, b, c] = this.#own.map((ranges, axis) => ranges.find((range) => range.start === start[axis])!)
    for (let i = a!.from; i < a!.to; i++) {
      for (let j = b!.from; j < b!.to; j++) {
        const inWindow = ((i - start[0]) * roi[1] + (j - start[1])) * roi[2] + c!.from - start[2]
        const inImage = ((i - before[0]) * n1 + (j - before[1])) * n2 + c!.from - before[2]
        for (let channel = 0; channel < channels; channel++) {
          const from = offset + channel * channelStride + inWindow * step
          copyLabels(labels, from, step, this.target, channel * n0 * n1 * n2 + inImage, c!.to - c!.from)
        }
      }
    }
  }
}

/** The voxels `from` to `to` (exclusive) of an axis that belong to the window at `start`. */
interface Range {
  readonly start: number
  readonly from: number
  readonly to: number
}

function ownRanges(starts: readonly number[], roi: number, low: number, high: number): Range[] {
  let from = low
  return starts.map((start, i) => {
    const next = starts[i + 1]
    // half-way between the two centres, which are (roi - 1) / 2 after the starts
    const to = next === undefined ? high : Math.floor((start + next + roi - 1) / 2) + 1
    const range = { start, from, to: Math.max(from, Math.min(to, high)) }
    from = range.to
    return range
  })
}
