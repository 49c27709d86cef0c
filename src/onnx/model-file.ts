/** An ONNX file as messages and back, its external data taken in. */
import { open, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { clone, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Graph, type Model, ModelSchema, type Tensor } from './onnx_pb.js'

const DEFAULT_LOCATION = 0
const EXTERNAL = 1

/**
 * The model in `path`, with the weights that lie in files beside it read in, or undefined when file and weights together
 * are more than `maxBytes`. The paths of external data must have been checked (see registry/onnx-external-data.ts).
 */
export async function readModelFile(path: string, maxBytes: number): Promise<Model | undefined> {
  const { size } = await stat(path)
  if (size > maxBytes) return undefined
  const model = fromBinary(ModelSchema, await readFile(path))
  const external = (model.graph ? tensorsOf(model.graph) : []).filter(({ dataLocation }) => dataLocation === EXTERNAL)
  let total = size
  for (const tensor of external) {
    const { location, offset, length } = Object.fromEntries(tensor.externalData.map(({ key, value }) => [key, value]))
    if (location === undefined) return undefined
    const file = await open(join(dirname(path), location), 'r')
    try {
      const start = Number(offset ?? 0)
      const bytes = Number(length ?? (await file.stat()).size - start)
      total += bytes
      if (!(bytes >= 0) || total > maxBytes) return undefined
      const data = new Uint8Array(bytes)
      const { bytesRead } = await file.read(data, 0, bytes, start)
      if (bytesRead !== bytes) return undefined
      tensor.rawData = data
      tensor.externalData = []
      tensor.dataLocation = DEFAULT_LOCATION
    } finally {
      await file.close()
    }
  }
  return model
}

export function writeModel(model: Model): Uint8Array {
  return toBinary(ModelSchema, model)
}

/** A copy to work on: weights are shared, since no rewrite changes one in place. */
export function copyModel(model: Model): Model {
  return clone(ModelSchema, model)
}

function tensorsOf(graph: Graph): Tensor[] {
  const inNodes = graph.node.flatMap(({ attribute }) =>
    attribute.flatMap(({ t, g, graphs }) => [...(t ? [t] : []), ...[...(g ? [g] : []), ...graphs].flatMap(tensorsOf)]),
  )
  return [...graph.initializer, ...inNodes]
}
