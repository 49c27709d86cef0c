/**
 * The order in which a network sees the axes. Voxels stay where they are (channels slowest, x fastest): these transforms
 * rewrite the word `axes`, on which the inferer acts.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { makeVolume } from '../volume/volume.js'
import { describing, fieldArgs, integer, integers } from './args.js'
import { arrayTypeOf, castField, dtypes, isWholeArray, typeFor } from './dtype.js'
import { eachImage, requireImage, withImage } from './fields.js'
import type { ImageField, TransformDefinition } from './types.js'

const plainArgs = fieldArgs({})

/** Clara's ConvertToChannelsFirst: a missing channel axis is added in front. */
export const convertToChannelsFirst: TransformDefinition<typeof plainArgs> = {
  names: ['ConvertToChannelsFirst', 'VolumeTo4DArray'],
  args: plainArgs,
  traits: () => ({ axesOnly: true }),
  create: (a) => eachImage(a, (field) => ({ ...field, axes: `C${field.axes.replace('C', '')}` })),
}

/** Clara's ConvertToChannelsLast: a missing channel axis is added at the end. */
export const convertToChannelsLast: TransformDefinition<typeof plainArgs> = {
  names: ['ConvertToChannelsLast'],
  args: plainArgs,
  traits: () => ({ channels: 'other' }),
  create: (a) => eachImage(a, (field) => ({ ...field, axes: `${field.axes.replace('C', '')}C` })),
}

const ensureFirstArgs = fieldArgs({
  ...describing('strict_check'),
  channel_dim: z.union([integer, z.literal('no_channel'), z.null()]).optional(),
})

/**
 * MONAI's EnsureChannelFirstd: the channel axis first, or one added. `channel_dim` counts the axis that holds the channels,
 * which may be one of the image's own, such as the slices of a network for pictures.
 */
export const ensureChannelFirst: TransformDefinition<typeof ensureFirstArgs> = {
  names: ['EnsureChannelFirstd', 'EnsureChannelFirstD', 'EnsureChannelFirstDict', 'EnsureChannelFirst'],
  args: ensureFirstArgs,
  traits: () => ({ axesOnly: true }),
  create: ({ channel_dim: dim, ...a }) =>
    eachImage(a, (field) => {
      const has = field.axes.includes('C')
      if (dim === 'no_channel' && has && field.volume.channels > 1)
        throw new AppError(
          'BAD_PARAMS',
          `this model takes images without channels, and the image has ${field.volume.channels}`,
        )
      // a plain picture has no axis to spare
      if (typeof dim === 'number' && field.axes.length > 2) {
        const letter = axisAt(field, dim)
        if (letter !== 'C' && letter !== 'Z')
          throw new AppError(
            'BAD_MODEL_CONFIG',
            `channel_dim ${dim} is an axis of the image in an array ${shapeOf(field)}`,
          )
        return { ...field, axes: withFirst(field, dim) }
      }
      return { ...field, axes: `C${field.axes.replace('C', '')}` }
    }),
}

/** The axes with the `dim`-th in front. */
function withFirst(field: ImageField, dim: number): string {
  const letter = axisAt(field, dim)
  return `${letter}${field.axes.replace(letter, '')}`
}

function axisAt(field: ImageField, dim: number): string {
  const letter = field.axes.at(dim)
  if (letter !== undefined) return letter
  throw new AppError('BAD_MODEL_CONFIG', `there is no axis ${dim} in an array ${shapeOf(field)}`)
}

const firstArgs = fieldArgs({ channel_dim: integer.default(-1) })

/** MONAI's AsChannelFirstd: the last axis becomes the first, so a plain (H, W, D) image becomes (D, H, W). */
export const asChannelFirst: TransformDefinition<typeof firstArgs> = {
  names: ['AsChannelFirstd', 'AsChannelFirstD', 'AsChannelFirstDict', 'AsChannelFirst'],
  args: firstArgs,
  create: (a) => eachImage(a, (field) => ({ ...field, axes: withFirst(field, a.channel_dim) })),
}

const lastArgs = fieldArgs({ channel_dim: integer.default(0) })

/** MONAI's AsChannelLastd: the first axis becomes the last. */
export const asChannelLast: TransformDefinition<typeof lastArgs> = {
  names: ['AsChannelLastd', 'AsChannelLastD', 'AsChannelLastDict', 'AsChannelLast'],
  args: lastArgs,
  traits: () => ({ channels: 'other' }),
  create: (a) =>
    eachImage(a, (field) => {
      const letter = axisAt(field, a.channel_dim)
      return { ...field, axes: `${field.axes.replace(letter, '')}${letter}` }
    }),
}

/** MONAI's AddChanneld: a channel axis in front of an array that has none. */
export const addChannel: TransformDefinition<typeof plainArgs> = {
  names: ['AddChanneld', 'AddChannelD', 'AddChannelDict', 'AddChannel'],
  args: plainArgs,
  traits: () => ({ axesOnly: true }),
  create: (a) => eachImage(a, (field) => (field.axes.includes('C') ? field : { ...field, axes: `C${field.axes}` })),
}

const squeezeArgs = fieldArgs({ dim: integer.nullable().default(0), ...describing('update_meta') })

