/** A NIfTI file -> Volume. */
import { makeVolume, type Vec3 } from '../volume/volume.js'
import type { ByteSource } from './byte-source.js'
import type { ReadLimits, ReadResult } from './format.js'
import { niftiAffine } from './nifti-affine.js'
import { HEADER_BYTES, type NiftiHeader, skipExtensions } from './nifti-header.js'
import { checkedVoxels, readVoxels, scaledPeak, scaleVoxels } from './voxel-data.js'
import { bytesOf } from './voxel-types.js'

/**
 * Reads the voxels behind a header. `source` stands right behind the header, or at the start of the .img file of a
 * pair. Axes from the fourth on, and colours, become channels (colours fastest among them).
 */
export async function readNiftiVoxels(
  header: NiftiHeader,
  source: ByteSource,
  limits: ReadLimits,
): Promise<ReadResult> {
  const { shape, samples, geometry } = header
  const size: Vec3 = [shape[0] ?? 1, shape[1] ?? 1, shape[2] ?? 1]
  const sizes = samples > 1 ? [...shape, samples] : shape
  const { type, scaling, littleEndian, voxelOffset } = header
  const peak = scaling ? scaledPeak(type, scaling.slope, scaling.inter) : bytesOf(type)
  const count = checkedVoxels(sizes, bytesOf(type), limits, source, { leadBytes: voxelOffset, peak })
  if (header.detached) await source.skip(header.voxelOffset)
  else await skipExtensions(source, HEADER_BYTES[geometry.version], header)

  const frames = count / (size[0] * size[1] * size[2]) / samples
  const data = await readVoxels(source, { type, count, littleEndian, samples, frames }, limits)
  await source.finish()
  const { affine, notes } = niftiAffine(geometry, shape)
  return {
    volume: makeVolume(size, affine, scaling ? scaleVoxels(data, scaling.slope, scaling.inter, limits) : data, {
      channels: frames * samples,
      nifti: geometry,
    }),
    format: 'nifti',
    extension: source.compressed ? '.nii.gz' : '.nii',
    ...(samples === 1 ? {} : { colours: samples }),
    notes,
  }
}
