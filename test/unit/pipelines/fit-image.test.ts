import { describe, expect, it } from 'vitest'
import type { TensorSpec } from '../../../src/contract/tensor.js'
import type { ReadResult } from '../../../src/formats/format.js'
import { fieldOf, fitImage, imageIndexOf } from '../../../src/pipelines/fit-image.js'
import { type ImageNeeds, imageNeeds } from '../../../src/pipelines/image-needs.js'
import { planModel } from '../../../src/pipelines/model-run.js'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import type { Vec3, VoxelArray } from '../../../src/volume/volume.js'
import { step } from '../../helpers/pipeline.js'
import { volumeOf } from '../../helpers/volumes.js'

interface Image {
  readonly size?: Vec3
  readonly channels?: number
  readonly colours?: 3 | 4
  readonly values?: readonly number[]
  readonly make?: (n: number) => VoxelArray
}

function image({
  size = [2, 1, 1],
  channels = 1,
  colours,
  values,
  make = (n) => new Uint8Array(n),
}: Image): ReadResult {
  const volume = volumeOf(size, { channels, value: (i) => values?.[i] ?? i, make })
  return { volume, format: 'nifti', extension: '.nii', notes: ['read'], ...(colours ? { colours } : {}) }
}

const flat = (channels?: number): ImageNeeds => ({ view: 'flat', channels })
const volumes = (channels?: number): ImageNeeds => ({ view: 'volume', channels })

describe('an image is fitted to what the model takes:', () => {
  it.each<{ name: string; sent: Image; needs: ImageNeeds; index?: number; want: number[]; note?: RegExp }>([
    { name: 'one image for one, as it is', sent: {}, needs: flat(1), want: [0, 1] },
    { name: 'two for two, as they are', sent: { channels: 2 }, needs: volumes(2), want: [0, 1, 2, 3] },
    {
      name: 'any number where the network takes any',
      sent: { channels: 3 },
      needs: volumes(),
      want: [0, 1, 2, 3, 4, 5],
    },
    {
      name: 'the one that image_index names, counted from 0',
      sent: { channels: 3 },
      needs: volumes(1),
      index: 1,
      want: [2, 3],
      note: /of the 3 images in the file, number 1 was used/,
    },
    {
      name: 'also where the network would take any number',
      sent: { channels: 3 },
      needs: volumes(),
      index: 2,
      want: [4, 5],
      note: /number 2 was used/,
    },
    {
      name: 'colours as luminance for grey, rounded to bytes',
      sent: { channels: 3, colours: 3, values: [255, 10, 255, 20, 255, 31] },
      needs: flat(1),
      want: [255, 18],
      note: /its luminance was used/,
    },
    {
      name: 'a volume in colour too',
      sent: { size: [2, 1, 2], channels: 3, colours: 3, values: [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9] },
      needs: volumes(1),
      want: [9, 9, 9, 9],
      note: /its luminance was used/,
    },
    {
      name: 'colours of 16 bits as they are weighed',
      sent: { channels: 3, colours: 3, values: [1000, 0, 1000, 0, 1000, 1], make: (n) => new Float32Array(n) },
      needs: flat(1),
      want: [1000, Math.fround(0.114)],
      note: /its luminance was used/,
    },
    {
      name: 'colours for colours',
      sent: { channels: 3, colours: 3 },
      needs: flat(3),
      want: [0, 1, 2, 3, 4, 5],
    },
    {
      name: 'transparency is left out',
      sent: { channels: 4, colours: 4 },
      needs: flat(3),
      want: [0, 1, 2, 3, 4, 5],
      note: /transparency/,
    },
    {
      name: 'transparency counts nothing for grey',
      sent: { channels: 4, colours: 4, values: [7, 7, 7, 7, 7, 7, 0, 255] },
      needs: flat(1),
      want: [7, 7],
      note: /luminance/,
    },
    {
      name: 'grey three times for a picture model of colours',
      sent: {},
      needs: flat(3),
      want: [0, 1, 0, 1, 0, 1],
      note: /is grey/,
    },
    {
      name: 'one of several colour images, then its luminance',
      sent: { channels: 6, colours: 3, values: [1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 5] },
      needs: flat(1),
      index: 1,
      want: [5, 5],
      note: /number 1 was used/,
    },
  ])('$name', ({ sent, needs, index, want, note }) => {
    const { volume, notes } = fitImage(image(sent), needs, index)
    expect(Array.from(volume.data)).toEqual(want)
    expect(notes[0]).toBe('read')
    expect(notes.slice(1).join()).toMatch(note ?? /^$/)
  })

  it.each<{ name: string; sent: Image; needs: ImageNeeds; index?: number; said: RegExp; hint?: RegExp }>([
    {
      name: 'time points for a model of one image',
      sent: { channels: 3 },
      needs: volumes(1),
      said: /holds 3 images \(time points or channels\), and this model takes one/,
      hint: /image_index": 0\} to \{"image_index": 2\}/,
    },
    {
      name: 'two time points for a picture model of colours, which takes a grey one',
      sent: { channels: 2 },
      needs: flat(3),
      said: /takes one/,
      hint: /image_index": 0\}/,
    },
    {
      name: 'three images for a model of two',
      sent: { channels: 3 },
      needs: volumes(2),
      said: /takes 2/,
      hint: /2 files/,
    },
    { name: 'colour pictures over time', sent: { channels: 6, colours: 3 }, needs: flat(3), said: /holds 2 images/ },
    {
      name: 'an index beyond the last',
      sent: { channels: 3 },
      needs: flat(1),
      index: 3,
      said: /is 3, but the file holds 3 images, numbers 0 to 2/,
    },
    { name: 'an index of one image', sent: {}, needs: flat(1), index: 1, said: /holds one image, number 0/ },
  ])('refused: $name', ({ sent, needs, index, said, hint = /./ }) => {
    const attempt = () => fitImage(image(sent), needs, index)
    expect(attempt).toThrow(said)
    try {
      attempt()
    } catch (error) {
      expect(error).toMatchObject({ code: 'BAD_PARAMS' })
      if (hint.source !== '.') expect((error as { hint?: string }).hint).toMatch(hint)
    }
  })
})

