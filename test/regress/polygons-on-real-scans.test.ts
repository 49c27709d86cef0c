/** mask2polygon and fixpolygon on real label maps and CT slices. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { fixPolygons } from '../../src/geometry/fix-polygon.js'
import { slicePolygons } from '../../src/geometry/mask-to-polygon.js'
import { fillPolygons } from '../../src/geometry/raster.js'
import type { Volume } from '../../src/volume/volume.js'
import { boundaryDistance, type Scan, sampleEdits } from '../helpers/contour-edits.js'
import { sharedData } from '../helpers/shared-data.js'
import { labelSlice, roomyLimits } from '../helpers/volumes.js'

const read = async (path: string): Promise<Volume> => (await readVolume([join(sharedData!, path)], roomyLimits)).volume

/** Voxels of one label, or all of them, in a slice; filled polygons of the same; and what both have in common. */
function roundTrip(volume: Volume, z: number, morePoints: number, label?: number) {
  const [nx, ny] = volume.size
  const polygons =
    label === undefined
      ? slicePolygons(volume, z, { morePoints, rowAxis: 'x' })
      : slicePolygons(labelSlice(volume, z, label), 0, { morePoints, rowAxis: 'x' })
  const filled = new Uint8Array(nx * ny)
  fillPolygons(filled, polygons, 1, nx, 1)
  let voxels = 0
  let pixels = 0
  let both = 0
  for (let i = 0; i < filled.length; i++) {
    const value = volume.data[z * nx * ny + i]!
    const is = label === undefined ? value !== 0 : value === label
    if (is) voxels++
    if (filled[i] === 1) pixels++
    if (is && filled[i] === 1) both++
  }
  return { voxels, pixels, both, dice: (2 * both) / (voxels + pixels) }
}

const LABEL_MAPS = [
  'nifti/totalsegmentator/example_ct_seg117.nii.gz',
  'nifti/totalsegmentator/aorta_ct_aorta.nii.gz',
  'nifti/totalsegmentator/example_mr_sm_seg50.nii.gz',
  'nifti/qin_gbm/PGBM-001_t0_MaskTumor.nii.gz',
  'nifti/qin_gbm/PGBM-003_t0_MaskTumor.nii.gz',
  'dicom/ts_ct20_seg117.nii.gz',
]

describe.skipIf(!sharedData)('real label maps (needs ../shared/data)', () => {
  test.each(LABEL_MAPS)('%s: all points, filled again, are the mask', async (path) => {
    const volume = await read(path)
    for (let z = 0; z < volume.size[2]; z++) {
      const { voxels, pixels, both } = roundTrip(volume, z, 0)
      expect({ z, pixels, both }).toEqual({ z, pixels: voxels, both: voxels })
    }
  })

  // Every eleventh point cuts the corners of whatever is small or thin, in OpenCV's hands as in ours.
  test.each(LABEL_MAPS)('%s: every eleventh point still says the shape of a large compact structure', async (path) => {
    const volume = await read(path)
    const labels = new Set<number>(volume.data)
    labels.delete(0)
    const poor: unknown[] = []
    for (const label of labels) {
      for (let z = 0; z < volume.size[2]; z++) {
        const [ring, ...more] = slicePolygons(labelSlice(volume, z, label), 0, { morePoints: 0, rowAxis: 'x' })
        if (!ring || more.length > 0) continue
        const { voxels, dice } = roundTrip(volume, z, 10, label)
        const isCompact = (4 * Math.PI * voxels) / (ring.length / 2) ** 2 > 0.7
        if (voxels > 800 && isCompact && dice < 0.93) poor.push({ label, z, voxels, dice })
      }
    }
    expect(poor).toEqual([])
  })
})

describe.skipIf(!sharedData)('a vertex dragged roughly to the edge of an organ in CT (needs ../shared/data)', () => {
  const scans: Scan[] = []
  beforeAll(async () => {
    const series = join(sharedData!, 'dicom/ts_ct20_raw')
    const paths = readdirSync(series).map((name) => join(series, name))
    // Spleen, kidneys, liver, stomach, heart and aorta.
    const organs = [1, 2, 3, 5, 6, 51, 52]
    scans.push({
      image: await read('nifti/totalsegmentator/example_ct.nii.gz'),
      labels: await read('nifti/totalsegmentator/example_ct_seg117.nii.gz'),
      organs,
    })
    scans.push({
      image: await read('nifti/totalsegmentator/aorta_ct.nii.gz'),
      labels: await read('nifti/totalsegmentator/aorta_ct_aorta.nii.gz'),
      organs: [1],
    })
    scans.push({
      image: (await readVolume(paths, roomyLimits)).volume,
      labels: await read('dicom/ts_ct20_seg117.nii.gz'),
      organs,
    })
  })

  test.each([
    { name: 'a bump, points 6 pixels apart', more: 5, bump: true },
    { name: 'a bump, points 11 pixels apart', more: 10, bump: true },
    { name: 'one wrong vertex, points 6 pixels apart', more: 5, bump: false },
    { name: 'one wrong vertex, points 11 pixels apart', more: 10, bump: false },
  ])('$name: at least 160 of 200 contours come closer to the reference', ({ more, bump }) => {
    let closer = 0
    for (const { image, slices, edit, reference } of sampleEdits(scans, { count: 200, seed: 2026, more, bump })) {
      const before = slices[edit.slice]![edit.polygon]!
      const [fixed] = [...fixPolygons(image, 'x', slices, edit)].filter((ring) => ring !== undefined)
      if (boundaryDistance(fixed!.ring, reference) < boundaryDistance(before, reference)) closer++
    }
    if (process.env.AIDANT_SHOW_FIGURES) console.log({ more, bump, closer })
    expect(closer).toBeGreaterThanOrEqual(160)
  })
})
