import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import wabt from 'wabt'
import { ArgmaxStitch } from '../../../src/inferers/argmax-stitch.js'
import { WINDOW_KERNEL } from '../../../src/inferers/window-kernel.js'
import { phasedScores, plainScores } from '../../../src/inferers/window-scores.js'
import { gaussianWeights, planWindows, type WindowPlan } from '../../../src/inferers/windows.js'
import type { Vec3 } from '../../../src/volume/volume.js'

test('the module is what its source says (npm run window-kernel)', async () => {
  const source = readFileSync('src/inferers/window-kernel.wat', 'utf8')
  const { buffer } = (await wabt()).parseWat('window-kernel.wat', source, { simd: true }).toBinary({})
  expect(WINDOW_KERNEL).toBe(Buffer.from(buffer).toString('base64'))
})

/** Scores of each window and member, put together; and, in double precision, the sums that they are. */
function stitched(
  plan: WindowPlan,
  extent: Vec3,
  channels: number,
  members: number,
  weights: Float32Array | undefined,
  scoreOf: () => number,
) {
  const { roi, padded, before, starts } = plan
  const each = roi[0] * roi[1] * roi[2]
  const sums = new Float64Array(channels * padded[0] * padded[1] * padded[2])
  const stitch = new ArgmaxStitch(plan, extent, channels, weights, members)
  for (const row of new Set(starts.map(([first]) => first)))
    for (let member = 0; member < members; member++)
      for (const start of starts.filter(([first]) => first === row)) {
        // not at the array's start, as the second window of a batch
        const scores = Float32Array.from({ length: 3 + channels * each }, scoreOf)
        stitch.add(member, plainScores(scores, 3, each), start)
        for (let n = 0; n < channels * each; n++) {
          const at = n % each
          const [i, j, k] = [Math.trunc(at / (roi[1] * roi[2])), Math.trunc(at / roi[2]) % roi[1], at % roi[2]]
          const c = Math.trunc(n / each)
          const to = ((c * padded[0] + start[0] + i) * padded[1] + start[1] + j) * padded[2] + start[2] + k
          sums[to]! += scores[3 + n]! * (weights ? weights[at]! : 1)
        }
      }
  const voxels = []
  for (let i = 0; i < extent[0]; i++)
    for (let j = 0; j < extent[1]; j++)
      for (let k = 0; k < extent[2]; k++) {
        const at = ((i + before[0]) * padded[1] + j + before[1]) * padded[2] + k + before[2]
        const own = Array.from({ length: channels }, (_, c) => sums[c * padded[0] * padded[1] * padded[2] + at]!)
        voxels.push({ sums: own, label: stitch.sink.data[voxels.length]! })
      }
  return voxels
}

const axis = fc.integer({ min: 1, max: 13 })
const cases = fc.record({
  extent: fc.tuple(axis, axis, axis),
  roi: fc.tuple(axis, axis, axis),
  overlap: fc.constantFrom(0, 0.25, 0.5, 0.8),
  even: fc.boolean(),
  channels: fc.constantFrom(2, 3, 5, 300),
  members: fc.constantFrom(1, 1, 2),
  seed: fc.integer(),
})

test('equal windows: the class that is best first, of sums without rounding, whatever overlaps, is padded, or is not a number', () => {
  fc.assert(
    fc.property(cases, ({ extent, roi, overlap, even, channels, members, seed }) => {
      const plan = planWindows(extent, roi, overlap, even)
      fc.pre(plan.starts.length * channels * roi[0] * roi[1] * roi[2] < 200_000)
      const values = [0, 1, 2, 3, -1, Number.NaN, Infinity]
      let n = seed
      const voxels = stitched(plan, extent, channels, members, undefined, () => {
        n = (Math.imul(n, 1664525) + 1013904223) | 0
        return values[(n >>> 16) % (seed % 2 ? 7 : 5)]!
      })
      for (const { sums, label } of voxels) {
        let best = 0
        for (const [c, sum] of sums.entries()) if (sum > sums[best]!) best = c
        expect(label).toBe(best)
      }
    }),
    { numRuns: 60 },
  )
})

