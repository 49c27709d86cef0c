import { expect, test, vi } from 'vitest'
import { Background } from '../../../src/util/background.js'
import { FakeTime } from '../../helpers/fake-time.js'

function background() {
  const time = new FakeTime()
  const warn = vi.fn()
  return { time, warn, background: new Background({ warn }, time) }
}

test('what fails is logged and tried again, with growing pauses, until it succeeds', async () => {
  const { time, warn, background: owner } = background()
  const work = vi.fn().mockRejectedValueOnce(new Error('one')).mockRejectedValueOnce(new Error('two'))
  await owner.start('a removal', work)
  expect(warn).toHaveBeenCalledWith(expect.objectContaining({ what: 'a removal' }), expect.any(String))
  for (const pause of [1_000, 2_000]) {
    await expect.poll(() => time.pending).toBe(1)
    time.advance(pause - 1)
    const tries = work.mock.calls.length
    time.advance(1)
    await expect.poll(() => work.mock.calls.length).toBe(tries + 1)
  }
  await owner.close()
  expect([work.mock.calls.length, warn.mock.calls.length, time.pending]).toEqual([3, 2, 0])
})

test('rounds go on after one that failed, and never overlap', async () => {
  const { time, warn, background: owner } = background()
  let finish = () => {}
  const work = vi
    .fn()
    .mockImplementationOnce(() => new Promise<void>((resolve) => (finish = resolve)))
    .mockRejectedValueOnce(new Error('EIO'))
    .mockResolvedValue(undefined)
  owner.every(1_000, 'a look', work)
  time.advance(1_000)
  await expect.poll(() => work.mock.calls.length).toBe(1)
  time.advance(10_000)
  expect(work).toHaveBeenCalledOnce()
  finish()
  for (const round of [2, 3]) {
    await expect.poll(() => time.pending).toBe(1)
    time.advance(1_000)
    await expect.poll(() => work.mock.calls.length).toBe(round)
  }
  expect(warn).toHaveBeenCalledOnce()
  await owner.close()
})

test('closing waits for what is under way, and gives up what waits to be tried again', async () => {
  const { time, background: owner } = background()
  let finish = () => {}
  void owner.start('slow', () => new Promise<void>((resolve) => (finish = resolve)))
  await owner.start('hopeless', () => Promise.reject(new Error('EIO')))
  let isClosed = false
  const closed = owner.close().then(() => {
    isClosed = true
  })
  await Promise.resolve()
  expect(isClosed).toBe(false)
  finish()
  await closed
  expect(time.pending).toBe(0)
})
