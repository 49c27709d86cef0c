/** From scores to labels, and label maps among themselves. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { roundHalfEven } from '../volume/affine.js'
import { labelArray, narrowed } from '../volume/label-array.js'
import { makeVolume, type Volume, type VoxelArray, voxelCount } from '../volume/volume.js'
import { describing, fieldArgs, integer, integers, keys, names, number, oneKey } from './args.js'
import { DESCRIBING } from './describing.js'
import { eachImage, ownFloats, requireImage, withImage } from './fields.js'
import { makeSink, type Reduction, reduceStretch } from './reduction.js'
import type { ImageField, Traits, TransformDefinition } from './types.js'

/** Scores of a field reduced to labels, as the inferer does when it knows in time. */
export function reduceField(field: ImageField, reduction: Reduction): ImageField {
  const { volume } = field
  const voxels = voxelCount(volume)
  const sink = makeSink(reduction, volume.channels, voxels)
  const stretch = {
    scores: volume.data,
    start: 0,
    channelStride: voxels,
    step: 1,
    channels: volume.channels,
    length: voxels,
  }
  reduceStretch(reduction, stretch, sink, 0, voxels)
  return {
    ...field,
    volume: makeVolume(volume.size, volume.affine, sink.data, { channels: sink.channels }),
    content: reduction.kind === 'scores' ? 'scores' : 'labels',
    scratch: true,
  }
}

const argmaxArgs = fieldArgs({})

/** Clara's ArgmaxAcrossChannels; the channel axis goes. */
export const argmaxAcrossChannels: TransformDefinition<typeof argmaxArgs> = {
  names: ['ArgmaxAcrossChannels'],
  args: argmaxArgs,
  traits: () => ({ reduces: { kind: 'argmax' }, takes: 'scores' }),
  create: (a) =>
    eachImage(a, (field) => {
      const labels = reduceField(field, { kind: 'argmax' })
      return { ...labels, axes: field.axes.replace('C', '') }
    }),
}

const activationArgs = fieldArgs({
  sigmoid: z.union([z.boolean(), z.array(z.boolean())]).default(false),
  softmax: z.union([z.boolean(), z.array(z.boolean())]).default(false),
  other: z.null().optional(),
  dim: z.literal(0).optional(),
})

/** MONAI's Activationsd: sigmoid, or softmax over the channels. */
export const activations: TransformDefinition<typeof activationArgs> = {
  names: ['Activationsd', 'ActivationsD', 'ActivationsDict', 'Activations'],
  args: activationArgs,
  traits: (a) => ({ activates: activationOf(a, 0), takes: 'scores' }),
  create: (a) => {
    if (a.keys.some((_, index) => forKey(a.sigmoid, index) && forKey(a.softmax, index)))
      throw new AppError('BAD_MODEL_CONFIG', 'sigmoid and softmax are both true; one of them is applied')
    return eachImage(a, (field, index) => {
      const activation = activationOf(a, index)
      return activation === undefined ? field : activatedField(field, activation)
    })
  },
}

/** The field's scores after an activation: each for itself, or over the channels. */
export function activatedField(field: ImageField, activation: 'none' | 'sigmoid' | 'softmax'): ImageField {
  if (activation === 'none') return field
  return activated(field, activation === 'sigmoid' ? sigmoidOf : softmaxOf)
}

function activationOf(a: z.output<typeof activationArgs>, index: number): 'sigmoid' | 'softmax' | undefined {
  if (forKey(a.sigmoid, index)) return 'sigmoid'
  return forKey(a.softmax, index) ? 'softmax' : undefined
}

/** An argument that is one value for all keys, or a list whose last value counts for the keys beyond it. */
function forKey<T>(value: T | readonly T[], index: number): T | undefined {
  const list = Array.isArray(value) ? (value as readonly T[]) : [value as T]
  return index < list.length ? list[index] : list.at(-1)
}

function activated(field: ImageField, run: (data: Float32Array, channels: number) => void): ImageField {
  const { volume } = field
  const data = ownFloats(field)
  run(data, volume.channels)
  return { ...field, volume: { ...volume, data }, content: 'scores', scratch: true }
}

function sigmoidOf(data: Float32Array): void {
  for (let i = 0; i < data.length; i++) data[i] = 1 / (1 + Math.exp(-data[i]!))
}

function softmaxOf(data: Float32Array, channels: number): void {
  const voxels = data.length / channels
  for (let i = 0; i < voxels; i++) {
    let most = -Infinity
    for (let c = 0; c < channels; c++) most = Math.max(most, data[c * voxels + i]!)
    let sum = 0
    for (let c = 0; c < channels; c++) {
      const value = Math.exp(data[c * voxels + i]! - most)
      data[c * voxels + i] = value
      sum += value
    }
    for (let c = 0; c < channels; c++) data[c * voxels + i]! /= sum
  }
}

