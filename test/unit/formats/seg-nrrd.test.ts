/** Segmentations of 3D Slicer: layers become one label map. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readMask } from '../../../src/formats/read-mask.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { roomyLimits, tempFolder } from '../../helpers/volumes.js'

/** Two layers of 3 x 1 x 1, the layers fastest, as Slicer stores them. */
function segmentation(keys: readonly string[], layers: readonly (readonly number[])[]): Buffer {
  const lines = [
    'NRRD0004',
    'type: unsigned char',
    'dimension: 4',
    'space: left-posterior-superior',
    `sizes: ${layers.length} 3 1 1`,
    'space directions: none (1,0,0) (0,1,0) (0,0,1)',
    'kinds: list domain domain domain',
    'encoding: raw',
    'space origin: (0,0,0)',
    ...keys,
  ]
  const voxels = [0, 1, 2].flatMap((i) => layers.map((layer) => layer[i]!))
  return Buffer.concat([Buffer.from(`${lines.join('\n')}\n\n`), Uint8Array.from(voxels)])
}

const segment = (n: number, value: number, layer: number) => [
  `Segment${n}_ID:=Segment_${n}`,
  `Segment${n}_LabelValue:=${value}`,
  `Segment${n}_Layer:=${layer}`,
  `Segment${n}_Name:=part ${n}`,
]

async function read(bytes: Buffer) {
  await using folder = await tempFolder()
  const path = join(folder.path, 'labels.seg.nrrd')
  await writeFile(path, bytes)
  const image = await readVolume([path], roomyLimits)
  const mask = await readMask({ paths: [path] }, roomyLimits, undefined)
  return { image, mask: Array.from(mask.volume.data, (value) => (value === 0 ? 0 : 1)) }
}

describe('layers of a .seg.nrrd', () => {
  const merged = 'the 2 layers of the segmentation became one label map'
  it.each([
    {
      name: 'with label values of their own keep them',
      keys: [...segment(0, 1, 0), ...segment(1, 2, 0), ...segment(2, 5, 1)],
      layers: [
        [1, 2, 0],
        [0, 0, 5],
      ],
      want: [1, 2, 5],
      notes: [merged],
    },
    {
      name: 'that share a value are numbered',
      keys: [...segment(0, 1, 0), ...segment(1, 1, 1)],
      layers: [
        [1, 0, 0],
        [0, 1, 0],
      ],
      want: [1, 2, 0],
      notes: [merged, 'segments of different layers share a label value; they were numbered in their order instead'],
    },
    {
      name: 'that overlap: the later segment counts',
      keys: [...segment(0, 1, 0), ...segment(1, 2, 1)],
      layers: [
        [1, 1, 0],
        [0, 2, 2],
      ],
      want: [1, 2, 2],
      notes: [merged, 'segments overlap in 1 voxels, where the later one was taken'],
    },
    {
      name: 'of before Slicer 4.11, one a segment',
      keys: ['Segment0_ID:=a', 'Segment1_ID:=b'],
      layers: [
        [1, 0, 0],
        [0, 0, 1],
      ],
      want: [1, 0, 2],
      notes: [merged, 'segments of different layers share a label value; they were numbered in their order instead'],
    },
  ])('$name', async ({ keys, layers, want, notes }) => {
    const { image, mask } = await read(segmentation(keys, layers))
    expect(image.volume).toMatchObject({ size: [3, 1, 1], channels: 1 })
    expect(Array.from(image.volume.data)).toEqual(want)
    expect(image.notes).toEqual(notes)
    expect(mask).toEqual(want.map((value) => (value === 0 ? 0 : 1)))
  })

  it('one layer stays as it is', async () => {
    const { image } = await read(segmentation(segment(0, 3, 0), [[3, 0, 4]]))
    expect(Array.from(image.volume.data)).toEqual([3, 0, 4])
    expect(image.notes).toEqual([])
  })
})
