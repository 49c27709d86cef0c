/** Laws of grids: what is done can be undone, and putting steps together changes nothing. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { components } from '../../src/geometry/components.js'
import { buildTransform } from '../../src/transforms/catalog.js'
import type { ImageField, Item } from '../../src/transforms/types.js'
import { restore } from '../../src/transforms/undo.js'
import { multiply4, transformPoint } from '../../src/volume/affine.js'
import { axisCodes, moveGrid, movesBetween, orientationOf, parseAxisCodes } from '../../src/volume/orientation.js'
import { percentiles } from '../../src/volume/stats.js'
import type { Vec3 } from '../../src/volume/volume.js'
import { axisOrders, scaleAffine, volumeOf } from '../helpers/volumes.js'

const size = fc.tuple(...([5, 6, 4] as const).map((n) => fc.integer({ min: 1, max: n }))) as fc.Arbitrary<
  [number, number, number]
>
const codes = fc.constantFrom(...axisOrders.map((order) => order.codes))

/** Steps that lose no voxel. */
const lossless = fc.oneof(
  codes.map((axcodes) => ['Orientationd', { axcodes }] as const),
  fc.subarray([0, 1, 2], { minLength: 1 }).map((spatial_axis) => ['Flipd', { spatial_axis }] as const),
  fc
    .tuple(fc.integer({ min: -5, max: 5 }), fc.constantFrom([0, 1], [1, 2], [2, 0]))
    .map(([k, spatial_axes]) => ['Rotate90d', { k, spatial_axes }] as const),
  fc.integer({ min: 1, max: 7 }).map((k) => ['DivisiblePadd', { k }] as const),
  fc
    .array(fc.integer({ min: 0, max: 3 }), { minLength: 3, maxLength: 3 })
    .map((spatial_border) => ['BorderPadd', { spatial_border }] as const),
)
/** Finer voxels of a grid of 1 mm: nothing is lost either, as long as nothing coarser follows. */
const finer = fc
  .integer({ min: 2, max: 4 })
  .map((n) => ['Spacingd', { pixdim: [1 / n, 1 / n, 1 / n], mode: 'nearest' }] as const)
/** Steps that may lose some. */
const lossy = fc.oneof(
  lossless,
  finer,
  fc
    .array(fc.integer({ min: 1, max: 6 }), { minLength: 3, maxLength: 3 })
    .map((roi_size) => ['CenterSpatialCropd', { roi_size }] as const),
  fc
    .array(fc.integer({ min: 1, max: 9 }), { minLength: 3, maxLength: 3 })
    .map((spatial_size) => ['Resized', { spatial_size, mode: 'nearest' }] as const),
)

async function run(
  n: [number, number, number],
  steps: readonly (readonly [string, Record<string, unknown>])[],
): Promise<{ first: ImageField; last: ImageField }> {
  const volume = volumeOf(n, { make: (length) => new Uint8Array(length), value: (i) => (i * 37) % 251 })
  const first: ImageField = { volume, content: 'labels', axes: 'CXYZ', source: volume, undo: [] }
  let item: Item = { images: new Map([['image', first]]), values: new Map(), result: {} }
  for (const [name, args] of steps) item = await buildTransform({ name, args: { keys: 'image', ...args } }).apply(item)
  return { first, last: item.images.get('image')! }
}

describe('the way back', () => {
  test('of any chain that loses nothing gives every voxel back', async () => {
    await fc.assert(
      fc.asyncProperty(size, fc.option(finer), fc.array(lossless, { maxLength: 5 }), async (n, fine, steps) => {
        const { first, last } = await run(n, fine ? [fine, ...steps] : steps)
        expect(restore(last, 'nearest').volume.data).toEqual(first.volume.data)
      }),
    )
  })

  test('in one move equals the way back step by step', async () => {
    await fc.assert(
      fc.asyncProperty(size, fc.array(lossy, { maxLength: 5 }), async (n, steps) => {
        const { first, last } = await run(n, steps)
        let { volume } = last
        for (const { undo } of last.undo.toReversed()) volume = undo(volume, 'nearest')
        const back = restore(last, 'nearest').volume
        expect(back.data).toEqual(volume.data)
        expect(back.size).toEqual(first.volume.size)
        expect(back.affine).toEqual(first.volume.affine)
      }),
    )
  })
})

