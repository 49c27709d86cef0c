/** The click transforms of NuClick and DeepEdit against MONAI 1.6 (make_click_golden.py made the answers). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { infer } from '../../src/inferers/infer.js'
import { fieldOf } from '../../src/pipelines/fit-image.js'
import { buildTransform } from '../../src/transforms/catalog.js'
import type { ImageField, Item } from '../../src/transforms/types.js'
import { restore } from '../../src/transforms/undo.js'
import { makeVolume } from '../../src/volume/volume.js'
import { roomyLimits } from '../helpers/volumes.js'

interface Row {
  readonly name: string
  readonly args: Record<string, unknown>
  readonly shape: readonly number[]
  readonly sum: number
  readonly samples: readonly number[]
}
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
const golden = JSON.parse(readFileSync(here('clicks.json'), 'utf8')) as {
  stride: number
  nuclick: (Row & { clicks: [number, number][] })[]
  deepedit: (Row & { clicks: Record<string, number[][]> })[]
}
const plain = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)

/** The values in the order of MONAI's array, whose axes are `axes`. */
function inOrder({ volume }: ImageField, axes: string): { shape: number[]; values: number[] } {
  const [nx, ny] = volume.size
  const lengths: Record<string, number> = { X: nx, Y: ny, Z: volume.size[2], C: volume.channels }
  const steps: Record<string, number> = { X: 1, Y: nx, Z: nx * ny, C: nx * ny * volume.size[2] }
  const shape = [...axes].map((letter) => lengths[letter]!)
  const at = (index: number): number => {
    let rest = index
    let offset = 0
    for (const letter of [...axes].toReversed()) {
      offset += (rest % lengths[letter]!) * steps[letter]!
      rest = Math.floor(rest / lengths[letter]!)
    }
    return offset
  }
  return { shape, values: Array.from({ length: volume.data.length }, (_, i) => volume.data[at(i)]!) }
}

function expectSame({ shape, values }: { shape: number[]; values: number[] }, want: Omit<Row, 'args'>): void {
  expect(shape).toEqual(want.shape)
  want.samples.forEach((value, i) => {
    expect(values[i * golden.stride]).toBeCloseTo(value, 3)
  })
  const sum = values.reduce((total, value) => total + value, 0)
  expect(Math.abs(sum - want.sum) / values.length).toBeLessThan(1e-3)
}

describe('AddClickSignalsd', () => {
  const data = Float32Array.from({ length: 2400 }, (_, i) => {
    const [x, y, c] = [i % 40, Math.floor(i / 40) % 30, Math.floor(i / 1200)]
    return 3 * x + 5 * y + 100 * c
  })
  const volume = makeVolume([40, 30, 1], plain, data, { channels: 2 })
  const picture: ImageField = { volume, content: 'intensity', axes: 'CXY', source: volume, undo: [] }
  const patchesOf = async (args: Record<string, unknown>, clicks: readonly number[][]): Promise<ImageField> => {
    const values = new Map([['foreground', clicks.map(([x, y]) => [x, y, 0])]])
    const item: Item = { images: new Map([['image', picture]]), values, result: {} }
    return (await buildTransform({ name: 'AddClickSignalsd', args }).apply(item)).images.get('image')!
  }

  it.each(golden.nuclick)('$name', async ({ args, clicks, ...want }) => {
    const patches = await patchesOf(args, clicks)
    expect(patches.axes).toBe('ZCXY')
    expectSame(inOrder(patches, 'ZCXY'), want)
  })

  it('a network for pictures sees patch after patch, also after SqueezeDimd of one', async () => {
    const one = await patchesOf({ bb_size: 16 }, [[20, 12]])
    const item: Item = { images: new Map([['image', one]]), values: new Map(), result: {} }
    const squeezed = (await buildTransform({ name: 'SqueezeDimd', args: { keys: 'image' } }).apply(item)).images.get(
      'image',
    )!
    expect(squeezed.axes).toBe('CXY')
    for (const field of [
      squeezed,
      await patchesOf({ bb_size: 16 }, [
        [20, 12],
        [39, 0],
      ]),
    ]) {
      const seen: number[][] = []
      const answer = await infer({
        inputs: [{ spec: { name: 'x', type: 'float32', dims: ['n', 4, 16, 16] }, field }],
        output: { name: 'y', type: 'float32', dims: ['n', 1, 16, 16] },
        // the mask is the click itself
        predict: async ({ x }) => {
          seen.push([...x!.dims])
          const data = Float32Array.from(x!.data.subarray(512, 768))
          return { y: { dims: [1, 1, 16, 16], data } }
        },
        reduction: { kind: 'threshold', at: 0.5, activation: 'none' },
        onProgress: async () => {},
      })
      expect(seen).toEqual(Array.from({ length: field.volume.size[2] }, () => [1, 4, 16, 16]))
      if ('scores' in answer) throw new Error('expected voxels')
      expect(Array.from(answer.volume.data).reduce((sum, value) => sum + value, 0)).toBe(field.volume.size[2])
    }
  })

  it('what is found in a patch goes back to where it was, the later over the earlier', async () => {
    const patches = await patchesOf({ bb_size: 16 }, [
      [20, 12],
      [23, 15],
    ])
    const found = Uint8Array.from({ length: 512 }, (_, i) => (i % 256 < 16 ? 1 + Math.floor(i / 256) : 0))
    const masks = { ...patches, content: 'labels', volume: makeVolume([16, 16, 2], plain, found) } as const
    const { volume: mask } = restore(masks)
    expect(mask.size).toEqual([40, 30, 1])
    const rows = Array.from({ length: 30 }, (_, y) => [...mask.data.subarray(y * 40, (y + 1) * 40)])
    const drawn = rows.flatMap((row, y) =>
      row.some((value) => value > 0) ? [[y, row.indexOf(1), row.indexOf(2)]] : [],
    )
    // the first row of either patch
    expect(drawn).toEqual([
      [4, 12, -1],
      [7, -1, 15],
    ])
  })

  it.each([
    [[[50, 5]], /no point inside the picture/],
    [[], /no point inside the picture/],
  ])('refuses clicks %j', async (clicks, message) => {
    await expect(patchesOf({ bb_size: 16 }, clicks)).rejects.toThrow(
      expect.objectContaining({ code: 'BAD_PARAMS', message: expect.stringMatching(message) }),
    )
  })
})

describe('the guidance of DeepEdit', () => {
  it.each(golden.deepedit)('$name', async ({ args, clicks, ...want }) => {
    const label_names = { spleen: 1, liver: 2, background: 0 }
    const field = fieldOf(await readVolume([here('transform-ct.nii.gz')], roomyLimits), 'volume')
    let item: Item = { images: new Map([['image', field]]), values: new Map(Object.entries(clicks)), result: {} }
    for (const [name, step] of [
      ['LoadImaged', { keys: 'image' }],
      ['EnsureChannelFirstd', { keys: 'image' }],
      ['AddGuidanceFromPointsDeepEditd', { ref_image: 'image', guidance: 'guidance', label_names }],
      ['Resized', { keys: 'image', spatial_size: [24, 20, 22], mode: 'area' }],
      ['ResizeGuidanceMultipleLabelDeepEditd', { guidance: 'guidance', ref_image: 'image' }],
      ['AddGuidanceSignalDeepEditd', { keys: 'image', guidance: 'guidance', ...args }],
    ] as const)
      item = await buildTransform({ name, args: step }).apply(item)
    expectSame(inOrder(item.images.get('image')!, 'CXYZ'), want)
  })
})
