/** How the multipart bodies and replies of the inference routes appear in the OpenAPI document; /docs can then upload a file. */

const file = (description: string) => ({ type: 'string', format: 'binary', description })

/**
 * A request body with one image, by default as the part `image`, and params. `example` works as it stands on any image of at least 32 by 32 pixels. The
 * part is declared as JSON: a string whose default parses as JSON is sent by Swagger UI as `[object Object]`.
 */
export function uploadBody(
  example: Readonly<Record<string, unknown>>,
  image = 'the image: NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, BMP, DICOM or a zip of DICOM slices; leave it out when a session is named',
  part = 'image',
) {
  return {
    required: false,
    content: {
      'multipart/form-data': {
        schema: {
          type: 'object',
          properties: {
            params: { type: 'object', description: 'a JSON object', additionalProperties: true, examples: [example] },
            [part]: file(image),
          },
        },
        encoding: { params: { contentType: 'application/json' } },
      },
    },
  } as const
}

/** The 200 of a reply that is a file: what it may be, besides NIfTI and NRRD. */
export const FILE_CONTENT = {
  'application/octet-stream': { schema: file('NIfTI or NRRD') },
  'image/png': { schema: file('a picture') },
  'image/jpeg': { schema: file('a picture') },
} as const

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
            type: 'object',
            additionalProperties: true,
            description: 'a JSON object: points, label statistics, whatever the model computes',
          },
          file: file('the result on the grid of the input'),
        },
        required: ['params'],
      },
    },
    ...FILE_CONTENT,
    'application/dicom': { schema: file('a DICOM SEG object (output=dicom_seg)') },
    'application/json': { schema: { type: 'object', additionalProperties: true } },
  },
} as const

/** `config.openapi` of a route: merged over what its schema says. */
export interface OpenApiExtra {
  readonly requestBody?: unknown
  readonly responses?: Readonly<Record<string, unknown>>
  /** Which models its `model` parameter offers, when the document is served. */
  readonly models?: ModelChoice
}

/** What a route needs of a model: its type; a route that names none takes every model. */
export interface ModelChoice {
  readonly parameter: string
  readonly types?: readonly string[]
}

declare module 'fastify' {
  interface FastifyContextConfig {
    openapi?: OpenApiExtra
  }
}
