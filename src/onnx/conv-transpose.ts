/**
 * ConvTranspose as what it is. Output voxel o of a transposed convolution with stride s gets input voxel i through kernel
 * tap j where o + pad - j*dilation = i*s. So all outputs with the same remainder r = o mod s (a phase) see the input
 * through the same few taps, which is an ordinary convolution at the input's own size; the output is the phases of all
 * axes put between each other (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016).
 * Engines are good at convolutions, and some are slow at ConvTranspose, above all in 3-D.
 *
 * `merged`: one convolution makes the channels of all phases; taps that a phase has not are zeros. `phases`: one
 * convolution a phase, without zeros: less to compute, more to call.
 */
import type { Phases } from '../contract/tensor.js'
import {
  dropUnreadWeights,
  findAttribute,
  intAttribute,
  intsAttribute,
  makeNode,
  textAttribute,
  weightsOf,
} from './graph.js'
import type { Graph, Node, Tensor } from './onnx_pb.js'
import { dimsOf, ELEMENT_BYTES, elementBytes, int64Tensor, weightLike } from './tensor-bytes.js'

export type ConvTransposeForm = 'merged' | 'phases'

/** Zeros in the merged kernel may not make the weights of a layer larger than this many times. */
const MAX_GROWTH = 16

/**
 * Replaces each ConvTranspose of the graph whose form is known and exactly expressible; gives how many. Left as they are:
 * weights that the graph computes, `output_shape`, and strides of one alone (nothing to gain). `phased` gets those outputs of
 * the network that are nothing but phases put between each other.
 */
export function rewriteConvTransposes(graph: Graph, form: ConvTransposeForm, phased?: Map<string, Phases>): number {
  const weights = weightsOf(graph)
  let count = 0
  graph.node = graph.node.flatMap((node) => {
    const layer = node.opType === 'ConvTranspose' && node.domain === '' ? readLayer(node, weights) : undefined
    if (!layer) return [node]
    const made = rewrite(layer, form, `aidant_up${count}_`)
    count += 1
    graph.initializer.push(...made.weights)
    if (made.phases && graph.output.some(({ name }) => name === node.output[0])) {
      phased?.set(node.output[0]!, { strides: layer.axes.map(({ stride }) => stride), tensors: made.phases })
    }
    return made.nodes
  })
  if (count > 0) dropUnreadWeights(graph)
  return count
}

interface Axis {
  readonly stride: number
  readonly kernel: number
  /** What the output is longer than `input * stride`, in voxels; may be negative. */
  readonly excess: number
  /** By phase: which kernel tap reads the input how many voxels further on. */
  readonly taps: readonly (readonly { readonly tap: number; readonly offset: number }[])[]
}

interface Layer {
  readonly node: Node
  readonly kernel: Tensor
  readonly bytes: Uint8Array
  readonly bias: Tensor | undefined
  readonly groups: number
  readonly inChannels: number
  /** Output channels of one group. */
  readonly outChannels: number
  readonly axes: readonly Axis[]
}

function readLayer(node: Node, weights: ReadonlyMap<string, Tensor>): Layer | undefined {
  const kernel = weights.get(node.input[1]!)
  const bytes = kernel && elementBytes(kernel)
  const bias = node.input[2] ? weights.get(node.input[2]) : undefined
  if (!kernel || !bytes || (node.input[2] && !(bias && elementBytes(bias)))) return undefined
  const [inChannels = 0, outChannels = 0, ...shape] = dimsOf(kernel)
  const axes = readAxes(node, shape)
  if (!axes || inChannels === 0 || outChannels === 0) return undefined
  const groups = intAttribute(node, 'group', 1)
  if (inChannels % groups !== 0) return undefined
  return { node, kernel, bytes, bias, groups, inChannels, outChannels, axes }
}

