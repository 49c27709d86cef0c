/** POST /v1/fixpolygon: polygons after one vertex was dragged, and the mask they enclose. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { RESULT_RESPONSE, uploadBody } from '../openapi-upload.js'
import { OUTPUTS, sendResult } from '../reply.js'
import { refusals } from '../schemas.js'
import { runToolRequest, SessionQuery, type ToolRouteOptions } from '../tool-request.js'

const POLYGON_OUTPUTS = OUTPUTS.filter((output) => output !== 'dicom_seg')

const EXAMPLE = {
  dimension: 2,
  poly: [
    [
      [10, 10],
      [24, 10],
      [24, 24],
      [10, 24],
    ],
  ],
  polygon_index: 0,
  vertex_index: 2,
  vertex_offset: [4, 3],
  propagate_neighbor: 1,
}

export const fixpolygonRoutes: FastifyPluginAsyncZod<ToolRouteOptions> = async (app, options) => {
  app.post(
    '/v1/fixpolygon',
    {
      schema: {
        operationId: 'fixpolygon',
        tags: ['polygons'],
        summary: 'Drag a vertex of a polygon to a better place',
        description:
          'params: the polygons as `poly` (or `prev_poly`) with `vertex_offset`, or as `prev_poly` and the edited `poly`; ' +
          '`polygon_index` and `vertex_index` say which vertex, in 3-D also `slice_index`; `propagate_neighbor` vertices ' +
          'to each side and the nearest ones in `propagate_neighbor_3d` slices to each side follow, and settle on an ' +
          'edge of the image where it shows one near by; `image_index` names one of the images of a file that holds several, from 0.',
        querystring: z.object({
          session_id: SessionQuery,
          output: z
            .enum(POLYGON_OUTPUTS, { error: `must be one of ${POLYGON_OUTPUTS.join(', ')}` })
            .optional()
            .meta({
              description: 'what comes back: both (absent, all), the mask (image) or the polygons (results)',
              examples: ['image'],
            }),
        }),
        response: refusals(400, 409, 413, 415, 440, 499, 500, 503, 504),
      },
      config: {
        openapi: {
          requestBody: uploadBody(EXAMPLE, 'the image: a 2-D slice as PNG, JPEG, TIFF or BMP, or a volume'),
          responses: { 200: RESULT_RESPONSE },
        },
      },
    },
    async (request, reply) =>
      runToolRequest(request, reply, 'fixpolygon', request.query, options, (result) =>
        sendResult(request, reply, result, request.query.output),
      ),
  )
}
