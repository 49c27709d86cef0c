/** What a request's params say about the result file: `result_extension`, `result_dtype`, `result_compress`. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { type DtypeName, RESULT_EXTENSIONS, type ResultExtension } from '../formats/format.js'

const DTYPES = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'float32',
  'float64',
] as const satisfies readonly DtypeName[]
/** numpy spellings that mean one of the above; a label fits its 32-bit type where numpy has 64. */
const DTYPE_ALIASES: Readonly<Record<string, DtypeName>> = {
  bool: 'uint8',
  byte: 'int8',
  ubyte: 'uint8',
  short: 'int16',
  ushort: 'uint16',
  int: 'int32',
  uint: 'uint32',
  int64: 'int32',
  uint64: 'uint32',
  single: 'float32',
  float: 'float32',
  double: 'float64',
}

const Extension = z.preprocess((value) => {
  if (typeof value !== 'string' || value === '') return value === '' ? undefined : value
  const word = value.toLowerCase().replace(/^\.?/, '.')
  return word === '.jpeg' ? '.jpg' : word
}, z.enum(RESULT_EXTENSIONS, { error: `must be one of ${RESULT_EXTENSIONS.join(', ')}` }).optional())

const Dtype = z.preprocess((value) => {
  if (typeof value !== 'string' || value === '') return value === '' ? undefined : value
  const word = value.toLowerCase().replace(/^(np|numpy)\./, '')
  return DTYPE_ALIASES[word] ?? word
}, z.enum(DTYPES, { error: `must be one of ${DTYPES.join(', ')}` }).optional())

const Compress = z.preprocess((value) => {
  const word = String(value).toLowerCase()
  if (word === 'true' || word === '1') return true
  if (word === 'false' || word === '0') return false
  return value === '' ? undefined : value
}, z.boolean({ error: 'must be true or false' }).optional())

const Wish = z.object({
  result_extension: Extension.nullish(),
  result_dtype: Dtype.nullish(),
  result_compress: Compress.nullish(),
})

export interface WishParams {
  readonly extension: ResultExtension | undefined
  readonly dtype: DtypeName | undefined
  readonly compress: boolean | undefined
}

/** Rejects BAD_PARAMS naming the key. */
export function parseWishParams(params: Readonly<Record<string, unknown>>): WishParams {
  const parsed = Wish.safeParse(params)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new AppError('BAD_PARAMS', `params.${issue!.path.join('.')}: ${issue!.message}`)
  }
  const { result_extension: extension, result_dtype: dtype, result_compress: compress } = parsed.data
  return { extension: extension ?? undefined, dtype: dtype ?? undefined, compress: compress ?? undefined }
}
