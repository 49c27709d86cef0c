/** A mask or label map from a client -> the voxels that count: of one label, or of any. */
import { AppError } from '../errors.js'
import { eachBlock, mapBlocks } from '../volume/blocks.js'
import { makeVolume, type Volume, type VoxelArray, voxelCount } from '../volume/volume.js'
import type { FormatName, ReadLimits, ReadResult, ResultExtension } from './format.js'
import { type PictureFormat, type PictureLabels, readPictureLabels } from './picture.js'
import { readVolume } from './read-volume.js'
import { askFor } from './voxel-data.js'
import { dtypeOf, isFloat } from './voxel-types.js'

/**
 * How far a label may lie from its number: label files that were saved as scaled integers, as nibabel does with float64,
 * come back a few hundred-thousandths off.
 */
const LABEL_TOLERANCE = 1e-3
/** Labels named when the one that was asked for is not there. */
const MOST_NAMED = 20

export interface MaskFiles {
  readonly paths: readonly string[]
  /** What the client's own file was, where these hold a decoded copy of it. */
  readonly extension?: ResultExtension | undefined
}

/**
 * Reads one image as `readVolume` does, as a volume of one channel that is not zero where the mask is: at voxels of
 * `label`, or of any label; where none is within a thousandth of it, at those that round to it. A label of a picture is looked for in its palette indices, then in its colours (red, green or
 * blue), then in its transparency; and where no label is asked for, transparent pixels are no foreground. `chosen` takes
 * one of the images of a file that holds several.
 * Errors: those of `readVolume`; BAD_GEOMETRY for a volume of several channels; BAD_PARAMS when `label` is nowhere, with
 * the labels that there are.
 */
export async function readMask(
  { paths, extension }: MaskFiles,
  limits: ReadLimits,
  label: number | undefined,
  signal?: AbortSignal,
  chosen: (read: ReadResult) => ReadResult = (read) => read,
): Promise<ReadResult> {
  const read = chosen(await readVolume(paths, limits, signal))
  const { volume, format } = read
  const flat = (extension ?? read.extension) === '.png'
  if (!flat && volume.channels > 1)
    throw new AppError('BAD_GEOMETRY', `the mask has ${volume.channels} channels or time points; polygons need one`, {
      hint: `name one with params {"image_index": 0} to {"image_index": ${volume.channels - 1}}`,
    })
  // the voxels that are found; and of a picture its file, indices and transparency anew
  const planes = flat && isPicture(format) ? 4 : 1
  askFor(planes * voxelCount(volume), limits, 'looking for the mask in the image', volume.data.byteLength)
  const beside = flat && isPicture(format) ? await readPictureLabels((read.files ?? paths)[0]!, format) : {}
  const data = label === undefined ? foregroundOf(volume, beside) : labelOf(volume, beside, label)
  const { size, affine, nifti } = volume
  return { ...read, volume: makeVolume(size, affine, data, { nifti }) }
}

function isPicture(format: FormatName): format is PictureFormat {
  return format === 'png' || format === 'jpeg' || format === 'tiff' || format === 'bmp'
}

/** Red, green and blue, or the one channel there is. */
function coloursOf(volume: Volume): VoxelArray[] {
  const voxels = voxelCount(volume)
  const count = Math.min(3, volume.channels)
  return Array.from({ length: count }, (_, c) => volume.data.subarray(c * voxels, (c + 1) * voxels))
}

/** Whatever is no background. Colours that are the same everywhere say nothing; then transparency does. */
function foregroundOf(volume: Volume, { index, alpha }: PictureLabels): VoxelArray {
  if (index?.firstIsBlack) return index.data
  const colours = coloursOf(volume)
  if (colours.length === 1 && !alpha) return wholeNumbers(colours[0]!)
  const found = new Uint8Array(voxelCount(volume))
  const plain = alpha !== undefined && colours.every((plane) => plane.every((value) => value === plane[0]))
  for (const plane of plain ? [alpha] : colours) {
    mark(plane, found, -Infinity, -LABEL_TOLERANCE)
    mark(plane, found, LABEL_TOLERANCE, Infinity)
  }
  if (alpha) for (let i = 0; i < found.length; i++) if (alpha[i] === 0) found[i] = 0
  return found
}

/** The same array where it holds whole numbers by its type; else values within the tolerance of one become it. */
function wholeNumbers(data: VoxelArray): VoxelArray {
  if (!isFloat(dtypeOf(data))) return data
  mapBlocks(data, data, (block, count) => {
    for (let i = 0; i < count; i++) {
      const whole = Math.round(block[i]!)
      if (Math.abs(block[i]! - whole) <= LABEL_TOLERANCE) block[i] = whole
    }
  })
  return data
}

function labelOf(volume: Volume, { index, alpha }: PictureLabels, label: number): Uint8Array {
  const places = [index && [index.data], coloursOf(volume), alpha && [alpha]].filter((planes) => planes !== undefined)
  for (const planes of places) {
    const found = new Uint8Array(voxelCount(volume))
    const counts = planes.map((plane) => mark(plane, found, label - LABEL_TOLERANCE, label + LABEL_TOLERANCE))
    if (counts.some((count) => count > 0)) return found
  }
  const rounded = Number.isInteger(label) ? roundedTo(volume, label) : undefined
  if (rounded) return rounded
  const there = labelsIn([...places[0]!, ...(alpha ? [alpha] : [])])
  throw new AppError(
    'BAD_PARAMS',
    there.length === 0
      ? `'label' ${label} is nowhere: the mask is empty`
      : `'label' ${label} is nowhere in the mask, which has ${listed(there)}`,
    { hint: "ask for one of its labels, or leave 'label' out for all of them together" },
  )
}

/**
 * Where labels lie as coarsely as scaled integers of 8 bits put them (1 is read as 0.996, in a map of more labels as 1.18):
 * the voxels whose nearest whole number is `label`.
 */
function roundedTo(volume: Volume, label: number): Uint8Array | undefined {
  if (!isFloat(dtypeOf(volume.data))) return undefined
  const found = new Uint8Array(voxelCount(volume))
  const counts = coloursOf(volume).map((plane) => mark(plane, found, label - 0.49, label + 0.49))
  return counts.some((count) => count > 0) ? found : undefined
}

/** Sets `target` to 1 wherever the value lies between two, ends included, and counts. */
function mark(plane: VoxelArray, target: Uint8Array, low: number, high: number): number {
  let found = 0
  eachBlock(plane, (block, count, start) => {
    for (let i = 0; i < count; i++) {
      const value = block[i]!
      if (value >= low && value <= high) {
        target[start + i] = 1
        found++
      }
    }
  })
  return found
}

/** The values other than 0, in increasing order. */
function labelsIn(planes: readonly VoxelArray[]): number[] {
  const labels = new Set<number>()
  for (const plane of planes)
    eachBlock(plane, (block, count) => {
      for (let i = 0; i < count && labels.size <= 1000; i++) {
        const whole = Math.round(block[i]!)
        labels.add(Math.abs(block[i]! - whole) <= LABEL_TOLERANCE ? whole : block[i]!)
      }
    })
  labels.delete(0)
  return [...labels].sort((a, b) => a - b)
}

function listed(labels: readonly number[]): string {
  const named = labels.slice(0, MOST_NAMED).map((label) => String(Number(label.toPrecision(6))))
  return labels.length > MOST_NAMED ? `${named.join(', ')} and more` : named.join(', ')
}
