/** POST /v1/dicom_seg: a label map drawn on a session's DICOM series, as a DICOM SEG object. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { type JobResult, SERIES_FIELD, type ToolJob } from '../../contract/job.js'
import { AppError } from '../../errors.js'
import type { ReadLimits } from '../../formats/format.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import { parseLooseJson } from '../../util/loose-json.js'
import { type Arrived, type Call, type Computation, compute, storedSession } from '../compute-request.js'
import { sendFile } from '../reply.js'
import { refusals } from '../schemas.js'
import type { ToolRouteOptions } from '../tool-request.js'

const SEG_BODY = {
  required: true,
  content: {
    'multipart/form-data': {
      schema: {
        type: 'object',
        properties: {
          segments: {
            type: 'array',
            items: { type: 'object', properties: { label: { type: 'integer' }, name: { type: 'string' } } },
            examples: [[{ label: 1, name: 'liver' }]],
          },
          image: { type: 'string', format: 'binary', description: 'the label map: NIfTI or NRRD, values up to 255' },
        },
      },
      encoding: { segments: { contentType: 'application/json' } },
    },
  },
} as const

const SEG_RESPONSE = {
  description: 'a DICOM Segmentation that refers to the slices of the series',
  content: { 'application/dicom': { schema: { type: 'string', format: 'binary' } } },
} as const

export const dicomSegRoutes: FastifyPluginAsyncZod<ToolRouteOptions> = async (app, options) => {
  app.post(
    '/v1/dicom_seg',
    {
      schema: {
        operationId: 'dicomSeg',
        tags: ['polygons'],
        summary: 'Turn a label map into a DICOM SEG of a session',
        description:
          'The body carries the label map, on the grid of the session, whose image is a DICOM series; `segments` names every label ' +
          'of it. The object numbers them in that order.',
        querystring: z.object({
          session_id: z
            .string({ error: 'is missing; it names the session of the DICOM series' })
            .meta({ description: 'the session whose DICOM series the label map was drawn on' }),
        }),
        response: refusals(400, 409, 413, 415, 440, 499, 500, 503, 504),
      },
      config: {
        openapi: {
          requestBody: SEG_BODY,
          responses: { 200: SEG_RESPONSE },
        },
      },
    },
    async (request, reply) => {
      const { readLimits, scheduler } = options
      const computation: Computation<ToolJob, JobResult> = {
        task: 'dicomSeg',
        stored: storedSession(options.sessions, request.query.session_id),
        admit: (job: Parameters<Scheduler['admit']>[1]) => scheduler.admit(undefined, job),
        prepare: (arrived: Arrived) => segJob(arrived, readLimits),
        run: (job: ToolJob, { request: own, signal, onProgress }: Call) =>
          scheduler.runTool(own, job, signal, onProgress),
      }
      return compute(request, reply, options, computation, ({ file }) => sendFile(reply, file!))
    },
  )
}

/** The one tool that takes an image of each: the label map comes with the request, the series with the session. */
function segJob({ upload, session, scope }: Arrived, limits: ReadLimits): ToolJob {
  const [map, ...more] = upload.files
  if (map === undefined || more.length > 0)
    throw new AppError('MISSING_IMAGE', `the request has ${upload.files.length} files; it takes one, the label map`)
  if (session === undefined || session.seriesPaths.length === 0)
    throw new AppError('BAD_PARAMS', "query parameter 'session_id': its image is no DICOM series")
  const text = upload.fields.get('segments')
  if (text === undefined)
    throw new AppError('BAD_PARAMS', "the field 'segments' is missing", {
      hint: 'it names every label: [{"label": 1, "name": "liver"}, …]',
    })
  return {
    kind: 'dicomSeg',
    images: [
      { field: 'image', paths: [map.path] },
      { field: SERIES_FIELD, paths: session.seriesPaths },
    ],
    params: { segments: jsonOf(text) },
    wish: { file: true },
    outDir: scope.folder,
    limits,
  }
}

function jsonOf(text: string): unknown {
  try {
    return parseLooseJson(text)
  } catch (cause) {
    throw new AppError('BAD_PARAMS', "the field 'segments' is not valid JSON", { cause })
  }
}
