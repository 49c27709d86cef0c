/**
 * What clients say in the params of mask2polygon and fixpolygon, in every spelling AIAA's clients use, checked against the
 * image it is about. Every refusal names the parameter and the index in it.
 */
import { AppError } from '../errors.js'
import type { PolygonEdit } from '../geometry/fix-polygon.js'
import type { Ring } from '../geometry/ring.js'
import { parseLooseJson } from '../util/loose-json.js'

type Params = Readonly<Record<string, unknown>>

/** No contour has more points than this; a bound for what a script may send. */
const MOST_POINTS = 2 ** 31 - 1
/** Voxels; beyond the size of any image a tolerance means nothing. */
const MOST_TOLERANCE = 65_536

export interface MaskToPolygonParams {
  readonly morePoints: number
  readonly simplify: number | undefined
  readonly label: number | undefined
}

/** Rejects BAD_PARAMS. Unknown keys are ignored: clients of other versions send more. */
export function parseMaskToPolygonParams(params: Params): MaskToPolygonParams {
  const simplify = optionalNumber(params, ['simplify'])
  if (simplify !== undefined && !(simplify.value >= 0 && simplify.value <= MOST_TOLERANCE))
    throw bad(`'simplify' has to be a distance in voxels from 0 to ${MOST_TOLERANCE}`)
  const label = optionalNumber(params, ['label'])
  if (label && Math.abs(label.value) < 1e-3)
    throw bad("'label' has to be the value of a label, and 0 is the background")
  return {
    morePoints: wholeNumber(params, ['more_points', 'morePoints'], { from: 0, to: MOST_POINTS, otherwise: 0 }),
    simplify: simplify?.value,
    label: label?.value,
  }
}

/** The slices of an image as loaded. */
export interface SliceFrame {
  readonly columns: number
  readonly rows: number
  readonly slices: number
}

/** Polygons as the client nests them: by slice in 3-D, and a list of polygons in 2-D. */
export type NestedPolygon = readonly (readonly [number, number])[]

export interface FixPolygonParams {
  readonly dimension: 2 | 3
  /** The polygons before the edit, by slice, inside the image, and without a first vertex that is said again at the end. */
  readonly slices: readonly (readonly Ring[])[]
  /** Which of them said their first vertex again at the end, as some drawing programs close a ring. */
  readonly closed: readonly (readonly boolean[])[]
  /** The same as they came, to be given back untouched where nothing changed. */
  readonly nested: readonly (readonly NestedPolygon[])[]
  readonly edit: PolygonEdit
  /** Says which vertices were put onto the image's edge. */
  readonly notes: readonly string[]
}

/** How many vertices and slices follow an edit when the request does not say. */
const DEFAULT_NEIGHBOURS = 1

/**
 * Reads one of the three forms: `poly` with `vertex_offset`, `prev_poly` with `vertex_offset` (then `poly` is not needed),
 * or the edited `poly` with the `prev_poly` before it. Rejects BAD_PARAMS.
 */
