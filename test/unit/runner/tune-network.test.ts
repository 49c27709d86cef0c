import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ModelRef } from '../../../src/contract/model.js'
import { makeNode } from '../../../src/onnx/graph.js'
import { writeModel } from '../../../src/onnx/model-file.js'
import { ENGINE, type OnnxSettings } from '../../../src/predictors/onnxruntime.js'
import { loadTuned } from '../../../src/runner/tune-network.js'
import { makeModel, weight } from '../../helpers/onnx-model.js'
import { modelRef, plainConfig } from '../../helpers/runner-fixtures.js'

const settings: OnnxSettings = { device: { kind: 'cpu', index: 0 }, session: {}, arena: false }
const small = (more: Partial<ModelRef> = {}) => modelRef('up', { config: { ...plainConfig, roi: [4, 4, 4] }, ...more })
const x = { dims: [1, 1, 4, 4, 4], data: Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)) }

let folder: string
let path: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aidant-tune-'))
  path = join(folder, 'up.onnx')
  const up = makeNode('ConvTranspose', ['x', 'w'], 'y', { strides: [2, 2, 2] })
  await writeFile(path, writeModel(makeModel([up], [weight('w', [1, 40, 3, 3, 3])], ['n', 1, 'd', 'h', 'w'])))
})
afterAll(() => rm(folder, { recursive: true }))

test('a network without a known choice is tried when it is loaded, and answers as exported', async () => {
  const plain = await loadTuned(small(), path, settings, 0)
  const tuned = await loadTuned(small(), path, settings, 60_000)
  expect(plain.rewrites).toBeUndefined()
  expect(tuned.rewrites?.engine).toBe(ENGINE)
  const [wanted, got] = [await plain.predictor.run({ x }), await tuned.predictor.run({ x })]
  for (const [i, value] of Array.from(wanted.y!.data).entries()) expect(got.y!.data[i]).toBeCloseTo(value, 4)
})

test('a choice that a model brings is followed without a trial', async () => {
  const rewrites = { engine: ENGINE, plan: 'phases', rewrites: { known: 1 }, originalMs: 2, chosenMs: 1 }
  const tuned = await loadTuned(small({ rewrites }), path, settings, 10_000)
  expect(tuned.rewrites).toBe(rewrites)
})

test('a network whose run would hold up its first user is not tried', async () => {
  const { rewrites } = await loadTuned(small(), path, settings, 1e-9)
  expect(rewrites).toBeUndefined()
})
