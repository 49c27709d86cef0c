import { z } from 'zod'
import { AppError } from '../errors.js'
import { smoothAxis } from '../geometry/gaussian.js'
import { erfKernel } from '../geometry/point-signal.js'
import { emptyLike, shiftedAffine } from '../volume/crop.js'
import { makeVolume, type Vec3, type Volume } from '../volume/volume.js'
import { requireImage, withImage } from './fields.js'
import { mapPoints, pointsOf } from './guidance.js'
import type { TransformDefinition, UndoStep } from './types.js'
import { moved } from './undo.js'

const args = z.strictObject({
  image: z.string().default('image'),
  foreground: z.string().default('foreground'),
  bb_size: z.int().min(2).max(4096).default(128),
  gaussian: z.boolean().default(false),
  sigma: z.number().positive().max(50).default(1),
  truncated: z.number().positive().max(50).default(2),
  add_exclusion_map: z.boolean().default(true),
})

/**
 * NuClick: a patch of `bb_size` pixels around each click of a picture, with a channel that marks its click and one that
 * marks the other clicks in it. Patches lie behind each other along z, in the order of the clicks; what a network finds in them goes back to
 * where they were, the later over the earlier. Source: monai.apps.nuclick.transforms.AddClickSignalsd.
 */
export const addClickSignals: TransformDefinition<typeof args> = {
  names: ['AddClickSignalsd', 'AddClickSignalsD', 'AddClickSignalsDict'],
  args,
  traits: (a) => ({ readsClicks: true, channels: a.add_exclusion_map ? 2 : 1 }),
  create: (a) => (item) => {
    const image = requireImage(item, a.image)
    const { size, affine, data, channels } = image.volume
    const [nx, ny, nz] = size
    const edge = a.bb_size
    if (nz > 1) throw new AppError('BAD_PARAMS', `this model takes one picture; the image has ${nz} slices`)
    if (edge > nx || edge > ny)
      throw new AppError('BAD_PARAMS', `the picture has ${nx} x ${ny} pixels; this model looks at ${edge} x ${edge}`)
    const clicks = mapPoints(pointsOf(item, a.foreground), image.source, image.volume).filter(
      ([x, y]) => x >= 0 && y >= 0 && x < nx && y < ny,
    )
    if (clicks.length === 0) throw new AppError('BAD_PARAMS', `'${a.foreground}' holds no point inside the picture`)
    const corners = clicks.map(([x, y]) => [cornerOf(x, edge, nx), cornerOf(y, edge, ny)] as const)
    const made = channels + (a.add_exclusion_map ? 2 : 1)
    const plane = edge * edge
    const voxels = plane * clicks.length
    const stacked = new Float32Array(voxels * made)
    for (const [n, [left, top]] of corners.entries()) {
      for (let c = 0; c < channels; c++)
        for (let y = 0; y < edge; y++)
          for (let x = 0; x < edge; x++)
            stacked[c * voxels + n * plane + y * edge + x] = data[c * nx * ny + (top + y) * nx + left + x]!
      const own = new Float32Array(plane)
      const others = new Float32Array(plane)
      const mark = (map: Float32Array, [x, y]: Vec3, value: number) => {
        const [px, py] = [x - left, y - top]
        if (px >= 0 && py >= 0 && px < edge && py < edge) map[py * edge + px] = value
      }
      for (const click of clicks) mark(others, click, 1)
      mark(others, clicks[n]!, 0)
      mark(own, clicks[n]!, 1)
      stacked.set(spread(own, edge, a), channels * voxels + n * plane)
      if (a.add_exclusion_map) stacked.set(spread(others, edge, a), (channels + 1) * voxels + n * plane)
    }
    const [left, top] = corners[0]!
    const patches = makeVolume([edge, edge, clicks.length], shiftedAffine(affine, [left, top, 0]), stacked, {
      channels: made,
    })
    const before = { size, affine }
    const undo: UndoStep = {
      name: 'AddClickSignalsd',
      kind: 'other',
      before,
      undo: (found) => pasted(found, before, corners),
    }
    return withImage(item, a.image, { ...moved(image, patches, undo), axes: 'ZCXY', scratch: true })
  },
}

/** Where a patch begins on an axis of `length`: about its click, moved in where it would leave the picture. */
function cornerOf(click: number, edge: number, length: number): number {
  return Math.min(Math.max(0, click - (edge >> 1)), length - edge)
}

function spread(map: Float32Array, edge: number, { gaussian, sigma, truncated }: z.output<typeof args>): Float32Array {
  if (!gaussian) return map
  const kernel = erfKernel(sigma, truncated)
  return ([0, 1] as const).reduce((values, axis) => smoothAxis(values, [edge, edge, 1], axis, kernel), map)
}

function pasted(
  found: Volume,
  { size, affine }: Pick<Volume, 'size' | 'affine'>,
  corners: readonly (readonly [number, number])[],
): Volume {
  const [edge, , patches] = found.size
  const pixels = size[0] * size[1]
  const data = emptyLike(found.data, pixels * found.channels)
  for (let c = 0; c < found.channels; c++)
    for (const [n, [left, top]] of corners.slice(0, patches).entries())
      for (let i = 0; i < edge * edge; i++) {
        const value = found.data[(c * patches + n) * edge * edge + i]!
        if (value !== 0) data[c * pixels + (top + Math.floor(i / edge)) * size[0] + left + (i % edge)] = value
      }
  return makeVolume(size, affine, data, { channels: found.channels })
}
