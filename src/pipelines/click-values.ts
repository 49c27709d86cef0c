/**
 * The clicks of a request, checked against the image they lie on. Every spelling the AIAA clients use arrives here:
 * arrays, JSON text inside a string, `current_point` flat or nested.
 */
import { AppError } from '../errors.js'
import { parseLooseJson } from '../util/loose-json.js'
import type { Vec3 } from '../volume/volume.js'
import type { ModelType } from './model-config.js'

/** More clicks than a person makes in a day; a bound for what a script may send. */
export const MAX_POINTS = 10_000
/** What NVIDIA's clients ask for before they call dextr3d: the two ends along each axis. */
export const MIN_EXTREME_POINTS = 6

type Params = Readonly<Record<string, unknown>>

/**
 * The values that click transforms read, by field name, for a model of `type` and an image of `size` voxels.
 * A model that reads no clicks gets none: for it the same words may mean something else, and pass as they came.
 * Throws BAD_PARAMS naming the parameter and the index of the point that is wrong.
 */
export function clickValues(
  type: ModelType,
  params: Params,
  size: Vec3,
  reads = isInteractive(type),
): Map<string, unknown> {
  const values = new Map<string, unknown>()
  if (!reads) return values
  for (const key of ['foreground', 'background', 'points'])
    if (params[key] !== undefined) values.set(key, parsePoints(params[key], key, size))
  const current = parseCurrentPoint(params.current_point, size)
  if (current) values.set('current_point', current)
  const spatialSize = parseSizes(params.spatial_size)
  if (spatialSize) values.set('spatial_size', spatialSize)

  if (type === 'annotation') requireExtremePoints(values)
  else if (isInteractive(type)) requireClicks(values)
  return values
}

function isInteractive(type: ModelType): boolean {
  return type === 'annotation' || type === 'deepgrow' || type === 'pipeline'
}

function requireExtremePoints(values: Map<string, unknown>): void {
  const count = ((values.get('points') as readonly Vec3[] | undefined) ?? []).length
  if (count < MIN_EXTREME_POINTS)
    throw new AppError('BAD_PARAMS', `'points' needs at least ${MIN_EXTREME_POINTS} extreme points, got ${count}`, {
      hint: 'send params {"points": [[x,y,z], ...]} with the two ends of the structure along each axis',
    })
}

function requireClicks(values: Map<string, unknown>): void {
  for (const key of ['foreground', 'background']) if (!values.has(key)) values.set(key, [])
  const clicks = ['foreground', 'background'].flatMap((key) => values.get(key) as Vec3[])
  if (clicks.length === 0)
    throw new AppError('BAD_PARAMS', "'foreground' and 'background' are both empty", {
      hint: 'send params {"foreground": [[x,y,z], ...], "background": []} with at least one click',
    })
}

/** A list of [x, y, z] voxel indices inside `size`; [x, y] is accepted on a 2-D image. */
export function parsePoints(value: unknown, name: string, size: Vec3): Vec3[] {
  const list = decoded(value, name)
  if (!Array.isArray(list)) throw notPoints(name, list)
  if (list.length > MAX_POINTS)
    throw new AppError('BAD_PARAMS', `'${name}' holds ${list.length} points, the limit is ${MAX_POINTS}`)
  // One bare point where a list belongs: [12, 30, 4].
  const points = list.length > 0 && list.every((entry) => typeof entry === 'number') ? [list] : list
  return points.map((point, i) => parsePoint(point, `${name}[${i}]`, size))
}

function parsePoint(point: unknown, name: string, size: Vec3): Vec3 {
  const flat = size[2] === 1
  const usable =
    Array.isArray(point) &&
    (point.length === 3 || (flat && point.length === 2)) &&
    point.every((n) => typeof n === 'number' && Number.isFinite(n))
  if (!usable)
    throw new AppError('BAD_PARAMS', `'${name}' is not a voxel index`, {
      hint: `a point is ${flat ? '[x, y] or ' : ''}[x, y, z]: whole numbers, counted from 0 in the posted image`,
    })
  const index = (point as number[]).map((n) => Math.round(n))
  const voxel: Vec3 = [index[0]!, index[1]!, index[2] ?? 0]
  const outside = voxel.findIndex((n, axis) => n < 0 || n >= size[axis]!)
  if (outside >= 0)
    throw new AppError(
      'BAD_PARAMS',
      `'${name}' = [${voxel.join(', ')}] lies outside the image of ${size.join(' x ')} voxels`,
      {
        hint: `${'xyz'[outside]} runs from 0 to ${size[outside]! - 1}`,
      },
    )
  return voxel
}

/** `current_point` as [x, y, z], [[x, y, z]], text of either, or nothing. */
function parseCurrentPoint(value: unknown, size: Vec3): Vec3 | undefined {
  if (value === undefined || value === null || value === '') return undefined
  return parsePoints(value, 'current_point', size).at(-1)
}

/** `spatial_size` as one to three lengths in the model's array order, text of it, or nothing. */
function parseSizes(value: unknown): readonly number[] | undefined {
  if (value === undefined || value === null || value === '') return undefined
  const sizes = typeof value === 'string' ? parsedOrNothing(value) : value
  const list = typeof sizes === 'number' ? [sizes] : sizes
  const usable = Array.isArray(list) && list.length <= 3 && list.every((n) => Number.isInteger(n) && n > 0 && n <= 4096)
  if (!usable)
    throw new AppError('BAD_PARAMS', "'spatial_size' has to be one to three whole numbers from 1 to 4096", {
      hint: 'for example [256, 256]; leave it out for the size the model was trained with',
    })
  return list.length === 0 ? undefined : (list as number[])
}

function parsedOrNothing(text: string): unknown {
  try {
    return parseLooseJson(text)
  } catch {
    return undefined
  }
}

function decoded(value: unknown, name: string): unknown {
  if (typeof value !== 'string') return value ?? []
  if (value.trim() === '') return []
  try {
    return parseLooseJson(value)
  } catch {
    throw notPoints(name, value)
  }
}

function notPoints(name: string, value: unknown): AppError {
  const got = value === null ? 'null' : typeof value
  return new AppError('BAD_PARAMS', `'${name}' has to be a list of points, got ${got}`, {
    hint: `send "${name}": [[x, y, z], ...], as JSON or as JSON text`,
  })
}
