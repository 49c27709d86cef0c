/** What everybody knows about a network: its tensors, and a way to run it. Vendor types stay behind what implements this. */
import { z } from 'zod'

export const TensorType = z.enum([
  ...(['float32', 'float16', 'float64', 'int64', 'int32', 'int16', 'int8', 'uint8', 'uint16', 'bool'] as const),
])
export type TensorType = z.infer<typeof TensorType>

/** A named input or output. A dimension is a number when fixed, a string (its symbolic name) or null when free. */
export const TensorSpec = z
  .object({
    name: z.string(),
    type: TensorType,
    dims: z.array(z.union([z.number(), z.string(), z.null()])).readonly(),
  })
  .readonly()
export type TensorSpec = z.infer<typeof TensorSpec>

/**
 * C-contiguous values: the last dimension is fastest. float16 values travel as float32 and are converted at the door;
 * int64 as Float64Array-safe integers; bool as 0/1 bytes.
 */
export interface Tensor {
  readonly dims: readonly number[]
  readonly data: Float32Array | Float64Array | Int32Array | Int16Array | Int8Array | Uint8Array | Uint16Array
}

/** Takes and gives tensors by the network's own names. */
export type Predict = (feeds: Readonly<Record<string, Tensor>>) => Promise<Readonly<Record<string, Tensor>>>

/** What a network is, without a way to run it. */
export interface NetworkFacts {
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
  /** What really runs it: 'cpu', 'cuda:0', 'kserve'. */
  readonly device: string
  /** Says why `device` is not what was asked for, if so (a CUDA provider that could not load, for example). */
  readonly fallbackReason?: string | undefined
}

/** How a network that gives scores ends in labels instead. */
export type LabelEnd =
  /** The channel with the highest score, the lowest one on a tie. */
  | { readonly kind: 'argmax' }
  /** Per channel, 1 where the score is at least `from`. */
  | { readonly kind: 'threshold'; readonly from: number }

/** A network that ends in labels. */
export interface LabelNetwork {
  readonly output: TensorSpec
  readonly run: Predict
  /** It is of no use: from now on there is none. */
  giveUp(): Promise<void>
}

/** What an output is made of that is the phases of a transposed convolution put between each other. */
export interface Phases {
  /** Along each spatial axis: voxel v of the output is voxel floor(v / stride) of phase v mod stride. */
  readonly strides: readonly number[]
  /** By phase, last axis fastest: [batch, channels, ...sizes of a phase]; or one of all, [batch, phases * channels, ...]. */
  readonly tensors: readonly string[]
}

/** A network whose scores come in the phases of its last, transposed convolution, before they are put between each other. */
export interface PhaseNetwork extends Phases {
  readonly run: Predict
  giveUp(): Promise<void>
}

export interface Predictor extends NetworkFacts {
  readonly run: Predict
  /** This network with labels for the scores of its output of that name; undefined where that cannot be. Opened when it is first asked for. */
  readonly endingIn?: ((output: string, end: LabelEnd) => Promise<LabelNetwork | undefined>) | undefined
  /** The same with the phases of that output. */
  readonly inPhases?: ((output: string) => Promise<PhaseNetwork | undefined>) | undefined
  close(): Promise<void>
}

/** The networks of a model of several, by their place in its config. One is lent at a time: it may be opened for that, and closed after. */
export interface Networks {
  readonly count: number
  lend<T>(index: number, work: (network: Predictor) => Promise<T>): Promise<T>
  /** Opens it once to know. */
  facts(index: number): Promise<NetworkFacts>
}
