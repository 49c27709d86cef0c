/**
 * The clicks of a request, checked against the image they lie on. Every spelling the AIAA clients use arrives here:
 * arrays, JSON text inside a string, `current_point` flat or nested.
 */

import { isInteractive, type ModelType } from '../contract/model.js'
import { AppError } from '../errors.js'
import { BOX_VALUE } from '../transforms/box-prompt.js'
import { parseLooseJson } from '../util/loose-json.js'
import type { Vec3 } from '../volume/volume.js'
import { boxValue } from './box-value.js'

/** More clicks than a person makes in a day; a bound for what a script may send. */
export const MAX_POINTS = 10_000
/** What NVIDIA's clients ask for before they call dextr3d: the two ends along each axis. */
export const MIN_EXTREME_POINTS = 6

type Params = Readonly<Record<string, unknown>>

/** A point as the client sent it: where in `params`, the numbers there, and the voxel that they lie in. */
interface SentPoint {
  readonly name: string
  readonly sent: readonly number[]
  readonly voxel: Vec3
}

export interface ClickValues {
  /** What click transforms read, by field name; points are voxel indices inside the image. */
  readonly values: ReadonlyMap<string, unknown>
  /** Says which points were left out. */
  readonly notes: readonly string[]
}

const LISTS = ['foreground', 'background', 'points'] as const

/**
 * The values that click transforms read, for a model of `type` and an image of `size` voxels. A model that reads no
 * clicks gets none: for it the same words may mean something else, and pass as they came.
 *
 * Voxel i covers [i, i + 1), so fractions are cut off. Clients keep every click of a structure and send all of them each
 * time: one that lies outside the image is left out, with a note, as long as another lies inside.
 *
 * A model that `takesBox` may be asked with `box` alone; for any other that answers clicks it is refused.
 *
 * `labels`, of a model that tells clicks by label, names further lists; such a model also answers without any click.
 * Throws BAD_PARAMS naming the parameter, the index of the point that is wrong, and the numbers that were sent.
 */
export function clickValues(
  type: ModelType,
  params: Params,
  size: Vec3,
  reads = isInteractive(type),
  labels?: readonly string[],
  takesBox = false,
): ClickValues {
  const values = new Map<string, unknown>()
  if (!reads) return { values, notes: [] }
  const lists = new Map<string, readonly SentPoint[]>()
  for (const key of new Set([...LISTS, ...(labels ?? [])]))
    if (params[key] !== undefined) lists.set(key, parsePoints(params[key], key, size))
  const current = parseCurrentPoint(params.current_point, size)
  const spatialSize = parseSizes(params.spatial_size)
  if (spatialSize) values.set('spatial_size', spatialSize)

  const sentBox = isSaid(params.box) ? params.box : undefined
  if (sentBox !== undefined && !takesBox && isInteractive(type))
    throw new AppError('BAD_PARAMS', "'box': this model takes points, no box", {
      hint: type === 'annotation' ? 'send "points"' : 'send "foreground" and "background"',
    })
  if (type === 'annotation') requireExtremePoints(lists.get('points') ?? [])
  else if (isInteractive(type) && labels === undefined) requireClicks(lists, takesBox, sentBox !== undefined)
  const inside = ({ voxel }: SentPoint) => isInside(voxel, size)
  const sent = [...lists.values()].flat()
  const outside = sent.filter((point) => !inside(point))
  if (outside.length > 0 && outside.length === sent.length) throw outsideError(outside[0]!, size)
  for (const [key, points] of lists)
    values.set(
      key,
      points.filter(inside).map(({ voxel }) => voxel),
    )
  if (current && inside(current)) values.set('current_point', current.voxel)
  // Usually it is the last of a list as well, and said already.
  else if (current && !outside.some(({ voxel }) => voxel.join() === current.voxel.join())) outside.push(current)
  const notes = outside.length > 0 ? [leftOut(outside, size)] : []
  if (sentBox === undefined || !takesBox) return { values, notes }
  const { voxel } = (current && inside(current) ? current : sent.find(inside)) ?? {}
  const { box, note } = boxValue(sentBox, params.slice, voxel ? [voxel] : [], size)
  values.set(BOX_VALUE, box)
  return { values, notes: note === undefined ? notes : [...notes, note] }
}

