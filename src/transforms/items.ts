/** Fields among themselves: copies, choices, and several answers made one. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { labelArray } from '../volume/label-array.js'
import { makeVolume, voxelCount } from '../volume/volume.js'
import { fieldArgs, integer, keys, names, numbers } from './args.js'
import { eachImage, requireImage, withImage } from './fields.js'
import type { ImageField, TransformDefinition } from './types.js'

const copyArgs = fieldArgs({ times: integer.pipe(z.int().min(1).max(64)).default(1), names })

/** MONAI's CopyItemsd: `names` lists the copies of all keys, `times` over. */
export const copyItems: TransformDefinition<typeof copyArgs> = {
  names: ['CopyItemsd', 'CopyItemsD', 'CopyItemsDict'],
  args: copyArgs,
  traits: () => ({ takes: 'either' }),
  create: (a) => {
    if (a.names.length !== a.keys.length * a.times)
      throw new AppError('BAD_MODEL_CONFIG', `names must list ${a.keys.length * a.times} copies, got ${a.names.length}`)
    return (item) =>
      a.names.reduce((current, name, i) => {
        const key = a.keys[i % a.keys.length]!
        if (a.allow_missing_keys && !item.images.has(key)) return current
        // both hold the voxels now, so neither may overwrite them
        const shared = { ...requireImage(item, key), scratch: false }
        return withImage(withImage(current, key, shared), name, shared)
      }, item)
  },
}

const selectArgs = z.strictObject({ keys, allow_missing_keys: z.boolean().default(false) })

/** MONAI's SelectItemsd: the other images go. */
export const selectItems: TransformDefinition<typeof selectArgs> = {
  names: ['SelectItemsd', 'SelectItemsD', 'SelectItemsDict'],
  args: selectArgs,
  traits: () => ({ takes: 'either' }),
  create: (a) => (item) => {
    if (!a.allow_missing_keys) for (const key of a.keys) if (!item.values.has(key)) requireImage(item, key)
    return { ...item, images: new Map([...item.images].filter(([key]) => a.keys.includes(key))) }
  },
}

const repeatArgs = fieldArgs({ repeats: integer.pipe(z.int().min(1).max(256)) })

/** MONAI's RepeatChanneld: each channel `repeats` times in a row. */
export const repeatChannel: TransformDefinition<typeof repeatArgs> = {
  names: ['RepeatChanneld', 'RepeatChannelD', 'RepeatChannelDict', 'RepeatChannel'],
  args: repeatArgs,
  traits: () => ({ channels: 'other' }),
  create: (a) =>
    eachImage(a, (field) => {
      const { volume } = field
      const voxels = voxelCount(volume)
      const channels = volume.channels * a.repeats
      const data = new (volume.data.constructor as new (n: number) => typeof volume.data)(voxels * channels)
      for (let c = 0; c < channels; c++) {
        const from = Math.floor(c / a.repeats) * voxels
        data.set(volume.data.subarray(from, from + voxels), c * voxels)
      }
      const axes = field.axes.includes('C') ? field.axes : `C${field.axes}`
      return { ...field, axes, volume: makeVolume(volume.size, volume.affine, data, { channels }), scratch: true }
    }),
}

function sameShape(fields: readonly ImageField[], those: readonly string[]): void {
  const [first] = fields
  const odd = fields.findIndex(
    ({ volume }) =>
      volume.channels !== first!.volume.channels || volume.size.some((n, axis) => n !== first!.volume.size[axis]),
  )
  if (odd > 0)
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `'${those[0]}' and '${those[odd]}' are not of one size and number of channels`,
    )
}

const meanArgs = fieldArgs({ output_key: z.string().nullable().optional(), weights: numbers.nullable().optional() })

