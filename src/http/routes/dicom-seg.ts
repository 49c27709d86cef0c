/** POST /v1/dicom_seg: a label map drawn on a session's DICOM series, as a DICOM SEG object. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { uploadBody } from '../openapi-upload.js'
import { sendFile } from '../reply.js'
import { refusals } from '../schemas.js'
import { runToolRequest, type ToolRouteOptions } from '../tool-request.js'

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
          'The body carries the label map, on the grid of the session, whose image is a DICOM series; params: `segments` ' +
          'names every label of it.',
        querystring: z.object({
          session_id: z
            .string({ error: 'is missing; it names the session of the DICOM series' })
            .meta({ description: 'the session whose DICOM series the label map was drawn on' }),
        }),
        response: refusals(400, 409, 413, 415, 440, 499, 500, 503, 504),
      },
      config: {
        openapi: {
          requestBody: uploadBody(
            { segments: [{ label: 1, name: 'liver' }] },
            'the label map: NIfTI or NRRD, values up to 255',
          ),
          responses: { 200: SEG_RESPONSE },
        },
      },
    },
    async (request, reply) =>
      runToolRequest(request, reply, 'dicomSeg', request.query, options, ({ file }) => sendFile(reply, file!)),
  )
}
