/** How the page lays slices out and paints them, away from any screen. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CoarseGrid, stepsOf } from '../../../src/web/coarse-grid.js'
import { patientAxes } from '../../../src/web/geometry.js'
import { LabelMap } from '../../../src/web/label-map.js'
import { arrange, PICTURE_PLANE, patientPlanes } from '../../../src/web/planes.js'
import {
  extremesOf,
  paintColour,
  paintGrey,
  paintLabels,
  sliceGrid,
  usualWindow,
} from '../../../src/web/slice-painter.js'

/** An affine from its columns: the direction of each voxel axis. */
const affine = (...columns: readonly (readonly number[])[]) =>
  Float64Array.from([0, 1, 2].flatMap((row) => [...columns.map((column) => column[row]!), 0]).concat(0, 0, 0, 1))

test.each([
  ['RAS', affine([2, 0, 0], [0, 2, 0], [0, 0, 2]), '+0 +1 +2'],
  ['LPS, as DICOM lies', affine([-1, 0, 0], [0, -1, 0], [0, 0, 1]), '-0 -1 +2'],
  ['PSR: the first axis runs to the back, the second upwards', affine([0, -1, 0], [0, 0, 3], [1, 0, 0]), '+2 -0 +1'],
  ['tilted by 40 degrees about R', affine([1, 0, 0], [0, 0.766, 0.643], [0, -0.643, 0.766]), '+0 +1 +2'],
  ['thin voxels do not count for less', affine([0.1, 0, 0], [0, 9, 0], [0, 0, 1]), '+0 +1 +2'],
])('which voxel axes run along R, A and S: %s', (_name, matrix, expected) => {
  const axes = patientAxes(matrix).map(({ axis, backwards }) => `${backwards ? '-' : '+'}${axis}`)
  expect(axes.join(' ')).toBe(expected)
})

test("an axial slice has the patient's right on the left and the front on top, a sagittal one the front on the left", () => {
  // Each voxel of a 2x2x2 volume says where it lies: R, A and S as 4, 2 and 1. Stored as LPS.
  const voxels = Uint8Array.from({ length: 8 }, (_, i) => 4 * (1 - (i & 1)) + 2 * (1 - ((i >> 1) & 1)) + (i >> 2))
  const axes = patientAxes(affine([-1, 0, 0], [0, -1, 0], [0, 0, 1]))
  const shown = Object.fromEntries(
    patientPlanes(axes, true).map((plane) => {
      const pixels = new Uint32Array(4)
      paintGrey(pixels, voxels, sliceGrid([2, 2, 2], plane, 0), [0, 255], 0)
      return [plane.name, [...pixels].map((pixel) => pixel & 255)]
    }),
  )
  // Upper left, upper right, lower left, lower right; the slice is the first one across.
  expect(shown).toEqual({ axial: [6, 2, 4, 0], coronal: [7, 3, 6, 2], sagittal: [7, 5, 6, 4] })
})

test('a picture is shown as it is stored', () => {
  const pixels = new Uint32Array(6)
  paintGrey(pixels, Uint8Array.of(1, 2, 3, 4, 5, 6), sliceGrid([3, 2, 1], PICTURE_PLANE, 0), [0, 255], 0)
  expect([...pixels].map((pixel) => pixel & 255)).toEqual([1, 2, 3, 4, 5, 6])
})

test('the window goes from black to white, and time points lie behind each other', () => {
  const data = Float32Array.of(-1000, 0, 20, 100, 9999, 40)
  const grey = (frame: number) => {
    const pixels = new Uint32Array(3)
    paintGrey(pixels, data, sliceGrid([3, 1, 1], PICTURE_PLANE, 0), [0, 100], frame)
    return [...pixels].map((pixel) => pixel.toString(16))
  }
  expect(grey(0)).toEqual(['ff000000', 'ff000000', 'ff333333'])
  expect(grey(3)).toEqual(['ffffffff', 'ffffffff', 'ff666666'])
})

test('colours lie in planes of their own', () => {
  const pixels = new Uint32Array(2)
  paintColour(pixels, Uint8Array.of(255, 1, 128, 2, 64, 3), sliceGrid([2, 1, 1], PICTURE_PLANE, 0), [0, 255], 0, 2)
  // Alpha, blue, green, red.
  expect([...pixels].map((pixel) => pixel.toString(16))).toEqual(['ff4080ff', 'ff030201'])
})

test('an outline is where a label touches another one or none', () => {
  const labels = Uint8Array.from('0000001112011120111200000', Number)
  const grid = sliceGrid([5, 5, 1], PICTURE_PLANE, 0)
  const pixels = new Uint32Array(25)
  const table = (pixel: number) => new Uint32Array(256).fill(pixel)
  expect(paintLabels(pixels, labels, grid, table(1), table(2))).toBe(true)
  expect(pixels[12]).toBe(1)
  expect([6, 7, 8, 11, 13].map((i) => pixels[i])).toEqual([2, 2, 2, 2, 2])
  expect(paintLabels(pixels, new Uint8Array(25), grid, table(1), undefined)).toBe(false)
  expect(pixels.every((pixel) => pixel === 0)).toBe(true)
})

