/** What a network for pictures does first to its pixels, read from its graph: whether it was made for bytes. */
import { weightsOf } from './graph.js'
import type { Model, Node, Tensor } from './onnx_pb.js'
import { dimsOf, elementBytes, FLOAT } from './tensor-bytes.js'

/** Steps that move or repeat pixels and leave their scale. */
const SHAPING: ReadonlySet<string> = new Set([
  ...[
    'Cast',
    'Transpose',
    'Unsqueeze',
    'Squeeze',
    'Reshape',
    'Resize',
    'Pad',
    'Identity',
    'Slice',
    'Concat',
    'Expand',
    'Tile',
  ],
])
const SCALING: ReadonlySet<string> = new Set([
  'Sub',
  'Add',
  'Mul',
  'Div',
  'BatchNormalization',
  'InstanceNormalization',
])
/** Means of pixels between 0 and 1 lie below, those of bytes above. */
const BETWEEN = 1.5

/**
 * `bytes`: the graph subtracts means of bytes, or divides by 255; `unit`: it subtracts means of pixels between 0 and 1.
 * Undefined: it does neither before its first layer, so that its caller does.
 */
export function scaleOfPixels({ graph }: Model, input: string): 'bytes' | 'unit' | undefined {
  if (!graph) return undefined
  const weights = weightsOf(graph)
  const pixels = new Set([input])
  for (const node of graph.node) {
    const from = node.input.find((name) => pixels.has(name))
    if (from === undefined) continue
    if (SHAPING.has(node.opType)) for (const output of node.output) pixels.add(output)
    else if (SCALING.has(node.opType)) {
      const said = scaleIn(node, from, weights)
      if (said) return said
      for (const output of node.output) pixels.add(output)
    }
  }
  return undefined
}

function scaleIn(node: Node, from: string, weights: ReadonlyMap<string, Tensor>): 'bytes' | 'unit' | undefined {
  const other = node.input.find((name) => name !== from)
  const values = other === undefined ? undefined : fewValues(weights.get(other))
  if (!values) return undefined
  const largest = Math.max(...values.map(Math.abs))
  if (node.opType === 'Sub' || node.opType === 'Add')
    return largest === 0 ? undefined : largest > BETWEEN ? 'bytes' : 'unit'
  const divisor = node.opType === 'Div' ? largest : node.opType === 'Mul' ? 1 / largest : 0
  return divisor > 100 && divisor < 300 ? 'bytes' : undefined
}

/** One number, or one a channel. */
function fewValues(tensor: Tensor | undefined): number[] | undefined {
  if (!tensor || tensor.dataType !== FLOAT) return undefined
  const count = dimsOf(tensor).reduce((product, n) => product * n, 1)
  const bytes = count === 1 || count === 3 ? elementBytes(tensor) : undefined
  return bytes && [...new Float32Array(new Uint8Array(bytes).buffer)]
}
