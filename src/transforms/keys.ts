import { z } from 'zod'

/** `keys` as configs write them: one name or a list. */
export const keysSchema = z
  .union([z.string(), z.array(z.string()).min(1)])
  .transform((keys) => (typeof keys === 'string' ? [keys] : keys))
