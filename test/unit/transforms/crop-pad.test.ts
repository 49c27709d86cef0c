import { expect, test } from 'vitest'
import { fieldOf } from '../../../src/pipelines/fit-image.js'
import { boxed } from '../../../src/transforms/crop-pad.js'
import { volumeOf } from '../../helpers/volumes.js'

test.each([
  ['-1000 around 8 bits', Uint8Array, -1000],
  ['-1024 around unsigned 16 bits', Uint16Array, -1024],
  ['a fraction around whole numbers', Int16Array, 0.5],
])('padding keeps its value: %s', (_, kind, fill) => {
  const field = fieldOf({ volume: volumeOf([2, 1, 1], { value: (i) => i + 7, make: (n) => new kind(n) }) }, 'volume')
  const { data } = boxed(field, [-1, 0, 0], [3, 1, 1], 'SpatialPadd', { fill }).volume
  expect([...data]).toEqual([fill, 7, 8, fill])
})
