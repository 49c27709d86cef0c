import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { AppError } from '../../../src/errors.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import { buildTransform } from '../../../src/transforms/catalog.js'

const sample = (file: string): Record<string, unknown> =>
  JSON.parse(readFileSync(new URL(`../../fixtures/configs/${file}.json`, import.meta.url), 'utf8'))

const parse = (json: unknown, name = 'spleen') => parseModelConfig(json, name)

/** A small config whose inference section is the given one. */
const withInference = (inference: unknown, more: Record<string, unknown> = {}) => ({
  version: '3',
  type: 'segmentation',
  inference,
  ...more,
})

describe('samples of every version', () => {
  it('reads version 2: flat window settings and tf nodes', () => {
    const config = parse(sample('spleen-v2'))
    expect(config).toMatchObject({
      version: '2',
      type: 'segmentation',
      labels: ['spleen'],
      inference: {
        image: 'image',
        engine: 'onnxruntime',
        scanningWindow: { roi: [160, 160, 160], overlap: 0.25, batchSize: 3, blend: 'constant' },
        nodeMapping: { NV_MODEL_INPUT: 'image', NV_MODEL_OUTPUT: 'model' },
      },
      writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
    })
    expect(config.preTransforms.map(({ name }) => name)).toEqual([
      'LoadNifti',
      'ConvertToChannelsFirst',
      'ScaleByResolution',
      'ScaleIntensityRange',
    ])
  })

  it('reads the record that a version 2 server dumps, echoes and nulls and all', () => {
    const config = parse(sample('heart-v2-dump'), 'heart')
    expect(config.labels).toEqual(['Heart', 'Asc', 'Des'])
    expect(config.inference.scanningWindow?.roi).toEqual([224, 224, 144])
    expect(config.postTransforms[0]?.name).toBe('TresholdArgmax')
  })

  it('reads version 3: args with booleans in words, image format, additional_info', () => {
    const config = parse(sample('spleen-v3'))
    expect(config.info).toEqual({ modality: 'CT' })
    expect(config.inference).toMatchObject({
      imageFormat: 'CDHW',
      scanningWindow: { roi: [224, 224, 32], batchSize: 1 },
    })
  })

  it('keeps a node_mapping as written, field first or tensor first', () => {
    expect(parse(sample('spleen-annotation-v3')).inference.nodeMapping).toEqual({
      image: 'NV_MODEL_INPUT',
      model: 'NV_MODEL_OUTPUT',
    })
    expect(parse(sample('spleen-v3')).inference.nodeMapping).toEqual({
      NV_MODEL_INPUT: 'image',
      NV_MODEL_OUTPUT: 'model',
    })
  })

  it('reads an annotation model with its padding and roi', () => {
    expect(parse(sample('spleen-annotation-v3'))).toMatchObject({
      type: 'annotation',
      padding: 20,
      roi: [128, 128, 128],
    })
  })

  it('reads version 4: input, output, engine blocks, meta_data and cache_until', () => {
    const config = parse(sample('deepgrow-2d-v4'), 'deepgrow_2d')
    expect(config).toMatchObject({
      version: '1',
      type: 'deepgrow',
      labels: [],
      info: { deepgrow: '2D' },
      cacheUntil: 'AddGuidanceFromPointsd',
      inference: { image: 'image', nodeMapping: { NV_MODEL_INPUT: 'image', NV_MODEL_OUTPUT: 'pred' } },
      writer: { name: 'Writer' },
    })
    expect(parse(sample('deepgrow-3d-v4'), 'deepgrow_3d').info).toEqual({ deepgrow: '3D' })
  })

  it("prefers AIAA's settings to TRITON's in a version 4 segmentation", () => {
    expect(parse(sample('spleen-v4')).inference.scanningWindow).toEqual({
      roi: [160, 160, 160],
      overlap: 0.6,
      batchSize: 1,
      blend: 'constant',
    })
  })

  it('reads a pipeline, the 3-D model first', () => {
    expect(parse(sample('deepgrow-pipeline-v4'), 'deepgrow').pipeline).toEqual({
      models: ['deepgrow_3d', 'deepgrow_2d'],
      batchSize: 32,
    })
  })

  it('reads a model that runs on an inference cluster', () => {
    expect(parse(sample('liver-kserve'), 'liver').inference).toMatchObject({
      engine: 'kserve',
      kserve: { url: 'http://triton.example:8000', model: 'liver' },
    })
  })
})

