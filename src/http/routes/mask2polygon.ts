/** POST /v1/mask2polygon: the contours of a mask, slice by slice. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { uploadBody } from '../openapi-upload.js'
import { sendFile } from '../reply.js'
import { refusals } from '../schemas.js'
import { runToolRequest, SessionQuery, type ToolRouteOptions } from '../tool-request.js'

const POLYGONS_RESPONSE = {
  description:
    'one entry for every slice along the third stored axis: a list of polygons, each a list of [column, row] ' +
    "(of a volume: [y, x]); a hole's border follows the border around it",
  content: {
    'application/json': {
      schema: {
        type: 'array',
        items: {
          type: 'array',
          items: { type: 'array', items: { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 2 } },
        },
      },
    },
  },
} as const

export const mask2polygonRoutes: FastifyPluginAsyncZod<ToolRouteOptions> = async (app, options) => {
  app.post(
    '/v1/mask2polygon',
    {
      schema: {
        operationId: 'mask2polygon',
        tags: ['polygons'],
        summary: 'Turn a mask into polygons',
        description:
          'params: `more_points` leaves out that many points between two kept ones (0 keeps all); `label` picks one ' +
          'value of a label map, in a picture an index of its palette, a colour or an opacity, and is refused with those ' +
          'that there are when it is nowhere; `simplify` keeps the points that a tolerance in voxels needs, instead of `more_points`; ' +
          '`image_index` names one of the images of a file that holds several, from 0.',
        querystring: z.object({ session_id: SessionQuery }),
        response: refusals(400, 409, 413, 415, 440, 499, 500, 503, 504),
      },
      config: {
        openapi: {
          requestBody: uploadBody(
            { more_points: 10 },
            'the mask: NIfTI, NRRD (.seg.nrrd too), MetaImage, PNG, TIFF, BMP or DICOM',
          ),
          responses: { 200: POLYGONS_RESPONSE },
        },
      },
    },
    async (request, reply) =>
      runToolRequest(request, reply, 'mask2polygon', request.query, options, ({ file }) => sendFile(reply, file!)),
  )
}
