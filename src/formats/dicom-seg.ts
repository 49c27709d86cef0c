/** A label map on the grid of a DICOM series -> a DICOM Segmentation object (PS3.3 A.51) that refers to its slices. */
import { randomUUID } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import dcmjs from 'dcmjs'
import { AppError } from '../errors.js'
import type { Volume } from '../volume/volume.js'
import type { DicomSlice } from './dicom-series.js'
import { arrangeDicomSeries } from './dicom-series.js'
import type { ReadLimits } from './format.js'
import { type Code, segmentCode } from './segment-codes.js'

export interface SegSource {
  /** The files the label map's image was read from, in any order. */
  readonly paths: readonly string[]
  readonly limits: ReadLimits
}

export interface SegDescription {
  /** Names of labels 1, 2, … in order; labels beyond them are numbered. */
  readonly names: readonly string[]
  /** Who made it, for the algorithm's name. */
  readonly model: string
  readonly version: string
  readonly now: Date
}

/** What dcmjs calls a naturalized data set: attributes by keyword. */
type Attributes = Record<string, unknown>

const SEGMENTATION_STORAGE = '1.2.840.10008.5.1.4.1.1.66.4'
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1'
const IMPLEMENTATION_CLASS_UID = '2.25.302043790172249692526321623266752743501'
/** SegmentNumber is 16 bits; a label map with more values is no segmentation. */
const MAX_SEGMENTS = 65_535
/** A data set's patient and study sit at its head; dcmjs parses no more of a slice than this. */
const MAX_COPIED_BYTES = 64 * 1024 * 1024

/** Copied from the first slice, so that the object lands beside the series in the patient's record. */
const COPIED: readonly string[] = [
  ...['PatientName', 'PatientID', 'PatientBirthDate', 'PatientSex', 'PatientAge', 'PatientWeight', 'PatientSize'],
  ...['IssuerOfPatientID', 'StudyInstanceUID', 'StudyID', 'StudyDate', 'StudyTime', 'StudyDescription'],
  ...['AccessionNumber', 'ReferringPhysicianName', 'FrameOfReferenceUID', 'PositionReferenceIndicator'],
]

/**
 * Writes one BINARY segmentation with a segment per label and a frame per slice that holds any of it, segment by segment,
 * slices rising along the normal; every frame names the slice it was made from. Throws BAD_GEOMETRY when the label map
 * does not lie on the series' grid.
 */
export async function writeDicomSeg(
  labels: Volume,
  path: string,
  source: SegSource,
  about: SegDescription,
): Promise<void> {
  const { slices } = await arrangeDicomSeries(source.paths, source.limits)
  const first = slices[0]!.object.header
  const [columns, rows, depth] = labels.size
  if (columns !== first.columns || rows !== first.rows || depth !== slices.length || labels.channels !== 1)
    throw new AppError('BAD_GEOMETRY', 'the result does not lie on the grid of the DICOM series')
  const origin = await readCopied(slices[0]!.object.path)
  const { frames, highest } = collectFrames(labels)
  const segments = Math.max(1, highest, about.names.length)
  if (segments > MAX_SEGMENTS)
    throw new AppError('BAD_GEOMETRY', `the result has ${segments} labels; DICOM takes ${MAX_SEGMENTS}`)
  if (frames.length === 0) frames.push({ label: 1, slice: 0 })
  const uids = { series: makeUid(), instance: makeUid(), dimensions: makeUid() }
  const dataset: Attributes = {
    ...origin,
    SpecificCharacterSet: 'ISO_IR 192',
    SOPClassUID: SEGMENTATION_STORAGE,
    SOPInstanceUID: uids.instance,
    ...seriesAttributes(about, uids.series),
    ...imageAttributes(labels, frames.length),
    SegmentSequence: Array.from({ length: segments }, (_, i) => segment(i + 1, about)),
    DimensionOrganizationSequence: [{ DimensionOrganizationUID: uids.dimensions }],
    DimensionIndexSequence: dimensions(uids.dimensions),
    ReferencedSeriesSequence: [referencedSeries(slices)],
    SharedFunctionalGroupsSequence: [sharedGroups(slices)],
    PerFrameFunctionalGroupsSequence: frames.map(({ label, slice }) => frameGroups(label, slice, slices)),
    PixelData: packFrames(labels, frames),
  }
  await writeFile(path, toPart10(dataset, uids.instance))
}

interface SegFrame {
  readonly label: number
  readonly slice: number
}

/** The pairs of label and slice that occur, label by label. */
function collectFrames({ data, size }: Volume): { frames: SegFrame[]; highest: number } {
  const voxels = size[0] * size[1]
  const present = new Map<number, number[]>()
  for (let z = 0; z < size[2]; z++) {
    const seen = new Set<number>()
    let last = 0
    for (let i = z * voxels; i < (z + 1) * voxels; i++) {
      const label = data[i]!
      if (label === last || label === 0) continue
      last = label
      seen.add(label)
    }
    for (const label of seen) {
      if (!(Number.isInteger(label) && label > 0)) throw new AppError('BAD_GEOMETRY', 'the result is no label map')
      const list = present.get(label)
      if (list) list.push(z)
      else present.set(label, [z])
    }
  }
  const ordered = [...present].sort(([a], [b]) => a - b)
  const frames = ordered.flatMap(([label, places]) => places.map((slice) => ({ label, slice })))
  return { frames, highest: ordered.at(-1)?.[0] ?? 0 }
}