export function parseFixPolygonParams(params: Params, frame: SliceFrame): FixPolygonParams {
  const poly = decoded(pick(params, ['poly']))
  const previous = decoded(pick(params, ['prev_poly', 'prevPoly']))
  const offsetGiven = decoded(pick(params, ['vertex_offset', 'vertexOffset']))
  const current = offsetGiven === undefined ? poly : (previous ?? poly)
  if (!current) {
    if (!previous) throw bad("'poly' is missing", 'send the polygons as "poly", and the drag as "vertex_offset"')
    throw bad("'vertex_offset' is missing", 'send "vertex_offset" with "prev_poly", or the edited polygons as "poly"')
  }
  if (offsetGiven === undefined && !previous)
    throw bad(
      "'vertex_offset' is missing",
      'send "vertex_offset": [columns, rows], or the polygons before the edit as "prev_poly"',
    )

  const dimension = dimensionOf(params, current, frame)
  const before = offsetGiven === undefined ? readPolygons(previous!, dimension, frame) : undefined
  const now = readPolygons(current, dimension, frame, before)
  const { rings, nested, closed } = now
  const last = (count: number) => ({ from: 0, to: count - 1 })
  const slice = dimension === 3 ? wholeNumber(params, ['slice_index', 'sliceIndex'], last(frame.slices)) : 0
  const polygons = rings[slice]!
  if (polygons.length === 0) throw bad(`'slice_index' ${slice}: '${current.name}' has no polygon there`)
  const polygon = wholeNumber(params, ['polygon_index', 'polygonIndex'], last(polygons.length))
  const count = polygons[polygon]!.length >> 1
  if (count === 0) throw bad(`'polygon_index' ${polygon}: the polygon has no vertex`)
  const said = closed[slice]![polygon] ? count + 1 : count
  const saidVertex = wholeNumber(params, ['vertex_index', 'vertexIndex'], last(said))
  const vertex = saidVertex % count
  const neighbours = { from: 0, to: MOST_POINTS, otherwise: DEFAULT_NEIGHBOURS }
  const edit = {
    slice,
    polygon,
    vertex,
    neighbours: wholeNumber(params, ['propagate_neighbor', 'propagateNeighbor'], neighbours),
    sliceNeighbours:
      dimension === 3
        ? wholeNumber(params, ['propagate_neighbor_3d', 'propagateNeighbor3d', 'propagateNeighbor3D'], neighbours)
        : 0,
  }
  const ring = polygons[polygon]!
  if (before) {
    sameShape(rings, before.rings, current.name, previous!.name, dimension)
    const from = before.rings[slice]![polygon]!
    // A closed ring's first vertex is there twice, and the client moved either one.
    const place = now.ends[slice]![polygon] && saidVertex === count ? now.ends[slice]![polygon]! : pointOf(ring, vertex)
    const offset = [place[0] - from[2 * vertex]!, place[1] - from[2 * vertex + 1]!] as const
    // Everything but the dragged vertex is as the client last had it.
    const undone = ring.slice()
    undone[2 * vertex] = from[2 * vertex]!
    undone[2 * vertex + 1] = from[2 * vertex + 1]!
    const slices = rings.map((list, s) => (s === slice ? list.map((r, p) => (p === polygon ? undone : r)) : list))
    return { dimension, slices, closed, nested, edit: { ...edit, offset }, notes: edgeNotes(now.outside) }
  }
  const asked = readOffset(offsetGiven!)
  const [column, row] = pointOf(ring, vertex)
  const place = [column + asked[0], row + asked[1]] as const
  if (!isNearSlice(place[0], place[1], frame))
    throw bad(
      `'vertex_offset' [${asked.join(', ')}] takes the vertex to [${place.join(', ')}], outside the image of ` +
        `${frame.columns} columns and ${frame.rows} rows`,
    )
  const [inColumn, inRow] = onSlice(place[0], place[1], frame)
  const moved = inColumn !== place[0] || inRow !== place[1]
  const offset = moved ? ([inColumn - column, inRow - row] as const) : asked
  return {
    dimension,
    slices: rings,
    closed,
    nested,
    edit: { ...edit, offset },
    notes: edgeNotes(now.outside + (moved ? 1 : 0)),
  }
}

function pointOf(ring: Ring, vertex: number): readonly [number, number] {
  return [ring[2 * vertex]!, ring[2 * vertex + 1]!]
}

function edgeNotes(outside: number): string[] {
  if (outside === 0) return []
  const who = outside === 1 ? '1 vertex lay' : `${outside} vertices lay`
  return [`${who} up to a pixel outside the image and ${outside === 1 ? 'was' : 'were'} put onto its edge`]
}

interface Named {
  readonly name: string
  readonly value: unknown
}

/** The first of the spellings that the client used. */
function pick(params: Params, names: readonly string[]): Named | undefined {
  for (const name of names) {
    const value = params[name]
    if (value !== undefined && value !== null && value !== '') return { name, value }
  }
  return undefined
}

