import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { ErrorCode } from '../../../src/errors.js'
import type { ReadLimits, ReadResult } from '../../../src/formats/format.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { type NiftiSpec, niftiBytes, niftiExtension } from '../../helpers/nifti-bytes.js'
import { roomyLimits, tempFolder } from '../../helpers/volumes.js'

async function read(files: Uint8Array | readonly Uint8Array[], limits: ReadLimits = roomyLimits): Promise<ReadResult> {
  await using folder = await tempFolder()
  const paths: string[] = []
  for (const bytes of files instanceof Uint8Array ? [files] : files) {
    const path = join(folder.path, `upload-${paths.length}`)
    await writeFile(path, bytes)
    paths.push(path)
  }
  return await readVolume(paths, limits)
}

const half = Math.SQRT1_2
const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

describe('voxels', () => {
  it.each<{ name: string; spec: NiftiSpec; want: readonly number[]; type: string; size?: number[]; channels?: number }>(
    [
      { name: 'int16 as it is', spec: { voxels: [-1, 2, 300, -400] }, want: [-1, 2, 300, -400], type: 'Int16Array' },
      {
        name: 'big-endian int16: 258 stays 258',
        spec: { littleEndian: false, voxels: [258, -2, 0, 1] },
        want: [258, -2, 0, 1],
        type: 'Int16Array',
      },
      {
        name: 'only dim[1..dim[0]] counts: dim = [2, 4, 4, 0, ...]',
        spec: { dim: [2, 4, 4, 0, 0, 0, 0, 0], voxels: Array.from({ length: 16 }, (_, i) => i) },
        want: Array.from({ length: 16 }, (_, i) => i),
        type: 'Int16Array',
        size: [4, 4, 1],
      },
      {
        name: 'axes from the fourth on are channels, dim[6] too',
        spec: { dim: [6, 1, 2, 1, 2, 1, 3], voxels: Array.from({ length: 12 }, (_, i) => i) },
        want: Array.from({ length: 12 }, (_, i) => i),
        type: 'Int16Array',
        size: [1, 2, 1],
        channels: 6,
      },
      {
        name: 'RGB24 becomes three planes',
        spec: { dim: [3, 2, 1, 1], datatype: 128, voxels: Uint8Array.of(1, 2, 3, 11, 12, 13) },
        want: [1, 11, 2, 12, 3, 13],
        type: 'Uint8Array',
        size: [2, 1, 1],
        channels: 3,
      },
      {
        name: 'RGBA32 over time becomes four planes for each time',
        spec: { dim: [4, 1, 1, 1, 2], datatype: 2304, voxels: Uint8Array.of(1, 2, 3, 4, 11, 12, 13, 14) },
        want: [1, 2, 3, 4, 11, 12, 13, 14],
        type: 'Uint8Array',
        size: [1, 1, 1],
        channels: 8,
      },
      {
        name: 'int64 becomes the smallest working type that holds it',
        spec: { datatype: 1024, voxels: [-1n, 0n, 3n, 30_000n] },
        want: [-1, 0, 3, 30000],
        type: 'Int16Array',
      },
      {
        name: 'int64 beyond 32 bits becomes float64',
        spec: { datatype: 1024, voxels: [-(2n ** 40n), 0n, 1n, 2n ** 53n] },
        want: [-(2 ** 40), 0, 1, 2 ** 53],
        type: 'Float64Array',
      },
      {
        name: 'big-endian uint64 of labels becomes uint8',
        spec: { datatype: 1280, littleEndian: false, voxels: [0n, 1n, 2n, 255n] },
        want: [0, 1, 2, 255],
        type: 'Uint8Array',
      },
      {
        name: 'uint64 at its largest is rounded once',
        spec: { datatype: 1280, voxels: [2n ** 64n - 1n, 2n ** 63n, 1n, 0n] },
        want: [2 ** 64, 2 ** 63, 1, 0],
        type: 'Float64Array',
      },
      {
        name: 'whole slope and intercept keep integers',
        spec: { datatype: 512, slope: 1, inter: -1024, voxels: [0, 24, 1024, 4095] },
        want: [-1024, -1000, 0, 3071],
        type: 'Int16Array',
      },
      {
        name: 'whole scaling that outgrows 16 bits takes float32',
        spec: { slope: 1000, inter: 1, voxels: [-1, 0, 1, 1000] },
        want: [-999, 1, 1001, 1000001],
        type: 'Float32Array',
      },
      {
        name: 'whole scaling that outgrows 24 bits takes float64',
        spec: { slope: 16384, inter: 1, voxels: [-1, 0, 1, 2000] },
        want: [-16383, 1, 16385, 32768001],
        type: 'Float64Array',
      },
      {
        name: 'int8 is held as int16',
        spec: { datatype: 256, voxels: [-128, 0, 1, 127] },
        want: [-128, 0, 1, 127],
        type: 'Int16Array',
      },
      {
        name: 'uint16 to 255 is held as uint8',
        spec: { datatype: 512, voxels: [0, 1, 2, 255] },
        want: [0, 1, 2, 255],
        type: 'Uint8Array',
      },
      {
        name: 'uint16 to 32767 is held as int16',
        spec: { datatype: 512, voxels: [0, 1, 2, 32767] },
        want: [0, 1, 2, 32767],
        type: 'Int16Array',
      },
      {
        name: 'uint16 beyond is held as float32',
        spec: { datatype: 512, voxels: [0, 1, 2, 65535] },
        want: [0, 1, 2, 65535],
        type: 'Float32Array',
      },
      {
        name: 'int32 of a CT is held as int16',
        spec: { datatype: 8, voxels: [-1024, 0, 1, 3071] },
        want: [-1024, 0, 1, 3071],
        type: 'Int16Array',
      },
      {
        name: 'int32 to 2^24 is held as float32',
        spec: { datatype: 8, voxels: [-5, 0, 1, 16777216] },
        want: [-5, 0, 1, 16777216],
        type: 'Float32Array',
      },
      {
        name: 'uint32 beyond is held as float64',
        spec: { datatype: 768, voxels: [0, 1, 2, 4294967295] },
        want: [0, 1, 2, 4294967295],
        type: 'Float64Array',
      },
      {
        name: 'a negative slope turns the range around',
        spec: { datatype: 2, slope: -2, inter: 0, voxels: [0, 1, 2, 255] },
        want: [-0, -2, -4, -510],
        type: 'Int16Array',
      },
      {
        name: 'a fractional slope gives float32',
        spec: { slope: 0.5, inter: 0.25, voxels: [0, 1, 2, -3] },
        want: [0.25, 0.75, 1.25, -1.25],
        type: 'Float32Array',
      },
      {
        name: 'float64 stays float64 when scaled',
        spec: { datatype: 64, slope: 2, inter: 0, voxels: [1e37, 0.1, 0, 1] },
        want: [2e37, 0.2, 0, 2],
        type: 'Float64Array',
      },
      {
        name: 'float32 scaled out of its range is read as background',
        spec: { datatype: 16, slope: 2 ** 100, inter: 0, voxels: [2 ** 100, 0, 1, 2] },
        want: [0, 0, 2 ** 100, 2 ** 101],
        type: 'Float64Array',
      },
      { name: 'slope 0 means no scaling', spec: { slope: 0, inter: 7 }, want: [0, 1, 2, 3], type: 'Int16Array' },
      { name: 'slope NaN means no scaling', spec: { slope: NaN, inter: 7 }, want: [0, 1, 2, 3], type: 'Int16Array' },
      {
        name: 'vox_offset 0 means right behind the header',
        spec: { voxOffset: 0 },
        want: [0, 1, 2, 3],
        type: 'Int16Array',
      },
      {
        name: 'padding before the voxels is skipped',
        spec: { voxOffset: 400 },
        want: [0, 1, 2, 3],
        type: 'Int16Array',
      },
    ],
  )('$name', async ({ spec, want, type, size = [2, 2, 1], channels = 1 }) => {
    for (const version of [1, 2] as const) {
      for (const gzip of [false, true]) {
        const bytes = niftiBytes({ ...spec, version, ...(spec.voxOffset === 400 ? { voxOffset: 560 } : {}) })
        const { volume, extension } = await read(gzip ? gzipSync(bytes) : bytes)
        expect(volume.data.constructor.name).toBe(type)
        expect(Array.from(volume.data, (value) => value + 0)).toEqual(want.map((value) => value + 0))
        expect(volume.size).toEqual(size)
        expect(volume.channels).toBe(channels)
        expect(extension).toBe(gzip ? '.nii.gz' : '.nii')
      }
    }
  })

  it('a pair is read in either order, packed or not', async () => {
    const header = niftiBytes({ magic: 'ni1\0', voxOffset: 0, voxels: [] })
    const voxels = new Uint8Array(Int16Array.of(5, 6, 7, 8).buffer)
    for (const files of [
      [header, voxels],
      [voxels, header],
      [gzipSync(header), gzipSync(voxels)],
    ]) {
      expect(Array.from((await read(files)).volume.data)).toEqual([5, 6, 7, 8])
    }
  })

  it('a gzip of several members is one stream', async () => {
    const bytes = niftiBytes()
    const parts = [bytes.subarray(0, 100), bytes.subarray(100, 355), bytes.subarray(355)].map((part) => gzipSync(part))
    expect(Array.from((await read(Buffer.concat(parts))).volume.data)).toEqual([0, 1, 2, 3])
  })

  it('extensions are stepped over, whatever is in them', async () => {
    const extension = Buffer.concat([niftiExtension(32, new Uint8Array(24)), niftiExtension(16, new Uint8Array(8))])
    for (const littleEndian of [true, false]) {
      const swapped = littleEndian ? extension : Buffer.from(extension).swap32()
      const { volume } = await read(niftiBytes({ extension: swapped, littleEndian }))
      expect(Array.from(volume.data)).toEqual([0, 1, 2, 3])
    }
  })

  it('an extension that says it reaches into the voxels does not', async () => {
    for (const claimed of [56, 1 << 30]) {
      const { volume } = await read(niftiBytes({ extension: niftiExtension(claimed, new Uint8Array(40)) }))
      expect(Array.from(volume.data)).toEqual([0, 1, 2, 3])
    }
  })
})

