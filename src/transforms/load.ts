/**
 * Loading: by the time a pipeline runs, the files of the request have been read. These transforms check that the field
 * is there and say how the array that MONAI or Clara would have made of it is laid out.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { parseAxisCodes } from '../volume/orientation.js'
import { describing, fieldArgs } from './args.js'
import { arrayTypeOf, castField, dtypes, typeFor } from './dtype.js'
import { eachImage, requireImage, withImage } from './fields.js'
import { reorient } from './orientation.js'
import type { ImageField, Traits, TransformDefinition } from './types.js'

const monaiArgs = fieldArgs({
  dtype: dtypes,
  ensure_channel_first: z.boolean().default(false),
  ...describing(
    'reader',
    'overwriting',
    'image_only',
    'simple_keys',
    'prune_meta_pattern',
    'prune_meta_sep',
    'expanduser',
  ),
})

/** MONAI's LoadImaged: volumes as (i, j, k), pictures as (column, row), channels last unless ensure_channel_first. */
export const loadImage: TransformDefinition<typeof monaiArgs> = {
  names: ['LoadImaged', 'LoadImageD', 'LoadImageDict', 'LoadImage', 'LoadNiftid', 'LoadNiftiD'],
  args: monaiArgs,
  traits: loading,
  create: (a) => {
    const cast = castOf(a.dtype)
    return eachImage(a, (field, index) => {
      const axes = a.ensure_channel_first ? `C${field.axes.replace('C', '')}` : field.axes
      return cast({ ...field, axes }, index)
    })
  },
}

const niftiArgs = fieldArgs({
  dtype: dtypes,
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
    return eachImage(a, (field, index) => {
      if (a.nii_is_channels_first && field.volume.channels > 1) throw channelsFirst()
      const loaded = cast(field, index)
      return a.as_closest_canonical ? reorient(loaded, parseAxisCodes('RAS')!, 'LoadNifti') : loaded
    })
  },
}

const multipleArgs = fieldArgs({ dtype: dtypes, as_closest_canonical: z.boolean().default(false) })

/** Clara's LoadMultipleNifti: each of several files into its own field. */
export const loadMultipleNifti: TransformDefinition<typeof multipleArgs> = {
  names: ['LoadMultipleNifti'],
  args: multipleArgs,
  traits: loading,
  create: (a) => {
    const cast = castOf(a.dtype)
    return eachImage(a, (field, index) => {
      const loaded = cast(field, index)
      return a.as_closest_canonical ? reorient(loaded, parseAxisCodes('RAS')!, 'LoadMultipleNifti') : loaded
    })
  },
}

const pictureArgs = fieldArgs({ dtype: dtypes, use_channels_first: z.boolean().default(false) })

/** Clara's LoadPng and LoadJpg: (row, column), RGB channels last unless `use_channels_first`. */
export const loadPicture: TransformDefinition<typeof pictureArgs> = {
  names: ['LoadPng', 'LoadJpg', 'LoadPngd', 'LoadPNGd', 'LoadPngD', 'LoadPNG', 'LoadJpgd', 'LoadJPG'],
  args: pictureArgs,
  traits: loading,
  create: (a) => {
    const cast = castOf(a.dtype)
    return (item) =>
      a.keys.reduce((current, key, index) => {
        const field = requireImage(current, key)
        if (field.volume.size[2] > 1) {
          throw new AppError(
            'BAD_PARAMS',
            `this model reads 2-D pictures, but '${key}' has ${field.volume.size[2]} slices`,
          )
        }
        const colour = a.use_channels_first ? 'CYX' : 'YXC'
        return withImage(current, key, cast({ ...field, axes: field.volume.channels > 1 ? colour : 'YX' }, index))
      }, item)
  },
}

/** A cast makes new voxels. */
function loading({ dtype }: { readonly dtype?: unknown }): Traits {
  return { loads: true, axesOnly: dtype === undefined }
}

/** The cast of each field to its type. Throws BAD_MODEL_CONFIG for a name that is no type. */
function castOf(given: z.output<typeof dtypes>): (field: ImageField, index: number) => ImageField {
  for (const name of [given ?? []].flat()) arrayTypeOf(name)
  return (field, index) => {
    const type = typeFor(given, index)
    // float32 is what every later step computes in and makes itself: casting now would only copy.
    return !type || type === Float32Array || type === Float64Array ? field : castField(field, type)
  }
}

function channelsFirst(): AppError {
  return new AppError('BAD_MODEL_CONFIG', 'nii_is_channels_first is not supported for 4-D files', {
    hint: 'store channels in the fourth dimension of the NIfTI file',
  })
}
