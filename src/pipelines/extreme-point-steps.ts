/** What an annotation model does to a scan that its client has not cropped: `padding` and `roi` of the config, as steps. */

import type { ModelConfig, TransformSpec } from '../contract/model.js'
import { addExtremePointsChannel } from '../transforms/add-extreme-points-channel.js'
import { type BuiltTransform, buildTransform, placeIn } from '../transforms/catalog.js'
import { cropByExtremePoints } from '../transforms/crop-by-extreme-points.js'

/**
 * The pre-transforms of a config, built. In an annotation config that crops nowhere, a crop by the extreme points and a
 * resize to `roi` come before the point channel, since AIAA's configs leave both to the server; an image of the size `roi`
 * was cropped by its client and passes both unchanged. Throws BAD_MODEL_CONFIG.
 */
export function buildPreTransforms({ type, preTransforms, padding, roi }: ModelConfig): BuiltTransform[] {
  const box = roi && [0, 1, 2].map((axis) => roi[Math.min(axis, roi.length - 1)]!)
  const own = { ...(padding === undefined ? {} : { padding }), ...(box === undefined ? {} : { roi: box }) }
  const steps = preTransforms.map((entry, i) => {
    const args = isOne(entry, cropByExtremePoints.names) ? { ...own, ...entry.args } : entry.args
    return buildTransform({ ...entry, args }, placeIn('pre_transforms', i, entry.from))
  })
  const at = steps.findIndex(({ definition }) => definition.names === addExtremePointsChannel.names)
  if (type !== 'annotation' || box === undefined || at < 0) return steps
  if (preTransforms.some((entry) => isOne(entry, cropByExtremePoints.names))) return steps
  const { image, points } = steps[at]!.args as { image: string; points: string }
  const crop = buildTransform({ name: 'CropByExtremePointsd', args: { keys: image, points, ...own } })
  const resize = buildTransform({ name: 'Resized', args: { keys: image, spatial_size: box, mode: 'trilinear' } })
  return [...steps.slice(0, at), crop, resize, ...steps.slice(at)]
}

function isOne({ name }: TransformSpec, names: readonly string[]): boolean {
  return names.includes(name.split('.').at(-1)!)
}
