import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import type { DtypeName, ResultExtension } from '../../../src/formats/format.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { castVoxels, writtenType } from '../../../src/formats/voxel-cast.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { makeVolume, type Volume, type VoxelArray } from '../../../src/volume/volume.js'
import { niftiBytes } from '../../helpers/nifti-bytes.js'
import { roomyLimits, scaleAffine, tempFolder, volumeOf } from '../../helpers/volumes.js'

/** Four voxels in a row of two. */
function four(data: VoxelArray): Volume {
  return makeVolume([2, 2, 1], scaleAffine([1, 1, 1]), data)
}

async function writeAndRead(volume: Volume, options: Parameters<typeof writeVolume>[2]): Promise<Volume> {
  await using folder = await tempFolder()
  const path = join(folder.path, `result${options.extension}`)
  await writeVolume(volume, path, options)
  return (await readVolume([path], roomyLimits)).volume
}

describe('the type of a result', () => {
  it.each<{ name: string; data: VoxelArray; kind?: 'labels' | 'intensity'; dtype?: DtypeName; want: VoxelArray }>([
    { name: 'labels to 255 are uint8', data: Float32Array.of(0, 1, 2, 255), want: Uint8Array.of(0, 1, 2, 255) },
    { name: 'labels to 65535 are uint16', data: Int32Array.of(0, 1, 2, 256), want: Uint16Array.of(0, 1, 2, 256) },
    { name: 'larger labels are int32', data: Float64Array.of(0, 1, 2, 65536), want: Int32Array.of(0, 1, 2, 65536) },
    { name: 'negative labels are int32', data: Int16Array.of(0, 1, 2, -1), want: Int32Array.of(0, 1, 2, -1) },
    { name: 'fractions are no labels', data: Float32Array.of(0, 0.5, 1, 2), want: Float32Array.of(0, 0.5, 1, 2) },
    { name: 'result_dtype wins', data: Uint8Array.of(0, 1, 2, 3), dtype: 'uint16', want: Uint16Array.of(0, 1, 2, 3) },
    {
      name: 'fractions are cut off, as numpy does',
      data: Float32Array.of(-0.9, 0.5, 1.9, 2),
      dtype: 'uint8',
      want: Uint8Array.of(0, 0, 1, 2),
    },
    {
      name: 'intensities keep their type',
      data: Int16Array.of(-5, 0, 1, 2),
      kind: 'intensity',
      want: Int16Array.of(-5, 0, 1, 2),
    },
    {
      name: 'intensities are cast when asked',
      data: Int16Array.of(-5, 0, 1, 2),
      kind: 'intensity',
      dtype: 'float64',
      want: Float64Array.of(-5, 0, 1, 2),
    },
  ])('$name', async ({ data, dtype, want, kind = 'labels' }) => {
    expect(castVoxels(data, writtenType(data, kind, dtype))).toEqual(want)
    for (const extension of ['.nii', '.nii.gz', '.nrrd'] as const) {
      const back = await writeAndRead(four(data), { extension, dtype, kind })
      expect(Array.from(back.data)).toEqual(Array.from(want))
    }
  })

  it.each<{ data: VoxelArray; dtype: DtypeName; words: RegExp }>([
    { data: Int16Array.of(0, 1, 2, 256), dtype: 'uint8', words: /uint8 holds 0 to 255; the result goes from 0 to 256/ },
    { data: Int16Array.of(0, 1, 2, -1), dtype: 'uint16', words: /from -1/ },
    { data: Float32Array.of(0, 1, 2, Infinity), dtype: 'int32', words: /to Infinity/ },
    { data: Float64Array.of(0, 1, 2, 2 ** 32), dtype: 'uint32', words: /4294967296/ },
  ])('$dtype cannot hold $data', async ({ data, dtype, words }) => {
    const written = writeAndRead(four(data), { extension: '.nii', dtype, kind: 'labels' })
    await expect(written).rejects.toMatchObject({ code: 'BAD_PARAMS', message: expect.stringMatching(words) })
  })
})

