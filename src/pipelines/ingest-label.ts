/** A label that is to be stored: kept as it came, or, where it came as bare voxels, made a file that others read. */
import { open, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import {
  type JobControl,
  type JobImage,
  type JobResult,
  LABELLED_FIELD,
  SLICES_FIELD,
  type ToolJob,
} from '../contract/job.js'
import { AppError } from '../errors.js'
import { detect } from '../formats/detect.js'
import { turnRows } from '../formats/dicom-rows.js'
import { writeDicomSeg } from '../formats/dicom-seg.js'
import { arrangeDicomSeries, type DicomSeries, gridOf, isPicture } from '../formats/dicom-series.js'
import type { ReadLimits, ReadResult } from '../formats/format.js'
import { HEADER_BYTES } from '../formats/nifti-header.js'
import { readVolume } from '../formats/read-volume.js'
import { writeVolume } from '../formats/write-volume.js'
import { readVersion } from '../util/version.js'
import { askRoom } from '../volume/room.js'
import { type Grid, makeVolume, voxelCount } from '../volume/volume.js'
import { PICTURES } from './ingest.js'
import { labelVoxels } from './label-voxels.js'

const SEG = 'label.dcm'
const OCTETS = 'application/octet-stream'
const DICOM = 'application/dicom'

const Params = z.object({
  /** Values by name. */
  names: z.record(z.string(), z.int()),
  /** The model that the label was made with, if the client said so. */
  model: z.string().optional(),
  /** Whether a DICOM SEG is wanted in any case. */
  seg: z.boolean(),
})
export type IngestLabelParams = z.infer<typeof Params>

/**
 * Fills `job.outDir` with the label: `source.*` as it came; bare voxels of a DICOM series as `label.dcm`, a DICOM SEG, and
 * of any other image as `source.nii.gz`. Bare voxels are uint8 or little-endian uint16, columns fastest; of a DICOM series
 * with the rows of its files, downwards. The result's params: `source` (file, contentType), `size`, and `seg`, the name of
 * the DICOM SEG if one was made. Errors: those of `readVolume` and `labelVoxels`; BAD_PARAMS for bare voxels of another
 * number than the image has.
 */
export async function ingestLabel(job: ToolJob, control: JobControl): Promise<JobResult> {
  const { names, model, seg: wantsSeg } = Params.parse(job.params)
  const beside = job.images.findLast(({ field }) => field === LABELLED_FIELD)
  const slices = job.images.findLast(({ field }) => field === SLICES_FIELD)
  const [label, ...more] = job.images.filter((image) => image !== beside && image !== slices)
  if (label === undefined || beside === undefined) throw new AppError('MISSING_IMAGE', 'the request has no label')
  if (more.length > 0) throw new AppError('BAD_PARAMS', 'a label is one file, or a header and its data')

  await control.checkpoint('read', 0, 1)
  const started = performance.now()
  const series = slices && (await arrangeDicomSeries(slices.paths, job.limits, control.signal))
  const gridOfImage = async () =>
    series ? gridOf(series) : (await readVolume(beside.paths, job.limits, control.signal)).volume
  const bare = await isBare(label, gridOfImage)
  const read = bare
    ? await readBare(label.paths[0]!, await gridOfImage(), series, job.limits)
    : await readVolume(label.paths, job.limits, control.signal)
  const readMs = performance.now() - started

  await control.checkpoint('write', 0, 1)
  const written = performance.now()
  const notes = [...read.notes]
  let source = bare ? undefined : await keepFile(label, read, job.outDir)
  if (series && (bare || wantsSeg)) {
    const found = labelVoxels(read, gridOf(series), job.limits)
    notes.push(...found.notes)
    await writeDicomSeg(
      found.volume,
      join(job.outDir, SEG),
      { series, limits: job.limits },
      {
        names: namesByValue(names, found.volume.data),
        model,
        edited: true,
        version: readVersion(),
        now: new Date(),
      },
    )
    source ??= { file: SEG, contentType: DICOM }
  }
  if (source === undefined) {
    const file = 'source.nii.gz'
    await writeVolume(read.volume, join(job.outDir, file), { extension: '.nii.gz', kind: 'labels' })
    source = { file, contentType: OCTETS }
  }
  return {
    params: { source, size: read.volume.size, ...(series && (bare || wantsSeg) ? { seg: SEG } : {}) },
    timings: { read: readMs, write: performance.now() - written },
    notes,
  }
}

/**
 * Whether a file is voxels and nothing else: it is none of the formats, or, since small numbers may look like the start of a
 * DICOM data set, one without DICOM's prefix that has as many bytes as the image has voxels.
 */
async function isBare({ paths }: JobImage, grid: () => Promise<Grid>): Promise<boolean> {
  const [path, second] = paths
  if (path === undefined || second !== undefined) return false
  const head = await headOf(path)
  const packed = (head[0] === 0x1f && head[1] === 0x8b) || head.toString('latin1', 0, 2) === 'PK'
  if (packed) return false
  const format = detect(head)
  if (format !== 'dicom' || head.toString('latin1', 128, 132) === 'DICM') return format === undefined
  const voxels = voxelCount(await grid())
  return [voxels, 2 * voxels].includes((await stat(path)).size)
}

async function headOf(path: string): Promise<Buffer> {
  await using file = await open(path, 'r')
  const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES[2]), 0, HEADER_BYTES[2], 0)
  return buffer.subarray(0, bytesRead)
}

