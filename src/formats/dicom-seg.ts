/** A label map on the grid of a DICOM series -> a DICOM Segmentation object (PS3.3 A.51) that refers to its slices. */
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { AppError } from '../errors.js'
import { cross, dot, subtract } from '../volume/vec3.js'
import type { Vec3, Volume } from '../volume/volume.js'
import type { DataSet, Tag } from './dicom-dataset.js'
import { readDicomAttributes } from './dicom-header.js'
import { SEGMENTATION_STORAGE } from './dicom-seg-read.js'
import { type DicomSeries, type DicomSlice, isPicture } from './dicom-series.js'
import { type Attribute, encodePart10 } from './dicom-write.js'
import type { ReadLimits } from './format.js'
import { type Code, segmentCode } from './segment-codes.js'

export interface SegSource {
  /** The series the label map's image was read from, as `readDicomSeries` gave it. */
  readonly series: DicomSeries
  readonly limits: ReadLimits
}

export interface SegDescription {
  /** Names of labels 1, 2, … in order; labels beyond them are numbered. */
  readonly names: readonly string[]
  /** The model that drew them, for the algorithm's name; undefined: a person alone did. */
  readonly model: string | undefined
  /** True where a person has gone over what a model drew. Default: false. */
  readonly edited?: boolean | undefined
  readonly version: string
  readonly now: Date
}

/** SegmentNumber is 16 bits; a label map with more values is no segmentation. */
const MAX_SEGMENTS = 65_535
/** Texts of more bytes than this (its VR's length is 16 bits) are nobody's name. */
const MAX_COPIED_BYTES = 0xfffe

/**
 * Copied from the first slice, byte for byte and with their character set, so that the object lands beside the series in
 * the patient's record. `required`: must be there, though it may be empty.
 */
const COPIED: readonly { readonly tag: Tag; readonly vr: string; readonly required?: boolean }[] = [
  { tag: 0x00080005, vr: 'CS' }, // SpecificCharacterSet
  { tag: 0x00080020, vr: 'DA', required: true }, // StudyDate
  { tag: 0x00080030, vr: 'TM', required: true }, // StudyTime
  { tag: 0x00080050, vr: 'SH', required: true }, // AccessionNumber
  { tag: 0x00080090, vr: 'PN', required: true }, // ReferringPhysicianName
  { tag: 0x00080201, vr: 'SH' }, // TimezoneOffsetFromUTC
  { tag: 0x00081030, vr: 'LO' }, // StudyDescription
  { tag: 0x00100010, vr: 'PN', required: true }, // PatientName
  { tag: 0x00100020, vr: 'LO', required: true }, // PatientID
  { tag: 0x00100021, vr: 'LO' }, // IssuerOfPatientID
  { tag: 0x00100030, vr: 'DA', required: true }, // PatientBirthDate
  { tag: 0x00100040, vr: 'CS', required: true }, // PatientSex
  { tag: 0x00101010, vr: 'AS' }, // PatientAge
  { tag: 0x00101020, vr: 'DS' }, // PatientSize
  { tag: 0x00101030, vr: 'DS' }, // PatientWeight
  { tag: 0x00120062, vr: 'CS' }, // PatientIdentityRemoved
  { tag: 0x00120063, vr: 'LO' }, // DeidentificationMethod
  { tag: 0x0020000d, vr: 'UI', required: true }, // StudyInstanceUID
  { tag: 0x00200010, vr: 'SH', required: true }, // StudyID
]
const FRAME_OF_REFERENCE: readonly { readonly tag: Tag; readonly vr: string }[] = [
  { tag: 0x00200052, vr: 'UI' },
  { tag: 0x00201040, vr: 'LO' }, // PositionReferenceIndicator
]

/**
 * Writes one BINARY segmentation with a segment per label and a frame per slice that holds any of it, segment by segment,
 * slices rising along the normal; every frame names the slice it was made from, and lies where the series' grid has it.
 * Slices that say nothing of where they lie give frames that do not either. Throws BAD_GEOMETRY when the label map does
 * not lie on the series' grid.
 */