describe('NIfTI', () => {
  it('has both forms, millimetres and a level-1 gzip that any reader takes', async () => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'result.nii.gz')
    const labels = volumeOf([5, 4, 3], { value: (i) => i % 3, affine: scaleAffine([1, 2, 3], [4, 5, 6]) })
    await writeVolume(labels, path, { extension: '.nii.gz', kind: 'labels' })
    const bytes = gunzipSync(await readFile(path))
    expect(bytes.length).toBe(352 + 60)
    expect(bytes.readInt16LE(252)).toBe(1)
    expect(bytes.readInt16LE(254)).toBe(1)
    expect(bytes[123]).toBe(2)
    expect(Array.from(bytes.subarray(352))).toEqual(Array.from(labels.data))
  })

  it.each<{ name: string; dim: readonly number[]; want: readonly number[] }>([
    { name: '2-D stays 2-D', dim: [2, 2, 2], want: [2, 2, 2, 1, 1, 1, 1, 1] },
    { name: 'a trailing 1 stays', dim: [4, 2, 2, 1, 1], want: [4, 2, 2, 1, 1, 1, 1, 1] },
    { name: 'one channel of a time series is 3-D or 4-D with 1', dim: [4, 1, 2, 1, 2], want: [4, 1, 2, 1, 1, 1, 1, 1] },
  ])('dimensions: $name', async ({ dim, want }) => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'source')
    await writeFile(path, niftiBytes({ dim }))
    const { volume } = await readVolume([path], roomyLimits)
    const voxels = volume.size[0] * volume.size[1] * volume.size[2]
    const labels = makeVolume(volume.size, volume.affine, new Uint8Array(voxels), { nifti: volume.nifti })
    await writeVolume(labels, path, { extension: '.nii', kind: 'labels' })
    const bytes = await readFile(path)
    expect(want.map((_, i) => bytes.readInt16LE(40 + 2 * i))).toEqual(want)
  })

  it('is NIfTI-2 where a side is longer than NIfTI-1 can say', async () => {
    const back = await writeAndRead(volumeOf([40_000, 1, 1], { make: (n) => new Uint8Array(n), value: () => 1 }), {
      extension: '.nii.gz',
      kind: 'labels',
    })
    expect(back.size).toEqual([40_000, 1, 1])
    expect(back.nifti!.version).toBe(2)
  })
})

