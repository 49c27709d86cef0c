import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { stackFrames } from '../../../src/formats/dicom-geometry.js'
import type { DicomFrame } from '../../../src/formats/dicom-header.js'

const plain: DicomFrame = {
  position: [0, 0, 0],
  positionDecimals: 2,
  row: [1, 0, 0],
  column: [0, 1, 0],
  pixelSpacing: [2, 3],
  slope: 1,
  intercept: 0,
}
const at = (z: number, more: Partial<DicomFrame> = {}): DicomFrame => ({ ...plain, position: [0, 0, z], ...more })
const stack = (frames: readonly DicomFrame[], gap?: number) =>
  stackFrames(frames, { rows: 4, columns: 5, gap, thickness: undefined })

describe('stackFrames', () => {
  it('orders by place, turns the rows and changes LPS to RAS', () => {
    const { affine, order, notes } = stack([at(5), at(0), at(10)])
    expect(order).toEqual([1, 0, 2])
    // Rows 2 mm apart, columns 3; the first row of the grid is DICOM's last, 6 mm further down.
    expect([...affine]).toEqual([-3, 0, 0, 0, 0, 2, 0, -6, 0, 0, 5, 0, 0, 0, 0, 1])
    expect(notes).toEqual([])
  })

  it.each([
    { name: 'rounded places', frames: [at(0), at(7.07), at(14), at(21.03)], words: undefined },
    { name: 'two at one place', frames: [at(0), at(1), at(1), at(2)], words: /lie where another/ },
    {
      name: 'one turned by a degree',
      frames: [at(0), at(1, { row: [0.99985, 0.01745, 0], column: [-0.01745, 0.99985, 0] })],
      words: /another orientation/,
    },
    { name: 'one with other pixels', frames: [at(0), at(1, { pixelSpacing: [2, 2] })], words: /another pixel spacing/ },
    {
      name: 'one shifted aside',
      frames: [at(0), { ...at(1), position: [1, 0, 1] as const }, at(2)],
      words: /straight row/,
    },
    { name: 'one without a place', frames: [at(0), at(1, { position: undefined })], words: /1 of 2 slices do not say/ },
    {
      name: 'directions that are not perpendicular',
      frames: [at(0, { column: [0.5, 0.866, 0] })],
      words: /perpendicular/,
    },
    { name: 'directions that are not unit vectors', frames: [at(0, { row: [2, 0, 0] })], words: /unit vectors/ },
    { name: 'no pixel size', frames: [at(0, { pixelSpacing: [0, 1] })], words: /not positive/ },
  ])('$name', ({ frames, words }) => {
    if (words) expect(() => stack(frames)).toThrow(words)
    else expect(stack(frames).notes).toEqual([])
  })

  it.each([
    { name: 'a place that is off by 5 %', places: [0, 7.35, 14, 21], words: /not evenly spaced: 7\.35 mm/ },
    { name: 'a gap that is no multiple', places: [0, 1, 2, 4.5, 5.5], words: /not evenly spaced/ },
    { name: 'gaps of two kinds', places: [0, 5, 10, 15, 22, 29], words: /not evenly spaced/ },
  ])('keeps the places of $name and says so', ({ places, words }) => {
    const found = stack(places.map((z) => at(z)))
    expect(found.uneven).toMatch(words)
    expect(found.notes.join()).toContain(found.uneven)
    expect(found.places.map(([, , z]) => z)).toEqual(places)
  })

  it.each([
    { name: 'a gap of three', places: [0, 1, 2, 5], words: /lacks 2 slice/ },
    { name: 'two gaps of two', places: [0, 1, 3, 4, 5, 7, 8], words: /lacks 2 slice/ },
    { name: 'a slice missing among whole millimetres', places: [0, 1, 2, 4], decimals: 0, words: /lacks 1 slice/ },
    {
      name: 'one missing where a tenth is a sixth of the gap',
      places: [-30, -29.4, -28.1, -27.5, -26.9],
      decimals: 1,
      words: /lacks 1 slice.*1\.3 mm between slices 2 and 3/,
    },
    {
      name: 'two missing among gaps of six and seven tenths',
      places: [0, 0.6, 1.3, 1.9, 3.8, 4.4, 5],
      decimals: 1,
      words: /lacks 2 slice/,
    },
    {
      name: 'one missing among rounded places',
      places: [0, 0.6, 1.2, 2.4, 3, 3.6],
      decimals: 1,
      words: /lacks 1 slice/,
    },
  ])('refuses $name', ({ places, decimals = 2, words }) => {
    expect(() => stack(places.map((z) => at(z, { positionDecimals: decimals })))).toThrow(words)
  })

  it('lays slices whose places were rounded to a tenth on a line that is nowhere further off', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 3, max: 300 }),
        fc.double({ min: 0.21, max: 6, noNaN: true }),
        fc.double({ min: -100, max: 100, noNaN: true }),
        (count, gap, start) => {
          const places = Array.from({ length: count }, (_, i) => Math.round((start + i * gap) * 10) / 10)
          const found = stack(places.map((z) => at(z, { positionDecimals: 1 })))
          expect(found.uneven).toBeUndefined()
          for (const [i, [, , z]] of found.places.entries()) expect(Math.abs(z - places[i]!)).toBeLessThan(0.0501)
          const missing = places.toSpliced(1 + (count >> 1), 1)
          const withGap = missing.map((z) => at(z, { positionDecimals: 1 }))
          // Told as missing or as uneven, which rounding may leave open; never taken for even.
          if (count > 4) expect(() => expect(stack(withGap).uneven).toBeUndefined()).toThrow()
        },
      ),
    )
  })

  it('takes the stated spacing where rounded places leave several open', () => {
    const places = [-30, -29.4, -28.8, -28.1, -27.5, -26.9, -26.2, -25.6]
    const frames = places.map((z) => at(z, { positionDecimals: 1 }))
    expect(stackFrames(frames, { rows: 4, columns: 5, gap: undefined, thickness: 0.625 }).affine[10]).toBe(0.625)
  })

  it('stacks frames without any place in their order, and says so', () => {
    const nowhere = { ...plain, position: undefined }
    const { order, placed, affine, notes } = stack([nowhere, nowhere, nowhere])
    expect([order, placed, affine[10]]).toEqual([[0, 1, 2], false, 1])
    expect(notes).toEqual([expect.stringContaining('do not say where their 3 frames lie')])
  })

  it('keeps a tilt, and says so', () => {
    const { affine, notes } = stack([0, 1, 2].map((z) => ({ ...plain, position: [0, z * 0.1, z] as const })))
    expect(affine[6]).toBeCloseTo(-0.1, 12)
    expect(notes).toEqual([expect.stringMatching(/tilted by 5\.711 degrees/)])
  })

  it('takes the spacing of frames that share one place', () => {
    const { affine, order } = stack(
      [at(3), at(3), at(3)].map((frame) => ({ ...frame, position: plain.position })),
      4,
    )
    expect([order, affine[10]]).toEqual([[0, 1, 2], 4])
  })

  it('centres a single image without a place, and says what it had to assume', () => {
    const { affine, notes } = stack([
      { ...plain, position: undefined, row: undefined, column: undefined, pixelSpacing: undefined },
    ])
    expect([affine[3], affine[7], affine[11]]).toEqual([2, -1.5, 0])
    expect(notes).toEqual([expect.stringContaining('1 mm is assumed')])
  })
})
