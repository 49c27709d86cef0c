/** Which image is next, by each strategy. */
import { expect, test } from 'vitest'
import { chooseNext } from '../../../src/datastore/strategies.js'

const item = (id: string, ...tags: readonly string[]) => ({ id, labels: new Map(tags.map((tag) => [tag, {}])) })
const ITEMS = [item('a', 'final'), item('b', 'original'), item('c')]

test.each([
  { strategy: 'first', what: 'passes by final labels', next: 'b' },
  { strategy: 'unlabelled', what: 'passes by labels of any tag', next: 'c' },
] as const)('$strategy $what', ({ strategy, next }) => {
  expect(chooseNext(strategy, ITEMS, () => 0)?.id).toBe(next)
})

test('random takes any that has no final label', () => {
  const asked: number[] = []
  const at = (index: number) =>
    chooseNext('random', ITEMS, (count) => {
      asked.push(count)
      return index
    })?.id
  expect([at(0), at(1), asked]).toEqual(['b', 'c', [2, 2]])
})

test.each(['first', 'random', 'unlabelled'] as const)('%s of none is none', (strategy) => {
  expect(chooseNext(strategy, [item('a', 'final')], () => 0)).toBeUndefined()
})
