import { describe, expect, it } from 'vitest'
import { buildTransforms } from '../../../src/pipelines/model-run.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import { type NnunetFiles, nnunetConfig } from '../../../src/registry/nnunet.js'

const resampling = { is_seg: false, order: 3, order_z: 0, force_separate_z: null }
const fullres = {
  preprocessor_name: 'DefaultPreprocessor',
  patch_size: [48, 64, 64],
  spacing: [3, 1, 1],
  normalization_schemes: ['CTNormalization'],
  use_mask_for_norm: [false],
  resampling_fn_data: 'resample_data_or_seg_to_shape',
  resampling_fn_data_kwargs: resampling,
  resampling_fn_probabilities: 'resample_data_or_seg_to_shape',
  resampling_fn_probabilities_kwargs: { ...resampling, order: 1 },
}
const plans = {
  image_reader_writer: 'SimpleITKIO',
  transpose_forward: [0, 1, 2],
  configurations: {
    '2d': { ...fullres, patch_size: [64, 64], spacing: [1, 1] },
    '3d_lowres': { ...fullres, patch_size: [32, 32, 32], spacing: [5, 2, 2] },
    '3d_fullres': fullres,
    '3d_cascade_fullres': { inherits_from: '3d_fullres', previous_stage: '3d_lowres' },
  },
  foreground_intensity_properties_per_channel: { 0: { mean: 1, std: 2, percentile_00_5: -9, percentile_99_5: 9 } },
}
const dataset = { channel_names: { 0: 'CT' }, labels: { background: 0, liver: 1, tumour: 2 } }
const files: NnunetFiles = {
  plans,
  dataset,
  folder: 'nnUNetTrainer__nnUNetPlans__3d_fullres',
  patch: ['d', 'h', 'w'],
  networks: ['fold_0/model.onnx'],
}
const cascade = {
  ...files,
  folder: 't__p__3d_cascade_fullres',
  previous: { folder: 't__p__3d_lowres', patch: ['d', 'h', 'w'], networks: ['low/fold_0/model.onnx'] },
}
const fullresWith = (more: object) => ({
  ...files,
  plans: { ...plans, configurations: { ...plans.configurations, '3d_fullres': { ...fullres, ...more } } },
})

function read(given: NnunetFiles) {
  const config = parseModelConfig(nnunetConfig(given), 'made')
  buildTransforms(config)
  return config
}

