/** The transforms that bring a result back to the grid of the file. All of them undo what was really done, step by step. */
import { z } from 'zod'
import { fieldArgs, ignored, names } from './args.js'
import { eachImage } from './fields.js'
import type { TransformDefinition } from './types.js'
import { restore } from './undo.js'

const invertArgs = fieldArgs({
  transform: ignored,
  orig_keys: ignored,
  orig_meta_keys: ignored,
  nearest_interp: z.union([z.boolean(), z.array(z.boolean())]).default(true),
  to_tensor: ignored,
  device: ignored,
  post_func: ignored,
})

/** MONAI's Invertd. */
export const invert: TransformDefinition<typeof invertArgs> = {
  names: ['Invertd', 'InvertD', 'InvertDict'],
  args: invertArgs,
  traits: () => ({ takes: 'either', restores: true, wholeVolume: true }),
  create: (a) => eachImage(a, (field) => restore(field)),
}

const restoredArgs = fieldArgs({
  ref_image: ignored,
  has_channel: ignored,
  invert_orient: ignored,
  mode: ignored,
  align_corners: ignored,
})

/** AIAA's and MONAI Label's Restored. */
export const restored: TransformDefinition<typeof restoredArgs> = {
  names: ['Restored', 'RestoreD'],
  args: restoredArgs,
  traits: () => ({ takes: 'either', restores: true, wholeVolume: true }),
  create: (a) => eachImage(a, (field) => restore(field)),
}

const shapeArgs = fieldArgs({ src_field: ignored, is_label: z.boolean().default(true) })

/** Clara's RestoreOriginalShape. */
export const restoreOriginalShape: TransformDefinition<typeof shapeArgs> = {
  names: ['RestoreOriginalShape'],
  args: shapeArgs,
  traits: () => ({ takes: 'either', restores: true, wholeVolume: true }),
  create: (a) => eachImage(a, (field) => restore(field)),
}

const copyArgs = z.strictObject({ keys: names, from_field: z.string().optional(), properties: ignored })

/** Clara's CopyProperties: nothing to do, every field knows its own grid. */
export const copyProperties: TransformDefinition<typeof copyArgs> = {
  names: ['CopyProperties'],
  args: copyArgs,
  traits: () => ({ takes: 'either' }),
  create: () => (item) => item,
}
