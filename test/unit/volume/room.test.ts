import { expect, test } from 'vitest'
import { withoutWaste } from '../../../src/volume/room.js'

test('what the work on a large image drops is given back before the next step', async () => {
  const bytes = 256 * 1024 * 1024
  const held = () => process.memoryUsage().arrayBuffers
  const before = held()
  const during = await withoutWaste(bytes, async () => {
    const sums = new Uint8Array(bytes)
    return held() - before + sums[0]!
  })
  expect(during).toBeGreaterThanOrEqual(bytes / 2)
  expect(held() - before).toBeLessThan(bytes / 2)
})
