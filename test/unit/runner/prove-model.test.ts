/** What a trial finds out about a model before it is published. */
import { describe, expect, it } from 'vitest'
import type { InferenceConfig, ModelConfig } from '../../../src/contract/model.js'
import { loadModels } from '../../../src/runner/load-model.js'
import { proveModel } from '../../../src/runner/prove-model.js'
import { modelRef, plainConfig } from '../../helpers/runner-fixtures.js'

const settings = {
  device: { kind: 'cpu', index: 0 },
  arena: true,
  rewriteTrialMs: 0,
  maxTrialValues: 2 ** 20,
  cacheBytes: 0,
  networkBytes: 0,
  fetch: { allow: [], deadlineMs: 1000, maxBytes: 1 },
} as const

type Changes = Partial<Omit<ModelConfig, 'inference'>> & { inference?: Partial<InferenceConfig> }
async function prove(name: string, { inference, ...changes }: Changes = {}, most: number = settings.maxTrialValues) {
  const config = { ...plainConfig, ...changes, inference: { ...plainConfig.inference, ...inference } }
  const models = await loadModels(modelRef(name, { config }), settings)
  try {
    return await proveModel(models, most)
  } finally {
    await models.model.predictor.close()
  }
}
const window = (roi: number[]) => ({ scanningWindow: { roi, overlap: 0.25, batchSize: 1, blend: 'constant' as const } })

describe('a good model', () => {
  it('tells its tensors and its device', async () => {
    expect(await prove('threshold', { labels: ['background', 'bright'] })).toEqual({
      inputs: [{ name: 'image', type: 'float32', dims: ['n', 1, 'x', 'y', 'z'] }],
      outputs: [{ name: 'logits', type: 'float32', dims: ['n', 2, 'x', 'y', 'z'] }],
      device: 'cpu',
    })
  })

  it.each<[string, Changes]>([
    ['guidance_2d', { type: 'deepgrow', inference: { nodeMapping: { image: 'image', logits: 'pred' } } }],
    ['guidance_3d', { type: 'deepgrow', inference: { nodeMapping: { pred: 'logits' } } }],
    ['extreme_points', { type: 'annotation', roi: [48, 40, 32] }],
    ['classifier_2d', { type: 'classification', labels: ['a', 'b', 'c'] }],
    ['threshold_fixed16', { inference: window([16, 16, 16]) }],
    ['needs_divisible', {}],
    ['not_bool', {}],
    ['twice_float16', { inference: { nodeMapping: { NV_MODEL_INPUT: 'image', NV_MODEL_OUTPUT: 'model' } } }],
    ['external', {}],
  ])('%s', async (name, changes) => {
    await expect(prove(name, changes)).resolves.toMatchObject({ device: 'cpu' })
  })
})

describe('a trial makes no more than --max-trial-values', () => {
  const steps = [
    { name: 'Resized', args: { keys: 'image', spatial_size: [40, 40, 40], mode: 'nearest' } },
    { name: 'CropForegroundd', args: { keys: 'image', source_key: 'body' } },
  ]

  it('what makes more is not tried, nor what comes after it', async () => {
    await expect(prove('threshold', { preTransforms: steps }, 40 ** 3 - 1)).resolves.toMatchObject({ device: 'cpu' })
  })

  it('what makes as much is, and the step that cannot work is named', async () => {
    await expect(prove('threshold', { preTransforms: steps }, 40 ** 3)).rejects.toMatchObject({
      code: 'BAD_MODEL_CONFIG',
      message: expect.stringMatching(/^config\.pre_transforms\[1\]: .*no earlier step made the image field 'body'/),
    })
  })
})

describe('a bad one is refused, and why', () => {
  it.each<[string, Changes, RegExp]>([
    ['bad', {}, /not a network that can run here/],
    ['unknown_op', {}, /NoSuchOperator/],
    ['escape', {}, /escapes model directory/],
    ['string_output', {}, /has type string/],
    ['two_inputs', {}, /no field to the network's input 'image', 'scale'/],
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
    [
      'two_inputs',
      { type: 'others', inference: { nodeMapping: { image: 'image', scale: 'scale' } } },
      /input 'scale' is float32 \[1\]: an image needs 4 or 5 dimensions/,
    ],
    [
      'threshold',
      {
        postTransforms: [{ name: 'LabelFilterd', args: { keys: 'mask', applied_labels: [1] } }],
        writer: { name: 'Writer', args: { image: 'model' } },
      },
      /no earlier step made the image field 'model'/,
    ],
    [
      'threshold',
      { postTransforms: [{ name: 'MergeChannelsd', args: { keys: 'model', channels: [5], values: [1] } }] },
      /channels names 5, but there are 2 channels/,
    ],
    [
      'threshold',
      { preTransforms: [{ name: 'CropForegroundd', args: { keys: 'image', source_key: 'body' } }] },
      /no earlier step made the image field 'body'/,
    ],
  ])('%s %#', async (name, changes, message) => {
    const error = await prove(name, changes).catch((cause: unknown) => cause)
    expect(error).toMatchObject({
      code: expect.stringMatching(/^BAD_MODEL|RUNNER_CRASHED/),
      message: expect.stringMatching(message),
    })
  })
})