it.each([
  'spleen-v2',
  'spleen-v3',
  'spleen-annotation-v3',
  'spleen-v4',
  'deepgrow-2d-v4',
  'deepgrow-3d-v4',
  'deepgrow-pipeline-v4',
  'liver-kserve',
])('every transform of %s is one that this server has', (file) => {
  const { preTransforms, postTransforms } = parse(sample(file), 'sample')
  for (const spec of [...preTransforms, ...postTransforms]) expect(buildTransform(spec).name).toBe(spec.name)
})

describe('spellings that all mean "run it"', () => {
  it.each([
    'TRTISInference',
    'TFInference',
    'PTInference',
    'PyTorchInference',
    'TritonInference',
    'ONNXInference',
    'aiaa.inference.TritonInference',
    'mine.CustomInference',
  ])('%s', (name) => {
    const { inference } = parse(withInference({ name, args: { scanning_window: 1, roi: ['32', 32, 32] } }))
    expect(inference.engine).toBe('onnxruntime')
    expect(inference.scanningWindow?.roi).toEqual([32, 32, 32])
  })

  it('refuses the own arguments of a custom class, which would have no effect', () => {
    expect(() => parse(withInference({ name: 'mine.Custom', args: { magic: 7 } }))).toThrow(
      /config\.inference\.args.*'magic'/,
    )
  })

  it.each([
    { name: 'nothing said', inference: {}, want: { NV_MODEL_INPUT: 'image' } },
    {
      name: 'trtis channels of version 2',
      inference: { trtis: { input_channels: { t1: 1 }, output_channels: { seg: 2 } }, image: 't1' },
      want: { NV_MODEL_INPUT: 't1', NV_MODEL_OUTPUT: 'seg' },
    },
    {
      name: 'tensor names of a Triton block',
      inference: {
        output: 'pred',
        TRITON: { triton_model_config: { input: [{ name: 'x' }], output: [{ name: 'y' }] } },
      },
      want: { x: 'image', y: 'pred' },
    },
    {
      name: 'several tf nodes',
      inference: { tf: { input_nodes: { t1: 'a', t2: 'b' }, output_nodes: { model: 'c' } } },
      want: { a: 't1', b: 't2', c: 'model' },
    },
    {
      name: 'input and output as lists',
      inference: { input: ['t1', 't2'], output: ['seg', 'edge'] },
      want: { NV_MODEL_INPUT: 't1', NV_MODEL_INPUT_1: 't2', NV_MODEL_OUTPUT: 'seg', NV_MODEL_OUTPUT_1: 'edge' },
    },
  ])('maps tensors from $name', ({ inference, want }) => {
    expect(parse(withInference(inference)).inference.nodeMapping).toEqual(want)
  })

  it.each([
    { name: 'type in capitals', more: { type: 'Segmentation' }, want: { type: 'segmentation' } },
    { name: 'a numeric version', more: { version: 3 }, want: { version: '3' } },
    { name: 'one label as text', more: { labels: 'liver' }, want: { labels: ['liver'] } },
    {
      name: 'a writer in a list',
      more: { writer: [{ name: 'WriteNifti' }] },
      want: { writer: { name: 'WriteNifti' } },
    },
    { name: 'cache_until ALL', more: { cache_until: 'ALL' }, want: { cacheUntil: 'ALL' } },
    { name: 'meta_data at the top', more: { meta_data: { a: 1 } }, want: { info: { a: 1 } } },
    { name: 'padding in additional_info', more: { additional_info: { padding: 12 } }, want: { padding: 12 } },
  ])('accepts $name', ({ more, want }) => {
    expect(parse(withInference({}, more))).toMatchObject(want)
  })

  it('gives annotation models the padding and roi that clients assume', () => {
    expect(parse(withInference({}, { type: 'annotation' }))).toMatchObject({ padding: 20, roi: [128, 128, 128] })
  })

  it('tells from its guidance what a deepgrow model clicks on', () => {
    const pre_transforms = [{ name: 'AddGuidanceFromPointsd', args: { dimensions: 3 } }]
    expect(parse(withInference({}, { type: 'deepgrow', pre_transforms })).info).toEqual({ deepgrow: '3D' })
  })

  it('reads session options under our names and those of ONNX Runtime', () => {
    const session = { intra_op_num_threads: 2, graph_optimization_level: 'basic' }
    expect(parse(withInference({ session })).inference.session).toEqual({ intraOpThreads: 2, optimisation: 'basic' })
  })

  it('takes the models of a pipeline by role', () => {
    const json = { type: 'pipeline', pipeline: { models: { '2D': 'slices', '3D': 'volume' } } }
    expect(parse(json).pipeline).toEqual({ models: ['volume', 'slices'], batchSize: 1 })
  })
})

