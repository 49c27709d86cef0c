/** /datastore: images in, the list of what there is, and the files out. With neither a datastore nor a DICOMweb service all of it is not found. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyReply } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { JobResult, ToolJob } from '../../contract/job.js'
import type { Datastore, StoredItem } from '../../datastore/datastore.js'
import { checkImageId } from '../../datastore/names.js'
import { AppError } from '../../errors.js'
import { isUid } from '../../fetchers/dicomweb-server.js'
import type { ReadLimits } from '../../formats/format.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import type { Dicomweb } from '../../services.js'
import { hashFile } from '../../util/hash-file.js'
import { type Computation, type ComputeOptions, compute } from '../compute-request.js'
import { ingestImage } from '../ingest-image.js'
import { FILE_CONTENT } from '../openapi-upload.js'
import { sendFile } from '../reply.js'
import type { RequestScope } from '../request-scope.js'
import { QueryFlag, refusals } from '../schemas.js'
import { type HeldImage, sessionImage } from '../session-image.js'
import type { Upload, UploadedFile } from '../upload.js'
import { whenSent } from '../when-sent.js'
import { catalogue, countsOf, itemInfo, type Listed, objectsOf, seriesInfo } from './catalogue.js'
import { fileName, isSeries, suffixOf } from './file-name.js'
import type { StoredImages } from './stored-images.js'

export interface DatastoreRouteOptions extends ComputeOptions {
  readonly datastore: Datastore | undefined
  readonly dicomweb: Dicomweb | undefined
  readonly images: StoredImages
  readonly scheduler: Pick<Scheduler, 'runTool' | 'admit'>
  readonly readLimits: ReadLimits
}

const ImageQuery = z.object({
  image: z.string().optional().meta({ description: 'what the image is called: any text; absent: a name is made' }),
})
const ImageFileQuery = z.object({
  image: z.string({ error: 'is missing; it names a stored image' }).meta({ description: 'a name of the list' }),
  volume: QueryFlag.meta({ description: 'true: as it was decoded, a NIfTI volume, instead of the file that came' }),
})
const ListQuery = z.object({
  output: z
    .enum(['all', 'stats', ''], { error: 'must be all or stats' })
    .optional()
    .meta({ description: 'all: every image and its labels; stats, or absent: how many' }),
})

const file = (description: string) => ({ type: 'string', format: 'binary', description })
/** The request body of a route that stores a file, for the OpenAPI document. */
export const storeBody = (part: string, description: string) => ({
  required: true,
  content: {
    'multipart/form-data': {
      schema: {
        type: 'object',
        properties: { params: { type: 'object', additionalProperties: true }, [part]: file(description) },
      },
      encoding: { params: { contentType: 'application/json' } },
    },
  },
})
export const FILE_RESPONSE = { 200: { description: 'the file', content: FILE_CONTENT } } as const
const JSON_RESPONSE = (description: string) => ({
  200: { description, content: { 'application/json': { schema: { type: 'object', additionalProperties: true } } } },
})

/** What storing, and fetching from the DICOMweb service, may end in. */
export const STORE_REFUSALS = [400, 403, 404, 413, 415, 499, 500, 502, 503, 504] as const