const rounding = z.union([z.literal('torchrounding'), z.null()])

const discreteArgs = fieldArgs({
  argmax: z.union([z.boolean(), z.array(z.boolean())]).default(false),
  threshold: z.union([number.nullable(), z.array(number.nullable())]).optional(),
  threshold_values: z.boolean().optional(),
  logit_thresh: number.optional(),
  rounding: z.union([rounding, z.array(rounding).min(1)]).optional(),
  dim: z.literal(0).optional(),
  ...describing('to_onehot', 'n_classes', 'num_classes', 'keepdim'),
  dtype: DESCRIBING.label_dtype,
})

/** MONAI's AsDiscreted: argmax over the channels, then at least `threshold` or not. One-hot coding is not kept. */
export const asDiscrete: TransformDefinition<typeof discreteArgs> = {
  names: ['AsDiscreted', 'AsDiscreteD', 'AsDiscreteDict', 'AsDiscrete'],
  args: discreteArgs,
  traits: (a) => {
    const reductions = reductionsOf(a, 0)
    if (reductions.length === 0) return { takes: isRounded(a, 0) ? 'labels' : 'either' }
    return reductions.length === 1 ? { reduces: reductions[0], takes: 'scores' } : { takes: 'scores' }
  },
  create: (a) => {
    if (a.logit_thresh !== undefined && !a.threshold_values)
      throw new AppError('BAD_MODEL_CONFIG', 'logit_thresh needs threshold_values true')
    if (a.threshold_values && a.threshold !== undefined)
      throw new AppError('BAD_MODEL_CONFIG', 'threshold_values takes logit_thresh; threshold stands alone')
    return eachImage(a, (field, index) => {
      const reductions = reductionsOf(a, index)
      if (reductions.length > 0) return reductions.reduce(reduceField, field)
      return isRounded(a, index) ? rounded(field) : field
    })
  },
}

function isRounded(a: z.output<typeof discreteArgs>, index: number): boolean {
  return forKey(a.rounding ?? null, index) === 'torchrounding'
}

/** Argmax first, then the threshold, as MONAI does it; rounding changes nothing after either. */
function reductionsOf(a: z.output<typeof discreteArgs>, index: number): LabelReduction[] {
  const at = a.threshold_values ? (a.logit_thresh ?? 0.5) : forKey(a.threshold ?? null, index)
  return [
    ...(forKey(a.argmax, index) ? [{ kind: 'argmax' } as const] : []),
    ...(typeof at === 'number' ? [{ kind: 'threshold', at, activation: 'none' } as const] : []),
  ]
}

type LabelReduction = NonNullable<Traits['reduces']>

/** torch.round: to the nearest whole number, halves to the even one. Whole numbers are labels, so they get a label's type. */
function rounded(field: ImageField): ImageField {
  const { volume } = field
  const whole = new Int32Array(volume.data.length)
  for (let i = 0; i < whole.length; i++) whole[i] = roundHalfEven(volume.data[i]!)
  return { ...field, volume: { ...volume, data: narrowed(whole) }, content: 'labels', scratch: true }
}

const thresholdArgs = fieldArgs({
  keys: keys.optional(),
  threshold: number.default(0.5),
  /** The sample's word for `keys`. */
  label_field: z.string().optional(),
  dtype: DESCRIBING.label_dtype,
}).transform(({ label_field: label, keys: fields, ...a }, context) => {
  if ((label === undefined) !== (fields === undefined)) return { ...a, keys: fields ?? [label!] }
  context.addIssue({ code: 'custom', message: 'needs keys or label_field, one of the two', path: ['keys'] })
  return z.NEVER
})

/** Clara's ApplyThreshold and the sample FilterProbabilityThreshold: 1 where the score is at least `threshold`. */
export const applyThreshold: TransformDefinition<typeof thresholdArgs> = {
  names: ['ApplyThreshold', 'FilterProbabilityThreshold', 'ThresholdProbability'],
  args: thresholdArgs,
  traits: (a) => ({ reduces: { kind: 'threshold', at: a.threshold, activation: 'none' }, takes: 'scores' }),
  create: (a) =>
    eachImage(a, (field) => reduceField(field, { kind: 'threshold', at: a.threshold, activation: 'none' })),
}

