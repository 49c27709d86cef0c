/** The jobs of mask2polygon and fixpolygon, from files to files. */
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JobControl, JobImage, JobResult, ResultWish, ToolJob } from '../contract/job.js'
import { AppError } from '../errors.js'
import type { ReadResult, ResultExtension } from '../formats/format.js'
import { readMask } from '../formats/read-mask.js'
import { writeVolume } from '../formats/write-volume.js'
import { fixPolygons } from '../geometry/fix-polygon.js'
import { type RowAxis, slicePolygons, sliceScratch } from '../geometry/mask-to-polygon.js'
import { fillPolygons } from '../geometry/raster.js'
import type { Ring } from '../geometry/ring.js'
import { askRoom } from '../volume/room.js'
import { makeVolume, type Volume, voxelCount } from '../volume/volume.js'
import { imageIndexOf, imageNumber } from './fit-image.js'
import { JsonInts } from './json-ints.js'
import {
  type FixPolygonParams,
  type NestedPolygon,
  parseFixPolygonParams,
  parseMaskToPolygonParams,
  type SliceFrame,
} from './polygon-params.js'
import { readJobImage } from './read-job-image.js'

/** Slices between two looks for a cancel message; a slice takes well under a millisecond. */
const SLICES_PER_CHECKPOINT = 16

/** A mask as one list of polygons for every slice of its third stored axis: a bare JSON array in a file. */
export async function mask2polygon(job: ToolJob, control: JobControl): Promise<JobResult> {
  const { label, ...options } = parseMaskToPolygonParams(job.params)
  const index = imageIndexOf(job.params)
  const { read, rowAxis, readMs } = await readImage(job, control, (image) =>
    readMask(image, job.limits, label, control.signal, (all) => (index === undefined ? all : imageNumber(all, index))),
  )
  const { volume } = read

  const started = performance.now()
  const path = join(job.outDir, 'polygons.json')
  const file = await open(path, 'wx')
  try {
    const json = new JsonInts(file, job.limits.maxVolumeBytes)
    const scratch = sliceScratch()
    const slices = volume.size[2]
    json.open()
    for (let z = 0; z < slices; z++) {
      if (z % SLICES_PER_CHECKPOINT === 0) await control.checkpoint('infer', z, slices)
      await json.polygons(slicePolygons(volume, z, { ...options, rowAxis }, scratch), z === 0)
    }
    json.close()
    await json.flush()
  } finally {
    await file.close()
  }
  return {
    file: { path, extension: '.json', contentType: 'application/json' },
    params: {},
    timings: { read: readMs, infer: performance.now() - started },
    notes: read.notes,
  }
}

/** Polygons after one vertex was dragged, and, if wished for, the mask they enclose on the image's own grid. */
export async function fixpolygon(job: ToolJob, control: JobControl): Promise<JobResult> {
  const index = imageIndexOf(job.params)
  const { read: all, rowAxis, readMs } = await readImage(job, control)
  const read = index === undefined ? all : imageNumber(all, index)
  const { volume } = read
  requirePlain(volume, rowAxis)
  const request = parseFixPolygonParams(job.params, frameOf(volume, rowAxis))
  const { wish } = job

  await control.checkpoint('infer', 0, 1)
  const started = performance.now()
  const { rings, nested } = await fixedPolygons(volume, rowAxis, request, control)
  const inferMs = performance.now() - started
  const poly = request.dimension === 2 ? nested[0]! : nested
  const notes = [...read.notes, ...request.notes]
  const { params, paramsPath } = await reply(job, { poly }, notes)
  if (!wish.file) return { params, paramsPath, timings: { read: readMs, infer: inferMs }, notes }

  await control.checkpoint('write', 0, 1)
  const written = performance.now()
  const extension = maskExtension(wish, read)
  const path = join(job.outDir, `result${extension}`)
  const { dtype, compress } = wish
  askRoom(voxelCount(volume), volume.data.byteLength, job.limits.maxVolumeBytes, 'drawing the mask')
  const mask = maskOf(volume, rowAxis, rings)
  const { contentType } = await writeVolume(mask, path, { extension, dtype, compress, kind: 'labels' })
  return {
    file: { path, extension, contentType },
    params,
    paramsPath,
    timings: { read: readMs, infer: inferMs, write: performance.now() - written },
    notes,
  }
}

