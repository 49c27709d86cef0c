import { z } from 'zod'
import { writePointSignal } from '../geometry/point-signal.js'
import { makeVolume } from '../volume/volume.js'
import { requireImage, withImage } from './fields.js'
import { guidanceOf } from './guidance.js'
import type { TransformDefinition } from './types.js'

const args = z.strictObject({
  image: z.string().default('image'),
  guidance: z.string().default('guidance'),
  sigma: z.number().positive().max(50).default(2),
  number_intensity_ch: z.int().positive().default(1),
})

/**
 * Adds a foreground and a background channel: a blob of `sigma` voxels at each click, scaled to 0..1; all zero where
 * there is no click. Source: monai.apps.deepgrow.transforms.AddGuidanceSignald.
 */
export const addGuidanceSignal: TransformDefinition<typeof args> = {
  names: ['AddGuidanceSignald', 'AddGuidanceSignalD', 'AddGuidanceSignalDict', 'AddGuidanceSignal'],
  args,
  traits: (a) => ({ readsClicks: true, channels: 2, usesChannels: a.number_intensity_ch }),
  create: (a) => (item) => {
    const image = requireImage(item, a.image)
    const guidance = guidanceOf(item, a.guidance)
    const { size, affine, data } = image.volume
    const voxels = size[0] * size[1] * size[2]
    const kept = Math.min(a.number_intensity_ch, image.volume.channels)
    const stacked = new Float32Array(voxels * (kept + 2))
    stacked.set(data.subarray(0, voxels * kept))
    const settings = { sigma: a.sigma, low: 0, high: 1, empty: 0 }
    writePointSignal(stacked, voxels * kept, size, guidance.foreground, settings)
    writePointSignal(stacked, voxels * (kept + 1), size, guidance.background, settings)
    const axes = image.axes.includes('C') ? image.axes : `C${image.axes}`
    return withImage(item, a.image, {
      ...image,
      axes,
      volume: makeVolume(size, affine, stacked, { channels: kept + 2 }),
    })
  },
}
