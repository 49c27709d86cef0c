import { describe, expect, it } from 'vitest'
import { buildTransform } from '../../../src/transforms/catalog.js'
import type { Item } from '../../../src/transforms/types.js'
import { makeVolume, type Vec3 } from '../../../src/volume/volume.js'
import { scaleAffine } from '../../helpers/volumes.js'

const SIZE: Vec3 = [12, 10, 8]

/** Scores of a box, 1 inside and 0 outside. */
function boxItem(): { item: Item; data: Float32Array } {
  const data = Float32Array.from({ length: 12 * 10 * 8 }, (_, i) => {
    const [x, y, z] = [i % 12, Math.floor(i / 12) % 10, Math.floor(i / 120)]
    return x >= 3 && x < 9 && y >= 2 && y < 6 && z >= 3 && z < 7 ? 1 : 0
  })
  const volume = makeVolume(SIZE, scaleAffine([1, 2, 3]), data)
  const source = { size: volume.size, affine: volume.affine }
  return {
    data,
    item: {
      images: new Map([['pred', { volume, content: 'scores', axes: 'CXYZ', source, undo: [] }]]),
      values: new Map(),
      result: {},
    },
  }
}

async function run(item: Item, steps: readonly [string, Record<string, unknown>][]): Promise<Item> {
  let current = item
  for (const [name, args] of steps)
    current = await buildTransform({ name, args: { keys: 'pred', ...args } }).apply(current)
  return current
}

const resized: [string, Record<string, unknown>] = ['Resized', { spatial_size: [60, 60, 60], mode: 'trilinear' }]
const threshold: [string, Record<string, unknown>] = ['AsDiscreted', { threshold: 0.5 }]

const differing = (a: ArrayLike<number>, b: Float32Array): number => b.filter((value, i) => a[i] !== value).length

describe('RestoreLabeld', () => {
  it('a structure comes back where it was when its scores are restored and then thresholded', async () => {
    const { item, data } = boxItem()
    const back = await run(item, [resized, ['RestoreLabeld', { mode: 'trilinear' }], threshold])
    expect(differing(back.images.get('pred')!.volume.data, data)).toBe(0)
  })

  it('in mode nearest it is MONAI that decides, and that moves a structure', async () => {
    const { item, data } = boxItem()
    const back = await run(item, [resized, threshold, ['RestoreLabeld', { mode: 'nearest' }]])
    expect(back.images.get('pred')!.volume.size).toEqual(SIZE)
    expect(differing(back.images.get('pred')!.volume.data, data)).toBeGreaterThan(20)
  })

  it('restore_cropping: false stops at the crop, which the writer undoes', async () => {
    const { item } = boxItem()
    const crop: [string, Record<string, unknown>] = ['CenterSpatialCropd', { roi_size: [6, 6, 6] }]
    const back = await run(item, [crop, resized, ['RestoreLabeld', { mode: 'trilinear', restore_cropping: false }]])
    const field = back.images.get('pred')!
    expect(field.volume.size).toEqual([6, 6, 6])
    expect(field.undo.map(({ kind }) => kind)).toEqual(['crop'])
  })

  it('refuses a mode it does not know', () => {
    expect(() => buildTransform({ name: 'RestoreLabeld', args: { keys: 'pred', mode: 'bicubic' } })).toThrow(
      /mode must be nearest, linear, bilinear or trilinear, got 'bicubic'/,
    )
  })
})
