/**
 * A network that ends in labels instead of scores: what the config would do with the scores of a voxel is appended to the
 * graph, so that one number a voxel leaves it and not one a class.
 */
import { create } from '@bufbuild/protobuf'
import type { LabelEnd } from '../contract/tensor.js'
import { dropUnreadNodes, dropUnreadWeights, intAttribute, makeNode } from './graph.js'
import {
  type Graph,
  GraphSchema,
  type Model,
  ModelSchema,
  OperatorSetSchema,
  TensorSchema,
  ValueInfoSchema,
} from './onnx_pb.js'
import { FLOAT } from './tensor-bytes.js'

/** Softmax along one axis, and comparisons of floats, are in every operator set from here on. */
const OLDEST_OPSET = 13n
const UINT8 = 2
const INT32 = 6
const CHANNELS = 1

export interface LabelOutput {
  readonly name: string
  readonly type: 'uint8' | 'int32'
}

/**
 * Makes labels the only output of `model`, in place: of its output `scores`, [batch, channels, ...] of `rank` dimensions,
 * the channel with the highest score, the first of equal ones, or per channel whether it reaches a threshold. A softmax before an argmax goes, since
 * it keeps the order; so does all that only made other outputs. Undefined where the graph is not so.
 */
export function endInLabels(
  model: Model,
  { scores, rank, channels }: { readonly scores: string; readonly rank: number; readonly channels: number | undefined },
  end: LabelEnd,
): LabelOutput | undefined {
  const opset = model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 0n
  const { graph } = model
  if (!graph || opset < OLDEST_OPSET || !graph.output.some(({ name }) => name === scores)) return undefined
  const name = 'aidant_labels'
  const type = end.kind === 'threshold' || (channels ?? Infinity) <= 256 ? 'uint8' : 'int32'
  if (end.kind === 'argmax') {
    const from = beforeSoftmax(graph, scores, rank)
    graph.node.push(makeNode('ArgMax', [from], `${name}_wide`, { axis: CHANNELS, keepdims: 1 }))
  } else {
    const from = new Uint8Array(Float32Array.of(leastFloat(end.from)).buffer)
    graph.initializer.push(create(TensorSchema, { name: `${name}_from`, dataType: FLOAT, rawData: from }))
    graph.node.push(makeNode('GreaterOrEqual', [scores, `${name}_from`], `${name}_wide`))
  }
  graph.node.push(makeNode('Cast', [`${name}_wide`], name, { to: type === 'uint8' ? UINT8 : INT32 }))
  graph.output = [create(ValueInfoSchema, { name })]
  dropUnreadNodes(graph)
  dropUnreadWeights(graph)
  return { name, type }
}

/** A network that is nothing but such an end, of scores `x` of fixed `dims`: to ask an engine what it makes of them. */
export function endAlone(
  dims: readonly number[],
  end: LabelEnd,
): { readonly model: Model; readonly labels: LabelOutput } {
  const dim = dims.map((n) => ({ dimValue: BigInt(n) }))
  const type = { tensorType: { elemType: FLOAT, shape: { dim } } }
  const model = create(ModelSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetSchema, { domain: '', version: OLDEST_OPSET })],
    graph: create(GraphSchema, {
      name: 'end',
      node: [makeNode('Identity', ['x'], 'y')],
      input: [create(ValueInfoSchema, { name: 'x', type })],
      output: [create(ValueInfoSchema, { name: 'y', type })],
    }),
  })
  return { model, labels: endInLabels(model, { scores: 'y', rank: dims.length, channels: dims[1] }, end)! }
}

/** What a softmax over the channels is made of, where the scores are one. */
function beforeSoftmax(graph: Graph, scores: string, rank: number): string {
  const last = graph.node.find(({ output }) => output[0] === scores)
  if (last?.domain !== '' || !['Softmax', 'LogSoftmax'].includes(last.opType)) return scores
  const axis = intAttribute(last, 'axis', -1)
  return (axis < 0 ? axis + rank : axis) === CHANNELS ? last.input[0]! : scores
}

/** The least float that is not below `value`: a float is at least the one exactly where it is at least the other. */
function leastFloat(value: number): number {
  const float = Math.fround(value)
  if (!(float < value)) return float
  const bits = new Int32Array(Float32Array.of(float).buffer)
  bits[0]! += float < 0 || Object.is(float, -0) ? -1 : 1
  return new Float32Array(bits.buffer)[0]!
}