/** Undefined where the output's size is given outright, or no axis has a stride. */
function readAxes(node: Node, shape: readonly number[]): readonly Axis[] | undefined {
  const rank = shape.length
  if (rank === 0 || findAttribute(node, 'output_shape')) return undefined
  const ones = shape.map(() => 1)
  const zeros = shape.map(() => 0)
  const strides = intsAttribute(node, 'strides') ?? ones
  const dilations = intsAttribute(node, 'dilations') ?? ones
  const added = intsAttribute(node, 'output_padding') ?? zeros
  const autoPad = textAttribute(node, 'auto_pad', 'NOTSET')
  if (strides.every((stride) => stride === 1)) return undefined
  const pads = autoPad === 'NOTSET' ? (intsAttribute(node, 'pads') ?? [...zeros, ...zeros]) : undefined
  return shape.map((kernel, axis) => {
    const stride = strides[axis]!
    const reach = (kernel - 1) * dilations[axis]! + 1
    const [before, after] = pads
      ? [pads[axis]!, pads[axis + rank]!]
      : autoPads(autoPad, Math.max(0, reach + added[axis]! - stride))
    const taps = Array.from({ length: stride }, (_, phase) =>
      Array.from({ length: kernel }, (_, tap) => ({
        tap,
        offset: (phase + before - tap * dilations[axis]!) / stride,
      })).filter(({ offset }) => Number.isInteger(offset)),
    )
    return { stride, kernel, taps, excess: reach - before - after + added[axis]! - stride }
  })
}

/** VALID pads nothing; SAME makes the output `input * stride` long, an odd voxel going to the named side. */
function autoPads(autoPad: string, total: number): [number, number] {
  if (autoPad === 'VALID') return [0, 0]
  const small = Math.floor(total / 2)
  return autoPad === 'SAME_UPPER' ? [small, total - small] : [total - small, small]
}

/** The convolution along one axis: how long its kernel is and what is padded, for the phases it serves. */
interface Reach {
  readonly low: number
  readonly length: number
  readonly before: number
  readonly after: number
}

function reachOf({ stride, excess, taps }: Axis, phases: readonly number[]): Reach {
  const offsets = phases.flatMap((phase) => taps[phase]!.map(({ offset }) => offset))
  // voxels that each phase has beyond the input's
  const more = Math.ceil(excess / stride)
  // A convolution pads nothing negative: its kernel is made longer instead, with zeros.
  const low = Math.min(0, ...offsets)
  const high = Math.max(-more, low, ...offsets)
  return { low, length: high - low + 1, before: -low, after: more + high }
}

interface Rewritten {
  readonly nodes: Node[]
  readonly weights: Tensor[]
  /** The tensors of the phases, where the output is nothing but these put between each other. */
  phases?: readonly string[]
}

function rewrite(layer: Layer, form: ConvTransposeForm, prefix: string): Rewritten {
  const { axes, groups, outChannels } = layer
  const phasesOf = axes.map(({ stride }) => [...Array(stride).keys()])
  const every = combinations(phasesOf)
  const made: Rewritten = { nodes: [], weights: [] }
  const all = `${prefix}all`
  const isWhole = surplusOf(axes).every((n) => n === 0)
  if (form === 'merged' && growth(axes) <= MAX_GROWTH) {
    convolve(layer, every, all, made)
    // channels lie as [group, phase, channel]: for the shuffle a group is as good as one more image of the batch
    shuffle(layer, { all, prefix, batchOf: groups, channels: outChannels }, made)
    if (isWhole && groups === 1) made.phases = [all]
  } else {
    const outputs = every.map((phase, i) => {
      convolve(layer, [phase], `${prefix}phase${i}`, made)
      return `${prefix}phase${i}`
    })
    made.nodes.push(makeNode('Concat', outputs, all, { axis: 1 }))
    shuffle(layer, { all, prefix, batchOf: 1, channels: groups * outChannels }, made)
    if (isWhole) made.phases = outputs
  }
  return made
}

function growth(axes: readonly Axis[]): number {
  return axes.reduce((product, axis) => {
    const { length } = reachOf(axis, [...Array(axis.stride).keys()])
    return (product * length * axis.stride) / axis.kernel
  }, 1)
}

