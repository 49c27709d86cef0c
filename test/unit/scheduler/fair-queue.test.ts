import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FairQueue } from '../../../src/scheduler/fair-queue.js'

const drain = <T>(queue: FairQueue<T>): T[] => {
  const items: T[] = []
  for (let item = queue.shift(); item !== undefined; item = queue.shift()) items.push(item)
  return items
}

describe('FairQueue', () => {
  it.each([
    ['one client: first come, first served', 'a1 a2 a3', 'a1 a2 a3'],
    ['two clients take turns', 'a1 a2 a3 b1', 'a1 b1 a2 a3'],
    ['three clients take turns', 'a1 a2 b1 b2 c1', 'a1 b1 c1 a2 b2'],
  ])('%s', (_what, given, expected) => {
    const queue = new FairQueue<string>()
    for (const item of given.split(' ')) queue.push(item[0]!, item)
    expect(queue.inOrder().join(' ')).toBe(expected)
    expect(drain(queue).join(' ')).toBe(expected)
  })

  it('a client that comes back waits behind those who wait already', () => {
    const queue = new FairQueue<string>()
    for (const item of ['a1', 'b1', 'b2']) queue.push(item[0]!, item)
    expect(queue.shift()).toBe('a1')
    queue.push('a', 'a2')
    expect(drain(queue)).toEqual(['b1', 'a2', 'b2'])
  })

  it('takes one out of turn, whose client then waits behind the others', () => {
    const queue = new FairQueue<string>()
    for (const item of ['a1', 'b1', 'b2', 'c1']) queue.push(item[0]!, item)
    queue.take('b1')
    expect(drain(queue)).toEqual(['a1', 'c1', 'b2'])
  })

  it('says its order truly, loses nothing and keeps each client’s own order, whatever comes and goes', () => {
    const step = fc.oneof(
      fc.record({ push: fc.nat(4) }),
      fc.record({ remove: fc.nat(20) }),
      fc.constant({ shift: true as const }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const queue = new FairQueue<{ client: number; turn: number }>()
        let turn = 0
        let inside: { client: number; turn: number }[] = []
        for (const what of steps) {
          if ('push' in what) {
            const item = { client: what.push, turn: turn++ }
            inside.push(item)
            queue.push(`${what.push}`, item)
          } else if ('remove' in what) {
            const item = inside[what.remove]
            if (!item) continue
            expect(queue.remove(item)).toBe(true)
            expect(queue.remove(item)).toBe(false)
            inside = inside.filter((other) => other !== item)
          } else {
            expect(queue.peek()).toBe(queue.inOrder()[0])
            const item = queue.shift()
            inside = inside.filter((other) => other !== item)
          }
          expect(queue.size).toBe(inside.length)
        }
        const order = queue.inOrder()
        const rest = drain(queue)
        expect(rest).toEqual(order)
        expect(new Set(rest)).toEqual(new Set(inside))
        for (const client of [0, 1, 2, 3, 4]) {
          const own = rest.filter((item) => item.client === client).map((item) => item.turn)
          expect(own).toEqual([...own].sort((a, b) => a - b))
        }
      }),
    )
  })
})