test('weighted windows: no class is better than the one that is said, but for rounding', () => {
  fc.assert(
    fc.property(cases, ({ extent, roi, overlap, even, channels, members, seed }) => {
      const plan = planWindows(extent, roi, overlap, even)
      fc.pre(plan.starts.length * channels * roi[0] * roi[1] * roi[2] < 200_000)
      let n = seed
      const voxels = stitched(plan, extent, channels, members, gaussianWeights(plan.roi), () => {
        n = (Math.imul(n, 1664525) + 1013904223) | 0
        return n / 2 ** 31
      })
      for (const { sums, label } of voxels)
        expect(sums[label]!).toBeGreaterThanOrEqual(Math.max(...sums) - 1e-6 * plan.starts.length)
    }),
    { numRuns: 60 },
  )
})

test('sums beyond the 4 GiB that WebAssembly addresses are not for it', () => {
  const plan = planWindows([512, 512, 512], [128, 128, 128], 0.25)
  expect(ArgmaxStitch.fits(plan, 30, 1)).toBe(true)
  expect(ArgmaxStitch.fits(plan, 32, 1)).toBe(false)
})

test('scores in phases are read as what they are when they are put between each other', () => {
  const stride = fc.constantFrom(1, 2, 3)
  fc.assert(
    fc.property(
      fc.record({
        strides: fc.tuple(stride, stride, fc.constant(2)),
        sizes: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 9 })),
        channels: fc.constantFrom(2, 5),
        merged: fc.boolean(),
        item: fc.constantFrom(0, 1),
      }),
      ({ strides, sizes, channels, merged, item }) => {
        const roi = strides.map((n, axis) => n * sizes[axis]!) as unknown as Vec3
        const each = roi[0] * roi[1] * roi[2]
        const count = strides[0] * strides[1] * strides[2]
        const scores = Float32Array.from({ length: 2 * channels * each }, (_, i) => Math.sin(i * 12.9898))
        const voxels = each / count
        const tensors = merged ? ['all'] : Array.from({ length: count }, (_, p) => `phase${p}`)
        const length = (2 * channels * each) / tensors.length
        const outputs = Object.fromEntries(tensors.map((name) => [name, { dims: [], data: new Float32Array(length) }]))
        for (let n = 0; n < scores.length; n++) {
          const at = n % each
          const [window, c] = [Math.trunc(n / each / channels), Math.trunc(n / each) % channels]
          const place = [Math.trunc(at / (roi[1] * roi[2])), Math.trunc(at / roi[2]) % roi[1], at % roi[2]]
          const phase = place.reduce((index, v, axis) => index * strides[axis]! + (v % strides[axis]!), 0)
          const inPhase = place.reduce((index, v, axis) => index * sizes[axis]! + Math.trunc(v / strides[axis]!), 0)
          if (merged) outputs.all!.data[((window * count + phase) * channels + c) * voxels + inPhase] = scores[n]!
          else outputs[`phase${phase}`]!.data[(window * channels + c) * voxels + inPhase] = scores[n]!
        }
        const plan = planWindows(roi, roi, 0)
        const [plain, phased] = [0, 1].map(() => new ArgmaxStitch(plan, roi, channels, undefined, 1))
        plain!.add(0, plainScores(scores, item * channels * each, each), [0, 0, 0])
        const network = { strides, tensors, run: async () => ({}), giveUp: async () => {} }
        phased!.add(0, phasedScores(outputs, network, channels, roi, item), [0, 0, 0])
        expect(phased!.sink.data).toEqual(plain!.sink.data)
        expect(new Set(plain!.sink.data).size).toBeGreaterThan(each > 20 ? 1 : 0)
      },
    ),
  )
})
