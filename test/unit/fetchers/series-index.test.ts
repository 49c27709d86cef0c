/** When the DICOMweb service is asked for its list, and when it is not. */
import { expect, test } from 'vitest'
import type { Listing } from '../../../src/fetchers/dicomweb-server.js'
import { createSeriesIndex } from '../../../src/fetchers/series-index.js'

const NOTHING: Listing = { images: [], labels: new Map(), complete: true }

function setup(maxAgeMs = 60_000) {
  let now = 1000
  let looks = 0
  const failures: unknown[] = []
  let answer = async (): Promise<Listing> => NOTHING
  const index = createSeriesIndex({
    server: {
      list: async () => {
        looks++
        return answer()
      },
    },
    clock: { now: () => now },
    maxAgeMs,
    onFailure: (error) => failures.push(error),
  })
  return {
    index,
    failures,
    looks: () => looks,
    pass: (ms: number) => {
      now += ms
    },
    answers: (next: typeof answer) => {
      answer = next
    },
  }
}

test('a list is one look for all who wait, and serves until it is too old', async () => {
  const { index, looks, pass } = setup()
  await Promise.all([index.list(), index.list()])
  pass(59_999)
  await index.list()
  expect(looks()).toBe(1)
  pass(1)
  await index.list()
  expect(looks()).toBe(2)
})

test('what is known is told at once, and renewed meanwhile', async () => {
  const { index, looks } = setup()
  expect(index.known()).toBeUndefined()
  await index.list()
  expect([index.known(), looks()]).toEqual([NOTHING, 1])
})

test('a look that fails is told, not repeated by every question, and forgotten by those who wait', async () => {
  const { index, looks, pass, failures, answers } = setup()
  answers(() => Promise.reject(new Error('down')))
  index.known()
  index.known()
  await expect.poll(() => failures).toHaveLength(1)
  index.known()
  expect(looks()).toBe(1)
  await expect(index.list()).rejects.toThrow('down')
  answers(async () => NOTHING)
  expect(await index.list()).toBe(NOTHING)
  pass(60_000)
  expect(index.known()).toBe(NOTHING)
})

test('a label counts at once, also where a look is under way that may not have seen it', async () => {
  const { index, looks, answers } = setup()
  await index.list()
  index.labelled('1.2')
  expect(index.known()?.labels.has('1.2')).toBe(true)
  let finish = (_listing: Listing) => {}
  answers(() => new Promise((resolve) => (finish = resolve)))
  const listing = index.list()
  index.labelled('1.3')
  finish(NOTHING)
  expect([...(await listing).labels.keys()]).toEqual(['1.3'])
  answers(async () => NOTHING)
  await index.list()
  expect(looks()).toBe(3)
})

test('nothing is asked any more when it is closed', () => {
  const { index, looks } = setup()
  index.close()
  index.known()
  expect(looks()).toBe(0)
})
