/**
 * Two numbers in a TIFF's directories that decide how libvips hands out its pixels, and that are changed in memory before
 * it sees them: it clips signed 16-bit samples at 0, and turns palette indices into colours.
 */
const SAMPLE_FORMAT = 339
const PHOTOMETRIC = 262
const UNSIGNED = 1
const SIGNED = 2
const BLACK_IS_ZERO = 1
const PALETTE = 3
const SHORT = 3

/** Directories after one another; a loop of offsets ends here too. */
const MOST_DIRECTORIES = 10_000

export interface TiffChange {
  readonly bytes: Uint8Array
  /** Whether there was something to change. */
  readonly changed: boolean
}

/** A copy whose signed samples are called unsigned: the same bits, to be read as signed again. */
export function signedAsUnsigned(bytes: Uint8Array): TiffChange {
  return replaced(bytes, SAMPLE_FORMAT, SIGNED, UNSIGNED)
}

/** A copy whose palette pictures are grey ones of their indices. */
export function paletteAsGrey(bytes: Uint8Array): TiffChange {
  return replaced(bytes, PHOTOMETRIC, PALETTE, BLACK_IS_ZERO)
}

/** Replaces the value `from` of a tag of 16-bit numbers by `to` in every directory. Anything odd is left to libvips to refuse. */
function replaced(source: Uint8Array, tag: number, from: number, to: number): TiffChange {
  const bytes = new Uint8Array(source)
  const view = new DataView(bytes.buffer)
  const little = bytes[0] === 0x49
  const big = view.getUint16(2, little) === 43
  const [countBytes, entryBytes, offsetBytes] = big ? [8, 20, 8] : [2, 12, 4]
  const offsetAt = (at: number) => (big ? Number(view.getBigUint64(at, little)) : view.getUint32(at, little))
  let changed = false
  try {
    let directory = offsetAt(big ? 8 : 4)
    for (let n = 0; directory !== 0 && n < MOST_DIRECTORIES; n++) {
      const count = big ? Number(view.getBigUint64(directory, little)) : view.getUint16(directory, little)
      for (let i = 0; i < count; i++) {
        const entry = directory + countBytes + i * entryBytes
        if (view.getUint16(entry, little) !== tag || view.getUint16(entry + 2, little) !== SHORT) continue
        const values = big ? Number(view.getBigUint64(entry + 4, little)) : view.getUint32(entry + 4, little)
        const inline = 2 * values <= offsetBytes
        const at = entry + 4 + offsetBytes
        const place = inline ? at : offsetAt(at)
        for (let v = 0; v < Math.min(values, 4); v++) {
          if (view.getUint16(place + 2 * v, little) !== from) continue
          view.setUint16(place + 2 * v, to, little)
          changed = true
        }
      }
      directory = offsetAt(directory + countBytes + count * entryBytes)
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
  }
  return { bytes, changed }
}
