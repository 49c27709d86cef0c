/** The type voxels are written in. */
import { AppError } from '../errors.js'
import type { VoxelArray } from '../volume/volume.js'
import type { DtypeName } from './format.js'
import { DTYPES, dtypeOf, firstFitting, isFloat, rangeOf, type ValueRange } from './voxel-types.js'

/**
 * Label maps: the smallest of uint8, uint16 and int32 that holds them (float32 when they are no whole numbers), unless
 * `dtype` is asked for. Intensities keep their type. Values that do not fit the wanted type throw BAD_PARAMS; fractions
 * are cut off as numpy's astype does. The same array comes back where nothing changes.
 */
export function castVoxels(data: VoxelArray, kind: 'labels' | 'intensity', wanted: DtypeName | undefined): VoxelArray {
  const have = dtypeOf(data)
  if (have === wanted || (wanted === undefined && (kind === 'intensity' || have === 'uint8'))) return data
  if (wanted !== undefined && isFloat(wanted)) return convert(data, wanted)
  const range = rangeOf(data)
  const dtype = wanted ?? smallestLabelType(range, have)
  if (isFloat(dtype)) return convert(data, dtype)
  const { min, max } = DTYPES[dtype]
  const [low, high] = [Math.trunc(range.min), Math.trunc(range.max)]
  if (data.length > 0 && !(low >= min && high <= max)) {
    throw new AppError(
      'BAD_PARAMS',
      `result_dtype ${dtype} holds ${min} to ${max}; the result goes from ${low} to ${high}`,
      {
        hint: 'Ask for a wider type, or leave result_dtype out.',
      },
    )
  }
  return convert(data, dtype)
}

function smallestLabelType(range: ValueRange, have: DtypeName): DtypeName {
  if (!range.integral) return have === 'float64' ? 'float64' : 'float32'
  return firstFitting(['uint8', 'uint16', 'int32'], range) ?? 'float64'
}

function convert(data: VoxelArray, dtype: DtypeName): VoxelArray {
  if (dtypeOf(data) === dtype) return data
  const target = DTYPES[dtype].make(data.length)
  target.set(data)
  return target
}
