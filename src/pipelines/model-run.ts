/**
 * One model over one item: its pre-transforms, the network, its post-transforms. What a job is made of, and what a
 * pipeline of several models calls for each.
 */

import type { JobControl } from '../contract/job.js'
import type { ModelConfig, TransformSpec } from '../contract/model.js'
import type { LabelEnd, LabelNetwork, PhaseNetwork, Predict, Predictor, TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { type InferenceRequest, infer, type NetworkResult } from '../inferers/infer.js'
import { mirrored } from '../inferers/mirror.js'
import type { Prompted } from '../inferers/prompted/layout.js'
import { type BuiltTransform, buildTransform, placeIn } from '../transforms/catalog.js'
import { requireImage, withImage, withNote, withValue } from '../transforms/fields.js'
import { inverseMoves, moveMap } from '../transforms/flip-rotate.js'
import { askForStep } from '../transforms/new-grid.js'
import { nearestMap, resizeVolume, resizeWeights, scaledGrid } from '../transforms/resize.js'
import type { ImageField, Item } from '../transforms/types.js'
import { axisStep, moved, resizeStep } from '../transforms/undo.js'
import { revalued, withValuesFor } from '../transforms/value-table.js'
import { type AxisMoves, moveGrid } from '../volume/orientation.js'
import { gather } from '../volume/resample.js'
import { withoutWaste } from '../volume/room.js'
import { makeVolume, type Vec3, type Volume } from '../volume/volume.js'
import { buildPreTransforms } from './extreme-point-steps.js'
import { applyLabelMaps, applyVote, ensembleOf, type MemberPlan, partName, planMembers } from './joined-networks.js'
import { mirroring } from './mirroring.js'
import { type NodeMapping, resolveMapping } from './node-mapping.js'
import { outputContent } from './output-content.js'
import { applyPrompted, PROMPTED_PRE } from './prompted-model.js'
import type { LoadedModel } from './run.js'
import { exactReduction, planScores, restoredField, restorerFor, type ScorePlan } from './score-plan.js'
import { inTensorOrderEarly } from './tensor-order.js'

export interface ModelPlan {
  readonly model: LoadedModel
  readonly pre: readonly BuiltTransform[]
  /** What is left to do after what the inferer makes of the scores. */
  readonly post: readonly BuiltTransform[]
  readonly scores: ScorePlan
  /** The config's post-transforms, less an activation that each network of an ensemble goes through by itself. */
  readonly steps: readonly BuiltTransform[]
  readonly members?: MemberPlan | undefined
  readonly mapping: NodeMapping
  /** What the config says that the main output holds; absent: the type of its tensor says it. */
  readonly content?: 'labels' | 'scores' | undefined
  /** The field that the writer takes. */
  readonly resultField: string
  /** The model is a pair that takes prompts instead of fields. */
  readonly prompted?: Prompted | undefined
  /** Whether any transform reads clicks: then results keep the image's own order of axes. */
  readonly clicks: boolean
}

/** The config's transforms, built: what a registry checks before it takes a model. Throws BAD_MODEL_CONFIG. */
export function buildTransforms(config: ModelConfig): { pre: BuiltTransform[]; post: BuiltTransform[] } {
  const post = withOneHot(config.postTransforms).map((spec, i) =>
    buildTransform(spec, placeIn('post_transforms', i, spec.from)),
  )
  return { pre: buildPreTransforms(config), post }
}

/** A Lambdad is told of one-hot channels that AsDiscreted makes before it: here they stay one label map. */
function withOneHot(specs: readonly TransformSpec[]): TransformSpec[] {
  let classes: unknown
  return specs.map((spec) => {
    if (spec.name.startsWith('AsDiscrete')) classes = [spec.args.to_onehot].flat()[0]
    if (!spec.name.startsWith('Lambda') || typeof classes !== 'number') return spec
    return { ...spec, args: { to_onehot: classes, ...spec.args } }
  })
}

/** Puts a model's transforms, tensors and reduction together. Throws BAD_MODEL_CONFIG or BAD_MODEL. */
export function planModel(model: LoadedModel): ModelPlan {
  const { config } = model.ref
  const { pre, post } = buildTransforms(config)
  const written = writerField(config)
  if (config.type === 'pipeline') return planPipeline(model, pre, post, written)
  if (model.parts?.prompted) return planPrompted(model, model.parts.prompted, pre, post, written)
  const mapping = resolveMapping({
    pairs: config.inference.nodeMapping,
    inputs: model.predictor.inputs,
    outputs: model.predictor.outputs,
    imageField: config.inference.image,
    postFields: [...post.flatMap(fieldsOf), ...(written === undefined ? [] : [written])],
  })
  const field = mapping.outputs[0]!.field
  const clicks = [...pre, ...post].some(({ traits }) => traits.readsClicks)
  const { join, networks } = config.inference
  const members = (networks?.length ?? 1) > 1 && join?.kind !== 'labelMaps' ? planMembers(join, post, field) : undefined
  const joined = members?.rest ?? post
  const scores = planScores(joined, field, !clicks)
  const volumetric = mapping.inputs.every(({ spec }) => spec.dims.length === 5)
  const steps = volumetric && !clicks ? inTensorOrderEarly(pre) : pre
  const content = outputContent(config, post, field)
  const resultField = written ?? field
  return { model, pre: steps, post: scores.rest, scores, steps: joined, members, mapping, content, resultField, clicks }
}

/** A pipeline has no tensors of its own: its models read the posted image and leave one label map. */
function planPipeline(
  model: LoadedModel,
  pre: readonly BuiltTransform[],
  post: readonly BuiltTransform[],
  written: string | undefined,
): ModelPlan {
  const after = post.flatMap(fieldsOf)
  const resultField = written ?? after[0] ?? 'pred'
  const { image, nodeMapping } = model.ref.config.inference
  const loads = pre.filter(({ traits }) => traits.loads).flatMap(({ keys }) => keys)
  if (loads.length > 0 && !loads.includes(image))
    throw new AppError('BAD_MODEL_CONFIG', `inference.input is '${image}', which no pre-transform loads`)
  const named = Object.entries(nodeMapping).find(([tensor]) => tensor === 'NV_MODEL_OUTPUT')?.[1]
  if (named !== undefined && named !== resultField && !after.includes(named))
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `inference.output is '${named}', but post_transforms and the writer take '${resultField}'`,
    )
  const noTensor = { name: '', type: 'float32', dims: [] } as const
  const mapping = {
    inputs: [{ spec: noTensor, field: model.ref.config.inference.image }],
    outputs: [{ spec: noTensor, field: resultField }],
  }
  const scores = { reduction: { kind: 'scores' }, activation: 'none', restores: false, rest: post } as const
  return { model, pre, post, scores, steps: post, mapping, resultField, clicks: true }
}

