import { describe, expect, it } from 'vitest'
import { buildTransform, DEFINITIONS, TRANSFORM_NAMES } from '../../../src/transforms/catalog.js'
import { reduceField } from '../../../src/transforms/labels.js'
import type { Item } from '../../../src/transforms/types.js'
import { scaleAffine, volumeOf } from '../../helpers/volumes.js'

const empty: Item = { images: new Map(), values: new Map(), result: {} }

function itemOf(axes: string, size: [number, number, number] = [4, 3, 2], channels = 1): Item {
  const volume = volumeOf(size, { channels, affine: scaleAffine([1, 2, 3]) })
  const source = { size: volume.size, affine: volume.affine }
  return { ...empty, images: new Map([['image', { volume, content: 'intensity', axes, source, undo: [] }]]) }
}

const apply = async (name: string, args: Record<string, unknown>, item: Item) =>
  (await buildTransform({ name, args: { keys: 'image', ...args } }).apply(item)).images.get('image')!

describe('names', () => {
  it('are each given to one transform only', () => {
    const all = DEFINITIONS.flatMap(({ names }) => names)
    expect(all.filter((name, i) => all.indexOf(name) !== i)).toEqual([])
  })

  it('cover what real configs of versions 2, 3 and 4 use', () => {
    const used = `LoadNifti LoadPng LoadJpg ConvertToChannelsFirst ConvertToChannelsLast ScaleByResolution ScaleByFactor
      ScaleToShape ScaleIntensityRange NormalizeNonzeroIntensities CropForeground ArgmaxAcrossChannels SplitBasedOnLabel
      ApplyThreshold KeepLargestCC FetchExtremePoints CopyProperties RestoreOriginalShape LoadImaged EnsureChannelFirstd
      Orientationd Spacingd Resized ScaleIntensityd ScaleIntensityRanged ScaleIntensityRangePercentilesd
      NormalizeIntensityd CropForegroundd SpatialPadd DivisiblePadd CenterSpatialCropd Activationsd AsDiscreted
      KeepLargestConnectedComponentd FillHolesd RemoveSmallObjectsd Invertd Restored AddChanneld AsChannelFirstd
      AsChannelLastd SqueezeDimd ToNumpyd ToTensord LargestCCd ExtremePointsd BoundingBoxd AddGuidanceFromPointsd
      Fetch2DSliced SpatialCropGuidanced ResizeGuidanced AddGuidanceSignald RestoreLabeld`.split(/\s+/)
    expect(used.filter((name) => !TRANSFORM_NAMES.includes(name))).toEqual([])
  })

  it('may carry a class path', () => {
    expect(buildTransform({ name: 'monai.transforms.Flipd', args: { keys: 'image' } }).name).toBe('Flipd')
  })
})

describe('what is refused', () => {
  it.each([
    { name: 'Spacinggd', args: {}, says: /unknown transform 'Spacinggd' \(did you mean 'Spacingd'\?\)/ },
    { name: 'Spacingd', args: { keys: 'image', pixdims: [1, 1, 1] }, says: /'Spacingd'.*pixdims/ },
    { name: 'Spacingd', args: { keys: 'image' }, says: /'Spacingd': 'pixdim'/ },
    { name: 'Spacingd', args: { keys: 'image', pixdim: 1, mode: 'cubic' }, says: /mode must be one of.*'cubic'/ },
    { name: 'Orientationd', args: { keys: 'image', axcodes: 'RAR' }, says: /axcodes.*'RAR'/ },
    { name: 'ScaleIntensityRanged', args: { a_min: 0, a_max: 1 }, says: /'keys'/ },
    { name: 'MapLabelValued', args: { keys: 'p', orig_labels: [1], target_labels: [1, 2] }, says: /of one length/ },
  ])('$name $args', ({ name, args, says }) => {
    expect(() => buildTransform({ name, args })).toThrow(
      expect.objectContaining({ code: 'BAD_MODEL_CONFIG', message: expect.stringMatching(says) }),
    )
  })

  it('names the transform and the fields there are when a field is missing', () => {
    const step = buildTransform({ name: 'Flipd', args: { keys: 'label' } })
    expect(() => step.apply(itemOf('CXYZ'))).toThrow(/transform 'Flipd': no earlier step made.*'label'.*image/)
  })
})

describe('spellings', () => {
  it.each([{ keys: 'image' }, { fields: ['image'] }, { field: 'image' }])('%o names the field', (args) => {
    expect(buildTransform({ name: 'ConvertToChannelsFirst', args }).keys).toEqual(['image'])
  })

  it('booleans may be words, numbers may be text', async () => {
    const field = await apply('ScaleIntensityRange', { a_min: '0', a_max: 10, clip: 'True' }, itemOf('CXYZ'))
    expect(Math.max(...field.volume.data)).toBe(1)
  })
})

