/** POST /infer/{model}: the inference of /v1 in MONAI Label's words, on an upload, a session's image or a stored one. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { InferenceJob, JobResult } from '../../contract/job.js'
import { AppError } from '../../errors.js'
import type { ReadLimits } from '../../formats/format.js'
import type { ModelRegistry } from '../../registry/registry.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import { type Computation, type ComputeOptions, compute, type StoredImage, storedSession } from '../compute-request.js'
import { jobInput } from '../job-input.js'
import { RESULT_RESPONSE, uploadBody } from '../openapi-upload.js'
import { OUTPUTS, sendResult } from '../reply.js'
import { INFERENCE_REFUSALS, refusals } from '../schemas.js'
import { type HeldImage, imageForOutput } from '../session-image.js'
import { paramsOf } from '../upload.js'
import { type InferParams, readInferParams } from './infer-params.js'
import { withLabelNames } from './label-names.js'
import type { StoredImages } from './stored-images.js'

export interface InferOptions extends ComputeOptions {
  readonly registry: Pick<ModelRegistry, 'resolve'>
  readonly scheduler: Pick<Scheduler, 'runModel' | 'admit'>
  readonly readLimits: ReadLimits
  readonly images: Pick<StoredImages, 'hold'>
}

const InferQuery = z.object({
  image: z.string().optional().meta({
    description:
      'the id of a stored image, or the SeriesInstanceUID of a series of the DICOMweb service; passed over where the body has the image or a session is named',
  }),
  session_id: z.string().optional().meta({ description: 'a session whose image is used' }),
  output: z
    .enum(OUTPUTS, { error: `must be one of ${OUTPUTS.join(', ')}` })
    .optional()
    .meta({ description: 'both parts (absent, all), the file (image, dicom_seg) or the JSON (json)' }),
})

/** What is asked for, and how the client put it. */
interface Asked {
  readonly job: InferenceJob
  readonly read: InferParams
  readonly notes: readonly string[]
}

const EXAMPLE = { foreground: [[17, 20, 0]], background: [] }

export const inferRoutes: FastifyPluginAsyncZod<InferOptions> = async (app, options) => {
  const { images, readLimits, registry, scheduler, sessions } = options
  app.post(
    '/infer/:model',
    {
      schema: {
        operationId: 'inferMonaiLabel',
        tags: ['monailabel'],
        summary: 'Run a model on an image of the body, of a session or of the datastore',
        description:
          'The image is the part `file` (any name but `label` will do). `params.label_names` of the reply has the labels that ' +
          'the label map really holds, by name.',
        params: z.object({ model: z.string().meta({ description: 'a name of GET /info/' }) }),
        querystring: InferQuery,
        response: refusals(...INFERENCE_REFUSALS, 502),
      },
      config: {
        openapi: {
          requestBody: uploadBody(
            EXAMPLE,
            'the image, as for /v1/inference; leave it out when it is stored here',
            'file',
          ),
          responses: { 200: RESULT_RESPONSE },
          models: { parameter: 'model', types: ['segmentation', 'others', 'deepgrow', 'pipeline'] },
        },
      },
    },
    async (request, reply) => {
      const { image, output, session_id: sessionId } = request.query
      const model = registry.resolve(request.params.model)
      const computation: Computation<Asked, JobResult> = {
        task: 'infer',
        model: model.name,
        stored:
          storedSession(sessions, sessionId) ??
          storedImage(image, ({ scope }, call) => images.hold(request, image!, scope, call)),
        admit: (own) => scheduler.admit(model, own),
        prepare: (arrived) => {
          const { upload, session } = arrived
          if (upload.paramsPath !== undefined)
            throw new AppError('TOO_LARGE', 'params: clicks and options of this route have at most 256 KiB')
          const files = upload.files.filter(({ field }) => field !== 'label')
          if (files.length === 0 && session === undefined)
            throw new AppError('MISSING_IMAGE', 'the request has no image', {
              hint: "send it as the multipart file 'file', or name a session_id or a stored image",
            })
          const read = readInferParams(paramsOf(upload), model.config)
          const input = jobInput(
            { ...arrived, upload: { ...upload, files } },
            output,
            readLimits,
            (held) => imageForOutput(held, output),
            read.params,
          )
          const notes = files.length < upload.files.length ? [UNUSED_LABEL] : []
          return { job: { kind: 'inference', task: 'inference', ...input }, read, notes: [...read.notes, ...notes] }
        },
        run: async ({ job, read, notes }, { request: own, signal, onProgress }) => {
          const result = await scheduler.runModel(own, model, job, signal, onProgress)
          return withLabelNames({ ...result, notes: [...result.notes, ...notes] }, read.structure)
        },
      }
      return compute(request, reply, options, computation, (result) => sendResult(request, reply, result, output))
    },
  )
}

const UNUSED_LABEL = "the part 'label' was not used: it is for models that take scribbles, and there are none"

/** Where a client keeps no session it names the image; MONAI Label's own Python client also does so beside an upload. */
function storedImage(
  id: string | undefined,
  hold: (...given: Parameters<StoredImage['hold']>) => Promise<HeldImage>,
): StoredImage | undefined {
  if (id === undefined || id === '') return undefined
  return {
    turn: `image ${id}`,
    hold: async (arrived, call) =>
      arrived.upload.files.some(({ field }) => field !== 'label') ? undefined : hold(arrived, call),
  }
}