/** MONAI's SqueezeDimd: drops an axis of length 1 (all of them when `dim` is null). */
export const squeezeDim: TransformDefinition<typeof squeezeArgs> = {
  names: ['SqueezeDimd', 'SqueezeDimD', 'SqueezeDimDict', 'SqueezeDim'],
  args: squeezeArgs,
  traits: () => ({ takes: 'either' }),
  create: (a) =>
    eachImage(a, (field) => {
      if (a.dim === null) {
        return { ...field, axes: [...field.axes].filter((letter) => lengthOf(field, letter) > 1).join('') }
      }
      const at = a.dim < 0 ? a.dim + field.axes.length : a.dim
      const letter = field.axes[at]
      if (letter === undefined || lengthOf(field, letter) !== 1) {
        throw new AppError('BAD_MODEL_CONFIG', `dim ${a.dim} of an array ${shapeOf(field)} is not of length 1`)
      }
      return { ...field, axes: field.axes.replace(letter, '') }
    }),
}

const transposeArgs = fieldArgs({ indices: integers })

/** MONAI's Transposed. */
export const transpose: TransformDefinition<typeof transposeArgs> = {
  names: ['Transposed', 'TransposeD', 'TransposeDict', 'Transpose'],
  args: transposeArgs,
  create: (a) =>
    eachImage(a, (field) => {
      const axes = a.indices.map((i) => field.axes[i] ?? '').join('')
      if (axes.length !== field.axes.length || new Set(axes).size !== axes.length) {
        throw new AppError(
          'BAD_MODEL_CONFIG',
          `indices must reorder all ${field.axes.length} axes of ${shapeOf(field)}`,
        )
      }
      return { ...field, axes }
    }),
}

const concatArgs = fieldArgs({ name: z.string(), dim: z.literal(0).default(0) })

/** MONAI's ConcatItemsd: the channels of several images of one grid, in the order of `keys`, as the field `name`. */
export const concatItems: TransformDefinition<typeof concatArgs> = {
  names: ['ConcatItemsd', 'ConcatItemsD', 'ConcatItemsDict', 'ConcatItems'],
  args: concatArgs,
  traits: () => ({ channels: 'other' }),
  create: (a) => (item) => {
    const fields = a.keys
      .filter((key) => !a.allow_missing_keys || item.images.has(key))
      .map((key) => requireImage(item, key))
    const first = fields[0]
    if (!first) throw new AppError('BAD_MODEL_CONFIG', `none of the fields ${a.keys.join(', ')} exists`)
    return withImage(item, a.name, joinChannels(fields, a.keys))
  },
}

/** All channels of the fields as one float32 image on the first one's grid. Throws BAD_PARAMS when the sizes differ. */
export function joinChannels(fields: readonly ImageField[], keys: readonly string[]): ImageField {
  const first = fields[0]!
  const { size, affine } = first.volume
  const odd = fields.findIndex(({ volume }) => volume.size.some((n, axis) => n !== size[axis]))
  if (odd >= 0) {
    throw new AppError(
      'BAD_PARAMS',
      `images of one request must have one size: '${keys[0]}' is ${size.join(' x ')} voxels, ` +
        `'${keys[odd]}' is ${fields[odd]!.volume.size.join(' x ')}`,
    )
  }
  const channels = fields.reduce((sum, { volume }) => sum + volume.channels, 0)
  const data = new Float32Array(size[0] * size[1] * size[2] * channels)
  let at = 0
  for (const { volume } of fields) {
    data.set(volume.data, at)
    at += volume.data.length
  }
  const axes = first.axes.includes('C') ? first.axes : `C${first.axes}`
  const content = fields.every((field) => field.content === first.content) ? first.content : 'intensity'
  return { ...first, axes, content, volume: makeVolume(size, affine, data, { channels }), scratch: true }
}

const typeArgs = fieldArgs({
  dtype: dtypes,
  ...describing('data_type', 'device', 'non_blocking', 'wrap_sequence', 'track_meta'),
})

/**
 * ToTensord, ToNumpyd, EnsureTyped, CastToTyped: casts to `dtype` when there is one, otherwise nothing. Scores cast to
 * whole numbers are labels from then on.
 */
export const castToType: TransformDefinition<typeof typeArgs> = {
  names: [
    ...['ToTensord', 'ToTensorD', 'ToTensorDict', 'ToTensor', 'ToNumpyd', 'ToNumpyD', 'ToNumpyDict', 'ToNumpy'],
    ...['EnsureTyped', 'EnsureTypeD', 'EnsureTypeDict', 'EnsureType'],
    ...['CastToTyped', 'CastToTypeD', 'CastToTypeDict', 'CastToType', 'ToDeviced', 'ToDeviceD', 'ToDevice'],
  ],
  args: typeArgs,
  traits: ({ dtype }) => {
    const first = typeFor(dtype, 0)
    const takes = first !== undefined && isWholeArray(first) ? 'labels' : 'either'
    const asIs = first === undefined
    // of one type for all fields, since a table of values is of float32
    return {
      axesOnly: asIs,
      identity: asIs,
      takes,
      ...(first === Float32Array && !Array.isArray(dtype) && { eachValue: () => {} }),
    }
  },
  create: (a) => {
    for (const name of [a.dtype ?? []].flat()) arrayTypeOf(name)
    return eachImage(a, (field, index) => {
      const type = typeFor(a.dtype, index)
      return type ? castField(field, type) : field
    })
  },
}

function lengthOf({ volume }: ImageField, letter: string): number {
  return letter === 'C' ? volume.channels : volume.size['XYZ'.indexOf(letter) as 0 | 1 | 2]
}

/** The array as the config sees it, for messages: (C 1, X 64, Y 64, Z 32). */
export function shapeOf(field: ImageField): string {
  return `(${[...field.axes].map((letter) => `${letter} ${lengthOf(field, letter)}`).join(', ')})`
}