describe('image_index', () => {
  it.each([
    [{}, undefined],
    [{ image_index: null }, undefined],
    [{ image_index: 2 }, 2],
    [{ image_index: '2' }, 2],
  ])('%j is %s', (params, want) => expect(imageIndexOf(params)).toBe(want))

  it.each([[-1], [1.5], ['x'], [[0]], [true]])('%j is refused', (value) =>
    expect(() => imageIndexOf({ image_index: value })).toThrow(/'image_index' has to be a whole number from 0 on/),
  )
})

describe('a slice looks the same to a model, whichever way it lies in its file:', () => {
  it.each<{ name: string; size: Vec3; view: ImageNeeds['view']; channels?: number; want: string }>([
    { name: 'a picture for a network for pictures', size: [5, 4, 1], view: 'flat', want: 'XY' },
    { name: 'a coronal slice for it', size: [5, 1, 4], view: 'flat', want: 'XZ' },
    { name: 'a sagittal slice for it', size: [1, 5, 4], view: 'flat', want: 'YZ' },
    { name: 'a volume for it, slice by slice', size: [5, 4, 3], view: 'flat', want: 'XYZ' },
    { name: 'a colour picture for it', size: [5, 4, 1], view: 'flat', channels: 3, want: 'XYC' },
    { name: 'a picture for a network that picks slices', size: [5, 4, 1], view: 'slices', want: 'XYZ' },
    { name: 'a coronal slice for it', size: [5, 1, 4], view: 'slices', want: 'XZY' },
    { name: 'a sagittal slice for it', size: [1, 5, 4], view: 'slices', want: 'YZX' },
    { name: 'a coronal slice for a network for volumes', size: [5, 1, 4], view: 'volume', want: 'XYZ' },
  ])('$name is $want', ({ size, view, channels = 1, want }) => {
    expect(fieldOf(image({ size, channels }), view).axes).toBe(want)
  })
})

describe('what a model takes', () => {
  const guidance = step('AddGuidanceFromPointsd', { keys: undefined, ref_image: 'image', dimensions: 2 })
  const signal = { name: 'AddGuidanceSignald', args: { image: 'image' } }
  it.each<{
    name: string
    dims: TensorSpec['dims']
    pre?: readonly unknown[]
    format?: string
    files?: number
    want: ImageNeeds
  }>([
    { name: 'a network for volumes', dims: ['n', 1, 'd', 'h', 'w'], want: volumes(1) },
    { name: 'one for pictures', dims: ['n', 3, 'h', 'w'], want: flat(3) },
    { name: 'one of any number of channels', dims: ['n', 'c', 'h', 'w'], want: flat() },
    { name: 'channels last', dims: ['n', 'h', 'w', 3], format: 'NHWC', want: flat(3) },
    { name: 'two files for two channels', dims: ['n', 2, 'd', 'h', 'w'], files: 2, want: volumes(1) },
    {
      name: 'clicks are channels of their own',
      dims: ['n', 3, 'd', 'h', 'w'],
      pre: [{ ...guidance, args: { ref_image: 'image', dimensions: 3 } }, signal],
      want: volumes(1),
    },
    {
      name: 'clicks in a slice want slices',
      dims: ['n', 'c', 'h', 'w'],
      pre: [{ ...guidance, args: { ref_image: 'image', dimensions: 2 } }, signal],
      want: { view: 'slices', channels: 1 },
    },
    {
      name: 'extreme points are one channel',
      dims: ['n', 2, 'd', 'h', 'w'],
      pre: [step('AddExtremePointsChanneld')],
      want: volumes(1),
    },
    {
      name: 'what changes channels in another way says nothing',
      dims: ['n', 2, 'h', 'w'],
      pre: [step('AsChannelLastd')],
      want: flat(),
    },
    {
      name: 'images joined to as many channels are one each',
      dims: ['n', 2, 'd', 'h', 'w'],
      pre: [step('ConcatItemsd', { keys: ['image', 'other'], name: 'image' })],
      want: volumes(1),
    },
  ])('$name', ({ dims, pre = [], format, files, want }) => {
    const config = parseModelConfig(
      {
        version: '4',
        type: 'segmentation',
        pre_transforms: [step('LoadImaged'), ...pre],
        inference: {
          image: 'image',
          node_mapping: { x: 'image', y: 'pred' },
          ...(format ? { image_format: format } : {}),
        },
      },
      'test',
    )
    const inputs: TensorSpec[] = [{ name: 'x', type: 'float32', dims }]
    const outputs: TensorSpec[] = [{ name: 'y', type: 'float32', dims }]
    const predictor = { inputs, outputs, device: 'cpu', run: async () => ({}), async close() {} }
    const plan = planModel({ ref: { name: 'test', revision: '1', config }, predictor })
    expect(imageNeeds(plan, 'image', files)).toEqual(want)
  })
})
