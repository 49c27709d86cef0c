import { expect, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { startPreload } from '../../src/preload.js'
import { silentLog } from '../../src/util/log.js'
import { fakeRegistry } from '../helpers/test-app.js'

const registry = fakeRegistry(['liver', 'spleen'])

test('is ready when every named model is in memory, and says which is missing before', async () => {
  const loaded: string[] = []
  const preload = startPreload(
    ['spleen', 'liver'],
    registry,
    { load: async ({ name }) => void loaded.push(name) },
    silentLog,
  )
  expect(preload.reason()).toBe("model 'spleen' is being loaded")
  await expect.poll(() => preload.reason()).toBeUndefined()
  expect(loaded).toEqual(['spleen', 'liver'])
})

test('of * means every model', async () => {
  const loaded: string[] = []
  const preload = startPreload(['*'], registry, { load: async ({ name }) => void loaded.push(name) }, silentLog)
  await expect.poll(() => preload.reason()).toBeUndefined()
  expect(loaded.sort()).toEqual(['liver', 'spleen'])
})

test('goes on after a model that cannot be loaded, and stays not ready because of it', async () => {
  const loaded: string[] = []
  const load = async ({ name }: { name: string }) => {
    if (name === 'liver') throw new AppError('BAD_MODEL', 'no such tensor')
    loaded.push(name)
  }
  const preload = startPreload(['liver', 'nobody', 'spleen'], registry, { load }, silentLog)
  await expect.poll(() => loaded).toEqual(['spleen'])
  expect(preload.reason()).toBe("model 'liver' cannot be loaded: no such tensor")
})

test('of nothing is ready at once', () => {
  expect(startPreload([], registry, { load: async () => {} }, silentLog).reason()).toBeUndefined()
})