export async function writeDicomSeg(
  labels: Volume,
  path: string,
  { series, limits }: SegSource,
  about: SegDescription,
): Promise<void> {
  const { slices } = series
  const { header, path: file, name } = slices[0]!.object
  const [columns, rows, depth] = labels.size
  if (columns !== header.columns || rows !== header.rows || depth !== slices.length || labels.channels !== 1)
    throw new AppError('BAD_GEOMETRY', 'the result does not lie on the grid of the DICOM series')
  const { frames, highest } = collectFrames(labels)
  const segments = Math.max(1, highest, about.names.length)
  if (segments > MAX_SEGMENTS)
    throw new AppError('BAD_GEOMETRY', `the result has ${segments} labels; DICOM takes ${MAX_SEGMENTS}`)
  if (frames.length === 0) frames.push({ label: 1, slice: 0 })
  const uids = { series: makeUid(), instance: makeUid(), dimensions: makeUid() }
  const dataset: Attribute[] = [
    ...copied(readDicomAttributes(file, limits, name), series.stack.placed),
    [0x00080016, 'UI', SEGMENTATION_STORAGE],
    [0x00080018, 'UI', uids.instance],
    ...seriesAttributes(about, uids.series),
    ...imageAttributes(labels, frames.length),
    [0x00620002, 'SQ', Array.from({ length: segments }, (_, i) => segment(i + 1, about))],
    [0x00209221, 'SQ', [[[0x00209164, 'UI', uids.dimensions]]]],
    [0x00209222, 'SQ', dimensions(uids.dimensions, series.stack.placed)],
    [0x00081115, 'SQ', [referencedSeries(slices)]],
    [0x52009229, 'SQ', [sharedGroups(series)]],
    [0x52009230, 'SQ', frames.map(({ label, slice }) => frameGroups(label, slice, series))],
    [0x7fe00010, 'OB', packFrames(labels, frames, !isPicture(series))],
  ]
  await writeFile(path, encodePart10(SEGMENTATION_STORAGE, uids.instance, dataset))
}

