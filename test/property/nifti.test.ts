/** Laws: what is written is read back; whatever is done to a header, a volume or a clear refusal comes of it. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AppError } from '../../src/errors.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import { axisCodes } from '../../src/volume/orientation.js'
import { makeVolume, type Vec3, type VoxelArray } from '../../src/volume/volume.js'
import { niftiBytes, niftiExtension } from '../helpers/nifti-bytes.js'
import { axisOrders, inAxisOrder, roomyLimits, scaleAffine, tempFolder, volumeOf } from '../helpers/volumes.js'

let folder: Awaited<ReturnType<typeof tempFolder>>
beforeAll(async () => {
  folder = await tempFolder()
})
afterAll(() => folder[Symbol.asyncDispose]())

/** Numbers that networks can compute with: what is none is read as background, see finite-voxels.test.ts. */
const TYPES: readonly { datatype: number; make: (n: number) => VoxelArray; value: fc.Arbitrary<number> }[] = [
  { datatype: 2, make: (n) => new Uint8Array(n), value: fc.integer({ min: 0, max: 255 }) },
  { datatype: 256, make: (n) => new Int8Array(n), value: fc.integer({ min: -128, max: 127 }) },
  { datatype: 4, make: (n) => new Int16Array(n), value: fc.integer({ min: -32768, max: 32767 }) },
  { datatype: 512, make: (n) => new Uint16Array(n), value: fc.integer({ min: 0, max: 65535 }) },
  { datatype: 8, make: (n) => new Int32Array(n), value: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) },
  { datatype: 768, make: (n) => new Uint32Array(n), value: fc.integer({ min: 0, max: 2 ** 32 - 1 }) },
  { datatype: 16, make: (n) => new Float32Array(n), value: fc.float({ noNaN: true, noDefaultInfinity: true }) },
  {
    datatype: 64,
    make: (n) => new Float64Array(n),
    value: fc.float({ noNaN: true, noDefaultInfinity: true }).map((x) => x / 3),
  },
]

const float32 = fc.float({ noNaN: true, min: -1000, max: 1000 })
const size = fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 4 }))

const anyVolume = fc
  .record({ size, channels: fc.integer({ min: 1, max: 3 }), type: fc.constantFrom(...TYPES) })
  .chain(({ size, channels, type }) => {
    const count = size[0] * size[1] * size[2] * channels
    return fc.record({
      values: fc.array(type.value, { minLength: count, maxLength: count }),
      srow: fc.array(float32, { minLength: 12, maxLength: 12 }),
      size: fc.constant(size as Vec3),
      channels: fc.constant(channels),
      type: fc.constant(type),
    })
  })

