import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ModelRef, RewriteChoice } from '../../../src/contract/model.js'
import { makeNode } from '../../../src/onnx/graph.js'
import { writeModel } from '../../../src/onnx/model-file.js'
import { ENGINE, type OnnxSettings, threadsOf } from '../../../src/predictors/onnxruntime.js'
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

const choice: RewriteChoice = {
  ...{ engine: ENGINE, device: 'cpu', threads: threadsOf(settings), plan: 'phases', rewrites: { known: 1 } },
  ...{ originalMs: 2, chosenMs: 1 },
}

test('a choice that a model brings is followed without a trial', async () => {
  const tuned = await loadTuned(small({ rewrites: choice }), path, settings, 10_000)
  expect(tuned.rewrites).toBe(choice)
})

test.each([
  ['engine', { engine: 'onnxruntime-node 0.0.0' }],
  ['device', { device: 'cuda:0' }],
  ['number of threads', { threads: 1000 }],
  ['time of Aidant that did not say where it was measured', { device: undefined, threads: undefined }],
])('a choice of another %s is made anew', async (_, other) => {
  const tuned = await loadTuned(small({ rewrites: { ...choice, ...other } }), path, settings, 10_000)
  expect(tuned.rewrites).toMatchObject({ engine: ENGINE, device: 'cpu', threads: threadsOf(settings) })
  expect(tuned.rewrites?.rewrites).not.toEqual({ known: 1 })
})

test('a network whose run would hold up its first user is not tried, and not run for that again', async () => {
  const { rewrites } = await loadTuned(small(), path, settings, 1e-9)
  expect(rewrites).toMatchObject({ plan: null, tooLong: true })
  const again = await loadTuned(small({ rewrites }), path, settings, 1e-9)
  expect(again.rewrites).toBe(rewrites)
})

test('a network that was too slow for a trial is tried when a trial may take longer', async () => {
  const { rewrites } = await loadTuned(
    small({ rewrites: { ...choice, plan: null, tooLong: true } }),
    path,
    settings,
    10_000,
  )
  expect(rewrites?.tooLong).toBeUndefined()
})
