/** What fixpolygon promises whatever the image shows. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type FixedRing, falloff, fixPolygons, type PolygonEdit } from '../../src/geometry/fix-polygon.js'
import type { RowAxis } from '../../src/geometry/mask-to-polygon.js'
import type { Ring } from '../../src/geometry/ring.js'
import { countContacts } from '../../src/geometry/ring-contacts.js'
import { MOST_REACH } from '../../src/geometry/settle-ring.js'
import type { Work } from '../../src/geometry/work.js'
import { makeVolume, type Volume } from '../../src/volume/volume.js'
import { xorshift32 } from '../helpers/random-masks.js'

const identity = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
const EDGE = 48

type Picture = 'flat' | 'noise' | 'disc' | 'steps'

/** Two slices of 48 x 48 showing nothing, noise, a bright disc with noise, or blocks of grey. */
function imageOf(picture: Picture, seed: number): Volume {
  const below = xorshift32(seed)
  const data = Int16Array.from({ length: 2 * EDGE * EDGE }, (_, i) => {
    const column = i % EDGE
    const row = Math.floor(i / EDGE) % EDGE
    if (picture === 'flat') return 37
    if (picture === 'noise') return below(100)
    if (picture === 'disc') return (Math.hypot(column - 24, row - 24) < 12 ? 400 : 0) + below(40)
    return 50 * Math.floor(column / 9) + 70 * Math.floor(row / 7)
  })
  return makeVolume([EDGE, EDGE, 2], identity, data)
}

/** A star-shaped polygon around the middle, which does not cross itself. */
const star = (least: number) =>
  fc.array(fc.integer({ min: least, max: 20 }), { minLength: 3, maxLength: 24 }).map((radii) =>
    Float64Array.from(
      radii.flatMap((radius, i) => {
        const angle = (2 * Math.PI * i) / radii.length
        return [Math.round(24 + radius * Math.cos(angle)), Math.round(24 + radius * Math.sin(angle))]
      }),
    ),
  )

interface Case {
  readonly volume: Volume
  readonly rowAxis: RowAxis
  readonly slices: Ring[][]
  readonly edit: PolygonEdit
}

const anyCase = (pictures: readonly Picture[]): fc.Arbitrary<Case> =>
  fc
    .record({
      picture: fc.constantFrom(...pictures),
      seed: fc.nat(),
      rowAxis: fc.constantFrom<RowAxis>('x', 'y'),
      ring: star(4),
      above: star(4),
      place: fc.tuple(fc.nat({ max: EDGE - 1 }), fc.nat({ max: EDGE - 1 })),
      vertex: fc.nat(),
      neighbours: fc.nat({ max: 30 }),
      sliceNeighbours: fc.nat({ max: 2 }),
    })
    .map(({ picture, seed, rowAxis, ring, above, place, vertex, neighbours, sliceNeighbours }) => {
      const v = vertex % (ring.length / 2)
      const offset = [place[0] - ring[2 * v]!, place[1] - ring[2 * v + 1]!] as const
      const edit = { slice: 0, polygon: 0, vertex: v, offset, neighbours, sliceNeighbours }
      return { volume: imageOf(picture, seed), rowAxis, slices: [[ring], [above]], edit }
    })

const every = anyCase(['flat', 'noise', 'disc', 'steps'])
/** What a computation comes to, when nobody stops it. */
function done<T>(work: Work<T>): T {
  let step = work.next()
  while (!step.done) step = work.next()
  return step.value
}

const fix = ({ volume, rowAxis, slices, edit }: Case): FixedRing[] =>
  [...fixPolygons(volume, rowAxis, slices, edit)].filter((fixed) => fixed !== undefined)
const RUNS = { numRuns: 200 }

test('the dragged vertex lands exactly at its old place plus the offset', () => {
  fc.assert(
    fc.property(every, (example) => {
      const { vertex, offset } = example.edit
      const old = example.slices[0]![0]!
      const ring = fix(example).find(({ slice }) => slice === 0)?.ring ?? old
      expect([ring[2 * vertex], ring[2 * vertex + 1]]).toEqual([
        old[2 * vertex]! + offset[0],
        old[2 * vertex + 1]! + offset[1],
      ])
    }),
    RUNS,
  )
})

test('vertex counts stay, what lies outside the window stays, and everything stays on whole pixels of the image', () => {
  fc.assert(
    fc.property(every, (example) => {
      const before = example.slices.map(([ring]) => [...ring!])
      const { neighbours, sliceNeighbours, vertex } = example.edit
      for (const { slice, polygon, ring } of fix(example)) {
        const old = example.slices[slice]![polygon]!
        const n = old.length / 2
        expect(ring.length).toBe(old.length)
        expect(slice).toBeLessThanOrEqual(sliceNeighbours)
        for (let i = 0; i < n; i++) {
          for (const value of [ring[2 * i]!, ring[2 * i + 1]!]) {
            expect(Number.isInteger(value) && value >= 0 && value < EDGE).toBe(true)
          }
          const distance = Math.min((i - vertex + n) % n, (vertex - i + n) % n)
          if (slice === 0 && distance > neighbours)
            expect([ring[2 * i], ring[2 * i + 1]]).toEqual([old[2 * i], old[2 * i + 1]])
        }
      }
      expect(example.slices.map(([ring]) => [...ring!])).toEqual(before)
    }),
    RUNS,
  )
})

