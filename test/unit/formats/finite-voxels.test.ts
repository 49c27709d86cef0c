import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ReadResult } from '../../../src/formats/format.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { niftiBytes } from '../../helpers/nifti-bytes.js'
import { roomyLimits, tempFolder } from '../../helpers/volumes.js'

async function read(bytes: Uint8Array): Promise<ReadResult> {
  await using folder = await tempFolder()
  const path = join(folder.path, 'upload')
  await writeFile(path, bytes)
  return await readVolume([path], roomyLimits)
}

function nrrd(voxels: Float32Array | Float64Array, sizes: string): Uint8Array {
  const type = voxels instanceof Float32Array ? 'float' : 'double'
  const dimension = sizes.split(' ').length
  const header = `NRRD0004\ntype: ${type}\ndimension: ${dimension}\nsizes: ${sizes}\nendian: little\nencoding: raw\n\n`
  return Buffer.concat([Buffer.from(header), new Uint8Array(voxels.buffer)])
}

const [nan, inf] = [Number.NaN, Infinity]

describe('voxels that are no numbers are replaced and told, in', () => {
  it.each<{ name: string; file: Uint8Array; want: number[]; note: string }>([
    {
      name: 'a float32 NIfTI: one NaN becomes the least voxel, when that is below 0',
      file: niftiBytes({ datatype: 16, voxels: [-1000, nan, 3, 4] }),
      want: [-1000, -1000, 3, 4],
      note: '1 voxel is NaN or infinite and was read as -1000',
    },
    {
      name: 'a float32 NIfTI without negative voxels: it becomes 0',
      file: niftiBytes({ datatype: 16, voxels: [100, nan, 300, 400] }),
      want: [100, 0, 300, 400],
      note: '1 voxel is NaN or infinite and was read as 0',
    },
    {
      name: 'a float64 NIfTI of either byte order: both infinities too',
      file: niftiBytes({ datatype: 64, littleEndian: false, voxels: [inf, -inf, -3, 4] }),
      want: [-3, -3, -3, 4],
      note: '2 voxels are NaN or infinite and were read as -3',
    },
    {
      name: 'a float64 NIfTI: what float32, in which networks compute, cannot hold',
      file: niftiBytes({ datatype: 64, voxels: [1, 1e39, 3, 4] }),
      want: [1, 0, 3, 4],
      note: '1 voxel is NaN or infinite and was read as 0',
    },
    {
      name: 'whole numbers that a scaling makes infinite',
      file: niftiBytes({ version: 2, slope: 1e305, voxels: [0, 30_000, 0, 0] }),
      want: [0, 0, 0, 0],
      note: '1 voxel is NaN or infinite and was read as 0',
    },
    {
      name: 'a scaled float32: NaN stays no number when it is scaled',
      file: niftiBytes({ datatype: 16, slope: 2, inter: -10, voxels: [1, nan, 3, 4] }),
      want: [-8, -8, -4, -2],
      note: '1 voxel is NaN or infinite and was read as -8',
    },
    {
      name: 'one channel of several: each by its own least voxel',
      file: niftiBytes({ datatype: 16, dim: [4, 2, 1, 1, 2], voxels: [-7, 2, -100, nan] }),
      want: [-7, 2, -100, -100],
      note: '1 voxel is NaN or infinite and was read as -100',
    },
    {
      name: 'several channels',
      file: niftiBytes({ datatype: 16, dim: [4, 2, 1, 1, 2], voxels: [-7, nan, -100, nan] }),
      want: [-7, -7, -100, -100],
      note: '2 voxels are NaN or infinite and were read as the least value of their channel',
    },
    {
      name: 'a channel that is none at all',
      file: niftiBytes({ datatype: 16, dim: [4, 2, 1, 1, 2], voxels: [5, 6, nan, nan] }),
      want: [5, 6, 0, 0],
      note: '2 voxels are NaN or infinite and were read as 0',
    },
    {
      name: 'a float NRRD, at its very end',
      file: nrrd(Float32Array.of(1, 2, 3, 4, -5, nan), '3 2 1'),
      want: [1, 2, 3, 4, -5, -5],
      note: '1 voxel is NaN or infinite and was read as -5',
    },
    {
      name: 'a double NRRD',
      file: nrrd(Float64Array.of(-inf, 2), '2 1 1'),
      want: [0, 2],
      note: '1 voxel is NaN or infinite and was read as 0',
    },
  ])('$name', async ({ file, want, note }) => {
    const { volume, notes } = await read(file)
    expect(Array.from(volume.data)).toEqual(want)
    expect(notes).toEqual([note])
  })
})

it('an image without any number is refused, saying so', async () => {
  const file = niftiBytes({ datatype: 16, voxels: [nan, nan, inf, nan] })
  await expect(read(file)).rejects.toMatchObject({
    code: 'UNREADABLE_IMAGE',
    message: 'the image holds no number: all its voxels are NaN or infinite',
  })
})

it('an image of numbers has no note', async () => {
  expect((await read(niftiBytes({ datatype: 16, voxels: [3.4e38, -3.4e38, 0, 1e-45] }))).notes).toEqual([])
})
