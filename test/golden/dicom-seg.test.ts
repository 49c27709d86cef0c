/** DICOM SEG objects: by their own bits and references, and as highdicom reads them. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import dicomParser from 'dicom-parser'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeDicomSeg } from '../../src/formats/dicom-seg.js'
import { arrangeDicomSeries, readDicomSeries } from '../../src/formats/dicom-series.js'
import { segmentCode } from '../../src/formats/segment-codes.js'
import { makeVolume, type Volume } from '../../src/volume/volume.js'
import { type DicomFixtures, dicomFixtures } from '../helpers/dicom-fixtures.js'
import { pythonJson, pythonWith } from '../helpers/python.js'

const LIMITS = { maxVolumeBytes: 2 ** 26, maxVoxels: 2 ** 24 }
const ABOUT = {
  names: ['left kidney', 'liver tumor', 'unheard of'],
  model: 'tester',
  version: '1.2.3',
  now: new Date(0),
}

let root: string
let fixtures: DicomFixtures
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'dicom-seg-'))
  fixtures = await dicomFixtures('geometry', root)
})
afterAll(() => rm(root, { recursive: true, force: true }))

/** Labels 1 and 3 in some slices each, none of label 2, at places that no mirror image shares. */
function labelsOn({ size, affine }: Volume): Volume<Uint8Array> {
  const [nx, ny, nz] = size
  const data = new Uint8Array(nx * ny * nz)
  for (let z = 0; z < nz; z++)
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++) {
        const i = x + nx * (y + ny * z)
        if (z >= 2 && x < 3 + z && y < 5) data[i] = 1
        else if (z < 4 && y > 12 && x > y - 12) data[i] = 3
      }
  return makeVolume(size, affine, data)
}

async function segOf(name: string) {
  const paths = fixtures.named(`${name}/`)
  const { volume, dicom } = await readDicomSeries(paths, LIMITS)
  const labels = labelsOn(volume)
  const path = join(root, `${name}.dcm`)
  await writeDicomSeg(labels, path, { series: dicom!, limits: LIMITS }, ABOUT)
  return { path, labels, paths }
}

const SERIES = ['oblique', 'sagittal', 'flipped-both', 'tilted', 'instance-numbers-backwards', 'enhanced-multi-frame']