describe('round trips', () => {
  it('written and read: the same voxels, type, size and affine', async () => {
    await fc.assert(
      fc.asyncProperty(anyVolume, fc.constantFrom('.nii', '.nii.gz'), async ({ values, ...spec }, extension) => {
        const data = spec.type.make(values.length)
        data.set(values)
        const affine = Float64Array.of(...spec.srow, 0, 0, 0, 1)
        const nifti = (await fileOf({ dim: [3, 1, 1, 1], voxels: [0], srow: spec.srow })).nifti
        const path = join(folder.path, 'round')
        const volume = makeVolume(spec.size, affine, data, { channels: spec.channels, nifti })
        await writeVolume(volume, path, { extension: extension as '.nii', kind: 'intensity' })
        const back = (await readVolume([path], roomyLimits)).volume
        expect(back.size).toEqual(spec.size)
        expect(back.channels).toBe(spec.channels)
        expect(Array.from(back.data)).toEqual(Array.from(data))
        expect(back.nifti!.srow).toEqual(nifti!.srow)
      }),
      { numRuns: 150 },
    )
  })

  it('a file in either version and byte order gives the voxels that were put in', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyVolume,
        fc.constantFrom<1 | 2>(1, 2),
        fc.boolean(),
        async ({ values, size, channels, type }, version, littleEndian) => {
          const dim = [4, ...size, channels]
          const volume = await fileOf({ version, littleEndian, dim, datatype: type.datatype, voxels: values })
          const want = type.make(values.length)
          want.set(values)
          expect(Array.from(volume.data)).toEqual(Array.from(want))
        },
      ),
      { numRuns: 150 },
    )
  })

  it('the geometry of the input comes back bit for bit, NIfTI-2 as NIfTI-2', async () => {
    const float = fc.float({ noNaN: true })
    const list = (n: number) => fc.array(float, { minLength: n, maxLength: n })
    const codes = fc.record({ sformCode: fc.integer({ min: 0, max: 5 }), qformCode: fc.integer({ min: 0, max: 5 }) })
    await fc.assert(
      fc.asyncProperty(
        fc.record({ pixdim: list(8), quatern: list(6), srow: list(12), units: fc.integer({ min: 0, max: 63 }) }),
        codes,
        fc.constantFrom<1 | 2>(1, 2),
        fc.constantFrom([2, 2, 2], [3, 2, 2, 1], [4, 2, 2, 1, 1]),
        async (geometry, codes, version, dim) => {
          const volume = await fileOf({ ...geometry, ...codes, version, dim })
          const path = join(folder.path, 'labels.nii.gz')
          await writeVolume(volume, path, { extension: '.nii.gz', kind: 'labels' })
          const back = (await readVolume([path], roomyLimits)).volume
          // A qform is added where an sform that ITK refuses has none beside it; nothing else ever changes.
          const added = codes.qformCode === 0 && back.nifti!.qformCode === 1
          const { qformCode, quatern, pixdim } = volume.nifti!
          expect(added ? { ...back.nifti, qformCode, quatern, pixdim } : back.nifti).toEqual(volume.nifti)
          expect(back.nifti!.pixdim.slice(1)).toEqual(pixdim.slice(1))
          // Where the sform cannot be used, the affine now comes from that qform: the same but for float32.
          if (!added) expect(back.affine).toEqual(volume.affine)
          else {
            const scale = Math.max(...volume.affine.map(Math.abs))
            for (const [i, value] of volume.affine.entries())
              expect(Math.abs(back.affine[i]! - value)).toBeLessThanOrEqual(1e-6 * scale)
          }
          expect(back.size).toEqual(volume.size)
        },
      ),
      { numRuns: 150 },
    )
  })
})

async function fileOf(spec: Parameters<typeof niftiBytes>[0]) {
  const path = join(folder.path, 'file')
  await writeFile(path, niftiBytes(spec))
  return (await readVolume([path], roomyLimits)).volume
}

describe('a volume that did not come from NIfTI', () => {
  const oblique = Float64Array.of(
    ...[0.72, -0.4, 0.9, -31],
    ...[0.5, 0.9, 0.4, 12],
    ...[-0.4, 0.3, 2.3, 5],
    ...[0, 0, 0, 1],
  )
  const turned = rigid(0.4, 0.3, -0.7, [0.7, 0.9, 2.5], [-31, 12, 5])
  it.each([
    ...axisOrders.map((order) => ({ name: order.codes, order, affine: scaleAffine([0.7, 0.9, 2.5], [-31, 12, 5]) })),
    { name: 'oblique', order: axisOrders[0]!, affine: turned },
    { name: 'oblique, left-handed', order: axisOrders[1]!, affine: turned },
    { name: 'oblique, transposed', order: axisOrders[8]!, affine: turned },
    { name: 'sheared', order: axisOrders[0]!, affine: oblique },
  ])('keeps its affine: $name', async ({ order, affine, name }) => {
    const volume = inAxisOrder(volumeOf([3, 4, 5], { affine }), order)
    const path = join(folder.path, 'order.nii')
    await writeVolume(volume, path, { extension: '.nii', kind: 'intensity' })
    const back = (await readVolume([path], roomyLimits)).volume
    expect(back.data).toEqual(volume.data)
    expect(back.affine).toEqual(volume.affine.map(Math.fround))
    if (name === order.codes) expect(axisCodes(back.affine)).toBe(order.codes)
    // The qform alone says the same, unless it cannot: then it is the nearest rotation.
    const { nifti } = back
    expect(nifti!.qformCode).toBe(1)
    if (name === 'sheared') return
    const { pixdim, quatern, qformCode } = nifti!
    const alone = await fileOf({ dim: [3, 1, 1, 1], voxels: [0], pixdim, quatern, qformCode, sformCode: 0 })
    for (let i = 0; i < 16; i++) expect(alone.affine[i]).toBeCloseTo(volume.affine[i]!, 5)
  })
})