/** MONAI's MeanEnsembled: the mean of several fields, weighted where `weights` lists one number a field. */
export const meanEnsemble: TransformDefinition<typeof meanArgs> = {
  names: ['MeanEnsembled', 'MeanEnsembleD', 'MeanEnsembleDict'],
  args: meanArgs,
  traits: () => ({ takes: 'scores' }),
  create: (a) => {
    const output = outputOf(a)
    if (a.weights && a.weights.length !== a.keys.length)
      throw new AppError('BAD_MODEL_CONFIG', `weights must list ${a.keys.length} numbers, got ${a.weights.length}`)
    return (item) => {
      const fields = a.keys.map((key) => requireImage(item, key))
      sameShape(fields, a.keys)
      // MONAI divides the weights by their mean, and the sum by the number of fields
      const mean = a.weights ? a.weights.reduce((sum, w) => sum + w, 0) / a.weights.length : 1
      const { volume } = fields[0]!
      const data = new Float32Array(volume.data.length)
      for (const [i, field] of fields.entries()) {
        const share = (a.weights?.[i] ?? 1) / mean / fields.length
        for (let v = 0; v < data.length; v++) data[v]! += field.volume.data[v]! * share
      }
      return withImage(item, output, { ...fields[0]!, volume: { ...volume, data }, content: 'scores', scratch: true })
    }
  },
}

const voteArgs = fieldArgs({
  output_key: z.string().nullable().optional(),
  num_classes: integer.pipe(z.int().min(2).max(65_536)).nullable().optional(),
})

/**
 * MONAI's VoteEnsembled: of label maps the label with most votes, the lowest on a tie; of masks 1 where more than half say
 * so (`num_classes` tells the two apart).
 */
export const voteEnsemble: TransformDefinition<typeof voteArgs> = {
  names: ['VoteEnsembled', 'VoteEnsembleD', 'VoteEnsembleDict'],
  args: voteArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) => {
    const output = outputOf(a)
    return (item) => {
      const fields = a.keys.map((key) => requireImage(item, key))
      sameShape(fields, a.keys)
      const { volume } = fields[0]!
      const data = labelArray(volume.data.length, 0, (a.num_classes ?? 2) - 1)
      const votes = new Map<number, number>()
      for (let v = 0; v < data.length; v++) {
        votes.clear()
        for (const field of fields) {
          const label = field.volume.data[v]!
          votes.set(label, (votes.get(label) ?? 0) + 1)
        }
        if (a.num_classes) {
          let best = Number.NaN
          for (const [label, count] of votes) {
            const most = votes.get(best) ?? 0
            if (count > most || (count === most && label < best)) best = label
          }
          data[v] = best
        } else data[v] = 2 * (votes.get(1) ?? 0) > fields.length ? 1 : 0
      }
      return withImage(item, output, { ...fields[0]!, volume: { ...volume, data }, content: 'labels', scratch: true })
    }
  },
}

function outputOf({
  keys: those,
  output_key: output,
}: {
  readonly keys: readonly string[]
  readonly output_key?: string | null | undefined
}): string {
  if (output) return output
  if (those.length === 1) return those[0]!
  throw new AppError('BAD_MODEL_CONFIG', 'output_key is missing: several keys become one field')
}

const labelGuidanceArgs = z.strictObject({
  keys,
  source: z.string().default('label'),
  allow_missing_keys: z.boolean().default(false),
})

/** MONAI's AddLabelAsGuidanced: a channel more, 1 where the field `source` is above zero. */
export const addLabelAsGuidance: TransformDefinition<typeof labelGuidanceArgs> = {
  names: ['AddLabelAsGuidanced', 'AddLabelAsGuidanceD', 'AddLabelAsGuidanceDict'],
  args: labelGuidanceArgs,
  traits: () => ({ channels: 1 }),
  create: (a) => (item) =>
    a.keys.reduce((current, key) => {
      if (a.allow_missing_keys && !current.images.has(key)) return current
      const field = requireImage(current, key)
      const source = requireImage(current, a.source)
      sameShape([field, { ...source, volume: { ...source.volume, channels: field.volume.channels } }], [key, a.source])
      const voxels = voxelCount(field.volume)
      const channels = field.volume.channels + source.volume.channels
      const data = new Float32Array(voxels * channels)
      data.set(field.volume.data)
      const from = field.volume.data.length
      for (let v = 0; v < source.volume.data.length; v++) data[from + v] = source.volume.data[v]! > 0 ? 1 : 0
      const axes = field.axes.includes('C') ? field.axes : `C${field.axes}`
      const volume = makeVolume(field.volume.size, field.volume.affine, data, { channels })
      return withImage(current, key, { ...field, axes, volume, scratch: true })
    }, item),
}
