/** PUT, GET and DELETE /session/: an image uploaded, or fetched, once and used by many requests. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { InferenceJob, JobResult } from '../../contract/job.js'
import type { ModelRef } from '../../contract/model.js'
import { AppError } from '../../errors.js'
import type { ReadLimits } from '../../formats/format.js'
import type { ModelRegistry } from '../../registry/registry.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import type { Session, SessionMeta, Sessions } from '../../sessions/sessions.js'
import { type Computation, type ComputeOptions, compute, computeAhead, storedSession } from '../compute-request.js'
import { ingestImage } from '../ingest-image.js'
import { FILE_CONTENT } from '../openapi-upload.js'
import { sendFile } from '../reply.js'
import type { RequestScope } from '../request-scope.js'
import { INFERENCE_REFUSALS, QueryFlag, refusals } from '../schemas.js'
import { type HeldImage, sessionImage } from '../session-image.js'
import { paramsOf, type Upload } from '../upload.js'
import { whenSent } from '../when-sent.js'

/** Files another server gave, already in the request's folder. */
export interface Fetched {
  readonly paths: readonly string[]
  /** Files that arrived, and how many the peer had announced, if it did. */
  readonly received: number
  readonly reported?: number | undefined
  readonly notes: readonly string[]
}

export interface SessionRouteOptions extends ComputeOptions {
  readonly sessions: Sessions
  readonly scheduler: Pick<Scheduler, 'runTool' | 'runModel' | 'admit'>
  /** Rejects MODEL_NOT_FOUND or MODEL_NOT_READY. */
  readonly registry: Pick<ModelRegistry, 'resolve'>
  /** Fetches what a JSON body names (`dicom`, `dicomweb`, `http`). Rejects FETCH_FORBIDDEN unless the operator allows it. */
  readonly fetchSource: (
    body: Readonly<Record<string, unknown>>,
    folder: string,
    signal: AbortSignal,
  ) => Promise<Fetched>
  readonly readLimits: ReadLimits
}

const SliceNumber = z.coerce
  .number({ error: 'must be a whole number from 0 on' })
  .int({ error: 'must be a whole number from 0 on' })
  .min(0, { error: 'must be a whole number from 0 on' })
  .optional()
  .meta({
    description: 'for models that look at one slice: which one is made ready, from 0; the middle one by default',
  })

const PrepareQuery = z.object({
  model: z
    .string({ error: 'is missing; it names a model of GET /v1/models' })
    .min(1, { error: 'is empty; it names a model of GET /v1/models' })
    .meta({ description: 'a name of GET /v1/models' }),
  slice: SliceNumber,
})

const PutQuery = z.object({
  prepare: z
    .string()
    .min(1, { error: 'is empty; it names a model of GET /v1/models' })
    .optional()
    .meta({
      description:
        'a model that is made ready for the first click while the reply is on its way: the image is prepared for it, and an ' +
        'encoder looks at it. If that fails, the session is there all the same',
    }),
  slice: SliceNumber,
  expiry: z.coerce
    .number({ error: 'must be a number of seconds' })
    .min(0, { error: 'must not be negative' })
    .optional()
    .meta({ description: 'seconds of life after the last use; 0 or absent: the default of the server' }),
  save_as: z
    .string()
    .optional()
    .meta({ description: 'accepted for old clients: a DICOM series is always kept as a NIfTI volume as well' }),
})

const GetQuery = z.object({
  image: QueryFlag.meta({ description: 'true: the stored image itself instead of the information about it' }),
  volume: QueryFlag.meta({
    description: 'true: the image as it was decoded, a NIfTI volume on the grid that clicks and results use',
  }),
  update_ts: QueryFlag.meta({ description: 'true: counts as a use, so the session lives on' }),
})

const SessionId = z.object({ id: z.string() })

const SessionInfo = z
  .object({
    session_id: z.string(),
    create_ts: z.int().meta({ description: 'seconds since 1970' }),
    last_access_ts: z.int(),
    expiry: z.number().meta({ description: 'seconds of life after the last use' }),
    bytes: z.number(),
    image: z.record(z.string(), z.unknown()).meta({ description: 'size, spacing, channels and type of the image' }),
    received: z.object({ files: z.number(), announced: z.number().optional() }).optional(),
  })
  .meta({ id: 'SessionInfo' })
const NewSessionReply = z
  .object({
    session_id: z.string(),
    session_info: SessionInfo,
    preparing: z
      .string()
      .optional()
      .meta({ description: 'the model that is being made ready, where prepare named one' }),
  })
  .meta({ id: 'NewSession' })