describe('affine', () => {
  it.each<{ name: string; spec: NiftiSpec; want: readonly number[]; note?: RegExp }>([
    {
      name: 'sform wins over qform, whichever code is higher',
      spec: { sformCode: 1, qformCode: 2, srow: [2, 0, 0, 7, 0, 3, 0, 8, 0, 0, 4, 9], quatern: [0, 0, 0, 1, 1, 1] },
      want: [2, 0, 0, 7, 0, 3, 0, 8, 0, 0, 4, 9, 0, 0, 0, 1],
    },
    {
      name: 'qform alone: a quarter turn about z, qfac -1',
      spec: { sformCode: 0, qformCode: 1, pixdim: [-1, 2, 3, 4, 1, 1, 1, 1], quatern: [0, 0, half, 10, 20, 30] },
      want: [0, -3, 0, 10, 2, 0, 0, 20, 0, 0, -4, 30, 0, 0, 0, 1],
    },
    {
      name: 'a quaternion a hair over 1 is a half turn',
      spec: { sformCode: 0, qformCode: 1, quatern: [0, 1.0000001, 0, 0, 0, 0] },
      want: [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1],
    },
    {
      name: 'no form: pixdim around the middle, x to the left, as nibabel',
      spec: { sformCode: 0, qformCode: 0, pixdim: [1, 2, 3, 4, 1, 1, 1, 1] },
      want: [-2, 0, 0, 1, 0, 3, 0, -1.5, 0, 0, 4, 0, 0, 0, 0, 1],
    },
    {
      name: 'pixdim negative counts as positive, zero as 1',
      spec: { sformCode: 0, qformCode: 1, pixdim: [1, -2, 0, 4, 1, 1, 1, 1] },
      want: [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1],
    },
    {
      name: 'a zero sform gives way to the qform',
      spec: { srow: Array(12).fill(0), qformCode: 1, pixdim: [1, 2, 2, 2, 1, 1, 1, 1] },
      want: [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1],
      note: /sform cannot be inverted/,
    },
    {
      name: 'NaN in both forms leaves pixdim',
      spec: { srow: Array(12).fill(NaN), qformCode: 1, quatern: [NaN, 0, 0, 0, 0, 0] },
      want: [-1, 0, 0, 0.5, 0, 1, 0, -0.5, 0, 0, 1, 0, 0, 0, 0, 1],
      note: /qform cannot be inverted/,
    },
    {
      name: 'sizes that no voxel has leave 1 mm',
      spec: { srow: [1e30, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], pixdim: [1, 1e30, 1e-30, 1, 1, 1, 1, 1] },
      want: [-1, 0, 0, 0.5, 0, 1, 0, -0.5, 0, 0, 1, 0, 0, 0, 0, 1],
      note: /sform cannot be inverted.*1 mm was used/,
    },
    {
      name: 'a form code out of range counts as none',
      spec: { sformCode: 77, qformCode: -3 },
      want: [-1, 0, 0, 0.5, 0, 1, 0, -0.5, 0, 0, 1, 0, 0, 0, 0, 1],
    },
    { name: 'metres are not converted, as in nibabel, but noted', spec: { units: 1 }, want: IDENTITY, note: /metres/ },
  ])('$name', async ({ spec, want, note }) => {
    for (const version of [1, 2] as const) {
      for (const littleEndian of [true, false]) {
        const { volume, notes } = await read(niftiBytes({ ...spec, version, littleEndian }))
        for (let i = 0; i < 16; i++) expect(volume.affine[i]).toBeCloseTo(want[i]!, 6)
        if (note) expect(notes.join()).toMatch(note)
        else expect(notes).toEqual([])
      }
    }
  })
})

