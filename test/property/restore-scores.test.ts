/** Scores that go back slab by slab give what they give when they go back whole. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { restoredField, restorerFor, type ScorePlan } from '../../src/pipelines/score-plan.js'
import { buildTransform } from '../../src/transforms/catalog.js'
import type { Reduction } from '../../src/transforms/reduction.js'
import { ScoreRestorer } from '../../src/transforms/restore-scores.js'
import type { ImageField } from '../../src/transforms/types.js'
import { makeVolume, type Vec3 } from '../../src/volume/volume.js'

const edge = fc.integer({ min: 2, max: 9 })
const size = fc.tuple(edge, edge, edge)
const step = fc.oneof(
  size.map((spatial_size) => ['Resized', { spatial_size, mode: 'trilinear' }] as const),
  size.map((spatial_size) => ['Resized', { spatial_size, mode: 'area' }] as const),
  size.map((spatial_size) => ['Resized', { spatial_size, mode: 'nearest' }] as const),
  fc
    .tuple(...[0, 1, 2].map(() => fc.double({ min: 0.4, max: 2.5, noNaN: true })))
    .map((pixdim) => ['Spacingd', { pixdim }] as const),
  fc
    .tuple(...[0, 1, 2].map(() => fc.double({ min: 0.4, max: 2.5, noNaN: true })))
    .map((pixdim) => ['Spacingd', { pixdim, padding_mode: 'zeros' }] as const),
  fc.constantFrom('RAS', 'LPS', 'PIR', 'SLA').map((axcodes) => ['Orientationd', { axcodes }] as const),
  size.map((roi_size) => ['CenterSpatialCropd', { roi_size }] as const),
  size.map((spatial_size) => ['SpatialPadd', { spatial_size }] as const),
  fc.constant(['Flipd', { spatial_axis: [1] }] as const),
)
const reduction = fc.constantFrom<Reduction>(
  { kind: 'argmax' },
  { kind: 'scores' },
  { kind: 'threshold', at: 0.4, activation: 'none' },
  { kind: 'threshold', at: 0.5, activation: 'sigmoid' },
)

async function prepared(size: Vec3, steps: readonly (readonly [string, object])[]): Promise<ImageField> {
  const affine = Float64Array.of(1, 0, 0, 5, 0, 1.5, 0, -3, 0, 0, 0.8, 2, 0, 0, 0, 1)
  const volume = makeVolume(size, affine, new Float32Array(size[0] * size[1] * size[2]))
  let field: ImageField = { volume, content: 'intensity', axes: 'CXYZ', source: volume, undo: [] }
  for (const [name, args] of steps) {
    const item = { images: new Map([['image', field]]), values: new Map(), result: {} }
    const { images } = await buildTransform({ name, args: { keys: 'image', ...args } }).apply(item)
    field = images.get('image')!
  }
  return field
}

describe('scores on their way back', () => {
  it('slab by slab and whole agree', async () => {
    await fc.assert(
      fc.asyncProperty(
        size,
        fc.array(step, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom('none', 'sigmoid', 'softmax'),
        reduction,
        fc.integer({ min: 1, max: 2 ** 31 - 1 }),
        async (size, steps, channels, activation, reduction, seed) => {
          const field = await prepared(size, steps)
          const [nx, ny, nz] = field.volume.size
          let state = seed
          const scores = Float32Array.from({ length: nx * ny * nz * channels }, () => {
            state = (state * 48271) % 2147483647
            return (state / 2147483647 - 0.5) * 6
          })
          const plan: ScorePlan = { reduction, activation, restores: true, rest: [] }
          const volume = makeVolume(field.volume.size, field.volume.affine, scores.slice(), { channels })
          const whole = restoredField({ ...field, volume, content: 'scores' }, plan)

          const restorer = restorerFor(field, channels, plan)
          // where every step picks voxels, labels go back instead
          if (!(restorer instanceof ScoreRestorer)) return
          const plane = nx * ny
          for (let layer = 0; layer < nz; layer++)
            restorer.add(layer, { scores, start: layer * plane, channelStride: plane * nz, rowStride: nx, step: 1 })
          const slabs = restorer.result()
          expect(slabs.size).toEqual([...whole.volume.size])
          expect(slabs.channels).toBe(whole.volume.channels)
          let odd = 0
          for (let i = 0; i < slabs.data.length; i++) if (Math.abs(slabs.data[i]! - whole.volume.data[i]!) > 1e-4) odd++
          // a tie of two classes, or a score at the threshold, may fall either way by a rounding
          expect(odd).toBeLessThanOrEqual(reduction.kind === 'scores' ? 0 : Math.ceil(slabs.data.length / 200))
        },
      ),
      { numRuns: 120 },
    )
  })
})
