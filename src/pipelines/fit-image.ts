/**
 * An image made to fit what a model takes: one of several images (time points, echoes) where `image_index` names it,
 * luminance of a colour picture, a grey picture three times over. The same for every format, and by session.
 */
import { AppError } from '../errors.js'
import type { ReadResult } from '../formats/format.js'
import type { ImageField, SourceGrid } from '../transforms/types.js'
import { makeVolume, type Vec3, type Volume, type VoxelArray, voxelCount } from '../volume/volume.js'
import type { ImageNeeds } from './image-needs.js'

/** The `params` key that names one of the images of a file, counted from 0. */
export const IMAGE_INDEX = 'image_index'

/** Throws BAD_PARAMS for anything but a whole number from 0 on; undefined when there is none. */
export function imageIndexOf(params: Readonly<Record<string, unknown>>): number | undefined {
  const value = params[IMAGE_INDEX]
  if (value === undefined || value === null || value === '') return undefined
  const index = typeof value === 'string' ? Number(value) : value
  if (typeof index === 'number' && Number.isInteger(index) && index >= 0) return index
  throw new AppError('BAD_PARAMS', `'${IMAGE_INDEX}' has to be a whole number from 0 on`)
}

/** The image as the model takes it, with a note for what was changed. Throws BAD_PARAMS when it cannot fit. */
export function fitImage(
  read: ReadResult,
  { view, channels: wanted }: ImageNeeds,
  index: number | undefined,
): ReadResult {
  const one = chosenImage(read, view !== 'volume' && wanted === 3 ? 'one or three' : wanted, index)
  const { volume, colours } = one
  if (colours === undefined) {
    if (view !== 'flat' || wanted !== 3 || volume.channels !== 1) return one
    return noted(
      one,
      repeated(volume, 3),
      'the image is grey and the model takes colours: red, green and blue are the same',
    )
  }
  if (wanted === 1)
    return noted(one, luminance(volume), 'the image is in colour and the model takes grey: its luminance was used')
  if (colours === 4 && wanted !== 4)
    return noted(one, firstChannels(volume, 3), 'the transparency of the image was not used')
  // colours are no axis of the mask, whichever one the file keeps them on
  return { ...one, volume: withData(volume, volume.data, volume.channels) }
}

/** The image of that number among the time points or channels of a file, with a note. Throws BAD_PARAMS when there is none. */
export function imageNumber(read: ReadResult, index: number): ReadResult {
  const { volume } = read
  const each = read.colours ?? 1
  const images = volume.channels / each
  if (index >= images) {
    const range =
      images === 1
        ? 'the file holds one image, number 0'
        : `the file holds ${images} images, numbers 0 to ${images - 1}`
    throw new AppError('BAD_PARAMS', `'${IMAGE_INDEX}' is ${index}, but ${range}`)
  }
  if (images === 1) return read
  const n = voxelCount(volume) * each
  const data = volume.data.subarray(index * n, (index + 1) * n) as VoxelArray
  return noted(
    read,
    withData(volume, data, each),
    `of the ${images} images in the file, number ${index} was used ('${IMAGE_INDEX}')`,
  )
}

/** One of several images, when the model takes fewer; all of them when it takes as many. A model for colours takes a grey image too. */
function chosenImage(
  read: ReadResult,
  wanted: number | 'one or three' | undefined,
  index: number | undefined,
): ReadResult {
  if (index !== undefined) return imageNumber(read, index)
  const each = read.colours ?? 1
  const images = read.volume.channels / each
  const isAll = each === 1 && images === (wanted === 'one or three' ? 3 : wanted)
  if (images === 1 || wanted === undefined || isAll) return read
  const takes = wanted === 1 || wanted === 'one or three' || each > 1 ? 'one' : `${wanted}`
  throw new AppError(
    'BAD_PARAMS',
    `the file holds ${images} images (time points or channels), and this model takes ${takes}`,
    {
      hint:
        takes === 'one'
          ? `name one with params {"${IMAGE_INDEX}": 0} to {"${IMAGE_INDEX}": ${images - 1}}, or send a file of one image`
          : `send a file of ${wanted} images, or ${wanted} files`,
    },
  )
}

function noted(read: ReadResult, volume: Volume, note: string): ReadResult {
  const { colours, ...rest } = read
  const kept = colours !== undefined && volume.channels % 3 === 0 ? { colours: volume.channels as 3 } : {}
  return { ...rest, ...kept, volume, notes: [...read.notes, note] }
}

/** Other voxels on the same grid: one image, so its file has no axis of time. */
function withData({ size, affine, nifti }: Volume, data: VoxelArray, channels: number): Volume {
  return makeVolume(size, affine, data, { channels, nifti: nifti && { ...nifti, dims: Math.min(nifti.dims, 3) } })
}

function firstChannels(volume: Volume, channels: number): Volume {
  return withData(volume, volume.data.subarray(0, channels * voxelCount(volume)) as VoxelArray, channels)
}

function repeated(volume: Volume, times: number): Volume {
  const n = volume.data.length
  const data = new (volume.data.constructor as new (length: number) => VoxelArray)(n * times)
  for (let i = 0; i < times; i++) data.set(volume.data, i * n)
  return withData(volume, data, times)
}

/** 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601-7, 2.5.1); bytes stay bytes, rounded. */
function luminance(volume: Volume): Volume {
  const { data } = volume
  const n = voxelCount(volume)
  const grey = data instanceof Uint8Array ? new Uint8ClampedArray(n) : new Float32Array(n)
  for (let i = 0; i < n; i++) grey[i] = 0.299 * data[i]! + 0.587 * data[n + i]! + 0.114 * data[2 * n + i]!
  return withData(volume, grey instanceof Float32Array ? grey : new Uint8Array(grey.buffer), 1)
}

/** The array as nibabel (i, j, k) or PIL (column, row) would give it, channels last; a single slice as `view` says. */
export function fieldOf(
  { volume }: Pick<ReadResult, 'volume'>,
  view: ImageNeeds['view'],
  most: Pick<SourceGrid, 'mostVoxels' | 'room'> = {},
): ImageField {
  const { size, affine, nifti } = volume
  const slice = sliceAxis(size)
  const plane = [...'XYZ'].filter((_, axis) => axis !== slice).join('')
  const axes = slice === undefined || view === 'volume' ? 'XYZ' : view === 'flat' ? plane : `${plane}${'XYZ'[slice]}`
  return {
    volume,
    content: 'intensity',
    axes: `${axes}${volume.channels > 1 ? 'C' : ''}`,
    source: { size, affine, nifti, ...most },
    undo: [],
  }
}

/** The axis across the one slice of an image, z when several might be it; undefined for a volume. */
export function sliceAxis(size: Vec3): 0 | 1 | 2 | undefined {
  return ([2, 1, 0] as const).find((axis) => size[axis] === 1)
}
