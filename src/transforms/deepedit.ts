/**
 * MONAI's DeepEdit: clicks for each label of a model, one channel of them a label. A request names clicks by label; what it
 * calls `foreground` belongs to the first label that is not the background. Without any click the channels are empty.
 * Source: monai.apps.deepedit.transforms.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { writePointSignal } from '../geometry/point-signal.js'
import { makeVolume, type Vec3, voxelCount } from '../volume/volume.js'
import { describing, fieldArgs, integer, number } from './args.js'
import { requireImage, withImage, withValue } from './fields.js'
import { mapPoints, pointsOf } from './guidance.js'
import { scalePoints } from './resize-guidance.js'
import type { Item, TransformDefinition } from './types.js'

/** Clicks by label, in the order of the channels, on a grid of `size` voxels. */
interface LabelGuidance {
  readonly labels: readonly (readonly [label: string, points: readonly Vec3[]])[]
  readonly size: Vec3
}

function guidanceOf(item: Item, key: string): LabelGuidance {
  const value = item.values.get(key)
  if (typeof value === 'object' && value !== null && 'labels' in value) return value as LabelGuidance
  throw new AppError('BAD_MODEL_CONFIG', `there is no guidance '${key}' yet`, {
    hint: 'AddGuidanceFromPointsDeepEditd has to come before this transform',
  })
}

const labelNames = z
  .union([z.record(z.string(), z.unknown()), z.array(z.string())])
  .transform((given) => (Array.isArray(given) ? given : Object.keys(given)))
  .pipe(z.array(z.string()).min(1).max(256))

const BACKGROUND = 'background'

const pointsArgs = z.strictObject({
  ref_image: z.string().default('image'),
  guidance: z.string().default('guidance'),
  label_names: labelNames,
  ...describing('meta_keys', 'meta_key_postfix'),
})

export const addGuidanceFromPointsDeepEdit: TransformDefinition<typeof pointsArgs> = {
  names: ['AddGuidanceFromPointsDeepEditd', 'AddGuidanceFromPointsDeepEditD', 'AddGuidanceFromPointsDeepEditDict'],
  args: pointsArgs,
  traits: (a) => ({ readsClicks: true, labelClicks: a.label_names }),
  create: (a) => (item) => {
    const image = requireImage(item, a.ref_image)
    const first = a.label_names.find((label) => label !== BACKGROUND)
    const labels = a.label_names.map((label) => {
      const sent = [
        ...pointsOf(item, label),
        ...(label === first && label !== 'foreground' ? pointsOf(item, 'foreground') : []),
      ]
      return [label, mapPoints(sent, image.source, image.volume)] as const
    })
    return withValue(item, a.guidance, { labels, size: image.volume.size } satisfies LabelGuidance)
  },
}

const orientArgs = z.strictObject({ ref_image: z.string().default('image'), ...describing('label_names') })

/** Nothing to do: the clicks are moved where guidance is made of them. */
export const orientationGuidanceDeepEdit: TransformDefinition<typeof orientArgs> = {
  names: ['OrientationGuidanceMultipleLabelDeepEditd'],
  args: orientArgs,
  traits: () => ({ readsClicks: true }),
  create: (a) => (item) => {
    requireImage(item, a.ref_image)
    return item
  },
}

const resizeArgs = z.strictObject({ guidance: z.string(), ref_image: z.string() })

export const resizeGuidanceDeepEdit: TransformDefinition<typeof resizeArgs> = {
  names: ['ResizeGuidanceMultipleLabelDeepEditd', 'ResizeGuidanceMultipleLabelDeepEditD'],
  args: resizeArgs,
  traits: () => ({ readsClicks: true }),
  create: (a) => (item) => {
    const { labels, size: from } = guidanceOf(item, a.guidance)
    const { size } = requireImage(item, a.ref_image).volume
    const moved = labels.map(([label, points]) => [label, scalePoints(points, from, size)] as const)
    return withValue(item, a.guidance, { labels: moved, size } satisfies LabelGuidance)
  },
}

const signalArgs = fieldArgs({
  guidance: z.string().default('guidance'),
  sigma: number.pipe(z.number().positive().max(50)).default(3),
  number_intensity_ch: integer.pipe(z.int().positive()).default(1),
})

/** A channel for each label behind the image's own: a blob of `sigma` voxels at each click, scaled to 0..1. */
export const addGuidanceSignalDeepEdit: TransformDefinition<typeof signalArgs> = {
  names: ['AddGuidanceSignalDeepEditd', 'AddGuidanceSignalDeepEditD', 'AddGuidanceSignalDeepEditDict'],
  args: signalArgs,
  traits: (a) => ({ readsClicks: true, usesChannels: a.number_intensity_ch }),
  create: (a) => (item) =>
    a.keys.reduce((current, key) => {
      const image = requireImage(current, key)
      const { labels } = guidanceOf(current, a.guidance)
      const { size, affine, data } = image.volume
      const voxels = voxelCount(image.volume)
      const kept = Math.min(a.number_intensity_ch, image.volume.channels)
      const channels = kept + labels.length
      const stacked = new Float32Array(voxels * channels)
      stacked.set(data.subarray(0, voxels * kept))
      for (const [i, [, points]] of labels.entries())
        writePointSignal(stacked, voxels * (kept + i), size, points, { sigma: a.sigma, low: 0, high: 1, empty: 0 })
      const axes = image.axes.includes('C') ? image.axes : `C${image.axes}`
      return withImage(current, key, {
        ...image,
        axes,
        volume: makeVolume(size, affine, stacked, { channels }),
        scratch: true,
      })
    }, item),
}
