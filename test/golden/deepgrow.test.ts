/** The click transforms against MONAI's deepgrow app; make_deepgrow_golden.py made the answers. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { clickValues } from '../../src/pipelines/click-values.js'
import { fieldOf } from '../../src/pipelines/fit-image.js'
import { buildTransform } from '../../src/transforms/catalog.js'
import type { Guidance } from '../../src/transforms/guidance.js'
import type { Item } from '../../src/transforms/types.js'
import { makeVolume, type Vec3, type Volume } from '../../src/volume/volume.js'

interface Packed {
  readonly shape: readonly number[]
  readonly bits: string
}
interface Case {
  readonly name: string
  readonly volume: string
  readonly dimensions: 2 | 3
  readonly foreground: readonly Vec3[]
  readonly background: readonly Vec3[]
  readonly spatial_size: readonly number[]
  readonly size: readonly number[]
  readonly points: readonly unknown[]
  readonly cropped: { readonly shape: readonly number[]; readonly guidance: readonly number[][][] }
  readonly resized: readonly number[][][]
  readonly input: { readonly shape: readonly number[]; readonly samples: readonly number[] }
  readonly label: Packed
  readonly restored: Packed
}

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const cases = JSON.parse(readFileSync(here('deepgrow.json'), 'utf8')) as Case[]
/** make_deepgrow_golden.py keeps every 37th value. */
const STRIDE = 37
const limits = { maxVolumeBytes: 1e9, maxVoxels: 1e9 }

describe.each(cases)('$name', (golden) => {
  const step = (name: string, args: Record<string, unknown>) => buildTransform({ name, args }).apply
  const flat = golden.dimensions === 2

  async function run(): Promise<{ states: Item[]; source: Volume }> {
    const read = await readVolume([here(`deepgrow-${golden.volume}.nii.gz`)], limits)
    const { foreground, background } = golden
    const { values } = clickValues('deepgrow', { foreground, background }, read.volume.size)
    let item: Item = { images: new Map([['image', fieldOf(read, 'volume')]]), values, result: {} }
    const states: Item[] = []
    const steps = [
      step('LoadImaged', { keys: 'image' }),
      step('AsChannelFirstd', { keys: 'image' }),
      step('Spacingd', { keys: 'image', pixdim: [1, 1], mode: 'bilinear' }),
      step('AddGuidanceFromPointsd', { ref_image: 'image', guidance: 'guidance', dimensions: golden.dimensions }),
      ...(flat ? [step('Fetch2DSliced', { keys: 'image', guidance: 'guidance' })] : []),
      step('AddChanneld', { keys: 'image' }),
      step('SpatialCropGuidanced', { keys: 'image', guidance: 'guidance', spatial_size: golden.spatial_size }),
      step('Resized', { keys: 'image', spatial_size: golden.size, mode: 'area' }),
      step('ResizeGuidanced', { guidance: 'guidance', ref_image: 'image' }),
      step('NormalizeIntensityd', { keys: 'image', subtrahend: 208, divisor: 388 }),
      step('AddGuidanceSignald', { image: 'image', guidance: 'guidance', sigma: 2 }),
    ]
    for (const apply of steps) {
      item = await apply(item)
      states.push(item)
    }
    return { states, source: read.volume }
  }

  /** Our [x, y, z] as MONAI's array order (z, x, y), without the slice in 2-D. */
  const asArray = (points: readonly Vec3[]) => points.map(([x, y, z]) => (flat ? [x, y] : [z, x, y]))
  const guidanceIn = (item: Item) => {
    const { foreground, background } = item.values.get('guidance') as Guidance
    return [asArray(foreground), asArray(background)]
  }

  test('guidance follows the clicks through spacing, crop and resizing', async () => {
    const { states } = await run()
    expect(guidanceIn(states[3]!)).toEqual(golden.points.slice(0, 2))
    const cropped = states[flat ? 6 : 5]!
    expect(guidanceIn(cropped)).toEqual(golden.cropped.guidance)
    expect(arrayShape(cropped)).toEqual(golden.cropped.shape)
    expect(guidanceIn(states.at(-1)!)).toEqual(golden.resized)
  })

  test("the network's input has MONAI's values", async () => {
    const { states } = await run()
    const last = states.at(-1)!
    expect(arrayShape(last)).toEqual(golden.input.shape)
    const ours = arrayOf(last).filter((_, i) => i % STRIDE === 0)
    expect(ours.length).toBe(golden.input.samples.length)
    const worst = Math.max(...ours.map((value, i) => Math.abs(value - golden.input.samples[i]!)))
    expect(worst).toBeLessThan(2e-4)
  })

  test('a label map comes back to the same voxels of the file', async () => {
    const { states } = await run()
    const last = states.at(-1)!
    const field = last.images.get('image')!
    const { size, affine } = field.volume
    const label = makeVolume(size, affine, fromArray(unpack(golden.label), field.axes, size))
    const images = new Map(last.images).set('pred', { ...field, volume: label })
    const restored = await step('RestoreLabeld', { keys: 'pred', ref_image: 'image', mode: 'nearest' })({
      ...last,
      images,
    })
    const { volume, axes, undo } = restored.images.get('pred')!
    expect(undo.every(({ kind }) => kind !== 'crop' && kind !== 'slice')).toBe(true)
    const ours = toArray(volume, axes.replace('C', ''))
    const theirs = unpack(golden.restored)
    expect(ours.length).toBe(theirs.length)
    expect(ours.reduce((sum, value, i) => sum + Math.abs(value - theirs[i]!), 0)).toBe(0)
  })
})