describe('axes', () => {
  it.each([
    { name: 'EnsureChannelFirstd', args: {}, from: 'XYZ', to: 'CXYZ' },
    { name: 'EnsureChannelFirstd', args: {}, from: 'XYZC', to: 'CXYZ' },
    { name: 'AsChannelFirstd', args: {}, from: 'XYZ', to: 'ZXY' },
    { name: 'AsChannelLastd', args: {}, from: 'ZXY', to: 'XYZ' },
    { name: 'AddChanneld', args: {}, from: 'ZXY', to: 'CZXY' },
    { name: 'ConvertToChannelsLast', args: {}, from: 'CXYZ', to: 'XYZC' },
    { name: 'SqueezeDimd', args: { dim: 0 }, from: 'CXYZ', to: 'XYZ' },
    { name: 'Transposed', args: { indices: [0, 3, 1, 2] }, from: 'CXYZ', to: 'CZXY' },
  ])('$name of $from gives $to', async ({ name, args, from, to }) => {
    expect((await apply(name, args, itemOf(from))).axes).toBe(to)
  })

  it('Spacingd counts them as the array has them: the slice axis of AsChannelFirstd is not spatial', async () => {
    const field = await apply('Spacingd', { pixdim: [0.5, 1] }, itemOf('ZXY'))
    expect(field.volume.size).toEqual([7, 5, 2])
  })
})

describe('intensities', () => {
  it('are not written into voxels that somebody else holds', async () => {
    const item = itemOf('CXYZ')
    const before = Array.from(item.images.get('image')!.volume.data)
    await apply('ScaleIntensityd', {}, item)
    expect(Array.from(item.images.get('image')!.volume.data)).toEqual(before)
  })
})

describe('AsDiscreted', () => {
  it.each([
    { values: [0.4, 0.5, 0.6, 1.5, 2.5, 2.51, 254.7], rounded: [0, 0, 1, 2, 2, 3, 255] },
    { values: [-1.5, -0.6, 0.4], rounded: [-2, -1, 0] },
    { values: [256.5, 70_000.2], rounded: [256, 70_000] },
  ])('rounds $values as torch.round does when the config says so', async ({ values, rounded }) => {
    const item = itemOf('CXYZ', [values.length, 1, 1])
    const field = item.images.get('image')!
    const volume = { ...field.volume, data: Float32Array.from(values) }
    const scores = { ...item, images: new Map([['image', { ...field, volume }]]) }
    // MONAI takes one value for all keys, or one for each
    for (const rounding of ['torchrounding', ['torchrounding']])
      expect([...(await apply('AsDiscreted', { rounding }, scores)).volume.data]).toEqual(rounded)
  })

  it.each([{ rounding: [null, 'torchrounding'] }, { threshold: [null, 0.5] }])(
    'leaves the fields whose value is null in %o as they are',
    async (args) => {
      const item = itemOf('CXYZ', [2, 1, 1])
      const field = item.images.get('image')!
      const volume = { ...field.volume, data: Float32Array.from([0.25, 1.75]) }
      const scores = { ...item, images: new Map([['image', { ...field, volume }]]) }
      expect([...(await apply('AsDiscreted', args, scores)).volume.data]).toEqual([0.25, 1.75])
    },
  )
})

describe('traits', () => {
  it.each([
    { name: 'ArgmaxAcrossChannels', args: {} },
    { name: 'AsDiscreted', args: { argmax: true } },
    { name: 'AsDiscrete', args: { threshold: 3.5 } },
    { name: 'AsDiscreteD', args: { threshold_values: true, logit_thresh: 2 } },
    { name: 'ApplyThreshold', args: { threshold: 1 } },
    { name: 'ThresholdProbability', args: {} },
  ])('$name $args reduces scores as its trait says', async ({ name, args }) => {
    const item = itemOf('CXYZ', [4, 3, 2], 2)
    const field = item.images.get('image')!
    const { traits } = buildTransform({ name, args: { keys: 'image', ...args } })
    const done = await apply(name, args, item)
    expect(done.volume.data).toEqual(reduceField(field, traits.reduces!).volume.data)
  })

  it('of an argmax followed by a threshold name no single reduction', () => {
    const { traits } = buildTransform({ name: 'AsDiscreted', args: { keys: 'p', argmax: true, threshold: 0.5 } })
    expect(traits.reduces).toBeUndefined()
  })

  it.each([
    { name: 'LoadImaged', args: {}, axesOnly: true },
    { name: 'LoadImaged', args: { dtype: 'uint8' }, axesOnly: false },
    { name: 'EnsureTyped', args: {}, axesOnly: true },
    { name: 'EnsureTyped', args: { dtype: 'uint8' }, axesOnly: false },
    { name: 'Spacingd', args: { pixdim: 1 }, axesOnly: false },
  ])('$name $args moves axes only: $axesOnly', ({ name, args, axesOnly }) => {
    expect(buildTransform({ name, args: { keys: 'image', ...args } }).traits.axesOnly ?? false).toBe(axesOnly)
  })
})
