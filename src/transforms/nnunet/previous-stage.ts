/** The label map of an earlier stage as further channels of the image, as the second stage of nnU-Net's cascade reads it. */
import { z } from 'zod'
import { AppError } from '../../errors.js'
import { labelArray } from '../../volume/label-array.js'
import { nearestExactTable } from '../../volume/resample.js'
import { makeVolume, spacingOf, type Vec3, type VoxelArray, voxelCount } from '../../volume/volume.js'
import { fieldArgs, numbers } from '../args.js'
import { requireImage, withImage } from '../fields.js'
import type { TransformDefinition } from '../types.js'
import { How, resizeAxes, spacingAlong, thickAxis } from './resample.js'

const args = fieldArgs({
  /** The field of the label map, cut as the image was and not yet resampled. */
  source: z.string(),
  /** One channel for each of these labels, in this order. */
  labels: z.array(z.int().min(1)).min(1),
  /** mm along the array's axes, as the image was resampled to. */
  spacing: numbers.pipe(z.array(z.number().positive()).min(2).max(3)),
  segmentation: How.prefault({ order: 1 }),
})

export const nnunetPreviousStage: TransformDefinition<typeof args> = {
  names: ['NnUNetPreviousStaged'],
  args,
  traits: (a) => ({ channels: a.labels.length }),
  create: (a) => {
    if (a.segmentation.order === 3 || a.segmentation.order_z === 3)
      throw new AppError('BAD_MODEL_CONFIG', 'label maps are resampled with order 0 or 1 here, not 3')
    return (item) =>
      a.keys.reduce((current, key) => {
        const field = requireImage(current, key)
        const source = requireImage(current, a.source)
        const { size, affine, channels } = field.volume
        const thick = thickAxis(a.segmentation, spacingOf(source.volume), spacingAlong(source, a.spacing))
        const found = resizeLabels(source.volume.data, source.volume.size, size, a.segmentation, thick)
        const voxels = voxelCount(field.volume)
        const data = new Float32Array(voxels * (channels + a.labels.length))
        data.set(field.volume.data)
        for (const [i, label] of a.labels.entries()) {
          const at = voxels * (channels + i)
          for (let v = 0; v < voxels; v++) if (found[v] === label) data[at + v] = 1
        }
        const volume = makeVolume(size, affine, data, { channels: channels + a.labels.length })
        return withImage(current, key, { ...field, volume, scratch: true })
      }, item)
  },
}

/** nnU-Net's resampling of label maps: slice by slice where one axis is resampled on its own. */
export function resizeLabels(
  labels: VoxelArray,
  from: Vec3,
  to: Vec3,
  { order, order_z: orderThick }: How,
  thick: 0 | 1 | 2 | undefined,
): VoxelArray {
  if (from.every((n, axis) => n === to[axis])) return labels
  if (thick === undefined) return mostLike(labels, from, to, order)
  const flat = to.map((n, axis) => (axis === thick ? from[axis]! : n)) as unknown as Vec3
  const inPlane = mostLike(labels, from, flat, order)
  return mostLike(inPlane, flat, to, orderThick)
}

/**
 * Each voxel the label whose indicator, resized on its own, is the largest there. Of several the nearest voxel's label, where
 * it is one of them, else the smallest: batchgenerators' resize_segmentation.
 */
function mostLike(labels: VoxelArray, from: Vec3, to: Vec3, order: number): VoxelArray {
  if (from.every((n, axis) => n === to[axis])) return labels
  const nearest = nearestLabels(labels, from, to)
  if (order === 0) return nearest
  const values = [...new Set<number>(labels as Iterable<number>)].sort((a, b) => a - b)
  const out = labelArray(nearest.length, 0, values.at(-1) ?? 0).fill(values[0] ?? 0)
  const best = new Float32Array(nearest.length)
  const isNearest = new Uint8Array(nearest.length)
  const indicator = new Float32Array(labels.length)
  for (const [i, value] of values.entries()) {
    for (let v = 0; v < labels.length; v++) indicator[v] = labels[v] === value ? 1 : 0
    const score = resizeAxes(indicator, from, to, order)
    for (let v = 0; v < out.length; v++) {
      if (i === 0 || score[v]! > best[v]!) {
        best[v] = score[v]!
        out[v] = value
        isNearest[v] = nearest[v] === value && score[v]! > 0 ? 1 : 0
      } else if (score[v] === best[v] && score[v]! > 0 && nearest[v] === value) isNearest[v] = 1
    }
  }
  for (let v = 0; v < out.length; v++) if (isNearest[v]) out[v] = nearest[v]!
  return out
}

function nearestLabels(labels: VoxelArray, from: Vec3, [nx, ny, nz]: Vec3): VoxelArray {
  const [xs, ys, zs] = [nearestExactTable(from[0], nx), nearestExactTable(from[1], ny), nearestExactTable(from[2], nz)]
  const out = labels.slice(0, 0).constructor as new (length: number) => VoxelArray
  const data = new out(nx * ny * nz)
  let to = 0
  for (let z = 0; z < nz; z++)
    for (let y = 0; y < ny; y++) {
      const row = (zs[z]! * from[1] + ys[y]!) * from[0]
      for (let x = 0; x < nx; x++, to++) data[to] = labels[row + xs[x]!]!
    }
  return data
}