test('the usual window leaves the outermost out, and an image of one value has one all the same', () => {
  const values = Int16Array.from({ length: 1000 }, (_, i) => i)
  expect(usualWindow(values)).toEqual([10, 994])
  expect(usualWindow(new Float32Array(10).fill(7))).toEqual([7, 8])
  const almostEmpty = new Int16Array(1000)
  almostEmpty[3] = 40
  expect(usualWindow(almostEmpty)).toEqual([0, 40])
  expect(extremesOf(Int16Array.of(3, -2, 9))).toEqual([-2, 9])
})

test('cells lie inside the area, do not overlap and have room at the common scale', () => {
  const length = fc.double({ min: 1, max: 900, noNaN: true })
  const sizes = fc.array(fc.tuple(length, length), { minLength: 1, maxLength: 4 }).filter(({ length: n }) => n !== 2)
  fc.assert(
    fc.property(
      sizes,
      fc.integer({ min: 200, max: 2000 }),
      fc.integer({ min: 200, max: 2000 }),
      (mm, width, height) => {
        const cells = arrange({ width, height }, mm)
        expect(cells.length).toBe(mm.length)
        cells.forEach((cell, i) => {
          expect(cell.width).toBeGreaterThan(0)
          expect(cell.left + cell.width).toBeLessThan(width + 1e-6)
          expect(cell.top + cell.height).toBeLessThan(height + 1e-6)
          for (const other of cells.slice(i + 1)) {
            const apart = cell.left + cell.width <= other.left || other.left + other.width <= cell.left
            expect(apart || cell.top + cell.height <= other.top || other.top + other.height <= cell.top).toBe(true)
          }
        })
      },
    ),
  )
})

test('a label map knows how many voxels each label has, whatever is written, and the box around them', () => {
  const write = fc.record({ at: fc.tuple(fc.nat(4), fc.nat(3), fc.nat(2)), label: fc.nat(3) })
  fc.assert(
    fc.property(fc.array(write, { maxLength: 30 }), (writes) => {
      const map = new LabelMap([5, 4, 3])
      for (const { at, label } of writes)
        map.write({ min: [0, 0, 0], max: at }, map.read({ min: [0, 0, 0], max: at }).fill(label))
      for (const label of [0, 1, 2, 3]) {
        const places = [...map.data.keys()].filter((i) => map.data[i] === label)
        expect(map.count(label)).toBe(places.length)
        const along = (axis: (i: number) => number, pick: (...n: number[]) => number) => pick(...places.map(axis))
        const coordinates = [
          (i: number) => i % 5,
          (i: number) => Math.floor(i / 5) % 4,
          (i: number) => Math.floor(i / 20),
        ]
        const box = { min: coordinates.map((c) => along(c, Math.min)), max: coordinates.map((c) => along(c, Math.max)) }
        expect(map.boxOf(label)).toEqual(places.length === 0 ? undefined : box)
      }
    }),
  )
})

test('a large CT is coarsened evenly for 3-D, thick slices less', () => {
  expect(stepsOf([512, 512, 300], [0.7, 0.7, 1], 192 ** 3)).toEqual([3, 3, 2])
  expect(stepsOf([512, 512, 40], [0.7, 0.7, 5], 192 ** 3)).toEqual([2, 2, 1])
  expect(stepsOf([100, 100, 100], [1, 1, 1], 192 ** 3)).toEqual([1, 1, 1])
})

test('the coarse grid keeps every labelled voxel in its place, by boxes as in one piece, whichever way the axes run', () => {
  const size = [7, 6, 5] as const
  const axes = patientAxes(affine([0, -1, 0], [0, 0, 1], [-1, 0, 0]))
  const box = fc.tuple(fc.nat(6), fc.nat(5), fc.nat(4))
  fc.assert(
    fc.property(box, box, fc.integer({ min: 1, max: 9 }), (a, b, label) => {
      const grid = new CoarseGrid(size, [1, 1, 1], axes, 20)
      const map = new LabelMap(size)
      const range = {
        min: a.map((v, axis) => Math.min(v, b[axis]!)) as never,
        max: a.map((v, axis) => Math.max(v, b[axis]!)) as never,
      }
      map.write(range, map.read(range).fill(label))
      const [whole, piece] = [new Uint8Array(grid.voxels), new Uint8Array(grid.voxels)]
      grid.sampleLabels(whole, map)
      grid.sampleLabels(piece, map, range)
      expect(piece).toEqual(whole)
      const steps = stepsOf(size, [1, 1, 1], 20)
      const expected = new Uint8Array(grid.voxels)
      map.data.forEach((value, i) => {
        if (value === 0) return
        const at = [i % 7, Math.floor(i / 7) % 6, Math.floor(i / 42)]
        const [x, y, z] = axes.map(({ axis, backwards }) =>
          Math.floor((backwards ? size[axis] - 1 - at[axis]! : at[axis]!) / steps[axis]),
        ) as [number, number, number]
        expected[x + grid.size[0] * (y + grid.size[1] * z)] = value
      })
      expect(whole).toEqual(expected)
    }),
  )
})
