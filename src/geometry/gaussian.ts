import type { Vec3 } from '../volume/volume.js'

/** Convolves along one axis with an odd, symmetric kernel; zero beyond the border. Channels are slowest in `data`. */
export function smoothAxis(data: Float32Array, size: Vec3, axis: 0 | 1 | 2, kernel: Float64Array): Float32Array {
  const length = size[axis]
  const inner = axis === 0 ? 1 : axis === 1 ? size[0] : size[0] * size[1]
  const outer = data.length / inner / length
  const tail = (kernel.length - 1) / 2
  const out = new Float32Array(data.length)
  for (let o = 0; o < outer; o++) {
    const base = o * length * inner
    for (let t = 0; t < length; t++) {
      const first = Math.max(0, t - tail)
      const last = Math.min(length - 1, t + tail)
      for (let i = 0; i < inner; i++) {
        let sum = 0
        for (let s = first; s <= last; s++) sum += data[base + s * inner + i]! * kernel[s - t + tail]!
        out[base + t * inner + i] = sum
      }
    }
  }
  return out
}