/** One convolution for `phases`: output channels are [group, phase, channel], its size is that of one phase. */
function convolve(layer: Layer, phases: readonly (readonly number[])[], output: string, made: Rewritten): void {
  const { node, kernel, bias, axes, groups, inChannels, outChannels } = layer
  const reaches = axes.map((axis, i) => reachOf(axis, [...new Set(phases.map((phase) => phase[i]!))]))
  const inEach = inChannels / groups
  const shape = reaches.map(({ length }) => length)
  const size = product(shape)
  const from = wordsOf(layer.bytes, kernel)
  const to = new (from.constructor as WordsConstructor)(groups * phases.length * outChannels * inEach * size)
  const fromSize = product(axes.map((axis) => axis.kernel))
  for (const [p, phase] of phases.entries()) {
    const pairs = tapPairs(axes, phase, reaches)
    for (let g = 0; g < groups; g++) {
      for (let out = 0; out < outChannels; out++) {
        for (let into = 0; into < inEach; into++) {
          const source = ((g * inEach + into) * outChannels + out) * fromSize
          const target = (((g * phases.length + p) * outChannels + out) * inEach + into) * size
          for (const [a, b] of pairs) to[target + b] = from[source + a]!
        }
      }
    }
  }
  const name = `${output}_w`
  const dims = [groups * phases.length * outChannels, inEach, ...shape]
  made.weights.push(weightLike(kernel, name, dims, new Uint8Array(to.buffer)))
  const inputs = [node.input[0]!, name]
  if (bias) {
    made.weights.push(repeatBias(bias, `${output}_b`, groups, phases.length))
    inputs.push(`${output}_b`)
  }
  const pads = [...reaches.map(({ before }) => before), ...reaches.map(({ after }) => after)]
  made.nodes.push(makeNode('Conv', inputs, output, { kernel_shape: shape, pads, group: groups }))
}

/** Where each tap of a phase lies in the old kernel and in the new one, all axes together, last axis fastest. */
function tapPairs(axes: readonly Axis[], phase: readonly number[], reaches: readonly Reach[]): [number, number][] {
  return axes.reduce<[number, number][]>(
    (pairs, axis, i) =>
      pairs.flatMap(([a, b]) =>
        axis.taps[phase[i]!]!.map(({ tap, offset }): [number, number] => [
          a * axis.kernel + tap,
          b * reaches[i]!.length + offset - reaches[i]!.low,
        ]),
      ),
    [[0, 0]],
  )
}

type Words = Uint16Array | Uint32Array | BigUint64Array
type WordsConstructor = new (length: number) => Words

/** Elements as words: moving them needs their size alone. Copied, since a file does not align them. */
function wordsOf(bytes: Uint8Array, { dataType }: Tensor): Words {
  const { buffer } = new Uint8Array(bytes)
  const each = ELEMENT_BYTES[dataType]
  return each === 2 ? new Uint16Array(buffer) : each === 4 ? new Uint32Array(buffer) : new BigUint64Array(buffer)
}

function repeatBias(bias: Tensor, name: string, groups: number, times: number): Tensor {
  const bytes = elementBytes(bias)!
  const each = bytes.byteLength / groups
  const out = new Uint8Array(bytes.byteLength * times)
  for (let g = 0; g < groups; g++)
    for (let t = 0; t < times; t++) out.set(bytes.subarray(g * each, (g + 1) * each), (g * times + t) * each)
  return weightLike(bias, name, [out.byteLength / ELEMENT_BYTES[bias.dataType]!], out)
}

interface Shuffled {
  /** The tensor of all phases: [batch, batchOf * phase * channels, ...sizes]. */
  readonly all: string
  readonly prefix: string
  readonly batchOf: number
  readonly channels: number
}

/**
 * Puts the phases between each other, last axis first: each step moves one axis of phases behind the sizes before it,
 * which engines do as runs of copies, where one transposition of all axes would move single elements.
 */
