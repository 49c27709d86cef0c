/** Answers of nnU-Net 2.8.1's compute_steps_for_sliding_window and compute_gaussian, and of scipy's zoom. */
import { describe, expect, it } from 'vitest'
import { mirrored } from '../../../src/inferers/mirror.js'
import { nnunetWeights, planWindows } from '../../../src/inferers/windows.js'
import { resizeCubic } from '../../../src/volume/cubic.js'

describe('windows as nnU-Net has them', () => {
  it('lie equally far apart', () => {
    const { starts } = planWindows([110, 33, 20], [64, 32, 20], 0.5, true)
    expect([...new Set(starts.map(([first]) => first))]).toEqual([0, 23, 46])
    expect([...new Set(starts.map(([, second]) => second))]).toEqual([0, 1])
  })
  it('count as its importance map says', () => {
    const weights = nnunetWeights([6, 5, 4])
    const row = (i: number, j: number) => [...weights.subarray((i * 5 + j) * 4, (i * 5 + j) * 4 + 4)]
    expect(row(3, 2)).toEqual([0.0033550262451171875, 1.353515625, 10, 1.353515625])
    expect(row(1, 1)).toEqual([2.664327621459961e-5, 0.01074981689453125, 0.07940673828125, 0.01074981689453125])
    expect(Math.min(...weights)).toBeGreaterThan(0)
  })
})

describe('cubic splines', () => {
  it.each([
    [4, [0.05363, 3.41489, 0.2274, 3.04573]],
    [9, [-0.01469, 0.19624, 1.47858, 3.64265, 3.99231, 0.85022, -3.0484, 0.57115, 5.70688]],
    [1, [3.99231]],
  ])('six values as %i, along any axis', (target, want) => {
    const line = Float32Array.of(0, 1, 4, 2, -3, 5)
    for (const axis of [0, 1, 2] as const) {
      const size: [number, number, number] = [1, 1, 1]
      size[axis] = 6
      const got = resizeCubic(line, size, axis, target)
      for (const [i, value] of want.entries()) expect(got[i]).toBeCloseTo(value, 4)
    }
  })
})

describe('mirroring', () => {
  it('is the mean over every way round, each turned back', async () => {
    const seen: number[][] = []
    // a network that answers 1 where a row begins
    const predict = async ({ x }: Record<string, { dims: readonly number[]; data: ArrayLike<number> }>) => {
      seen.push(Array.from(x!.data))
      return { y: { dims: x!.dims, data: Float32Array.of(1, 0, 0, 1, 0, 0) } }
    }
    const x = { dims: [1, 1, 2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }
    const { y } = await mirrored(predict as never, [0, 1])({ x })
    expect(seen).toEqual([
      [1, 2, 3, 4, 5, 6],
      [4, 5, 6, 1, 2, 3],
      [3, 2, 1, 6, 5, 4],
      [6, 5, 4, 3, 2, 1],
    ])
    expect([...y!.data]).toEqual([0.5, 0, 0.5, 0.5, 0, 0.5])
  })
})
