import { z } from 'zod'
import { fieldArgs } from './args.js'
import { requireImage, withImage } from './fields.js'
import { pointsOf } from './guidance.js'
import type { TransformDefinition } from './types.js'
import { restore } from './undo.js'

const args = fieldArgs({
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
  traits: () => ({ takes: 'labels', readsClicks: true, wholeVolume: true }),
  create: (a) => (item) => {
    let next = item
    for (const key of a.keys) {
      const field = requireImage(item, key)
      const { volume } = restore(field)
      const own = field.scratch || field.undo.length > 0
      const data = own ? volume.data : volume.data.slice()
      const [nx, ny] = volume.size
      for (const [x, y, z] of pointsOf(item, a.foreground)) {
        const at = x + nx * (y + ny * z)
        if (data[at] === 0) data[at] = 1
      }
      for (const [x, y, z] of pointsOf(item, a.background)) data[x + nx * (y + ny * z)] = 0
      next = withImage(next, key, { ...field, volume: { ...volume, data }, undo: [], scratch: true })
    }
    return next
  },
}
