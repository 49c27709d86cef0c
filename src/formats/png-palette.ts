/** Palette PNGs as grey ones of their indices: a label map's label is the index, whatever colour it is shown in. */
import { crc32 } from 'node:zlib'

const SIGNATURE_BYTES = 8
/** Length and name before a chunk's data, checksum after it. */
const [BEFORE, AFTER] = [8, 4]
const PALETTE = 3
const GREY = 0

export interface PalettePng {
  /** The same picture, its samples being the indices. */
  readonly grey: Uint8Array
  /** What libpng multiplies a sample of 1, 2 or 4 bits by to fill 8. */
  readonly scale: number
}

/** Undefined for a PNG without a palette. */
export function paletteAsGrey(file: Uint8Array): PalettePng | undefined {
  const png = new Uint8Array(file) // a Buffer's slices would share its memory
  const view = new DataView(png.buffer)
  const header = SIGNATURE_BYTES + BEFORE
  if (png.length < header + 13 || png[header + 9] !== PALETTE) return undefined
  const parts: Uint8Array[] = [png.slice(0, SIGNATURE_BYTES)]
  for (let at = SIGNATURE_BYTES; at + BEFORE + AFTER <= png.length; ) {
    const end = at + BEFORE + view.getUint32(at) + AFTER
    const chunk = png.slice(at, end)
    const name = Buffer.from(chunk.subarray(4, 8)).toString('latin1')
    if (name === 'IHDR') {
      chunk[BEFORE + 9] = GREY
      new DataView(chunk.buffer).setUint32(chunk.length - AFTER, crc32(chunk.subarray(4, -AFTER)))
    }
    // The palette and what refers to it (transparency, histogram, background) mean nothing to a grey picture.
    if (name === 'IHDR' || name === 'IDAT' || name === 'IEND') parts.push(chunk)
    at = end
  }
  return { grey: Buffer.concat(parts), scale: 255 / (2 ** png[header + 8]! - 1) }
}