function copied(source: DataSet, placed: boolean): Attribute[] {
  const attributes: Attribute[] = []
  for (const { tag, vr, required } of [...COPIED, ...(placed ? FRAME_OF_REFERENCE : [])] as typeof COPIED) {
    const bytes = source.bytes(tag)
    if (bytes && bytes.length <= MAX_COPIED_BYTES) attributes.push([tag, vr, bytes])
    else if (required) attributes.push([tag, vr, ''])
    else if (placed && tag === FRAME_OF_REFERENCE[0]!.tag) attributes.push([tag, vr, makeUid()])
    // Whoever states a frame of reference states its indicator too, if only as unknown.
    else if (placed && tag === FRAME_OF_REFERENCE[1]!.tag) attributes.push([tag, vr, ''])
  }
  return attributes
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

/** One bit a voxel, lowest bit first, frames without a gap between them; rows downwards, as DICOM has them. */
function packFrames({ data, size: [columns, rows] }: Volume, frames: readonly SegFrame[], rowsUp: boolean): Uint8Array {
  const perFrame = columns * rows
  const bytes = Math.ceil((perFrame * frames.length) / 8)
  const packed = new Uint8Array(bytes + (bytes % 2))
  let bit = 0
  for (const { label, slice } of frames) {
    for (let r = 0; r < rows; r++, bit += columns) {
      const row = slice * perFrame + (rowsUp ? rows - 1 - r : r) * columns
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
  return packed
}

function seriesAttributes({ now, model, version }: SegDescription, seriesUid: string): Attribute[] {
  const date = now.toISOString().slice(0, 10).replaceAll('-', '')
  const time = now.toISOString().slice(11, 19).replaceAll(':', '')
  const description = model === undefined ? 'Segmentation' : words(`Segmentation by ${model}`)
  return [
    [0x00080060, 'CS', 'SEG'],
    [0x0020000e, 'UI', seriesUid],
    [0x00200011, 'IS', '300'],
    [0x00200013, 'IS', '1'],
    [0x0008103e, 'LO', description],
    [0x00080021, 'DA', date],
    [0x00080031, 'TM', time],
    [0x00080023, 'DA', date],
    [0x00080033, 'TM', time],
    [0x00080070, 'LO', 'Aidant'],
    [0x00081090, 'LO', 'Aidant'],
    [0x00181000, 'LO', '0'],
    [0x00181020, 'LO', words(version)],
    [0x00700080, 'CS', 'SEGMENTATION'],
    [0x00700081, 'LO', description],
    [0x00700084, 'PN', 'Aidant'],
  ]
}

function imageAttributes({ size: [columns, rows] }: Volume, frames: number): Attribute[] {
  return [
    [0x00080008, 'CS', 'DERIVED\\PRIMARY'],
    [0x00280002, 'US', [1]],
    [0x00280004, 'CS', 'MONOCHROME2'],
    [0x00280008, 'IS', String(frames)],
    [0x00280010, 'US', [rows]],
    [0x00280011, 'US', [columns]],
    [0x00280100, 'US', [1]],
    [0x00280101, 'US', [1]],
    [0x00280102, 'US', [0]],
    [0x00280103, 'US', [0]],
    [0x00282110, 'CS', '00'],
    [0x00620001, 'CS', 'BINARY'],
  ]
}

function segment(number: number, { names, model, edited }: SegDescription): Attribute[] {
  const name = names[number - 1] ?? `label ${number}`
  const { category, type, modifier } = segmentCode(name)
  const label = words(name)
  return [
    // The slices' character set need not have the letters of a label's name; an item may have its own.
    ...(isAscii(label) && isAscii(model ?? '') ? [] : [[0x00080005, 'CS', 'ISO_IR 192'] as const]),
    [0x00620004, 'US', [number]],
    [0x00620005, 'LO', label],
    [0x00620008, 'CS', model === undefined ? 'MANUAL' : edited ? 'SEMIAUTOMATIC' : 'AUTOMATIC'],
    ...(model === undefined ? [] : [[0x00620009, 'LO', words(model)] as const]),
    [0x00620003, 'SQ', [coded(category)]],
    [0x0062000f, 'SQ', [[...coded(type), ...(modifier ? [[0x00620011, 'SQ', [coded(modifier)]] as const] : [])]]],
  ]
}

function coded({ value, scheme, meaning }: Code): Attribute[] {
  return [
    [0x00080100, 'SH', value],
    [0x00080102, 'SH', scheme],
    [0x00080104, 'LO', meaning],
  ]
}

/** At most 64 signs without those that mean something else in DICOM: the backslash parts values. */
function words(text: string): string {
  return [...text.replace(/[\\\p{Cc}]+/gu, ' ')].slice(0, 64).join('').trim()
}

function isAscii(text: string): boolean {
  return /^[ -~]*$/.test(text)
}

/** First the segment, then the place; without places, the number in the stack. */
function dimensions(organization: string, placed: boolean): Attribute[][] {
  const place: readonly [number, number, string] = placed
    ? [0x00200032, 0x00209113, 'Position']
    : [0x00209057, 0x00209111, 'Number']
  return ([[0x0062000b, 0x0062000a, 'Segment'], place] as const).map(([pointer, group, label]): Attribute[] => [
    [0x00209164, 'UI', organization],
    [0x00209165, 'AT', [pointer]],
    [0x00209167, 'AT', [group]],
    [0x00209421, 'LO', label],
  ])
}

function referencedSeries(slices: readonly DicomSlice[]): Attribute[] {
  const objects = new Map(slices.map(({ object }) => [object.header.sopInstanceUid, object.header]))
  const instances = [...objects.values()].map(({ sopClassUid, sopInstanceUid }): Attribute[] => [
    [0x00081150, 'UI', sopClassUid],
    [0x00081155, 'UI', sopInstanceUid],
  ])
  return [
    [0x0020000e, 'UI', slices[0]!.object.header.seriesUid],
    [0x0008114a, 'SQ', instances],
  ]
}

function sharedGroups({ slices, stack }: DicomSeries): Attribute[] {
  const { frame, object } = slices[0]!
  const [row, column] = [frame.row ?? [1, 0, 0], frame.column ?? [0, 1, 0]] as [Vec3, Vec3]
  const { places } = stack
  const first = places[0]!
  // Of slices that lean, the distance between their planes.
  const span = Math.abs(dot(subtract(places.at(-1)!, first), cross(row, column)))
  const gap = places.length > 1 ? span / (places.length - 1) : undefined
  const thickness = Math.abs(object.header.sliceThickness || 0) || gap || 1
  const measures: Attribute[] = [
    [0x00180050, 'DS', decimal(thickness)],
    [0x00280030, 'DS', (frame.pixelSpacing ?? [1, 1]).map(decimal).join('\\')],
    ...(stack.uneven ? [] : [[0x00180088, 'DS', decimal(gap ?? thickness)] as const]),
  ]
  return [
    ...(stack.placed || frame.pixelSpacing ? [[0x00289110, 'SQ', [measures]] as const] : []),
    ...(stack.placed
      ? [[0x00209116, 'SQ', [[[0x00200037, 'DS', [...row, ...column].map(decimal).join('\\')]]]] as const]
      : []),
  ]
}

function frameGroups(label: number, slice: number, { slices, stack }: DicomSeries): Attribute[] {
  const { object, index } = slices[slice]!
  const { sopClassUid, sopInstanceUid, frames } = object.header
  const content: Attribute[] = [[0x00209157, 'UL', [label, slice + 1]]]
  if (!stack.placed) content.push([0x00209056, 'SH', '1'], [0x00209057, 'UL', [slice + 1]])
  const source: Attribute[] = [
    [0x00081150, 'UI', sopClassUid],
    [0x00081155, 'UI', sopInstanceUid],
    ...(frames.length > 1 ? [[0x00081160, 'IS', String(index + 1)] as const] : []),
    [0x0028135a, 'CS', 'YES'], // SpatialLocationsPreserved
    [
      0x0040a170,
      'SQ',
      [coded({ value: '121322', scheme: 'DCM', meaning: 'Source image for image processing operation' })],
    ],
  ]
  const derivation: Attribute[] = [
    [0x00089215, 'SQ', [coded({ value: '113076', scheme: 'DCM', meaning: 'Segmentation' })]],
    [0x00082112, 'SQ', [source]],
  ]
  return [
    [0x00209111, 'SQ', [content]],
    ...(stack.placed
      ? [[0x00209113, 'SQ', [[[0x00200032, 'DS', stack.places[slice]!.map(decimal).join('\\')]]]] as const]
      : []),
    [0x0062000a, 'SQ', [[[0x0062000b, 'US', [label]]]]],
    [0x00089124, 'SQ', [derivation]],
  ]
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
