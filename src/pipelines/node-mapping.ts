/** Which tensor of the network is which field of the pipeline. Configs write the pairs either way round. */

import type { TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'

export interface NodeMapping {
  /** Inputs in the network's order, the image's first. */
  readonly inputs: readonly { readonly spec: TensorSpec; readonly field: string }[]
  /** The main output first. */
  readonly outputs: readonly { readonly spec: TensorSpec; readonly field: string }[]
}

export interface MappingSource {
  readonly pairs: Readonly<Record<string, string>>
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
  /** The field that feeds the network when nothing else says so. */
  readonly imageField: string
  /** Fields that post-transforms and the writer work on, in order: they name the output when the pairs do not. */
  readonly postFields: readonly string[]
}

/** AIAA's names for the n-th tensor of a network whose real names the config does not say. */
const NUMBERED = /^NV_MODEL_(INPUT|OUTPUT)(?:_(\d+))?$/
const DEFAULT_OUTPUT_FIELD = 'model'

/** Throws BAD_MODEL_CONFIG when an input of the network gets no field, naming the tensor. */
export function resolveMapping(source: MappingSource): NodeMapping {
  const { pairs, inputs, outputs, imageField, postFields } = source
  const inputFields = new Map<string, string>()
  const outputFields = new Map<string, string>()
  for (const [a, b] of Object.entries(pairs)) {
    for (const [tensor, field] of [
      [a, b],
      [b, a],
    ] as const) {
      const input = tensorNamed(tensor, 'INPUT', inputs)
      const output = tensorNamed(tensor, 'OUTPUT', outputs)
      if (!input && !output) continue
      // {"input": "image"} for a network whose own tensor is called image: the pair names no tensor of it
      const meant = tensor === imageField && !postFields.includes(field) ? tensor : field
      if (input) inputFields.set(input.name, meant)
      else if (output) outputFields.set(output.name, field)
      break
    }
  }
  const free = inputs.filter(({ name }) => !inputFields.has(name))
  if (free.length === 1 && ![...inputFields.values()].includes(imageField)) {
    inputFields.set(free[0]!.name, imageField)
  } else if (free.length > 0) {
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `node_mapping gives no field to the network's input ${free.map(({ name }) => `'${name}'`).join(', ')}`,
      { hint: 'pair every input with a field, as {"tensor": "field"}' },
    )
  }
  const main = outputs.find(({ name }) => outputFields.has(name)) ?? outputs[0]
  if (!main) throw new AppError('BAD_MODEL', 'the network has no outputs')
  outputFields.set(main.name, outputField(outputFields.get(main.name), source))
  const mapped = inputs.map((spec) => ({ spec, field: inputFields.get(spec.name)! }))
  const first = mapped.findIndex(({ field }) => field === imageField)
  if (first > 0) mapped.unshift(...mapped.splice(first, 1))
  const rest = outputs.filter((spec) => spec !== main && outputFields.has(spec.name))
  return {
    inputs: mapped,
    outputs: [main, ...rest].map((spec) => ({ spec, field: outputFields.get(spec.name)! })),
  }

  function outputField(named: string | undefined, { imageField: image }: MappingSource): string {
    if (named !== undefined && (postFields.length === 0 || postFields.includes(named))) return named
    const used = postFields.find((field) => field !== image && ![...inputFields.values()].includes(field))
    if (named !== undefined && used !== undefined)
      throw new AppError(
        'BAD_MODEL_CONFIG',
        `the network's output is called '${named}', but post_transforms and the writer take '${used}'`,
        { hint: 'give inference.output, or the pair in node_mapping, the name of the field they take' },
      )
    return used ?? named ?? DEFAULT_OUTPUT_FIELD
  }
}

function tensorNamed(name: string, kind: 'INPUT' | 'OUTPUT', specs: readonly TensorSpec[]): TensorSpec | undefined {
  const exact = specs.find((spec) => spec.name === name)
  if (exact) return exact
  const numbered = NUMBERED.exec(name)
  return numbered?.[1] === kind ? specs[Number(numbered[2] ?? 0)] : undefined
}
