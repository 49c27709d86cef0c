import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { RunnerSettings } from '../../../src/contract/wire.js'
import { loadModels } from '../../../src/runner/load-model.js'
import { modelPath, modelRef } from '../../helpers/runner-fixtures.js'

const settings: RunnerSettings = {
  device: { kind: 'cpu', index: 0 },
  arena: false,
  rewriteTrialMs: 0,
  maxTrialValues: 2 ** 20,
  cacheBytes: 0,
  networkBytes: 0,
  fetch: { allow: [], deadlineMs: 1000, maxBytes: 1000 },
}

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aidant-load-'))
})
afterEach(() => rm(folder, { recursive: true }))

const place = (name: string) => join(folder, name)

test.each([
  { what: 'weights', weights: 'gone', more: [] },
  { what: 'the weights of a second network', weights: 'there', more: ['gone'] },
])('$what that another server has removed are no fault of the model: ask again', async ({ weights, more }) => {
  await copyFile(modelPath('threshold'), place('there'))
  const ref = modelRef('m', { weightsPath: place(weights), morePaths: more.map(place) })
  await expect(loadModels(ref, settings)).rejects.toMatchObject({ code: 'MODEL_NOT_READY', retryAfterSeconds: 2 })
})

test('weights that are there and are no network are the fault of the model', async () => {
  await writeFile(place('hello'), 'hello')
  await expect(loadModels(modelRef('m', { weightsPath: place('hello') }), settings)).rejects.toMatchObject({
    code: 'BAD_MODEL',
  })
})

test('a network that is opened when its turn comes, and whose weights went meanwhile: ask again', async () => {
  for (const name of ['one', 'two']) await copyFile(modelPath('threshold'), place(name))
  const { model } = await loadModels(modelRef('m', { weightsPath: place('one'), morePaths: [place('two')] }), settings)
  await rm(place('two'))
  await expect(model.networks!.facts(1)).rejects.toMatchObject({ code: 'MODEL_NOT_READY' })
})
