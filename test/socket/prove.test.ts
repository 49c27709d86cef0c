/** What a throw-away runner finds out about a model before it is published. */
import { afterAll, describe, expect, it } from 'vitest'
import type { InferenceConfig, ModelConfig } from '../../src/pipelines/model-config.js'
import { modelPath, modelRef, plainConfig, realScheduler } from '../helpers/runner-fixtures.js'

const { scheduler, alive } = realScheduler()
afterAll(async () => {
  await scheduler.close(0)
  expect(alive()).toEqual([])
})

type Changes = Partial<Omit<ModelConfig, 'inference'>> & { inference?: Partial<InferenceConfig> }
const prove = (name: string, { inference, ...changes }: Changes = {}) =>
  scheduler.prove(
    modelRef(name, { config: { ...plainConfig, ...changes, inference: { ...plainConfig.inference, ...inference } } }),
  )
const window = (roi: number[]) => ({ scanningWindow: { roi, overlap: 0.25, batchSize: 1, blend: 'constant' as const } })

describe('a good model', () => {
  it('tells its tensors and its device', async () => {
    expect(await prove('threshold', { labels: ['background', 'bright'] })).toEqual({
      inputs: [{ name: 'image', type: 'float32', dims: ['n', 1, 'x', 'y', 'z'] }],
      outputs: [{ name: 'logits', type: 'float32', dims: ['n', 2, 'x', 'y', 'z'] }],
      device: 'cpu',
    })
    expect(alive()).toEqual([])
  })

  it.each<[string, Changes]>([
    ['guidance_2d', { type: 'deepgrow', inference: { nodeMapping: { image: 'image', logits: 'pred' } } }],
    ['guidance_3d', { type: 'deepgrow', inference: { nodeMapping: { pred: 'logits' } } }],
    ['extreme_points', { type: 'annotation', roi: [48, 40, 32] }],
    ['classifier_2d', { type: 'classification', labels: ['a', 'b', 'c'] }],
    ['threshold_fixed16', { inference: window([16, 16, 16]) }],
    ['needs_divisible', {}],
    ['two_inputs', { type: 'others' }],
    ['not_bool', {}],
    ['twice_float16', { inference: { nodeMapping: { NV_MODEL_INPUT: 'image', NV_MODEL_OUTPUT: 'model' } } }],
    ['external', {}],
  ])('%s', async (name, changes) => {
    await expect(prove(name, changes)).resolves.toMatchObject({ device: 'cpu' })
  })
})

describe('a bad one is refused, and why', () => {
  it.each<[string, Changes, RegExp]>([
    ['bad', {}, /not a network that can run here/],
    ['unknown_op', {}, /NoSuchOperator/],
    ['escape', {}, /escapes model directory/],
    ['string_output', {}, /has type string/],
    [
      'threshold',
      { inference: { nodeMapping: { INPUT__0: 'scan' } } },
      /the network has neither: its inputs are 'image'/,
    ],
    ['threshold', { inference: window([32, 32]) }, /roi \[32,32\] has 2 axes.*grid of 3/],
    ['threshold_fixed16', { inference: window([32, 32, 32]) }, /roi \[32,32,32\] does not fit .*shape is fixed/],
    ['needs_divisible', { inference: window([31, 32, 32]) }, /could not run on 'image' float32 \[1,1,31,32,32\]/],
    ['classifier_2d', { type: 'classification', labels: ['a', 'b'] }, /2 labels, but output 'scores'.*3 scores/],
    ['threshold', { labels: ['a', 'b', 'c'] }, /3 labels, but output 'logits'.*2 channels/],
    ['huge', {}, /ran out of memory/],
  ])('%s %#', async (name, changes, message) => {
    const error = await prove(name, changes).catch((cause: unknown) => cause)
    expect(error).toMatchObject({ code: 'BAD_MODEL', message: expect.stringMatching(message) })
  })

  it('one that never answers', async () => {
    const impatient = realScheduler({ proveTimeoutMs: 3000 })
    await expect(impatient.scheduler.prove(modelRef('very_slow'))).rejects.toMatchObject({
      code: 'BAD_MODEL',
      message: 'the model did not load and answer once within 3 s',
    })
    expect(impatient.alive()).toEqual([])
  })

  it('one that takes more memory than it may', async () => {
    const stingy = realScheduler({ proveMemoryBytes: 32 * 2 ** 20 })
    await expect(stingy.scheduler.prove(modelRef('very_slow'))).rejects.toMatchObject({
      code: 'BAD_MODEL',
      message: expect.stringContaining('needed more than 32 MB of memory'),
    })
    expect(stingy.alive()).toEqual([])
  })

  it('a pipeline whose parts are missing, or are not networks', async () => {
    const config: ModelConfig = { ...plainConfig, type: 'pipeline' }
    const { weightsPath: _none, ...bare } = modelRef('pipeline', { config })
    await expect(scheduler.prove(bare)).rejects.toMatchObject({ code: 'BAD_MODEL' })
    await expect(scheduler.prove({ ...bare, parts: [modelRef('bad')] })).rejects.toMatchObject({ code: 'BAD_MODEL' })
    await expect(scheduler.prove({ ...bare, parts: [modelRef('threshold')] })).resolves.toMatchObject({ device: 'cpu' })
  })
})

it('a trial that is aborted ends its runner', async () => {
  const abort = new AbortController()
  const trial = scheduler.prove(modelRef('very_slow', { weightsPath: modelPath('very_slow') }), abort.signal)
  setImmediate(() => abort.abort())
  await expect(trial).rejects.toMatchObject({ code: 'CANCELLED' })
  expect(alive()).toEqual([])
})
