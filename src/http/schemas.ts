/** Shapes that many routes share, as they appear in the OpenAPI document. */
import { z } from 'zod'
import type { ERROR_STATUS, ErrorCode } from '../errors.js'

export const ErrorBody = z
  .object({
    error: z.object({
      type: z.string().meta({ description: 'the code in AIAA spelling' }),
      message: z.array(z.string()),
    }),
    success: z.literal(false),
    code: z.string().meta({ description: 'what went wrong, from a closed list' }),
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

/** What computing on an image may end in; the result of an asynchronous request ends in the same. */
export const INFERENCE_REFUSALS = [400, 404, 409, 413, 415, 422, 440, 499, 500, 503, 504] as const

/** `true`, `1` or the bare word in a query string; documented as the boolean it means. */
export const QueryFlag = z
  .enum(['true', 'false', 'True', 'False', '1', '0', ''])
  .optional()
  .transform((word) => word !== undefined && ['true', 'True', '1', ''].includes(word))
  .meta({ type: 'boolean', enum: [true, false], default: false })
