import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, describe, expect, it } from 'vitest'
import { makeNode } from '../../../src/onnx/graph.js'
import { writeModel } from '../../../src/onnx/model-file.js'
import { StringEntrySchema } from '../../../src/onnx/onnx_pb.js'
import { buildTransforms } from '../../../src/pipelines/model-run.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import { draftOf } from '../../../src/registry/draft.js'
import { draftConfig } from '../../../src/registry/draft-config.js'
import { makeModel } from '../../helpers/onnx-model.js'
import { LIMITS } from '../../helpers/registry.js'
import { zipBytes } from '../../helpers/zip.js'

const folder = mkdtempSync(join(tmpdir(), 'aidant-draft-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

type Dims = readonly (number | string | null)[]
function draft(input: Dims, output: Dims, type: 'float32' | 'int64' = 'float32') {
  const { config, questions } = draftConfig({
    inputs: [{ name: 'x', type: 'float32', dims: input }],
    outputs: [{ name: 'y', type, dims: output }],
    metadata: {},
  })
  const parsed = parseModelConfig(config, 'draft')
  buildTransforms(parsed)
  const steps = (list: readonly { name: string }[]) => list.map(({ name }) => name).join(' ')
  return { parsed, questions, before: steps(parsed.preTransforms), after: steps(parsed.postTransforms) }
}

describe('a draft of a network without a config', () => {
  it('goes over a volume in windows of the network’s own size, and takes the best of several classes', () => {
    const { parsed, after, questions } = draft([1, 1, 64, 96, 96], [1, 3, 64, 96, 96])
    expect(parsed.type).toBe('segmentation')
    expect(parsed.labels).toEqual(['class 1', 'class 2'])
    expect(parsed.inference.scanningWindow?.roi).toEqual([64, 96, 96])
    expect(after).toBe('Invertd AsDiscreted')
    expect(questions.map(({ about }) => about)).toContain('post_transforms: AsDiscreted')
  })
  it.each<[string, Dims, Dims, 'float32' | 'int64', string, string, string[]]>([
    [
      'one value a voxel is a sigmoid',
      ['n', 1, 'd', 'h', 'w'],
      ['n', 1, 'd', 'h', 'w'],
      'float32',
      'LoadImaged Orientationd ScaleIntensityd',
      'Activationsd Invertd AsDiscreted',
      ['class 1'],
    ],
    [
      'whole numbers are labels',
      [1, 1, 'd', 'h', 'w'],
      [1, 1, 'd', 'h', 'w'],
      'int64',
      'LoadImaged Orientationd ScaleIntensityd',
      'Invertd',
      [],
    ],
    [
      'a colour picture is resized',
      [1, 3, 224, 224],
      [1, 2, 224, 224],
      'float32',
      'LoadImaged ScaleIntensityRanged Resized',
      'Invertd AsDiscreted',
      ['class 1'],
    ],
    [
      'channels last',
      [1, 224, 224, 3],
      [1, 224, 224, 2],
      'float32',
      'LoadImaged ScaleIntensityRanged Resized AsChannelLastd',
      'Invertd AsDiscreted',
      ['class 1'],
    ],
    [
      'one value a class is a classifier',
      ['n', 3, 224, 224],
      ['n', 5],
      'float32',
      'LoadImaged ScaleIntensityRanged Resized',
      'Activationsd',
      ['class 1', 'class 2', 'class 3', 'class 4', 'class 5'],
    ],
  ])('%s', (_, input, output, type, before, after, labels) => {
    const drafted = draft(input, output, type)
    expect(drafted.before).toBe(before)
    expect(drafted.after).toBe(after)
    expect(drafted.parsed.labels).toEqual(labels)
    for (const { choices } of drafted.questions) expect(choices.length).toBeGreaterThan(0)
  })
  it('is refused for a network without an image', () => {
    expect(() => draft(['n', 16], ['n', 2])).toThrow(/takes no image/)
  })
})

const identity = (metadata: Record<string, string> = {}) => {
  const model = makeModel([makeNode('Identity', ['x'], 'y')], [], [1, 1, 8, 8, 8])
  model.metadataProps = Object.entries(metadata).map(([key, value]) => create(StringEntrySchema, { key, value }))
  return writeModel(model)
}
let count = 0
function look(bytes: Uint8Array) {
  const path = join(folder, `${count++}.bin`)
  writeFileSync(path, bytes)
  return draftOf({ data: path }, `${path}.work`, LIMITS)
}

describe('a look at an upload', () => {
  it('tells the tensors of an ONNX file, and its draft line by line', async () => {
    const { understood } = await look(identity())
    expect(understood).toContain("input: 'x' float32 [1, 1, 8, 8, 8]")
    expect(understood).toContain('type: segmentation')
  })
  it('takes the config that an ONNX file brings, and asks nothing', async () => {
    const own = { type: 'segmentation', labels: ['spleen'], inference: {} }
    const { config, questions } = await look(identity({ config_aiaa: JSON.stringify(own) }))
    expect(config).toEqual(own)
    expect(questions).toEqual([])
  })
  it.each([
    ['a config in an ONNX file that is no JSON', identity({ config_aiaa: '{' }), /metadata_props/],
    [
      'a Triton repository',
      zipBytes([
        { name: 'liver/config.pbtxt', data: 'name: "liver"' },
        { name: 'liver/1/model.onnx', data: identity() },
      ]),
      /Triton model repository/,
    ],
    [
      'a MONAI Label app',
      zipBytes([
        { name: 'radiology/main.py', data: '' },
        { name: 'radiology/lib/infers/segmentation.py', data: '' },
        { name: 'radiology/model/segmentation.pt', data: '' },
      ]),
      /MONAI Label app/,
    ],
    [
      'an nnU-Net with checkpoints only',
      zipBytes([
        { name: 'D/t__p__2d/plans.json', data: '{}' },
        { name: 'D/t__p__2d/dataset.json', data: '{}' },
        { name: 'D/t__p__2d/fold_0/checkpoint_final.pth', data: '' },
      ]),
      /nnU-Net archive holds no ONNX/,
    ],
    [
      'an archive with two files of one name',
      zipBytes([
        { name: 'model.onnx', data: identity() },
        { name: 'model.onnx', data: identity() },
      ]),
      /two files called 'model.onnx'/,
    ],
    [
      'two configurations at once',
      zipBytes(
        ['a__b__2d', 'a__b__3d_fullres'].flatMap((name) => [
          { name: `${name}/plans.json`, data: '{}' },
          { name: `${name}/dataset.json`, data: '{}' },
          { name: `${name}/fold_0/model.onnx`, data: identity() },
        ]),
      ),
      /2 trained configurations/,
    ],
  ])('%s is refused with the way', async (_, bytes, message) => {
    await expect(look(bytes)).rejects.toMatchObject({ message: expect.stringMatching(message) })
  })
})
