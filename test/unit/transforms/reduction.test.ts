import { describe, expect, it } from 'vitest'
import { buildTransform } from '../../../src/transforms/catalog.js'
import { makeSink, type Reduction, reduceStretch } from '../../../src/transforms/reduction.js'
import type { Item } from '../../../src/transforms/types.js'
import { volumeOf } from '../../helpers/volumes.js'

function reduce(reduction: Reduction, channels: number, scores: readonly number[]): number[] {
  const voxels = scores.length / channels
  const sink = makeSink(reduction, channels, voxels)
  const stretch = {
    scores: Float32Array.from(scores),
    start: 0,
    channelStride: voxels,
    step: 1,
    channels,
    length: voxels,
  }
  reduceStretch(reduction, stretch, sink, 0, voxels)
  return Array.from(sink.data)
}

describe('argmax', () => {
  it.each([
    { name: 'two classes, a tie goes to the first', channels: 2, scores: [1, 5, 2, 2, 4, 2], want: [1, 0, 0] },
    { name: 'three classes', channels: 3, scores: [0, 9, 1, 5, 2, 1, 7, 2, 1], want: [2, 0, 0] },
    { name: 'five classes', channels: 5, scores: [1, 9, 2, 1, 3, 1, 4, 1, 4, 2], want: [3, 0] },
  ])('$name', ({ channels, scores, want }) => {
    expect(reduce({ kind: 'argmax' }, channels, scores)).toEqual(want)
  })

  it('of any number of classes is the first greatest', () => {
    for (const channels of [2, 3, 4, 5, 18]) {
      const voxels = 5000
      const scores = Array.from({ length: channels * voxels }, (_, i) => Math.round(50 * Math.sin(i * i)))
      const want = Array.from({ length: voxels }, (_, v) => {
        const own = Array.from({ length: channels }, (_, c) => scores[c * voxels + v]!)
        return own.indexOf(Math.max(...own))
      })
      expect(reduce({ kind: 'argmax' }, channels, scores)).toEqual(want)
    }
  })

  it('needs 16 bits beyond 256 classes', () => {
    expect(makeSink({ kind: 'argmax' }, 300, 4).data).toBeInstanceOf(Uint16Array)
  })
})

describe('threshold', () => {
  it.each([
    { activation: 'none', at: 0.5, scores: [0.49, 0.5, 0.51], want: [0, 1, 1] },
    { activation: 'sigmoid', at: 0.5, scores: [-0.01, 0, 2], want: [0, 1, 1] },
    { activation: 'sigmoid', at: 0.9, scores: [2.1, 2.3, 9], want: [0, 1, 1] },
    { activation: 'sigmoid', at: 0, scores: [-99, 0, 1], want: [1, 1, 1] },
  ] as const)('$activation at $at', ({ activation, at, scores, want }) => {
    expect(reduce({ kind: 'threshold', at, activation }, 1, scores)).toEqual(want)
  })
})

describe('transforms that reduce', () => {
  const item = (values: readonly number[], channels: number): Item => {
    const n = values.length / channels
    const volume = volumeOf([n, 1, 1], {
      channels,
      make: (length) => new Float32Array(length),
      value: (i) => values[i]!,
    })
    return {
      images: new Map([['pred', { volume, content: 'scores', axes: 'CXYZ', source: volume, undo: [] }]]),
      values: new Map(),
      result: {},
    }
  }
  const run = async (steps: readonly (readonly [string, Record<string, unknown>])[], start: Item) => {
    let current = start
    for (const [name, args] of steps)
      current = await buildTransform({ name, args: { keys: 'pred', ...args } }).apply(current)
    return Array.from(current.images.get('pred')!.volume.data)
  }

  it('softmax, then argmax', async () => {
    const steps = [
      ['Activationsd', { softmax: true }],
      ['AsDiscreted', { argmax: true }],
    ] as const
    expect(await run(steps, item([1, 5, 2, 4], 2))).toEqual([1, 0])
  })

  it('softmax adds up to one', async () => {
    const values = await run([['Activationsd', { softmax: true }]], item([0, 100, Math.log(3), 100], 2))
    expect(values[0]).toBeCloseTo(0.25, 6)
    expect(values[2]).toBeCloseTo(0.75, 6)
    expect(values[1]).toBeCloseTo(0.5, 6)
  })

  it('sigmoid, then a threshold', async () => {
    const steps = [
      ['Activationsd', { sigmoid: true }],
      ['AsDiscreted', { threshold: 0.5 }],
    ] as const
    expect(await run(steps, item([-1, 0, 3], 1))).toEqual([0, 1, 1])
  })
})
