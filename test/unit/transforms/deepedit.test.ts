/** DeepEdit's four guidance transforms, as the zoo's bundle chains them. */
import { describe, expect, it } from 'vitest'
import { buildTransform } from '../../../src/transforms/catalog.js'
import type { ImageField, Item } from '../../../src/transforms/types.js'
import { makeVolume, type Vec3 } from '../../../src/volume/volume.js'

const label_names = { spleen: 1, background: 0 }
const STEPS = [
  ['Orientationd', { keys: 'image', axcodes: 'RAS' }],
  ['OrientationGuidanceMultipleLabelDeepEditd', { ref_image: 'image', label_names }],
  ['AddGuidanceFromPointsDeepEditd', { ref_image: 'image', guidance: 'guidance', label_names }],
  ['Resized', { keys: 'image', spatial_size: [16, 8, 12], mode: 'area' }],
  ['ResizeGuidanceMultipleLabelDeepEditd', { guidance: 'guidance', ref_image: 'image' }],
  ['AddGuidanceSignalDeepEditd', { keys: 'image', guidance: 'guidance', sigma: 0.5 }],
] as const

/** The image after the chain: LPS, 8 x 4 x 6 voxels, so that x and y are turned round on the way. */
async function chain(values: Record<string, readonly Vec3[]>): Promise<ImageField> {
  const volume = makeVolume(
    [8, 4, 6],
    Float64Array.of(-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1),
    new Float32Array(192),
  )
  const image: ImageField = { volume, content: 'intensity', axes: 'CXYZ', source: volume, undo: [] }
  let item: Item = { images: new Map([['image', image]]), values: new Map(Object.entries(values)), result: {} }
  for (const [name, args] of STEPS) item = await buildTransform({ name, args }).apply(item)
  return item.images.get('image')!
}

/** The voxels of a channel where its signal is greatest. */
function peaks({ volume: { size, data } }: ImageField, channel: number): Vec3[] {
  const voxels = size[0] * size[1] * size[2]
  const own = data.subarray(channel * voxels, (channel + 1) * voxels)
  return [...own.keys()]
    .filter((i) => own[i]! > 0.999)
    .map((i) => [i % size[0], Math.floor(i / size[0]) % size[1], Math.floor(i / size[0] / size[1])])
}

describe('clicks by label', () => {
  it('each label has its channel, behind the image', async () => {
    const image = await chain({ spleen: [[1, 0, 2]], background: [[7, 3, 5]] })
    expect(image.volume.channels).toBe(3)
    expect(peaks(image, 1)).toEqual([[12, 6, 4]])
    expect(peaks(image, 2)).toEqual([[0, 0, 10]])
  })

  it('foreground is the first label that is not the background', async () => {
    const image = await chain({ foreground: [[1, 0, 2]] })
    expect(peaks(image, 1)).toEqual([[12, 6, 4]])
    expect(peaks(image, 2)).toEqual([])
  })

  it('without clicks the channels are empty', async () => {
    const image = await chain({})
    expect(image.volume.channels).toBe(3)
    expect(Math.max(...image.volume.data)).toBe(0)
  })
})