/** Rotation about z, y, x, then spacing. */
function rigid(a: number, b: number, c: number, [dx, dy, dz]: Vec3, [x, y, z]: Vec3): Float64Array {
  const [ca, sa, cb, sb, cc, sc] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b), Math.cos(c), Math.sin(c)]
  return Float64Array.of(
    ...[ca * cb * dx, (ca * sb * sc - sa * cc) * dy, (ca * sb * cc + sa * sc) * dz, x],
    ...[sa * cb * dx, (sa * sb * sc + ca * cc) * dy, (sa * sb * cc - ca * sc) * dz, y],
    ...[-sb * dx, cb * sc * dy, cb * cc * dz, z],
    ...[0, 0, 0, 1],
  )
}

describe('mutated files', () => {
  const limits = { maxVolumeBytes: 1 << 20, maxVoxels: 1 << 18 }
  const seeds = [
    niftiBytes({ dim: [4, 3, 2, 2, 2], voxels: Array.from({ length: 24 }, (_, i) => i) }),
    niftiBytes({ littleEndian: false, qformCode: 1, datatype: 16, slope: 0.5 }),
    niftiBytes({ version: 2, extension: niftiExtension(32, new Uint8Array(24)) }),
    niftiBytes({ version: 2, littleEndian: false, datatype: 1024 }),
    niftiBytes({ extension: niftiExtension(48, new Uint8Array(40)), datatype: 128, voxels: new Uint8Array(12) }),
  ]
  const edit = fc.record({
    at: fc.nat(560),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.constantFrom(
        Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
        Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0),
        Uint8Array.of(0xf0, 0xff, 0xff, 0xff),
        Uint8Array.of(0xff, 0x7f),
        Uint8Array.of(0, 0, 0xc0, 0x7f),
      ),
    ),
  })

  it('give a volume within the limits, or a 4xx', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...seeds),
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat(600)),
        fc.boolean(),
        async (seed, edits, cut, packed) => {
          const bytes = seed.slice()
          for (const { at, bytes: patch } of edits)
            bytes.set(patch.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length))
          const short = cut === null ? bytes : bytes.subarray(0, cut)
          const path = join(folder.path, 'mutant')
          await writeFile(path, packed ? gzipSync(short) : short)
          try {
            const { volume } = await readVolume([path], limits)
            expect(volume.data.length).toBeLessThanOrEqual(limits.maxVoxels)
            expect(volume.affine.every(Number.isFinite)).toBe(true)
          } catch (error) {
            if (!(error instanceof AppError)) throw error
            expect(error.statusCode).toBeGreaterThanOrEqual(400)
            expect(error.statusCode).toBeLessThan(500)
          }
        },
      ),
      { numRuns: 700 },
    )
  })

  it('of gzip give a volume, or a 4xx', async () => {
    const seed = gzipSync(niftiBytes({ dim: [3, 8, 8, 4], voxels: Array.from({ length: 256 }, (_, i) => i) }))
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        async (edits) => {
          const bytes = Uint8Array.from(seed)
          for (const [at, value] of edits) bytes[at] = value
          const path = join(folder.path, 'mutant.gz')
          await writeFile(path, bytes)
          try {
            await readVolume([path], limits)
          } catch (error) {
            if (!(error instanceof AppError)) throw error
            expect(error.statusCode).toBeLessThan(500)
          }
        },
      ),
      { numRuns: 500 },
    )
  })
})
