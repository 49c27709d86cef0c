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
  /** The same type over memory that is there. */
  readonly over: (buffer: ArrayBuffer, byteOffset: number, length: number) => VoxelArray
}

type Make = Pick<DtypeInfo, 'make' | 'over'>

const arrayOf = (type: {
  new (length: number): VoxelArray
  new (buffer: ArrayBuffer, byteOffset: number, length: number): VoxelArray
}): Make => ({
  make: (length) => new type(length),
  over: (buffer, byteOffset, length) => new type(buffer, byteOffset, length),
})

export const DTYPES: Readonly<Record<DtypeName, DtypeInfo>> = {
  uint8: { bytes: 1, min: 0, max: 255, ...arrayOf(Uint8Array) },
  int8: { bytes: 1, min: -128, max: 127, ...arrayOf(Int8Array) },
  uint16: { bytes: 2, min: 0, max: 65535, ...arrayOf(Uint16Array) },
  int16: { bytes: 2, min: -32768, max: 32767, ...arrayOf(Int16Array) },
  uint32: { bytes: 4, min: 0, max: 4294967295, ...arrayOf(Uint32Array) },
  int32: { bytes: 4, min: -2147483648, max: 2147483647, ...arrayOf(Int32Array) },
  float32: { bytes: 4, min: -Infinity, max: Infinity, ...arrayOf(Float32Array) },
  float64: { bytes: 8, min: -Infinity, max: Infinity, ...arrayOf(Float64Array) },
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
