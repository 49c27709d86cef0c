/** Laws of contours and fills on masks that fast-check thinks up, with OpenCV.js as the oracle. */
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { findContours } from '../../src/geometry/contour.js'
import { slicePolygons } from '../../src/geometry/mask-to-polygon.js'
import { fillPolygons } from '../../src/geometry/raster.js'
import { distanceSquared, simplifyRing } from '../../src/geometry/simplify.js'
import { makeVolume, type Vec3 } from '../../src/volume/volume.js'
import { loadOpenCv, type OpenCvOracle } from '../helpers/opencv.js'

let opencv: OpenCvOracle
beforeAll(async () => {
  opencv = await loadOpenCv()
})

interface Mask {
  readonly columns: number
  readonly rows: number
  readonly mask: Uint8Array
}

/** Any pattern of pixels, and patterns of larger blocks of them, which have nested islands more often. */
const anyMask: fc.Arbitrary<Mask> = fc
  .record({
    columns: fc.integer({ min: 1, max: 24 }),
    rows: fc.integer({ min: 1, max: 24 }),
    block: fc.integer({ min: 1, max: 3 }),
  })
  .chain(({ columns, rows, block }) => {
    const across = Math.ceil(columns / block)
    const down = Math.ceil(rows / block)
    return fc.array(fc.boolean(), { minLength: across * down, maxLength: across * down }).map((cells) => {
      const mask = new Uint8Array(columns * rows)
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          mask[row * columns + column] = cells[Math.floor(row / block) * across + Math.floor(column / block)] ? 1 : 0
      return { columns, rows, mask }
    })
  })

const RUNS = { numRuns: 2000 }
const identity = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
const sliceOf = ({ columns, rows, mask }: Mask, size: Vec3 = [columns, rows, 1]) => makeVolume(size, identity, mask)

test('contours, their order, start points and parents are those of findContours', () => {
  fc.assert(
    fc.property(anyMask, ({ columns, rows, mask }) => {
      const { count, points, starts, lengths, parents } = findContours(mask, columns, rows)
      const rings = Array.from({ length: count }, (_, i) => [
        ...points.subarray(2 * starts[i]!, 2 * (starts[i]! + lengths[i]!)),
      ])
      expect({ rings, parents: [...parents] }).toEqual(opencv.contours(mask, columns, rows))
    }),
    RUNS,
  )
})

test('filling all contours of a mask gives the mask back, holes, islands and one-pixel lines included', () => {
  fc.assert(
    fc.property(anyMask, (picture) => {
      const image = new Uint8Array(picture.mask.length)
      fillPolygons(image, slicePolygons(sliceOf(picture), 0, { morePoints: 0, rowAxis: 'y' }), 1, 1, picture.columns)
      expect(image).toEqual(picture.mask)
    }),
    RUNS,
  )
})

test('a volume slice, whose rows are x, has the contours of its transpose', () => {
  fc.assert(
    fc.property(anyMask, fc.nat({ max: 3 }), (picture, morePoints) => {
      const { columns, rows, mask } = picture
      const turned = new Uint8Array(mask.length)
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++) turned[column * rows + row] = mask[row * columns + column]!
      const byX = slicePolygons(sliceOf(picture), 0, { morePoints, rowAxis: 'x' })
      const byY = slicePolygons(sliceOf({ columns: rows, rows: columns, mask: turned }), 0, {
        morePoints,
        rowAxis: 'y',
      })
      expect(byX).toEqual(byY)
      const back = new Uint8Array(mask.length)
      if (morePoints === 0) {
        fillPolygons(back, byX, 1, columns, 1)
        expect(back).toEqual(mask)
      }
    }),
    { numRuns: 500 },
  )
})

test('polygons of any vertices on the image are filled as fillPoly fills them', () => {
  const picture = fc.record({ columns: fc.integer({ min: 1, max: 40 }), rows: fc.integer({ min: 1, max: 40 }) })
  const polygons = picture.chain(({ columns, rows }) => {
    const point = fc.tuple(fc.nat({ max: columns - 1 }), fc.nat({ max: rows - 1 }))
    const polygon = fc.array(point, { minLength: 1, maxLength: 150 }).map((points) => Int32Array.from(points.flat()))
    return fc.record({
      columns: fc.constant(columns),
      rows: fc.constant(rows),
      list: fc.array(polygon, { maxLength: 4 }),
    })
  })
  fc.assert(
    fc.property(polygons, ({ columns, rows, list }) => {
      const image = new Uint8Array(columns * rows)
      fillPolygons(image, list, 1, 1, columns)
      expect(image).toEqual(opencv.fill(list, columns, rows))
    }),
    RUNS,
  )
})

test('every (more_points + 1)-th point is kept, and contours of up to five points are kept whole', () => {
  fc.assert(
    fc.property(anyMask, fc.integer({ min: 0, max: 60 }), (picture, morePoints) => {
      const all = slicePolygons(sliceOf(picture), 0, { morePoints: 0, rowAxis: 'y' })
      const some = slicePolygons(sliceOf(picture), 0, { morePoints, rowAxis: 'y' })
      const want = all.map((ring) =>
        ring.length <= 10 ? ring : ring.filter((_, i) => Math.floor(i / 2) % (morePoints + 1) === 0),
      )
      expect(some).toEqual(want)
    }),
    { numRuns: 500 },
  )
})

test('simplifying keeps the start, the order, and every dropped point within the tolerance', () => {
  fc.assert(
    fc.property(anyMask, fc.double({ min: 0, max: 5, noNaN: true }), (picture, tolerance) => {
      for (const ring of slicePolygons(sliceOf(picture), 0, { morePoints: 0, rowAxis: 'y' })) {
        const simple = simplifyRing(ring, tolerance)
        expect([...simple.subarray(0, 2)]).toEqual([...ring.subarray(0, 2)])
        let at = 0
        for (let i = 0; i < ring.length; i += 2) {
          if (at < simple.length && ring[i] === simple[at] && ring[i + 1] === simple[at + 1]) at += 2
        }
        expect(at).toBe(simple.length)
        for (let i = 0; i < ring.length; i += 2) {
          let least = Infinity
          for (let j = 0; j < simple.length; j += 2) {
            const next = (j + 2) % simple.length
            const [c0, r0, c1, r1] = [simple[j]!, simple[j + 1]!, simple[next]!, simple[next + 1]!]
            least = Math.min(least, distanceSquared(ring[i]!, ring[i + 1]!, c0, r0, c1, r1))
          }
          expect(least).toBeLessThanOrEqual(tolerance * tolerance + 1e-9)
        }
      }
    }),
    { numRuns: 500 },
  )
})