describe('a DICOM SEG', () => {
  it.each(SERIES)('of the series %s has its frames by segment and place, each naming its slice', async (name) => {
    const { path, labels, paths } = await segOf(name)
    const { slices } = await arrangeDicomSeries(paths, LIMITS)
    const set = dicomParser.parseDicom(await readFile(path))
    const items = (from: dicomParser.DataSet, tag: string) => from.elements[tag]!.items!.map((item) => item.dataSet!)
    const frames = items(set, 'x52009230')
    const [nx, ny] = labels.size
    const bits = set.byteArray.subarray(set.elements.x7fe00010!.dataOffset)
    const order: [number, number][] = []
    for (const [f, frame] of frames.entries()) {
      const segment = items(frame, 'x0062000a')[0]!.uint16('x0062000b')!
      const place = items(frame, 'x00209113')[0]!.string('x00200032')!.split('\\').map(Number)
      const source = items(items(frame, 'x00089124')[0]!, 'x00082112')[0]!
      const z = slices.findIndex(({ frame: { position } }) =>
        position!.every((value, i) => Math.abs(value - place[i]!) < 1e-4),
      )
      expect(source.string('x00081155')).toBe(slices[z]!.object.header.sopInstanceUid)
      order.push([segment, z])
      for (let r = 0; r < ny; r++)
        for (let x = 0; x < nx; x++) {
          const bit = (f * ny + r) * nx + x
          const set = (bits[bit >> 3]! >> (bit & 7)) & 1
          expect(set).toBe(labels.data[x + nx * (ny - 1 - r + ny * z)] === segment ? 1 : 0)
        }
    }
    expect(order).toEqual([
      [1, 2],
      [1, 3],
      [1, 4],
      [1, 5],
      [1, 6],
      [3, 0],
      [3, 1],
      [3, 2],
      [3, 3],
    ])
    expect(items(set, 'x00620002').map((segment) => segment.string('x00620005'))).toEqual(ABOUT.names)
    expect(set.string('x00100010')).toBe('Golden^Case')
    expect(set.string('x0020000d')).toBe(slices[0]!.object.header.studyUid)
    expect(set.string('x0020000e')).not.toBe(slices[0]!.object.header.seriesUid)
    expect(items(set, 'x00081115')[0]!.string('x0020000e')).toBe(slices[0]!.object.header.seriesUid)
  })

  const python = pythonWith(['highdicom', 'pydicom'])
  it.skipIf(!python)('is read by highdicom, slice by slice of its source (needs highdicom)', async () => {
    const { path, labels, paths } = await segOf('oblique')
    const { slices } = await arrangeDicomSeries(paths, LIMITS)
    const script = `
import sys, json, highdicom
seg = highdicom.seg.segread(sys.argv[1])
pixels = seg.get_pixels_by_source_instance(sys.argv[2:], combine_segments=True)
segments = [[s.SegmentLabel, s.segmented_property_type.value, s.segmented_property_category.value] for s in seg.SegmentSequence]
print(json.dumps({"pixels": pixels.ravel().tolist(), "segments": segments}))`
    const uids = slices.map(({ object }) => object.header.sopInstanceUid)
    const read = (await pythonJson(python!, script, [path, ...uids])) as { pixels: number[]; segments: string[][] }
    const [nx, ny, nz] = labels.size
    const rowsDown: number[] = []
    for (let z = 0; z < nz; z++)
      for (let r = 0; r < ny; r++)
        for (let x = 0; x < nx; x++) rowsDown.push(labels.data[x + nx * (ny - 1 - r + ny * z)]!)
    expect(read.pixels).toEqual(rowsDown)
    expect(read.segments).toEqual([
      ['left kidney', '64033007', '123037004'],
      ['liver tumor', '108369006', '49755003'],
      ['unheard of', '85756007', '85756007'],
    ])
  })

  it('of nothing has one empty frame', async () => {
    const paths = fixtures.named('oblique/')
    const { volume, dicom } = await readDicomSeries(paths, LIMITS)
    const path = join(root, 'empty.dcm')
    const empty = makeVolume(volume.size, volume.affine, new Uint8Array(volume.data.length))
    await writeDicomSeg(empty, path, { series: dicom!, limits: LIMITS }, ABOUT)
    expect(dicomParser.parseDicom(await readFile(path)).string('x00280008')).toBe('1')
  })

  it('is refused on another grid', async () => {
    const paths = fixtures.named('oblique/')
    const { volume, dicom } = await readDicomSeries(paths, LIMITS)
    const other = makeVolume([12, 20, 1], volume.affine, new Uint8Array(240))
    await expect(
      writeDicomSeg(other, join(root, 'x'), { series: dicom!, limits: LIMITS }, ABOUT),
    ).rejects.toMatchObject({
      code: 'BAD_GEOMETRY',
    })
  })
})

/**
 * Every fixture that is read as an image: the SEG made of it, read by pydicom (its bits, its places, its texts) and by
 * highdicom. `rows` says how the volume's rows run against DICOM's.
 */
const READ_BACK = `
import sys, json, warnings, numpy as np, pydicom, highdicom
warnings.simplefilter("ignore")
found = []
for path in sys.argv[1:]:
    ds = pydicom.dcmread(path)
    seg = highdicom.seg.segread(path)
    pixels = np.atleast_3d(ds.pixel_array) if ds.NumberOfFrames > 1 else ds.pixel_array[None]
    assert (np.asarray(seg.pixel_array).reshape(pixels.shape) == pixels).all()
    frames = []
    for frame, bits in zip(ds.PerFrameFunctionalGroupsSequence, pixels):
        place = frame.PlanePositionSequence[0].ImagePositionPatient if "PlanePositionSequence" in frame else None
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        frames.append({
            "segment": frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            "place": place and [float(v) for v in place],
            "uid": source.ReferencedSOPInstanceUID,
            "frame": int(source.get("ReferencedFrameNumber", 1)),
            "ones": np.flatnonzero(bits).tolist(),
        })
    found.append({"frames": frames, "size": [ds.Columns, ds.Rows], "patient": str(ds.PatientName), "study": ds.StudyInstanceUID})
print(json.dumps(found))`

interface ReadBack {
  readonly frames: { segment: number; place: number[] | null; uid: string; frame: number; ones: number[] }[]
  readonly size: [number, number]
  readonly patient: string
  readonly study: string
}

