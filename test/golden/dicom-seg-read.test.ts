/** DICOM SEG objects as label maps: our own on every grid, and those that highdicom makes. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeDicomSeg } from '../../src/formats/dicom-seg.js'
import { readDicomSeries } from '../../src/formats/dicom-series.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import { mask2polygon } from '../../src/pipelines/polygons.js'
import { makeVolume, type Volume } from '../../src/volume/volume.js'
import { type DicomFixtures, dicomFixtures } from '../helpers/dicom-fixtures.js'
import { idleControl } from '../helpers/pipeline.js'
import { pythonJson, pythonWith } from '../helpers/python.js'
import { roomyLimits } from '../helpers/volumes.js'

const ABOUT = { names: ['one', 'two', 'three'], model: 'tester', version: '1.2.3', now: new Date(0) }

let root: string
let fixtures: DicomFixtures
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'dicom-seg-read-'))
  fixtures = await dicomFixtures('geometry', root)
})
afterAll(() => rm(root, { recursive: true, force: true }))

/** Labels 1 and 3 in the slices from `first` to `last`, at places that no mirror image shares. */
function labelsOn({ size, affine }: Volume, [first, last]: readonly [number, number]): Volume<Uint8Array> {
  const [nx, ny, nz] = size
  const data = new Uint8Array(nx * ny * nz)
  for (let z = Math.min(first, nz - 1); z <= Math.min(last, nz - 1); z++)
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++) {
        if (x < 3 + z && y < 5) data[x + nx * (y + ny * z)] = 1
        else if (y > 12 && x > y - 12) data[x + nx * (y + ny * z)] = 3
      }
  return makeVolume(size, affine, data)
}

async function segOf(name: string, range: readonly [number, number]) {
  const { volume, dicom } = await readDicomSeries(fixtures.named(`${name}/`), roomyLimits)
  const labels = labelsOn(volume, range)
  const path = join(root, `${name}-${range.join('-')}.dcm`)
  await writeDicomSeg(labels, path, { series: dicom!, limits: roomyLimits }, ABOUT)
  return { path, labels }
}

const SERIES = ['sagittal', 'coronal', 'oblique', 'flipped-rows', 'flipped-both', 'tilted', 'rounded-positions']

describe.each([...SERIES, 'instance-numbers-backwards', 'no-positions', 'single-slice', 'radiograph'])(
  'the segmentation of the series %s, read back,',
  (name) => {
    it.each([
      { where: 'in the middle', range: [2, 4] },
      { where: 'in one slice', range: [3, 3] },
      { where: 'in all slices', range: [0, 99] },
    ] as const)('lies on the grid of the series with labels $where', async ({ range }) => {
      const { path, labels } = await segOf(name, range)
      const { volume } = await readDicomSeries([path], roomyLimits)
      // Of a stack without places nothing says how many empty slices follow the last frame.
      const depth = name === 'no-positions' ? Math.min(range[1], 6) + 1 : labels.size[2]
      expect(volume.size).toEqual([labels.size[0], labels.size[1], depth])
      expect([...volume.data]).toEqual([...labels.data].slice(0, volume.data.length))
      // Nor can one slice alone tell that a stack leans.
      if (name === 'no-positions' || (name === 'tilted' && range[0] === range[1])) return
      for (const [i, value] of labels.affine.entries()) expect(volume.affine[i]).toBeCloseTo(value, 3)
    })
  },
)

it('of a multi-frame object reaches to its last frame', async () => {
  const { path, labels } = await segOf('enhanced-multi-frame', [2, 4])
  const { volume } = await readDicomSeries([path], roomyLimits)
  expect([...volume.data]).toEqual([...labels.data].slice(0, 5 * 12 * 20))
})

it('gives the polygons that the same mask gives as NIfTI', async () => {
  const { path, labels } = await segOf('oblique', [2, 4])
  const nifti = join(root, 'mask.nii.gz')
  await writeVolume(labels, nifti, { extension: '.nii.gz', kind: 'labels' })
  const polygonsOf = async (file: string, params: Record<string, unknown>) => {
    const outDir = await mkdtemp(join(root, 'out-'))
    const images = [{ field: 'image', paths: [file] }]
    const job = { kind: 'mask2polygon', images, params, wish: { file: true }, outDir, limits: roomyLimits } as const
    const { file: result } = await mask2polygon(job, idleControl)
    return JSON.parse(await readFile(result!.path, 'utf8')) as unknown[]
  }
  for (const params of [{}, { label: 1 }, { label: 3 }]) {
    const found = await polygonsOf(path, params)
    expect(found).toEqual(await polygonsOf(nifti, params))
    expect(found.flat().length).toBeGreaterThan(0)
  }
})

const python = pythonWith(['highdicom', 'pydicom'])
describe.skipIf(!python)('a segmentation by highdicom (needs highdicom)', () => {
  const script = `
import sys, json, numpy as np, pydicom, highdicom as hd
from pydicom.sr.codedict import codes
out, kind, *files = sys.argv[1:]
sources = sorted((pydicom.dcmread(f) for f in files), key=lambda s: float(s.ImagePositionPatient[2]))
for source in sources:
    source.FrameOfReferenceUID = "2.25.77"
    for word in ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "ReferringPhysicianName", "Laterality"):
        setattr(source, word, "")
shape = (len(sources), sources[0].Rows, sources[0].Columns)
labels = np.zeros(shape, np.uint8)
labels[2:5, 3:9, 2:7] = 1
labels[3:6, 11:15, 4:10] = 2
algorithm = hd.AlgorithmIdentificationSequence(name="a", version="1", family=codes.DCM.ArtificialIntelligence)
describe = lambda n: hd.seg.SegmentDescription(n, f"part {n}", codes.SCT.Tissue, codes.SCT.Tissue, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm)
pixels = labels
if kind == "FRACTIONAL":
    pixels = np.stack([(labels == 1) * 0.9, (labels == 2) * 0.6], -1)
seg = hd.seg.Segmentation(sources, pixels, hd.seg.SegmentationTypeValues[kind], [describe(1), describe(2)], "2.25.1", 1, "2.25.2", 1, "m", "m", "1", "1")
seg.save_as(out)
print(json.dumps(labels.tolist()))`

  it.each(['BINARY', 'FRACTIONAL', 'LABELMAP'])('of type %s has its segments where it has them', async (kind) => {
    const files = fixtures.named('instance-numbers-backwards/')
    const path = join(root, `${kind}.dcm`)
    const labels = (await pythonJson(python!, script, [path, kind, ...files])) as number[][][]
    const { volume: image } = await readDicomSeries(files, roomyLimits)
    const { volume } = await readDicomSeries([path], roomyLimits)
    const [nx, ny, nz] = volume.size
    // Where its first slice is depends on whether it tells of empty ones: the affine says so.
    const before = Math.round((volume.affine[11]! - image.affine[11]!) / 2.5)
    expect(volume.affine[11]! - image.affine[11]!).toBeCloseTo(2.5 * before, 3)
    for (let z = 0; z < 7; z++)
      for (let r = 0; r < ny; r++)
        for (let x = 0; x < nx; x++) {
          const inside = z - before >= 0 && z - before < nz
          const found = inside ? volume.data[x + nx * (ny - 1 - r + ny * (z - before))] : 0
          expect(found).toBe(labels[z]![r]![x])
        }
  })
})
