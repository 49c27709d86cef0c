/** Voxel types as files store them, and as memory holds them. */
import { eachBlock } from '../volume/blocks.js'
import type { VoxelArray } from '../volume/volume.js'
import type { DtypeName } from './format.js'

/** What one stored number is; 64-bit integers exist in files only. */
export type StoredType = DtypeName | 'int64' | 'uint64'

export interface DtypeInfo {
  readonly bytes: number
  /** Largest and smallest integer the type holds; infinite for the floating types. */
  readonly min: number
  readonly max: number
  readonly make: (length: number) => VoxelArray
}

export const DTYPES: Readonly<Record<DtypeName, DtypeInfo>> = {
  uint8: { bytes: 1, min: 0, max: 255, make: (n) => new Uint8Array(n) },
  int8: { bytes: 1, min: -128, max: 127, make: (n) => new Int8Array(n) },
  uint16: { bytes: 2, min: 0, max: 65535, make: (n) => new Uint16Array(n) },
  int16: { bytes: 2, min: -32768, max: 32767, make: (n) => new Int16Array(n) },
  uint32: { bytes: 4, min: 0, max: 4294967295, make: (n) => new Uint32Array(n) },
  int32: { bytes: 4, min: -2147483648, max: 2147483647, make: (n) => new Int32Array(n) },
  float32: { bytes: 4, min: -Infinity, max: Infinity, make: (n) => new Float32Array(n) },
  float64: { bytes: 8, min: -Infinity, max: Infinity, make: (n) => new Float64Array(n) },
}

export const isFloat = (dtype: StoredType): boolean => dtype === 'float32' || dtype === 'float64'

export const bytesOf = (type: StoredType): number => (type === 'int64' || type === 'uint64' ? 8 : DTYPES[type].bytes)

/** numpy's name for a typed array. */
export function dtypeOf(data: VoxelArray): DtypeName {
  if (data instanceof Uint8Array) return 'uint8'
  if (data instanceof Int8Array) return 'int8'
  if (data instanceof Uint16Array) return 'uint16'
  if (data instanceof Int16Array) return 'int16'
  if (data instanceof Uint32Array) return 'uint32'
  if (data instanceof Int32Array) return 'int32'
  return data instanceof Float32Array ? 'float32' : 'float64'
}

export interface ValueRange {
  /** Over the numbers that are not NaN; Infinity and -Infinity when there is none. */
  readonly min: number
  readonly max: number
  /** True when every number is a finite integer. */
  readonly integral: boolean
}

/** One pass over the data. */
export function rangeOf(data: VoxelArray): ValueRange {
  let min = Infinity
  let max = -Infinity
  let integral = true
  const float = isFloat(dtypeOf(data))
  eachBlock(data, (block, count) => {
    for (let i = 0; i < count; i++) {
      const value = block[i]!
      if (value < min) min = value
      if (value > max) max = value
    }
    if (float && integral) for (let i = 0; i < count && integral; i++) integral = Number.isInteger(block[i]!)
  })
  return { min, max, integral }
}

/** The first of `choices` that holds every integer of [min, max], if any does. */
export function firstFitting(choices: readonly DtypeName[], { min, max }: ValueRange): DtypeName | undefined {
  return choices.find((dtype) => min >= DTYPES[dtype].min && max <= DTYPES[dtype].max)
}
