/** Small steps on an ONNX graph: making nodes, reading attributes, finding weights, dropping what nobody reads. */
import { create } from '@bufbuild/protobuf'
import { type Attribute, AttributeSchema, type Graph, type Node, NodeSchema, type Tensor } from './onnx_pb.js'
import { FLOAT, floatTensor } from './tensor-bytes.js'

const INT = 2
const INTS = 7

/** A node of the standard operator set. Whole numbers and lists of them are all the attributes that are made here. */
export function makeNode(
  opType: string,
  input: readonly string[],
  output: string,
  attributes: Readonly<Record<string, number | readonly number[]>> = {},
): Node {
  const attribute: Attribute[] = Object.entries(attributes).map(([name, value]) =>
    create(
      AttributeSchema,
      typeof value === 'number'
        ? { name, type: INT, i: BigInt(value) }
        : { name, type: INTS, ints: value.map((n) => BigInt(n)) },
    ),
  )
  return create(NodeSchema, { opType, name: output, input: [...input], output: [output], attribute })
}

export function findAttribute(node: Node, name: string): Attribute | undefined {
  return node.attribute.find((attribute) => attribute.name === name)
}

export function intAttribute(node: Node, name: string, otherwise: number): number {
  const found = findAttribute(node, name)
  return found ? Number(found.i) : otherwise
}

export function intsAttribute(node: Node, name: string): number[] | undefined {
  return findAttribute(node, name)?.ints.map(Number)
}

export function textAttribute(node: Node, name: string, otherwise: string): string {
  const found = findAttribute(node, name)
  return found ? new TextDecoder().decode(found.s) : otherwise
}

/**
 * Weights by name: the graph's initializers, its Constant nodes, either of them kept as float16 and cast to float, and
 * all of these under another name (Identity: exporters keep weights that are equal once).
 */
export function weightsOf(graph: Graph): ReadonlyMap<string, Tensor> {
  const weights = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
  for (const node of graph.node) {
    if (node.opType === 'Constant') {
      const value = findAttribute(node, 'value')?.t
      if (value) weights.set(node.output[0]!, value)
    } else if (node.opType === 'Cast' && intAttribute(node, 'to', 0) === FLOAT) {
      const half = weights.get(node.input[0]!)
      const whole = half && floatTensor(half)
      if (whole) weights.set(node.output[0]!, whole)
    } else if (node.opType === 'Identity' && weights.has(node.input[0]!)) {
      weights.set(node.output[0]!, weights.get(node.input[0]!)!)
    }
  }
  return weights
}

/** Removes weights that no node reads any more; a graph inside a node may read the outer one's. */
export function dropUnreadWeights(graph: Graph): void {
  const read = new Set(graph.output.map(({ name }) => name))
  collectReads(graph, read)
  graph.initializer = graph.initializer.filter(({ name }) => read.has(name))
}

/** Removes nodes whose outputs no node reads, and then those that only they read. */
export function dropUnreadNodes(graph: Graph): void {
  for (let before = -1; before !== graph.node.length; ) {
    before = graph.node.length
    const read = new Set<string>()
    collectReads(graph, read)
    graph.node = graph.node.filter(({ output }) => output.some((name) => read.has(name)))
  }
}

function collectReads(graph: Graph, read: Set<string>): void {
  for (const node of graph.node) {
    for (const name of node.input) read.add(name)
    for (const { g, graphs } of node.attribute)
      for (const inner of g ? [g, ...graphs] : graphs) collectReads(inner, read)
  }
  for (const { name } of graph.output) read.add(name)
}
