/**
 * Several networks over one prepared image: the mean of an ensemble, its vote, or label maps that lie over one another. One
 * network after another is lent, so no more than one of those that do not stay open is in memory.
 */
import type { JobControl } from '../contract/job.js'
import type { NetworkJoin } from '../contract/model.js'
import type { Predict, Predictor } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import type { Ensemble } from '../inferers/ensemble.js'
import type { BuiltTransform } from '../transforms/catalog.js'
import { requireImage, withImage, withValue } from '../transforms/fields.js'
import type { Activation } from '../transforms/restore-scores.js'
import type { ImageField, Item } from '../transforms/types.js'
import { labelArray } from '../volume/label-array.js'
import { makeVolume, type VoxelArray, voxelCount } from '../volume/volume.js'
import type { ModelPlan } from './model-run.js'
import { resolveMapping } from './node-mapping.js'

/** What each network of an ensemble goes through by itself, and the post-transforms that are left. */
export interface MemberPlan {
  readonly activation: Activation
  readonly weights: readonly (number | readonly number[])[] | undefined
  readonly rest: readonly BuiltTransform[]
}

/** One network by itself, and what it puts into the item. */
type ApplyOne = (plan: ModelPlan, item: Item, control: JobControl, part: string) => Promise<Item>

/** Throws BAD_MODEL_CONFIG where a mean of probabilities has nothing that makes them. */
export function planMembers(join: NetworkJoin | undefined, post: readonly BuiltTransform[], field: string): MemberPlan {
  const weights = join?.kind === 'mean' ? join.weights : undefined
  if (join?.kind !== 'mean' || join.of === 'scores') return { activation: 'none', weights, rest: post }
  const at = post.findIndex(({ keys, traits }) => keys.length === 1 && keys[0] === field && traits.activates)
  const before = post.slice(0, Math.max(at, 0))
  if (at < 0 || before.some(({ traits }) => traits.reduces || traits.restores))
    throw new AppError(
      'BAD_MODEL_CONFIG',
      "config.inference.ensemble.of is 'probabilities', and no post-transform makes them before the scores are moved or become labels",
      { hint: 'put Activationsd with sigmoid or softmax first, or take the mean of scores' },
    )
  return { activation: post[at]!.traits.activates!, weights, rest: [...before, ...post.slice(at + 1)] }
}

/** The networks of a mean, each lent for its turn; undefined for one network. */
export function ensembleOf(
  { model, members }: ModelPlan,
  predictOf: (network: Predictor) => Predict,
): Ensemble | undefined {
  const { networks } = model
  const names = model.ref.config.inference.networks ?? []
  if (!members || !networks) return undefined
  return {
    members: names.map((_, i) => (work) => networks.lend(i, (network) => work(predictOf(network)))),
    weights: members.weights ?? names.map(() => 1),
    activation: members.activation,
  }
}

/** For people: which network of how many. */
export function partName(names: readonly string[], index: number): string {
  const name = names[index]!.replace(/\.onnx$/i, '').replace(/\/model$/i, '')
  return names.length === 1 ? name : `${name} (${index + 1} of ${names.length})`
}

/** Runs every network by itself; `collect` takes the field or scores that it gave. */
async function eachNetwork(
  plan: ModelPlan,
  item: Item,
  control: JobControl,
  applyOne: ApplyOne,
  collect: (done: Item, field: string, index: number) => void,
): Promise<Item> {
  const { model } = plan
  const names = model.ref.config.inference.networks ?? []
  let notes = item.notes
  for (const i of names.keys()) {
    const work = async (predictor: Predictor): Promise<void> => {
      const own = planFor(plan, predictor)
      const done = await applyOne(own, { ...item, notes }, control, partName(names, i))
      notes = done.notes
      collect(done, own.mapping.outputs[0]!.field, i)
    }
    await (model.networks ? model.networks.lend(i, work) : work(model.predictor))
  }
  return { ...item, notes }
}

/** The plan over another of its networks: parts of a label map may call their tensors otherwise. */
function planFor(plan: ModelPlan, predictor: Predictor): ModelPlan {
  const { inference } = plan.model.ref.config
  const same = plan.mapping.inputs.length === predictor.inputs.length
  const known = same && plan.mapping.inputs.every(({ spec }) => predictor.inputs.some(({ name }) => name === spec.name))
  const mapping = resolveMapping({
    pairs: known ? inference.nodeMapping : {},
    inputs: predictor.inputs,
    outputs: predictor.outputs,
    imageField: inference.image,
    postFields: [plan.mapping.outputs[0]!.field],
  })
  return { ...plan, model: { ...plan.model, predictor }, mapping }
}

/**
 * MONAI's VoteEnsembled: of label maps the label with most votes, the lowest on a tie; of channels of zeros and ones 1 where
 * more than half say so. Networks that give one score a class leave all their scores, to be counted by `classify`.
 */