describe('refused', () => {
  const extension = niftiExtension(-16, new Uint8Array(40))
  const tight: ReadLimits = { maxVolumeBytes: 1000, maxVoxels: 400 }
  it.each<{ name: string; file: Uint8Array; code: ErrorCode; words: RegExp; limits?: ReadLimits }>([
    { name: 'no bytes', file: new Uint8Array(0), code: 'UNREADABLE_IMAGE', words: /empty/ },
    { name: 'an extension of -16 bytes', file: niftiBytes({ extension }), code: 'UNREADABLE_IMAGE', words: /-16/ },
    {
      name: 'a gzip that ends within the extensions',
      file: gzipSync(niftiBytes({ voxOffset: 4000, extension: niftiExtension(8, new Uint8Array(0)) }).subarray(0, 360)),
      code: 'UNREADABLE_IMAGE',
      words: /8 bytes of voxels expected, 0 are/,
    },
    {
      name: 'voxels cut to 3 bytes',
      file: niftiBytes().subarray(0, 355),
      code: 'UNREADABLE_IMAGE',
      words: /8 bytes of voxels expected, 3 are/,
    },
    {
      name: 'packed voxels cut to 3 bytes',
      file: gzipSync(niftiBytes().subarray(0, 355)),
      code: 'UNREADABLE_IMAGE',
      words: /8 bytes of voxels expected, 3 are/,
    },
    {
      name: 'a gzip without its end',
      file: gzipSync(niftiBytes()).subarray(0, -9),
      code: 'UNREADABLE_IMAGE',
      words: /cut short/,
    },
    { name: 'dim[0] = 0', file: niftiBytes({ dim: [0, 2, 2] }), code: 'UNREADABLE_IMAGE', words: /dim\[0\]/ },
    { name: 'dim[0] = 8', file: niftiBytes({ dim: [8, 2, 2] }), code: 'UNREADABLE_IMAGE', words: /dim\[0\]/ },
    {
      name: 'a negative size',
      file: niftiBytes({ dim: [3, 2, -2, 1] }),
      code: 'UNREADABLE_IMAGE',
      words: /dim\[2\] is -2/,
    },
    { name: 'a size of 0', file: niftiBytes({ dim: [3, 2, 2, 0] }), code: 'UNREADABLE_IMAGE', words: /dim\[3\] is 0/ },
    { name: 'complex voxels', file: niftiBytes({ datatype: 32 }), code: 'UNSUPPORTED_FORMAT', words: /complex/ },
    { name: '128-bit floats', file: niftiBytes({ datatype: 1536 }), code: 'UNSUPPORTED_FORMAT', words: /128-bit/ },
    { name: 'an unknown type', file: niftiBytes({ datatype: 3 }), code: 'UNREADABLE_IMAGE', words: /datatype 3/ },
    {
      name: 'a CIFTI matrix',
      file: niftiBytes({ version: 2, intent: 3001 }),
      code: 'UNSUPPORTED_FORMAT',
      words: /CIFTI/,
    },
    {
      name: 'vox_offset in the header',
      file: niftiBytes({ voxOffset: 100 }),
      code: 'UNREADABLE_IMAGE',
      words: /vox_offset is 100/,
    },
    { name: 'vox_offset NaN', file: withVoxOffset(NaN), code: 'UNREADABLE_IMAGE', words: /vox_offset is NaN/ },
    { name: 'vox_offset negative', file: withVoxOffset(-352), code: 'UNREADABLE_IMAGE', words: /vox_offset/ },
    { name: 'vox_offset beyond the file', file: withVoxOffset(1e9), code: 'UNREADABLE_IMAGE', words: /0 are in it/ },
    {
      name: 'an infinite intercept',
      file: niftiBytes({ inter: Infinity }),
      code: 'UNREADABLE_IMAGE',
      words: /scl_inter/,
    },
    {
      name: 'half of a pair',
      file: niftiBytes({ magic: 'ni1\0', voxOffset: 0 }),
      code: 'UNREADABLE_IMAGE',
      words: /\.img/,
    },
    { name: 'ANALYZE', file: niftiBytes({ magic: '\0\0\0\0' }), code: 'UNSUPPORTED_FORMAT', words: /ANALYZE/ },
    {
      name: 'byte 1 alone like gzip',
      file: Uint8Array.of(0x20, 0x8b, ...new Uint8Array(400)),
      code: 'UNSUPPORTED_FORMAT',
      words: /not an image/,
    },
    {
      name: 'more voxels than allowed',
      file: niftiBytes({ dim: [3, 401, 1, 1], datatype: 2, voxels: new Uint8Array(401) }),
      limits: tight,
      code: 'TOO_LARGE',
      words: /401 voxels; at most 400/,
    },
    {
      name: 'more bytes than allowed',
      file: niftiBytes({ dim: [3, 200, 1, 1], datatype: 64, voxels: new Uint8Array(1600) }),
      limits: tight,
      code: 'TOO_LARGE',
      words: /1600 bytes.*at most 1000/,
    },
    {
      name: 'sizes whose product overflows',
      file: niftiBytes({ version: 2, dim: [7, ...Array(7).fill(2 ** 52)] }),
      code: 'TOO_LARGE',
      words: /voxels/,
    },
    {
      name: 'voxels that start beyond the limit, though a gzip could get there',
      file: gzipSync(Buffer.concat([niftiBytes({ version: 2, voxOffset: 5000 }), new Uint8Array(100_000)])),
      limits: tight,
      code: 'TOO_LARGE',
      words: /start at byte 5000; at most 1000/,
    },
    {
      name: 'a claim that no gzip of this size can hold',
      file: gzipSync(niftiBytes({ dim: [3, 1000, 1000, 100] })),
      code: 'UNREADABLE_IMAGE',
      words: /200000000 bytes of voxels expected, no more than/,
    },
  ])('$name', async ({ file, code, words, limits }) => {
    await expect(read(file, limits)).rejects.toMatchObject({ code, message: expect.stringMatching(words) })
  })

  it('several files that are no pair', async () => {
    await expect(read([niftiBytes(), niftiBytes()])).rejects.toMatchObject({ code: 'BAD_REQUEST' })
  })

  it('an aborted read stops with the reason', async () => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'image')
    await writeFile(path, gzipSync(niftiBytes()))
    const reason = new Error('the client hung up')
    await expect(readVolume([path], roomyLimits, AbortSignal.abort(reason))).rejects.toBe(reason)
  })
})

function withVoxOffset(value: number): Uint8Array {
  const bytes = niftiBytes()
  new DataView(bytes.buffer).setFloat32(108, value, true)
  return bytes
}
