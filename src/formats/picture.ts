/**
 * PNG, JPEG and TIFF, through sharp, and BMP. Pixel [x, y] is column x of row y as stored: an EXIF rotation is not applied,
 * so that clicks and masks fit the file as it is. Colour profiles are not applied either; transparency is dropped. Samples
 * stay the numbers that they are. A picture says nothing about millimetres: its affine is the identity.
 */
import { readFile, writeFile } from 'node:fs/promises'
import type { Metadata } from 'sharp'
import { AppError } from '../errors.js'
import { identity4 } from '../volume/affine.js'
import { makeVolume, type Volume, type VoxelArray } from '../volume/volume.js'
import { decodeBmp, decodeBmpHeader, isBmp } from './bmp.js'
import type { DtypeName, ReadLimits, ReadResult } from './format.js'
import { paletteAsGrey as palettePngAsGrey } from './png-palette.js'
import { signedAsUnsigned, paletteAsGrey as tiffPaletteAsGrey } from './tiff-tags.js'
import { askFor, toPlanes, toSamples } from './voxel-data.js'
import { DTYPES, dtypeOf } from './voxel-types.js'

export type PictureFormat = 'png' | 'jpeg' | 'tiff' | 'bmp'

const PNG_MAGIC = '89504e470d0a1a0a'
const JPEG_MAGIC = 'ffd8ff'
/** Little- and big-endian, and either with offsets of 64 bits. */
const TIFF_MAGIC = ['49492a00', '4d4d002a', '49492b00', '4d4d002b']

/** EXIF's word for a picture that is shown as it is stored. */
const UPRIGHT = 1

export function pictureKind(head: Uint8Array): PictureFormat | undefined {
  const hex = Buffer.from(head.subarray(0, 8)).toString('hex')
  if (hex === PNG_MAGIC) return 'png'
  if (hex.startsWith(JPEG_MAGIC)) return 'jpeg'
  if (TIFF_MAGIC.includes(hex.slice(0, 8))) return 'tiff'
  return isBmp(head) ? 'bmp' : undefined
}

/**
 * Size [width, height, 1]; grey gives one channel, colour three (red, green, blue). A TIFF of several pages of one size is
 * a volume of as many slices.
 */
export async function readPicture(path: string, format: PictureFormat, limits: ReadLimits): Promise<ReadResult> {
  // The bytes rather than the path: libvips remembers what it read from a path, which may hold another picture by now.
  const bytes = await readFile(path)
  try {
    if (format === 'bmp') return readBmp(bytes, limits)
    const { volume, notes } = await readPages(bytes, format, limits)
    const { orientation = UPRIGHT } = await (await open(bytes)).metadata()
    if (orientation !== UPRIGHT)
      notes.push(
        `the picture asks to be shown turned (EXIF orientation ${orientation}); its pixels are counted as stored`,
      )
    const extension = volume.size[2] > 1 ? '.nii.gz' : '.png'
    return { volume, format, extension, ...(volume.channels === 3 ? { colours: 3 } : {}), notes }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('UNREADABLE_IMAGE', `the ${format.toUpperCase()} picture is damaged or cut short`, {
      hint: 'Send the file again.',
      cause: error,
    })
  }
}

/** What a picture says of each pixel beside its colours: where label maps keep their labels too. */
export interface PictureLabels {
  /** The index into the palette, and whether its first entry is black, as the background of a label map is. */
  readonly index?: { readonly data: Uint8Array; readonly firstIsBlack: boolean } | undefined
  /** How opaque it is, where that differs from pixel to pixel. */
  readonly alpha?: VoxelArray | undefined
}

