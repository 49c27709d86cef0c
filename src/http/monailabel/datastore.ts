/** /datastore: images and labels in, the list of them and the files out. Without a datastore all of it is not found. */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { type Datastore, FINAL, type StoredItem } from '../../datastore/datastore.js'
import { checkImageId, checkTag } from '../../datastore/names.js'
import { AppError } from '../../errors.js'
import type { ReadLimits } from '../../formats/format.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import { parseParams } from '../../util/parse-params.js'
import { type Computation, type ComputeOptions, compute } from '../compute-request.js'
import { ingestImage } from '../ingest-image.js'
import { FILE_CONTENT } from '../openapi-upload.js'
import { sendFile } from '../reply.js'
import type { RequestScope } from '../request-scope.js'
import { QueryFlag, refusals } from '../schemas.js'
import { paramsOf, type Upload, type UploadedFile } from '../upload.js'

export interface DatastoreRouteOptions extends ComputeOptions {
  readonly datastore: Datastore | undefined
  readonly scheduler: Pick<Scheduler, 'runTool' | 'admit'>
  readonly readLimits: ReadLimits
  /** Throws FORBIDDEN for those whom the operator keeps out: machines by their address, pages by their origin. */
  readonly access: (request: FastifyRequest) => Promise<void>
}

const ImageQuery = z.object({
  image: z.string().optional().meta({ description: 'what the image is called: any text; absent: a name is made' }),
})
const LabelQuery = z.object({
  image: z.string({ error: 'is missing; it names a stored image' }).meta({ description: 'the image it belongs to' }),
  tag: z.string().optional().meta({ description: `final (absent), original, or a word of your own` }),
})
const ImageFileQuery = z.object({
  image: z.string({ error: 'is missing; it names a stored image' }).meta({ description: 'a name of the list' }),
  volume: QueryFlag.meta({ description: 'true: as it was decoded, a NIfTI volume, instead of the file that came' }),
})
const LabelFileQuery = z.object({
  label: z.string({ error: 'is missing; it names a stored image' }).meta({ description: 'the image it belongs to' }),
  tag: z.string().optional().meta({ description: 'final when absent' }),
  volume: QueryFlag.meta({ description: 'true: as a NIfTI volume, instead of the file that came' }),
})
const ListQuery = z.object({
  output: z
    .enum(['all', 'stats', ''], { error: 'must be all or stats' })
    .optional()
    .meta({ description: 'all: every image and its labels; stats, or absent: how many' }),
})