/** JSON text inside a string counts as what it says. */
function decoded(named: Named | undefined): Named | undefined {
  if (typeof named?.value !== 'string') return named
  try {
    return { name: named.name, value: parseLooseJson(named.value) }
  } catch {
    throw bad(`'${named.name}' is text, but not JSON`)
  }
}

function optionalNumber(params: Params, names: readonly string[]): { name: string; value: number } | undefined {
  const named = pick(params, names)
  if (!named) return undefined
  const { name, value } = named
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  if (typeof number !== 'number' || !Number.isFinite(number)) throw bad(`'${name}' has to be a number`)
  return { name, value: number }
}

function wholeNumber(
  params: Params,
  names: readonly string[],
  { from, to, otherwise }: { from: number; to: number; otherwise?: number },
): number {
  const number = optionalNumber(params, names)
  if (!number) {
    if (otherwise !== undefined) return otherwise
    throw bad(`'${names[0]}' is missing`)
  }
  if (!Number.isInteger(number.value) || number.value < from || number.value > to)
    throw bad(`'${number.name}' ${number.value} has to be a whole number from ${from} to ${to}`)
  return number.value
}

function dimensionOf(params: Params, polygons: Named, frame: SliceFrame): 2 | 3 {
  const given = optionalNumber(params, ['dimension'])
  if (given && given.value !== 2 && given.value !== 3) throw bad("'dimension' has to be 2 or 3")
  const depth = depthOf(polygons.value)
  const dimension = given?.value ?? (depth === undefined ? (frame.slices > 1 ? 3 : 2) : depth - 1)
  if (dimension !== 2 && dimension !== 3)
    throw bad(
      `'${polygons.name}' nests its points ${depth} deep`,
      'a 2-D polygon list is [[[column, row], ...], ...]; in 3-D there is one such list for every slice',
    )
  if (dimension === 2 && frame.slices > 1)
    throw bad(`'dimension' is 2, but the image has ${frame.slices} slices`, 'send one slice as PNG, or "dimension": 3')
  return dimension
}

/** Lists around the first number; undefined when there is no number. */
function depthOf(value: unknown, depth = 0): number | undefined {
  if (!Array.isArray(value)) return typeof value === 'number' ? depth : undefined
  // Coordinates lie at most four deep; whatever nests deeper is refused by that.
  if (depth > 4) return depth
  for (const entry of value) {
    const found = depthOf(entry, depth + 1)
    if (found !== undefined) return found
  }
  return undefined
}

interface ReadPolygons {
  readonly rings: readonly (readonly Ring[])[]
  readonly closed: readonly (readonly boolean[])[]
  /** Where the vertex that closes a ring lies, for those that have one. */
  readonly ends: readonly (readonly (readonly [number, number] | undefined)[])[]
  readonly nested: readonly (readonly NestedPolygon[])[]
  /** Vertices that lay outside and were put onto the edge. */
  readonly outside: number
}

/** `before`: the same polygons before an edit, which may have parted the first vertex of a ring from its double. */
function readPolygons(
  { name, value }: Named,
  dimension: 2 | 3,
  frame: SliceFrame,
  before?: ReadPolygons | undefined,
): ReadPolygons {
  const list = listAt(value, name, dimension === 3 ? 'the slices' : 'polygons')
  if (dimension === 3 && list.length !== frame.slices)
    throw bad(`'${name}' has ${list.length} slices, but the image has ${frame.slices}`)
  const slices = (dimension === 2 ? [list] : list).map((polygons, s) => {
    const place = dimension === 2 ? name : `${name}[${s}]`
    return listAt(polygons, place, 'polygons').map((polygon, p) => {
      const counted = before?.closed[s]?.[p] ? (before.rings[s]![p]!.length >> 1) + 1 : undefined
      return readRing(polygon, `${place}[${p}]`, frame, counted)
    })
  })
  return {
    rings: slices.map((rings) => rings.map(({ ring }) => ring)),
    closed: slices.map((rings) => rings.map(({ end }) => end !== undefined)),
    ends: slices.map((rings) => rings.map(({ end }) => end)),
    nested: (dimension === 2 ? [list] : list) as NestedPolygon[][],
    outside: slices.flat().reduce((sum, { outside }) => sum + outside, 0),
  }
}