describe('a config from the plans of nnU-Net', () => {
  it.each([
    ['the folder names the configuration', { folder: 'nnUNetTrainer__p__3d_lowres' }, [32, 32, 32]],
    ['without a folder, two dimensions are 2d', { folder: undefined, patch: [null, null] }, [64, 64]],
    ['without a folder, three are 3d_fullres', { folder: undefined, patch: ['d', 'h', 'w'] }, [48, 64, 64]],
    ['a fixed patch tells it, too', { folder: undefined, patch: [32, 32, 32] }, [32, 32, 32]],
    ['the exporter says it first', { exported: { configuration: '3d_lowres' } }, [32, 32, 32]],
  ])('%s', (_, more, roi) => {
    expect(read({ ...files, ...more } as NnunetFiles).inference.scanningWindow?.roi).toEqual(roi)
  })

  it('a cascade labels at low resolution first, and feeds a channel a label', () => {
    const config = read({ ...cascade, dataset: { ...dataset, labels: { ...dataset.labels, ignore: 3 } } })
    expect(config.first).toMatchObject({
      field: 'previous',
      config: { inference: { scanningWindow: { roi: [32, 32, 32] } } },
    })
    expect(config.first?.cropMargin).toBeUndefined()
    expect(config.first?.config.postTransforms.map(({ args }) => args.keys)).toEqual(['previous', 'previous'])
    expect(config.inference).toMatchObject({ networks: files.networks, scanningWindow: { roi: [48, 64, 64] } })
    expect(config.preTransforms.at(-1)).toMatchObject({
      name: 'NnUNetPreviousStaged',
      args: { source: 'previous', labels: [1, 2], spacing: [3, 1, 1] },
    })
  })

  it.each([
    ['nnUNetTrainer', undefined, { axes: [0, 1, 2] }],
    ['nnUNetTrainer_onlyMirror01', undefined, { axes: [0, 1] }],
    ['nnUNetTrainerNoMirroring', undefined, { axes: [0, 1, 2], on: false }],
    ['nnUNetTrainer', { inference_allowed_mirroring_axes: [2] }, { axes: [2] }],
    ['nnUNetTrainer', { inference_allowed_mirroring_axes: null }, { axes: [0, 1, 2], on: false }],
  ])('%s with %j mirrors as its trainer allows', (trainer, exported, mirror) => {
    expect(read({ ...files, folder: `${trainer}__p__3d_fullres`, exported }).inference.mirror).toEqual(mirror)
  })

  it('leaves the ignore label out, and lays later regions over earlier ones', () => {
    expect(read({ ...files, dataset: { labels: { ...dataset.labels, ignore: 3 } } }).labels).toEqual([
      'liver',
      'tumour',
    ])
    const regions = { labels: { background: 0, whole: [1, 2], core: [2] }, regions_class_order: [1, 2] }
    const { labels, postTransforms } = read({ ...files, dataset: regions })
    expect(labels).toEqual(['whole', 'core'])
    expect(postTransforms.at(-1)?.args).toMatchObject({ channels: [1, 0], values: [2, 1] })
  })

  it.each<[string, NnunetFiles, RegExp]>([
    [
      'a scheme that is not known',
      fullresWith({ normalization_schemes: ['MyNorm'] }),
      /normalization_schemes has 'MyNorm'/,
    ],
    ['another preprocessor', fullresWith({ preprocessor_name: 'MyPreprocessor' }), /only DefaultPreprocessor/],
    ['another resampling', fullresWith({ resampling_fn_data: 'my_fn' }), /resampling_fn_data is 'my_fn'/],
    [
      'an order that is not made here',
      fullresWith({ resampling_fn_probabilities_kwargs: { ...resampling, order: 2 } }),
      /probabilities_kwargs.order is 2/,
    ],
    [
      'a keyword that is not known',
      fullresWith({ resampling_fn_data_kwargs: { blur: 1 } }),
      /kwargs.blur is not known/,
    ],
    [
      'two configurations that are no cascade',
      { ...files, previous: { folder: 't__p__3d_lowres', patch: [null, null, null], networks: ['low.onnx'] } },
      /3d_fullres is no second stage, and the archive holds 3d_lowres too/,
    ],
    [
      'a cascade after another stage',
      { ...cascade, previous: { ...cascade.previous, folder: 't__p__3d_fullres' } },
      /needs the networks of 3d_lowres/,
    ],
    ['a second stage', { ...files, folder: 't__p__3d_cascade_fullres' }, /second stage of a cascade/],
    ['a configuration that is not there', { ...files, folder: 't__p__3d_fulres' }, /did you mean '3d_fullres'/],
    ['another reader', { ...files, plans: { ...plans, image_reader_writer: 'MyIO' } }, /image_reader_writer is 'MyIO'/],
    ['labels with a gap', { ...files, dataset: { labels: { background: 0, liver: 2 } } }, /not one after another/],
    [
      'regions without an order',
      { ...files, dataset: { labels: { background: 0, a: [1, 2] } } },
      /regions_class_order/,
    ],
    ['no background', { ...files, dataset: { labels: { liver: 1 } } }, /labels.background must be 0/],
    ['plans of nnU-Net v1', { ...files, plans: {} }, /plans.json: transpose_forward/],
  ])('%s is refused by name', (_, given, message) => {
    expect(() => read(given)).toThrow(message)
  })
})
