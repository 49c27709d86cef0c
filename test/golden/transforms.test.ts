/** Transforms, their undo and the sliding window against MONAI 1.6 (make_transform_golden.py made the answers). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Tensor } from '../../src/contract/tensor.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { infer } from '../../src/inferers/infer.js'
import { fieldOf } from '../../src/pipelines/fit-image.js'
import { buildTransform } from '../../src/transforms/catalog.js'
import type { ImageField, Item } from '../../src/transforms/types.js'
import { restore } from '../../src/transforms/undo.js'
import type { Volume, VoxelArray } from '../../src/volume/volume.js'
import { roomyLimits } from '../helpers/volumes.js'

interface Summary {
  readonly shape: readonly number[]
  readonly sum: number
  readonly samples: readonly number[]
  readonly affine?: readonly number[]
  readonly counts?: Readonly<Record<string, number>>
}
type Steps = readonly (readonly [string, Readonly<Record<string, unknown>>])[]

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
const golden = JSON.parse(readFileSync(here('transforms.json'), 'utf8')) as {
  stride: number
  cases: readonly (Summary & { name: string; crop: string; steps: Steps })[]
  inverses: readonly (Summary & { name: string; crop: string; steps: Steps; threshold: number })[]
  windows: readonly {
    roi: readonly number[]
    overlap: number
    blend: 'constant' | 'gaussian'
    batch: number
    scores: Summary
    labels: Summary
  }[]
}

async function load(crop: string): Promise<ImageField> {
  return fieldOf(await readVolume([here(`transform-${crop}.nii.gz`)], roomyLimits), 'volume')
}

async function prepare(crop: string, steps: Steps): Promise<ImageField> {
  return apply(await load(crop), steps)
}

async function apply(field: ImageField, steps: Steps): Promise<ImageField> {
  let item: Item = { images: new Map([['image', field]]), values: new Map(), result: {} }
  for (const [name, args] of [['LoadImaged', {}], ['EnsureChannelFirstd', {}], ...steps] as Steps) {
    item = await buildTransform({ name, args: { keys: 'image', ...args } }).apply(item)
  }
  return item.images.get('image')!
}

/** The values as a C-contiguous array (C, X, Y, Z). */
function asArray({ volume }: Pick<ImageField, 'volume'>): { shape: number[]; values: Float64Array } {
  const [nx, ny, nz] = volume.size
  const values = new Float64Array(volume.data.length)
  let at = 0
  for (let c = 0; c < volume.channels; c++) {
    for (let x = 0; x < nx; x++) {
      for (let y = 0; y < ny; y++) {
        for (let z = 0; z < nz; z++) values[at++] = volume.data[x + nx * (y + ny * (z + nz * c))]!
      }
    }
  }
  return { shape: [volume.channels, nx, ny, nz], values }
}

function expectSame(got: { shape: number[]; values: Float64Array }, want: Summary, tolerance: number): void {
  expect(got.shape).toEqual(want.shape)
  const samples = Array.from({ length: want.samples.length }, (_, i) => got.values[i * golden.stride]!)
  const scale = Math.max(...want.samples.map(Math.abs), 1e-6)
  const worst = Math.max(...samples.map((value, i) => Math.abs(value - want.samples[i]!)))
  expect(worst / scale).toBeLessThan(tolerance)
  const sum = got.values.reduce((total, value) => total + value, 0)
  expect(Math.abs(sum - want.sum) / (scale * got.values.length)).toBeLessThan(tolerance)
}

function counts(values: Float64Array): Record<string, number> {
  const found: Record<string, number> = {}
  for (const value of values) found[value] = (found[value] ?? 0) + 1
  return found
}

describe('transforms equal MONAI', () => {
  it.each(golden.cases)('$name ($crop)', async ({ crop, steps, ...want }) => {
    const field = await prepare(crop, steps)
    const got = asArray(field)
    expectSame(got, want, 1e-5)
    if (want.counts) expect(counts(got.values)).toEqual(want.counts)
    want.affine?.forEach((value, i) => {
      expect(field.volume.affine[i]).toBeCloseTo(value, 4)
    })
  })
})