describe('pictures', () => {
  it.each<{ data: VoxelArray; dtype?: DtypeName; depth: string }>([
    { data: Float32Array.of(0, 1, 2, 255), depth: 'uchar' },
    { data: Int32Array.of(0, 1, 2, 1000), depth: 'ushort' },
    { data: Uint8Array.of(0, 1, 2, 3), dtype: 'uint16', depth: 'ushort' },
  ])('labels $data become grey, $depth', async ({ data, dtype, depth }) => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'labels.png')
    const { contentType } = await writeVolume(four(data), path, { extension: '.png', kind: 'labels', dtype })
    expect(contentType).toBe('image/png')
    expect(await sharp(path).metadata()).toMatchObject({ format: 'png', channels: 1, depth, width: 2, height: 2 })
    expect(Array.from((await readVolume([path], roomyLimits)).volume.data)).toEqual(Array.from(data))
  })

  it('colours survive PNG, and nearly JPEG', async () => {
    const colour = volumeOf([8, 8, 1], { channels: 3, make: (n) => new Uint8Array(n), value: (i) => 100 + (i % 64) })
    expect((await writeAndRead(colour, { extension: '.png', kind: 'intensity' })).data).toEqual(colour.data)
    const back = await writeAndRead(colour, { extension: '.jpg', kind: 'intensity' })
    expect(back.channels).toBe(3)
    for (const [i, value] of back.data.entries()) expect(Math.abs(value - colour.data[i]!)).toBeLessThan(12)
  })

  it.each<{ name: string; volume: Volume; extension: ResultExtension; kind: 'labels' | 'intensity'; words: RegExp }>([
    { name: 'labels in JPEG', volume: four(new Uint8Array(4)), extension: '.jpg', kind: 'labels', words: /lossy/ },
    { name: 'slices', volume: volumeOf([2, 2, 2]), extension: '.png', kind: 'labels', words: /one slice/ },
    {
      name: 'two channels',
      volume: volumeOf([2, 2, 1], { channels: 2 }),
      extension: '.png',
      kind: 'labels',
      words: /2 channels/,
    },
    {
      name: 'fractions',
      volume: four(Float32Array.of(0.5, 0, 0, 0)),
      extension: '.png',
      kind: 'labels',
      words: /float32/,
    },
    {
      name: 'negative labels',
      volume: four(Int8Array.of(-1, 0, 0, 0)),
      extension: '.png',
      kind: 'labels',
      words: /int32/,
    },
    {
      name: '16 bits in JPEG',
      volume: four(Uint16Array.of(0, 1, 2, 256)),
      extension: '.jpg',
      kind: 'intensity',
      words: /uint8/,
    },
  ])('refuses $name', async ({ volume, extension, kind, words }) => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'result')
    const written = writeVolume(volume, path, { extension, kind })
    await expect(written).rejects.toMatchObject({ code: 'BAD_PARAMS', message: expect.stringMatching(words) })
    expect(existsSync(path)).toBe(false)
  })

  it.each(['png', 'jpeg'] as const)('a %s that is damaged, cut short or too large is refused', async (format) => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'picture')
    const noise = Buffer.from(Array.from({ length: 64 * 64 }, (_, i) => (i * 7919) % 251))
    const whole = await sharp(noise, { raw: { width: 64, height: 64, channels: 1 } })
      .toFormat(format)
      .toBuffer()
    for (const bytes of [whole.subarray(0, whole.length / 2), whole.subarray(0, 20), whole.fill(0x55, 100, 400)]) {
      await writeFile(path, bytes)
      await expect(readVolume([path], roomyLimits)).rejects.toMatchObject({ code: 'UNREADABLE_IMAGE' })
    }
    await writeFile(
      path,
      await sharp(noise, { raw: { width: 64, height: 64, channels: 1 } })
        .toFormat(format)
        .toBuffer(),
    )
    const small = { maxVoxels: 64 * 64 - 1, maxVolumeBytes: 1e9 }
    await expect(readVolume([path], small)).rejects.toMatchObject({ code: 'TOO_LARGE' })
  })
})

describe('NRRD', () => {
  it('is what OHIF reads: gzip, uint16, little-endian, in LPS', async () => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'result.nrrd')
    const labels = volumeOf([2, 2, 2], { value: (i) => i * 300, affine: scaleAffine([1, 2, 3], [4, 5, 6]) })
    await writeVolume(labels, path, { extension: '.nrrd', kind: 'labels', dtype: 'uint16', compress: true })
    const bytes = await readFile(path)
    const end = bytes.indexOf('\n\n')
    const header = bytes.subarray(0, end).toString('latin1').split('\n')
    expect(header).toEqual(
      expect.arrayContaining([
        ...['type: unsigned short', 'dimension: 3', 'sizes: 2 2 2', 'encoding: gzip', 'endian: little'],
        ...['space: left-posterior-superior', 'space directions: (-1,0,0) (0,-2,0) (0,0,3)', 'space origin: (-4,-5,6)'],
      ]),
    )
    const voxels = gunzipSync(bytes.subarray(end + 2))
    expect(Array.from({ length: 8 }, (_, i) => voxels.readUInt16LE(2 * i))).toEqual(Array.from(labels.data))
  })

  it('keeps channels and affine', async () => {
    const volume = volumeOf([2, 3, 2], { channels: 3, affine: scaleAffine([1, 2, 3], [4, 5, 6]) })
    for (const compress of [true, false]) {
      const back = await writeAndRead(volume, { extension: '.nrrd', kind: 'intensity', compress })
      expect(back.data).toEqual(volume.data)
      expect(back.affine).toEqual(volume.affine)
      expect(back.channels).toBe(3)
    }
  })
})