const Prepared = z
  .object({
    session_id: z.string(),
    model: z.string(),
    slice: z.int().meta({ description: 'the slice that is ready, for a model that looks at one' }),
    encoder: z
      .enum(['ran', 'cached', 'none'])
      .meta({ description: 'whether the encoder of a model of two parts had to run; none: the model has none' }),
  })
  .meta({ id: 'PreparedSession' })

const PUT_BODY = {
  required: true,
  content: {
    'multipart/form-data': {
      schema: {
        type: 'object',
        properties: {
          image: {
            type: 'string',
            format: 'binary',
            description:
              'NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, BMP, DICOM or a zip; the slices of a series, or the channels of one ' +
              'case (case_0000, case_0001 …), as image0, image1 …',
          },
        },
      },
    },
    'application/json': {
      schema: { type: 'object', additionalProperties: true },
      examples: {
        dicom: {
          summary: 'from a DICOM server',
          value: {
            dicom: {
              server_address: '10.0.0.7',
              server_port: 11112,
              ae_title: 'DCM4CHEE',
              query_level: 'SERIES',
              patient_id: 'P1',
              study_uid: '1.2.3',
              series_uid: '1.2.3.4',
            },
          },
        },
        dicomweb: {
          summary: 'by DICOMweb',
          value: { dicomweb: { url: 'http://10.0.0.7/dicom-web', study_uid: '1.2.3', series_uid: '1.2.3.4' } },
        },
        http: { summary: 'from a URL', value: { http: { url: 'http://10.0.0.7/scans/7', method: 'GET' } } },
      },
    },
  },
} as const

const GET_RESPONSE = {
  description: 'what the session holds; with image=true the stored image itself, with volume=true as decoded',
  content: { 'application/json': { schema: { $ref: '#/components/schemas/SessionInfo' } }, ...FILE_CONTENT },
} as const

export const sessionRoutes: FastifyPluginAsyncZod<SessionRouteOptions> = async (app, options) => {
  const { sessions } = options

  app.put(
    '/session',
    {
      schema: {
        operationId: 'createSession',
        tags: ['session'],
        summary: 'Upload an image once, or have it fetched, for many requests',
        description:
          'The body is a multipart upload (image, or image0, image1 … for a DICOM series or the channels of one case) or JSON that names where to ' +
          'fetch from: {"dicom": …}, {"dicomweb": …} or {"http": …}.',
        querystring: PutQuery,
        response: { 200: NewSessionReply, ...refusals(400, 403, 404, 413, 415, 499, 500, 502, 503, 504) },
      },
      config: { openapi: { requestBody: PUT_BODY } },
    },
    async (request, reply) => {
      const { readLimits: limits, scheduler } = options
      const { prepare, slice } = request.query
      if (slice !== undefined && prepare === undefined)
        throw new AppError(
          'BAD_PARAMS',
          "query parameter 'slice': it says what 'prepare' makes ready, which is missing",
        )
      const model = prepare === undefined ? undefined : options.registry.resolve(prepare)
      const computation: Computation<Taken, Session> = {
        task: 'session',
        admit: (own) => scheduler.admit(undefined, own),
        prepare: async ({ upload, scope }) => {
          const folder = join(scope.folder, 'session')
          await mkdir(folder)
          const { files } = upload
          const fetched = files.length > 0 ? undefined : await fetchImage(sourceOf(upload), scope, options)
          const found = fetched ? { images: [{ field: 'image', paths: fetched.paths }] } : { images: [], files }
          return { job: { ...found, outDir: folder, limits }, fetched }
        },
        run: async ({ job, fetched }, call) =>
          sessions.create({
            expirySeconds: request.query.expiry,
            ...(await ingestImage(scheduler, job, call, fetched?.notes)),
            received: fetched ? { files: fetched.received, announced: fetched.reported } : undefined,
          }),
      }
      return compute(request, reply, options, computation, (session) => {
        // What goes wrong there is seen on the board and in the log, and costs no session.
        if (model)
          computeAhead(request, options, preparation(options, model, session.meta.id, slice)).catch((error) =>
            request.log.warn({ err: error, model: prepare }, 'a session was not made ready for a model'),
          )
        return {
          session_id: session.meta.id,
          session_info: infoOf(session),
          ...(prepare === undefined ? {} : { preparing: prepare }),
        }
      })
    },
  )

  app.post(
    '/session/:id/prepare',
    {
      schema: {
        operationId: 'prepareSession',
        tags: ['session'],
        summary: 'Make a model ready for the first click on a session',
        description:
          'Prepares the image for the model, and has the encoder of a model of two parts look at a slice, so that the first ' +
          'click is as fast as the second. Answers when that is done; PUT /session/?prepare= does it while its reply is on its way.',
        params: SessionId,
        querystring: PrepareQuery,
        response: { 200: Prepared, ...refusals(...INFERENCE_REFUSALS) },
      },
    },
    async (request, reply) => {
      const { model: name, slice } = request.query
      const computation = preparation(options, options.registry.resolve(name), request.params.id, slice)
      return compute(request, reply, options, computation, ({ params, timings }) => ({
        session_id: request.params.id,
        model: name,
        slice: Number(params.slice),
        encoder:
          timings.encoder === undefined
            ? ('none' as const)
            : timings.encoder > 0
              ? ('ran' as const)
              : ('cached' as const),
      }))
    },
  )

  app.get(
    '/session/:id',
    {
      schema: {
        operationId: 'getSession',
        tags: ['session'],
        summary: 'What a session holds, or its image',
        params: SessionId,
        querystring: GetQuery,
        response: { 200: z.union([SessionInfo, z.unknown()]), ...refusals(400, 404, 500) },
      },
      config: { openapi: { responses: { 200: GET_RESPONSE } } },
    },
    async (request, reply) => {
      const held = await sessions.get(request.params.id, { renew: request.query.update_ts })
      void whenSent(reply).then(() => held.release())
      if (request.query.volume)
        return sendFile(reply, { path: held.volumePath, contentType: 'application/octet-stream', extension: '.nii' })
      if (!request.query.image) return infoOf(held)
      const { file, contentType } = held.meta.source
      return sendFile(reply, { path: held.sourcePath, contentType, extension: file.slice(file.indexOf('.')) })
    },
  )

  app.delete(
    '/session/:id',
    {
      schema: {
        operationId: 'deleteSession',
        tags: ['session'],
        summary: 'End a session',
        params: SessionId,
        response: { 200: SessionInfo, ...refusals(404, 500) },
      },
    },
    async (request) => infoOf(await sessions.remove(request.params.id)),
  )
}

