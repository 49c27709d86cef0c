/** The zod pieces that transform arguments are made of: configs write scalars where lists may stand, and numbers as text. Booleans written as text become booleans in the catalog. */
import { z } from 'zod'

/** A number, also as text. */
export const number = z.preprocess(
  (value) =>
    typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value,
  z.number(),
)

export const integer = number.pipe(z.int())

const listOf = <T extends z.ZodType>(item: T) =>
  z.preprocess((value) => (Array.isArray(value) || value === undefined ? value : [value]), z.array(item))

/** One number or several. */
export const numbers = listOf(number)
export const integers = listOf(integer)
export const names = listOf(z.string())

/** The fields a transform works on; the catalog has brought `keys`, `fields` and `field` together. */
export const keys = names.pipe(z.array(z.string()).min(1))

/** Arguments that MONAI's dictionary transforms take everywhere and that change nothing here. */
const ignored = z.unknown().optional()

/** The arguments of a transform that works on fields. Unknown ones are refused. */
export const fieldArgs = <S extends z.ZodRawShape>(shape: S) =>
  z.strictObject({
    keys,
    allow_missing_keys: z.boolean().default(false),
    lazy: ignored,
    meta_keys: ignored,
    meta_key_postfix: ignored,
    ...shape,
  })

export { ignored }
