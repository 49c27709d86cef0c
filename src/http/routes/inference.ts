/** POST /v1/segmentation, /v1/dextr3d, /v1/deepgrow and /v1/inference: one contract, four tasks. */
import type { FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { InferenceJob, InferenceTask, JobImage, JobResult } from '../../contract/job.js'
import type { ModelRef } from '../../contract/model.js'
import type { ReadLimits } from '../../formats/format.js'
import type { ModelRegistry } from '../../registry/registry.js'
import type { RequestBoard, RequestHandle } from '../../scheduler/request-board.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import type { HeldSession, Sessions } from '../../sessions/sessions.js'
import { imagesFromOneSource } from '../one-source.js'
import { RESULT_RESPONSE, uploadBody } from '../openapi-upload.js'
import { OUTPUTS, type Output, sendResult } from '../reply.js'
import { clientOf, type RequestScope, type ScopeOptions, withDetachedScope, withScope } from '../request-scope.js'
import { readWish } from '../result-wish.js'
import { INFERENCE_REFUSALS, QueryFlag, refusals } from '../schemas.js'
import { sessionImage } from '../session-image.js'
import { imagesOf, paramsOf, receiveUpload, type Upload, type UploadLimits } from '../upload.js'
import { infoOf, RequestInfo } from './requests.js'

export interface InferenceRouteOptions {
  /** Rejects MODEL_NOT_FOUND or MODEL_NOT_READY. */
  readonly registry: Pick<ModelRegistry, 'resolve'>
  readonly scheduler: Scheduler
  readonly sessions: Pick<Sessions, 'hold'>
  readonly board: RequestBoard
  readonly scope: ScopeOptions
  readonly uploadLimits: UploadLimits
  readonly readLimits: ReadLimits
}

export const InferenceQuery = z.object({
  model: z
    .string({ error: 'is missing; it names a model of GET /v1/models' })
    .min(1, { error: 'is empty; it names a model of GET /v1/models' })
    .meta({ description: 'a name of GET /v1/models' }),
  session_id: z
    .string()
    .optional()
    .meta({ description: 'a session whose image is used; then the body carries no image' }),
  output: z
    .enum(OUTPUTS, { error: `must be one of ${OUTPUTS.join(', ')}` })
    .optional()
    .meta({
      description:
        'what comes back: both (absent, all), the file (image, dicom_seg) or the JSON (results, result, json)',
      examples: ['image'],
    }),
  async: QueryFlag.meta({
    description: 'true: answer 202 at once; Location is where the result can be fetched, once, when it is there',
  }),
})
type InferenceQuery = z.infer<typeof InferenceQuery>

interface TaskRoute {
  readonly task: InferenceTask
  readonly summary: string
  /** Model types that its parameters suit; absent for every one. The route itself runs any model. */
  readonly types?: readonly string[]
  readonly example: Readonly<Record<string, unknown>>
}

const TASKS: readonly TaskRoute[] = [
  { task: 'segmentation', summary: 'Label an image', types: ['segmentation', 'others'], example: {} },
  {
    task: 'dextr3d',
    summary: 'Label one structure from its six extreme points',
    types: ['annotation'],
    example: {
      points: [
        [8, 20, 8],
        [26, 20, 8],
        [17, 8, 8],
        [17, 30, 8],
        [17, 20, 2],
        [17, 20, 14],
      ],
    },
  },
  {
    task: 'deepgrow',
    summary: 'Label one structure from foreground and background clicks',
    types: ['deepgrow'],
    example: { foreground: [[17, 20, 0]], background: [] },
  },
  { task: 'inference', summary: 'Run any model', example: {} },
]

export const inferenceRoutes: FastifyPluginAsyncZod<InferenceRouteOptions> = async (app, options) => {
  for (const { task, summary, types, example } of TASKS) {
    app.post(
      `/v1/${task}`,
      {
        schema: {
          operationId: task,
          tags: ['inference'],
          summary,
          querystring: InferenceQuery,
          response: { 202: RequestInfo, ...refusals(...INFERENCE_REFUSALS) },
        },
        config: {
          openapi: {
            requestBody: uploadBody(example),
            responses: { 200: RESULT_RESPONSE },
            models: { parameter: 'model', ...(types === undefined ? {} : { types }) },
          },
        },
      },
      async (request, reply) => {
        const { query } = request
        const model = options.registry.resolve(query.model)
        const receive = async (scope: RequestScope) => {
          const upload = await receiveUpload(request, scope.folder, options.uploadLimits)
          return prepare(task, query, upload, scope, options)
        }
        if (query.async) {
          const accept = async (scope: RequestScope) => {
            const entry = { ...entryOf(request, scope, task, query), keepsResult: true }
            const handle = options.board.open(entry)
            try {
              return { handle, prepared: await receive(scope) }
            } catch (error) {
              handle.end(scope.signal.aborted ? scope.signal.reason : error)
              throw error
            }
          }
          const { prepared: accepted } = await withDetachedScope(
            request,
            reply,
            options.scope,
            accept,
            (scope, { handle, prepared }) => {
              const running = run(model, prepared, scope, options, handle)
              const done = (result: JobResult, discard: () => Promise<void>) =>
                handle.keep({ result, output: query.output, discard })
              return { running, outcome: { done, failed: handle.end } }
            },
          )
          // Without a scheme and host: a reverse proxy may have other ones.
          reply.code(202).header('location', `/v1/requests/${accepted.id}/result`)
          return infoOf(options.board.get(accepted.id), Date.now())
        }
        return withScope(request, reply, options.scope, async (scope) => {
          const handle = options.board.open(entryOf(request, scope, task, query))
          try {
            const result = await run(model, await receive(scope), scope, options, handle)
            handle.end()
            return sendResult(request, reply, result, query.output)
          } catch (error) {
            handle.end(scope.signal.aborted ? scope.signal.reason : error)
            throw error
          }
        })
      },
    )
  }
}

function entryOf(request: FastifyRequest, scope: RequestScope, task: InferenceTask, { model }: InferenceQuery) {
  return { id: scope.id, trace: request.id, client: clientOf(request), task, model, abort: scope.abort }
}

/** A request that was found in order: what is left is to compute it. */
interface Prepared {
  /** The request's secret id. */
  readonly id: string
  readonly job: InferenceJob
  /** For fair order: clicks in one session wait for each other, not for other sessions. */
  readonly client: string
  readonly session: HeldSession | undefined
}

/** From what the request brought to a job. The session, if one is named, is held from here on. */
async function prepare(
  task: InferenceTask,
  query: InferenceQuery,
  upload: Upload,
  scope: RequestScope,
  options: InferenceRouteOptions,
): Promise<Prepared> {
  const params = paramsOf(upload)
  const uploaded = await imagesOf(upload)
  const session = query.session_id ? await options.sessions.hold(query.session_id) : undefined
  try {
    const images = imagesFromOneSource(uploaded, session, (held) => imageOf(held, query.output))
    const wish = readWish(params, query.output, session?.meta.extension)
    const { readLimits: limits } = options
    const job: InferenceJob = { kind: 'inference', task, images, params, wish, outDir: scope.folder, limits }
    return { id: scope.id, job, client: query.session_id || scope.job.client, session }
  } catch (error) {
    session?.release()
    throw error
  }
}

async function run(
  model: ModelRef,
  { job, client, session }: Prepared,
  scope: RequestScope,
  { scheduler }: InferenceRouteOptions,
  handle: RequestHandle,
): Promise<JobResult> {
  try {
    return await scheduler.runModel({ ...scope.job, client }, model, job, scope.signal, handle.progress)
  } finally {
    session?.release()
  }
}

/** A DICOM SEG refers to the slices themselves; every other result is computed from the volume decoded at upload. */
function imageOf(session: HeldSession, output: Output | undefined): JobImage {
  const { seriesPaths } = session
  if (output === 'dicom_seg' && seriesPaths.length > 0) return { field: 'image', paths: seriesPaths }
  return sessionImage(session)
}
