/** Between our tensors and the element types of a network. */
import type { Tensor, TensorType } from '../contract/tensor.js'
import { float32FromHalf, halfFromFloat32 } from '../util/float16.js'

/** Element arrays as onnxruntime and the Open Inference Protocol take them. */
export type WireArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint8Array
  | Uint16Array

/** Elements of a shape. */
export function elementCount(dims: readonly number[]): number {
  let count = 1
  for (const d of dims) count *= d
  return count
}

const RANGES: Readonly<Partial<Record<TensorType, readonly [number, number]>>> = {
  int32: [-2147483648, 2147483647],
  int16: [-32768, 32767],
  int8: [-128, 127],
  uint8: [0, 255],
  uint16: [0, 65535],
}

const INTEGER_ARRAYS = {
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
} as const

/**
 * The values of a tensor in the element type a network wants. Reals become integers by truncation, as numpy's astype
 * does, but saturate at the type's ends instead of wrapping; bool is 1 where the value is not 0. Values that already
 * have the type are passed on without a copy.
 */
export function toWire(data: Tensor['data'], type: TensorType): WireArray {
  switch (type) {
    case 'float32':
      return data instanceof Float32Array ? data : Float32Array.from(data)
    case 'float64':
      return data instanceof Float64Array ? data : Float64Array.from(data)
    case 'float16':
      return halfFromFloat32(data instanceof Float32Array ? data : Float32Array.from(data))
    case 'int64': {
      const out = new BigInt64Array(data.length)
      for (let i = 0; i < data.length; i++) {
        const value = Math.trunc(data[i]!)
        out[i] = BigInt(Number.isFinite(value) ? value : 0)
      }
      return out
    }
    case 'bool': {
      const out = new Uint8Array(data.length)
      for (let i = 0; i < data.length; i++) out[i] = data[i] === 0 ? 0 : 1
      return out
    }
    default: {
      const Wanted = INTEGER_ARRAYS[type]
      if (data instanceof Wanted) return data
      const [low, high] = RANGES[type]!
      const out = new Wanted(data.length)
      for (let i = 0; i < data.length; i++) {
        const value = data[i]!
        out[i] = value < low ? low : value > high ? high : value
      }
      return out
    }
  }
}

/** The other way: float16 bit patterns become float32, int64 becomes float64, the rest stays what it is. */
export function fromWire(data: WireArray, type: TensorType): Tensor['data'] {
  if (type === 'float16') return float32FromHalf(data as Uint16Array)
  if (data instanceof BigInt64Array) {
    const out = new Float64Array(data.length)
    for (let i = 0; i < data.length; i++) out[i] = Number(data[i]!)
    return out
  }
  return data
}
