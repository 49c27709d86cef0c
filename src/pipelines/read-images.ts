/** From the files of a job to the first item of a pipeline: every image a field, under the name the config expects. */

import type { InferenceJob, JobImage, ResultWish } from '../contract/job.js'
import { AppError } from '../errors.js'
import { turnRows } from '../formats/dicom-rows.js'
import type { ReadResult } from '../formats/format.js'
import type { Item } from '../transforms/types.js'
import { askRoom } from '../volume/room.js'
import { voxelCount } from '../volume/volume.js'
import { fieldOf, fitImage, imageIndexOf, imageNumber, sliceAxis } from './fit-image.js'
import { type ImageNeeds, imageNeeds } from './image-needs.js'
import type { ModelPlan } from './model-run.js'
import { readJobImage } from './read-job-image.js'
import { stackChannels } from './stack-channels.js'

export interface ReadImages {
  readonly item: Item
  /** The first image as it was read: its grid is the result's. */
  readonly source: ReadResult
  readonly notes: readonly string[]
}

/**
 * Throws MISSING_IMAGE naming the fields when there are fewer files than the model reads, BAD_PARAMS when an image is none
 * that the model takes. `parts` are the plans of a pipeline's models, none for any other.
 */
export async function readImages(
  job: InferenceJob,
  plan: ModelPlan,
  parts: readonly ModelPlan[],
  signal: AbortSignal,
): Promise<ReadImages> {
  const posted: ReadResult[] = []
  const most = job.limits.maxVolumeBytes
  for (const image of job.images) {
    const heldBytes = posted.reduce((sum, { volume }) => sum + volume.data.byteLength, 0)
    const read = await readJobImage(image, { ...job.limits, heldBytes }, signal)
    const fromDicom = image.fromDicom || (read.format === 'dicom' && read.extension !== '.png')
    if (read.uneven && isVolumetric(plan))
      throw new AppError('BAD_GEOMETRY', `this model works in three dimensions, and ${read.uneven}`, {
        hint: 'Send the whole series, evenly spaced, or ask a model that works slice by slice.',
      })
    const turned = wantsDicomRows({ ...image, fromDicom }, job.wish)
    posted.push(turned ? { ...read, volume: turnRows(read.volume) } : read)
  }
  if (posted.length === 0) throw new AppError('MISSING_IMAGE', 'the request has no image')
  const wanted = loadedFields(plan)
  const index = imageIndexOf(job.params)
  const separate = index === undefined ? channelsAsImages(posted, wanted) : undefined
  const results = separate ?? posted
  const names = separate
    ? wanted
    : nameImages(
        job.images.map(({ field }) => field),
        wanted,
      )
  const missing = wanted.filter((field) => !names.includes(field))
  if (missing.length > 0) {
    throw new AppError(
      'MISSING_IMAGE',
      `this model reads ${wanted.length} images (${wanted.join(', ')}), the request has ${results.length}`,
    )
  }
  if (wanted.length > 1 && results.length > wanted.length)
    throw new AppError(
      'BAD_PARAMS',
      `this model reads ${wanted.length} images (${wanted.join(', ')}), the request has ${results.length}`,
    )
  // A config that loads one field takes every file of the request as further channels of it.
  const stacked = wanted.length === 1 && results.length > 1
  const needs = names.map((name) => needsOf(plan, parts, name, stacked ? results.length : 1))
  const bytes = results.reduce((sum, { volume }) => sum + volume.data.byteLength, 0)
  for (const [i, { volume, colours }] of results.entries()) {
    // luminance as float32, or grey three times over
    const beside =
      colours === undefined ? (needs[i]!.view === 'flat' ? 3 * volume.data.byteLength : 0) : 4 * voxelCount(volume)
    askRoom(beside, bytes, most, 'fitting the image to the model')
  }
  const fitting = results.map((result, i) => fitImage(result, needs[i]!, index))
  const source = fitting[0]!
  checkSlice(plan, source, needs[0]!)
  if (stacked)
    askRoom(4 * fitting.reduce((sum, { volume }) => sum + volume.data.length, 0), bytes, most, 'stacking the channels')
  const loaded = stacked ? [stackChannels(fitting)] : fitting
  const held = [source, ...loaded].map(({ volume }) => volume.data.buffer)
  const mostWork = { mostVoxels: job.limits.maxGridVoxels, room: { bytes: most, held } }
  const images = new Map(loaded.map((result, i) => [names[i]!, fieldOf(result, needs[i]!.view, mostWork)] as const))
  return { item: { images, values: new Map(), result: {} }, source, notes: fitting.flatMap(({ notes }) => notes) }
}

/**
 * The channels of one image as the images that a model reads, where there are as many: several files of a session were made
 * channels of one volume. Undefined where that is not so.
 */
function channelsAsImages(posted: readonly ReadResult[], wanted: readonly string[]): ReadResult[] | undefined {
  const [only] = posted
  if (posted.length !== 1 || wanted.length < 2 || only?.volume.channels !== wanted.length || only.colours !== undefined)
    return undefined
  const told = `the ${wanted.length} channels of the image were taken as ${wanted.join(', ')}, in this order`
  return wanted.map((_, i) => ({ ...imageNumber(only, i), notes: i === 0 ? [...only.notes, told] : [] }))
}

/** A pipeline takes what its parts take. */
function needsOf(plan: ModelPlan, parts: readonly ModelPlan[], field: string, files: number): ImageNeeds {
  if (parts.length === 0) return imageNeeds(plan, field, files)
  const all = parts.map((part) => imageNeeds(part, part.model.ref.config.inference.image))
  return { view: 'volume', channels: all.find(({ channels }) => channels !== undefined)?.channels }
}

/** A network that gives one answer for a picture has none for a volume. Throws BAD_PARAMS. */
function checkSlice({ model }: ModelPlan, { volume: { size } }: ReadResult, { view }: ImageNeeds): void {
  if (model.ref.config.type !== 'classification' || view !== 'flat' || sliceAxis(size) !== undefined) return
  throw new AppError(
    'BAD_PARAMS',
    `this model classifies one picture or slice; the image is a volume of ${size.join(' x ')} voxels`,
    { hint: 'send one slice of it: a picture, one DICOM object, or a NIfTI or NRRD of one slice' },
  )
}

/**
 * Whether the request counts rows as the DICOM files do (see dicom-rows): then the image is turned as it is read, and
 * clicks, crop and result all follow.
 */
export function wantsDicomRows({ fromDicom }: JobImage, { extension, dicomSeg }: ResultWish): boolean {
  return fromDicom === true && extension === '.nrrd' && !dicomSeg
}

/** Whether the distance between slices means anything to the network, or to one of a pipeline's. */
function isVolumetric({ model, mapping }: ModelPlan): boolean {
  return model.ref.config.type === 'pipeline' || mapping.inputs.some(({ spec }) => spec.dims.length === 5)
}

/** The fields that load transforms name, else what feeds the network. */
export function loadedFields({ pre, mapping }: Pick<ModelPlan, 'pre' | 'mapping'>): string[] {
  const loads = pre.filter(({ traits }) => traits.loads).flatMap(({ keys }) => keys)
  return [...new Set(loads.length > 0 ? loads : mapping.inputs.map(({ field }) => field))]
}

/** Images under a wanted name keep it, the first of a name; the others take the wanted names that are left, in order. */
function nameImages(given: readonly string[], wanted: readonly string[]): string[] {
  const free = wanted.filter((name) => !given.includes(name))
  return given.map((name, i) => (wanted.includes(name) && given.indexOf(name) === i ? name : (free.shift() ?? name)))
}
