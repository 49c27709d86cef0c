/** The end of a pipeline: the result on the input's own grid, its numbers, and its file. */
import { join } from 'node:path'
import type { InferenceJob, JobResult } from '../contract/job.js'
import type { ModelConfig, ModelRef } from '../contract/model.js'
import { AppError } from '../errors.js'
import { writeDicomSeg } from '../formats/dicom-seg.js'
import type { DtypeName, ReadResult } from '../formats/format.js'
import { writeVolume } from '../formats/write-volume.js'
import { requireImage } from '../transforms/fields.js'
import { askBeside } from '../transforms/new-grid.js'
import type { Item } from '../transforms/types.js'
import { restore } from '../transforms/undo.js'
import { readVersion } from '../util/version.js'
import { labelArray } from '../volume/label-array.js'
import { makeVolume, type Volume, voxelCount } from '../volume/volume.js'
import { labelName } from './label-names.js'
import { labelStatistics } from './label-statistics.js'

const DTYPES: readonly string[] = ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'float32', 'float64']

export interface FinishedResult {
  readonly volume: Volume
  readonly kind: 'labels' | 'intensity'
  readonly params: Readonly<Record<string, unknown>>
  readonly notes: readonly string[]
}

/** Undoes what is still to be undone, and counts. `source` is the image as it was read. */
export function finishResult(item: Item, fieldName: string, source: ReadResult, config: ModelConfig): FinishedResult {
  const field = requireImage(item, fieldName)
  // a copy on the file's grid, and one of all classes as one map
  const each = field.content === 'labels' ? field.volume.data.BYTES_PER_ELEMENT : 4
  askBeside(field, (each * field.volume.channels + 2) * voxelCount(source.volume), 'the result on the grid of the file')
  const { volume } = restore(field)
  if (field.content !== 'labels') return { volume, kind: 'intensity', params: item.result, notes: [] }
  const { labels, notes } =
    volume.channels > 1 ? mergeChannels(volume, config.labels.length) : { labels: volume, notes: [] }
  const statistics = labelStatistics(labels, source.volume, config.labels)
  return { volume: labels, kind: 'labels', params: { ...item.result, label_statistics: statistics }, notes }
}

/**
 * Channels of zeros and ones as one label map; where several are set the last wins, and a note says so. With more channels
 * than labels the first is the background.
 */
function mergeChannels(volume: Volume, labelCount: number): { labels: Volume; notes: readonly string[] } {
  const voxels = voxelCount(volume)
  const offset = volume.channels > labelCount && labelCount > 0 ? 0 : 1
  const data = labelArray(voxels, 0, volume.channels)
  let overlaps = 0
  for (let c = 1 - offset; c < volume.channels; c++) {
    const from = c * voxels
    for (let i = 0; i < voxels; i++) {
      if (volume.data[from + i] === 0) continue
      if (data[i] !== 0) overlaps++
      data[i] = c + offset
    }
  }
  const notes =
    overlaps === 0
      ? []
      : [`classes overlap in ${overlaps} voxel(s), where the last of them was kept; MergeChannelsd states an order`]
  return { labels: makeVolume(volume.size, volume.affine, data, { nifti: volume.nifti }), notes }
}

/** Writes the file the client asked for into the job's folder; undefined when it wants none. */
export async function writeResult(
  { volume, kind }: FinishedResult,
  job: InferenceJob,
  source: ReadResult,
  model: ModelRef,
): Promise<JobResult['file']> {
  const { wish, outDir } = job
  if (!wish.file) return undefined
  if (wish.dicomSeg) return writeSegmentation(volume, kind, job, source, model)
  const extension = wish.extension ?? source.extension
  const path = join(outDir, `result${extension}`)
  const dtype = wish.dtype ?? writerDtype(model.config)
  const segments = model.config.labels.map((_, i) => ({ value: i + 1, name: labelName(i + 1, model.config.labels) }))
  const { contentType } = await writeVolume(volume, path, { extension, compress: wish.compress, dtype, kind, segments })
  return { path, extension, contentType }
}

async function writeSegmentation(
  volume: Volume,
  kind: FinishedResult['kind'],
  { limits, outDir }: InferenceJob,
  source: ReadResult,
  { config: { labels }, name }: ModelRef,
): Promise<JobResult['file']> {
  const series = source.dicom
  if (!series)
    throw new AppError('BAD_PARAMS', 'output=dicom_seg needs a DICOM image', {
      hint: 'send the series itself, or a session made from one',
    })
  if (kind !== 'labels') throw new AppError('BAD_PARAMS', 'output=dicom_seg needs a model that gives a label map')
  const path = join(outDir, 'result.dcm')
  const names = labels.map((_, i) => labelName(i + 1, labels))
  if (names.at(-1) === `label ${labels.length}`) names.pop() // the first of the labels was the background
  await writeDicomSeg(volume, path, { series, limits }, { names, model: name, version: readVersion(), now: new Date() })
  return { path, extension: '.dcm', contentType: 'application/dicom' }
}

function writerDtype({ writer }: ModelConfig): DtypeName | undefined {
  const args = writer?.args as { dtype?: unknown; dtypes?: unknown } | undefined
  const name = [args?.dtype, args?.dtypes].flat().find((value) => typeof value === 'string') as string | undefined
  return name !== undefined && DTYPES.includes(name) ? (name as DtypeName) : undefined
}
