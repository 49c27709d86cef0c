import { expect, test } from 'vitest'
import type { Tensor, TensorSpec } from '../../../src/contract/tensor.js'
import { infer, type Window } from '../../../src/inferers/infer.js'
import { fieldOf } from '../../../src/pipelines/fit-image.js'
import type { VoxelArray } from '../../../src/volume/volume.js'
import { volumeOf } from '../../helpers/volumes.js'

const free = ['a', 'b', 'c']
const size = [5, 6, 7] as const

/** What a network that takes float32 sees of an image, window by window. */
async function seen(data: VoxelArray, axes: string, window: Window): Promise<number[][]> {
  const field = { ...fieldOf({ volume: { ...volumeOf(size), data } }, 'volume'), axes }
  const runs: number[][] = []
  const output: TensorSpec = { name: 'y', type: 'float32', dims: ['n', 1, ...free] }
  await infer({
    inputs: [{ spec: { name: 'x', type: 'float32', dims: ['n', 1, ...free] }, field }],
    output,
    predict: async (feeds): Promise<Record<string, Tensor>> => {
      expect(feeds.x!.data).toBeInstanceOf(Float32Array)
      runs.push([...feeds.x!.data])
      return { y: feeds.x! }
    },
    reduction: { kind: 'scores' },
    window,
    onProgress: async () => {},
  })
  return runs
}

const values = Array.from({ length: 5 * 6 * 7 }, (_, i) => (i * 31) % 101)
const whole: Window = { roi: [0, 0, 0], overlap: 0, batchSize: 1, blend: 'constant' }
const overlapping: Window = { ...whole, roi: [4, 4, 4], overlap: 0.5 }
const padded: Window = { ...whole, roi: [8, 8, 8], padding: 'replicate' }

test.each([Uint8Array, Int8Array, Int16Array, Uint16Array, Int32Array, Uint32Array, Float64Array])(
  'a network sees of %o what it sees of float32',
  async (kind) => {
    for (const axes of ['CXYZ', 'CYXZ', 'CZYX'])
      for (const window of [whole, overlapping, padded])
        expect(await seen(kind.from(values), axes, window)).toEqual(await seen(Float32Array.from(values), axes, window))
  },
)

test.each([
  ['8 bits cannot hold', Uint8Array, -1000],
  ['16 bits cannot hold', Int16Array, 40000],
  ['no whole number is', Int16Array, 0.5],
])('a cval that %s is what the network sees around the image', async (_, kind, cval) => {
  const [run] = await seen(kind.from(values), 'CXYZ', { ...padded, padding: 'constant', fill: cval })
  expect(run!.filter((value) => value === cval).length).toBe(8 ** 3 - values.length)
})