/** One bit a voxel, lowest bit first, frames without a gap between them; rows downwards again, as DICOM has them. */
function packFrames({ data, size: [columns, rows] }: Volume, frames: readonly SegFrame[]): ArrayBuffer {
  const perFrame = columns * rows
  const bytes = Math.ceil((perFrame * frames.length) / 8)
  const packed = new Uint8Array(bytes + (bytes % 2))
  let bit = 0
  for (const { label, slice } of frames) {
    for (let r = 0; r < rows; r++, bit += columns) {
      const row = slice * perFrame + (rows - 1 - r) * columns
      const end = row + columns
      // Most rows hold none of a label, and indexOf finds that out faster than a loop does.
      const found = data.subarray(row, end).indexOf(label)
      if (found < 0) continue
      for (let i = row + found; i < end; i++) {
        if (data[i] !== label) continue
        const at = bit + i - row
        packed[at >> 3]! |= 1 << (at & 7)
      }
    }
  }
  return packed.buffer
}

function seriesAttributes({ now, model, version }: SegDescription, seriesUid: string): Attributes {
  const [date, time] = [
    now.toISOString().slice(0, 10).replaceAll('-', ''),
    now.toISOString().slice(11, 19).replaceAll(':', ''),
  ]
  return {
    Modality: 'SEG',
    SeriesInstanceUID: seriesUid,
    SeriesNumber: '300',
    InstanceNumber: '1',
    SeriesDescription: `Segmentation by ${model}`.slice(0, 64),
    SeriesDate: date,
    SeriesTime: time,
    ContentDate: date,
    ContentTime: time,
    Manufacturer: 'Aidant',
    ManufacturerModelName: 'Aidant',
    DeviceSerialNumber: '0',
    SoftwareVersions: version.slice(0, 64),
    ContentLabel: 'SEGMENTATION',
    ContentDescription: `Segmentation by ${model}`.slice(0, 64),
    ContentCreatorName: 'Aidant',
  }
}

function imageAttributes({ size: [columns, rows] }: Volume, frames: number): Attributes {
  return {
    ImageType: ['DERIVED', 'PRIMARY'],
    SamplesPerPixel: 1,
    PhotometricInterpretation: 'MONOCHROME2',
    NumberOfFrames: String(frames),
    Rows: rows,
    Columns: columns,
    BitsAllocated: 1,
    BitsStored: 1,
    HighBit: 0,
    PixelRepresentation: 0,
    LossyImageCompression: '00',
    SegmentationType: 'BINARY',
  }
}

function segment(number: number, { names, model }: SegDescription): Attributes {
  const name = names[number - 1] ?? `label ${number}`
  const { category, type, modifier } = segmentCode(name)
  return {
    SegmentNumber: number,
    SegmentLabel: name.slice(0, 64),
    SegmentAlgorithmType: 'AUTOMATIC',
    SegmentAlgorithmName: model.slice(0, 64),
    SegmentedPropertyCategoryCodeSequence: [coded(category)],
    SegmentedPropertyTypeCodeSequence: [
      { ...coded(type), ...(modifier ? { SegmentedPropertyTypeModifierCodeSequence: [coded(modifier)] } : {}) },
    ],
  }
}

function coded({ value, scheme, meaning }: Code): Attributes {
  return { CodeValue: value, CodingSchemeDesignator: scheme, CodeMeaning: meaning }
}

/** First the segment, then the place. Tags are written as their numbers. */
function dimensions(organization: string): Attributes[] {
  const [segmentIdentification, segmentNumber] = [0x0062000a, 0x0062000b]
  const [planePosition, imagePosition] = [0x00209113, 0x00200032]
  return [
    {
      DimensionOrganizationUID: organization,
      DimensionIndexPointer: segmentNumber,
      FunctionalGroupPointer: segmentIdentification,
      DimensionDescriptionLabel: 'Segment',
    },
    {
      DimensionOrganizationUID: organization,
      DimensionIndexPointer: imagePosition,
      FunctionalGroupPointer: planePosition,
      DimensionDescriptionLabel: 'Position',
    },
  ]
}

function referencedSeries(slices: readonly DicomSlice[]): Attributes {
  const objects = new Map(slices.map(({ object }) => [object.header.sopInstanceUid, object.header]))
  return {
    SeriesInstanceUID: slices[0]!.object.header.seriesUid,
    ReferencedInstanceSequence: [...objects.values()].map(({ sopClassUid, sopInstanceUid }) => ({
      ReferencedSOPClassUID: sopClassUid,
      ReferencedSOPInstanceUID: sopInstanceUid,
    })),
  }
}

