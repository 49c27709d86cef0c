/** Shapes that many routes share, as they appear in the OpenAPI document. */
import { z } from 'zod'
import type { ERROR_STATUS, ErrorCode } from '../errors.js'

export const ErrorBody = z
  .object({
    error: z.object({
      type: z.string().meta({ description: 'the code in AIAA spelling', examples: ['ModelNotFound'] }),
      message: z.array(z.string()),
    }),
    success: z.literal(false),
    code: z.string().meta({ examples: ['MODEL_NOT_FOUND'] }),
    hint: z.string().optional().meta({ description: 'what the user can do about it' }),
    request_id: z.string(),
  })
  .meta({ id: 'Error', description: 'the body of every reply that is not a success' })
export type ErrorBody = z.infer<typeof ErrorBody>

type ErrorStatus = (typeof ERROR_STATUS)[ErrorCode]

/** The `response` entries of the statuses a route may refuse with. */
export function refusals<S extends ErrorStatus>(...statuses: readonly S[]): Record<S, typeof ErrorBody> {
  return Object.fromEntries(statuses.map((status) => [status, ErrorBody])) as Record<S, typeof ErrorBody>
}

/** `true`, `1` or the bare word in a query string. */
export const QueryFlag = z
  .enum(['true', 'false', 'True', 'False', '1', '0', ''])
  .default('false')
  .transform((word) => ['true', 'True', '1', ''].includes(word))
