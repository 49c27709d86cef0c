import { expect, it } from 'vitest'
import { turnRows } from '../../../src/formats/dicom-rows.js'
import { transformPoint } from '../../../src/volume/affine.js'
import { makeVolume } from '../../../src/volume/volume.js'

const affine = Float64Array.of(-0.5, 0.1, 0, 10, 0.2, 0.7, 0, -4, 0, 0.3, 2, 7, 0, 0, 0, 1)
const volumeOf = () =>
  makeVolume(
    [2, 3, 2],
    affine,
    Int16Array.from({ length: 12 }, (_, i) => i),
  )
const volume = volumeOf()

it('turns the rows of every slice, and keeps every voxel where it is in the world', () => {
  const turned = turnRows(volumeOf())
  expect([...turned.data]).toEqual([4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7])
  for (const y of [0, 1, 2]) {
    const before = transformPoint(volume.affine, [1, y, 1])
    for (const [i, value] of transformPoint(turned.affine, [1, 2 - y, 1]).entries())
      expect(value).toBeCloseTo(before[i]!, 10)
  }
})

it('twice is nothing', () => {
  const twice = turnRows(turnRows(volumeOf()))
  expect(twice.data).toEqual(volume.data)
  for (const [i, value] of twice.affine.entries()) expect(value).toBeCloseTo(affine[i]!, 12)
})
