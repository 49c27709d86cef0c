/** Colour frames of DICOM objects -> red, green and blue planes. */
import { AppError } from '../errors.js'
import type { DicomHeader, Palette } from './dicom-header.js'

const COLOURS: readonly string[] = ['RGB', 'YBR_FULL', 'YBR_FULL_422', 'YBR_ICT', 'YBR_RCT', 'YBR_PARTIAL_420']

export function isColour({ photometric, samples }: DicomHeader): boolean {
  return photometric === 'PALETTE COLOR' || samples === 3
}

/**
 * Three planes of 8-bit values. Native YBR_FULL is converted (PS3.3 C.7.6.3.1.2); compressed frames come out of their
 * decoder as RGB. Throws UNSUPPORTED_FORMAT for anything else.
 */
export function colourPlanes(header: DicomHeader, frame: Uint8Array, name: string): Uint8Array {
  const { photometric, palette, bitsAllocated, pixels, samples, rows, columns } = header
  const voxels = rows * columns
  if (photometric === 'PALETTE COLOR') {
    if (!palette || samples !== 1 || bitsAllocated > 16) throw unsupported(name, 'a palette that cannot be read')
    const indices = bitsAllocated === 16 ? new Uint16Array(frame.buffer, frame.byteOffset, voxels) : frame
    return paletteColours(indices, palette)
  }
  if (!COLOURS.includes(photometric) || bitsAllocated !== 8) throw unsupported(name, `${bitsAllocated}-bit colours`)
  const native = pixels.length !== undefined
  if (native && photometric !== 'RGB' && photometric !== 'YBR_FULL')
    throw unsupported(name, 'subsampled colours that are not compressed')
  // Decoders give samples side by side, whatever the header says of planes.
  const planes = header.planar && native ? frame : sideBySide(frame, voxels)
  if (native && photometric === 'YBR_FULL') toRgb(planes, voxels)
  return planes
}

function sideBySide(frame: Uint8Array, voxels: number): Uint8Array {
  const planes = new Uint8Array(voxels * 3)
  for (let i = 0, from = 0; i < voxels; i++, from += 3) {
    planes[i] = frame[from]!
    planes[voxels + i] = frame[from + 1]!
    planes[2 * voxels + i] = frame[from + 2]!
  }
  return planes
}

function toRgb(planes: Uint8Array, voxels: number): void {
  const clamped = new Uint8ClampedArray(planes.buffer, planes.byteOffset, planes.length)
  for (let i = 0; i < voxels; i++) {
    const y = planes[i]!
    const cb = planes[voxels + i]! - 128
    const cr = planes[2 * voxels + i]! - 128
    clamped[i] = y + 1.402 * cr
    clamped[voxels + i] = y - 0.344136 * cb - 0.714136 * cr
    clamped[2 * voxels + i] = y + 1.772 * cb
  }
}

function paletteColours(indices: Uint8Array | Uint16Array, palette: Palette): Uint8Array {
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
  return new AppError('UNSUPPORTED_FORMAT', `${name} has ${what}, which are not supported`)
}
