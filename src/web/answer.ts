/** A model's answer as voxels, and how it becomes segments. Voxels that another segment holds stay with it. */
import type { Answer } from './api.js'
import { type Box, boxSize, type Vec3, wholeBox } from './geometry.js'
import { gunzip } from './gzip.js'
import type { LabelMap } from './label-map.js'
import { readNifti, type Voxels } from './nifti.js'

/** What every request asks for: a file on the grid of the session's volume. */
export const RESULT_PARAMS = { result_extension: '.nii.gz' } as const

export interface Mask {
  readonly size: Vec3
  readonly data: Voxels
  /** Where anything is; undefined for an empty mask. */
  readonly box: Box | undefined
  readonly labels: readonly MaskLabel[]
}

export interface MaskLabel {
  readonly value: number
  readonly name: string
}

interface Statistics {
  readonly label: number
  readonly name: string
  readonly voxels: number
  readonly bbox?: readonly [Vec3, Vec3]
}

/** Throws RangeError when the answer is no label map of this size. */
export async function maskOf({ file, params }: Answer, size: Vec3): Promise<Mask> {
  if (!file) throw new RangeError('the model gave no label map')
  const image = readNifti(await gunzip(file))
  if (image.size.some((n, axis) => n !== size[axis]))
    throw new RangeError('the label map has another size than the scan')
  const statistics = ((params.label_statistics as Statistics[] | undefined) ?? []).filter(({ voxels }) => voxels > 0)
  if (statistics.some(({ label }) => !Number.isInteger(label) || label < 0))
    throw new RangeError('the model gave an image, not a label map')
  let box: Box | undefined
  for (const { bbox } of statistics)
    if (bbox)
      box = {
        min: (box?.min ?? bbox[0]).map((v, axis) => Math.min(v, bbox[0][axis]!)) as unknown as Vec3,
        max: (box?.max ?? bbox[1]).map((v, axis) => Math.max(v, bbox[1][axis]!)) as unknown as Vec3,
      }
  return {
    size,
    data: image.data,
    box: statistics.length > 0 ? (box ?? wholeBox(size)) : undefined,
    labels: statistics.map(({ label, name }) => ({ value: label, name })),
  }
}

/**
 * The labels inside `box` after segments took over a mask: `ids` maps the mask's values to segments. What these segments
 * held in the box and the mask does not, is given up.
 */
export function takeOver(
  labels: LabelMap,
  box: Box,
  mask: Mask,
  ids: ReadonlyMap<number, number>,
): Uint8Array<ArrayBuffer> {
  const out = labels.read(box)
  const own = new Uint8Array(256)
  for (const id of ids.values()) own[id] = 1
  const table = new Uint8Array(Math.max(256, ...[...ids.keys()].map((value) => value + 1)))
  for (const [value, id] of ids) table[value] = id
  const [nx, ny, nz] = boxSize(box)
  let at = 0
  for (let z = 0; z < nz; z++)
    for (let y = 0; y < ny; y++) {
      let from = box.min[0] + mask.size[0] * (box.min[1] + y + mask.size[1] * (box.min[2] + z))
      for (let x = 0; x < nx; x++, at++, from++) {
        const held = out[at]!
        if (held === 0 || own[held] === 1) out[at] = table[mask.data[from]!] ?? 0
      }
    }
  return out
}
