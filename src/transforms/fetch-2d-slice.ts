import { z } from 'zod'
import { AppError } from '../errors.js'
import { makeVolume, type Vec3, type Volume } from '../volume/volume.js'
import { guidanceOf, imageOf, withImage, withValue } from './guidance.js'
import { keysSchema } from './keys.js'
import type { ImageField, TransformDefinition } from './types.js'

const args = z.strictObject({
  keys: keysSchema,
  guidance: z.string().default('guidance'),
  axis: z.int().min(0).max(3).default(0),
  meta_keys: z.unknown().optional(),
  meta_key_postfix: z.unknown().optional(),
  allow_missing_keys: z.boolean().optional(),
})

/**
 * Keeps the slice that the guidance names; its undo puts a slice back into an empty volume.
 * Source: monai.apps.deepgrow.transforms.Fetch2DSliced.
 */
export const fetch2dSlice: TransformDefinition<typeof args> = {
  names: ['Fetch2DSliced', 'Fetch2DSliceD', 'Fetch2DSliceDict', 'Fetch2DSlice'],
  args,
  readsClicks: () => true,
  create: (a) => (item) => {
    const guidance = guidanceOf(item, a.guidance)
    if (guidance.slice === undefined)
      throw new AppError('BAD_MODEL_CONFIG', 'Fetch2DSliced needs guidance of dimensions 2')
    let next = item
    for (const key of a.keys) {
      const image = imageOf(item, key)
      const letter = image.axes[a.axis]
      if (letter === undefined || letter === 'C')
        throw new AppError('BAD_MODEL_CONFIG', `Fetch2DSliced: axis ${a.axis} of ${image.axes} is not a spatial axis`)
      next = withImage(next, key, slicedField(image, letter, guidance.slice))
    }
    const axis = 'XYZ'.indexOf(imageOf(item, a.keys[0]!).axes[a.axis]!)
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
  const before = image.volume
  return {
    ...image,
    volume: takeSlice(before, axis, index),
    axes: image.axes.replace(letter, ''),
    undo: [
      ...image.undo,
      {
        name: 'Fetch2DSliced',
        kind: 'slice',
        before: { size: before.size, affine: before.affine },
        undo: (volume) => putSlice(volume, before, axis, index),
      },
    ],
  }
}

/** One slice of every channel, length 1 along `axis` (0 = x). */
export function takeSlice(volume: Volume, axis: number, index: number): Volume {
  const { size, channels, affine } = volume
  const [nx, ny, nz] = size
  const out = replaceAt(size, axis, 1)
  const data = volume.data.slice(0, out[0] * out[1] * out[2] * channels)
  const [x0, y0, z0] = replaceAt([0, 0, 0], axis, index)
  let at = 0
  for (let c = 0; c < channels; c++)
    for (let z = 0; z < out[2]; z++)
      for (let y = 0; y < out[1]; y++) {
        const row = x0 + nx * (y + y0 + ny * (z + z0 + nz * c))
        for (let x = 0; x < out[0]; x++) data[at++] = volume.data[row + x]!
      }
  const moved = affine.slice()
  for (let r = 0; r < 3; r++) moved[r * 4 + 3] = affine[r * 4 + 3]! + affine[r * 4 + axis]! * index
  return makeVolume(out, moved, data, { channels })
}

/** The slice in an otherwise empty volume on the grid of `before`. */
export function putSlice(slice: Volume, before: Pick<Volume, 'size' | 'affine'>, axis: number, index: number): Volume {
  const [nx, ny, nz] = before.size
  const Voxels = slice.data.constructor as new (length: number) => Volume['data']
  const data = new Voxels(nx * ny * nz * slice.channels)
  const [sx, sy, sz] = slice.size
  const [x0, y0, z0] = replaceAt([0, 0, 0], axis, index)
  let at = 0
  for (let c = 0; c < slice.channels; c++)
    for (let z = 0; z < sz; z++)
      for (let y = 0; y < sy; y++) {
        const row = x0 + nx * (y + y0 + ny * (z + z0 + nz * c))
        for (let x = 0; x < sx; x++) data[row + x] = slice.data[at++]!
      }
  return makeVolume(before.size, before.affine, data, { channels: slice.channels })
}

function replaceAt(vector: Vec3, axis: number, value: number): Vec3 {
  return [axis === 0 ? value : vector[0], axis === 1 ? value : vector[1], axis === 2 ? value : vector[2]]
}
