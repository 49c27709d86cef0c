import { expect, it } from 'vitest'
import { forEachConcurrently } from '../../../src/util/concurrently.js'

const turn = () => new Promise((resolve) => setImmediate(resolve))

it('works through all items, never more than so many at once', async () => {
  let now = 0
  let most = 0
  const done: number[] = []
  await forEachConcurrently([10, 11, 12, 13, 14], 2, async (item, index, worker) => {
    expect(item).toBe(10 + index)
    expect([0, 1]).toContain(worker)
    most = Math.max(most, ++now)
    await turn()
    now--
    done.push(item)
  })
  expect(done.sort()).toEqual([10, 11, 12, 13, 14])
  expect(most).toBe(2)
})

it('starts nothing after a failure, and throws it when the rest is over', async () => {
  const started: number[] = []
  let over = 0
  const work = forEachConcurrently([0, 1, 2, 3, 4, 5], 2, async (item) => {
    started.push(item)
    await turn()
    if (item === 0) throw new Error('first')
    await turn()
    await turn()
    over++
  })
  await expect(work).rejects.toThrow('first')
  expect(started).toEqual([0, 1])
  expect(over).toBe(1)
})

it('does nothing with nothing', async () => {
  await forEachConcurrently([], 3, () => Promise.reject(new Error('called')))
})