/** Fewer vertices than a triangle and its first one again make no closed ring. */
const LEAST_CLOSED = 4

/** A ring without the vertex that closes it: one that is the first again, or the last of `counted`. */
function readRing(
  polygon: unknown,
  name: string,
  frame: SliceFrame,
  counted: number | undefined,
): { ring: Ring; end: readonly [number, number] | undefined; outside: number } {
  const points = listAt(polygon, name, 'points')
  const ring = new Float64Array(2 * points.length)
  let outside = 0
  for (let v = 0; v < points.length; v++) {
    const point = points[v]
    if (!Array.isArray(point) || point.length !== 2 || !isNumber(point[0]) || !isNumber(point[1]))
      throw bad(`'${name}[${v}]' is not a point`, 'a point is [column, row], two numbers')
    if (!isNearSlice(point[0], point[1], frame))
      throw bad(
        `'${name}[${v}]' = [${point.join(', ')}] lies outside the image of ${frame.columns} columns and ` +
          `${frame.rows} rows`,
      )
    const [column, row] = onSlice(point[0], point[1], frame)
    if (column !== point[0] || row !== point[1]) outside++
    ring[2 * v] = column
    ring[2 * v + 1] = row
  }
  const last = points.length - 1
  const end = last < 0 ? undefined : pointOf(ring, last)
  const doubled = points.length >= LEAST_CLOSED && ring[0] === end![0] && ring[1] === end![1]
  if (!doubled && points.length !== counted) return { ring, end: undefined, outside }
  return { ring: ring.subarray(0, 2 * last), end, outside }
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

/** Drawing programs put vertices on the very edge of the last pixel, or a fraction of a pixel outside. */
const MOST_OUTSIDE = 1

/** On the slice, whose pixels reach from 0 to `columns` and `rows`, or up to a pixel outside. */
function isNearSlice(column: number, row: number, { columns, rows }: SliceFrame): boolean {
  const [least, most] = [-MOST_OUTSIDE, MOST_OUTSIDE]
  return column >= least && row >= least && column <= columns + most && row <= rows + most
}

/** The nearest place on a pixel. */
function onSlice(column: number, row: number, { columns, rows }: SliceFrame): readonly [number, number] {
  return [Math.min(Math.max(column, 0), columns - 1), Math.min(Math.max(row, 0), rows - 1)]
}

function listAt(value: unknown, name: string, of: string): readonly unknown[] {
  if (!Array.isArray(value)) throw bad(`'${name}' has to be a list of ${of}`)
  return value
}

function readOffset({ name, value }: Named): readonly [number, number] {
  const [columns, rows, ...more] = Array.isArray(value) ? (value as unknown[]) : []
  if (!isNumber(columns) || !isNumber(rows) || more.length > 0)
    throw bad(`'${name}' has to be [columns, rows], two numbers`)
  return [columns, rows]
}

/** Polygons before and after an edit must correspond, or no vertex can be said to have moved. */
function sameShape(
  rings: readonly (readonly Ring[])[],
  before: readonly (readonly Ring[])[],
  name: string,
  beforeName: string,
  dimension: 2 | 3,
): void {
  rings.forEach((polygons, s) => {
    const place = dimension === 3 ? `[${s}]` : ''
    const others = before[s]!
    if (polygons.length !== others.length)
      throw bad(`'${name}${place}' has ${polygons.length} polygons, '${beforeName}${place}' has ${others.length}`)
    polygons.forEach((ring, p) => {
      const count = ring.length >> 1
      const other = others[p]!.length >> 1
      if (count !== other)
        throw bad(`'${name}${place}[${p}]' has ${count} vertices, '${beforeName}${place}[${p}]' has ${other}`)
    })
  })
}

function bad(message: string, hint?: string): AppError {
  return new AppError('BAD_PARAMS', message, hint === undefined ? {} : { hint })
}
