/** The transforms that bring a result back to the grid of the file. All of them undo what was really done, step by step. */
import { z } from 'zod'
import { fieldArgs, ignored, names } from './args.js'
import { eachImage } from './fields.js'
import type { TransformDefinition } from './types.js'
import { modeOf, restore } from './undo.js'

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
  traits: (a) => ({ takes: 'either', restores: [a.nearest_interp].flat()[0] ? 'nearest' : 'own', wholeVolume: true }),
  create: (a) => {
    const nearest = [a.nearest_interp].flat()
    return eachImage(a, (field, index) =>
      restore(field, (nearest[index] ?? nearest.at(-1)) ? 'nearest' : modeOf(field.content)),
    )
  },
}

const restoredArgs = fieldArgs({
  ref_image: ignored,
  has_channel: ignored,
  invert_orient: ignored,
  mode: z.unknown().optional(),
  align_corners: ignored,
})

/** AIAA's and MONAI Label's Restored. */
export const restored: TransformDefinition<typeof restoredArgs> = {
  names: ['Restored', 'RestoreD'],
  args: restoredArgs,
  traits: (a) => ({ takes: 'either', restores: isNearest(a.mode) ? 'nearest' : 'own', wholeVolume: true }),
  create: (a) => eachImage(a, (field) => restore(field, isNearest(a.mode) ? 'nearest' : modeOf(field.content))),
}

function isNearest(mode: unknown): boolean {
  return [mode].flat().every((word) => typeof word === 'string' && word.toLowerCase().startsWith('nearest'))
}

const shapeArgs = fieldArgs({ src_field: ignored, is_label: z.boolean().default(true) })

/** Clara's RestoreOriginalShape. */
export const restoreOriginalShape: TransformDefinition<typeof shapeArgs> = {
  names: ['RestoreOriginalShape'],
  args: shapeArgs,
  traits: () => ({ takes: 'either', restores: 'own', wholeVolume: true }),
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
