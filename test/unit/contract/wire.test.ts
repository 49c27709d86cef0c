import fc from 'fast-check'
import { expect, it } from 'vitest'
import { clipped, FromRunner } from '../../../src/contract/wire.js'
import { ERROR_STATUS, type ErrorCode } from '../../../src/errors.js'

const text = fc.oneof(fc.string(), fc.string({ minLength: 1900, maxLength: 12_000 }))
const error = fc.record(
  { code: fc.constantFrom(...(Object.keys(ERROR_STATUS) as ErrorCode[])), message: text, hint: text, stack: text },
  { requiredKeys: ['code', 'message'] },
)
const message: fc.Arbitrary<FromRunner> = fc.oneof(
  fc.record({ type: fc.constant('failed' as const), error }),
  fc.record({ type: fc.constant('error' as const), id: fc.nat(), error, spent: fc.boolean() }),
  fc.record({ type: fc.constant('loaded' as const), device: fc.string(), fallbackReason: text }),
  fc.record({
    type: fc.constant('done' as const),
    id: fc.nat(),
    result: fc.record({
      params: fc.constant({}),
      timings: fc.constant({}),
      notes: fc.array(text, { maxLength: 150, size: 'max' }),
    }),
  }),
)

it('whatever a runner says, however long its texts, can be read at the other end', () => {
  fc.assert(
    fc.property(message, (said) => {
      const received = FromRunner.parse(JSON.parse(JSON.stringify(clipped(said))))
      expect(received.type).toBe(said.type)
    }),
    { numRuns: 50 },
  )
})

it('a long text keeps its beginning and says that there was more', () => {
  const said = {
    type: 'failed',
    error: { code: 'UNREADABLE_IMAGE', message: `not a number: ${'9'.repeat(5000)}` },
  } as const
  const { error } = clipped(said) as Extract<FromRunner, { type: 'failed' }>
  expect(error.message).toMatch(/^not a number: 9+…$/)
  expect(error.message).toHaveLength(2000)
})

it('many notes are counted', () => {
  const notes = Array.from({ length: 1500 }, (_, i) => `slice ${i} has a gap`)
  const said = { type: 'done', id: 1, result: { params: {}, timings: {}, notes } } as const
  const { result } = clipped(said) as Extract<FromRunner, { type: 'done' }>
  expect(result.notes).toHaveLength(100)
  expect(result.notes.at(-1)).toBe('and 1401 more notes')
})
