/** A NRRD -> Volume. */
import { makeVolume } from '../volume/volume.js'
import { type ByteSource, openBytes, openChain } from './byte-source.js'
import { checkDataFiles } from './data-files.js'
import type { ReadLimits, ReadResult } from './format.js'
import type { NrrdHeader } from './nrrd-header.js'
import { isSegmentation, mergeSegments } from './seg-nrrd.js'
import { hexSource, readTextVoxels, TEXT_BYTES } from './text-voxels.js'
import { checkedVoxels, framesToPlanes, readVoxels } from './voxel-data.js'
import { bytesOf } from './voxel-types.js'

/**
 * Reads the voxels of a header at `path`, from there or from `dataPaths`, in the order in which it names them. The layers
 * of a segmentation of 3D Slicer (.seg.nrrd) become one label map.
 */
export async function readNrrdVoxels(
  header: NrrdHeader,
  path: string,
  dataPaths: readonly string[],
  limits: ReadLimits,
  signal: AbortSignal | undefined,
): Promise<ReadResult> {
  const { size, channels, type, encoding } = header
  const packing = encoding === 'gzip' ? 'gzip' : 'none'
  if (header.dataFiles) checkDataFiles(header.dataFiles, dataPaths)
  const bytes = header.dataFiles
    ? await openChain(dataPaths, { packing, signal })
    : await openBytes(path, { start: header.headerBytes, packing, signal })
  try {
    await skipLines(bytes, header.lineSkip)
    const source = encoding === 'hex' ? hexSource(bytes) : bytes
    const sizes = channels > 1 ? [...size, channels] : size
    const width = bytesOf(type)
    const room = encoding === 'text' ? { ...source, mostBytes: Number.POSITIVE_INFINITY } : source
    const count = checkedVoxels(sizes, width, limits, room, {
      leadBytes: Math.max(0, header.byteSkip),
      peak: encoding === 'text' ? TEXT_BYTES + width : width,
    })
    const last = encoding === 'raw' ? source.mostBytes - count * width : 0
    await source.skip(header.byteSkip >= 0 ? header.byteSkip : last)
    const samples = header.channelsFirst ? channels : 1
    const planes =
      encoding === 'text'
        ? framesToPlanes(await readTextVoxels(source, type, count), samples, 1, limits)
        : await readVoxels(source, { type, count, littleEndian: header.littleEndian, samples, frames: 1 }, limits)
    await source.finish()
    const volume = makeVolume(size, header.affine, planes, { channels })
    const read: ReadResult = { volume, format: 'nrrd', extension: '.nrrd', notes: header.notes }
    if (isSegmentation(header.keyValues)) return mergeSegments(read, header.keyValues, limits)
    return header.colours === undefined ? read : { ...read, colours: header.colours }
  } finally {
    await bytes.close()
  }
}

async function skipLines(source: ByteSource, count: number): Promise<void> {
  for (let line = 0; line < count; line++) {
    let piece = await source.peek(4096)
    while (piece.length > 0 && !piece.includes(0x0a)) {
      await source.skip(piece.length)
      piece = await source.peek(4096)
    }
    await source.skip(piece.indexOf(0x0a) + 1)
  }
}
