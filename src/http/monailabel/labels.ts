/** /datastore/label: labels in, kept here and sent back to the DICOMweb service, and out again. */
import { createHash } from 'node:crypto'
import { constants, copyFile, mkdir, readFile, rename, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { FastifyReply } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { LABELLED_FIELD, SLICES_FIELD, type ToolJob } from '../../contract/job.js'
import type { Datastore } from '../../datastore/datastore.js'
import { checkTag } from '../../datastore/names.js'
import { FINAL } from '../../datastore/strategies.js'
import { AppError } from '../../errors.js'
import { isUid } from '../../fetchers/dicomweb-server.js'
import type { IngestLabelParams } from '../../pipelines/ingest-label.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import { parseParams } from '../../util/parse-params.js'
import { type Call, type Computation, compute } from '../compute-request.js'
import { ingestImage } from '../ingest-image.js'
import { sendFile } from '../reply.js'
import type { RequestScope } from '../request-scope.js'
import { QueryFlag, refusals } from '../schemas.js'
import type { HeldImage } from '../session-image.js'
import { paramsOf, type UploadedFile } from '../upload.js'
import { type DatastoreRouteOptions, FILE_RESPONSE, STORE_REFUSALS, storeBody, storedFiles } from './datastore.js'
import { fileName, suffixOf } from './file-name.js'

export interface LabelRouteOptions extends DatastoreRouteOptions {
  /** Whether final labels of its series go back to the DICOMweb service (`--store-labels`). */
  readonly storeLabels: boolean
}

const LabelQuery = z.object({
  image: z.string({ error: 'is missing; it names a stored image' }).meta({ description: 'the image it belongs to' }),
  tag: z.string().optional().meta({ description: `final (absent), original, or a word of your own` }),
})
const LabelFileQuery = z.object({
  label: z.string({ error: 'is missing; it names a stored image' }).meta({ description: 'the image it belongs to' }),
  tag: z.string().optional().meta({ description: 'final when absent' }),
  volume: QueryFlag.meta({
    description: 'true: as a NIfTI volume in the axes of the decoded image, instead of the file that came',
  }),
})

/** The largest JSON label (points and boxes of a person) is a few KiB. */
const JSON_LABEL_BYTES = 1024 * 1024
const VOLUME = 'volume.nii'
const NIFTI = { contentType: 'application/octet-stream', extension: '.nii' } as const

/** What arrived, and the image it belongs to. */
interface Label {
  readonly files: readonly UploadedFile[]
  readonly params: Readonly<Record<string, unknown>>
  readonly held: HeldImage
  readonly scope: RequestScope
}

export const labelRoutes: FastifyPluginAsyncZod<LabelRouteOptions> = async (app, options) => {
  const { datastore, dicomweb, images, readLimits: limits, scheduler, storeLabels } = options

  app.put(
    '/datastore/label',
    {
      schema: {
        operationId: 'putMonaiLabel',
        tags: ['monailabel'],
        summary: 'Store a label of an image under a tag; what was there before is kept as a version',
        description:
          'A label map in any format that is read, its bare voxels (uint8 or uint16, columns fastest, of a DICOM series with the ' +
          'rows of its files), or JSON (points, boxes). Bare voxels of a DICOM series become a DICOM SEG. `params` are kept ' +
          'beside it; `label_info` or `label_names` in them name the values. With --store-labels a final label of a series of ' +
          'the DICOMweb service is sent back there as DICOM SEG.',
        querystring: LabelQuery,
        response: {
          200: z.object({ image: z.string(), label: z.string(), notes: z.array(z.string()).optional() }),
          ...refusals(...STORE_REFUSALS),
        },
      },
      config: { openapi: { requestBody: storeBody('label', 'the label map') } },
    },
    async (request, reply) => {
      await images.check(request)
      const { image: id } = request.query
      const tag = checkTag(request.query.tag || FINAL)
      if (!datastore) checkSendable(tag, storeLabels)
      else if (images.isKept(id)) datastore.get(id)
      const computation: Computation<Label, readonly string[]> = {
        task: 'datastore',
        stored: { turn: `image ${id}`, hold: ({ scope }, call) => images.hold(request, id, scope, call) },
        admit: (own) => scheduler.admit(undefined, own),
        prepare: ({ upload, session, scope }) => {
          if (upload.paramsPath !== undefined)
            throw new AppError('TOO_LARGE', 'params: what is kept beside a label has at most 256 KiB')
          return { files: storedFiles(upload, 'label'), params: paramsOf(upload), held: session!, scope }
        },
        run: (label, call) => keep(id, tag, label, call),
      }
      return compute(request, reply, options, computation, (notes) => ({
        image: id,
        label: id,
        ...(notes.length > 0 ? { notes: [...notes] } : {}),
      }))
    },
  )

  /** Keeps the label where this server keeps labels, and sends it where it is to be sent. Gives notes for the user. */
  async function keep(id: string, tag: string, label: Label, call: Call): Promise<readonly string[]> {
    const { files, params, held, scope } = label
    const outDir = join(scope.folder, 'stored')
    await mkdir(outDir)
    const { client_id: _client, ...said } = params
    const [only] = files
    if (files.length === 1 && (await isJson(only!))) {
      if (!datastore)
        throw new AppError('BAD_PARAMS', 'a label of JSON is no label map, which is all that is stored here')
      await rename(only!.path, join(outDir, 'label.json'))
      await adopt(datastore, id, held, scope)
      const info = { params: said }
      await datastore.putLabel(id, tag, { folder: outDir, file: 'label.json', contentType: 'application/json', info })
      return []
    }

    const target = dicomweb && storeLabels ? seriesUidOf(held) : undefined
    const isSent = target !== undefined && tag === FINAL
    const info = { params: withNames(said) }
    const made = await ingestLabel(
      scheduler,
      {
        images: [
          { field: LABELLED_FIELD, paths: [held.volumePath] },
          ...(held.seriesPaths.length > 0 ? [{ field: SLICES_FIELD, paths: held.seriesPaths }] : []),
        ],
        files,
        params: { names: namesOf(info.params), model: modelOf(said), seg: isSent } satisfies IngestLabelParams,
        outDir,
        limits,
      },
      call,
    )
    const notes = [...made.notes, ...notOnGrid(made.size, held.meta.image.size)]
    const seg = join(scope.folder, 'segmentation.dcm')
    // The datastore takes the folder over: only what it is to keep may be in there.
    if (made.seg === made.source.file) await copyFile(join(outDir, made.seg), seg)
    else if (made.seg !== undefined) await rename(join(outDir, made.seg), seg)
    if (datastore) {
      await adopt(datastore, id, held, scope)
      const about = { ...info, size: made.size, ...(notes.length > 0 ? { notes } : {}) }
      await datastore.putLabel(id, tag, { folder: outDir, ...made.source, info: about })
    }
    if (target === undefined) return notes
    if (!isSent)
      return [...notes, `the label is kept here; those of the tag '${FINAL}' are sent to the DICOMweb service too`]
    try {
      const said = await dicomweb!.server.store(seg, call.signal)
      dicomweb!.index.labelled(target)
      return [...notes, ...said]
    } catch (error) {
      throw datastore ? alsoKept(error) : error
    }
  }

  app.get(
    '/datastore/label',
    {
      schema: {
        operationId: 'getMonaiLabel',
        tags: ['monailabel'],
        summary: 'The newest label of an image and a tag',
        querystring: LabelFileQuery,
        response: { 200: z.unknown(), ...refusals(...STORE_REFUSALS) },
      },
      config: { openapi: { responses: FILE_RESPONSE } },
    },
    async (request, reply): Promise<FastifyReply> => {
      await images.check(request)
      const { label: id, volume } = request.query
      const tag = request.query.tag || FINAL
      const isFetched = dicomweb !== undefined && isUid(id) && tag === FINAL && !datastore?.find(id)?.labels.has(tag)
      const kept = isFetched ? undefined : await labelFile(datastore, id, tag)
      const extension = kept ? suffixOf(kept.label.file) : '.dcm'
      if (kept && (!volume || kept.label.file === VOLUME))
        return sendFile(
          reply,
          { path: kept.path, contentType: kept.label.contentType, extension },
          fileName(id, extension),
        )
      if (extension === '.json')
        throw new AppError('BAD_PARAMS', "query parameter 'volume': this label is no label map")
      const computation: Computation<{ readonly held?: HeldImage | undefined; readonly scope: RequestScope }, string> =
        {
          task: 'datastore',
          ...(kept ? { stored: { turn: `image ${id}`, hold: () => datastore!.hold(id) } } : {}),
          admit: (own) => scheduler.admit(undefined, own),
          prepare: ({ session, scope }) => ({ held: session, scope }),
          run: async ({ held, scope }, call) => {
            const outDir = join(scope.folder, 'made')
            await mkdir(outDir)
            if (kept && held) {
              // What a reader unpacks lies beside what it reads: not in the datastore.
              const copy = join(scope.folder, 'label')
              await copyFile(kept.path, copy)
              const images = [
                { field: 'image', paths: [copy] },
                { field: LABELLED_FIELD, paths: [held.volumePath] },
              ]
              const job: ToolJob = { kind: 'labelVolume', images, params: {}, wish: { file: true }, outDir, limits }
              return (await scheduler.runTool(call.request, job, call.signal, call.onProgress)).file!.path
            }
            const path = await fetchLabel(id, scope, call)
            if (!volume) return path
            const images = [{ field: 'image', paths: [path] }]
            return join((await ingestImage(scheduler, { images, outDir, limits }, call)).folder, VOLUME)
          },
        }
      const type = volume ? NIFTI : { contentType: 'application/dicom', extension }
      return compute(request, reply, options, computation, (path) =>
        sendFile(reply, { path, ...type }, fileName(id, type.extension)),
      )
    },
  )

  /** The newest segmentation of a series at the DICOMweb service, as a file. */
  async function fetchLabel(seriesUid: string, { folder }: RequestScope, { signal }: Call): Promise<string> {
    const segmentation = (await dicomweb!.index.list()).labels.get(seriesUid)
    if (!segmentation)
      throw new AppError('NOT_FOUND', "query parameter 'label': there is no segmentation of this series")
    const to = join(folder, 'fetched')
    await mkdir(to)
    return (await dicomweb!.server.fetch(segmentation, to, signal)).paths[0]!
  }
}

/** A server that keeps no labels only passes them on. Throws NOT_FOUND, BAD_PARAMS. */
function checkSendable(tag: string, storeLabels: boolean): void {
  if (!storeLabels)
    throw new AppError('NOT_FOUND', 'this server keeps no labels', {
      hint: 'the operator turns it on with --datastore, or with --store-labels for series of the DICOMweb service',
    })
  if (tag !== FINAL)
    throw new AppError(
      'BAD_PARAMS',
      `query parameter 'tag': only labels of the tag '${FINAL}' are sent to the DICOMweb service`,
      {
        hint: 'the operator turns on a datastore for others with --datastore',
      },
    )
}

async function labelFile(datastore: Datastore | undefined, id: string, tag: string) {
  if (datastore) return datastore.labelFile(id, tag)
  throw new AppError('NOT_FOUND', "query parameter 'label': there is no label of this image and tag")
}

/** A series of the DICOMweb service is kept together with its first label: what is trained on must not go with a session. */
async function adopt(datastore: Datastore, id: string, held: HeldImage, { folder }: RequestScope): Promise<void> {
  if (datastore.find(id)) return
  const to = join(folder, 'adopted')
  await mkdir(join(to, 'series'), { recursive: true })
  const copy = (path: string, name: string) => copyFile(path, join(to, name), constants.COPYFILE_FICLONE)
  await copy(held.volumePath, VOLUME)
  for (const path of held.seriesPaths) await copy(path, join('series', basename(path)))
  const { extension, source, image } = held.meta
  const sha256 = createHash('sha256').update(`series ${id}`).digest('hex')
  await datastore.putImage(id, { folder: to, sha256, extension, source, image })
}

const Made = z.object({
  source: z.object({ file: z.string(), contentType: z.string() }),
  size: z.array(z.number()),
  seg: z.string().optional(),
})

async function ingestLabel(
  scheduler: Pick<Scheduler, 'runTool'>,
  job: Pick<ToolJob, 'images' | 'files' | 'params' | 'outDir' | 'limits'>,
  { request, signal, onProgress }: Call,
) {
  const whole: ToolJob = { kind: 'ingestLabel', wish: { file: false }, ...job }
  const { params, notes } = await scheduler.runTool(request, whole, signal, onProgress)
  return { ...Made.parse(params), notes }
}

/** The series that an image of the DICOMweb service is; undefined for one that was uploaded. */
function seriesUidOf({ meta: { image } }: HeldImage): string | undefined {
  const said = z.object({ SeriesInstanceUID: z.string(), RetrieveURL: z.string() }).safeParse(image)
  return said.success ? said.data.SeriesInstanceUID : undefined
}

function alsoKept(error: unknown): unknown {
  if (!(error instanceof AppError)) return error
  return new AppError(error.code, error.message, { hint: 'the label itself is kept in the datastore', cause: error })
}

/** Landmarks and boxes come as JSON; whatever else begins so is no image either. */
async function isJson({ path }: UploadedFile): Promise<boolean> {
  if ((await stat(path)).size > JSON_LABEL_BYTES) return false
  const text = (await readFile(path, 'utf8')).trimStart()
  if (!text.startsWith('{')) return false
  try {
    parseParams(text)
    return true
  } catch {
    return false
  }
}

function notOnGrid(label: unknown, image: unknown): string[] {
  if (JSON.stringify(label) === JSON.stringify(image)) return []
  const words = (size: unknown) => (Array.isArray(size) ? size.join(' x ') : 'another size')
  return [`the label map has ${words(label)} voxels and its image ${words(image)}: it lies on another grid`]
}

const LabelInfo = z.array(z.object({ name: z.string(), idx: z.int() }))
const LabelNames = z.record(z.string(), z.int())

/** 3D Slicer says which value is called what as `label_info`, and reads it back as `label_names`. */
function withNames(params: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const said = LabelInfo.safeParse(params.label_info)
  if (!said.success || 'label_names' in params) return params
  return { ...params, label_names: Object.fromEntries(said.data.map(({ name, idx }) => [name, idx])) }
}

function namesOf({ label_names: names }: Readonly<Record<string, unknown>>): Record<string, number> {
  const said = LabelNames.safeParse(names)
  return said.success ? said.data : {}
}

function modelOf({ model }: Readonly<Record<string, unknown>>): string | undefined {
  return typeof model === 'string' && model.trim() !== '' ? model.trim() : undefined
}