const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) })

describe('refusals name the key', () => {
  it.each([
    { name: 'no object', json: [], says: 'must be a JSON object' },
    { name: 'null', json: null, says: 'must be a JSON object' },
    { name: 'no type', json: { inference: {} }, says: 'config.type' },
    { name: 'an unknown type', json: withInference({}, { type: 'segmentatoin' }), says: 'config.type' },
    { name: 'no inference', json: { type: 'segmentation' }, says: 'config.inference is missing' },
    { name: 'a slip at the top', json: withInference({}, { lables: [] }), says: "'lables' (did you mean 'labels'?)" },
    {
      name: 'a slip in inference',
      json: withInference({ scaning_window: true }),
      says: "config.inference: unknown key 'scaning_window' (did you mean 'scanning_window'?)",
    },
    {
      name: 'a slip in args',
      json: withInference({ name: 'TRTISInference', args: { rio: [1] } }),
      says: "config.inference.args: unknown key 'rio' (did you mean 'roi'?)",
    },
    {
      name: 'a slip in a transform',
      json: withInference({}, { pre_transforms: [{ name: 'LoadNifti', arg: {} }] }),
      says: "config.pre_transforms[0]: unknown key 'arg' (did you mean 'args'?)",
    },
    {
      name: 'a transform without a name',
      json: withInference({}, { post_transforms: [{ args: {} }] }),
      says: 'config.post_transforms[0].name',
    },
    {
      name: 'a window without a size',
      json: withInference({ scanning_window: true }),
      says: 'config.inference.args.roi is missing',
    },
    {
      name: 'a negative roi',
      json: withInference({ args: { scanning_window: true, roi: [96, -1, 96] } }),
      says: 'config.inference.args.roi[1]',
    },
    {
      name: 'a whole overlap',
      json: withInference({ args: { scanning_window: true, roi: [96], overlap: 1 } }),
      says: 'config.inference.args.overlap',
    },
    {
      name: 'a boolean in odd words',
      json: withInference({ scanning_window: 'maybe' }),
      says: 'config.inference.scanning_window: expected true or false',
    },
    {
      name: 'cache_until of an absent transform',
      json: withInference({}, { cache_until: 'Spacingd' }),
      says: "config.cache_until names 'Spacingd'",
    },
    {
      name: 'kserve without where',
      json: withInference({ engine: 'kserve' }),
      says: 'config.inference.kserve is missing',
    },
    ...['http://user:secret@triton:8000', 'http://triton:8000?x=1', 'http://triton:8000/#x'].map((url) => ({
      name: `kserve at ${url}`,
      json: withInference({ kserve: { url, model: 'm' } }),
      says: 'config.inference.kserve.url: expected the base of the server alone, without a login, ? and #',
    })),
    {
      name: 'kserve by file',
      json: withInference({ kserve: { url: 'file:///etc/passwd', model: 'm' } }),
      says: 'config.inference.kserve.url: expected an http or https URL',
    },
    { name: 'a pipeline of nothing', json: { type: 'pipeline' }, says: 'config.pipeline is missing' },
    {
      name: 'a pipeline of itself',
      json: { type: 'pipeline', pipeline: { models: ['spleen'] } },
      says: "config.pipeline.models names 'spleen' itself",
    },
    { name: 'version 7', json: withInference({}, { version: 7 }), says: 'config.version' },
    { name: '__proto__', json: JSON.parse('{"type":"others","inference":{"__proto__":{}}}'), says: 'config.inference' },
    { name: 'great depth', json: withInference({ additional_info: nested(40) }), says: 'deeper than' },
    {
      name: 'great size',
      json: withInference({ additional_info: { a: new Array(30_000).fill(0) } }),
      says: 'more than 20000 values',
    },
    { name: 'great text', json: withInference({}, { description: 'x'.repeat(70_000) }), says: 'config.description' },
  ])('$name', ({ json, says }) => {
    let caught: unknown
    try {
      parse(json)
    } catch (error) {
      caught = error
    }
    expect(caught).toBeInstanceOf(AppError)
    expect((caught as AppError).code).toBe('BAD_MODEL_CONFIG')
    expect((caught as AppError).message).toContain(says)
  })
})

