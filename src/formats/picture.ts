/**
 * PNG and JPEG, through sharp. Pixel [x, y] is column x of row y as stored: an EXIF rotation is not applied, so that
 * clicks and masks fit the file as it is. Colour profiles are not applied either; transparency is dropped. 8-bit and
 * 16-bit samples stay what they are. A picture says nothing about millimetres: its affine is the identity.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { AppError } from '../errors.js'
import { identity4 } from '../volume/affine.js'
import { makeVolume, type Volume, type VoxelArray } from '../volume/volume.js'
import type { ReadLimits, ReadResult } from './format.js'
import { toPlanes } from './voxel-data.js'
import { dtypeOf } from './voxel-types.js'

const PNG_MAGIC = '89504e470d0a1a0a'
const JPEG_MAGIC = 'ffd8ff'

export function pictureKind(head: Uint8Array): 'png' | 'jpeg' | undefined {
  const hex = Buffer.from(head.subarray(0, 8)).toString('hex')
  return hex === PNG_MAGIC ? 'png' : hex.startsWith(JPEG_MAGIC) ? 'jpeg' : undefined
}

/** Size [width, height, 1]; grey gives one channel, colour three (red, green, blue). */
export async function readPicture(path: string, format: 'png' | 'jpeg', limits: ReadLimits): Promise<ReadResult> {
  // The bytes rather than the path: libvips remembers what it read from a path, which may hold another picture by now.
  const bytes = await readFile(path)
  const sharp = await loadSharp()
  try {
    const image = sharp(bytes, {
      limitInputPixels: false,
      failOn: 'error',
      ignoreIcc: true,
      autoOrient: false,
    })
    const { width, height, depth, space } = await image.metadata()
    const wide = depth === 'ushort'
    const grey = space === 'b-w' || space === 'grey16'
    const channels = grey ? 1 : 3
    checkPixels(width, height, channels, wide ? 2 : 1, limits)
    const { data, info } = await image
      .removeAlpha()
      .toColourspace(grey ? (wide ? 'grey16' : 'b-w') : wide ? 'rgb16' : 'srgb')
      .raw({ depth: wide ? 'ushort' : 'uchar' })
      .toBuffer({ resolveWithObject: true })
    const samples = wide
      ? new Uint16Array(data.buffer, data.byteOffset, data.length / 2)
      : new Uint8Array(data.buffer, data.byteOffset, data.length)
    const volume = makeVolume([info.width, info.height, 1], identity4(), toPlanes(samples, info.channels), {
      channels: info.channels,
    })
    return { volume, format, extension: '.png', notes: [] }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('UNREADABLE_IMAGE', `the ${format === 'png' ? 'PNG' : 'JPEG'} picture is damaged or cut short`, {
      hint: 'Send the file again.',
      cause: error,
    })
  }
}

/** Only when there is a picture: it costs a runner 25 MB and a tenth of a second, and most never see one. */
async function loadSharp() {
  return (await import('sharp')).default
}

function checkPixels(width: number, height: number, channels: number, width8: number, limits: ReadLimits): void {
  const voxels = width * height * channels
  if (voxels > limits.maxVoxels)
    throw new AppError(
      'TOO_LARGE',
      `the picture is ${width}x${height}x${channels}; at most ${limits.maxVoxels} voxels are accepted`,
      {
        hint: 'The limit is --max-voxels.',
      },
    )
  if (voxels * width8 > limits.maxVolumeBytes)
    throw new AppError(
      'TOO_LARGE',
      `the picture unpacks to ${voxels * width8} bytes; at most ${limits.maxVolumeBytes} are accepted`,
      {
        hint: 'The limit is --max-volume-bytes.',
      },
    )
}

/**
 * A 2-D volume of one channel (grey) or three (colour) as PNG, 8-bit where its type is uint8, else 16-bit; or as JPEG.
 * `data` replaces the volume's own voxels, already in the type to write. Throws BAD_PARAMS for what a picture cannot hold.
 */
export async function writePicture(
  { size: [width, height, depth], channels }: Volume,
  data: VoxelArray,
  path: string,
  format: 'png' | 'jpeg',
): Promise<void> {
  const dtype = dtypeOf(data)
  if (depth !== 1) throw cannot(`the result is a volume of ${width}x${height}x${depth} and a picture has one slice`)
  if (channels !== 1 && channels !== 3) throw cannot(`the result has ${channels} channels and a picture has 1 or 3`)
  if (dtype !== 'uint8' && (dtype !== 'uint16' || format === 'jpeg'))
    throw cannot(`the result is ${dtype} and a ${format === 'png' ? 'PNG holds uint8 or uint16' : 'JPEG holds uint8'}`)
  const sharp = await loadSharp()
  const raw = sharp(toSamples(data, channels), { raw: { width, height, channels }, limitInputPixels: false })
  const grey = dtype === 'uint16' ? 'grey16' : 'b-w'
  const image = raw.toColourspace(channels === 1 ? grey : dtype === 'uint16' ? 'rgb16' : 'srgb')
  const bytes = await (format === 'png' ? image.png({ compressionLevel: 6 }) : image.jpeg({ quality: 95 })).toBuffer()
  // Not by libvips itself, whose error would not say that the disk is full.
  await writeFile(path, bytes)
}

function toSamples(data: Uint8Array | Uint16Array, channels: number): Uint8Array | Uint16Array
function toSamples(data: VoxelArray, channels: number): VoxelArray
function toSamples(data: VoxelArray, channels: number): VoxelArray {
  if (channels === 1) return data
  const pixels = data.length / channels
  const samples = data.slice()
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < pixels; i++) samples[i * channels + c] = data[c * pixels + i]!
  }
  return samples
}

function cannot(what: string): AppError {
  return new AppError('BAD_PARAMS', `the result cannot be a picture: ${what}`, {
    hint: "Ask for result_extension '.nii.gz' or '.nrrd'.",
  })
}
