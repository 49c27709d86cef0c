import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { AppError } from '../../../src/errors.js'
import { RequestBoard } from '../../../src/scheduler/request-board.js'

let now = 0
let board: RequestBoard

beforeEach(() => {
  now = 1_000_000
  board = new RequestBoard({ clock: { now: () => now }, resultExpirySeconds: 600, lingerSeconds: 60, maxEnded: 3 })
})
afterEach(() => board.close())

const request = (id: string, abort = (_reason: AppError) => {}) => ({
  id,
  trace: id,
  client: 'here',
  task: 'deepgrow',
  model: 'm',
  abort,
})
const stored = (discard = async () => {}) => ({ result: { params: { a: 1 }, timings: {}, notes: [] }, discard })
const code = (name: string) => expect.objectContaining({ code: name })

test('a request is queued, runs, and is remembered for a while after its end', async () => {
  const handle = board.open(request('a'))
  expect(board.get('a')).toMatchObject({ state: 'queued', finishedAt: undefined })
  handle.progress({ state: 'running', stage: 'infer', done: 3, total: 8 })
  expect(board.get('a')).toMatchObject({ state: 'running', progress: { done: 3, total: 8 } })
  handle.end()
  expect(board.get('a')).toMatchObject({ state: 'done', progress: undefined })
  now += 60_000
  await board.sweep()
  expect(() => board.get('a')).toThrow(code('REQUEST_NOT_FOUND'))
})

test.each([
  { name: 'cancelled', error: new AppError('CANCELLED', 'off'), state: 'cancelled' },
  { name: 'failed', error: new AppError('BAD_PARAMS', 'no points'), state: 'failed' },
])('$name: how it ended is told', ({ error, state }) => {
  board.open(request('a')).end(error)
  expect(board.get('a')).toMatchObject({ state, error: { code: error.code } })
})

test('our own faults are told without their stack or words', () => {
  board.open(request('a')).end(new TypeError('secret /path'))
  expect(board.get('a').error).toMatchObject({ code: 'INTERNAL', message: 'internal error' })
})

test('news after the end changes nothing', () => {
  const handle = board.open(request('a'))
  handle.end()
  handle.progress({ state: 'running' })
  handle.end(new AppError('CANCELLED', 'late'))
  expect(board.get('a').state).toBe('done')
})

test('an id under way, or whose result waits, is not given twice', () => {
  const handle = board.open(request('a'))
  expect(() => board.open(request('a'))).toThrow(code('BUSY_NAME'))
  handle.keep(stored())
  expect(() => board.open(request('a'))).toThrow(code('BUSY_NAME'))
  board.take('a')
  expect(board.open(request('a'))).toBeDefined()
})

test('cancel aborts what runs and throws away what waits', async () => {
  const abort = vi.fn()
  const running = board.open(request('a', abort))
  await board.cancel('a')
  expect(abort).toHaveBeenCalledWith(code('CANCELLED'))
  const discard = vi.fn(async () => {})
  running.keep(stored(discard))
  await board.cancel('a')
  expect(discard).toHaveBeenCalledOnce()
  expect(() => board.take('a')).toThrow(code('REQUEST_NOT_FOUND'))
})

test('a result is taken once, and only when it is there', () => {
  const handle = board.open(request('a'))
  expect(() => board.take('a')).toThrow(code('REQUEST_NOT_READY'))
  handle.keep(stored())
  expect(board.take('a').result.params).toEqual({ a: 1 })
  expect(() => board.take('a')).toThrow(code('REQUEST_NOT_FOUND'))
})

test('a failed request gives its error instead of a result', () => {
  board.open(request('a')).end(new AppError('BAD_PARAMS', 'no points', { hint: 'send some' }))
  expect(() => board.take('a')).toThrow(expect.objectContaining({ code: 'BAD_PARAMS', hint: 'send some' }))
})

test('a result that nobody fetches expires, and its files with it', async () => {
  const discard = vi.fn(async () => {})
  board.open(request('a')).keep(stored(discard))
  now += 599_000
  await board.sweep()
  expect(discard).not.toHaveBeenCalled()
  now += 1_000
  await board.sweep()
  expect(discard).toHaveBeenCalledOnce()
  expect(() => board.take('a')).toThrow(code('REQUEST_NOT_FOUND'))
})

test('no more than maxEnded ended requests are remembered', async () => {
  for (const id of ['a', 'b', 'c', 'd', 'e']) board.open(request(id)).end()
  await board.sweep()
  expect(board.list().map(({ id }) => id)).toEqual(['c', 'd', 'e'])
})

test('listeners hear every change until they unsubscribe', () => {
  const heard = vi.fn()
  const handle = board.open(request('a'))
  const stop = board.subscribe('a', heard)
  handle.progress({ state: 'running' })
  handle.progress({ state: 'running', stage: 'infer' })
  stop()
  handle.end()
  expect(heard).toHaveBeenCalledTimes(2)
})
