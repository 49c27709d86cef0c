/** The job of /v1/dicom_seg: a label map that somebody drew on a DICOM series, as a DICOM SEG that refers to its slices. */
import { join } from 'node:path'
import { z } from 'zod'
import { type JobControl, type JobResult, SERIES_FIELD, type ToolJob } from '../contract/job.js'
import { AppError } from '../errors.js'
import { writeDicomSeg } from '../formats/dicom-seg.js'
import { arrangeDicomSeries, gridOf } from '../formats/dicom-series.js'
import { readVolume } from '../formats/read-volume.js'
import { readVersion } from '../util/version.js'
import { askRoom } from '../volume/room.js'
import { makeVolume } from '../volume/volume.js'
import { labelVoxels } from './label-voxels.js'

/** Labels of one byte: what the page draws, and what a label map of structures ever has. */
const MOST_LABEL = 255

const Params = z.strictObject({
  segments: z
    .array(
      z.strictObject({
        label: z.int().min(1).max(MOST_LABEL),
        name: z.string().trim().min(1).max(64),
      }),
    )
    .min(1)
    .max(MOST_LABEL),
})

/**
 * Writes the segments in the order they are named in; the object numbers them from 1 on. Errors: BAD_PARAMS when a label is
 * named twice or one of the label map is not named; those of `labelVoxels`.
 */
export async function labelMapToSeg(job: ToolJob, control: JobControl): Promise<JobResult> {
  const parsed = Params.safeParse(job.params)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new AppError('BAD_PARAMS', `${issue!.path.join('.')}: ${issue!.message}`, {
      hint: 'the field segments is [{"label": 1, "name": "liver"}, …]',
    })
  }
  const { segments } = parsed.data
  const numbers = new Uint8Array(MOST_LABEL + 1)
  for (const [i, { label }] of segments.entries()) {
    if (numbers[label] !== 0) throw new AppError('BAD_PARAMS', `segments.${i}.label: ${label} is named twice`)
    numbers[label] = i + 1
  }
  const [map, series] = ['image', SERIES_FIELD].map((name) => job.images.find(({ field }) => field === name))
  if (map === undefined || series === undefined) throw new AppError('MISSING_IMAGE', 'the request has no label map')

  await control.checkpoint('read', 0, 2)
  const started = performance.now()
  const source = await arrangeDicomSeries(series.paths, job.limits, control.signal)
  await control.checkpoint('read', 1, 2)
  const labels = await readVolume(map.paths, job.limits, control.signal)
  const readMs = performance.now() - started
  const { volume, notes } = labelVoxels(labels, gridOf(source), job.limits)
  askRoom(volume.data.length, volume.data.byteLength, job.limits.maxVolumeBytes, 'numbering the segments')
  const data = new Uint8Array(volume.data.length)
  for (let i = 0; i < data.length; i++) {
    const label = volume.data[i]!
    if (label === 0) continue
    const number = numbers[label]
    if (number === undefined || number === 0)
      throw new AppError('BAD_PARAMS', `segments: the label map holds ${label}, which is not named`)
    data[i] = number
  }

  await control.checkpoint('write', 0, 1)
  const written = performance.now()
  const path = join(job.outDir, 'result.dcm')
  await writeDicomSeg(
    makeVolume(volume.size, volume.affine, data),
    path,
    { series: source, limits: job.limits },
    { names: segments.map(({ name }) => name), model: undefined, version: readVersion(), now: new Date() },
  )
  return {
    file: { path, extension: '.dcm', contentType: 'application/dicom' },
    params: {},
    timings: { read: readMs, write: performance.now() - written },
    notes: [...source.notes, ...labels.notes, ...notes],
  }
}
