/** How a transform finds the fields it names and puts back what it made of them. */
import { AppError } from '../errors.js'
import type { ImageField, Item, Transform } from './types.js'

export interface FieldKeys {
  readonly keys: readonly string[]
  readonly allow_missing_keys?: boolean
}

/** Throws BAD_MODEL_CONFIG, naming the fields that exist. */
export function requireImage(item: Item, key: string): ImageField {
  const field = item.images.get(key)
  if (field) return field
  const known = [...item.images.keys()].join(', ') || 'none'
  throw new AppError('BAD_MODEL_CONFIG', `no earlier step made the image field '${key}'; fields so far: ${known}`)
}

/** Fields that an argument names beside those it works on: each has to be there. Throws BAD_MODEL_CONFIG. */
export function requireNamed(item: Item, named: string | readonly (string | null)[] | null | undefined): void {
  for (const key of [named ?? []].flat()) if (key !== null) requireImage(item, key)
}

export function withImage(item: Item, key: string, field: ImageField): Item {
  return { ...item, images: new Map(item.images).set(key, field) }
}

export function withValue(item: Item, key: string, value: unknown): Item {
  return { ...item, values: new Map(item.values).set(key, value) }
}

export function withResult(item: Item, entries: Readonly<Record<string, unknown>>): Item {
  return { ...item, result: { ...item.result, ...entries } }
}

/** Adds a sentence to what the reply's `notes` tell; one that is there already is not said twice. */
export function withNote(item: Item, note: string): Item {
  const { notes = [] } = item
  return notes.includes(note) ? item : { ...item, notes: [...notes, note] }
}

/** Applies `change` to each named image, in order. */
export function eachImage(
  { keys, allow_missing_keys }: FieldKeys,
  change: (field: ImageField, index: number, item: Item) => ImageField,
): Transform {
  return (item) =>
    keys.reduce((current, key, index) => {
      if (allow_missing_keys && !current.images.has(key)) return current
      return withImage(current, key, change(requireImage(current, key), index, current))
    }, item)
}

const MEMORY_AXIS = { X: 0, Y: 1, Z: 2 } as const

/**
 * The array's spatial axes as memory axes (0 = x fastest), in the order in which the config counts them. The channel
 * axis is not spatial; nor is the slice axis that AsChannelFirstd made first of a plain 3-D image, which MONAI's
 * channel-first transforms take for channels.
 */
export function spatialAxes({ axes }: Pick<ImageField, 'axes'>): (0 | 1 | 2)[] {
  const plain = axes.startsWith('C') || axes.endsWith('C')
  const letters = plain ? axes.replace('C', '') : axes.startsWith('Z') && axes.length === 3 ? axes.slice(1) : axes
  return [...letters].map((letter) => MEMORY_AXIS[letter as 'X' | 'Y' | 'Z'])
}

/** Values per array axis laid out per memory axis; axes that the array does not count keep `other`. A short list ends in its last value. */
export function perMemoryAxis<T>(
  field: Pick<ImageField, 'axes'>,
  values: readonly T[],
  other: readonly [T, T, T],
): [T, T, T] {
  const out: [T, T, T] = [other[0], other[1], other[2]]
  spatialAxes(field).forEach((axis, i) => {
    out[axis] = values[Math.min(i, values.length - 1)]!
  })
  return out
}

/** The voxels as float32 that may be written into: the field's own when nobody else holds them, else a copy. */
export function ownFloats({ volume, scratch }: Pick<ImageField, 'volume' | 'scratch'>): Float32Array {
  if (scratch && volume.data instanceof Float32Array) return volume.data
  const data = new Float32Array(volume.data.length)
  data.set(volume.data)
  return data
}
