/**
 * The mean of several networks over one image. Scores are added up as they come, or, for a mean of probabilities, layer by
 * layer once overlapping windows are put together, as MONAI's MeanEnsembled does after the inferer and the activation.
 */
import type { Predict, Tensor } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { type Activation, activate, type Layer, type LayerEnd } from '../transforms/restore-scores.js'
import type { Vec3 } from '../volume/volume.js'

/** Lends a network for as long as `work` runs. */
export type Lend = <T>(work: (predict: Predict) => Promise<T>) => Promise<T>

export interface Ensemble {
  readonly members: readonly Lend[]
  /** Of each network, one number or one a channel; over the networks they are divided by their sum. */
  readonly weights: readonly (number | readonly number[])[]
  /** What the scores of each go through before the mean; `none`: the mean is of scores. */
  readonly activation: Activation
}

/** The part of each network in the mean, for each of `channels`. Throws BAD_MODEL_CONFIG where weights do not fit the channels. */
export function sharesOf({ weights }: Pick<Ensemble, 'weights'>, channels: number): Float64Array[] {
  const full = weights.map((weight) => {
    if (typeof weight === 'number') return new Float64Array(channels).fill(weight)
    if (weight.length === channels) return Float64Array.from(weight)
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `config.inference.ensemble.weights has ${weight.length} numbers for a network that gives ${channels} channels`,
      { hint: 'give one number a network, or one for each of its channels' },
    )
  })
  const sums = Array.from({ length: channels }, (_, c) => full.reduce((sum, one) => sum + one[c]!, 0))
  return full.map((one) => one.map((weight, c) => weight / sums[c]!))
}

/** How the values of an output lie: channel c's n-th at `c * channelStride + n * step`, `each` of them an item of the batch. */
export interface OutputLayout {
  readonly channels: number
  readonly channelStride: number
  readonly step: number
  readonly each: number
}

/** The output with every channel times its share; in place where it holds floats, since nobody else does. */
export function scaled({ dims, data }: Tensor, layout: OutputLayout, shares: Float64Array): Tensor {
  const out = data instanceof Float32Array || data instanceof Float64Array ? data : new Float32Array(data)
  const { channels, channelStride, step, each } = layout
  const length = each / channels
  for (let item = 0; item < out.length; item += each)
    for (let c = 0; c < channels; c++) {
      const share = shares[c]!
      const from = item + c * channelStride
      if (share !== 1) for (let n = 0; n < length; n++) out[from + n * step]! *= share
    }
  return { dims, data: out }
}

/** One item of a whole image, activated: channels slowest. */
export function activated({ dims, data }: Tensor, layout: OutputLayout, activation: Activation): Tensor {
  const { channels, channelStride, step, each } = layout
  if (activation === 'none') return { dims, data }
  const plane = each / channels
  const planes = new Float32Array(each)
  for (let c = 0; c < channels; c++)
    for (let n = 0; n < plane; n++) planes[c * plane + n] = data[c * channelStride + n * step]!
  activate(planes, activation, plane, channels)
  const out = new Float32Array(each)
  for (let c = 0; c < channels; c++)
    for (let n = 0; n < plane; n++) out[c * channelStride + n * step] = planes[c * plane + n]!
  return { dims, data: out }
}

/** Adds `more` to `sum`, which is the first one's own array. Throws BAD_MODEL where their shapes differ. */
export function added(sum: Tensor | undefined, more: Tensor): Tensor {
  if (!sum) return { dims: more.dims, data: more.data instanceof Float32Array ? more.data.slice() : more.data }
  if (sum.dims.join() !== more.dims.join())
    throw new AppError(
      'BAD_MODEL',
      `the networks answer in other shapes: [${sum.dims.join(', ')}] and [${more.dims.join(', ')}]`,
    )
  for (let i = 0; i < more.data.length; i++) sum.data[i]! += more.data[i]!
  return sum
}

/**
 * The mean of probabilities: every network's layers are activated and added up, and go on when the last network has given
 * its own. Between the networks no more layers are held than one step of the windows closes.
 */
export class LayerMean {
  readonly #end: LayerEnd
  readonly #shares: readonly Float64Array[]
  readonly #sums = new Map<number, Float32Array>()
  readonly #own: Float32Array

  /** `extent` is that of the image along the tensor's spatial steps, slowest first. */
  constructor(
    end: LayerEnd,
    private readonly ensemble: Ensemble,
    private readonly channels: number,
    private readonly extent: Vec3,
  ) {
    this.#end = end
    this.#shares = sharesOf(ensemble, channels)
    this.#own = new Float32Array(channels * extent[1] * extent[2])
  }

  /** Where the layers of one network go. */
  member(index: number): LayerEnd {
    return { add: (layer, scores) => this.#add(index, layer, scores) }
  }

  #add(index: number, layer: number, { scores, start, channelStride, rowStride, step, counts }: Layer): void {
    const { channels, extent } = this
    const [, height, width] = extent
    const plane = height * width
    const own = this.#own
    for (let c = 0; c < channels; c++)
      for (let row = 0; row < height; row++) {
        const from = start + c * channelStride + row * rowStride
        const to = c * plane + row * width
        const over = counts && counts.start + row * rowStride
        for (let i = 0; i < width; i++)
          own[to + i] = scores[from + i * step]! / (over === undefined ? 1 : counts!.data[over + i]!)
      }
    activate(own, this.ensemble.activation, plane, channels)
    const sum = this.#sums.get(layer) ?? new Float32Array(own.length)
    const shares = this.#shares[index]!
    for (let c = 0; c < channels; c++) {
      const share = shares[c]!
      for (let i = c * plane; i < (c + 1) * plane; i++) sum[i]! += own[i]! * share
    }
    this.#sums.set(layer, sum)
    if (index < this.#shares.length - 1) return
    this.#sums.delete(layer)
    this.#end.add(layer, { scores: sum, start: 0, channelStride: plane, rowStride: width, step: 1 })
  }
}