/** A pair that takes prompts sees a slice and gives its mask, or its scores to post-transforms that take them. */
function planPrompted(
  model: LoadedModel,
  prompted: Prompted,
  pre: readonly BuiltTransform[],
  post: readonly BuiltTransform[],
  written: string | undefined,
): ModelPlan {
  const { preTransforms, inference } = model.ref.config
  const resultField = written ?? post.flatMap(fieldsOf)[0] ?? 'pred'
  const output = { name: 'masks', type: 'float32', dims: ['n', 1, 'rows', 'columns'] } as const
  const input = {
    name: prompted.picture.spec.name,
    type: 'float32',
    dims: ['n', prompted.picture.channels, 'rows', 'columns'],
  } as const
  return {
    model,
    prompted,
    pre: preTransforms.length > 0 ? pre : PROMPTED_PRE.map((spec) => buildTransform(spec)),
    post,
    steps: post,
    scores: { reduction: { kind: 'scores' }, activation: 'none', restores: false, rest: post },
    mapping: { inputs: [{ spec: input, field: inference.image }], outputs: [{ spec: output, field: resultField }] },
    content: outputContent(model.ref.config, post, resultField) === 'scores' ? 'scores' : 'labels',
    resultField,
    clicks: true,
  }
}

function fieldsOf({ keys, args }: BuiltTransform): readonly string[] {
  const label = (args as { label_field?: unknown }).label_field
  return typeof label === 'string' ? [...keys, label] : keys
}

