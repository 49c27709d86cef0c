import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Tensor } from '../../../src/contract/tensor.js'
import { infer, type Window } from '../../../src/inferers/infer.js'
import { fieldOf } from '../../../src/pipelines/fit-image.js'
import type { Vec3 } from '../../../src/volume/volume.js'
import { volumeOf } from '../../helpers/volumes.js'

/** A network that looks at its neighbours, so that equal windows alone have equal answers, and counts what it sees. */
function watchedNetwork() {
  const seen: number[][] = []
  const predict = async (feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> => {
    const { dims, data } = feeds.x!
    const each = data.length / dims[0]!
    for (let item = 0; item < dims[0]!; item++) seen.push([...data.subarray(item * each, (item + 1) * each)])
    const out = new Float32Array(2 * data.length)
    for (let item = 0; item < dims[0]!; item++)
      for (let v = 0; v < each; v++) {
        const at = item * each
        out[2 * at + v] = data[at + v]! * 2 + data[at + ((v + 1) % each)]! + v
        out[2 * at + each + v] = 7 - data[at + v]! + (v % 3)
      }
    return { y: { dims: [dims[0]!, 2, ...dims.slice(2)], data: out } }
  }
  return { seen, predict }
}

async function scan(size: Vec3, value: (i: number) => number, window: Window) {
  const field = { ...fieldOf({ volume: volumeOf(size, { value }) }, 'volume'), axes: 'CXYZ' }
  const { seen, predict } = watchedNetwork()
  const free = ['a', 'b', 'c']
  const result = await infer({
    inputs: [{ spec: { name: 'x', type: 'float32', dims: ['n', 1, ...free] }, field }],
    output: { name: 'y', type: 'float32', dims: ['n', 2, ...free] },
    predict,
    reduction: { kind: 'scores' },
    window,
    onProgress: async () => {},
  })
  if ('scores' in result) throw new Error('expected voxels')
  return { seen, scores: Array.from(result.volume.data) }
}

const window: Window = { roi: [4, 4, 4], overlap: 0.25, batchSize: 1, blend: 'gaussian' }

test('the network sees the first of the windows that hold nothing, and the result is the same', async () => {
  // a body in one corner of air
  const value = (i: number) => (i % 12 < 3 ? i % 7 : -1)
  const [all, skipped] = [
    await scan([12, 12, 12], value, { ...window, skipEmpty: false }),
    await scan([12, 12, 12], value, window),
  ]
  expect(skipped.scores).toEqual(all.scores)
  expect(all.seen.length).toBe(64)
  expect(skipped.seen.filter((one) => one.every((v) => v === one[0])).length).toBe(1)
  expect(skipped.seen.length).toBe(1 + all.seen.filter((one) => one.some((v) => v !== one[0])).length)
})

test('whatever lies where, batches and padding too: the result is the same', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 2, max: 9 }), fc.integer({ min: 2, max: 9 })),
      fc.array(fc.nat(728), { maxLength: 4 }),
      fc.constantFrom(1, 2, 5),
      fc.constantFrom('constant' as const, 'replicate' as const),
      fc.constantFrom(0, 3),
      async (size, marked, batchSize, padding, background) => {
        const value = (i: number) => (marked.includes(i) ? 5 : background)
        const both = { ...window, batchSize, padding }
        const all = await scan(size, value, { ...both, skipEmpty: false })
        const skipped = await scan(size, value, both)
        expect(skipped.scores).toEqual(all.scores)
        expect(skipped.seen.length).toBeLessThanOrEqual(all.seen.length)
      },
    ),
  )
})

test('an image of one value all over is one run', async () => {
  expect((await scan([9, 9, 9], () => 4, window)).seen.length).toBe(1)
})
