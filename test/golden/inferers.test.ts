/** Every inferer of a MONAI bundle against MONAI 1.6 (make_inferer_golden.py made the answers). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Tensor } from '../../src/contract/tensor.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { infer } from '../../src/inferers/infer.js'
import { fieldOf } from '../../src/pipelines/fit-image.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'
import { bundleConfig } from '../../src/registry/monai-bundle.js'
import { roomyLimits } from '../helpers/volumes.js'

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
const golden = JSON.parse(readFileSync(here('inferers.json'), 'utf8')) as {
  stride: number
  cases: readonly {
    name: string
    inferer: Readonly<Record<string, unknown>>
    shape: readonly number[]
    sum: number
    samples: readonly number[]
    counts: Readonly<Record<string, number>>
  }[]
}

/** The window of a bundle's inferer, by the way a bundle takes. */
function windowOf(inferer: Readonly<Record<string, unknown>>) {
  const bundle = { preprocessing: { _target_: 'Compose', transforms: [{ _target_: 'LoadImaged', keys: 'image' }] } }
  return parseModelConfig(bundleConfig({ task: 'segmentation' }, { ...bundle, inferer }), 'test').inference
    .scanningWindow
}

/** The network of the Python script, for volumes and for slices. */
async function network(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
  const { dims, data } = feeds.x!
  const spatial = dims.slice(2)
  const voxels = spatial.reduce((product, n) => product * n, 1)
  const out = new Float32Array(dims[0]! * 3 * voxels)
  for (let item = 0; item < dims[0]!; item++) {
    for (let v = 0; v < voxels; v++) {
      let ramp = 0
      let rest = v
      for (let axis = spatial.length - 1; axis >= 0; axis--) {
        ramp += (rest % spatial[axis]!) * [3, 2, -1][axis]!
        rest = Math.floor(rest / spatial[axis]!)
      }
      const x = data[item * voxels + v]!
      const at = item * 3 * voxels + v
      out[at] = x * 0.5 + ramp
      out[at + voxels] = -x * 0.25 + 40 - ramp
      out[at + 2 * voxels] = x * 0.1 + ramp * 0.5
    }
  }
  return { y: { dims: [dims[0]!, 3, ...spatial], data: out } }
}

const field = {
  ...fieldOf(await readVolume([here('transform-ct.nii.gz')], roomyLimits), 'volume'),
  axes: 'CXYZ',
}

describe('inferers equal MONAI', () => {
  it.each(golden.cases)('$name', async ({ inferer, shape, sum, samples, counts }) => {
    const rank = inferer._target_ === 'SliceInferer' ? 2 : 3
    const spatial = ['a', 'b', 'c'].slice(0, rank)
    const request = {
      inputs: [{ spec: { name: 'x', type: 'float32', dims: ['n', 1, ...spatial] } as const, field }],
      output: { name: 'y', type: 'float32', dims: ['n', 3, ...spatial] } as const,
      predict: network,
      window: windowOf(inferer),
      onProgress: async () => {},
    }
    const soft = await infer({ ...request, reduction: { kind: 'scores' } })
    const hard = await infer({ ...request, reduction: { kind: 'argmax' } })
    if ('scores' in soft || 'scores' in hard) throw new Error('expected voxels')

    // the array as MONAI has it: (C, X, Y, Z); axis t of the result runs along the image's axis from[t]
    const { size, data, channels } = soft.volume
    const stride = [0, 1, 2].map((axis) => size.slice(0, soft.from.indexOf(axis as 0)).reduce((n, m) => n * m, 1))
    const length = [0, 1, 2].map((axis) => size[soft.from.indexOf(axis as 0)]!)
    expect([channels, ...length]).toEqual(shape)
    const values = new Float64Array(data.length)
    let at = 0
    for (let c = 0; c < channels; c++)
      for (let x = 0; x < length[0]!; x++)
        for (let y = 0; y < length[1]!; y++)
          for (let z = 0; z < length[2]!; z++)
            values[at++] = data[(c * data.length) / channels + x * stride[0]! + y * stride[1]! + z * stride[2]!]!
    const scale = Math.max(...samples.map(Math.abs))
    const worst = Math.max(...samples.map((want, i) => Math.abs(want - values[i * golden.stride]!)))
    expect(worst / scale).toBeLessThan(1e-5)
    const total = values.reduce((so, value) => so + value, 0)
    expect(Math.abs(total - sum) / (scale * values.length)).toBeLessThan(1e-5)
    // sums of windows are rounded in another order, so that a voxel of equal scores may fall either way
    const found = Object.fromEntries(Object.keys(counts).map((label) => [label, 0]))
    for (const label of hard.volume.data) found[label]!++
    for (const [label, count] of Object.entries(counts)) expect(Math.abs(found[label]! - count)).toBeLessThan(6)
  })
})

it.each([
  ['with_coord', { _target_: 'SlidingWindowInferer', roi_size: [8, 8, 8], with_coord: true }],
  ['roi_sizes', { _target_: 'SlidingWindowInferer', roi_sizes: [8, 8, 8] }],
  ['PatchInferer', { _target_: 'PatchInferer', splitter: null }],
  ['SlidingWindowHoVerNetInferer', { _target_: 'SlidingWindowHoVerNetInferer', roi_size: 270 }],
  ['scripts.mine', { _target_: 'scripts.mine.Inferer' }],
  ['padding_mode', { _target_: 'SlidingWindowInferer', roi_size: [8, 8, 8], padding_mode: 'edge' }],
  ['overlap', { _target_: 'SlidingWindowInferer', roi_size: [8, 8, 8], overlap: 1 }],
  ['spatial_dim', { _target_: 'SliceInferer', roi_size: [8, 8], spatial_dim: 3 }],
])('refuses %s by its name', (name, inferer) => {
  expect(() => windowOf(inferer)).toThrow(
    expect.objectContaining({ code: 'BAD_MODEL_CONFIG', message: expect.stringContaining(name) }),
  )
})

it('an image too small to be reflected is refused in words', async () => {
  const request = {
    inputs: [{ spec: { name: 'x', type: 'float32', dims: ['n', 1, 'a', 'b', 'c'] } as const, field }],
    output: { name: 'y', type: 'float32', dims: ['n', 3, 'a', 'b', 'c'] } as const,
    predict: network,
    window: windowOf({ _target_: 'SlidingWindowInferer', roi_size: [120, 120, 120], padding_mode: 'reflect' }),
    onProgress: async () => {},
    reduction: { kind: 'argmax' } as const,
  }
  await expect(infer(request)).rejects.toMatchObject({
    code: 'BAD_PARAMS',
    message: expect.stringContaining('too few for padding_mode reflect'),
  })
})
