/** A NRRD file with attached header -> Volume. */
import { makeVolume } from '../volume/volume.js'
import { openBytes } from './byte-source.js'
import type { ReadLimits, ReadResult } from './format.js'
import type { NrrdHeader } from './nrrd-header.js'
import { checkedVoxels, readVoxels, toPlanes } from './voxel-data.js'
import { bytesOf } from './voxel-types.js'

export async function readNrrdVoxels(
  header: NrrdHeader,
  path: string,
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult> {
  const { size, channels, type } = header
  const source = await openBytes(path, { start: header.headerBytes, gzip: header.gzip, signal })
  try {
    const sizes = channels > 1 ? [...size, channels] : size
    const width = bytesOf(type)
    const count = checkedVoxels(sizes, width, limits, source, Math.max(0, header.byteSkip))
    const lead = header.byteSkip >= 0 ? header.byteSkip : header.gzip ? 0 : source.mostBytes - count * width
    await source.skip(lead)
    const data = await readVoxels(source, type, count, header.littleEndian)
    await source.finish()
    return {
      volume: makeVolume(size, header.affine, header.channelsFirst ? toPlanes(data, channels) : data, { channels }),
      format: 'nrrd',
      extension: '.nrrd',
      ...(header.colours === undefined ? {} : { colours: header.colours }),
      notes: header.notes,
    }
  } finally {
    await source.close()
  }
}