/** Long params make a long answer, which goes back the way the params came: as a file. */
async function reply(
  job: ToolJob,
  params: Readonly<Record<string, unknown>>,
  notes: readonly string[],
): Promise<Pick<JobResult, 'params' | 'paramsPath'>> {
  if (job.paramsPath === undefined) return { params }
  const paramsPath = join(job.outDir, 'result.json')
  await writeFile(paramsPath, JSON.stringify(notes.length === 0 ? params : { ...params, notes }))
  return { params: {}, paramsPath }
}

interface ReadImage {
  readonly read: ReadResult
  readonly rowAxis: RowAxis
  readonly readMs: number
}

async function readImage(
  job: ToolJob,
  control: JobControl,
  read?: (image: JobImage) => Promise<ReadResult>,
): Promise<ReadImage> {
  const [image, ...more] = job.images
  if (image === undefined) throw new AppError('MISSING_IMAGE', 'the request has no image')
  if (more.length > 0)
    throw new AppError('BAD_PARAMS', `${job.kind} works on one image, but ${job.images.length} were sent`)
  await control.checkpoint('read', 0, 1)
  const started = performance.now()
  const found = await readJobImage(image, job.limits, control.signal, read)
  return { read: found, rowAxis: rowAxisOf(image, found), readMs: performance.now() - started }
}

/** A picture's rows are y; a volume's, as nibabel loads it, are x. A session's volume stands for the file that came. */
function rowAxisOf(image: JobImage, read: ReadResult): RowAxis {
  const extension = image.extension ?? read.extension
  return extension === '.png' || extension === '.jpg' ? 'y' : 'x'
}

/** Colours are fine in a picture; a fourth axis of a volume has no slice to say polygons about. */
function requirePlain(volume: Volume, rowAxis: RowAxis): void {
  if (rowAxis === 'x' && volume.channels > 1)
    throw new AppError('BAD_GEOMETRY', `the image has ${volume.channels} channels or time points; polygons need one`, {
      hint: `name one with params {"image_index": 0} to {"image_index": ${volume.channels - 1}}`,
    })
}

function frameOf({ size }: Volume, rowAxis: RowAxis): SliceFrame {
  const [nx, ny, slices] = size
  return rowAxis === 'x' ? { columns: ny, rows: nx, slices } : { columns: nx, rows: ny, slices }
}

interface FixedPolygons {
  readonly rings: readonly (readonly Ring[])[]
  readonly nested: readonly (readonly NestedPolygon[])[]
}

async function fixedPolygons(
  volume: Volume,
  rowAxis: RowAxis,
  { slices, closed, nested, edit }: FixPolygonParams,
  control: JobControl,
): Promise<FixedPolygons> {
  const rings = slices.map((list) => [...list])
  const result = nested.map((list) => [...list])
  for (const fixed of fixPolygons(volume, rowAxis, slices, edit)) {
    await control.checkpoint('infer', 0, 1)
    if (fixed === undefined) continue
    const { slice, polygon, ring } = fixed
    rings[slice]![polygon] = ring
    result[slice]![polygon] = pairsOf(ring, closed[slice]![polygon]!)
  }
  return { rings, nested: result }
}

function pairsOf(ring: Ring, closed: boolean): NestedPolygon {
  const pairs = Array.from({ length: ring.length >> 1 }, (_, i) => [ring[2 * i]!, ring[2 * i + 1]!] as const)
  return closed ? [...pairs, pairs[0]!] : pairs
}

/** Value 1 inside the polygons, even-odd, so that a polygon within another is a hole. */
function maskOf(volume: Volume, rowAxis: RowAxis, rings: readonly (readonly Ring[])[]): Volume<Uint8Array> {
  const { size, affine, nifti } = volume
  const [nx, ny, nz] = size
  const data = new Uint8Array(nx * ny * nz)
  rings.forEach((list, z) => {
    const polygons = list.map((ring) => Int32Array.from(ring, Math.round))
    fillPolygons(data, polygons, 1, rowAxis === 'x' ? nx : 1, rowAxis === 'x' ? 1 : nx, z * nx * ny)
  })
  return makeVolume(size, affine, data, { nifti })
}

/** As the image came, unless the request says otherwise; JPEG changes labels, so a JPEG's mask is a PNG. */
function maskExtension(wish: ResultWish, read: ReadResult): ResultExtension {
  const extension = wish.extension ?? read.extension
  return extension === '.jpg' ? '.png' : extension
}
