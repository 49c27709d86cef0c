/**
 * Loading: by the time a pipeline runs, the files of the request have been read. These transforms check that the field
 * is there and say how the array that MONAI or Clara would have made of it is laid out.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { parseAxisCodes } from '../volume/orientation.js'
import { fieldArgs, ignored } from './args.js'
import { arrayTypeOf } from './channels.js'
import { eachImage, requireImage, withImage } from './fields.js'
import { reorient } from './orientation.js'
import type { ImageField, Traits, TransformDefinition } from './types.js'

const dtype = z.union([z.string(), z.null(), z.array(z.string())]).optional()

const monaiArgs = fieldArgs({
  reader: ignored,
  dtype,
  overwriting: ignored,
  image_only: ignored,
  ensure_channel_first: z.boolean().default(false),
  simple_keys: ignored,
  prune_meta_pattern: ignored,
  prune_meta_sep: ignored,
  expanduser: ignored,
})

/** MONAI's LoadImaged: volumes as (i, j, k), pictures as (column, row), channels last unless ensure_channel_first. */
export const loadImage: TransformDefinition<typeof monaiArgs> = {
  names: ['LoadImaged', 'LoadImageD', 'LoadImageDict', 'LoadImage', 'LoadNiftid', 'LoadNiftiD'],
  args: monaiArgs,
  traits: loading,
  create: (a) => {
    const cast = castOf(a.dtype)
    return eachImage(a, (field) => {
      const axes = a.ensure_channel_first ? `C${field.axes.replace('C', '')}` : field.axes
      return cast({ ...field, axes })
    })
  },
}

const niftiArgs = fieldArgs({
  dtype,
  nii_is_channels_first: z.boolean().default(false),
  as_closest_canonical: z.boolean().default(false),
})

/** Clara's LoadNifti: channels last in a 4-D file unless nii_is_channels_first; RAS order when as_closest_canonical. */
export const loadNifti: TransformDefinition<typeof niftiArgs> = {
  names: ['LoadNifti'],
  args: niftiArgs,
  traits: loading,
  create: (a) => {
    const cast = castOf(a.dtype)
    return eachImage(a, (field) => {
      if (a.nii_is_channels_first && field.volume.channels > 1) throw channelsFirst()
      const loaded = cast(field)
      return a.as_closest_canonical ? reorient(loaded, parseAxisCodes('RAS')!, 'LoadNifti') : loaded
    })
  },
}

const multipleArgs = fieldArgs({
  dtype,
  as_closest_canonical: z.boolean().default(false),
  output_field: z.string().optional(),
})

/** Clara's LoadMultipleNifti: each of several files into its own field. */
export const loadMultipleNifti: TransformDefinition<typeof multipleArgs> = {
  names: ['LoadMultipleNifti'],
  args: multipleArgs,
  traits: loading,
  create: (a) => {
    const cast = castOf(a.dtype)
    return eachImage(a, (field) => {
      const loaded = cast(field)
      return a.as_closest_canonical ? reorient(loaded, parseAxisCodes('RAS')!, 'LoadMultipleNifti') : loaded
    })
  },
}

const pictureArgs = fieldArgs({ dtype, use_channels_first: ignored })

/** Clara's LoadPng and LoadJpg: (row, column), RGB channels last. */
export const loadPicture: TransformDefinition<typeof pictureArgs> = {
  names: ['LoadPng', 'LoadJpg', 'LoadPngd', 'LoadPNGd', 'LoadPngD', 'LoadPNG', 'LoadJpgd', 'LoadJPG'],
  args: pictureArgs,
  traits: loading,
  create: (a) => {
    const cast = castOf(a.dtype)
    return (item) =>
      a.keys.reduce((current, key) => {
        const field = requireImage(current, key)
        if (field.volume.size[2] > 1) {
          throw new AppError(
            'BAD_PARAMS',
            `this model reads 2-D pictures, but '${key}' has ${field.volume.size[2]} slices`,
          )
        }
        return withImage(current, key, cast({ ...field, axes: field.volume.channels > 1 ? 'YXC' : 'YX' }))
      }, item)
  },
}

/** A cast makes new voxels. */
function loading({ dtype }: { readonly dtype?: unknown }): Traits {
  return { loads: true, axesOnly: dtype === undefined }
}

function castOf(name: string | readonly string[] | null | undefined): (field: ImageField) => ImageField {
  const first = typeof name === 'string' ? name : name?.[0]
  const type = first ? arrayTypeOf(first) : undefined
  // float32 is what every later step computes in and makes itself: casting now would only copy.
  if (!type || type === Float32Array || type === Float64Array) return (field) => field
  return (field) =>
    field.volume.data instanceof type
      ? field
      : { ...field, volume: { ...field.volume, data: new type(field.volume.data) }, scratch: true }
}

function channelsFirst(): AppError {
  return new AppError('BAD_MODEL_CONFIG', 'nii_is_channels_first is not supported for 4-D files', {
    hint: 'store channels in the fourth dimension of the NIfTI file',
  })
}
