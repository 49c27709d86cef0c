/** POST /v1/segmentation, /v1/dextr3d, /v1/deepgrow and /v1/inference: one contract, four tasks. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { InferenceJob, InferenceTask, JobResult } from '../../contract/job.js'
import type { ModelRef, ModelType } from '../../contract/model.js'
import { AppError } from '../../errors.js'
import type { ReadLimits } from '../../formats/format.js'
import type { ModelRegistry } from '../../registry/registry.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import { type Computation, type ComputeOptions, compute, computeLater, storedSession } from '../compute-request.js'
import { jobInput } from '../job-input.js'
import { RESULT_RESPONSE, uploadBody } from '../openapi-upload.js'
import { OUTPUTS, sendResult } from '../reply.js'
import { INFERENCE_REFUSALS, QueryFlag, refusals } from '../schemas.js'
import { imageForOutput } from '../session-image.js'
import { infoOf, RequestInfo } from './requests.js'

export interface InferenceRouteOptions extends ComputeOptions {
  /** Rejects MODEL_NOT_FOUND or MODEL_NOT_READY. */
  readonly registry: Pick<ModelRegistry, 'resolve'>
  readonly scheduler: Pick<Scheduler, 'runModel' | 'admit'>
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

interface TaskRoute {
  readonly task: InferenceTask
  readonly summary: string
  readonly description?: string
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
    description:
      'params: foreground and background are lists of clicks [x, y, z], voxel indices of the posted image. Models of the SAM ' +
      'family also take box, [x0, y0, x1, y1] in the same indices, in the slice that slice (or a click) names; a picture has ' +
      'one. mask_quality of the reply is what such a model thinks of its mask.',
    types: ['deepgrow'],
    example: { foreground: [[17, 20, 0]], background: [] },
  },
  { task: 'inference', summary: 'Run any model', example: {} },
]

export const inferenceRoutes: FastifyPluginAsyncZod<InferenceRouteOptions> = async (app, options) => {
  for (const { task, summary, description, types, example } of TASKS) {
    app.post(
      `/v1/${task}`,
      {
        schema: {
          operationId: task,
          tags: ['inference'],
          summary,
          ...(description === undefined ? {} : { description }),
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
        const { model: name, session_id: sessionId, output, async: later } = request.query
        const model = options.registry.resolve(name)
        checkTask(task, model)
        const { readLimits, scheduler } = options
        const computation: Computation<InferenceJob, JobResult> = {
          task,
          model: name,
          stored: storedSession(options.sessions, sessionId),
          admit: (own) => scheduler.admit(model, own),
          prepare: (arrived) => ({
            kind: 'inference',
            task,
            ...jobInput(arrived, output, readLimits, (held) => imageForOutput(held, output)),
          }),
          run: (job, { request: own, signal, onProgress }) => scheduler.runModel(own, model, job, signal, onProgress),
        }
        if (!later)
          return compute(request, reply, options, computation, (result) => sendResult(request, reply, result, output))
        const id = await computeLater(request, reply, options, computation, output)
        // Without a scheme and host: a reverse proxy may have other ones.
        reply.code(202).header('location', `/v1/requests/${id}/result`)
        return infoOf(options.board.get(id), Date.now())
      },
    )
  }
}

/** Model types that answer to clicks or to extreme points; `others` may do anything. */
const TYPES_OF_TASK: Readonly<Partial<Record<InferenceTask, readonly ModelType[]>>> = {
  dextr3d: ['annotation', 'others'],
  deepgrow: ['deepgrow', 'pipeline', 'others'],
}

/** A model that knows no clicks would pass over them without a word. Throws BAD_PARAMS. */
function checkTask(task: InferenceTask, { name, config: { type } }: ModelRef): void {
  const types = TYPES_OF_TASK[task]
  if (types === undefined || types.includes(type)) return
  throw new AppError(
    'BAD_PARAMS',
    `/v1/${task} runs models of type ${types.join(', ')}; '${name}' is a ${type} model`,
    {
      hint: 'GET /v1/models tells the type of each; /v1/inference runs any',
    },
  )
}
