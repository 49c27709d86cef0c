import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LayerReducer, WindowSums } from '../../../src/inferers/score-stitch.js'
import { gaussianWeights, planWindows } from '../../../src/inferers/windows.js'

const axis = fc.integer({ min: 1, max: 11 })

test('scores are the weighted mean of the windows that hold a voxel, whether channels come first or last', () => {
  fc.assert(
    fc.property(
      fc.record({
        extent: fc.tuple(axis, axis, axis),
        roi: fc.tuple(axis, axis, axis),
        overlap: fc.constantFrom(0, 0.3, 0.6),
        channels: fc.constantFrom(1, 2, 5),
        members: fc.constantFrom(1, 2),
        weighted: fc.boolean(),
        seed: fc.integer(),
      }),
      ({ extent, roi, overlap, channels, members, weighted, seed }) => {
        const plan = planWindows(extent, roi, overlap)
        fc.pre(plan.starts.length * channels * roi[0] * roi[1] * roi[2] < 50_000)
        const weights = weighted ? gaussianWeights(plan.roi) : undefined
        const each = plan.roi[0] * plan.roi[1] * plan.roi[2]
        let n = seed
        const random = () => {
          n = (Math.imul(n, 1664525) + 1013904223) | 0
          return n / 2 ** 31
        }
        const ends = [1, 2].map(() => new LayerReducer({ kind: 'scores' }, channels, extent))
        const first = { channels, channelStride: each, step: 1 }
        const last = { channels, channelStride: 1, step: channels }
        const sums = [first, last].map((shape, i) => new WindowSums(plan, extent, shape, weights, ends[i]!, true))
        const { padded, before } = plan
        const voxels = padded[0] * padded[1] * padded[2]
        const total = new Float64Array(channels * voxels)
        const counted = new Float64Array(voxels)
        for (const row of new Set(plan.starts.map(([layer]) => layer)))
          for (let member = 0; member < members; member++)
            for (const start of plan.starts.filter(([layer]) => layer === row)) {
              const scores = Float32Array.from({ length: channels * each }, random)
              const turned = scores.map((_, i) => scores[(i % channels) * each + Math.trunc(i / channels)]!)
              sums[0]!.add(scores, 0, start, member === 0)
              sums[1]!.add(turned, 0, start, member === 0)
              for (let at = 0; at < each; at++) {
                const [, rows, length] = plan.roi
                const [i, j, k] = [Math.trunc(at / (rows * length)), Math.trunc(at / length) % rows, at % length]
                const to = ((start[0] + i) * padded[1] + start[1] + j) * padded[2] + start[2] + k
                const weight = weights ? weights[at]! : 1
                for (let c = 0; c < channels; c++) total[c * voxels + to]! += weight * scores[c * each + at]!
                if (member === 0) counted[to]! += weight
              }
            }
        for (const one of sums) one.finish()
        let at = 0
        for (let c = 0; c < channels; c++)
          for (let i = 0; i < extent[0]; i++)
            for (let j = 0; j < extent[1]; j++)
              for (let k = 0; k < extent[2]; k++, at++) {
                const from = ((i + before[0]) * padded[1] + j + before[1]) * padded[2] + k + before[2]
                const wanted = total[c * voxels + from]! / counted[from]!
                for (const { sink } of ends) expect(Math.abs(sink.data[at]! - wanted)).toBeLessThan(1e-5)
              }
      },
    ),
    { numRuns: 60 },
  )
})
