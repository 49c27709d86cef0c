import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { AppError } from '../../../src/errors.js'
import { RequestBoard } from '../../../src/scheduler/request-board.js'
import { silentLog } from '../../../src/util/log.js'
import { FakeTime } from '../../helpers/fake-time.js'

let now = 0
let board: RequestBoard

beforeEach(() => {
  now = 1_000_000
  board = new RequestBoard({
    clock: { now: () => now },
    resultExpirySeconds: 600,
    lingerSeconds: 60,
    maxEnded: 3,
    maxKept: 2,
    log: silentLog,
  })
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
  board.cancel('a')
  expect(board.open(request('a'))).toBeDefined()
})

test('cancel aborts what runs and throws away what waits', async () => {
  const abort = vi.fn()
  const running = board.open(request('a', abort))
  board.cancel('a')
  expect(abort).toHaveBeenCalledWith(code('CANCELLED'))
  expect(board.get('a').state).toBe('cancelled')
  const late = vi.fn(async () => {})
  running.keep(stored(late))
  expect(late).toHaveBeenCalledOnce()
  expect(() => board.borrow('a')).toThrow(code('CANCELLED'))

  const done = board.open(request('b'))
  const discard = vi.fn(async () => {})
  done.keep(stored(discard))
  board.cancel('b')
  expect(discard).toHaveBeenCalledOnce()
  expect(() => board.borrow('b')).toThrow(code('REQUEST_NOT_FOUND'))
})

test('a result is given only when it is there, and is gone when it was delivered', async () => {
  const discard = vi.fn(async () => {})
  const handle = board.open(request('a'))
  expect(() => board.borrow('a')).toThrow(code('REQUEST_NOT_READY'))
  handle.keep(stored(discard))
  const loan = board.borrow('a')
  expect(loan.result.params).toEqual({ a: 1 })
  loan.giveBack(true)
  expect(() => board.borrow('a')).toThrow(code('REQUEST_NOT_FOUND'))
  await expect.poll(() => discard.mock.calls.length).toBe(1)
})

test('an asynchronous result that was not delivered waits to be fetched again', async () => {
  const discard = vi.fn(async () => {})
  board.open(request('a')).keep(stored(discard))
  board.borrow('a').giveBack(false)
  let tell = (_delivered: boolean) => {}
  const delivery = new Promise<boolean>((resolve) => {
    tell = resolve
  })
  board.borrow('a').giveBack(delivery)
  expect(() => board.borrow('a')).toThrow(code('REQUEST_NOT_FOUND'))
  tell(false)
  await expect.poll(() => board.get('a').hasResult).toBe(true)
  expect(discard).not.toHaveBeenCalled()
  expect(board.borrow('a').result.params).toEqual({ a: 1 })
})

test('a result keeps its files while it is being sent, whatever happens to it meanwhile', async () => {
  const discard = vi.fn(async () => {})
  board.open(request('a')).keep(stored(discard))
  const [one, other] = [board.borrow('a'), board.borrow('a')]
  one.giveBack(true)
  now += 600_000
  await board.sweep()
  board.cancel('a')
  expect(discard).not.toHaveBeenCalled()
  other.giveBack(false)
  await expect.poll(() => discard.mock.calls.length).toBe(1)
})

test('a result whose files cannot be removed is tried again, and ends nothing', async () => {
  const time = new FakeTime()
  const failing = new RequestBoard({
    clock: time,
    timers: time,
    resultExpirySeconds: 600,
    lingerSeconds: 60,
    maxEnded: 3,
    maxKept: 2,
    log: silentLog,
  })
  const discard = vi.fn().mockRejectedValueOnce(new Error('EIO')).mockResolvedValue(undefined)
  failing.open(request('a')).keep(stored(discard))
  failing.cancel('a')
  await expect.poll(() => time.pending).toBe(2)
  expect(discard).toHaveBeenCalledOnce()
  time.advance(1_000)
  await expect.poll(() => discard.mock.calls.length).toBe(2)
  await failing.close()
})

test('results that wait have a bound, those still computed included', () => {
  const keeping = (id: string) => ({ ...request(id), keepsResult: true })
  const first = board.open(keeping('a'))
  board.open(keeping('b')).keep(stored())
  expect(() => board.open(keeping('c'))).toThrow(expect.objectContaining({ code: 'BUSY', retryAfterSeconds: 10 }))
  board.open(request('d')).end()
  first.end(new AppError('BAD_PARAMS', 'no points'))
  expect(board.open(keeping('c'))).toBeDefined()
})

test('a failed request gives its error instead of a result', () => {
  board.open(request('a')).end(new AppError('BAD_PARAMS', 'no points', { hint: 'send some' }))
  expect(() => board.borrow('a')).toThrow(expect.objectContaining({ code: 'BAD_PARAMS', hint: 'send some' }))
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
  expect(() => board.borrow('a')).toThrow(code('REQUEST_NOT_FOUND'))
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