async function readBare(
  path: string,
  { size, affine }: Grid,
  series: DicomSeries | undefined,
  limits: ReadLimits,
): Promise<ReadResult> {
  const voxels = voxelCount({ size })
  const { size: bytes } = await stat(path)
  if (bytes !== voxels && bytes !== 2 * voxels)
    throw new AppError(
      'BAD_PARAMS',
      `the label is no image file, and no voxels of its image either: it has ${bytes} bytes, the image ${size.join(' x ')} voxels`,
      { hint: `send a label map in a format that is read, or ${voxels} bytes (uint8) or ${2 * voxels} (uint16)` },
    )
  askRoom(bytes, bytes, limits.maxVolumeBytes, 'reading the label')
  const content = await readFile(path)
  const data = bytes === voxels ? new Uint8Array(content) : uint16Of(content)
  const volume = makeVolume(size, affine, data as Uint8Array<ArrayBuffer>)
  const onGrid = series && !isPicture(series) ? makeVolume(size, affine, turnRows(volume).data) : volume
  return { volume: onGrid, format: 'nifti', extension: '.nii.gz', notes: [] }
}

function uint16Of(bytes: Buffer): Uint16Array {
  const data = new Uint16Array(bytes.length / 2)
  for (let i = 0; i < data.length; i++) data[i] = bytes.readUInt16LE(2 * i)
  return data
}

async function keepFile(label: JobImage, read: ReadResult, folder: string) {
  const [path, second] = read.files ?? label.paths
  if (path === undefined || second !== undefined) return undefined
  const { suffix, contentType } =
    read.format === 'dicom'
      ? { suffix: '.dcm', contentType: DICOM }
      : (PICTURES[read.format] ?? { suffix: read.extension, contentType: OCTETS })
  const file = `source${suffix}`
  await rename(path, join(folder, file))
  return { file, contentType }
}

/** Names of labels 1, 2, … up to the highest that occurs. */
function namesByValue(names: Readonly<Record<string, number>>, labels: Uint16Array): string[] {
  const byValue = new Map(Object.entries(names).map(([name, value]) => [value, name]))
  let highest = 0
  for (let i = 0; i < labels.length; i++) if (labels[i]! > highest) highest = labels[i]!
  return Array.from({ length: highest }, (_, i) => byValue.get(i + 1) ?? `label ${i + 1}`)
}