/** The map with each label replaced by `change` of it, in the smallest type that holds the new ones. */
function relabelled(field: ImageField, change: (label: number) => number): ImageField {
  const { volume } = field
  const table = new Map<number, number>()
  eachRun(volume.data, (label) => {
    if (!table.has(label)) table.set(label, change(label))
  })
  const data = labelArray(volume.data.length, Math.min(0, ...table.values()), Math.max(0, ...table.values()))
  eachRun(volume.data, (label, start, end) => {
    data.fill(table.get(label)!, start, end)
  })
  return { ...field, volume: { ...volume, data }, content: 'labels', scratch: true }
}

/** Calls `visit` with each stretch of equal values: most of a label map's voxels are like the one before. */
function eachRun(data: VoxelArray, visit: (label: number, start: number, end: number) => void): void {
  for (let start = 0; start < data.length; ) {
    const label = data[start]!
    let end = start + 1
    while (end < data.length && data[end] === label) end++
    visit(label, start, end)
    start = end
  }
}

const filterArgs = fieldArgs({ applied_labels: integers })

/** MONAI's LabelFilterd: labels not listed become background. */
export const labelFilter: TransformDefinition<typeof filterArgs> = {
  names: ['LabelFilterd', 'LabelFilterD', 'LabelFilterDict', 'LabelFilter'],
  args: filterArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) => eachImage(a, (field) => relabelled(field, (label) => (a.applied_labels.includes(label) ? label : 0))),
}

const maskArgs = fieldArgs({ select_labels: integers, merge_channels: z.boolean().default(true) })

/** MONAI's LabelToMaskd: 1 where the label is one of `select_labels`. */
export const labelToMask: TransformDefinition<typeof maskArgs> = {
  names: ['LabelToMaskd', 'LabelToMaskD', 'LabelToMaskDict', 'LabelToMask'],
  args: maskArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) => eachImage(a, (field) => relabelled(field, (label) => (a.select_labels.includes(label) ? 1 : 0))),
}

const mapArgs = fieldArgs({
  orig_labels: integers,
  target_labels: z.array(integer.pipe(z.int().min(0).max(65535))),
  dtype: DESCRIBING.label_dtype,
})

/** MONAI's MapLabelValued. Labels not listed stay. */
export const mapLabelValue: TransformDefinition<typeof mapArgs> = {
  names: ['MapLabelValued', 'MapLabelValueD', 'MapLabelValueDict', 'MapLabelValue'],
  args: mapArgs,
  traits: () => ({ takes: 'labels', renumbers: true }),
  create: (a) => {
    if (a.orig_labels.length !== a.target_labels.length) {
      throw new AppError('BAD_MODEL_CONFIG', 'orig_labels and target_labels must be of one length')
    }
    return eachImage(a, (field) =>
      relabelled(field, (label) => {
        const at = a.orig_labels.indexOf(label)
        return at < 0 ? label : a.target_labels[at]!
      }),
    )
  },
}

const splitLabelArgs = fieldArgs({ keys: oneKey, label_names: names, ...describing('input_channels') })

/** Clara's SplitBasedOnLabel: one binary field per label value, the n-th name being label n (0 = background). */
export const splitBasedOnLabel: TransformDefinition<typeof splitLabelArgs> = {
  names: ['SplitBasedOnLabel'],
  args: splitLabelArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) => (item) => {
    const field = requireImage(item, a.keys[0]!)
    return a.label_names.reduce(
      (current, name, value) =>
        withImage(
          current,
          name,
          relabelled(field, (label) => (label === value ? 1 : 0)),
        ),
      item,
    )
  },
}

const splitChannelArgs = fieldArgs({
  keys: oneKey,
  channel_names: names.optional(),
  output_names: names.optional(),
  output_postfixes: names.optional(),
})

/** Clara's SplitAcrossChannels and MONAI's SplitChanneld: each channel a field of its own. */
export const splitAcrossChannels: TransformDefinition<typeof splitChannelArgs> = {
  names: ['SplitAcrossChannels', 'SplitChanneld', 'SplitDimd'],
  args: splitChannelArgs,
  traits: () => ({ channels: 'other' }),
  create: (a) => (item) => {
    const key = a.keys[0]!
    const field = requireImage(item, key)
    let next = item
    for (let c = 0; c < field.volume.channels; c++) {
      const name = a.channel_names?.[c] ?? a.output_names?.[c] ?? `${key}_${a.output_postfixes?.[c] ?? c}`
      next = withImage(next, name, { ...field, volume: channelOf(field.volume, c) })
    }
    return next
  },
}

/** One channel, sharing the voxels. */
export function channelOf(volume: Volume, channel: number): Volume {
  const n = voxelCount(volume)
  const data = volume.data.subarray(channel * n, (channel + 1) * n) as VoxelArray
  return makeVolume(volume.size, volume.affine, data)
}