const file = (description: string) => ({ type: 'string', format: 'binary', description })
const body = (part: string, description: string) => ({
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
const FILE_RESPONSE = { 200: { description: 'the file', content: FILE_CONTENT } } as const
const JSON_RESPONSE = (description: string) => ({
  200: { description, content: { 'application/json': { schema: { type: 'object', additionalProperties: true } } } },
})

const PUT_REFUSALS = [400, 403, 404, 413, 415, 499, 500, 503, 504] as const
/** The largest JSON label (points and boxes of a person) is a few KiB. */
const JSON_LABEL_BYTES = 1024 * 1024

export const datastoreRoutes: FastifyPluginAsyncZod<DatastoreRouteOptions> = async (app, options) => {
  const { access, readLimits: limits, scheduler } = options
  /** The datastore for this request. Rejects NOT_FOUND where there is none, FORBIDDEN for who may not. */
  const opened = async (request: FastifyRequest): Promise<Datastore> => {
    if (!options.datastore)
      throw new AppError('NOT_FOUND', 'this server keeps no datastore', {
        hint: 'the operator turns it on with --datastore; sessions (PUT /session/) work without',
      })
    await access(request)
    return options.datastore
  }

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
          response: { 200: z.object({ image: z.string() }), ...refusals(...PUT_REFUSALS) },
        },
        config: { openapi: { requestBody: body('file', 'the image; the slices of a series as several parts') } },
      },
      async (request, reply) => {
        const datastore = await opened(request)
        const id = request.query.image ? checkImageId(request.query.image) : `image-${randomUUID()}`
        const computation: Computation<
          { readonly files: readonly UploadedFile[]; readonly scope: RequestScope },
          StoredItem
        > = {
          task: 'datastore',
          admit: (own) => scheduler.admit(undefined, own),
          prepare: ({ upload, scope }) => ({ files: filesOf(upload, 'file'), scope }),
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

  app.put(
    '/datastore/label',
    {
      schema: {
        operationId: 'putMonaiLabel',
        tags: ['monailabel'],
        summary: 'Store a label of an image under a tag; what was there before is kept as a version',
        description:
          'A label map on the grid of its image in any format that is read, or JSON (points, boxes). `params` are kept beside it.',
        querystring: LabelQuery,
        response: {
          200: z.object({ image: z.string(), label: z.string(), notes: z.array(z.string()).optional() }),
          ...refusals(...PUT_REFUSALS),
        },
      },
      config: { openapi: { requestBody: body('label', 'the label map') } },
    },
    async (request, reply) => {
      const datastore = await opened(request)
      const { image: id } = request.query
      const tag = checkTag(request.query.tag || FINAL)
      const { image } = datastore.get(id)
      const computation: Computation<Label, readonly string[]> = {
        task: 'datastore',
        admit: (own) => scheduler.admit(undefined, own),
        prepare: ({ upload, scope }) => {
          if (upload.paramsPath !== undefined)
            throw new AppError('TOO_LARGE', 'params: what is kept beside a label has at most 256 KiB')
          return { files: filesOf(upload, 'label'), params: paramsOf(upload), scope }
        },
        run: async ({ files, params, scope }, call) => {
          const outDir = join(scope.folder, 'stored')
          await mkdir(outDir)
          const { client_id: _client, ...said } = params
          const [only] = files
          if (files.length === 1 && (await isJson(only!))) {
            await rename(only!.path, join(outDir, 'label.json'))
            const label = {
              folder: outDir,
              file: 'label.json',
              contentType: 'application/json',
              info: { params: said },
            }
            await datastore.putLabel(id, tag, label)
            return []
          }
          const label = await ingestImage(scheduler, { images: [], files, outDir, limits }, call)
          const notes = notOnGrid(label.image.size, image.image.size)
          const { file: name, contentType } = label.source
          // Label maps are small as they come, and large decoded.
          if (name !== VOLUME) await rm(join(outDir, VOLUME))
          const info = { params: withNames(said), size: label.image.size, ...(notes.length > 0 ? { notes } : {}) }
          await datastore.putLabel(id, tag, { folder: outDir, file: name, contentType, info })
          return notes
        },
      }
      return compute(request, reply, options, computation, (notes) => ({
        image: id,
        label: id,
        ...(notes.length > 0 ? { notes: [...notes] } : {}),
      }))
    },
  )

  app.get(
    '/datastore',
    {
      schema: {
        operationId: 'listMonaiDatastore',
        tags: ['monailabel'],
        summary: 'What the datastore holds',
        querystring: ListQuery,
        response: { 200: z.unknown(), ...refusals(400, 403, 404) },
      },
      config: { openapi: { responses: JSON_RESPONSE('{"objects": {name: {image, labels}}}, or counts') } },
    },
    async (request, reply) => {
      const datastore = await opened(request)
      const answer = request.query.output === 'all' ? { objects: objectsOf(datastore.list()) } : statsOf(datastore)
      // Serialised here: a client's names are keys of it, whatever they are.
      return reply.type('application/json; charset=utf-8').send(JSON.stringify(answer))
    },
  )

  app.get(
    '/datastore/image',
    {
      schema: {
        operationId: 'getMonaiImage',
        tags: ['monailabel'],
        summary: 'The file of an image, as it came',
        querystring: ImageFileQuery,
        response: { 200: z.unknown(), ...refusals(400, 403, 404, 500) },
      },
      config: { openapi: { responses: FILE_RESPONSE } },
    },
    async (request, reply) => {
      const { image, volume } = request.query
      const held = await (await opened(request)).hold(image)
      reply.raw.once('close', () => held.release())
      if (volume) return sendFile(reply, { path: held.volumePath, ...NIFTI }, fileName(image, '.nii'))
      const { file: name, contentType } = held.meta.source
      const extension = name.slice(name.indexOf('.'))
      return sendFile(reply, { path: held.sourcePath, contentType, extension }, fileName(image, extension))
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
        response: { 200: z.unknown(), ...refusals(400, 403, 404) },
      },
      config: { openapi: { responses: JSON_RESPONSE('format, size, spacing, bytes and times') } },
    },
    async (request, reply) => {
      const datastore = await opened(request).catch((error: unknown) => {
        // To a page that may not look there is nothing: XNAT's viewer goes on with a session then.
        if (error instanceof AppError && error.code === 'FORBIDDEN')
          throw new AppError('NOT_FOUND', "query parameter 'image': there is no image of this name for you")
        throw error
      })
      const info = infoOf(datastore.get(request.query.image))
      return reply.type('application/json; charset=utf-8').send(JSON.stringify(info))
    },
  )

  app.get(
    '/datastore/label',
    {
      schema: {
        operationId: 'getMonaiLabel',
        tags: ['monailabel'],
        summary: 'The newest label of an image and a tag',
        querystring: LabelFileQuery,
        response: { 200: z.unknown(), ...refusals(...PUT_REFUSALS) },
      },
      config: { openapi: { responses: FILE_RESPONSE } },
    },
    async (request, reply): Promise<FastifyReply> => {
      const datastore = await opened(request)
      const { label: id, tag, volume } = request.query
      const { path, label } = await datastore.labelFile(id, tag || FINAL)
      const extension = label.file.slice(label.file.indexOf('.'))
      if (!volume || label.file === VOLUME)
        return sendFile(reply, { path, contentType: label.contentType, extension }, fileName(id, extension))
      if (extension === '.json')
        throw new AppError('BAD_PARAMS', "query parameter 'volume': this label is no label map")
      const computation: Computation<RequestScope, string> = {
        task: 'datastore',
        admit: (own) => scheduler.admit(undefined, own),
        prepare: ({ scope }) => scope,
        run: async (scope, call) => {
          const outDir = join(scope.folder, 'stored')
          await mkdir(outDir)
          // The tool moves what it reads into its folder; the label stays where it is.
          const copy = join(scope.folder, 'label')
          await copyFile(path, copy)
          const images = [{ field: 'image', paths: [copy] }]
          return join((await ingestImage(scheduler, { images, outDir, limits }, call)).folder, VOLUME)
        },
      }
      return compute(request, reply, options, computation, (made) =>
        sendFile(reply, { path: made, ...NIFTI }, fileName(id, '.nii')),
      )
    },
  )
}

const VOLUME = 'volume.nii'
const NIFTI = { contentType: 'application/octet-stream', extension: '.nii' } as const

interface Label {
  readonly files: readonly UploadedFile[]
  readonly params: Readonly<Record<string, unknown>>
  readonly scope: RequestScope
}

function filesOf({ files }: Upload, part: string): readonly UploadedFile[] {
  if (files.length > 0) return files
  throw new AppError('MISSING_IMAGE', `the request has no file: send it as the multipart file '${part}'`)
}

/** Of all files in their order, each by its own hash: what comes again in other parts is the same. */
async function sha256Of(files: readonly UploadedFile[]): Promise<string> {
  const hashes: string[] = []
  for (const { path } of files) {
    const hash = createHash('sha256')
    await pipeline(createReadStream(path), hash)
    hashes.push(hash.digest('hex'))
  }
  return hashes.length === 1 ? hashes[0]! : createHash('sha256').update(hashes.sort().join()).digest('hex')
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

/** 3D Slicer says which value is called what as `label_info`, and reads it back as `label_names`. */
function withNames(params: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const said = LabelInfo.safeParse(params.label_info)
  if (!said.success || 'label_names' in params) return params
  return { ...params, label_names: Object.fromEntries(said.data.map(({ name, idx }) => [name, idx])) }
}

function infoOf({ id, image, versions }: StoredItem): Record<string, unknown> {
  const { createdAt, source, image: facts } = image
  return { ...facts, name: id, ts: Math.floor(createdAt / 1000), checksum: `SHA256:${source.sha256}`, versions }
}

function objectsOf(items: readonly StoredItem[]): Record<string, unknown> {
  return Object.fromEntries(
    items.map((item) => {
      const labels = [...item.labels].map(([tag, { file: name, createdAt, info }]) => [
        tag,
        { ext: name.slice(name.indexOf('.')), info: { ts: Math.floor(createdAt / 1000), ...info } },
      ])
      const { file: name } = item.image.source
      const image = { ext: name.slice(name.indexOf('.')), info: infoOf(item) }
      return [item.id, { image, labels: Object.fromEntries(labels) }]
    }),
  )
}

function statsOf(datastore: Datastore): Record<string, unknown> {
  const tags: Record<string, number> = {}
  for (const { labels } of datastore.list()) for (const tag of labels.keys()) tags[tag] = (tags[tag] ?? 0) + 1
  return { ...datastore.counts(), label_tags: tags }
}

/** A name that every file system takes; the suffix is not said twice. */
export function fileName(id: string, extension: string): string {
  const stem = id.toLowerCase().endsWith(extension) ? id.slice(0, -extension.length) : id
  return stem.replace(/[^A-Za-z0-9_-]+/g, '_').slice(0, 100) || 'image'
}