export async function applyVote(plan: ModelPlan, item: Item, control: JobControl, applyOne: ApplyOne): Promise<Item> {
  const target = plan.mapping.outputs[0]!.field
  const fields: ImageField[] = []
  const scores: (readonly number[])[] = []
  const done = await eachNetwork(plan, item, control, applyOne, (one, field) => {
    const image = one.images.get(field)
    if (image) fields.push(labelsOnly(image, 'ensemble'))
    else scores.push(one.values.get(field) as readonly number[])
  })
  if (fields.length === 0) return withValue(done, target, scores)
  const [first] = fields
  const { volume } = first!
  sameGrid(fields)
  const masks = plan.scores.reduction.kind === 'threshold'
  const data = masks ? majority(fields) : mostVotes(fields)
  return withImage(done, target, { ...first!, volume: { ...volume, data }, content: 'labels', scratch: true })
}

function majority(fields: readonly ImageField[]): Uint8Array {
  const out = new Uint8Array(fields[0]!.volume.data.length)
  for (const { volume } of fields) for (let v = 0; v < out.length; v++) if (volume.data[v] !== 0) out[v]!++
  for (let v = 0; v < out.length; v++) out[v] = 2 * out[v]! > fields.length ? 1 : 0
  return out
}

function mostVotes(fields: readonly ImageField[]): VoxelArray {
  const maps = fields.map(({ volume }) => volume.data)
  let most = 0
  for (const map of maps) for (let v = 0; v < map.length; v++) most = Math.max(most, map[v]!)
  const out = labelArray(maps[0]!.length, 0, most)
  for (let v = 0; v < out.length; v++) {
    let best = maps[0]![v]!
    let votes = 0
    for (const map of maps) {
      const label = map[v]!
      let count = 0
      for (const other of maps) if (other[v] === label) count++
      if (count > votes || (count === votes && label < best)) [best, votes] = [label, count]
    }
    out[v] = best
  }
  return out
}

/** One label map of all parts, each with its own labels in it: where two parts name a voxel, the later one's label stays. */
export async function applyLabelMaps(
  plan: ModelPlan,
  item: Item,
  control: JobControl,
  applyOne: ApplyOne,
): Promise<Item> {
  const { join } = plan.model.ref.config.inference
  const maps = join?.kind === 'labelMaps' ? join.maps : []
  const most = Math.max(0, ...maps.flatMap((map) => Object.values(map)))
  const target = plan.mapping.outputs[0]!.field
  let first: ImageField | undefined
  let data: ReturnType<typeof labelArray> | undefined
  const done = await eachNetwork(plan, item, control, applyOne, (one, name, i) => {
    const field = labelsOnly(requireImage(one, name), 'label_maps')
    sameGrid([first ?? field, { ...field, volume: { ...field.volume, channels: (first ?? field).volume.channels } }])
    first ??= field
    data ??= labelArray(voxelCount(field.volume), 0, most)
    drawPart(field, maps[i]!, data)
  })
  const { size, affine, nifti } = first!.volume
  const volume = makeVolume(size, affine, data!, { channels: 1, nifti })
  return withImage(done, target, { ...first!, volume, axes: first!.axes, content: 'labels', scratch: true })
}

/** The part's own labels: values of one channel, or channels that are set, the first being label 1. */
function drawPart(
  { volume }: ImageField,
  map: Readonly<Record<string, number>>,
  into: Uint8Array | Uint16Array | Int32Array,
): void {
  const voxels = voxelCount(volume)
  const { data, channels } = volume
  if (channels === 1) {
    const table = new Int32Array(65_536)
    for (const [own, final] of Object.entries(map)) table[Number(own)] = final
    for (let v = 0; v < voxels; v++) {
      const final = table[data[v]!] ?? 0
      if (final !== 0) into[v] = final
    }
    return
  }
  for (let c = 0; c < channels; c++) {
    const final = map[String(c + 1)]
    if (final !== undefined) for (let v = 0, at = c * voxels; v < voxels; v++, at++) if (data[at] !== 0) into[v] = final
  }
}

function labelsOnly(field: ImageField, key: 'ensemble' | 'label_maps'): ImageField {
  if (field.content === 'labels') return field
  throw new AppError('BAD_MODEL_CONFIG', `config.inference.${key} joins labels, and the networks give scores`, {
    hint: 'put AsDiscreted with argmax or a threshold into post_transforms',
  })
}

function sameGrid(fields: readonly ImageField[]): void {
  const [first, ...others] = fields.map(({ volume: { size, channels } }) => [...size, channels].join(' x '))
  const odd = others.find((other) => other !== first)
  if (odd !== undefined)
    throw new AppError('BAD_MODEL', `the networks answer in other shapes: ${first} and ${odd} (x, y, z, channels)`)
}