describe('transforms make of any type of voxel what they make of float32, as MONAI does, which loads all as float32', () => {
  it.each(golden.cases)('$name ($crop)', async ({ crop, steps }) => {
    const field = await load(crop)
    const values = Array.from(field.volume.data, (value) => Math.abs(Math.trunc(value)) % 120)
    const made = async (data: VoxelArray) =>
      asArray(await apply({ ...field, volume: { ...field.volume, data } }, steps))
    const want = await made(Float32Array.from(values))
    for (const kind of [Uint8Array, Int16Array, Uint32Array, Float64Array]) {
      const got = await made(kind.from(values))
      expect(got.shape).toEqual(want.shape)
      expect(got.values.findIndex((value, i) => !(Math.abs(value - want.values[i]!) < 1e-3))).toBe(-1)
    }
  })
})

describe('label maps come back as MONAI brings them back', () => {
  it.each(golden.inverses)('$name ($crop)', async ({ crop, steps, threshold, ...want }) => {
    const field = await prepare(crop, steps)
    const data = Uint8Array.from(field.volume.data, (value) => (value > threshold ? 1 : 0))
    const back = restore({ ...field, content: 'labels', volume: { ...field.volume, data } })
    const source = await load(crop)
    expect(back.volume.affine).toEqual(source.volume.affine)
    const got = asArray(back)
    expectSame(got, want, 1e-9)
    expect(counts(got.values)).toEqual(want.counts)
  })
})

/** The network of the Python script: three channels that depend on the voxel and on its place in the window. */
async function network(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
  const { dims, data } = feeds.x!
  const [n, , a, b, c] = dims as [number, number, number, number, number]
  const voxels = a * b * c
  const out = new Float32Array(n * 3 * voxels)
  for (let item = 0; item < n; item++) {
    for (let v = 0; v < voxels; v++) {
      const ramp = Math.floor(v / (b * c)) * 3 + (Math.floor(v / c) % b) * 2 - (v % c)
      const x = data[item * voxels + v]!
      const at = item * 3 * voxels + v
      out[at] = x * 0.5 + ramp
      out[at + voxels] = -x * 0.25 + 40 - ramp
      out[at + 2 * voxels] = x * 0.1 + ramp * 0.5
    }
  }
  return { y: { dims: [n, 3, a, b, c], data: out } }
}

const free = ['n', 1, 'a', 'b', 'c'] as const

/** A result in the tensor's order is (C, X, Y, Z) already when the image was. */
function rowMajor({ channels, size, data }: Volume): { shape: number[]; values: Float64Array } {
  return { shape: [channels, size[2], size[1], size[0]], values: Float64Array.from(data) }
}

describe('the sliding window equals MONAI', () => {
  it.each(golden.windows)(
    'roi $roi overlap $overlap $blend',
    async ({ roi, overlap, blend, batch, scores, labels }) => {
      const field = await prepare('ct', [])
      const request = {
        inputs: [{ spec: { name: 'x', type: 'float32', dims: free } as const, field }],
        output: { name: 'y', type: 'float32', dims: ['n', 3, 'a', 'b', 'c'] } as const,
        predict: network,
        window: { roi, overlap, blend, batchSize: batch },
        onProgress: async () => {},
      }
      const soft = await infer({ ...request, reduction: { kind: 'scores' } })
      const hard = await infer({ ...request, reduction: { kind: 'argmax' } })
      if ('scores' in soft || 'scores' in hard) throw new Error('expected voxels')
      expect(soft.from).toEqual([2, 1, 0])
      expectSame(rowMajor(soft.volume), scores, 1e-5)
      const got = rowMajor(hard.volume)
      expect(got.shape.slice(1)).toEqual(labels.shape)
      // sums of windows are rounded in another order, so that a voxel of equal scores may fall either way
      const found = counts(got.values)
      for (const [label, count] of Object.entries(labels.counts!))
        expect(Math.abs(found[label]! - count)).toBeLessThan(6)
    },
  )
})
