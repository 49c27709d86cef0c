import { expect, it, test } from 'vitest'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import { bundleConfig } from '../../../src/registry/monai-bundle.js'

const metadata = {
  version: '0.2.0',
  task: 'Decathlon spleen segmentation',
  description: 'Spleen from CT',
  network_data_format: {
    inputs: { image: { type: 'image', modality: 'CT', num_channels: 1, spatial_shape: [96, 96, 96] } },
    outputs: { pred: { format: 'segmentation', channel_def: { '1': 'spleen', '0': 'background' } } },
  },
}
const compose = (...transforms: unknown[]) => ({ _target_: 'Compose', transforms })
const inference = {
  imports: ['$import glob'],
  image_key: 'image',
  displayable_configs: { highres: true, sw_overlap: 0.25 },
  pixdim: '$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]',
  device: "$torch.device('cuda:0')",
  output_dir: "$@bundle_root + '/eval'",
  preprocessing: compose(
    { _target_: 'LoadImaged', keys: '@image_key' },
    { _target_: 'monai.transforms.EnsureChannelFirstd', keys: '@image_key' },
    { _target_: 'Orientationd', keys: '@image_key', axcodes: 'RAS' },
    { _target_: 'Spacingd', keys: '@image_key', pixdim: '@pixdim', mode: 'bilinear' },
    { _target_: 'CropForegroundd', keys: ['@image_key'], source_key: 'image', _disabled_: true },
    { _target_: 'EnsureTyped', keys: '@image_key', device: '@device' },
  ),
  inferer: {
    _target_: 'SlidingWindowInferer',
    roi_size: [96, 96, 96],
    sw_batch_size: 4,
    overlap: '@displayable_configs::sw_overlap',
    mode: 'gaussian',
    device: '@device',
  },
  postprocessing: compose(
    { _target_: 'Activationsd', keys: 'pred', softmax: '$True' },
    {
      _target_: 'Invertd',
      keys: 'pred',
      transform: '@preprocessing',
      orig_keys: '@image_key',
      nearest_interp: false,
      to_tensor: true,
    },
    { _target_: 'AsDiscreted', keys: 'pred', argmax: true },
    { _target_: 'SaveImaged', keys: 'pred', output_dir: '@output_dir' },
  ),
}

test('a bundle in the manner of the model zoo becomes a config that parses', () => {
  const config = parseModelConfig(bundleConfig(metadata, inference), 'spleen')
  expect(config).toMatchObject({
    type: 'segmentation',
    labels: ['spleen'],
    description: 'Spleen from CT',
    info: { modality: 'CT', bundle_version: '0.2.0' },
    inference: {
      image: 'image',
      nodeMapping: { NV_MODEL_INPUT: 'image', NV_MODEL_OUTPUT: 'pred' },
      scanningWindow: { roi: [96, 96, 96], batchSize: 4, overlap: 0.25, blend: 'gaussian' },
    },
    writer: { name: 'Writer', args: { image: 'pred' } },
  })
  expect(config.preTransforms).toEqual([
    { name: 'LoadImaged', args: { keys: 'image' } },
    { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
    { name: 'Orientationd', args: { keys: 'image', axcodes: 'RAS' } },
    { name: 'Spacingd', args: { keys: 'image', pixdim: [1.5, 1.5, 1.5], mode: 'bilinear' } },
    { name: 'EnsureTyped', args: { keys: 'image' } },
  ])
  expect(config.postTransforms).toEqual([
    { name: 'Activationsd', args: { keys: 'pred', softmax: true } },
    { name: 'Invertd', args: { keys: 'pred', orig_keys: 'image', nearest_interp: false } },
    { name: 'AsDiscreted', args: { keys: 'pred', argmax: true } },
  ])
})

test('a result that is not inverted is brought back to the grid of the input', () => {
  const bare = { ...inference, postprocessing: compose({ _target_: 'AsDiscreted', keys: 'pred', argmax: true }) }
  const config = parseModelConfig(bundleConfig(metadata, bare), 'spleen')
  expect(config.postTransforms.at(-1)).toEqual({ name: 'Restored', args: { keys: 'pred', ref_image: 'image' } })
})

test('a simple inferer has no window, and a classification is one', () => {
  const plain = { ...inference, inferer: { _target_: 'SimpleInferer' } }
  const classes = { ...metadata, task: 'Breast density classification' }
  classes.network_data_format = {
    ...metadata.network_data_format,
    outputs: { pred: { format: 'probabilities', channel_def: { '0': 'A', '1': 'B' } } },
  }
  const config = parseModelConfig(bundleConfig(classes, plain), 'density')
  expect(config).toMatchObject({ type: 'classification', labels: ['A', 'B'] })
  expect(config.inference.scanningWindow).toBeUndefined()
})

it.each([
  { name: 'no inference.json', inference: undefined, says: 'no configs/inference.json' },
  {
    name: 'metadata of another shape',
    metadata: { network_data_format: { outputs: { pred: { channel_def: ['spleen'] } } } },
    says: 'metadata.json: network_data_format',
  },
  {
    name: 'a function that is no lambda',
    inference: {
      ...inference,
      postprocessing: compose({ _target_: 'Lambdad', keys: 'pred', func: '$scripts.fix' }),
    },
    says: 'postprocessing.transforms[0].func',
  },
  {
    name: 'a transform without a name',
    inference: { ...inference, preprocessing: compose({ keys: 'image' }) },
    says: 'preprocessing.transforms[0] has no _target_',
  },
  {
    name: 'a circle',
    inference: { ...inference, image_key: '@other', other: '@image_key' },
    says: 'refers to itself',
  },
  {
    name: 'transforms that Python makes',
    inference: { ...inference, preprocessing: '$make_transforms()' },
    says: 'preprocessing is a Python expression',
  },
])('refuses $name in words', ({ metadata: given = metadata, inference: bundle, says }) => {
  expect(() => bundleConfig(given, bundle)).toThrow(
    expect.objectContaining({ code: 'BAD_MODEL_CONFIG', message: expect.stringContaining(says) }),
  )
})
