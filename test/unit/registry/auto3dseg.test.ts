import { describe, expect, it } from 'vitest'
import { buildTransforms } from '../../../src/pipelines/model-run.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import { auto3dsegConfig, auto3dsegRoot } from '../../../src/registry/auto3dseg.js'

const steps = (spacing: string) => ({
  image_key: 'image',
  transforms_infer: {
    _target_: 'Compose',
    transforms: [
      { _target_: 'LoadImaged', keys: '@image_key', image_only: true },
      { _target_: 'EnsureChannelFirstd', keys: '@image_key' },
      { _target_: 'Orientationd', keys: '@image_key', axcodes: 'RAS' },
      { _target_: 'Spacingd', keys: '@image_key', pixdim: spacing, mode: 'bilinear', align_corners: true },
      { _target_: 'CastToTyped', keys: '@image_key', dtype: '$torch.float32' },
      [{ _target_: 'NormalizeIntensityd', keys: '@image_key', nonzero: true, channel_wise: true }],
    ],
  },
})
const dints = {
  training: {
    input_channels: 1,
    num_sw_batch_size: null,
    overlap_ratio: 0.625,
    patch_size_valid: [96, 96, 64],
    softmax: true,
    transforms: { resample_to_spacing: '$@training#resample_to_spacing' },
    resample_to_spacing: [1.5, 1.5, 2],
  },
  class_names: ['liver', 'tumour'],
  ...steps('$@training#transforms#resample_to_spacing'),
}
const swin = {
  input_channels: 4,
  num_sw_batch_size: 2,
  overlap_ratio: 0.125,
  overlap_ratio_final: 0.5,
  patch_size_valid: [64, 64, 64],
  softmax: false,
  transforms: { resample_to_spacing: [1, 1, 1] },
  class_names: [
    { name: 'whole', index: [1, 2, 4] },
    { name: 'core', index: [1, 4] },
  ],
  ...steps('$@transforms#resample_to_spacing'),
}

describe('an algorithm of Auto3DSeg', () => {
  it('with its parameters under training: argmax of restored scores', () => {
    const config = parseModelConfig(auto3dsegConfig(dints), 'liver')
    expect(config).toMatchObject({
      type: 'segmentation',
      labels: ['liver', 'tumour'],
      inference: { scanningWindow: { roi: [96, 96, 64], overlap: 0.625, blend: 'gaussian', batchSize: 1 } },
    })
    expect(config.preTransforms.map(({ name }) => name)).toEqual([
      'LoadImaged',
      'EnsureChannelFirstd',
      'Orientationd',
      'Spacingd',
      'CastToTyped',
      'NormalizeIntensityd',
    ])
    expect(config.preTransforms[3]).toMatchObject({
      args: { pixdim: [1.5, 1.5, 2] },
      from: 'transforms_infer.yaml: transforms_infer.transforms[3]',
    })
    const { post } = buildTransforms(config)
    expect(post.map(({ traits: { restores, activates, reduces } }) => restores ?? activates ?? reduces)).toEqual([
      'own',
      'softmax',
      { kind: 'argmax' },
    ])
  })

  it('with its parameters at the top: a threshold of each class', () => {
    const config = parseModelConfig(auto3dsegConfig(swin), 'brats')
    expect(config.inference.scanningWindow).toMatchObject({ roi: [64, 64, 64], overlap: 0.5, batchSize: 2 })
    expect(config.labels).toEqual(['whole', 'core'])
    const { post } = buildTransforms(config)
    expect(post[1]!.traits.activates).toBe('sigmoid')
    expect(post[2]!.traits.reduces).toMatchObject({ kind: 'threshold', at: 0.5 })
  })

  it.each([
    ['a parameter that is missing', { ...swin, softmax: undefined }, /hyper_parameters.yaml: softmax is missing/],
    [
      'what the template left open',
      { ...swin, transforms_infer: { _target_: 'Compose', transforms: ['PLACEHOLDER_INTENSITY_NORMALIZATION'] } },
      /transforms_infer.yaml: transforms_infer.transforms\[0\] has no _target_/,
    ],
  ])('refuses %s', (_, said, message) => {
    expect(() => auto3dsegConfig(said)).toThrow(
      expect.objectContaining({ code: 'BAD_MODEL_CONFIG', message: expect.stringMatching(message) }),
    )
  })

  it.each([
    [['configs/transforms_infer.yaml'], ''],
    [['swinunetr_0/configs/hyper_parameters.yaml'], 'swinunetr_0/'],
    [['configs/metadata.json'], undefined],
  ])('is told by its files: %j', (names, root) => {
    expect(auto3dsegRoot(names.map((entryName) => ({ entryName, path: '' })) as never)).toBe(root)
  })
})
