/** Voxels in the type that they are written in. */
import { AppError } from '../errors.js'
import { asPlainWidth } from '../volume/blocks.js'
import type { VoxelArray } from '../volume/volume.js'
import type { DtypeName } from './format.js'
import { DTYPES, dtypeOf, firstFitting, isFloat, rangeOf, type ValueRange } from './voxel-types.js'

/**
 * The type voxels are written in. Label maps: the smallest of uint8, uint16 and int32 that holds them (float32 when they are no whole numbers), unless
 * one is asked for. Intensities keep their type. Values that do not fit the wanted type throw BAD_PARAMS.
 */
export function writtenType(data: VoxelArray, kind: 'labels' | 'intensity', wanted: DtypeName | undefined): DtypeName {
  const have = dtypeOf(data)
  if (have === wanted || (wanted === undefined && (kind === 'intensity' || have === 'uint8'))) return have
  if (wanted !== undefined && isFloat(wanted)) return wanted
  const range = rangeOf(data)
  const dtype = wanted ?? smallestLabelType(range, have)
  if (isFloat(dtype)) return dtype
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
  return dtype
}

function smallestLabelType(range: ValueRange, have: DtypeName): DtypeName {
  if (!range.integral) return have === 'float64' ? 'float64' : 'float32'
  return firstFitting(['uint8', 'uint16', 'int32'], range) ?? 'float64'
}

/** The voxels in another type, fractions cut off as numpy's astype does it; the same array where that is their own. */
export function castVoxels(data: VoxelArray, dtype: DtypeName): VoxelArray {
  if (dtypeOf(data) === dtype) return data
  const target = DTYPES[dtype].make(data.length)
  target.set(data)
  return target
}

/** Voxels of each channel that are converted at once. */
const PIECE_VOXELS = 1024 * 1024

/**
 * The bytes of the voxels in another type, piece by piece, so that no second volume is made; all at once where they are
 * written as they are. `samples` channels, which lie one after the other, go side by side.
 */
export function* castBytes(data: VoxelArray, dtype: DtypeName, samples = 1): Generator<Uint8Array> {
  if (samples === 1 && dtypeOf(data) === dtype) {
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    return
  }
  const voxels = data.length / samples
  for (let start = 0; start < voxels; start += PIECE_VOXELS) {
    const count = Math.min(PIECE_VOXELS, voxels - start)
    const piece = DTYPES[dtype].make(count * samples)
    if (samples === 1) piece.set(data.subarray(start, start + count))
    for (let c = 0; samples > 1 && c < samples; c++) {
      const plane = castVoxels(data.subarray(c * voxels + start, c * voxels + start + count) as VoxelArray, dtype)
      const [from, to] = [asPlainWidth(plane), asPlainWidth(piece)]
      for (let i = 0, at = c; i < count; i++, at += samples) to[at] = from[i]!
    }
    yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength)
  }
}