function sharedGroups(slices: readonly DicomSlice[]): Attributes {
  const { frame, object } = slices[0]!
  const [rowGap, columnGap] = frame.pixelSpacing ?? [1, 1]
  const gap = gapOf(slices) ?? object.header.sliceThickness ?? 1
  return {
    PixelMeasuresSequence: [
      {
        PixelSpacing: [decimal(rowGap), decimal(columnGap)],
        SliceThickness: decimal(object.header.sliceThickness ?? gap),
        SpacingBetweenSlices: decimal(gap),
      },
    ],
    PlaneOrientationSequence: [
      { ImageOrientationPatient: [...(frame.row ?? [1, 0, 0]), ...(frame.column ?? [0, 1, 0])].map(decimal) },
    ],
  }
}

function gapOf(slices: readonly DicomSlice[]): number | undefined {
  const [a, b] = [slices[0]!.frame.position, slices.at(-1)!.frame.position]
  if (slices.length < 2 || !a || !b) return undefined
  return Math.hypot(b[0] - a[0], b[1] - a[1], b[2] - a[2]) / (slices.length - 1)
}

function frameGroups(label: number, slice: number, slices: readonly DicomSlice[]): Attributes {
  const { frame, object, index } = slices[slice]!
  const { sopClassUid, sopInstanceUid, frames } = object.header
  return {
    FrameContentSequence: [{ DimensionIndexValues: [label, slice + 1] }],
    PlanePositionSequence: [{ ImagePositionPatient: (frame.position ?? [0, 0, 0]).map(decimal) }],
    SegmentIdentificationSequence: [{ ReferencedSegmentNumber: label }],
    DerivationImageSequence: [
      {
        DerivationCodeSequence: [coded({ value: '113076', scheme: 'DCM', meaning: 'Segmentation' })],
        SourceImageSequence: [
          {
            ReferencedSOPClassUID: sopClassUid,
            ReferencedSOPInstanceUID: sopInstanceUid,
            ...(frames.length > 1 ? { ReferencedFrameNumber: String(index + 1) } : {}),
            SpatialLocationsPreserved: 'YES',
            PurposeOfReferenceCodeSequence: [
              coded({ value: '121322', scheme: 'DCM', meaning: 'Source image for image processing operation' }),
            ],
          },
        ],
      },
    ],
  }
}

async function readCopied(path: string): Promise<Attributes> {
  if ((await stat(path)).size > MAX_COPIED_BYTES)
    throw new AppError('TOO_LARGE', 'the DICOM file is too large to make a DICOM SEG for')
  const bytes = await readFile(path)
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
  let set: Attributes
  try {
    dcmjs.log.setLevel('silent')
    const { dict } = dcmjs.data.DicomMessage.readFile(buffer, { untilTag: '7FE00010', includeUntilTagValue: false })
    set = dcmjs.data.DicomMetaDictionary.naturalizeDataset(dict)
  } catch (cause) {
    throw new AppError('UNREADABLE_IMAGE', 'the DICOM header cannot be copied into a DICOM SEG', { cause })
  }
  // An attribute a SEG must have may be empty, but not absent.
  const required = ['PatientName', 'PatientID', 'PatientBirthDate', 'PatientSex', 'StudyID', 'StudyDate', 'StudyTime']
  const empty = [...required, 'AccessionNumber', 'ReferringPhysicianName'].map((name) => [name, ''])
  const found = COPIED.filter((name) => set[name] !== undefined).map((name) => [name, set[name]])
  return { FrameOfReferenceUID: makeUid(), ...Object.fromEntries(empty), ...Object.fromEntries(found) }
}

function toPart10(dataset: Attributes, instanceUid: string): Buffer {
  const meta: Attributes = {
    FileMetaInformationVersion: new Uint8Array([0, 1]).buffer,
    MediaStorageSOPClassUID: SEGMENTATION_STORAGE,
    MediaStorageSOPInstanceUID: instanceUid,
    TransferSyntaxUID: EXPLICIT_LITTLE,
    ImplementationClassUID: IMPLEMENTATION_CLASS_UID,
  }
  const { DicomDict, DicomMetaDictionary } = dcmjs.data
  const file = new DicomDict(DicomMetaDictionary.denaturalizeDataset(meta))
  file.dict = DicomMetaDictionary.denaturalizeDataset({ ...dataset, _vrMap: { PixelData: 'OB' } })
  return Buffer.from(file.write())
}

/** A UID made of a UUID (PS3.5 B.2). */
function makeUid(): string {
  return `2.25.${BigInt(`0x${randomUUID().replaceAll('-', '')}`)}`
}

/** At most 16 characters, as a decimal string may have. */
function decimal(value: number): string {
  for (let digits = 15; digits > 3; digits--) {
    const text = String(Number(value.toPrecision(digits)))
    if (text.length <= 16) return text
  }
  return String(Math.round(value))
}
