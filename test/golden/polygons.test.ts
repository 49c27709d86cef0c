/** Contours and fills against OpenCV's own, on 2,500 masks; see make_polygon_golden.py. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { slicePolygons } from '../../src/geometry/mask-to-polygon.js'
import { fillPolygons } from '../../src/geometry/raster.js'
import { makeVolume } from '../../src/volume/volume.js'
import { randomMask, randomPolygons } from '../helpers/random-masks.js'

interface Golden {
  readonly morePoints: readonly number[]
  readonly contours: readonly string[]
  readonly fills: readonly string[]
  readonly example: { readonly seed: number; readonly polygons: readonly number[][][] }
}

const golden = JSON.parse(readFileSync(new URL('polygon_golden.json', import.meta.url), 'utf8')) as Golden
const identity = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)

const digest = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex').slice(0, 10)

function polygonsOf(seed: number, morePoints: number): number[][][] {
  const { columns, rows, mask } = randomMask(seed)
  const volume = makeVolume([columns, rows, 1], identity, mask)
  return slicePolygons(volume, 0, { morePoints, rowAxis: 'y' }).map((ring) =>
    Array.from({ length: ring.length / 2 }, (_, i) => [ring[2 * i]!, ring[2 * i + 1]!]),
  )
}

test('an example, point by point', () => {
  expect(polygonsOf(golden.example.seed, 0)).toEqual(golden.example.polygons)
})

test.each([0, 1, 2, 3, 4])('contours of masks %i modulo 5, for every more_points', (rest) => {
  const wrong = golden.contours
    .map((want, i) => ({ seed: i + 1, want }))
    .filter(({ seed }) => seed % 5 === rest)
    .filter(({ seed, want }) => digest(JSON.stringify(golden.morePoints.map((n) => polygonsOf(seed, n)))) !== want)
  expect(wrong).toEqual([])
})

test('polygons filled pixel by pixel', () => {
  const wrong = golden.fills
    .map((want, i) => ({ seed: i + 1, want }))
    .filter(({ seed, want }) => {
      const { columns, rows, polygons } = randomPolygons(seed)
      const image = new Uint8Array(columns * rows)
      fillPolygons(image, polygons, 1, 1, columns)
      return digest(image) !== want
    })
  expect(wrong).toEqual([])
})
