/**
 * What becomes of the scores of a stretch of voxels: kept, or turned into labels at once, so that classes times voxels
 * never lie in memory when an argmax or a threshold follows.
 */
import type { VoxelArray } from '../volume/volume.js'

export type Reduction =
  | { readonly kind: 'scores' }
  /** The channel with the highest score, the lowest one on a tie. */
  | { readonly kind: 'argmax' }
  /** Per channel, 1 where the score (after `activation`) is at least `at`. */
  | { readonly kind: 'threshold'; readonly at: number; readonly activation: 'none' | 'sigmoid' }

export interface Sink {
  readonly data: VoxelArray
  readonly channels: number
}

/** The array that the reduction of `channels` scores a voxel fills: as many values as voxels times its own channels. */
export function makeSink(reduction: Reduction, channels: number, voxels: number): Sink {
  if (reduction.kind === 'argmax') {
    return { data: channels > 256 ? new Uint16Array(voxels) : new Uint8Array(voxels), channels: 1 }
  }
  if (reduction.kind === 'threshold') return { data: new Uint8Array(voxels * channels), channels }
  return { data: new Float32Array(voxels * channels), channels }
}

/** Scores of one stretch: channel c's n-th value at `start + c * channelStride + n * step`. */
export interface Stretch {
  readonly scores: ArrayLike<number>
  readonly start: number
  readonly channelStride: number
  readonly step: number
  readonly channels: number
  readonly length: number
}

/**
 * Reduces a stretch into `sink` from `at` on; channel planes of the sink are `voxels` apart. `weights`, when given, are
 * what the scores have been summed with: divided by here where it matters.
 */
export function reduceStretch(
  reduction: Reduction,
  { scores, start, channelStride, step, channels, length }: Stretch,
  sink: Sink,
  at: number,
  voxels: number,
  weights?: { readonly data: Float32Array; readonly start: number },
): void {
  const { data } = sink
  if (reduction.kind === 'argmax') {
    if (step === 1 && channels === 2) {
      for (let n = 0; n < length; n++) data[at + n] = scores[start + channelStride + n]! > scores[start + n]! ? 1 : 0
      return
    }
    if (step === 1 && channels === 3) {
      const [second, third] = [start + channelStride, start + 2 * channelStride]
      for (let n = 0; n < length; n++) {
        const a = scores[start + n]!
        const b = scores[second + n]!
        const c = scores[third + n]!
        data[at + n] = b > a ? (c > b ? 2 : 1) : c > a ? 2 : 0
      }
      return
    }
    if (step === 1 && channels > MANY_CHANNELS) {
      argmaxBlocks({ scores, start, channelStride, step, channels, length }, data, at)
      return
    }
    for (let n = 0; n < length; n++) {
      let i = start + n * step
      let best = scores[i]!
      let label = 0
      for (let c = 1; c < channels; c++) {
        i += channelStride
        const score = scores[i]!
        if (score > best) {
          best = score
          label = c
        }
      }
      data[at + n] = label
    }
    return
  }
  // no exponential per voxel
  const threshold = reduction.kind === 'threshold' ? cut(reduction) : 0
  for (let c = 0; c < channels; c++) {
    const from = start + c * channelStride
    const to = at + c * voxels
    for (let n = 0; n < length; n++) {
      const score = weights ? scores[from + n * step]! / weights.data[weights.start + n]! : scores[from + n * step]!
      data[to + n] = reduction.kind === 'scores' ? score : score >= threshold ? 1 : 0
    }
  }
}

/** From here on memory likes one channel at a time better than all at once. */
const MANY_CHANNELS = 4
const BLOCK = 4096

function argmaxBlocks(
  { scores, start, channelStride, channels, length }: Stretch,
  labels: VoxelArray,
  at: number,
): void {
  const best = new Float32Array(Math.min(BLOCK, length))
  for (let first = 0; first < length; first += BLOCK) {
    const count = Math.min(BLOCK, length - first)
    for (let n = 0; n < count; n++) {
      best[n] = scores[start + first + n]!
      labels[at + first + n] = 0
    }
    for (let c = 1; c < channels; c++) {
      const from = start + c * channelStride + first
      for (let n = 0; n < count; n++) {
        const score = scores[from + n]!
        if (score > best[n]!) {
          best[n] = score
          labels[at + first + n] = c
        }
      }
    }
  }
}

/** The score from which on `reduction` says 1, before its activation: sigmoid(s) >= t is s >= log(t / (1 - t)). */
export function cut({ at, activation }: Extract<Reduction, { kind: 'threshold' }>): number {
  if (activation === 'none') return at
  return at <= 0 ? -Infinity : at >= 1 ? Infinity : Math.log(at / (1 - at))
}