function shuffle({ node, axes }: Layer, { all, prefix, batchOf, channels }: Shuffled, made: Rewritten): void {
  const rank = axes.length
  const steps = new ShapeSteps(prefix, made)
  const sizes = steps.sizesOf(all, rank)
  const constant = (n: number) => steps.constant(n)
  let current = all
  for (let axis = rank - 1; axis >= 0; axis--) {
    const { stride } = axes[axis]!
    if (stride === 1) continue
    const inner = steps.product([constant(channels), ...sizes.slice(1, axis + 2)])
    const behind = axes.slice(axis + 1).flatMap((after, i) => [sizes[axis + 2 + i]!, constant(after.stride)])
    const shape = [constant(-1), constant(stride), inner, ...(behind.length > 0 ? [steps.product(behind)] : [])]
    const cut = steps.reshape(current, shape, `${prefix}cut${axis}`)
    current = `${prefix}turned${axis}`
    made.nodes.push(makeNode('Transpose', [cut], current, { perm: shape.length === 3 ? [0, 2, 1] : [0, 2, 1, 3] }))
  }
  const whole = [
    sizes[0]!,
    constant(batchOf * channels),
    ...axes.map(({ stride }, i) => steps.product([sizes[i + 1]!, constant(stride)])),
  ]
  const surplus = surplusOf(axes)
  const output = node.output[0]!
  if (surplus.every((n) => n === 0)) {
    steps.reshape(current, whole, output)
    return
  }
  const joined = steps.reshape(current, whole, `${prefix}joined`)
  const cropped = surplus.flatMap((n, i) => (n > 0 ? [[i + 2, -n] as const] : []))
  const lists = [cropped.map(() => 0), cropped.map(([, end]) => end), cropped.map(([axis]) => axis)]
  made.nodes.push(makeNode('Slice', [joined, ...lists.map((list) => steps.list(list))], output))
}

/** Phases are of one length: where the last of them is not whole, so much of its end is cut off. */
function surplusOf(axes: readonly Axis[]): number[] {
  return axes.map(({ stride, excess }) => Math.ceil(excess / stride) * stride - excess)
}

/** Sizes that are known only when the network runs, as the one-element tensors of shape arithmetic. */
class ShapeSteps {
  readonly #constants = new Map<string, string>()
  #count = 0

  constructor(
    private readonly prefix: string,
    private readonly made: Rewritten,
  ) {}

  /** The batch and the `rank` spatial sizes of a tensor. */
  sizesOf(tensor: string, rank: number): string[] {
    const shape = `${this.prefix}shape`
    this.made.nodes.push(makeNode('Shape', [tensor], shape))
    return [0, ...Array(rank).keys()].map((n, i) => {
      const name = `${this.prefix}size${i}`
      this.made.nodes.push(makeNode('Gather', [shape, this.constant(i === 0 ? 0 : n + 2)], name, { axis: 0 }))
      return name
    })
  }

  constant(value: number): string {
    return this.list([value])
  }

  list(values: readonly number[]): string {
    const known = this.#constants.get(values.join())
    if (known) return known
    const name = `${this.prefix}n${this.#constants.size}`
    this.#constants.set(values.join(), name)
    this.made.weights.push(int64Tensor(name, values))
    return name
  }

  product(factors: readonly string[]): string {
    return factors.reduce((left, right) => {
      const name = `${this.prefix}p${this.#count++}`
      this.made.nodes.push(makeNode('Mul', [left, right], name))
      return name
    })
  }

  reshape(tensor: string, shape: readonly string[], output: string): string {
    const name = `${this.prefix}s${this.#count++}`
    this.made.nodes.push(makeNode('Concat', shape, name, { axis: 0 }), makeNode('Reshape', [tensor, name], output))
    return output
  }
}

function product(numbers: readonly number[]): number {
  return numbers.reduce((left, right) => left * right, 1)
}

function combinations(lists: readonly (readonly number[])[]): number[][] {
  return lists.reduce<number[][]>((found, list) => found.flatMap((start) => list.map((item) => [...start, item])), [[]])
}
