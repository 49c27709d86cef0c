import { z } from 'zod'
import { AppError } from '../errors.js'
import type { Vec3 } from '../volume/volume.js'
import { fieldArgs } from './args.js'
import { boxed } from './crop-pad.js'
import { requireImage, withImage, withValue } from './fields.js'
import { guidanceOf } from './guidance.js'
import type { ImageField, TransformDefinition } from './types.js'

const args = fieldArgs({
  guidance: z.string().default('guidance'),
  axis: z.int().min(0).max(3).default(0),
})

/**
 * Keeps the slice that the guidance names; its undo puts a slice back into an empty volume.
 * Source: monai.apps.deepgrow.transforms.Fetch2DSliced.
 */
export const fetch2dSlice: TransformDefinition<typeof args> = {
  names: ['Fetch2DSliced', 'Fetch2DSliceD', 'Fetch2DSliceDict', 'Fetch2DSlice'],
  args,
  traits: () => ({ readsClicks: true, slices: true }),
  create: (a) => (item) => {
    const guidance = guidanceOf(item, a.guidance)
    if (guidance.slice === undefined)
      throw new AppError('BAD_MODEL_CONFIG', 'Fetch2DSliced needs guidance of dimensions 2')
    let next = item
    for (const key of a.keys) {
      const image = requireImage(item, key)
      const letter = image.axes[a.axis]
      const { channels } = image.volume
      if (letter === 'C' && channels > 1)
        throw new AppError(
          'BAD_GEOMETRY',
          `the image has ${channels} channels or time points; clicks in a slice need one`,
        )
      if (letter === undefined || letter === 'C')
        throw new AppError('BAD_MODEL_CONFIG', `Fetch2DSliced: axis ${a.axis} of ${image.axes} is not a spatial axis`)
      next = withImage(next, key, slicedField(image, letter, guidance.slice))
    }
    const axis = 'XYZ'.indexOf(requireImage(item, a.keys[0]!).axes[a.axis]!)
    const flat = (points: readonly Vec3[]) => points.map((p) => replaceAt(p, axis, 0))
    return withValue(next, a.guidance, {
      ...guidance,
      foreground: flat(guidance.foreground),
      background: flat(guidance.background),
      size: replaceAt(guidance.size, axis, 1),
    })
  },
}

function slicedField(image: ImageField, letter: string, index: number): ImageField {
  const axis = 'XYZ'.indexOf(letter)
  const { size } = image.volume
  const cut = boxed(image, replaceAt([0, 0, 0], axis, index), replaceAt(size, axis, index + 1), 'Fetch2DSliced')
  const undo = cut.undo.map((step, i) => (i < image.undo.length ? step : { ...step, kind: 'slice' as const }))
  return { ...cut, undo, axes: image.axes.replace(letter, '') }
}

function replaceAt(vector: Vec3, axis: number, value: number): Vec3 {
  return [axis === 0 ? value : vector[0], axis === 1 ? value : vector[1], axis === 2 ? value : vector[2]]
}