const reader = pythonWith(['highdicom', 'pydicom'])
describe.skipIf(!reader).each(['encodings', 'geometry', 'relatives'] as const)(
  'of every fixture of %s that is read as an image (needs highdicom)',
  async (part) => {
    const folder = await mkdtemp(join(tmpdir(), 'dicom-seg-all-'))
    afterAll(() => rm(folder, { recursive: true, force: true }))
    const { named } = await dicomFixtures(part, folder)
    const cases = JSON.parse(await readFile(named('cases.json')[0]!, 'utf8')) as { name: string; error?: unknown }[]
    const readable = cases.filter(({ error }) => !error).map(({ name }) => name)
    const made = new Map<string, { labels: Volume; path: string; paths: string[] }>()
    const back = new Map<string, ReadBack>()
    beforeAll(async () => {
      for (const name of readable) {
        const paths = named(`${name}/`)
        const { volume, dicom } = await readDicomSeries(paths, LIMITS)
        const labels = speckled(volume)
        const path = join(folder, `${name}.seg`)
        await writeDicomSeg(labels, path, { series: dicom!, limits: LIMITS }, ABOUT)
        made.set(name, { labels, path, paths })
      }
      const paths = readable.map((name) => made.get(name)!.path)
      const found = (await pythonJson(reader!, READ_BACK, paths)) as ReadBack[]
      for (const [i, name] of readable.entries()) back.set(name, found[i]!)
    }, 120_000)

    it.each(readable)('%s has the same voxels at the same places', async (name) => {
      const { labels, paths } = made.get(name)!
      const { frames, size, patient, study } = back.get(name)!
      const { dicom, volume, extension } = await readDicomSeries(paths, LIMITS)
      const { slices, stack } = dicom!
      const [nx, ny] = labels.size
      expect(size).toEqual([nx, ny])
      expect(patient).toMatch(/^Golden\^/)
      expect(study).toBe(slices[0]!.object.header.studyUid)
      const seen = new Set<string>()
      for (const { segment, place, uid, frame, ones } of frames) {
        const z = slices.findIndex(
          ({ object, index }, i) =>
            object.header.sopInstanceUid === uid &&
            index + 1 === frame &&
            (place === null || Math.hypot(...stack.places[i]!.map((mm, axis) => mm - place[axis]!)) < 1e-3),
        )
        expect(z).toBeGreaterThanOrEqual(0)
        seen.add(`${segment} ${z}`)
        const upwards = extension !== '.png'
        const wanted: number[] = []
        for (let r = 0; r < ny; r++)
          for (let x = 0; x < nx; x++)
            if (labels.data[x + nx * ((upwards ? ny - 1 - r : r) + ny * z)] === segment) wanted.push(x + nx * r)
        expect(ones).toEqual(wanted)
        // A colour picture has a place in the patient, and its own grid none.
        if (place === null || !upwards || stack.uneven) continue
        // The first pixel of the frame, LPS, is the volume's voxel in the last row, RAS.
        const { affine } = volume
        const at = (axis: number) =>
          affine[4 * axis + 1]! * (ny - 1) + affine[4 * axis + 2]! * z + affine[4 * axis + 3]!
        for (const [axis, mm] of [-at(0), -at(1), at(2)].entries()) expect(place[axis]).toBeCloseTo(mm, 3)
      }
      expect(seen.size).toBe(frames.length)
      expect(frames.length).toBe(2 * labels.size[2])
    })
  },
)

/** Labels 1 and 2 in every slice, at places that no other slice has. */
function speckled({ size, affine }: Volume): Volume<Uint8Array> {
  const [nx, ny, nz] = size
  const data = new Uint8Array(nx * ny * nz)
  for (let z = 0; z < nz; z++) {
    for (let i = 0; i <= z; i++) data[((7 * i + 3) % (nx * ny)) + nx * ny * z] = 1
    data[((7 * z + 5) % (nx * ny)) + nx * ny * z] = 2
  }
  return makeVolume(size, affine, data)
}

it.each([
  { name: 'spleen', type: '78961009', side: undefined },
  { name: 'Kidney_Left', type: '64033007', side: '7771000' },
  { name: 'right lung', type: '39607008', side: '24028007' },
  { name: 'oesophagus', type: '32849002', side: undefined },
  { name: 'Brain-Tumour', type: '108369006', side: undefined },
  { name: 'label 7', type: '85756007', side: undefined },
  { name: '', type: '85756007', side: undefined },
  { name: 'constructor', type: '85756007', side: undefined },
])("'$name' has code $type", ({ name, type, side }) => {
  const found = segmentCode(name)
  expect([found.type.value, found.modifier?.value]).toEqual([type, side])
})
