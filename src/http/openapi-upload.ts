/** How the multipart bodies and replies of the inference routes appear in the OpenAPI document; /docs can then upload a file. */

const file = (description: string) => ({ type: 'string', format: 'binary', description })

/** A request body with one image; `required` says whether a session can stand in for it. */
export function uploadBody(
  paramsExample: string,
  image = 'the image: NIfTI, NRRD, PNG, JPEG, DICOM or a zip of DICOM slices',
) {
  return {
    required: false,
    content: {
      'multipart/form-data': {
        schema: {
          type: 'object',
          properties: {
            params: { type: 'string', description: 'a JSON object', default: paramsExample },
            image: file(image),
          },
        },
        encoding: { params: { contentType: 'text/plain' } },
      },
    },
  } as const
}

/** The 200 of an inference route, by `output`. */
export const RESULT_RESPONSE = {
  description:
    'by `output`: both parts (absent, all), the file alone (image, dicom_seg), the JSON alone (results, result, json)',
  content: {
    'multipart/form-data': {
      schema: {
        type: 'object',
        properties: {
          params: {
            type: 'string',
            description: 'a JSON object: points, label statistics, whatever the model computes',
          },
          file: file('the result on the grid of the input'),
        },
        required: ['params'],
      },
    },
    'application/octet-stream': { schema: file('the result file') },
    'application/json': { schema: { type: 'object', additionalProperties: true } },
  },
} as const

/** `config.openapi` of a route: merged over what its schema says. */
export interface OpenApiExtra {
  readonly requestBody?: unknown
  readonly responses?: Readonly<Record<string, unknown>>
}

declare module 'fastify' {
  interface FastifyContextConfig {
    openapi?: OpenApiExtra
  }
}
