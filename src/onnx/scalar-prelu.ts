import { create } from '@bufbuild/protobuf'
import { dropUnreadWeights, makeNode, weightsOf } from './graph.js'
import { AttributeSchema, type Graph } from './onnx_pb.js'
import { dimsOf, elementBytes, FLOAT } from './tensor-bytes.js'

const FLOAT_ATTRIBUTE = 1

/**
 * A PRelu whose slope is one number is a LeakyRelu, which engines run without broadcasting (torch's `nn.PReLU()` has one
 * slope unless told otherwise). Replaces each of them; gives how many.
 */
export function rewriteScalarPrelus(graph: Graph): number {
  const weights = weightsOf(graph)
  let count = 0
  graph.node = graph.node.map((node) => {
    const slope = node.opType === 'PRelu' && node.domain === '' ? weights.get(node.input[1]!) : undefined
    const bytes = slope?.dataType === FLOAT && dimsOf(slope).every((n) => n === 1) ? elementBytes(slope) : undefined
    if (!bytes) return node
    count += 1
    const leaky = makeNode('LeakyRelu', [node.input[0]!], node.output[0]!)
    const f = new Float32Array(new Uint8Array(bytes).buffer)[0]!
    leaky.attribute.push(create(AttributeSchema, { name: 'alpha', type: FLOAT_ATTRIBUTE, f }))
    return leaky
  })
  if (count > 0) dropUnreadWeights(graph)
  return count
}