describe('what Clara 4 had in its early access', () => {
  const early = () => {
    const sampled = sample('deepgrow-2d-v4')
    const post = (sampled.post_transforms as { name: string; args: object }[]).map((one) =>
      /RestoreLabeld$/.test(one.name)
        ? { name: 'aiaa.apps.deepgrow.transforms.RestoreCroppedLabeld', args: { ...one.args, channel_first: true } }
        : one,
    )
    return {
      ...sampled,
      inference: { name: 'aiaa.inference.TritonInference', input: 'image', output: 'pred', args: {} },
      triton: {
        platform: 'pytorch_libtorch',
        input: [{ name: 'CLICKED', dims: [3, 256, 256] }],
        output: [{ name: 'SCORES' }],
      },
      post_transforms: post,
    }
  }

  it('reads the triton block at the top, and RestoreCroppedLabeld as RestoreLabeld', () => {
    const config = parse(early())
    expect(config.inference.nodeMapping).toEqual({ CLICKED: 'image', SCORES: 'pred' })
    const restore = config.postTransforms.find(({ name }) => name === 'RestoreCroppedLabeld')!
    expect(buildTransform(restore).definition.names).toContain('RestoreLabeld')
  })

  it('the block of the inference section goes before', () => {
    const json = { ...early(), inference: { input: 'image', output: 'pred', triton: { input: [{ name: 'OWN' }] } } }
    expect(parse(json).inference.nodeMapping).toMatchObject({ OWN: 'image' })
  })
})

describe('labels', () => {
  it.each([
    { name: 'names by value', labels: { '1': 'spleen', '2': 'liver' }, want: ['spleen', 'liver'] },
    { name: 'in any order', labels: { '10': 'j', '2': 'b', '1': 'a' }, want: ['a', 'b', ...gaps(3, 9), 'j'] },
    { name: 'values by name', labels: { liver: 2, spleen: 1 }, want: ['spleen', 'liver'] },
    { name: 'the background is none', labels: { '0': 'background', '1': 'spleen' }, want: ['spleen'] },
    { name: 'none', labels: {}, want: [] },
    { name: 'one word', labels: 'spleen', want: ['spleen'] },
  ])('$name', ({ labels, want }) => {
    expect(parse(withInference({}, { labels })).labels).toEqual(want)
  })

  it.each([{ labels: { one: 'spleen' } }, { labels: { '-1': 'spleen' } }, { labels: { '5000': 'x' } }])(
    '$labels is refused with what would be right',
    ({ labels }) => {
      expect(() => parse(withInference({}, { labels }))).toThrow(/config.labels: expected names by label value/)
    },
  )

  function gaps(from: number, to: number): string[] {
    return Array.from({ length: to - from + 1 }, (_, i) => `label ${from + i}`)
  }
})

describe('what is written for readers', () => {
  it('is kept and shown', () => {
    const said = {
      _comment: 'made for the demo',
      license: 'CC-BY-4.0',
      authors: ['A', 'B'],
      'internal name': 'ct_spleen',
      sigma: 3,
    }
    expect(parse(withInference({}, said)).info).toEqual(said)
  })

  it('may stand anywhere as _comment', () => {
    const pre_transforms = [{ name: 'LoadImaged', _comment: 'first', args: { keys: 'image', _comment2: 'really' } }]
    const config = parse(withInference({ _comments: ['x'] }, { pre_transforms }))
    expect(config.preTransforms).toEqual([{ name: 'LoadImaged', args: { keys: 'image' } }])
  })
})

describe("a class of the config's own", () => {
  it.each([
    { spec: { name: 'my.crops.CropNearLiverd' }, says: "transform 'my.crops.CropNearLiverd' is a Python class" },
    { spec: { name: 'MySpacingd', path: 'my.spacing' }, says: "'my.spacing.MySpacingd' is a Python class" },
    {
      spec: { name: 'my.Spacingd' },
      says: "'my.Spacingd' is a Python class of this config's own, and Python is not run",
    },
    { spec: { name: 'my.Spacingd' }, says: "the nearest transform is 'Spacingd'" },
    { spec: { name: 'my.Spacngd' }, says: "the nearest transform is 'Spacingd'" },
  ])('$spec.name: $says', ({ spec, says }) => {
    const [own] = parse(withInference({}, { pre_transforms: [spec] })).preTransforms
    expect(() => buildTransform(own!)).toThrow(says)
  })

  it.each(['monai.transforms.Spacingd', 'monai.transforms.spatial.dictionary.Spacingd'])('%s is known', (name) => {
    const args = { keys: 'image', pixdim: [1, 1, 1] }
    const [known] = parse(withInference({}, { pre_transforms: [{ name, args }] })).preTransforms
    expect(buildTransform(known!).name).toBe('Spacingd')
  })
})
