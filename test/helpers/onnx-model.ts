/** Small ONNX networks made in memory: one input x, one output y. */
import { create } from '@bufbuild/protobuf'
import {
  GraphSchema,
  type Model,
  ModelSchema,
  type Node,
  OperatorSetSchema,
  type Tensor,
  ValueInfoSchema,
} from '../../src/onnx/onnx_pb.js'
import { weightLike } from '../../src/onnx/tensor-bytes.js'

const FLOAT = 1

/** A float weight of fixed values between -1 and 1, another row of them for each name. */
export function weight(name: string, dims: readonly number[]): Tensor {
  const length = dims.reduce((product, n) => product * n, 1)
  const seed = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0)
  const values = Float32Array.from({ length }, (_, i) => Math.sin(seed + i * 3.7))
  return weightLike({ dataType: FLOAT } as Tensor, name, dims, new Uint8Array(values.buffer))
}

/** `shape` is the input's: a number where a size is fixed, a name where it is free. */
export function makeModel(node: Node[], initializer: Tensor[], shape: readonly (number | string)[]): Model {
  const input = create(ValueInfoSchema, { name: 'x', type: tensorType(shape) })
  const output = create(ValueInfoSchema, { name: 'y', type: tensorType(shape.map((_, i) => `out${i}`)) })
  return create(ModelSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetSchema, { domain: '', version: 17n })],
    graph: create(GraphSchema, { name: 'made', node, initializer, input: [input], output: [output] }),
  })
}

function tensorType(shape: readonly (number | string)[]) {
  const dim = shape.map((n) => (typeof n === 'number' ? { dimValue: BigInt(n) } : { dimParam: n }))
  return { tensorType: { elemType: FLOAT, shape: { dim } } }
}
