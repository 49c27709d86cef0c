/**
 * IEEE 754 half precision at the door: inside the runner such values travel as float32.
 * Conversion to half rounds to nearest, ties to even, as numpy does; overflow becomes infinity.
 */

/** Fills `out` with the values of the half-precision bit patterns `bits`; both of equal length. */
export function float32FromHalf(bits: Uint16Array): Float32Array {
  const out = new Float32Array(bits.length)
  const words = new Uint32Array(out.buffer)
  for (let i = 0; i < bits.length; i++) {
    const h = bits[i]!
    const sign = (h & 0x8000) << 16
    const exponent = (h >> 10) & 0x1f
    const mantissa = h & 0x3ff
    if (exponent === 0) {
      // Zero or subnormal: mantissa x 2^-24 is exact in float32.
      const value = mantissa * 2 ** -24
      out[i] = sign === 0 ? value : -value
    } else if (exponent === 31) {
      words[i] = sign | 0x7f800000 | (mantissa << 13)
    } else {
      words[i] = sign | ((exponent + 112) << 23) | (mantissa << 13)
    }
  }
  return out
}

/** The half-precision bit patterns nearest to `values`. */
export function halfFromFloat32(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length)
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  for (let i = 0; i < values.length; i++) {
    const w = words[i]!
    const sign = (w >>> 16) & 0x8000
    const magnitude = w & 0x7fffffff
    if (magnitude > 0x7f800000) {
      out[i] = sign | 0x7e00
    } else if (magnitude >= 0x477ff000) {
      // 65520 and above round to infinity.
      out[i] = sign | 0x7c00
    } else if (magnitude >= 0x38800000) {
      const odd = (magnitude >>> 13) & 1
      out[i] = sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13)
    } else if (magnitude < 0x33000000) {
      out[i] = sign
    } else {
      // Subnormal half: shift the mantissa, with its hidden one, into units of 2^-24.
      const shift = 126 - (magnitude >>> 23)
      const mantissa = (magnitude & 0x7fffff) | 0x800000
      const kept = mantissa >>> shift
      const rest = mantissa & ((1 << shift) - 1)
      const half = 1 << (shift - 1)
      out[i] = sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0))
    }
  }
  return out
}