function prepareJob(held: HeldImage, outDir: string, limits: ReadLimits, slice: number | undefined): InferenceJob {
  return {
    kind: 'inference',
    task: 'inference',
    images: [sessionImage(held)],
    params: {},
    wish: { file: false },
    outDir,
    limits,
    prepare: slice === undefined ? {} : { slice },
  }
}

/** Makes a model ready for a session: prepares its image, and has an encoder look at a slice of it. */
function preparation(
  { sessions, scheduler, readLimits }: SessionRouteOptions,
  model: ModelRef,
  id: string,
  slice: number | undefined,
): Computation<InferenceJob, JobResult> {
  return {
    task: 'prepare',
    model: model.name,
    stored: storedSession(sessions, id),
    admit: (own) => scheduler.admit(model, own),
    prepare: ({ session, scope }) => prepareJob(session!, scope.folder, readLimits, slice),
    run: (job, { request, signal, onProgress }) => scheduler.runModel(request, model, job, signal, onProgress),
  }
}

/** What PUT is to make a session of, and where its image came from. */
interface Taken {
  readonly job: Parameters<typeof ingestImage>[1]
  readonly fetched: Fetched | undefined
}

/** Where to fetch from, as the body says. */
function sourceOf(upload: Upload): Record<string, unknown> {
  if (upload.paramsPath === undefined) return paramsOf(upload)
  throw new AppError('TOO_LARGE', 'the params of a session are too long to say where its image is')
}

async function fetchImage(
  params: Readonly<Record<string, unknown>>,
  { folder, signal }: RequestScope,
  { fetchSource }: SessionRouteOptions,
): Promise<Fetched> {
  if (!['dicom', 'dicomweb', 'http'].some((key) => key in params))
    throw new AppError('MISSING_IMAGE', 'the request has no image', {
      hint: 'send it as the multipart file \'image\', or JSON {"dicom": …}, {"dicomweb": …} or {"http": …}',
    })
  return fetchSource(params, folder, signal)
}

function infoOf({ meta, lastAccessAt }: Session): z.infer<typeof SessionInfo> {
  return {
    session_id: meta.id,
    create_ts: Math.floor(meta.createdAt / 1000),
    last_access_ts: Math.floor(lastAccessAt / 1000),
    expiry: meta.expirySeconds,
    bytes: meta.bytes,
    image: meta.image,
    ...(meta.received ? { received: receivedOf(meta.received) } : {}),
  }
}

function receivedOf({ files, announced }: NonNullable<SessionMeta['received']>) {
  return announced === undefined ? { files } : { files, announced }
}
