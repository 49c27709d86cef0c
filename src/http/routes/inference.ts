/** POST /v1/segmentation, /v1/dextr3d, /v1/deepgrow and /v1/inference: one contract, four tasks. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { AppError } from '../../errors.js'
import type { ReadLimits } from '../../formats/format.js'
import type { ModelRef } from '../../pipelines/model-config.js'
import type { ModelRegistry } from '../../registry/registry.js'
import type { InferenceTask, JobImage, JobResult } from '../../runner/job.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import type { HeldSession, Sessions } from '../../sessions/sessions.js'
import { RESULT_RESPONSE, uploadBody } from '../openapi-upload.js'
import { OUTPUTS, type Output, sendResult } from '../reply.js'
import { type RequestScope, type ScopeOptions, withScope } from '../request-scope.js'
import { readWish } from '../result-wish.js'
import { refusals } from '../schemas.js'
import { imagesOf, paramsOf, receiveUpload, type Upload, type UploadLimits } from '../upload.js'

export interface InferenceRouteOptions {
  /** Rejects MODEL_NOT_FOUND or MODEL_NOT_READY. */
  readonly registry: Pick<ModelRegistry, 'resolve'>
  readonly scheduler: Scheduler
  readonly sessions: Pick<Sessions, 'hold'>
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
    }),
})
type InferenceQuery = z.infer<typeof InferenceQuery>

interface TaskRoute {
  readonly task: InferenceTask
  readonly summary: string
  readonly example: string
}

const TASKS: readonly TaskRoute[] = [
  { task: 'segmentation', summary: 'Label an image', example: '{}' },
  {
    task: 'dextr3d',
    summary: 'Label one structure from its six extreme points',
    example: '{"points": [[93,106,64],[40,108,64],[29,66,64],[47,20,64],[93,32,64],[99,68,64]]}',
  },
  {
    task: 'deepgrow',
    summary: 'Label one structure from foreground and background clicks',
    example: '{"foreground": [[155,189,78]], "background": []}',
  },
  { task: 'inference', summary: 'Run any model', example: '{}' },
]

export const inferenceRoutes: FastifyPluginAsyncZod<InferenceRouteOptions> = async (app, options) => {
  for (const { task, summary, example } of TASKS) {
    app.post(
      `/v1/${task}`,
      {
        schema: {
          operationId: task,
          tags: ['inference'],
          summary,
          querystring: InferenceQuery,
          response: refusals(400, 404, 413, 415, 422, 440, 499, 500, 503, 504),
        },
        config: { openapi: { requestBody: uploadBody(example), responses: { 200: RESULT_RESPONSE } } },
      },
      async (request, reply) => {
        const { query } = request
        const model = options.registry.resolve(query.model)
        return withScope(request, reply, options.scope, async (scope) => {
          const upload = await receiveUpload(request, scope.folder, options.uploadLimits)
          const result = await infer(task, model, query, upload, scope, options)
          return sendResult(request, reply, result, query.output)
        })
      },
    )
  }
}

/** From what the request brought to the scheduler's answer. The session, if one is named, is held meanwhile. */
async function infer(
  task: InferenceTask,
  model: ModelRef,
  query: InferenceQuery,
  upload: Upload,
  scope: RequestScope,
  options: InferenceRouteOptions,
): Promise<JobResult> {
  const params = paramsOf(upload)
  const uploaded = await imagesOf(upload)
  const session = query.session_id ? await options.sessions.hold(query.session_id) : undefined
  try {
    const images = chooseImages(uploaded, session, query.output)
    const wish = readWish(params, query.output, session?.meta.extension)
    const job = { ...scope.job, client: query.session_id || scope.job.client }
    const { readLimits: limits, scheduler } = options
    return await scheduler.runModel(
      job,
      model,
      { kind: 'inference', task, images, params, wish, outDir: scope.folder, limits },
      scope.signal,
    )
  } finally {
    session?.release()
  }
}

function chooseImages(
  uploaded: readonly JobImage[],
  session: HeldSession | undefined,
  output: Output | undefined,
): readonly JobImage[] {
  if (session === undefined) {
    if (uploaded.length > 0) return uploaded
    throw new AppError(
      'MISSING_IMAGE',
      "the request has no image: send one as the multipart file 'image', or name a session_id",
    )
  }
  if (uploaded.length > 0)
    throw new AppError(
      'BAD_PARAMS',
      "query parameter 'session_id': the request also uploads an image; send one or the other",
    )
  // A DICOM SEG refers to the slices themselves; every other result is computed from the volume decoded at upload.
  if (output === 'dicom_seg' && session.seriesPaths.length > 0) return [{ field: 'image', paths: session.seriesPaths }]
  return [{ field: 'image', paths: [session.volumePath], cacheKey: session.meta.id }]
}
