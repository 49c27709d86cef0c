/** DICOM's RLE (PS3.5 annex G): PackBits, one segment for each byte of each sample, highest byte first. */

const HEADER_BYTES = 64
const MAX_SEGMENTS = 15

/**
 * Unpacks one frame of `pixels` pixels into `target`: samples side by side, bytes of a sample little-endian. Returns false
 * when the frame has other segments than that takes, or one that ends early; a decoder that lets that pass gives zeros.
 */
export function unpackRle(encoded: Uint8Array, target: Uint8Array, samples: number, bytesPerSample: number): boolean {
  if (encoded.length < HEADER_BYTES) return false
  const view = new DataView(encoded.buffer, encoded.byteOffset, encoded.byteLength)
  const segments = view.getUint32(0, true)
  const stride = samples * bytesPerSample
  if (segments !== stride || segments > MAX_SEGMENTS) return false
  for (let s = 0; s < segments; s++) {
    const start = view.getUint32(4 + 4 * s, true)
    const end = s + 1 < segments ? view.getUint32(8 + 4 * s, true) : encoded.length
    if (start < HEADER_BYTES || end > encoded.length || start > end) return false
    const sample = Math.floor(s / bytesPerSample)
    const byte = bytesPerSample - 1 - (s % bytesPerSample)
    if (!unpackSegment(encoded, start, end, target, sample * bytesPerSample + byte, stride)) return false
  }
  return true
}

function unpackSegment(
  encoded: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  offset: number,
  stride: number,
): boolean {
  let from = start
  let to = offset
  const size = target.length
  while (to < size && from < end) {
    const control = encoded[from++]!
    if (control < 128) {
      const stop = Math.min(from + control + 1, end)
      for (; from < stop && to < size; from++, to += stride) target[to] = encoded[from]!
    } else if (control > 128 && from < end) {
      const value = encoded[from++]!
      for (let n = 257 - control; n > 0 && to < size; n--, to += stride) target[to] = value
    }
  }
  return to >= size
}
