/** Laws of label maps: whatever grid the scan lies on, labels come back as names, never as blends of their numbers. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { LabelStitch, labelTarget } from '../../src/inferers/label-stitch.js'
import { planWindows } from '../../src/inferers/windows.js'
import { multiply4 } from '../../src/volume/affine.js'
import { makeVolume, type Vec3 } from '../../src/volume/volume.js'
import { labelNetwork, runPipeline, step } from '../helpers/pipeline.js'
import {
  axisOrders,
  inAxisOrder,
  niftiFile,
  roomyLimits,
  scaleAffine,
  tempFolder,
  volumeOf,
} from '../helpers/volumes.js'

const number = (min: number, max: number) => fc.double({ min, max, noNaN: true })
const spacing = fc.tuple(number(0.4, 3), number(0.4, 3), number(0.4, 3))
/** Turned about z and about x, in radians: an oblique scan. */
const tilt = fc.tuple(fc.constantFrom(0, 0.3, -0.7), fc.constantFrom(0, 0.2))
const size = fc.tuple(fc.integer({ min: 2, max: 7 }), fc.integer({ min: 2, max: 7 }), fc.integer({ min: 1, max: 6 }))

function turned(affine: Float64Array, [a, b]: readonly [number, number]): Float64Array {
  const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)]
  const aboutZ = Float64Array.of(ca, -sa, 0, 0, sa, ca, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
  const aboutX = Float64Array.of(1, 0, 0, 0, 0, cb, -sb, 0, 0, sb, cb, 0, 0, 0, 0, 1)
  return multiply4(aboutX, multiply4(aboutZ, affine))
}

/** What configs do to the grid before the network. */
const grids = fc.subarray(
  [
    step('Orientationd', { axcodes: 'LPS' }),
    step('Spacingd', { pixdim: [1, 1, 1], mode: 'bilinear' }),
    step('CropForegroundd', { source_key: 'image', margin: 1 }),
    step('Resized', { spatial_size: [5, 9, 4], mode: 'trilinear' }),
    step('DivisiblePadd', { k: 4 }),
  ],
  { minLength: 1 },
)
const windows = fc.constantFrom({}, { scanning_window: true, roi: [4, 4, 4], overlap: 0.5, blend: 'gaussian' })
const post = fc.subarray([
  step('EnsureTyped', { keys: 'pred', dtype: 'float32' }),
  step('RestoreLabeld', { keys: 'pred', mode: 'trilinear' }),
  step('Invertd', { keys: 'pred', transform: 'x', orig_keys: 'image', nearest_interp: false }),
])

const LABELS = [0, 1, 30, 300]

describe('a restored label map', () => {
  test('has the grid of the scan, and no value that the network did not give', async () => {
    await using folder = await tempFolder()
    await fc.assert(
      fc.asyncProperty(
        fc.record({ size, spacing, tilt, order: fc.constantFrom(...axisOrders), grids, windows, post }),
        fc.constantFrom('uint8', 'int32', 'int64', 'float32'),
        async (c, type) => {
          const plain = volumeOf(c.size, { affine: scaleAffine(c.spacing), value: (i) => ((i * 37) % 40) + 1 })
          const placed = makeVolume(plain.size, turned(plain.affine, c.tilt), plain.data)
          const scan = inAxisOrder(placed, c.order)
          const labels = type === 'uint8' ? LABELS.slice(0, 3) : LABELS
          const given = new Set<number>([0])
          const label = (value: number): number => {
            const one = labels[Math.abs(Math.floor(value / 11)) % labels.length]!
            given.add(one)
            return one
          }
          const result = await runPipeline({
            config: {
              version: '4',
              type: 'segmentation',
              pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd'), ...c.grids],
              inference: { image: 'image', args: c.windows, node_mapping: { x: 'image', y: 'pred' } },
              post_transforms: c.post,
              writer: { name: 'WriteNifti', args: { field: 'pred', dtype: 'int32' } },
            },
            predictor: labelNetwork(label, type),
            paths: [await niftiFile(folder.path, scan, 'scan.nii')],
            outDir: folder.path,
          })
          const { volume } = await readVolume([result.file!.path], roomyLimits)
          expect(volume.size).toEqual(scan.size)
          expect([...new Set(volume.data)].filter((value) => !given.has(value))).toEqual([])
          expect(result.params).toHaveProperty('label_statistics')
        },
      ),
      { numRuns: 60 },
    )
  })
})

test('windows of labels lie side by side: every voxel has the label of a window that covers it, its own number where all agree', () => {
  fc.assert(
    fc.property(
      fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 })),
      fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 })),
      fc.constantFrom(0, 0.25, 0.5, 0.75),
      (extent, roi, overlap) => {
        const plan = planWindows(extent, roi, overlap)
        const voxels = extent[0] * extent[1] * extent[2]
        const each = plan.roi[0] * plan.roi[1] * plan.roi[2]
        const shape = { channels: 1, channelStride: each, step: 1 }
        const places = new LabelStitch(labelTarget('int32', voxels), plan, shape, extent)
        const owners = new LabelStitch(labelTarget('int32', voxels), plan, shape, extent)
        plan.starts.forEach((start, window) => {
          const place = Int32Array.from({ length: each }, (_, i) => voxelAt(start, plan.roi, plan.before, i, extent))
          places.add(place, 0, start)
          owners.add(new Int32Array(each).fill(window), 0, start)
        })
        expect(Array.from(places.target)).toEqual(Array.from({ length: voxels }, (_, i) => i))
        for (let i = 0; i < voxels; i++) {
          const at = [Math.floor(i / (extent[1] * extent[2])), Math.floor(i / extent[2]) % extent[1], i % extent[2]]
          const nearest = plan.starts.map((start) => at.map((n, axis) => offCentre(n, axis, start, plan)))
          const own = nearest[owners.target[i]!]!
          for (const axis of [0, 1, 2]) expect(own[axis]).toBe(Math.min(...nearest.map((one) => one[axis]!)))
        }
      },
    ),
  )
})

type Plan = ReturnType<typeof planWindows>

function offCentre(n: number, axis: number, start: Vec3, { roi, before }: Plan): number {
  return Math.abs(n + before[axis]! - start[axis]! - (roi[axis]! - 1) / 2)
}

/** The index in the image of value `i` of a window; -1 in its padding. */
function voxelAt(start: Vec3, roi: Vec3, before: Vec3, i: number, extent: Vec3): number {
  const at = [Math.floor(i / (roi[1] * roi[2])), Math.floor(i / roi[2]) % roi[1], i % roi[2]].map(
    (n, axis) => n + start[axis]! - before[axis]!,
  )
  if (at.some((n, axis) => n < 0 || n >= extent[axis]!)) return -1
  return (at[0]! * extent[1] + at[1]!) * extent[2] + at[2]!
}
