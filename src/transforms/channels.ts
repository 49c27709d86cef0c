/**
 * The order in which a network sees the axes. Voxels stay where they are (channels slowest, x fastest): these transforms
 * rewrite the word `axes`, on which the inferer acts.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { makeVolume, type VoxelArray } from '../volume/volume.js'
import { fieldArgs, ignored, integer, integers } from './args.js'
import { eachImage, requireImage, withImage } from './fields.js'
import type { Content, ImageField, TransformDefinition } from './types.js'

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

const ensureFirstArgs = fieldArgs({ strict_check: ignored, channel_dim: ignored })

/** MONAI's EnsureChannelFirstd. */
export const ensureChannelFirst: TransformDefinition<typeof ensureFirstArgs> = {
  names: ['EnsureChannelFirstd', 'EnsureChannelFirstD', 'EnsureChannelFirstDict', 'EnsureChannelFirst'],
  args: ensureFirstArgs,
  traits: () => ({ axesOnly: true }),
  create: (a) => eachImage(a, (field) => ({ ...field, axes: `C${field.axes.replace('C', '')}` })),
}

const movedArgs = fieldArgs({ channel_dim: ignored })

/** MONAI's AsChannelFirstd: the last axis becomes the first, so a plain (H, W, D) image becomes (D, H, W). */
export const asChannelFirst: TransformDefinition<typeof movedArgs> = {
  names: ['AsChannelFirstd', 'AsChannelFirstD', 'AsChannelFirstDict', 'AsChannelFirst'],
  args: movedArgs,
  create: (a) => eachImage(a, (field) => ({ ...field, axes: `${field.axes.at(-1)}${field.axes.slice(0, -1)}` })),
}

/** MONAI's AsChannelLastd: the first axis becomes the last. */
export const asChannelLast: TransformDefinition<typeof movedArgs> = {
  names: ['AsChannelLastd', 'AsChannelLastD', 'AsChannelLastDict', 'AsChannelLast'],
  args: movedArgs,
  traits: () => ({ channels: 'other' }),
  create: (a) => eachImage(a, (field) => ({ ...field, axes: `${field.axes.slice(1)}${field.axes[0]}` })),
}

/** MONAI's AddChanneld: a channel axis in front of an array that has none. */
export const addChannel: TransformDefinition<typeof plainArgs> = {
  names: ['AddChanneld', 'AddChannelD', 'AddChannelDict', 'AddChannel'],
  args: plainArgs,
  traits: () => ({ axesOnly: true }),
  create: (a) => eachImage(a, (field) => (field.axes.includes('C') ? field : { ...field, axes: `C${field.axes}` })),
}

const squeezeArgs = fieldArgs({ dim: integer.nullable().default(0), update_meta: ignored })

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
  dtype: z.union([z.string(), z.array(z.string())]).optional(),
  data_type: ignored,
  device: ignored,
  wrap_sequence: ignored,
  track_meta: ignored,
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
    const first = [dtype].flat()[0]
    const takes = first !== undefined && isWholeArray(arrayTypeOf(first)) ? 'labels' : 'either'
    return { axesOnly: dtype === undefined, identity: dtype === undefined, takes }
  },
  create: (a) => {
    const types = a.dtype === undefined ? [] : [a.dtype].flat().map(arrayTypeOf)
    return eachImage(a, (field, index) => {
      const type = types[index] ?? types.at(-1)
      if (!type) return field
      const content: Content = field.content === 'scores' && isWholeArray(type) ? 'labels' : field.content
      if (field.volume.data instanceof type) return { ...field, content }
      const data = new type(field.volume.data)
      return { ...field, content, volume: { ...field.volume, data }, scratch: true }
    })
  },
}

const ARRAY_TYPES: Readonly<Record<string, new (values: ArrayLike<number>) => VoxelArray>> = {
  float16: Float32Array,
  float32: Float32Array,
  float: Float32Array,
  float64: Float64Array,
  double: Float64Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int8: Int8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  int64: Int32Array,
  uint32: Uint32Array,
}

/** numpy's or torch's type name to the array that holds it. */
export function arrayTypeOf(name: string): new (values: ArrayLike<number>) => VoxelArray {
  const type = ARRAY_TYPES[name.replace(/^(torch|np|numpy)\./, '')]
  if (type) return type
  throw new AppError('BAD_MODEL_CONFIG', `dtype must be one of ${Object.keys(ARRAY_TYPES).join(', ')}, got '${name}'`)
}

/** Whether the arrays of `arrayTypeOf` hold whole numbers only. */
export function isWholeArray(type: ReturnType<typeof arrayTypeOf>): boolean {
  return (type as unknown) !== Float32Array && (type as unknown) !== Float64Array
}

function lengthOf({ volume }: ImageField, letter: string): number {
  return letter === 'C' ? volume.channels : volume.size['XYZ'.indexOf(letter) as 0 | 1 | 2]
}

/** The array as the config sees it, for messages: (C 1, X 64, Y 64, Z 32). */
export function shapeOf(field: ImageField): string {
  return `(${[...field.axes].map((letter) => `${letter} ${lengthOf(field, letter)}`).join(', ')})`
}
