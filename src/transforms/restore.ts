/** The transforms that bring a result back to the grid of the file. All of them undo what was really done, step by step. */
import { z } from 'zod'
import { describing, fieldArgs, names, onlyNull } from './args.js'
import { eachImage, requireNamed } from './fields.js'
import type { TransformDefinition } from './types.js'
import { modeOf, restore } from './undo.js'

const invertArgs = fieldArgs({
  ...describing('transform', 'orig_meta_keys', 'to_tensor', 'device'),
  /** The images whose steps are undone; each field knows its own, and the names have to be right. */
  orig_keys: z
    .union([z.string(), z.array(z.string())])
    .nullable()
    .optional(),
  nearest_interp: z.union([z.boolean(), z.array(z.boolean())]).default(true),
  post_func: onlyNull("functions of one's own are not run here"),
})

/** MONAI's Invertd. */
export const invert: TransformDefinition<typeof invertArgs> = {
  names: ['Invertd', 'InvertD', 'InvertDict'],
  args: invertArgs,
  traits: (a) => ({ takes: 'either', restores: [a.nearest_interp].flat()[0] ? 'nearest' : 'own', wholeVolume: true }),
  create: (a) => {
    const nearest = [a.nearest_interp].flat()
    const originals = [a.orig_keys ?? []].flat()
    return eachImage(a, (field, index, item) => {
      requireNamed(item, originals[index] ?? originals.at(-1))
      return restore(field, (nearest[index] ?? nearest.at(-1)) ? 'nearest' : modeOf(field.content))
    })
  },
}

const restoreMode = z.string().pipe(z.enum(['nearest', 'nearest-exact', 'linear', 'bilinear', 'trilinear', 'area']))

const restoredArgs = fieldArgs({
  ref_image: z.union([z.string(), z.array(z.string())]).optional(),
  ...describing('has_channel', 'invert_orient'),
  mode: z
    .union([restoreMode, z.array(restoreMode)])
    .nullable()
    .optional(),
  align_corners: z.union([z.literal(false), z.null(), z.array(z.literal(false).nullable())]).optional(),
})

/** AIAA's and MONAI Label's Restored. */
export const restored: TransformDefinition<typeof restoredArgs> = {
  names: ['Restored', 'RestoreD'],
  args: restoredArgs,
  traits: (a) => ({ takes: 'either', restores: isNearest(a.mode) ? 'nearest' : 'own', wholeVolume: true }),
  create: (a) =>
    eachImage(a, (field, _, item) => {
      requireNamed(item, a.ref_image)
      return restore(field, isNearest(a.mode) ? 'nearest' : modeOf(field.content))
    }),
}

function isNearest(mode: unknown): boolean {
  return [mode].flat().every((word) => typeof word === 'string' && word.toLowerCase().startsWith('nearest'))
}

const shapeArgs = fieldArgs({ src_field: z.string().optional(), is_label: z.boolean().optional() })

/** Clara's RestoreOriginalShape; `is_label` moves scores by nearest voxel too, false never labels in another way. */
export const restoreOriginalShape: TransformDefinition<typeof shapeArgs> = {
  names: ['RestoreOriginalShape'],
  args: shapeArgs,
  traits: (a) => ({ takes: 'either', restores: a.is_label ? 'nearest' : 'own', wholeVolume: true }),
  create: (a) =>
    eachImage(a, (field, _, item) => {
      requireNamed(item, a.src_field)
      return restore(field, a.is_label ? 'nearest' : modeOf(field.content))
    }),
}

const copyArgs = z.strictObject({ keys: names, from_field: z.string().optional(), ...describing('properties') })

/** Clara's CopyProperties: nothing to do, every field knows its own grid. */
export const copyProperties: TransformDefinition<typeof copyArgs> = {
  names: ['CopyProperties'],
  args: copyArgs,
  traits: () => ({ takes: 'either' }),
  create: (a) => (item) => {
    requireNamed(item, [...a.keys, a.from_field ?? null])
    return item
  },
}
