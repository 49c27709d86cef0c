import { describe, expect, it, test } from 'vitest'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import { BundleContent, type Component } from '../../../src/registry/bundle-content.js'
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
/** Without where they come from. */
const bare = <T extends { from?: string | undefined }>(steps: readonly T[]) => steps.map(({ from, ...step }) => step)

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
  expect(config.preTransforms[4]!.from).toBe('inference.json: preprocessing.transforms[5]')
  expect(bare(config.preTransforms)).toEqual([
    { name: 'LoadImaged', args: { keys: 'image' } },
    { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
    { name: 'Orientationd', args: { keys: 'image', axcodes: 'RAS' } },
    { name: 'Spacingd', args: { keys: 'image', pixdim: [1.5, 1.5, 1.5], mode: 'bilinear' } },
    { name: 'EnsureTyped', args: { keys: 'image' } },
  ])
  expect(bare(config.postTransforms)).toEqual([
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

type Steps = { name: string; args: Record<string, unknown>; from?: string }[]
interface Made {
  type: string
  labels: string[]
  pre_transforms: Steps
  post_transforms: Steps
  inference: { args: Record<string, unknown>; meta_data: { notes?: string[] }; input: string; output: string }
  writer: { args: { image: string } }
}
const read = (bundle: Record<string, unknown>, meta: unknown = metadata) => bundleConfig(meta, bundle) as Made
const load = { _target_: 'LoadImaged', keys: 'image' }

describe('what the evaluator runs is found where the bundle says it', () => {
  const steps = [load, { _target_: 'ScaleIntensityd', keys: 'image' }]
  const post = compose({ _target_: 'AsDiscreted', keys: 'pred', argmax: true })
  const inferer = { _target_: 'SlidingWindowInferer', roi_size: [8, 8, 8] }
  it.each<[string, Record<string, unknown>]>([
    ['under the usual names', { preprocessing: compose(...steps), postprocessing: post, inferer }],
    [
      'in the dataset and the evaluator alone',
      {
        dataset: { _target_: 'Dataset', data: '$glob.glob(1)', transform: compose(...steps) },
        evaluator: { _target_: 'SupervisedEvaluator', postprocessing: post, inferer },
      },
    ],
    [
      'by references through the data loader, whatever the usual names say',
      {
        preprocessing: compose(load),
        postprocessing: compose(),
        mine: compose(...steps),
        val: { _target_: 'CacheDataset', data: '@files', transform: '@mine' },
        loader: { _target_: 'DataLoader', dataset: '@val', batch_size: 1 },
        last: post,
        windows: inferer,
        evaluator: {
          _target_: 'monai.engines.SupervisedEvaluator',
          val_data_loader: '@loader',
          postprocessing: '@last',
          inferer: '@windows',
        },
      },
    ],
    ['as lists, and nested', { preprocessing: [load, compose(steps[1])], postprocessing: [post], inferer }],
  ])('%s', (_, bundle) => {
    const { pre_transforms, post_transforms, inference: made } = read(bundle)
    expect(pre_transforms.map(({ name }) => name)).toEqual(['LoadImaged', 'ScaleIntensityd'])
    expect(post_transforms.map(({ name }) => name)).toEqual(['AsDiscreted', 'Restored'])
    expect(made.args).toEqual({ scanning_window: true, roi: [8, 8, 8] })
  })
})

describe('references and expressions', () => {
  const spaced = (said: unknown, others: Record<string, unknown> = {}) => ({
    ...others,
    preprocessing: compose(load, { _target_: 'Spacingd', keys: 'image', pixdim: said }),
  })
  const value = (said: unknown, others?: Record<string, unknown>) => {
    const content = new BundleContent(spaced(said, others), 'inference.json')
    const steps = content.argument(content.at('preprocessing') as Component, 'transforms') as Component[]
    return content.argument(steps[1]!, 'pixdim')
  }

  it.each<[unknown, unknown, Record<string, unknown>?]>([
    ['@pixdim', [1, 2, 3], { pixdim: [1, 2, 3] }],
    ['@a#b::1', 5, { a: { b: [4, 5] } }],
    ['@a', [2, 1], { a: ['@b', 1], b: 2 }],
    ['$@a', [2], { a: '@b', b: [2] }],
    ['$@a + @b ', [1, 2, 3], { a: [1], b: [2, 3] }],
    ['$(@a,) * 3', [2, 2, 2], { a: 2 }],
    ['$[1.5, 1.5, 1.5] if @high else [3.0, 3.0, 3.0]', [3, 3, 3], { high: false }],
    ['$not @high', true, { high: false }],
    ['$len(@labels) + 1', 4, { labels: { liver: 1, spleen: 2, bone: 3 } }],
    ['$1.0 - float(80) / float(@size)', 1 - 80 / 160, { size: 160 }],
    ['$-2 ** 2', -4],
    ['$7 // 2 + 7 % 4', 6],
    ['$@a[1:]', [2, 3], { a: [1, 2, 3] }],
    ["$@a['x'][-1]", 9, { a: { x: [1, 9] } }],
    ['$list(range(3))', [0, 1, 2]],
    ['$[2 * i for i in range(3) if i > 0]', [2, 4]],
    ['$monai.utils.CommonKeys.IMAGE', 'image'],
    ['$K.PRED', 'pred', { imports: ['$from monai.utils import CommonKeys as K'] }],
    ['$monai.utils.enums.InterpolateMode.NEAREST_EXACT', 'nearest-exact'],
    ['$torch.float32', 'float32'],
    ['$np.int16', 'int16', { imports: ['$import numpy as np'] }],
    ['$numpy.float32', 'float32'],
    ['$True', true],
    ['$None', null],
    ["$ {'a': [1, (2,)]} ", { a: [1, [2]] }],
    ['@##size', [4], { size: [4] }],
    ['%pixdim', [7], { pixdim: [7] }],
    ['%a::b', [3, 3], { a: { b: [3, '@#0'] } }],
    ['plain @text', 'plain @text'],
  ])('%j is %j', (said, want, others) => {
    // "@##size" counts from the argument: up to the transform, its list, and the Compose
    const root = typeof said === 'string' && said.startsWith('@##') ? said.replace('@##', '@####') : said
    expect(value(root, others)).toEqual(want)
  })

  it.each<[unknown, string, Record<string, unknown>?]>([
    ['@nowhere', "refers to '@nowhere', which the config does not have"],
    ['$@nowhere', "refers to '@nowhere'"],
    ['@a::b', "refers to '@a::b'", { a: { c: 1 } }],
    ['%nowhere', "copies '%nowhere'"],
    ['%other.json::a', 'takes in another file'],
    ['@############a', 'goes up further than the config is deep'],
    ['@a', 'refers to itself', { a: '@b', b: '@a' }],
    ['$os.path.join(@a)', "calls 'os.path.join'", { a: 'x' }],
    ['$torch.cuda.is_available()', "calls 'torch.cuda.is_available'"],
    ['$[0] * 100000000', 'makes more than'],
    ['$__import__("os").system("true")', "calls 'system'"],
    ['$1 / 0', 'divides by zero'],
    ['$lambda x: x', 'only Lambdad takes one'],
    ['$1 +', 'not an expression that is read'],
    [{ _target_: 'torch.tensor', data: 1 }, 'is made by Python'],
  ])('%j is refused with its place', (said, why, others) => {
    const place = 'preprocessing.transforms[1].pixdim'
    let message = ''
    try {
      read(spaced(said, others))
    } catch (error) {
      expect(error).toMatchObject({ code: 'BAD_MODEL_CONFIG' })
      message = (error as Error).message
    }
    expect(message).toContain(why)
    // a circle is told where it closes
    if (why !== 'refers to itself') expect(message).toContain(place)
  })

  it.each([true, 'True', '@off', '$not @on'])('a step is left out where _disabled_ is %j', (said) => {
    const step = { _target_: 'Flipd', keys: 'image', _disabled_: said }
    expect(read({ off: true, on: false, preprocessing: compose(load, step) }).pre_transforms).toHaveLength(1)
  })

  it.each([false, 'false', '@off', '$not @on'])('a step stays where _disabled_ is %j', (said) => {
    const step = { _target_: 'Flipd', keys: 'image', _disabled_: said }
    expect(read({ off: false, on: true, preprocessing: compose(load, step) }).pre_transforms).toHaveLength(2)
  })
})

describe('fields and labels', () => {
  it('no file is asked for that only an evaluation needs', () => {
    const { pre_transforms, post_transforms } = read({
      preprocessing: compose(
        { _target_: 'LoadImaged', keys: ['image', 'label'], dtype: ['float32', 'uint8'] },
        { _target_: 'EnsureChannelFirstd', keys: ['image', 'label'] },
        { _target_: 'MapLabelValued', keys: 'label', orig_labels: [1], target_labels: [2] },
      ),
      postprocessing: compose(
        { _target_: 'AsDiscreted', keys: ['pred', 'label'], argmax: [true, false] },
        { _target_: 'SaveImaged', keys: 'label' },
      ),
    })
    expect(bare(pre_transforms)).toEqual([
      { name: 'LoadImaged', args: { keys: ['image'], dtype: ['float32'] } },
      { name: 'EnsureChannelFirstd', args: { keys: ['image', 'label'], allow_missing_keys: true } },
    ])
    expect(bare(post_transforms)[0]).toEqual({
      name: 'AsDiscreted',
      args: { keys: ['pred', 'label'], argmax: [true, false], allow_missing_keys: true },
    })
  })

  it('a field that is joined from others, or crops by another, needs those', () => {
    const { pre_transforms } = read({
      preprocessing: compose(
        { _target_: 'LoadImaged', keys: ['t1', 't2', 'mask', 'label'] },
        { _target_: 'CropForegroundd', keys: ['t1', 't2', 'label'], source_key: 'mask' },
        { _target_: 'scripts.my_transforms.ConcatImages', keys_merge: ['t1', 't2'], keys_out: 'image' },
      ),
    })
    expect(pre_transforms[0]!.args.keys).toEqual(['t1', 't2', 'mask'])
    expect(bare(pre_transforms)[2]).toEqual({ name: 'ConcatItemsd', args: { keys: ['t1', 't2'], name: 'image' } })
  })

  const pred = (tensor: unknown, task = 'segmentation') => ({
    task,
    network_data_format: { inputs: { image: {} }, outputs: { pred: tensor } },
  })
  it.each<[string, string[], unknown, Record<string, unknown>?]>([
    ['in label_def', ['liver'], pred({ label_def: { '0': 'background', '1': 'liver' } })],
    ['in the config, name to number', ['liver', 'spleen'], {}, { labels: { background: 0, spleen: 2, liver: 1 } }],
    ['in the config, number to name', ['liver'], {}, { label_names: { '1': 'liver', '0': 'background' } }],
    ['of no class, where labels are files', [], {}, { labels: '$glob.glob(1)' }],
    [
      'of a classifier with its background',
      ['background', 'cat'],
      pred({ channel_def: { '0': 'background', '1': 'cat' } }, 'Classification'),
    ],
  ])('labels %s', (_, want, meta, others) => {
    expect(read({ ...others, preprocessing: compose(load) }, meta).labels).toEqual(want)
  })

  it('nested torch.where is an order of channels, and labels go by its values', () => {
    const made = read(
      {
        preprocessing: compose(load),
        postprocessing: compose(
          { _target_: 'AsDiscreted', keys: 'pred', threshold: 0.5 },
          {
            _target_: 'Lambdad',
            keys: 'pred',
            func: '$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[0] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))',
          },
        ),
      },
      pred({ channel_def: { '0': 'core', '1': 'whole', '2': 'enhancing' } }),
    )
    expect(bare(made.post_transforms)[1]).toEqual({
      name: 'MergeChannelsd',
      args: { keys: 'pred', channels: [2, 0, 1], values: [4, 1, 2] },
    })
    expect(made.labels).toEqual(['core', 'whole', 'label 3', 'enhancing'])
  })

  it('array transforms work on the image, writers are left out with a note', () => {
    const made = read({
      preprocessing: compose({ _target_: 'LoadImage' }, { _target_: 'ScaleIntensity', minv: 0 }),
      postprocessing: compose({ _target_: 'SaveImaged', keys: 'pred', output_dir: '$os.path' }),
    })
    expect(bare(made.pre_transforms)[1]).toEqual({ name: 'ScaleIntensity', args: { keys: 'image', minv: 0 } })
    expect(made.inference.meta_data.notes).toEqual(['SaveImaged is left out: the server writes the result'])
  })

  it.each<[string, Record<string, unknown>]>([
    ['evaluator', { evaluator: { _target_: 'scripts.Detector' } }],
    ['evaluator.prepare_batch', { evaluator: { _target_: 'SupervisedEvaluator', prepare_batch: '$lambda b: b' } }],
    [
      'preprocessing.transforms[1]',
      { preprocessing: compose(load, { _target_: 'scripts.mine.Spacingd', keys: 'image' }) },
    ],
    ['preprocessing.overrides2', { preprocessing: { ...compose(load), overrides2: 1 } }],
    ['preprocessing.transforms[0]._mode_', { preprocessing: compose({ ...load, _mode_: 'callable' }) }],
  ])("refuses Python of the bundle's own at %s", (place, bundle) => {
    expect(() => read({ preprocessing: compose(load), ...bundle })).toThrow(
      expect.objectContaining({ code: 'BAD_MODEL_CONFIG', message: expect.stringContaining(`${place} `) }),
    )
  })

  it.each<[string, Record<string, unknown>, string]>([
    ['an argument', { keys: 'image', sigmas: 2 }, '.sigmas: '],
    ['a value', { keys: 'image', sigma: 'wide' }, '.sigma[0]: '],
    ['a value that a reference brings', { keys: 'image', sigma: '@wide' }, '.sigma[0]: '],
    ['a field', { keys: 'scan' }, '.keys: '],
  ])('the place of %s is told as the file has it', (_, args, place) => {
    const step = { _target_: 'GaussianSmoothd', ...args }
    expect(() => read({ wide: ['wide'], preprocessing: compose(load, compose(load, step)) })).toThrow(
      expect.objectContaining({
        message: expect.stringContaining(`inference.json: preprocessing.transforms[1].transforms[1]${place}`),
      }),
    )
  })

  it.each<[string, Record<string, unknown>]>([
    ['evaluator.infere', { evaluator: { _target_: 'SupervisedEvaluator', infere: '@inferer' } }],
    ['evaluator.mode', { evaluator: { _target_: 'SupervisedEvaluator', mode: 'train' } }],
    ['dataset.transfrom', { dataset: { _target_: 'CacheDataset', transfrom: '@preprocessing' } }],
    [
      'evaluator.val_data_loader.dataste',
      { evaluator: { _target_: 'SupervisedEvaluator', val_data_loader: { _target_: 'DataLoader', dataste: 1 } } },
    ],
  ])('a slip in a name is refused at %s', (place, bundle) => {
    expect(() => read({ preprocessing: compose(load), ...bundle })).toThrow(
      expect.objectContaining({ message: expect.stringContaining(`inference.json: ${place} `) }),
    )
  })

  it('what nobody asked for, and the fields that only an evaluation has, are told in notes', () => {
    const made = read({
      preprocesing: compose(load),
      sizes: { used: [1, 1, 1], spare: 3 },
      output_dir: '/out',
      preprocessing: compose(
        { _target_: 'LoadImaged', keys: ['image', 'label'] },
        { _target_: 'Spacingd', keys: 'image', pixdim: '@sizes::used' },
      ),
    })
    expect(made.inference.meta_data.notes).toEqual([
      "steps on 'label' are left out: the answer does not depend on it, and no file is asked for",
      'inference.json has more than was used: preprocesing, sizes.spare',
    ])
  })

  it('refuses a bundle that reads no image', () => {
    expect(() => read({ evaluator: '', dataset: '', run: '$@saver(@sample)' })).toThrow(
      expect.objectContaining({ message: expect.stringContaining('neither preprocessing nor dataset.transform') }),
    )
  })
})
