import { expect, it } from 'vitest'
import { checkNewGrid } from '../../../src/transforms/new-grid.js'
import { volumeOf } from '../../helpers/volumes.js'

const volume = volumeOf([4, 4, 4])
const small = { volume, source: volume }

it.each([
  { name: 'a usual grid', size: [512, 512, 600], refused: false },
  { name: 'metres taken for millimetres, the other way round', size: [4000, 4000, 4000], refused: true },
  { name: 'more than numbers can count', size: [2 ** 53, 2 ** 53, 2 ** 53], refused: true },
] as const)('$name: refused is $refused', ({ size, refused }) => {
  const check = () => checkNewGrid(small, size, 'Spacingd')
  if (refused)
    expect(check).toThrow(expect.objectContaining({ code: 'TOO_LARGE', hint: expect.stringMatching(/millimetres/) }))
  else expect(check).not.toThrow()
})

it('an image that is large itself may be padded', () => {
  const large = { ...small, volume: { ...volume, size: [1024, 1024, 600] as const } }
  expect(() => checkNewGrid(large, [1024, 1024, 640], 'SpatialPadd')).not.toThrow()
})

it('the operator sets the limit', () => {
  const bounded = { volume, source: { ...volume, mostVoxels: 1000 } }
  expect(() => checkNewGrid(bounded, [10, 10, 10], 'Spacingd')).not.toThrow()
  expect(() => checkNewGrid(bounded, [10, 10, 11], 'Spacingd')).toThrow(
    expect.objectContaining({ code: 'TOO_LARGE', hint: expect.stringContaining('--max-grid-voxels') }),
  )
})
