/**
 * Whether a model can serve before it does: its tensors fit its config, and it answers once, on zeros. A config says
 * much about a network in words; this is where the network itself is asked, and then the whole pipeline.
 */

import type { ModelConfig, ModelProof } from '../contract/model.js'
import type { Predictor, Tensor, TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { firstModel, planFirst } from '../pipelines/first-model.js'
import { twoParts } from '../pipelines/model-pipeline.js'
import { planModel } from '../pipelines/model-run.js'
import type { LoadedModel } from '../pipelines/run.js'
import { placedInFirst } from '../pipelines/several-networks.js'
import { type Answered, trialRun } from '../pipelines/trial-run.js'
import { describeSpec } from '../predictors/check-feeds.js'
import { OutOfMemoryError } from '../predictors/out-of-memory.js'
import { elementCount } from '../predictors/tensor-conversion.js'
import type { LoadedModels } from './load-model.js'

/** Rejects BAD_MODEL, naming the tensor and the config key that do not fit. `maxTrialValues` is the setting of that name. */
export async function proveModel(
  { model, parts }: Pick<LoadedModels, 'model' | 'parts'>,
  maxTrialValues: number,
): Promise<ModelProof> {
  if (model.ref.config.type === 'pipeline') {
    planModel(model)
    for (const part of twoParts(parts)) await proveOne(part, maxTrialValues)
  } else {
    await proveNetworks(model, maxTrialValues)
    const first = await firstModel(model)
    if (first) await proveFirst(first, maxTrialValues)
  }
  const { inputs, outputs, device } = model.predictor
  return { inputs: inputs.map(copySpec), outputs: outputs.map(copySpec), device }
}

const copySpec = ({ name, type, dims }: TensorSpec) => ({ name, type, dims: [...dims] })

/** Every network of a model of several is asked by itself, since only one of them may be open at a time. */
async function proveNetworks(model: LoadedModel, maxTrialValues: number): Promise<void> {
  const { ref, networks, predictor } = model
  const { networks: names = [], join } = ref.config.inference
  if (!networks) return proveOne(model, maxTrialValues)
  planModel(model)
  for (const [i, name] of names.entries())
    await networks.lend(i, async (network) => {
      try {
        checkAlike(predictor, network, join?.kind === 'labelMaps')
        await proveOne({ ...model, predictor: network, networks: undefined }, maxTrialValues, i)
      } catch (error) {
        throw error instanceof AppError ? withNetwork(error, name) : error
      }
    })
}

async function proveFirst(first: LoadedModel, maxTrialValues: number): Promise<void> {
  planFirst(first)
  try {
    await proveNetworks(first, maxTrialValues)
  } catch (error) {
    throw placedInFirst(error)
  }
}

function withNetwork(error: AppError, name: string): AppError {
  const hint = error.hint === undefined ? {} : { hint: error.hint }
  return new AppError(error.code, `network '${name.slice(0, 200)}': ${error.message}`, { ...hint, cause: error })
}

/** What has to be equal: free dimensions may have other names. Parts of a label map may give other labels under other names. */
function checkAlike(first: Predictor, other: Predictor, isPart: boolean): void {
  const shape = ({ name, type, dims }: TensorSpec) => {
    const fixed = dims.map((dim) => (typeof dim === 'number' ? dim : null))
    return JSON.stringify(isPart ? [type, fixed.slice(0, 2), fixed.length] : [name, type, fixed])
  }
  const [wanted, given] = [first, other].map(({ inputs, outputs }) => (isPart ? inputs : [...inputs, ...outputs]))
  const odd = wanted!.findIndex((spec, at) => !given![at] || shape(spec) !== shape(given![at]))
  if (odd < 0 && wanted!.length === given!.length) return
  const [want, got] = [wanted![odd] ?? wanted![0]!, given![odd] ?? given![0]!]
  throw new AppError(
    'BAD_MODEL',
    `its tensor ${describeSpec(got)} is not as that of the first network, ${describeSpec(want)}`,
    {
      hint: isPart
        ? 'parts of a label map see the same prepared image: their inputs must be alike'
        : 'only networks of the same inputs and outputs, such as the folds of one training, can be averaged or vote',
    },
  )
}

async function proveOne(model: LoadedModel, maxTrialValues: number, part?: number): Promise<void> {
  const { predictor, ref } = model
  checkNames(ref.config, predictor)
  const plan = planModel(model)
  if (plan.prompted) return trialRun(plan, { feeds: {}, results: {} }, maxTrialValues)
  const image = plan.mapping.inputs[0]?.spec
  if (!image) throw new AppError('BAD_MODEL', 'the network has no inputs')
  checkWindow(ref.config, image)
  const answered = await runOnZeros(ref.config, image, predictor)
  // where labels get numbers of their own, channels do not say how many there are
  const isPart = part !== undefined && ref.config.inference.join?.kind === 'labelMaps'
  if (isPart) checkPart(ref.config, part, predictor, answered.results)
  else if (!plan.post.some(({ traits }) => traits.renumbers)) checkOutput(ref.config, predictor, answered.results)
  await trialRun(plan, answered, maxTrialValues)
}

/** Its own labels, as many as it has channels, are the ones that its map may name. */
function checkPart({ inference }: ModelConfig, part: number, { outputs }: Predictor, results: Results): void {
  const { join } = inference
  const map = join?.kind === 'labelMaps' ? join.maps[part]! : {}
  const output = outputs[0]
  const { dims } = (output && results[output.name]) ?? { dims: [] }
  const channels = dims.length >= 4 ? dims[1]! : 1
  const beyond = Object.keys(map).find((own) => channels > 1 && Number(own) > channels)
  if (beyond !== undefined)
    throw new AppError(
      'BAD_MODEL',
      `config.inference.label_maps[${part}].labels names its label ${beyond}, and output ${describeSpec(output!)} gave [${dims.join(',')}]`,
      { hint: 'name labels that the network gives' },
    )
}

/** AIAA's names for tensors whose own names the config does not say; a network need not have them. */
const NUMBERED = /^NV_MODEL_(INPUT|OUTPUT)(_\d+)?$/

/** A pair that names no tensor would go unnoticed, and feed the wrong one later. */
function checkNames({ inference: { nodeMapping } }: ModelConfig, { inputs, outputs }: Predictor): void {
  const tensors = new Set([...inputs, ...outputs].map(({ name }) => name))
  for (const [left, right] of Object.entries(nodeMapping)) {
    if ([left, right].some((name) => tensors.has(name) || NUMBERED.test(name))) continue
    throw new AppError(
      'BAD_MODEL',
      `node_mapping pairs '${left}' with '${right}', but the network has neither: ` +
        `its inputs are ${inputs.map(describeSpec).join(', ')}, its outputs ${outputs.map(describeSpec).join(', ')}`,
      { hint: 'name the network\'s own tensors in inference.node_mapping, as {"tensor": "field"}' },
    )
  }
}

function checkWindow({ inference: { scanningWindow } }: ModelConfig, image: TensorSpec): void {
  if (!scanningWindow) return
  const grid = image.dims.slice(2)
  const { roi, sliceAxis } = scanningWindow
  if (sliceAxis !== undefined && grid.length !== 2)
    throw new AppError(
      'BAD_MODEL',
      `spatial_dim runs a 2-D network slice by slice, but the network's input ${describeSpec(image)} has a grid of ${grid.length}`,
      { hint: 'leave spatial_dim out' },
    )
  const flat = roi.length === 3 && grid.length === 2 && roi.includes(1)
  if (roi.length !== grid.length && roi.length !== 1 && !flat)
    throw new AppError(
      'BAD_MODEL',
      `roi [${roi.join(',')}] has ${roi.length} axes, but the network's input ${describeSpec(image)} has a grid of ${grid.length}`,
      { hint: 'give inference.args.roi one number for each axis of the grid' },
    )
  if (flat) return
  const clash = grid.findIndex((d, axis) => {
    const wish = roi[axis] ?? roi[0]!
    return typeof d === 'number' && wish > 0 && d !== wish
  })
  if (clash >= 0)
    throw new AppError(
      'BAD_MODEL',
      `roi [${roi.join(',')}] does not fit the network's input ${describeSpec(image)}, whose shape is fixed`,
      { hint: `set inference.args.roi to [${grid.map((d, axis) => d ?? roi[axis]).join(',')}]` },
    )
}

type Results = Readonly<Record<string, Tensor>>

/** Tries shapes until the network answers: the ones its specs and its config fix, then common edges and channel counts. */
async function runOnZeros(config: ModelConfig, image: TensorSpec, predictor: Predictor): Promise<Answered> {
  const scan = config.inference.scanningWindow?.roi.map((n) => (n > 0 ? n : 64))
  const wanted = (scan?.length === 1 ? cube(scan[0]!) : scan) ?? config.roi
  const free = image.dims.slice(2).some((d) => typeof d !== 'number')
  const grids = wanted ? [wanted] : free ? [cube(64), cube(32), cube(128)] : [cube(1)]
  const channels = typeof image.dims[1] === 'number' ? [image.dims[1]] : [1, 3, 2]
  let first: unknown
  for (const grid of grids) {
    for (const channel of channels) {
      try {
        const feeds = zeros(predictor.inputs, grid, channel)
        return { feeds, results: await predictor.run(feeds) }
      } catch (error) {
        if (error instanceof OutOfMemoryError) throw error
        first ??= error
      }
    }
  }
  throw first
}

const cube = (edge: number): readonly number[] => [edge, edge, edge]

function zeros(inputs: readonly TensorSpec[], grid: readonly number[], channels: number): Record<string, Tensor> {
  return Object.fromEntries(
    inputs.map(({ name, dims: spec }) => {
      const axes = spec.length - 2
      const shape = grid.length > axes ? grid.slice(grid.length - axes) : grid
      const dims = spec.map((d, axis) => {
        if (typeof d === 'number') return d
        if (axis === 0) return 1
        return axis === 1 ? channels : (shape[axis - 2] ?? 32)
      })
      return [name, { dims, data: new Float32Array(elementCount(dims)) }]
    }),
  )
}

function checkOutput({ type, labels }: ModelConfig, { outputs }: Predictor, results: Results): void {
  const output = outputs[0]
  if (!output) throw new AppError('BAD_MODEL', 'the network has no outputs')
  const { dims } = results[output.name]!
  const seen = `output ${describeSpec(output)} gave [${dims.join(',')}]`
  if (type === 'classification') {
    const scores = dims.length >= 2 ? elementCount(dims.slice(1)) : elementCount(dims)
    if (labels.length > 0 && scores !== labels.length && !(scores === 1 && labels.length === 2))
      throw new AppError('BAD_MODEL', `the config lists ${labels.length} labels, but ${seen}: ${scores} scores`, {
        hint: 'list one label for each score, in the order of the scores',
      })
    return
  }
  if (type !== 'segmentation' || outputs.length > 1) return
  const channels = dims[1] ?? 1
  if (dims.length >= 4 && channels > 1 && labels.length > channels)
    throw new AppError('BAD_MODEL', `the config lists ${labels.length} labels, but ${seen}: ${channels} channels`, {
      hint: 'list at most one label for each channel',
    })
}
