import { expect, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { startPreload } from '../../src/preload.js'
import type { RunnerStatus, Scheduler } from '../../src/scheduler/scheduler.js'
import { silentLog } from '../../src/util/log.js'
import { FakeTime } from '../helpers/fake-time.js'
import { fakeRegistry } from '../helpers/test-app.js'

const registry = fakeRegistry(['liver', 'spleen'])
const time = new FakeTime()

function start(names: readonly string[], load: Scheduler['load'], status: Scheduler['status'] = () => []) {
  return startPreload(names, { registry, scheduler: { load, status }, log: silentLog, timers: time })
}

test('is ready when every named model is in memory, and says which is missing before', async () => {
  const loaded: string[] = []
  const preload = start(['spleen', 'liver'], async ({ name }) => void loaded.push(name))
  expect(preload.reason()).toBe("model 'spleen' is being loaded")
  await expect.poll(() => preload.reason()).toBeUndefined()
  expect(loaded).toEqual(['spleen', 'liver'])
})

test('of * means every model', async () => {
  const loaded: string[] = []
  const preload = start(['*'], async ({ name }) => void loaded.push(name))
  await expect.poll(() => preload.reason()).toBeUndefined()
  expect(loaded.sort()).toEqual(['liver', 'spleen'])
})

test('goes on after a model that cannot be loaded, and stays not ready because of it', async () => {
  const loaded: string[] = []
  const load = async ({ name }: { name: string }) => {
    if (name === 'liver') throw new AppError('BAD_MODEL', 'no such tensor')
    loaded.push(name)
  }
  const preload = start(['liver', 'nobody', 'spleen'], load)
  await expect.poll(() => loaded).toEqual(['spleen'])
  expect(preload.reason()).toBe("model 'liver' cannot be loaded: no such tensor")
})

test('of nothing is ready at once', () => {
  expect(start([], async () => {}).reason()).toBeUndefined()
})

test('of a model that could not be loaded is done again, and the server ready when it could', async () => {
  let broken = true
  const preload = start(['spleen'], async () => {
    if (broken) throw new AppError('MODEL_NOT_READY', 'its disk is away')
  })
  await expect.poll(() => preload.reason()).toBe("model 'spleen' cannot be loaded: its disk is away")
  broken = false
  await expect
    .poll(() => {
      time.advance(60_000)
      return preload.reason()
    })
    .toBeUndefined()
})

test('counts a model that a request has loaded meanwhile', async () => {
  let loaded = false
  const load = async () => {
    throw new AppError('RUNNER_CRASHED', 'out of memory')
  }
  const ready = { model: 'spleen', revision: '1', state: 'ready', queued: 0 } as unknown as RunnerStatus
  const preload = start(['spleen'], load, () => (loaded ? [ready] : []))
  await expect.poll(() => preload.reason()).toContain('cannot be loaded')
  loaded = true
  expect(preload.reason()).toBeUndefined()
})
