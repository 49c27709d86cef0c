/** A MetaImage -> Volume. */
import { makeVolume } from '../volume/volume.js'
import { openBytes, openChain } from './byte-source.js'
import { checkDataFiles } from './data-files.js'
import type { ReadLimits, ReadResult } from './format.js'
import type { MetaHeader } from './meta-header.js'
import { readTextVoxels, TEXT_BYTES } from './text-voxels.js'
import { checkedVoxels, framesToPlanes, readVoxels } from './voxel-data.js'
import { bytesOf } from './voxel-types.js'

/** Reads the voxels of a header at `path`, from there or from `dataPaths`, in the order in which it names them. */
export async function readMetaVoxels(
  header: MetaHeader,
  path: string,
  dataPaths: readonly string[],
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult> {
  const { size, times, samples, type, skip, text } = header
  const packing = header.compressed ? 'zlib' : 'none'
  if (header.dataFiles) checkDataFiles(header.dataFiles, dataPaths)
  const source = header.dataFiles
    ? await openChain(dataPaths, { packing, signal })
    : await openBytes(path, { start: header.headerBytes, packing, signal })
  try {
    const sizes = [...size, times * samples].slice(0, times * samples > 1 ? 4 : 3)
    const width = bytesOf(type)
    const room = text ? { ...source, mostBytes: Number.POSITIVE_INFINITY } : source
    const count = checkedVoxels(sizes, width, limits, room, {
      leadBytes: Math.max(0, skip),
      peak: text ? TEXT_BYTES + width : width,
    })
    await source.skip(skip >= 0 ? skip : header.compressed ? 0 : Math.max(0, source.mostBytes - count * width))
    const { littleEndian } = header
    const planes = text
      ? framesToPlanes(await readTextVoxels(source, type, count), samples, times, limits)
      : await readVoxels(source, { type, count, littleEndian, samples, frames: times }, limits)
    await source.finish()
    const volume = makeVolume(size, header.affine, planes, { channels: times * samples })
    // Bytes in threes or fours are colours to ITK as well.
    const colours = type === 'uint8' && (samples === 3 || samples === 4) ? { colours: samples as 3 | 4 } : {}
    return { volume, format: 'metaimage', extension: '.mha', ...colours, notes: header.notes }
  } finally {
    await source.close()
  }
}
