import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeNode } from '../../../src/onnx/graph.js'
import { writeModel } from '../../../src/onnx/model-file.js'
import { chooseRewrites, createChosenPredictor, type TrialLimits } from '../../../src/predictors/choose-rewrites.js'
import { ENGINE, type OnnxSettings } from '../../../src/predictors/onnxruntime.js'
import { makeModel, weight } from '../../helpers/onnx-model.js'

const settings: OnnxSettings = { device: { kind: 'cpu', index: 0 }, session: {}, arena: false }
const limits = { trialMs: 10_000 }
const feeds = { x: { dims: [1, 2, 6, 6, 6], data: Float32Array.from({ length: 432 }, (_, i) => Math.sin(i)) } }

let folder: string
let upsampling: string
let plain: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aidant-rewrites-'))
  upsampling = join(folder, 'upsampling.onnx')
  const up = makeNode('ConvTranspose', ['x', 'w'], 'up', { strides: [2, 2, 2] })
  const act = makeNode('PRelu', ['up', 'slope'], 'y')
  const weights = [weight('w', [2, 3, 2, 2, 2]), weight('slope', [1])]
  await writeFile(upsampling, writeModel(makeModel([up, act], weights, ['n', 2, 'd', 'h', 'w'])))
  plain = join(folder, 'plain.onnx')
  await writeFile(plain, writeModel(makeModel([makeNode('Relu', ['x'], 'y')], [], ['n', 2, 'd', 'h', 'w'])))
})
afterAll(() => rm(folder, { recursive: true }))

async function choose(path: string, limit: TrialLimits) {
  const exported = await createChosenPredictor(path, settings, undefined)
  try {
    return await chooseRewrites(path, exported, settings, feeds, limit)
  } finally {
    await exported.close()
  }
}

describe('choosing rewrites', () => {
  test('a network that no plan changes is not tried', async () => {
    expect(await choose(plain, limits)).toBeUndefined()
  })

  test('a network that takes longer than the trial may is not tried further', async () => {
    expect(await choose(upsampling, { trialMs: 0 })).toMatchObject({ plan: null, tooLong: true })
  })

  test('the choice names the engine, both times and what was rewritten, and never takes what is slower', async () => {
    const choice = (await choose(upsampling, limits))!
    expect(choice.engine).toBe(ENGINE)
    expect(choice.chosenMs).toBeLessThanOrEqual(choice.originalMs)
    expect(choice.plan === null).toBe(Object.keys(choice.rewrites).length === 0)
  })

  test.each(['merged', 'phases'])('a network loaded as plan %s answers as exported', async (plan) => {
    const choice = { engine: ENGINE, plan, rewrites: {}, originalMs: 1, chosenMs: 1 }
    const original = await createChosenPredictor(upsampling, settings, undefined)
    const chosen = await createChosenPredictor(upsampling, settings, choice)
    const [wanted, got] = [await original.run(feeds), await chosen.run(feeds)]
    expect(got.y!.dims).toEqual([1, 3, 12, 12, 12])
    for (const [i, value] of Array.from(wanted.y!.data).entries()) expect(got.y!.data[i]).toBeCloseTo(value, 5)
    await Promise.all([original.close(), chosen.close()])
  })

  test('a choice that was measured with another engine is not followed', async () => {
    const choice = { engine: 'onnxruntime-node 0.0.0', plan: 'no such plan', rewrites: {}, originalMs: 1, chosenMs: 1 }
    const predictor = await createChosenPredictor(upsampling, settings, choice)
    expect((await predictor.run(feeds)).y!.dims).toEqual([1, 3, 12, 12, 12])
    await predictor.close()
  })
})