test('a moved grid names the same places of the world', () => {
  fc.assert(
    fc.property(size, codes, codes, (n, from, to) => {
      const plain = scaleAffine([1, 2, 3], [-4, 5, 6])
      const start = moveGrid({ size: n, affine: plain }, movesBetween(orientationOf(plain), parseAxisCodes(from)!))
      const moves = movesBetween(orientationOf(start.affine), parseAxisCodes(to)!)
      const grid = moveGrid(start, moves)
      expect(axisCodes(grid.affine)).toBe(to)
      const index = grid.size.map((length) => length - 1) as unknown as Vec3
      const old = [0, 0, 0]
      moves.forEach(({ from: axis, flip }, i) => {
        old[axis] = flip ? start.size[axis] - 1 - index[i]! : index[i]!
      })
      expect(transformPoint(grid.affine, index)).toEqual(transformPoint(start.affine, old as unknown as Vec3))
      expect(multiply4(grid.affine, scaleAffine([1, 1, 1]))).toEqual(grid.affine)
    }),
  )
})

test('percentiles are those of the sorted values', () => {
  const value = fc.oneof(
    fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }),
    fc.constantFrom(0, 1, -1),
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(value, { minLength: 1, maxLength: 60 }),
        // what scanners store, and what just does not fit it
        fc.array(fc.integer({ min: -32_769, max: 98_304 }), { minLength: 1, maxLength: 60 }),
      ),
      fc.integer({ min: 0, max: 100 }),
      (values, percent) => {
        const sorted = Float32Array.from(values).sort()
        const rank = (percent / 100) * (sorted.length - 1)
        const [low, high] = [sorted[Math.floor(rank)]!, sorted[Math.ceil(rank)]!]
        const [got] = percentiles(Float32Array.from(values), [percent])
        expect(Math.abs(got! - (low + (high - low) * (rank - Math.floor(rank))))).toBeLessThanOrEqual(
          1e-6 * Math.abs(high - low),
        )
      },
    ),
  )
})

test('components are what a flood from each voxel reaches', () => {
  const voxels = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 60, maxLength: 60 })
  fc.assert(
    fc.property(voxels, fc.constantFrom(1, 2, 3), (values, connectivity) => {
      const found = components(Uint8Array.from(values), [5, 4, 3], connectivity as 1 | 2 | 3)
      const seen = new Int32Array(60)
      let count = 0
      for (let start = 0; start < 60; start++) {
        if (values[start] === 0 || seen[start] !== 0) continue
        count++
        const queue = [start]
        seen[start] = count
        for (let i = queue.pop(); i !== undefined; i = queue.pop()) {
          for (let j = 0; j < 60; j++) {
            const hops =
              Math.abs((j % 5) - (i % 5)) +
              Math.abs((Math.floor(j / 5) % 4) - (Math.floor(i / 5) % 4)) +
              Math.abs(Math.floor(j / 20) - Math.floor(i / 20))
            const near =
              Math.abs((j % 5) - (i % 5)) <= 1 &&
              Math.abs((Math.floor(j / 5) % 4) - (Math.floor(i / 5) % 4)) <= 1 &&
              Math.abs(Math.floor(j / 20) - Math.floor(i / 20)) <= 1
            if (!near || hops > connectivity || seen[j] !== 0 || values[j] !== values[start]) continue
            seen[j] = count
            queue.push(j)
          }
        }
      }
      expect(found.count).toBe(count)
      expect(Array.from(found.ids)).toEqual(Array.from(seen))
    }),
  )
})
