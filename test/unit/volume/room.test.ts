import { expect, test } from 'vitest'
import { collectGarbage } from '../../../src/util/collect-garbage.js'
import { askRoom } from '../../../src/volume/room.js'

const MB = 2 ** 20
const PLENTY = 2 ** 33

/** Bytes of arrays, after `asked` was asked for beside 300 MB that nobody uses any more. */
function arraysAfter(asked: number): number {
  collectGarbage()
  const before = process.memoryUsage().arrayBuffers
  ;(() => new Uint8Array(300 * MB).fill(1))()
  askRoom(asked, 0, PLENTY, 'the test')
  return process.memoryUsage().arrayBuffers - before
}

test('what was dropped before does not stand beside a large image, and is left to the engine beside a small one', () => {
  expect(arraysAfter(2 * MB)).toBeGreaterThan(250 * MB)
  expect(arraysAfter(200 * MB)).toBeLessThan(50 * MB)
})

test('more than may be used is refused with the flag and what would be needed', () => {
  expect(() => askRoom(300, 200, 499, 'reading the image')).toThrow(
    expect.objectContaining({ code: 'TOO_LARGE', hint: 'The limit is --max-volume-bytes; 500 would be needed.' }),
  )
  expect(() => askRoom(300, 200, 500, 'reading the image')).not.toThrow()
})
