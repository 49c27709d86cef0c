/** Colour frames of DICOM objects -> red, green and blue planes. */
import { AppError } from '../errors.js'
import type { VoxelArray } from '../volume/volume.js'
import type { DicomHeader, Palette } from './dicom-header.js'
import type { PixelLayout } from './dicom-pixels.js'

export function isColour({ photometric, samples }: DicomHeader): boolean {
  return photometric === 'PALETTE COLOR' || samples === 3
}

/** What `frame`, in bytes, holds as numbers: one array over the same memory. */
export function samplesOf(frame: Uint8Array, { bitsAllocated, signed, sampleType }: DicomHeader): VoxelArray {
  const { buffer, byteOffset, byteLength } = frame
  if (sampleType === 'float32') return new Float32Array(buffer, byteOffset, byteLength / 4)
  if (sampleType === 'float64') return new Float64Array(buffer, byteOffset, byteLength / 8)
  if (bitsAllocated <= 8) return signed && bitsAllocated === 8 ? new Int8Array(buffer, byteOffset, byteLength) : frame
  if (bitsAllocated === 16)
    return signed
      ? new Int16Array(buffer, byteOffset, byteLength / 2)
      : new Uint16Array(buffer, byteOffset, byteLength / 2)
  return signed
    ? new Int32Array(buffer, byteOffset, byteLength / 4)
    : new Uint32Array(buffer, byteOffset, byteLength / 4)
}

/**
 * Three planes, red, green and blue, of a frame in the given layout; 8-bit from a palette, else in the samples' own type.
 * YBR is converted as PS3.3 C.7.6.3.1.2 has it. Throws UNSUPPORTED_FORMAT where it cannot be.
 */
export function colourPlanes(
  header: DicomHeader,
  { colour, planar }: PixelLayout,
  frame: Uint8Array,
  name: string,
): VoxelArray {
  const { palette, bitsAllocated, rows, columns } = header
  const samples = samplesOf(frame, header)
  if (colour === 'palette') {
    if (!palette) throw unsupported(name, 'a palette that cannot be read')
    return paletteColours(samples, palette)
  }
  const voxels = rows * columns
  const planes = planar ? samples : sideBySide(samples, voxels)
  if (colour === 'ybr') {
    if (bitsAllocated !== 8) throw unsupported(name, `YBR colours of ${bitsAllocated} bits`)
    toRgb(planes as Uint8Array, voxels)
  }
  return planes
}

function sideBySide(samples: VoxelArray, voxels: number): VoxelArray {
  const planes = samples.slice()
  for (let i = 0, from = 0; i < voxels; i++, from += 3) {
    planes[i] = samples[from]!
    planes[voxels + i] = samples[from + 1]!
    planes[2 * voxels + i] = samples[from + 2]!
  }
  return planes
}

/** The exact coefficients follow from ITU-R BT.601's 0.299, 0.587 and 0.114; rounded half up. */
function toRgb(planes: Uint8Array, voxels: number): void {
  const clamped = new Uint8ClampedArray(planes.buffer, planes.byteOffset, planes.length)
  for (let i = 0; i < voxels; i++) {
    const y = planes[i]! + 0.5
    const cb = planes[voxels + i]! - 128
    const cr = planes[2 * voxels + i]! - 128
    clamped[i] = Math.floor(y + 1.402 * cr)
    clamped[voxels + i] = Math.floor(y - ((0.114 * 1.772) / 0.587) * cb - ((0.299 * 1.402) / 0.587) * cr)
    clamped[2 * voxels + i] = Math.floor(y + 1.772 * cb)
  }
}

function paletteColours(indices: VoxelArray, palette: Palette): Uint8Array {
  const voxels = indices.length
  const planes = new Uint8Array(voxels * 3)
  const last = palette.red.length - 1
  const shift = palette.bits - 8
  for (let i = 0; i < voxels; i++) {
    const entry = Math.min(last, Math.max(0, indices[i]! - palette.first))
    planes[i] = palette.red[entry]! >> shift
    planes[voxels + i] = palette.green[entry]! >> shift
    planes[2 * voxels + i] = palette.blue[entry]! >> shift
  }
  return planes
}

function unsupported(name: string, what: string): AppError {
  return new AppError('UNSUPPORTED_FORMAT', `${name} has ${what}, which is not supported`)
}
