/**
 * A large image of 8 or 16 bits whose values were changed one by one: a table says what each value became, and the voxels
 * stay the file's. Windows look their values up as they are copied, so that a float32 copy of the scan is never made.
 */
import type { BuiltTransform } from './catalog.js'
import { withImage } from './fields.js'
import { askBeside } from './new-grid.js'
import type { ImageField, Item, ValueTable } from './types.js'

/** The values that voxels of such an array can have: the least, and how many. Absent: no table is made of it. */
function valuesOf({ data }: ImageField['volume']): readonly [least: number, count: number] | undefined {
  if (data instanceof Uint8Array) return [0, 1 << 8]
  if (data instanceof Int16Array) return [-(1 << 15), 1 << 16]
  return data instanceof Uint16Array ? [0, 1 << 16] : undefined
}

/** The item after a step that changes values one by one, where tables can say what it does; undefined where they cannot. */
export function revalued(item: Item, { keys, traits: { eachValue } }: BuiltTransform): Item | undefined {
  if (!eachValue || keys.length === 0) return undefined
  let current = item
  for (const key of keys) {
    const field = current.images.get(key)
    const possible = field?.content === 'intensity' ? valuesOf(field.volume) : undefined
    if (!field || !possible) return undefined
    const [least, count] = possible
    if (field.volume.data.length <= count) return undefined
    const values = field.valueTable?.values.slice() ?? Float32Array.from({ length: count }, (_, i) => least + i)
    eachValue(values)
    current = withImage(current, key, { ...field, valueTable: { least, values } })
  }
  return current
}

/** The field with voxels that are what they stand for. Throws TOO_LARGE where there is no room for them. */
export function withOwnValues(field: ImageField): ImageField {
  const { volume, valueTable, ...rest } = field
  if (!valueTable) return field
  askBeside(field, 4 * volume.data.length, 'the image as float32')
  const data = new Float32Array(volume.data.length)
  data.set(volume.data)
  lookUp(valueTable, data, 0, data.length)
  return { ...rest, volume: { ...volume, data }, scratch: true }
}

/** The item with such voxels in every field that the step may read: those it names. Of another, a restoring step reads the grid. */
export function withValuesFor(item: Item, { keys, args, traits }: BuiltTransform): Item {
  if (traits.axesOnly || traits.identity) return item
  const isBack = traits.restores || traits.wholeVolume
  return withAllValues(item, keys.length === 0 || isBack ? keys : [...keys, ...wordsOf(args)])
}

/** The item with such voxels in the fields of these names, or in all. */
export function withAllValues(item: Item, names: readonly string[] = []): Item {
  let current = item
  for (const [name, field] of item.images)
    if (field.valueTable && (names.length === 0 || names.includes(name)))
      current = withImage(current, name, withOwnValues(field))
  return current
}

/** Every string among the arguments of a transform: the names of fields that it reads beside its own are some of them. */
function wordsOf(args: unknown): string[] {
  if (typeof args === 'string') return [args]
  return typeof args === 'object' && args !== null ? Object.values(args).flatMap(wordsOf) : []
}

/** Replaces the voxels `from` to `end` of `target`, copied there from the image, by what they stand for. */
export function lookUp(
  { least, values }: ValueTable,
  target: { [index: number]: number },
  from: number,
  end: number,
): void {
  for (let i = from; i < end; i++) target[i] = values[target[i]! - least]!
}
