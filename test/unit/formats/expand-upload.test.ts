import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readVolume } from '../../../src/formats/read-volume.js'
import { dicomFixtures } from '../../helpers/dicom-fixtures.js'
import { type ZipEntry, zipBytes } from '../../helpers/zip.js'

const LIMITS = { maxVolumeBytes: 2 ** 22, maxVoxels: 2 ** 24 }

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'expand-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function read(entries: readonly ZipEntry[]) {
  const path = join(root, 'upload')
  await writeFile(path, zipBytes(entries))
  return readVolume([path], LIMITS)
}

/** The files of one case of the DICOM fixtures. */
async function series(name: string): Promise<Buffer[]> {
  const { named } = await dicomFixtures('geometry', root)
  return Promise.all(named(`${name}/`).map((path) => readFile(path)))
}

/** A 2x2x1 NIfTI-1 of uint8 zeros. */
function nifti(): Buffer {
  const bytes = Buffer.alloc(356)
  bytes.writeInt32LE(348, 0)
  for (const [i, n] of [3, 2, 2, 1, 1, 1, 1, 1].entries()) bytes.writeInt16LE(n, 40 + 2 * i)
  bytes.writeInt16LE(2, 70)
  bytes.writeInt16LE(8, 72)
  for (let i = 0; i < 8; i++) bytes.writeFloatLE(1, 76 + 4 * i)
  bytes.writeFloatLE(352, 108)
  bytes.write('n+1\0', 344, 'latin1')
  return bytes
}

describe('a zip as an image', () => {
  it('is the DICOM series inside it, whatever else lies there', async () => {
    const files = await series('sagittal')
    const result = await read([
      { name: 'patient/', data: '' },
      ...files.map((data, i) => ({ name: `patient/scan/${i}.dcm`, data })),
      { name: 'patient/readme.txt', data: 'hello' },
      { name: '__MACOSX/patient/._0.dcm', data: files[0]! },
      { name: '.DS_Store', data: 'x' },
    ])
    expect(result).toMatchObject({ format: 'dicom', extension: '.nii.gz' })
    expect(result.volume.size).toEqual([12, 20, 7])
    expect(result.files).toHaveLength(7)
    expect(result.notes).toEqual(['1 file(s) in the zip are not DICOM and were left out'])
  })

  it('is the one image inside it', async () => {
    const result = await read([{ name: 'a/brain.nii', data: nifti() }])
    expect(result).toMatchObject({ format: 'nifti' })
  })

  it('is the one image beside text, as dcm2niix, BIDS and XNAT leave it', async () => {
    const result = await read([
      { name: 'sub-1/anat/scan.json', data: '{"EchoTime": 0.08}' },
      { name: 'sub-1/anat/scan.bval', data: '0 1000 1000' },
      { name: 'sub-1/anat/scan.nii', data: nifti() },
      { name: 'README', data: 'x' },
      { name: '__MACOSX/sub-1/anat/._scan.nii', data: nifti() },
      { name: 'sub-1/.DS_Store', data: 'x' },
    ])
    expect(result).toMatchObject({ format: 'nifti', notes: ['3 file(s) in the zip are no images and were left out'] })
    expect(result.files).toHaveLength(1)
  })

  it('is a header and the data that it names', async () => {
    const header = 'NDims = 3\nDimSize = 2 2 1\nElementType = MET_UCHAR\nElementDataFile = scan.raw\n'
    const result = await read([
      { name: 'a/notes.txt', data: 'hello' },
      { name: 'a/scan.raw', data: Buffer.from([1, 2, 3, 4]) },
      { name: 'a/scan.mhd', data: header },
    ])
    expect(result).toMatchObject({ format: 'metaimage', volume: { size: [2, 2, 1], data: Uint8Array.of(1, 2, 3, 4) } })
    expect(result.notes).toEqual(['1 file(s) in the zip are no images and were left out'])
  })

  it.each<{ name: string; entries: ZipEntry[]; code: string; words: RegExp }>([
    {
      name: 'two images beside text',
      entries: [
        { name: 'a.nii', data: nifti() },
        { name: 'b.nii', data: nifti() },
        { name: 'a.json', data: '{}' },
      ],
      code: 'UNSUPPORTED_FORMAT',
      words: /holds 2 images/,
    },
    {
      name: 'two files of text',
      entries: ['a.txt', 'b.txt'].map((name) => ({ name, data: 'hello' })),
      code: 'UNSUPPORTED_FORMAT',
      words: /2 files and none is/,
    },
    {
      name: 'a header without its data',
      entries: [
        { name: 'a.mhd', data: 'NDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n' },
      ],
      code: 'MISSING_IMAGE',
      words: /voxels are in 1 file beside it; none was sent/,
    },
    { name: 'nothing', entries: [{ name: 'a/', data: '' }], code: 'UNSUPPORTED_FORMAT', words: /empty/ },
    { name: 'only clutter', entries: [{ name: '.DS_Store', data: 'x' }], code: 'UNSUPPORTED_FORMAT', words: /empty/ },
    {
      name: 'three files that are no DICOM',
      entries: ['a', 'b', 'c'].map((name) => ({ name, data: nifti() })),
      code: 'UNSUPPORTED_FORMAT',
      words: /holds 3 images \(nifti, nifti, nifti\)/,
    },
    {
      name: 'another zip',
      entries: [{ name: 'b.zip', data: zipBytes([{ name: 'x', data: 'y' }]) }],
      code: 'UNSUPPORTED_FORMAT',
      words: /another zip/,
    },
    { name: 'a link', entries: [{ name: 'l', data: '/etc', mode: 0o120777 }], code: 'UNREADABLE_IMAGE', words: /link/ },
    { name: 'a bomb', entries: [{ name: 'b', data: Buffer.alloc(2 ** 22 + 1) }], code: 'TOO_LARGE', words: /limit/ },
  ])('is refused when it holds $name', async ({ entries, code, words }) => {
    await expect(read(entries)).rejects.toMatchObject({ code, message: expect.stringMatching(words) })
  })
})

describe('DICOM files packed with gzip', () => {
  it('are named as that, alone and in a zip', async () => {
    const packed = (await series('sagittal')).map((bytes) => gzipSync(bytes))
    const path = join(root, 'slice.dcm.gz')
    await writeFile(path, packed[0]!)
    const want = { code: 'UNSUPPORTED_FORMAT', message: expect.stringMatching(/DICOM.* packed with gzip/) }
    await expect(readVolume([path], LIMITS)).rejects.toMatchObject(want)
    await expect(read(packed.map((data, i) => ({ name: `${i}.dcm.gz`, data })))).rejects.toMatchObject(want)
  })
})