/** For a file that `readPicture` has read. */
export async function readPictureLabels(path: string, format: PictureFormat): Promise<PictureLabels> {
  const bytes = await readFile(path)
  if (format === 'jpeg') return {}
  if (format === 'bmp') {
    const header = decodeBmpHeader(bytes)
    const { index, alpha } = decodeBmp(bytes, header)
    return {
      index: index && { data: index, firstIsBlack: isBlack(header.palette) },
      alpha: alpha && varying(alpha),
    }
  }
  const palette = format === 'png' ? palettePngAsGrey(bytes) : tiffPalette(bytes)
  if (palette) {
    const grey = await decode(palette.grey, {})
    const data = Uint8Array.from(grey.data, (value) => Math.round(value / palette.scale))
    return { index: { data, firstIsBlack: await firstIsBlack(bytes, data) } }
  }
  const { hasAlpha, channels } = await (await open(bytes)).metadata()
  if (!hasAlpha) return {}
  const { data } = await decode(bytes, { only: channels - 1 })
  return { alpha: varying(data) }
}

function tiffPalette(bytes: Uint8Array): { grey: Uint8Array; scale: number } | undefined {
  const { bytes: grey, changed } = tiffPaletteAsGrey(bytes)
  return changed ? { grey, scale: 1 } : undefined
}

/** Whether the pixels of index 0 are black: looked up in the colours, since that is what they are for. */
async function firstIsBlack(bytes: Uint8Array, index: Uint8Array): Promise<boolean> {
  const at = index.indexOf(0)
  if (at < 0) return true
  const { data, channels } = await decode(bytes, {})
  const rgb = data.subarray(at * channels, at * channels + Math.min(3, channels))
  return isBlack(rgb)
}

const isBlack = (rgb: VoxelArray): boolean => rgb.subarray(0, 3).every((value) => value === 0)

function varying<T extends VoxelArray>(data: T): T | undefined {
  return data.every((value) => value === data[0]) ? undefined : data
}

/** Only when there is a picture: it costs a runner 25 MB and a tenth of a second, and most never see one. */
async function loadSharp() {
  return (await import('sharp')).default
}

async function open(bytes: Uint8Array, page = 0) {
  const sharp = await loadSharp()
  return sharp(bytes, { page, limitInputPixels: false, failOn: 'error', ignoreIcc: true, autoOrient: false })
}

/** libvips' names of sample types. */
const DEPTHS: Readonly<Record<string, DtypeName>> = {
  uchar: 'uint8',
  char: 'int8',
  ushort: 'uint16',
  short: 'int16',
  uint: 'uint32',
  int: 'int32',
  float: 'float32',
  double: 'float64',
}

interface Samples {
  readonly data: VoxelArray
  readonly width: number
  readonly height: number
  readonly channels: number
}

/** The samples of one page, interleaved, without alpha; or `only` one channel of them. */
async function decode(bytes: Uint8Array, { page = 0, only }: { page?: number; only?: number }): Promise<Samples> {
  const image = await open(bytes, page)
  const meta = await image.metadata()
  const { depth, space } = meta
  const type = DEPTHS[depth]
  if (type === undefined) throw new AppError('UNSUPPORTED_FORMAT', `the picture has samples of type ${depth}`)
  const wanted = only === undefined ? image.removeAlpha() : image.extractChannel(only as 0)
  const { data, info } = await wanted
    .toColourspace(isGrey(meta) || only !== undefined ? greySpace(space) : wide(space) ? 'rgb16' : 'srgb')
    .raw({ depth: depth as 'uchar' })
    .toBuffer({ resolveWithObject: true })
  const { bytes: width8, over } = DTYPES[type]
  // A Buffer from the pool starts anywhere; a typed array needs its own alignment.
  const aligned = data.byteOffset % width8 === 0 ? data : new Uint8Array(data)
  const samples = over(aligned.buffer as ArrayBuffer, aligned.byteOffset, data.length / width8)
  return { data: samples, width: info.width, height: info.height, channels: info.channels }
}

const wide = (space: string | undefined) => space === 'grey16' || space === 'rgb16'
const greySpace = (space: string | undefined) => (wide(space) ? 'grey16' : 'b-w')

function isGrey({ space }: Metadata): boolean {
  return space === 'b-w' || space === 'grey16'
}

/** The same bits as signed numbers. */
function signed({ data, ...rest }: Samples): Samples {
  const { buffer, byteOffset, length } = data
  const make = data.BYTES_PER_ELEMENT === 1 ? Int8Array : Int16Array
  return { ...rest, data: new make(buffer as ArrayBuffer, byteOffset, length) }
}

