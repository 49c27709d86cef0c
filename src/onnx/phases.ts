/**
 * Outputs of a rewritten network that are phases of a transposed convolution put between each other (conv-transpose.ts).
 * Who takes such an output apart again, voxel by voxel, can have the phases as they are: putting hundreds of megabytes of
 * scores between each other takes as long as the convolution that made them.
 */
import { create } from '@bufbuild/protobuf'
import type { Phases } from '../contract/tensor.js'
import { dropUnreadNodes, dropUnreadWeights } from './graph.js'
import { type Model, ValueInfoSchema } from './onnx_pb.js'

/** Makes `phases` the only outputs of `model`, in place. */
export function endInPhases(model: Model, { tensors }: Phases): void {
  const graph = model.graph!
  graph.output = tensors.map((name) => create(ValueInfoSchema, { name }))
  dropUnreadNodes(graph)
  dropUnreadWeights(graph)
}