/** WriteNifti's `field`, Writer's `image`. */
export function writerField({ writer }: ModelConfig): string | undefined {
  if (!writer) return undefined
  const { field, fields, image } = writer.args as Record<string, unknown>
  const name = [field, fields, image].flat().find((value) => typeof value === 'string')
  return name as string | undefined
}

/** Runs transforms in order, with a checkpoint before each. */
export async function applyAll(
  steps: readonly BuiltTransform[],
  item: Item,
  control: JobControl,
  stage: 'pre' | 'post',
): Promise<Item> {
  let current = item
  for (const [i, step] of steps.entries()) {
    await control.checkpoint(stage, i, steps.length)
    const tabled = revalued(current, step)
    if (tabled) {
      current = tabled
      continue
    }
    current = withValuesFor(current, step)
    const { identity, axesOnly, loads } = step.traits
    if (!identity && !axesOnly && !loads) askForStep(current, step.keys, `transform '${step.name}'`)
    current = await step.apply(current)
  }
  return current
}

/** Feeds the network, or several, and puts the result into the item as the field its config names. */
export async function applyNetwork(plan: ModelPlan, item: Item, control: JobControl): Promise<Item> {
  if (plan.prompted) return applyPrompted(plan, item, control)
  const { model } = plan
  const { join, networks: names = [] } = model.ref.config.inference
  if (join?.kind === 'vote') return applyVote(plan, item, control, applyOne)
  if (join?.kind === 'labelMaps') return applyLabelMaps(plan, item, control, applyOne)
  if (!model.networks || names.length > 1) return applyOne(plan, item, control)
  // the one network of a model whose first model has networks too
  const work = (predictor: Predictor) =>
    applyOne({ ...plan, model: { ...model, predictor } }, item, control, partName(names, 0))
  return model.networks.lend(0, work)
}

/** One network, or the mean of several. `part` says which of several that are run one by one. */
async function applyOne(plan: ModelPlan, item: Item, control: JobControl, part?: string): Promise<Item> {
  const { model, mapping, scores, content } = plan
  const { inference } = model.ref.config
  const inputs = mapping.inputs.map(({ spec, field }) => ({ spec, field: requireImage(item, field) }))
  const output = mapping.outputs[0]!
  const image = inputs[0]!.field
  const { axes, note } = mirroring(model, item.values.get('tta'))
  const told = note === undefined ? item : withNote(item, note)
  const predictOf = (network: Predictor): Predict => {
    const run: Predict = (feeds) => control.withDevice(() => network.run(feeds))
    return axes.length === 0 ? run : mirrored(run, axes)
  }
  const ensemble = part === undefined ? ensembleOf(plan, predictOf) : undefined
  const request: InferenceRequest = {
    inputs,
    output: output.spec,
    reduction: scores.reduction,
    restorer: scores.restores
      ? (from, size, channels) => restorerFor(networkField(image, from, size), channels, scores)
      : undefined,
    labels: part === undefined && axes.length === 0 ? labelsOf(model.predictor, output.spec, control) : undefined,
    phases: part === undefined && axes.length === 0 ? phasesOf(model.predictor, output.spec, control) : undefined,
    exact: (from, size) => exactReduction(networkField(image, from, size), scores),
    content,
    window: inference.scanningWindow,
    format: inference.imageFormat,
    predict: predictOf(model.predictor),
    ensemble,
    onProgress: (done, total, member) =>
      control.checkpoint('infer', done, total, part ?? (ensemble && partName(inference.networks!, member))),
  }
  const result = await withoutWaste(image.volume.data.byteLength, () => infer(request))
  if ('scores' in result) return withValue(told, output.field, result.scores)
  if (result.restored) return withImage(told, output.field, restoredResult(image, result))
  const field = resultField(image, result, plan)
  return withImage(told, output.field, scores.restores ? restoredField(field, scores) : field)
}

