/** MetaImage headers that are odd or wrong. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AppError, type ErrorCode } from '../../../src/errors.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { roomyLimits, tempFolder } from '../../helpers/volumes.js'

const FIELDS = { NDims: '3', DimSize: '2 2 1', ElementType: 'MET_SHORT', ElementDataFile: 'LOCAL' }
const BODY = new Uint8Array(Int16Array.of(1, 2, 3, 4).buffer)

function meta(change: Record<string, string | undefined> = {}, body: Uint8Array = BODY): Buffer {
  const { ElementDataFile: last, ...first } = { ...FIELDS, ...change }
  const lines = Object.entries({ ObjectType: 'Image', ...first, ElementDataFile: last }).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key} = ${value}\n`],
  )
  return Buffer.concat([Buffer.from(lines.join('')), body])
}

async function read(bytes: Uint8Array, limits = roomyLimits) {
  await using folder = await tempFolder()
  const path = join(folder.path, 'upload')
  await writeFile(path, bytes)
  return await readVolume([path], limits)
}

describe('MetaImage', () => {
  it('takes time as channels', async () => {
    const { volume } = await read(meta({ NDims: '4', DimSize: '2 1 1 2' }))
    expect(volume).toMatchObject({ size: [2, 1, 1], channels: 2 })
    expect(Array.from(volume.data)).toEqual([1, 2, 3, 4])
  })

  it.each<{ name: string; file: Buffer; code: ErrorCode; says: RegExp; limits?: typeof roomyLimits }>([
    { name: 'no sizes', file: meta({ DimSize: undefined }), code: 'UNREADABLE_IMAGE', says: /'DimSize' must be 3/ },
    { name: 'a size of 0', file: meta({ DimSize: '2 0 1' }), code: 'UNREADABLE_IMAGE', says: /'DimSize'/ },
    {
      name: 'five dimensions',
      file: meta({ NDims: '5', DimSize: '1 1 1 1 4' }),
      code: 'UNSUPPORTED_FORMAT',
      says: /5 dimensions/,
    },
    {
      name: 'a type that is none',
      file: meta({ ElementType: 'MET_STRING' }),
      code: 'UNSUPPORTED_FORMAT',
      says: /MET_STRING/,
    },
    {
      name: 'a mesh',
      file: Buffer.from(meta().toString('latin1').replace('= Image', '= Mesh')),
      code: 'UNSUPPORTED_FORMAT',
      says: /'Mesh', not Image/,
    },
    {
      name: 'no data file',
      file: meta({ ElementDataFile: undefined }),
      code: 'UNREADABLE_IMAGE',
      says: /'ElementDataFile' is missing/,
    },
    {
      name: 'too few voxels',
      file: meta().subarray(0, -1),
      code: 'UNREADABLE_IMAGE',
      says: /8 bytes of voxels expected, 7/,
    },
    {
      name: 'packing that is none',
      file: meta({ CompressedData: 'True' }),
      code: 'UNREADABLE_IMAGE',
      says: /zlib stream is damaged/,
    },
    {
      name: 'words among numbers',
      file: meta({ ElementSpacing: '1 x 1' }),
      code: 'UNREADABLE_IMAGE',
      says: /'ElementSpacing' must be numbers/,
    },
    {
      name: 'text out of range',
      file: meta({ BinaryData: 'False', ElementType: 'MET_UCHAR' }, Buffer.from('1 2 3 300')),
      code: 'UNREADABLE_IMAGE',
      says: /'300'/,
    },
    {
      name: 'too little text',
      file: meta({ BinaryData: 'False' }, Buffer.from('1 2 3      ')),
      code: 'UNREADABLE_IMAGE',
      says: /4 numbers expected, 3 are/,
    },
    {
      name: 'too many voxels',
      file: meta(),
      limits: { maxVoxels: 3, maxVolumeBytes: 1000 },
      code: 'TOO_LARGE',
      says: /at most 3/,
    },
    {
      name: 'more files than slices',
      file: meta({ ElementDataFile: 'x%d.raw 1 9999999 1' }),
      code: 'UNREADABLE_IMAGE',
      says: /1 to 9999999/,
    },
  ])('is refused: $name', async ({ file, code, says, limits }) => {
    await expect(read(file, limits)).rejects.toMatchObject({ code, message: expect.stringMatching(says) })
  })

  it('whatever is spoilt in it, the answer is an image or a refusal that we made', async () => {
    const whole = meta({ TransformMatrix: '1 0 0 0 1 0 0 0 1', Offset: '1 2 3', ElementNumberOfChannels: '1' })
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, byte) => {
        const spoilt = Buffer.from(whole)
        spoilt[at] = byte
        await read(spoilt, { maxVoxels: 1e6, maxVolumeBytes: 1e6 }).catch((error) =>
          expect(error).toBeInstanceOf(AppError),
        )
      }),
      { numRuns: 100 },
    )
  })
})