function arrayShape(item: Item): number[] {
  const { volume, axes } = item.images.get('image')!
  return [...axes].map((letter) => (letter === 'C' ? volume.channels : volume.size['XYZ'.indexOf(letter)]!))
}

function arrayOf(item: Item): number[] {
  const { volume, axes } = item.images.get('image')!
  const voxels = volume.size[0] * volume.size[1] * volume.size[2]
  return Array.from({ length: volume.channels }, (_, c) =>
    toArray(
      { ...volume, data: volume.data.subarray(c * voxels, (c + 1) * voxels) as Volume['data'] },
      axes.replace('C', ''),
    ),
  ).flat()
}

/** One channel, C-contiguous in the order of `axes`. */
function toArray({ data, size }: Pick<Volume, 'data' | 'size'>, axes: string): number[] {
  return [...indices(axes, size)].map((i) => data[i]!)
}

function fromArray(values: readonly number[], axes: string, size: Vec3): Uint8Array {
  const data = new Uint8Array(values.length)
  let at = 0
  for (const i of indices(axes.replace('C', ''), size)) data[i] = values[at++]!
  return data
}

/** Positions in x-fastest memory, in the order of a C-contiguous array of `axes`. */
function* indices(axes: string, [nx, ny, nz]: Vec3): Generator<number> {
  const lengths = { X: nx, Y: ny, Z: nz } as Record<string, number>
  const strides = { X: 1, Y: nx, Z: nx * ny } as Record<string, number>
  const [a, b, c] = [...axes.padStart(3, ' ')]
  for (let i = 0; i < (lengths[a!] ?? 1); i++)
    for (let j = 0; j < (lengths[b!] ?? 1); j++)
      for (let k = 0; k < lengths[c!]!; k++) yield i * (strides[a!] ?? 0) + j * (strides[b!] ?? 0) + k * strides[c!]!
}

function unpack({ shape, bits }: Packed): number[] {
  const bytes = Buffer.from(bits, 'base64')
  const length = shape.reduce((product, n) => product * n, 1)
  return Array.from({ length }, (_, i) => (bytes[i >> 3]! >> (7 - (i & 7))) & 1)
}
