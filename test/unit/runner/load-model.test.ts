import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ModelRef } from '../../../src/contract/model.js'
import type { RunnerSettings } from '../../../src/contract/wire.js'
import { makeNode } from '../../../src/onnx/graph.js'
import { writeModel } from '../../../src/onnx/model-file.js'
import { loadModels } from '../../../src/runner/load-model.js'
import { makeModel, weight } from '../../helpers/onnx-model.js'
import { modelPath, modelRef, plainConfig } from '../../helpers/runner-fixtures.js'

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

describe('a network on a share of the cores', () => {
  const open = { ...plainConfig, inference: { ...plainConfig.inference, session: {} } }
  const threads = (intraOpThreads: number) => ({
    ...open,
    inference: { ...open.inference, session: { intraOpThreads } },
  })
  const feeds = { x: { dims: [1, 1, 4, 4, 4], data: Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)) } }
  let ref: ModelRef
  beforeEach(async () => {
    const conv = makeNode('Conv', ['x', 'w'], 'y', { pads: [1, 1, 1, 1, 1, 1] })
    await writeFile(
      place('conv'),
      writeModel(makeModel([conv], [weight('w', [8, 1, 3, 3, 3])], ['n', 1, 'd', 'h', 'w'])),
    )
    ref = modelRef('conv', { config: open, weightsPath: place('conv') })
  })

  test('answers as on all of them, also where its file has gone meanwhile', async () => {
    for (const gone of [false, true]) {
      const cores = { shared: false }
      const { model, shares } = await loadModels(ref, { ...settings, shareThreads: 1 }, cores)
      expect(shares).toBe(true)
      const { y: wanted } = await model.predictor.run(feeds)
      if (gone) await rm(place('conv'))
      cores.shared = true
      const { y: got } = await model.predictor.run(feeds)
      expect(got!.dims).toEqual(wanted!.dims)
      for (const [i, value] of Array.from(wanted!.data).entries()) expect(got!.data[i]).toBeCloseTo(value, 4)
      await model.predictor.close()
    }
  })

  test.each([
    { what: 'nobody shares', change: {}, most: undefined, shares: false },
    { what: 'its config says fewer threads', change: { config: threads(1) }, most: 2, shares: true },
    { what: 'its config says more threads', change: { config: threads(4) }, most: 2, shares: false },
    {
      what: 'it is one of several that are opened in turn',
      change: { morePaths: [modelPath('threshold')] },
      most: 2,
      shares: false,
    },
  ])('is $shares where $what', async ({ change, most, shares }) => {
    const loaded = await loadModels({ ...ref, ...change }, { ...settings, ...(most ? { shareThreads: most } : {}) })
    expect(loaded.shares ?? false).toBe(shares)
    await loaded.model.predictor.close()
  })
})
