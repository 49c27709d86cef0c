/** Says in words what is wrong with what a network was fed, before the engine says it in its own. */

import type { Tensor, TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { elementCount } from './tensor-conversion.js'

/** `image float32 [n,1,x,y,z]`; free dimensions by their name or `?`. */
export function describeSpec({ name, type, dims }: TensorSpec): string {
  return `'${name}' ${type} [${dims.map((d) => d ?? '?').join(',')}]`
}

export function describeTensor(name: string, { dims, data }: Tensor): string {
  return `'${name}' ${data.constructor.name.replace('Array', '').toLowerCase()} [${dims.join(',')}]`
}

/** Throws BAD_MODEL naming the tensor, its type and shape, and what was fed instead. */
export function checkFeeds(inputs: readonly TensorSpec[], feeds: Readonly<Record<string, Tensor>>): void {
  const wanted = inputs.map(describeSpec).join(', ')
  const known = new Set(inputs.map(({ name }) => name))
  const stranger = Object.keys(feeds).find((name) => !known.has(name))
  if (stranger !== undefined)
    throw new AppError('BAD_MODEL', `the network has no input '${stranger}'; its inputs are ${wanted}`, {
      hint: 'correct node_mapping in the model config',
    })
  for (const spec of inputs) {
    const tensor = feeds[spec.name]
    if (!tensor)
      throw new AppError('BAD_MODEL', `the network's input ${describeSpec(spec)} was not fed`, {
        hint: 'name a field for it in node_mapping in the model config',
      })
    const { dims } = tensor
    const fits =
      dims.length === spec.dims.length && spec.dims.every((d, axis) => typeof d !== 'number' || d === dims[axis])
    if (!fits)
      throw new AppError(
        'BAD_MODEL',
        `the network wants input ${describeSpec(spec)} but was fed ${describeTensor(spec.name, tensor)}`,
        { hint: fitHint(spec, dims) },
      )
    if (elementCount(dims) !== tensor.data.length)
      throw new RangeError(`tensor ${spec.name}: ${tensor.data.length} values for ${dims.join('x')}`)
  }
}

function fitHint(spec: TensorSpec, dims: readonly number[]): string {
  if (dims.length !== spec.dims.length)
    return `the transforms give ${dims.length} axes, the network wants ${spec.dims.length}: check the channel and image format transforms`
  if (typeof spec.dims[1] === 'number' && spec.dims[1] !== dims[1])
    return `the transforms give ${dims[1]} channels, the network wants ${spec.dims[1]}`
  return 'resize to, or scan with, the grid that the network was made for'
}
