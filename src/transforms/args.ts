/** The zod pieces that transform arguments are made of: configs write scalars where lists may stand, and numbers as text. Booleans written as text become booleans in the catalog. */
import { z } from 'zod'
import { DESCRIBING } from './describing.js'

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
/** Of a transform that makes something of one field. */
export const oneKey = names.pipe(z.array(z.string()).length(1, 'must name one field'))

type Describing = keyof typeof DESCRIBING

/** Arguments of the closed list in describing.ts: checked, and of no effect. */
export function describing<K extends Describing>(...names: readonly K[]) {
  return Object.fromEntries(names.map((name) => [name, DESCRIBING[name]])) as { [P in K]: (typeof DESCRIBING)[P] }
}

/** The arguments of a transform that works on fields. Unknown ones are refused. */
export const fieldArgs = <S extends z.ZodRawShape>(shape: S) =>
  z.strictObject({
    keys,
    allow_missing_keys: z.boolean().default(false),
    ...describing('lazy', 'meta_keys', 'meta_key_postfix'),
    ...shape,
  })

/** `null`, which says what is so anyway; anything else is refused with `why`. */
export const onlyNull = (why: string) => z.null(why).optional()