/** Pages of a TIFF of one size and kind as slices of a volume; else the first page, and a note. */
async function readPages(
  bytes: Uint8Array,
  format: PictureFormat,
  limits: ReadLimits,
): Promise<{ volume: Volume; notes: string[] }> {
  const meta = await (await open(bytes)).metadata()
  const count = format === 'tiff' ? (meta.pages ?? 1) : 1
  const width8 = DTYPES[DEPTHS[meta.depth] ?? 'uint8'].bytes
  const page8 = meta.width * meta.height * (isGrey(meta) ? 1 : 3) * width8
  checkPixels(meta.width, meta.height, isGrey(meta) ? count : 3 * count, limits)
  // the file, all pages, and of the one that is decoded its samples and their planes
  askFor(page8 * (count + 2), limits, 'reading the picture', bytes.byteLength)
  const unsigned = meta.depth === 'short' || meta.depth === 'char' ? signedAsUnsigned(bytes) : undefined
  const pageAt = async (page: number) => {
    const samples = await decode(unsigned?.bytes ?? bytes, { page })
    return unsigned ? signed(samples) : samples
  }
  const first = await pageAt(0)
  const joined = count > 1 ? await joinPages(first, count, pageAt) : undefined
  if (joined) {
    const note = `the ${count} pages of the TIFF became slices; it says nothing of their distance: 1 mm was used`
    return { volume: joined, notes: [note] }
  }
  const { width, height, channels } = first
  const volume = makeVolume([width, height, 1], identity4(), toPlanes(first.data, channels), { channels })
  const note = `the TIFF's ${count} pages differ in size or kind; the first was used`
  return { volume, notes: count > 1 ? [note] : [] }
}

/** Undefined when the pages are not alike. */
async function joinPages(
  first: Samples,
  count: number,
  pageAt: (page: number) => Promise<Samples>,
): Promise<Volume | undefined> {
  const { width, height, channels } = first
  const dtype = dtypeOf(first.data)
  const area = width * height
  const data = DTYPES[dtype].make(area * count * channels)
  for (let z = 0; z < count; z++) {
    const page = z === 0 ? first : await pageAt(z)
    if (page.width !== width || page.height !== height || page.channels !== channels || dtypeOf(page.data) !== dtype)
      return undefined
    const planes = toPlanes(page.data, channels)
    for (let c = 0; c < channels; c++) data.set(planes.subarray(c * area, (c + 1) * area), (c * count + z) * area)
  }
  return makeVolume([width, height, count], identity4(), data, { channels })
}

function readBmp(bytes: Uint8Array, limits: ReadLimits): ReadResult {
  const header = decodeBmpHeader(bytes)
  const { width: columns, height: rows } = header
  checkPixels(columns, rows, 3, limits)
  // red, green and blue beside one another and as planes, the palette's indices, transparency
  askFor(columns * rows * 8, limits, 'reading the picture', bytes.byteLength)
  const { rgb, width, height } = decodeBmp(bytes, header)
  const grey = rgb.every((value, i) => value === rgb[i - (i % 3)])
  const data = grey ? rgb.filter((_, i) => i % 3 === 0) : toPlanes(rgb, 3)
  const volume = makeVolume([width, height, 1], identity4(), data, { channels: grey ? 1 : 3 })
  return { volume, format: 'bmp', extension: '.png', ...(grey ? {} : { colours: 3 }), notes: [] }
}

function checkPixels(width: number, height: number, channels: number, limits: ReadLimits): void {
  const voxels = width * height * channels
  if (voxels > limits.maxVoxels)
    throw new AppError(
      'TOO_LARGE',
      `the picture is ${width}x${height}x${channels}; at most ${limits.maxVoxels} voxels are accepted`,
      {
        hint: 'The limit is --max-voxels.',
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

function cannot(what: string): AppError {
  return new AppError('BAD_PARAMS', `the result cannot be a picture: ${what}`, {
    hint: "Ask for result_extension '.nii.gz' or '.nrrd'.",
  })
}
