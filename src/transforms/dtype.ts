/** numpy's and torch's types by name, as transforms are told them. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import type { VoxelArray } from '../volume/volume.js'
import type { Content, ImageField } from './types.js'

const ARRAY_TYPES: Readonly<Record<string, new (values: ArrayLike<number>) => VoxelArray>> = {
  float16: Float32Array,
  half: Float32Array,
  float32: Float32Array,
  float: Float32Array,
  float64: Float64Array,
  double: Float64Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int8: Int8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  int64: Int32Array,
  uint32: Uint32Array,
}

/** numpy's or torch's type name to the array that holds it. */
export function arrayTypeOf(name: string): new (values: ArrayLike<number>) => VoxelArray {
  const type = ARRAY_TYPES[name.replace(/^(torch|np|numpy)\./, '')]
  if (type) return type
  throw new AppError('BAD_MODEL_CONFIG', `dtype must be one of ${Object.keys(ARRAY_TYPES).join(', ')}, got '${name}'`)
}

/** Whether the arrays of `arrayTypeOf` hold whole numbers only. */
export function isWholeArray(type: ReturnType<typeof arrayTypeOf>): boolean {
  return (type as unknown) !== Float32Array && (type as unknown) !== Float64Array
}

/** One type for all fields, or one for each. */
export const dtypes = z.union([z.string(), z.null(), z.array(z.string())]).optional()

/** The type of the `index`-th field; undefined where none is said. Throws BAD_MODEL_CONFIG for a name that is no type. */
export function typeFor(given: z.output<typeof dtypes>, index: number): ReturnType<typeof arrayTypeOf> | undefined {
  const list = [given ?? []].flat()
  const name = list[index] ?? list.at(-1)
  return name === undefined ? undefined : arrayTypeOf(name)
}

/** The field in that type, as numpy casts: fractions are cut off. Scores that become whole numbers are labels from then on. */
export function castField(field: ImageField, type: ReturnType<typeof arrayTypeOf>): ImageField {
  const content: Content = field.content === 'scores' && isWholeArray(type) ? 'labels' : field.content
  if (field.volume.data instanceof type) return { ...field, content }
  return { ...field, content, volume: { ...field.volume, data: new type(field.volume.data) }, scratch: true }
}
