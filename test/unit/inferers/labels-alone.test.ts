/** Where labels alone may leave the network, and where its scores are needed. */
import { describe, expect, test } from 'vitest'
import type { LabelEnd, Predict, Tensor } from '../../../src/contract/tensor.js'
import { type InferenceRequest, infer } from '../../../src/inferers/infer.js'
import { fieldOf } from '../../../src/pipelines/fit-image.js'
import { volumeOf } from '../../helpers/volumes.js'

const free = ['a', 'b', 'c']
const field = { ...fieldOf({ volume: volumeOf([6, 5, 8], { value: (i) => (i * 37) % 11 }) }, 'volume'), axes: 'CXYZ' }

/** Class 1 above 4, class 2 above 8; */
const scores: Predict = async ({ x }) => {
  const { dims, data } = x as Tensor
  const out = new Float32Array(3 * data.length)
  for (const [i, v] of Array.from(data).entries())
    for (const c of [0, 1, 2]) out[c * data.length + i] = -Math.abs(v - (2 + 4 * c))
  return { y: { dims: [1, 3, ...dims.slice(2)], data: out } }
}
const labelled: Predict = async ({ x }) => ({
  labels: { dims: x!.dims, data: Uint8Array.from(x!.data, (v) => (v > 8 ? 2 : v > 4 ? 1 : 0)) },
})

async function run(more: Partial<InferenceRequest>, network: Predict = labelled) {
  const ends: LabelEnd[] = []
  const ran: string[] = []
  let given = 0
  const named = (name: string, predict: Predict): Predict => {
    return (feeds) => {
      ran.push(name)
      return predict(feeds)
    }
  }
  const result = await infer({
    inputs: [{ spec: { name: 'x', type: 'float32', dims: ['n', 1, ...free] }, field }],
    output: { name: 'y', type: 'float32', dims: ['n', 3, ...free] },
    predict: named('scores', scores),
    labels: async (end) => {
      ends.push(end)
      const output = { name: 'labels', type: 'uint8', dims: ['n', 1, ...free] } as const
      return { output, run: named('labels', network), giveUp: async () => void given++ }
    },
    reduction: { kind: 'argmax' },
    onProgress: async () => {},
    ...more,
  })
  if ('scores' in result) throw new Error('expected voxels')
  return { ends, ran: [...new Set(ran)], given, data: Array.from(result.volume.data), content: result.content }
}

const windowed = { roi: [4, 5, 3], overlap: 0, batchSize: 1, blend: 'constant' } as const
const wanted = (await run({ labels: undefined })).data

describe('labels alone leave the network', () => {
  test.each<[string, Partial<InferenceRequest>]>([
    ['where it sees the whole image', {}],
    ['where windows lie side by side', { window: { ...windowed, roi: [3, 5, 4] } }],
    [
      'where the window is the image, whatever its weights',
      { window: { ...windowed, roi: [0, 0, 0], blend: 'gaussian' } },
    ],
    [
      'where the way back only picks voxels',
      { restorer: () => ({ kind: 'argmax' }), exact: () => ({ kind: 'argmax' }) },
    ],
  ])('%s', async (_, more) => {
    const { ran, data, content } = await run(more)
    expect(ran).toEqual(['labels'])
    expect(data).toEqual(wanted)
    expect(content).toBe('labels')
  })

  test('with a threshold, from the score on that its activation makes of it', async () => {
    const { ends } = await run({ reduction: { kind: 'threshold', at: 0.5, activation: 'sigmoid' } })
    expect(ends).toEqual([{ kind: 'threshold', from: 0 }])
  })
})

describe('the scores leave it', () => {
  test.each<[string, Partial<InferenceRequest>]>([
    ['where windows share voxels', { window: { ...windowed, overlap: 0.5 } }],
    ['where the last window is drawn back over the one before', { window: { ...windowed, roi: [6, 5, 5] } }],
    ['where windows have weights', { window: { ...windowed, roi: [3, 5, 4], blend: 'gaussian' } }],
    ['where scores go back between voxels', { restorer: () => ({ kind: 'argmax' }), exact: () => undefined }],
    ['where scores are what is wanted', { reduction: { kind: 'scores' } }],
  ])('%s', async (_, more) => {
    const { ran, ends } = await run(more)
    expect(ran).toEqual(['scores'])
    expect(ends).toEqual([])
  })

  test('where the network answers in another size, which is known when it has: then for good', async () => {
    const coarse: Predict = async () => ({ labels: { dims: [1, 1, 3, 2, 4], data: new Uint8Array(24) } })
    const { ran, given, data } = await run({}, coarse)
    expect(ran).toEqual(['labels', 'scores'])
    expect(given).toBe(1)
    expect(data).toEqual(wanted)
  })
})