test('no vertex goes further than the falloff takes it and its reach beyond', () => {
  fc.assert(
    fc.property(every, (example) => {
      const length = Math.hypot(...example.edit.offset)
      for (const { slice, polygon, ring } of fix(example)) {
        const old = example.slices[slice]![polygon]!
        for (let i = 0; i < ring.length; i += 2) {
          const moved = Math.hypot(ring[i]! - old[i]!, ring[i + 1]! - old[i + 1]!)
          expect(moved).toBeLessThanOrEqual(length + Math.min(MOST_REACH, length + 3) + 1)
        }
      }
    }),
    RUNS,
  )
})

test('the polygon meets itself no more often than when the dragged vertex alone had moved', () => {
  fc.assert(
    fc.property(every, (example) => {
      const { vertex, offset } = example.edit
      const old = example.slices[0]![0]!
      const all = Array.from({ length: old.length / 2 }, (_, i) => i)
      const alone = old.slice()
      alone[2 * vertex]! += offset[0]
      alone[2 * vertex + 1]! += offset[1]
      for (const { slice, ring } of fix(example)) {
        const least = slice === 0 ? alone : example.slices[1]![0]!
        expect(done(countContacts(ring, all, []))).toBeLessThanOrEqual(done(countContacts(least, all, [])))
      }
    }),
    RUNS,
  )
})

test('which vertex a polygon is listed from does not matter', () => {
  fc.assert(
    fc.property(every, fc.nat(), (example, turn) => {
      const [ring] = example.slices[0]!
      const n = ring!.length / 2
      const by = turn % n
      const turned = ring!.map((_, i) => ring![(i + 2 * by) % ring!.length]!)
      const edit = { ...example.edit, sliceNeighbours: 0 }
      const [plain] = fix({ ...example, edit })
      const [other] = fix({
        ...example,
        slices: [[turned], example.slices[1]!],
        edit: { ...edit, vertex: (edit.vertex - by + n) % n },
      })
      const back = other?.ring.map((_, i) => other.ring[(i - 2 * by + 2 * n) % (2 * n)]!)
      // A window that covers the whole ring of an even number of vertices has its far end on one side or the other.
      if (2 * edit.neighbours < n) expect(back).toEqual(plain?.ring)
    }),
    { numRuns: 100 },
  )
})

test('on a flat image the neighbours follow the plain falloff, and the slices around by their share', () => {
  const circle = (n: number) =>
    Float64Array.from({ length: 2 * n }, (_, k) => {
      const angle = (2 * Math.PI * (k >> 1)) / n
      return Math.round(24 + 15 * (k % 2 === 0 ? Math.cos(angle) : Math.sin(angle)))
    })
  const rounded = (value: number) => Math.sign(value) * Math.round(Math.abs(value))
  fc.assert(
    fc.property(
      fc.record({
        n: fc.integer({ min: 8, max: 16 }),
        vertex: fc.nat({ max: 7 }),
        push: fc.integer({ min: -5, max: 7 }),
        neighbours: fc.nat({ max: 3 }),
        sliceNeighbours: fc.nat({ max: 1 }),
      }),
      ({ n, vertex, push, neighbours, sliceNeighbours }) => {
        const angle = (2 * Math.PI * vertex) / n
        const offset = [rounded(push * Math.cos(angle)), rounded(push * Math.sin(angle))] as const
        const edit = { slice: 0, polygon: 0, vertex, offset, neighbours, sliceNeighbours }
        const example: Case = { volume: imageOf('flat', 1), rowAxis: 'y', slices: [[circle(n)], [circle(n)]], edit }
        const want = (share: number) =>
          circle(n).map((value, k) => {
            const distance = Math.min(((k >> 1) - vertex + n) % n, (vertex - (k >> 1) + n) % n)
            return value + rounded(share * falloff(distance, neighbours) * offset[k % 2]!)
          })
        const fixed = fix(example)
        expect(fixed.find(({ slice }) => slice === 0)?.ring ?? circle(n)).toEqual(want(1))
        expect(fixed.find(({ slice }) => slice === 1)?.ring ?? circle(n)).toEqual(want(sliceNeighbours === 1 ? 0.5 : 0))
      },
    ),
    RUNS,
  )
})

test('no offset, no change', () => {
  fc.assert(
    fc.property(every, (example) => {
      expect(fix({ ...example, edit: { ...example.edit, offset: [0, 0] } })).toEqual([])
    }),
  )
})
