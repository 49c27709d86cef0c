import { z } from 'zod'
import { imageOf, pointsOf, withImage } from './guidance.js'
import { keysSchema } from './keys.js'
import type { TransformDefinition } from './types.js'

const args = z.strictObject({
  keys: keysSchema,
  foreground: z.string().default('foreground'),
  background: z.string().default('background'),
})

/**
 * A click is obeyed: the voxel of a foreground click belongs to the mask, that of a background click does not. Works on
 * the input's own grid, so whatever is still to be undone is undone first.
 */
export const enforceClicks: TransformDefinition<typeof args> = {
  names: ['EnforceClicksd', 'EnforceClicksD', 'EnforceClicksDict', 'EnforceClicks'],
  args,
  readsClicks: () => true,
  create: (a) => (item) => {
    let next = item
    for (const key of a.keys) {
      const field = imageOf(item, key)
      const volume = field.undo.reduceRight((v, step) => step.undo(v, 'nearest'), field.volume)
      const data = field.undo.length === 0 ? volume.data.slice() : volume.data
      const [nx, ny] = volume.size
      for (const [x, y, z] of pointsOf(item, a.foreground)) {
        const at = x + nx * (y + ny * z)
        if (data[at] === 0) data[at] = 1
      }
      for (const [x, y, z] of pointsOf(item, a.background)) data[x + nx * (y + ny * z)] = 0
      next = withImage(next, key, { ...field, volume: { ...volume, data }, undo: [] })
    }
    return next
  },
}