export const datastoreRoutes: FastifyPluginAsyncZod<DatastoreRouteOptions> = async (app, options) => {
  const { datastore, dicomweb, images, readLimits: limits, scheduler, sessions } = options

  for (const { url, operationId } of [
    { url: '/datastore', operationId: 'putMonaiDatastore' },
    { url: '/datastore/image', operationId: 'putMonaiImage' },
  ])
    app.put(
      url,
      {
        schema: {
          operationId,
          tags: ['monailabel'],
          summary: 'Store an image under a name; what was there before is kept as a version',
          querystring: ImageQuery,
          response: { 200: z.object({ image: z.string() }), ...refusals(...STORE_REFUSALS) },
        },
        config: { openapi: { requestBody: storeBody('file', 'the image; the slices of a series as several parts') } },
      },
      async (request, reply) => {
        await images.check(request)
        if (!datastore)
          throw new AppError('NOT_FOUND', 'this server keeps no datastore', {
            hint: 'the operator turns it on with --datastore; sessions (PUT /session/) work without',
          })
        const id = request.query.image ? checkImageId(request.query.image) : `image-${randomUUID()}`
        const computation: Computation<
          { readonly files: readonly UploadedFile[]; readonly scope: RequestScope },
          StoredItem
        > = {
          task: 'datastore',
          admit: (own) => scheduler.admit(undefined, own),
          prepare: ({ upload, scope }) => ({ files: storedFiles(upload, 'file'), scope }),
          run: async ({ files, scope }, call) => {
            const sha256 = await sha256Of(files)
            const known = datastore.find(id)
            // 3D Slicer sends the volume before every run: the same bytes need not be decoded again.
            if (known?.image.sha256 === sha256) return known
            const outDir = join(scope.folder, 'stored')
            await mkdir(outDir)
            const image = await ingestImage(scheduler, { images: [], files, outDir, limits }, call)
            return datastore.putImage(id, { ...image, sha256 })
          },
        }
        return compute(request, reply, options, computation, (item) => ({ image: item.id }))
      },
    )

  app.get(
    '/datastore',
    {
      schema: {
        operationId: 'listMonaiDatastore',
        tags: ['monailabel'],
        summary: 'What the datastore holds, and the series of the DICOMweb service',
        querystring: ListQuery,
        response: { 200: z.unknown(), ...refusals(400, 403, 404, 413, 502) },
      },
      config: { openapi: { responses: JSON_RESPONSE('{"objects": {name: {image, labels}}}, or counts') } },
    },
    async (request, reply) => {
      await images.check(request)
      const listing = await dicomweb?.index.list()
      const listed = catalogue(datastore, listing)
      const answer = request.query.output === 'all' ? { objects: objectsOf(listed) } : statsOf(listed)
      const notes = listing?.complete === false ? { notes: [NOT_ALL] } : {}
      // Serialised here: a client's names are keys of it, whatever they are.
      return reply.type('application/json; charset=utf-8').send(JSON.stringify({ ...answer, ...notes }))
    },
  )

  app.get(
    '/datastore/image',
    {
      schema: {
        operationId: 'getMonaiImage',
        tags: ['monailabel'],
        summary: 'The file of an image, as it came; of a DICOM series an NRRD with the rows of its files',
        querystring: ImageFileQuery,
        response: { 200: z.unknown(), ...refusals(...STORE_REFUSALS, 440) },
      },
      config: { openapi: { responses: FILE_RESPONSE } },
    },
    async (request, reply): Promise<FastifyReply> => {
      const { image: id, volume } = request.query
      await images.check(request)
      const send = (held: HeldImage) => {
        void whenSent(reply).then(() => held.release())
        return sendImage(reply, id, held, volume)
      }
      if (datastore && images.isKept(id) && (volume || !isSeries(datastore.get(id).image.image)))
        return send(await datastore.hold(id))
      const computation: Computation<
        { readonly held: HeldImage; readonly scope: RequestScope },
        HeldImage | ResultFile
      > = {
        task: 'datastore',
        stored: { turn: `image ${id}`, hold: ({ scope }, call) => images.hold(request, id, scope, call) },
        admit: (own) => scheduler.admit(undefined, own),
        prepare: ({ session, scope }) => ({ held: session!, scope }),
        run: async ({ held, scope }, { request: own, signal, onProgress }) => {
          // Once more, until the file has been sent: what a computation holds is let go when it has ended.
          if (volume) return sessions.hold(held.meta.id)
          const job: ToolJob = {
            kind: 'seriesFile',
            images: [sessionImage(held)],
            params: {},
            wish: { file: true },
            outDir: scope.folder,
            limits,
          }
          return (await scheduler.runTool(own, job, signal, onProgress)).file!
        },
      }
      return compute(request, reply, options, computation, (made) =>
        'release' in made ? send(made) : sendFile(reply, made, fileName(id, made.extension)),
      )
    },
  )

  app.get(
    '/datastore/image/info',
    {
      schema: {
        operationId: 'getMonaiImageInfo',
        tags: ['monailabel'],
        summary: 'What is known of an image',
        querystring: ImageFileQuery.pick({ image: true }),
        response: { 200: z.unknown(), ...refusals(400, 403, 404, 413, 499, 502) },
      },
      config: { openapi: { responses: JSON_RESPONSE('format, size, spacing, bytes and times') } },
    },
    async (request, reply) => {
      await images.check(request).catch((error: unknown) => {
        // To a page that may not look there is nothing: XNAT's viewer goes on with a session then.
        if (error instanceof AppError && error.code === 'FORBIDDEN')
          throw new AppError('NOT_FOUND', "query parameter 'image': there is no image of this name for you")
        throw error
      })
      const info = await infoOf(request.query.image, hangUp(reply))
      return reply.type('application/json; charset=utf-8').send(JSON.stringify(info))
    },
  )

  async function infoOf(id: string, signal: AbortSignal): Promise<Record<string, unknown>> {
    if (datastore && images.isKept(id)) return itemInfo(datastore.get(id))
    const series = isUid(id) ? await dicomweb?.server.find(id, signal) : undefined
    if (series) return { name: id, ...seriesInfo(series) }
    throw new AppError('NO_IMAGES_FOUND', "query parameter 'image': the DICOMweb service has no series of this UID")
  }
}

/** Fires when the client is gone; after the reply it is nobody's. */
function hangUp(reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  void whenSent(reply).then(() => gone.abort(new AppError('CANCELLED', 'the client went away')))
  return gone.signal
}

type ResultFile = NonNullable<JobResult['file']>

const NOT_ALL =
  'the DICOMweb service has more series; the operator chooses with --dicomweb-filter and --dicomweb-max-series'
const NIFTI = { contentType: 'application/octet-stream', extension: '.nii' } as const

function sendImage(reply: FastifyReply, id: string, held: HeldImage, volume: boolean): Promise<FastifyReply> {
  if (volume) return sendFile(reply, { path: held.volumePath, ...NIFTI }, fileName(id, '.nii'))
  const { file: name, contentType } = held.meta.source
  const extension = suffixOf(name)
  return sendFile(reply, { path: held.sourcePath, contentType, extension }, fileName(id, extension))
}

export function storedFiles({ files }: Upload, part: string): readonly UploadedFile[] {
  if (files.length > 0) return files
  throw new AppError('MISSING_IMAGE', `the request has no file: send it as the multipart file '${part}'`)
}

/** Of all files in their order, each by its own hash: what comes again in other parts is the same. */
async function sha256Of(files: readonly UploadedFile[]): Promise<string> {
  const hashes: string[] = []
  for (const { path } of files) hashes.push((await hashFile(path)).sha256)
  return hashes.length === 1 ? hashes[0]! : createHash('sha256').update(hashes.sort().join()).digest('hex')
}

function statsOf(listed: readonly Listed[]): Record<string, unknown> {
  const tags: Record<string, number> = {}
  for (const { labels } of listed) for (const tag of labels.keys()) tags[tag] = (tags[tag] ?? 0) + 1
  return { ...countsOf(listed), label_tags: tags }
}