function isSaid(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0)
}

function requireExtremePoints({ length: count }: readonly SentPoint[]): void {
  if (count < MIN_EXTREME_POINTS)
    throw new AppError('BAD_PARAMS', `'points' needs at least ${MIN_EXTREME_POINTS} extreme points, got ${count}`, {
      hint: 'send params {"points": [[x,y,z], ...]} with the two ends of the structure along each axis',
    })
}

/** Both lists are there afterwards. */
function requireClicks(lists: Map<string, readonly SentPoint[]>, takesBox: boolean, hasBox: boolean): void {
  for (const key of ['foreground', 'background']) if (!lists.has(key)) lists.set(key, [])
  if (!hasBox && lists.get('foreground')!.length + lists.get('background')!.length === 0)
    throw new AppError('BAD_PARAMS', "'foreground' and 'background' are both empty", {
      hint: `send params {"foreground": [[x,y,z], ...], "background": []} with at least one click${takesBox ? ', or "box": [x0, y0, x1, y1]' : ''}`,
    })
}

function isInside(voxel: Vec3, size: Vec3): boolean {
  return voxel.every((n, axis) => n >= 0 && n < size[axis]!)
}

function outsideError({ name, sent, voxel }: SentPoint, size: Vec3): AppError {
  const axis = voxel.findIndex((n, i) => n < 0 || n >= size[i]!)
  return new AppError(
    'BAD_PARAMS',
    `'${name}' = [${sent.join(', ')}] lies outside the image of ${size.join(' x ')} voxels, and no other point inside`,
    { hint: `${'xyz'[axis]} runs from 0 to below ${size[axis]}` },
  )
}

function leftOut(points: readonly SentPoint[], size: Vec3): string {
  const [{ name, sent }] = points as readonly [SentPoint, ...SentPoint[]]
  const first = `'${name}' = [${sent.join(', ')}]`
  const who = points.length === 1 ? `${first} lies` : `${first} and ${points.length - 1} more lie`
  return `${who} outside the image of ${size.join(' x ')} voxels and ${points.length === 1 ? 'was' : 'were'} left out`
}

/** A list of points on an image of `size`; [x, y] is accepted on a 2-D one. */
function parsePoints(value: unknown, name: string, size: Vec3): SentPoint[] {
  const list = decoded(value, name)
  if (!Array.isArray(list)) throw notPoints(name, list)
  if (list.length > MAX_POINTS)
    throw new AppError('BAD_PARAMS', `'${name}' holds ${list.length} points, the limit is ${MAX_POINTS}`)
  // One bare point where a list belongs: [12, 30, 4].
  const points = list.length > 0 && list.every((entry) => typeof entry === 'number') ? [list] : list
  return points.map((point, i) => parsePoint(point, `${name}[${i}]`, size))
}

function parsePoint(point: unknown, name: string, size: Vec3): SentPoint {
  const flat = size[2] === 1
  const usable =
    Array.isArray(point) &&
    (point.length === 3 || (flat && point.length === 2)) &&
    point.every((n) => typeof n === 'number' && Number.isFinite(n))
  if (!usable)
    throw new AppError('BAD_PARAMS', `'${name}' is not a voxel index`, {
      hint: `a point is ${flat ? '[x, y] or ' : ''}[x, y, z]: numbers, voxels counted from 0 in the posted image`,
    })
  const sent = point as number[]
  const voxel: Vec3 = [Math.floor(sent[0]!), Math.floor(sent[1]!), Math.floor(sent[2] ?? 0)]
  return { name, sent, voxel }
}

/** `current_point` as [x, y, z], [[x, y, z]], text of either, or nothing. */
function parseCurrentPoint(value: unknown, size: Vec3): SentPoint | undefined {
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
