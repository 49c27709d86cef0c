/** Label maps on other grids: the same place in the patient is the same label. */
import { describe, expect, test } from 'vitest'
import { ontoGrid } from '../../../src/volume/onto-grid.js'
import { makeVolume, type Volume } from '../../../src/volume/volume.js'
import { axisOrders, inAxisOrder, scaleAffine, volumeOf } from '../../helpers/volumes.js'

const GRID = volumeOf([5, 4, 3], { affine: scaleAffine([1, 2, 3], [-10, 20, 30]), value: (i) => i % 7 })
const labels = (volume: Volume) => makeVolume(volume.size, volume.affine, Uint16Array.from(volume.data))

test.each(axisOrders.map((order) => ({ order, codes: order.codes })))('from axes $codes and back', ({ order }) => {
  const moved = ontoGrid(labels(inAxisOrder(GRID, order)), GRID)
  expect([moved.exact, moved.lost]).toEqual([true, 0])
  expect([...moved.volume.data]).toEqual([...GRID.data])
  expect([...moved.volume.affine]).toEqual([...GRID.affine])
})

describe('a grid that is not all of it', () => {
  const shifted = (by: number) => labels({ ...GRID, affine: scaleAffine([1, 2, 3], [-10 + by, 20, 30]) })

  test('a label map beside the image loses what is outside, and says how much', () => {
    const moved = ontoGrid(shifted(2), GRID)
    const outside = [...GRID.data].filter((value, i) => i % 5 >= 3 && value !== 0).length
    expect([moved.exact, moved.lost]).toEqual([true, outside])
    expect(moved.volume.data[2]).toBe(GRID.data[0])
  })

  test('half a voxel beside is no voxel of the image: the nearest is taken', () => {
    const moved = ontoGrid(shifted(0.4), GRID)
    expect(moved.exact).toBe(false)
    expect([...moved.volume.data]).toEqual([...GRID.data])
  })

  test("what a file's rounding moves is where it was", () => {
    expect(ontoGrid(shifted(0.001), GRID)).toMatchObject({ exact: true, lost: 0 })
  })
})