/** The network with labels for scores, where its output says by its type that it holds scores. */
function labelsOf({ endingIn }: Predictor, { name, type, dims }: TensorSpec, control: JobControl) {
  if (!endingIn || type !== 'float32' || dims.length < 4) return undefined
  return async (end: LabelEnd): Promise<LabelNetwork | undefined> => {
    // an argmax over one channel is refused, and not all zeros
    if (end.kind === 'argmax' && !(Number(dims[1]) > 1)) return undefined
    const network = await endingIn(name, end)
    return network && { ...network, run: (feeds) => control.withDevice(() => network.run(feeds)) }
  }
}

/** The network with its scores in phases. */
function phasesOf({ inPhases }: Predictor, { name, type }: TensorSpec, control: JobControl) {
  if (!inPhases || type !== 'float32') return undefined
  return async (): Promise<PhaseNetwork | undefined> => {
    const network = await inPhases(name)
    return network && { ...network, run: (feeds) => control.withDevice(() => network.run(feeds)) }
  }
}

/** A field as the network's result will lie, before there is one: where it is, and the way back. */
function networkField(image: ImageField, from: NetworkResult['from'], size: Vec3): ImageField {
  const moves = from.map((axis) => ({ from: axis, flip: false })) as unknown as AxisMoves
  const back = moveMap(inverseMoves(moves), image.volume.size)
  const isMoved = from.some((axis, i) => axis !== i)
  const undo = isMoved ? [...image.undo, axisStep('network', 'orient', image.volume, back)] : image.undo
  return { ...image, volume: { ...image.volume, size }, undo }
}

/** What the restorer made: on the file's own grid, its axes in the file's order. */
function restoredResult(image: ImageField, { volume, content }: NetworkResult): ImageField {
  const { size, affine, nifti } = image.source
  const placed = makeVolume(size, affine, volume.data, { channels: volume.channels, nifti })
  const axes = withChannel('XYZ', 'first')
  return { ...image, valueTable: undefined, volume: placed, content, axes, undo: [], scratch: true }
}

/** The network's result as a field: on the image's grid, in the tensor's order of axes unless clicks want the image's. */
function resultField(image: ImageField, { volume, from, content }: NetworkResult, { clicks }: ModelPlan): ImageField {
  const moves = from.map((axis) => ({ from: axis, flip: false })) as unknown as AxisMoves
  const full = from.map((axis) => image.volume.size[axis]) as unknown as Vec3
  const grid = moveGrid(image.volume, moves)
  const back = moveMap(inverseMoves(moves), image.volume.size)
  const sameSize = volume.size.every((n, axis) => n === full[axis])
  const own = sameSize ? grid : scaledGrid(grid, volume.size)
  const placed = { ...volume, affine: own.affine }
  const channel = image.axes.endsWith('C') ? 'last' : 'first'
  const axesThere = withChannel('ZYX', channel)
  let field: ImageField = { ...image, valueTable: undefined, content, axes: axesThere, scratch: true }
  const isMoved = from.some((axis, i) => axis !== i)
  if (isMoved) field = moved(field, field.volume, axisStep('network', 'orient', image.volume, back))
  field = { ...field, volume: placed }
  if (!sameSize) {
    const linear = (scores: Volume) => resizeVolume(scores, grid, 'linear', false)
    const step = resizeStep('network', grid, nearestMap(volume.size, full, 'nearest-exact'), linear, {
      undo: linear,
      weights: () => resizeWeights(volume.size, full, 'linear', false),
    })
    field = moved(field, placed, step)
  }
  const axes = withChannel(image.axes.replace('C', ''), channel)
  if (!isMoved) return { ...field, axes }
  if (!clicks) return field
  if (!sameSize) throw new AppError('BAD_MODEL', 'a network for clicks must answer in the size of its input')
  const straight = gather(placed, back, image.volume.affine)
  return { ...field, volume: straight, axes, undo: image.undo }
}

function withChannel(spatial: string, channel: 'first' | 'last'): string {
  return channel === 'first' ? `C${spatial}` : `${spatial}C`
}
