/**
 * Correcting a contour by dragging one of its vertices. The dragged vertex lands exactly where the user put it. Its
 * neighbours along the polygon, and the nearest stretches of polygons in the slices around, follow with a smooth falloff
 * and then settle on the image's edge where it shows one near by: one pass of an active contour solved exactly by dynamic
 * programming (Amini, Weymouth and Jain, "Using dynamic programming for solving variational problems in vision", IEEE
 * PAMI 12, 1990), each vertex being free to move along its normal within a bounded reach. On a flat image nothing is
 * there to settle on, and the plain falloff stands.
 *
 * Coordinates are [column, row] of a slice "as loaded" (see RowAxis); rings are closed, and their indices wrap.
 */
import type { Volume } from '../volume/volume.js'
import { type Box, EdgeMap } from './edge-map.js'
import type { RowAxis } from './mask-to-polygon.js'
import { countContacts } from './ring-contacts.js'

/** A closed polygon as [column, row] pairs. */
export type Ring = Float64Array

export interface PolygonEdit {
  readonly slice: number
  readonly polygon: number
  readonly vertex: number
  /** [columns, rows] from the vertex's old place to its new one; the new one must lie on the image. */
  readonly offset: readonly [number, number]
  /** How many vertices to each side follow the dragged one. */
  readonly neighbours: number
  /** How many slices to each side follow the edited one. */
  readonly sliceNeighbours: number
}

export interface FixedRing {
  readonly slice: number
  readonly polygon: number
  readonly ring: Ring
}

/**
 * Applies an edit to `slices` (rings of every slice of `volume`) and gives the rings that changed, the edited one first.
 * Nothing that was given is written to. Vertex counts and order stay.
 */
export function fixPolygons(
  volume: Volume,
  rowAxis: RowAxis,
  slices: readonly (readonly Ring[])[],
  edit: PolygonEdit,
): FixedRing[] {
  const { offset, neighbours } = edit
  if (offset[0] === 0 && offset[1] === 0) return []
  const ring = slices[edit.slice]![edit.polygon]!
  const fixed: FixedRing[] = []
  const change = (slice: number, polygon: number, vertex: number, strength: number) => {
    const rings = slices[slice]!
    const drag = { vertex, offset, neighbours, strength, pinned: slice === edit.slice }
    const moved = dragRing(
      rings,
      polygon,
      drag,
      frameOf(volume, rowAxis),
      (box) => new EdgeMap(volume, rowAxis, slice, box),
    )
    if (moved) fixed.push({ slice, polygon, ring: moved })
  }
  change(edit.slice, edit.polygon, edit.vertex, 1)
  const column = ring[2 * edit.vertex]!
  const row = ring[2 * edit.vertex + 1]!
  const reach = diagonal(ring)
  for (const direction of [-1, 1]) {
    for (let away = 1; away <= edit.sliceNeighbours; away++) {
      const slice = edit.slice + direction * away
      const rings = slices[slice]
      if (!rings) break
      const nearest = nearestVertex(rings, column, row)
      // A polygon further off than the edited one is large belongs to another structure.
      if (!nearest || nearest.distance > reach) continue
      change(slice, nearest.polygon, nearest.vertex, falloff(away, edit.sliceNeighbours))
    }
  }
  return fixed
}

/** 1 at the dragged vertex, 0 just outside the window, smooth at both ends. */
export function falloff(distance: number, reach: number): number {
  return distance > reach ? 0 : 0.5 * (1 + Math.cos((Math.PI * distance) / (reach + 1)))
}

interface Frame {
  readonly columns: number
  readonly rows: number
}

function frameOf({ size }: Volume, rowAxis: RowAxis): Frame {
  return rowAxis === 'x' ? { columns: size[1], rows: size[0] } : { columns: size[0], rows: size[1] }
}

interface Drag {
  readonly vertex: number
  readonly offset: readonly [number, number]
  readonly neighbours: number
  readonly strength: number
  /** Whether the vertex must land exactly; in the slices around, it is one of those that settle. */
  readonly pinned: boolean
}

/** A ring being changed: where its vertices were, where the falloff puts them, and how far each settles from there. */
interface Stretch {
  readonly ring: Ring
  /** Vertices in the window, in ring order. */
  readonly members: readonly number[]
  readonly target: Ring
  /** Pixels that a member may settle to either side along its normal. */
  readonly reach: readonly number[]
}

/** The changed ring, or undefined when no vertex moves. */
function dragRing(
  rings: readonly Ring[],
  polygon: number,
  drag: Drag,
  frame: Frame,
  edgesIn: (box: Box) => EdgeMap,
): Ring | undefined {
  const ring = rings[polygon]!
  const n = ring.length >> 1
  const members = windowAround(drag.vertex, drag.neighbours, n)
  const others = rings.filter((_, i) => i !== polygon)
  const stretch = plainFalloff(ring, members, drag, frame, others)
  const settled = settle(stretch, drag, frame, others, edgesIn)
  return settled.some((value, i) => value !== ring[i]) ? settled : undefined
}

/** Indices within `neighbours` of `vertex` on a ring of n, in ring order; each once even when the window covers it all. */
function windowAround(vertex: number, neighbours: number, n: number): number[] {
  const before = Math.min(neighbours, (n - 1) >> 1)
  const after = Math.min(neighbours, n >> 1)
  return Array.from({ length: before + 1 + after }, (_, i) => (vertex - before + i + n) % n)
}

/**
 * Moves the window with the falloff, on the pixel grid and inside the image. When that makes the polygon meet itself or
 * another more often than moving the dragged vertex alone does, the neighbours follow less.
 */
function plainFalloff(
  ring: Ring,
  members: readonly number[],
  drag: Drag,
  frame: Frame,
  others: readonly Ring[],
): Stretch {
  const n = ring.length >> 1
  const moved = (share: number): Stretch => {
    const target = ring.slice()
    const reach = members.map((i) => {
      const distance = Math.min((i - drag.vertex + n) % n, (drag.vertex - i + n) % n)
      const weight = falloff(distance, drag.neighbours) * drag.strength * (distance === 0 && drag.pinned ? 1 : share)
      const exact = distance === 0 && drag.pinned
      for (const axis of [0, 1] as const) {
        const old = ring[2 * i + axis]!
        const step = exact ? drag.offset[axis] : roundAway(weight * drag.offset[axis])
        const last = (axis === 0 ? frame.columns : frame.rows) - 1
        target[2 * i + axis] = exact ? old + step : clamp(old + step, last)
      }
      return exact ? 0 : Math.min(MOST_REACH, Math.ceil(Math.hypot(...drag.offset) * weight) + EXTRA_REACH)
    })
    return { ring, members, target, reach }
  }
  const alone = moved(0)
  const allowed = countContacts(alone.target, members, others)
  for (const share of [1, 0.75, 0.5, 0.25]) {
    const stretch = moved(share)
    if (countContacts(stretch.target, members, others) <= allowed) return stretch
  }
  return alone
}

/** Pixels beyond the falloff's own movement within which an edge attracts. */
const EXTRA_REACH = 2
const MOST_REACH = 24

function roundAway(value: number): number {
  return Math.sign(value) * Math.round(Math.abs(value))
}

function clamp(value: number, last: number): number {
  return Math.min(last, Math.max(0, value))
}

/**
 * Lets the members settle. The places of all members that cost least together are found exactly: a stretch of contour that
 * lies on an edge is worth something, leaving the falloff and shifting apart from one's neighbours cost.
 */
function settle(
  stretch: Stretch,
  drag: Drag,
  frame: Frame,
  others: readonly Ring[],
  edgesIn: (box: Box) => EdgeMap,
): Ring {
  const { target, reach } = stretch
  if (reach.every((pixels) => pixels === 0)) return target
  const edges = edgesIn(boxAround(stretch, frame))
  const look = lookOf(stretch, drag, edges)
  if (!look) return target
  const shifts = cheapestPath(chainOf(stretch, drag, frame), target, edges, look)
  return withoutNewContacts(stretch, shifts, others)
}

/** Shifts of the members from their targets: [column, row] of vertex i at 2i and 2i + 1. */
type Shifts = Float64Array

/** Halves the shifts of vertices whose edges meet something they did not meet before, until none does. */
function withoutNewContacts({ members, target }: Stretch, shifts: Shifts, others: readonly Ring[]): Ring {
  const allowed = countContacts(target, members, others)
  for (;;) {
    if (shifts.every((shift) => shift === 0)) return target
    const ring = target.map((value, i) => value + shifts[i]!)
    const touched = new Uint8Array(target.length >> 1)
    if (countContacts(ring, members, others, touched) <= allowed) return ring
    const isShifted = (i: number) => shifts[2 * i] !== 0 || shifts[2 * i + 1] !== 0
    const guilty = members.filter((i) => touched[i] === 1 && isShifted(i))
    for (const i of guilty.length > 0 ? guilty : members) {
      shifts[2 * i] = Math.trunc(shifts[2 * i]! / 2)
      shifts[2 * i + 1] = Math.trunc(shifts[2 * i + 1]! / 2)
    }
  }
}

/** A vertex of the chain and the places it may take, as shifts from its target. */
interface Link {
  readonly vertex: number
  readonly columns: readonly number[]
  readonly rows: readonly number[]
  /** The shift back to where the vertex was before. */
  readonly back: readonly [number, number]
  /** Pixels that count as a whole step away from the falloff. */
  readonly scale: number
}

/**
 * The members in ring order between the vertices that hold them: the ones just outside the window or, when the window is
 * the whole ring, the dragged vertex at both ends.
 */
function chainOf({ ring, members, target, reach }: Stretch, drag: Drag, frame: Frame): Link[] {
  const n = ring.length >> 1
  const fixed = (vertex: number): Link => ({ vertex, columns: [0], rows: [0], back: [0, 0], scale: 1 })
  const links = members.map((i, m) => (reach[m] === 0 ? fixed(i) : freeLink(i, ring, target, reach[m]!, frame)))
  if (members.length < n) {
    links.unshift(fixed((members[0]! + n - 1) % n))
    links.push(fixed((members.at(-1)! + 1) % n))
  } else if (drag.pinned) {
    const at = members.indexOf(drag.vertex)
    return [...links.slice(at), ...links.slice(0, at), links[at]!]
  }
  return links
}

/** Places along the normal through the target, and those around where the vertex was before: it may have been right. */
function freeLink(vertex: number, ring: Ring, target: Ring, reach: number, frame: Frame): Link {
  const columns = [0]
  const rows = [0]
  const add = (shiftColumn: number, shiftRow: number) => {
    const column = target[2 * vertex]! + shiftColumn
    const row = target[2 * vertex + 1]! + shiftRow
    if (column < 0 || row < 0 || column > frame.columns - 1 || row > frame.rows - 1) return
    columns.push(shiftColumn)
    rows.push(shiftRow)
  }
  const alongNormal = (of: Ring, most: number) => {
    const [column, row] = normalAt(of, vertex)
    const backColumn = of[2 * vertex]! - target[2 * vertex]!
    const backRow = of[2 * vertex + 1]! - target[2 * vertex + 1]!
    for (let shift = -most; shift <= most; shift++) {
      add(backColumn + roundAway(shift * column), backRow + roundAway(shift * row))
    }
  }
  alongNormal(target, reach)
  alongNormal(ring, 1)
  return {
    vertex,
    columns,
    rows,
    back: [ring[2 * vertex]! - target[2 * vertex]!, ring[2 * vertex + 1]! - target[2 * vertex + 1]!],
    scale: reach,
  }
}

type Normal = readonly [number, number]

/** Along a contour of single pixels, a direction shows only over a few of them. */
const TANGENT_PIXELS = 3

/** Unit normal at a vertex, to the left of the ring's direction on screen; [0, 0] where the ring has none. */
function normalAt(ring: Ring, vertex: number): Normal {
  const n = ring.length >> 1
  const most = Math.max(1, n >> 2)
  const far = (step: 1 | -1): number => {
    let other = vertex
    for (let s = 1; s <= most; s++) {
      other = (vertex + step * s + n * s) % n
      if (distance(ring, vertex, other) >= TANGENT_PIXELS) break
    }
    return other
  }
  const before = far(-1)
  const after = far(1)
  return leftOf(ring[2 * after]! - ring[2 * before]!, ring[2 * after + 1]! - ring[2 * before + 1]!)
}

function leftOf(column: number, row: number): Normal {
  const length = Math.hypot(column, row)
  return length === 0 ? [0, 0] : [row / length, -column / length]
}

/** What the contour of this structure looks like, learnt from the stretches that nobody doubts. */
interface Look {
  /** +1 or -1: the image rises or falls along the normal; 0: it does both. */
  readonly sign: -1 | 0 | 1
  /** A typical rise per pixel. */
  readonly strength: number
  /** Where the edge lies from the vertices, in pixels along the normal: they are the outermost pixels on one side of it. */
  readonly side: number
  /** Brightness just inside the ring, and how much it varies. */
  readonly inside: number
  readonly spread: number
  /** +1 or -1: along the normal is out of the ring or into it. */
  readonly out: number
}

/** How much of the rise along a contour must have one sign for edges of the other to be ignored. */
const AGREEMENT = 0.4

/** undefined when the image shows no edge along the contour at all. */
function lookOf({ ring, members, target }: Stretch, drag: Drag, edges: EdgeMap): Look | undefined {
  const n = ring.length >> 1
  const moved = new Set(members)
  const vertices: number[] = []
  for (let i = 0; i < n; i++) if (!moved.has(i) || i === drag.vertex) vertices.push(i)
  const trusted = vertices.length > 3 ? vertices : Array.from({ length: n }, (_, i) => i)
  const out = signedArea(target) > 0 ? 1 : -1
  const normals = trusted.map((i) => normalAt(target, i))
  const levels = trusted.map((i, t) =>
    edges.level(
      target[2 * i]! - out * INSIDE_PIXELS * normals[t]![0],
      target[2 * i + 1]! - out * INSIDE_PIXELS * normals[t]![1],
    ),
  )
  const inside = median(levels)
  let best: Look | undefined
  for (const side of [-0.5, 0.5]) {
    const slopes = trusted.map((i, t) => slopeAt(edges, target[2 * i]!, target[2 * i + 1]!, normals[t]!, side))
    const sum = slopes.reduce((total, slope) => total + slope, 0)
    const magnitude = slopes.reduce((total, slope) => total + Math.abs(slope), 0)
    if (magnitude === 0) continue
    const sign = Math.abs(sum) < AGREEMENT * magnitude ? 0 : sum > 0 ? 1 : -1
    const sizes = slopes.map((slope) => (sign === 0 ? Math.abs(slope) : slope * sign)).filter((size) => size > 0)
    const strength = median(sizes)
    const spread = Math.max(strength, 1.5 * median(levels.map((level) => Math.abs(level - inside))))
    if (!best || strength > best.strength) best = { sign, strength, side, inside, spread, out }
  }
  return best
}

/** How far inside the contour its structure is looked at. */
const INSIDE_PIXELS = 1.5

function slopeAt(edges: EdgeMap, column: number, row: number, normal: Normal, side: number): number {
  return edges.slope(column + side * normal[0], row + side * normal[1], normal[0], normal[1])
}

/** Positive when the left of the ring's direction on screen is outside. */
function signedArea(ring: Ring): number {
  const n = ring.length
  let twice = 0
  for (let i = 0; i < n; i += 2) twice += ring[i]! * ring[(i + 3) % n]! - ring[(i + 2) % n]! * ring[i + 1]!
  return twice / 2
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? 0
}

/** Cost of being a whole step away from the falloff, where an edge of typical strength is worth a half. */
const PULL_TO_FALLOFF = 0.2
/** Cost of two neighbours shifting apart by as many pixels as lie between them. */
const STIFFNESS = 0.2
/** Cost of a longer contour. */
const LENGTH = 0.2
const STAY = 1.5

/** The cheapest places along the chain, by dynamic programming over pairs of neighbours. */
function cheapestPath(chain: readonly Link[], target: Ring, edges: EdgeMap, look: Look): Shifts {
  const came: Int32Array[] = [new Int32Array(chain[0]!.columns.length)]
  let costs = new Float64Array(chain[0]!.columns.length)
  let wasBack = Uint8Array.of(1)
  for (let k = 1; k < chain.length; k++) {
    const a = chain[k - 1]!
    const b = chain[k]!
    const gap = Math.max(1, distance(target, a.vertex, b.vertex))
    const stiffness = STIFFNESS / gap ** 2
    const between = [
      target[2 * b.vertex]! - target[2 * a.vertex]!,
      target[2 * b.vertex + 1]! - target[2 * a.vertex + 1]!,
    ] as const
    const arrived = new Float64Array(b.columns.length)
    const from = new Int32Array(b.columns.length)
    const isBack = new Uint8Array(b.columns.length)
    for (let j = 0; j < b.columns.length; j++) {
      const columnB = b.columns[j]!
      isBack[j] = Math.hypot(columnB - b.back[0], b.rows[j]! - b.back[1]) < 0.5 ? 1 : 0
      const rowB = b.rows[j]!
      let least = Infinity
      for (let i = 0; i < a.columns.length; i++) {
        const columnA = a.columns[i]!
        const rowA = a.rows[i]!
        const length = Math.hypot(between[0] + columnB - columnA, between[1] + rowB - rowA)
        const bend = stiffness * ((columnB - columnA) ** 2 + (rowB - rowA) ** 2) + LENGTH * (length / gap - 1)
        if (costs[i]! + bend - 1 - STAY >= least) continue
        const worth = worthOfEdge(
          target[2 * a.vertex]! + columnA,
          target[2 * a.vertex + 1]! + rowA,
          target[2 * b.vertex]! + columnB,
          target[2 * b.vertex + 1]! + rowB,
          edges,
          look,
        )
        const path = costs[i]! + bend - worth * (isBack[j] === 1 && wasBack[i] === 1 ? 1 + STAY : 1)
        if (path < least) {
          least = path
          from[j] = i
        }
      }
      const away = Math.hypot(columnB, rowB)
      arrived[j] = least + PULL_TO_FALLOFF * Math.min(away / b.scale, 1) ** 2
    }
    came.push(from)
    wasBack = isBack
    costs = arrived
  }
  let end = 0
  for (let j = 1; j < costs.length; j++) if (costs[j]! < costs[end]!) end = j
  const shifts = new Float64Array(target.length)
  for (let k = chain.length - 1; k >= 0; k--) {
    const { vertex, columns, rows } = chain[k]!
    shifts[2 * vertex] = columns[end]!
    shifts[2 * vertex + 1] = rows[end]!
    end = came[k]![end]!
  }
  return shifts
}

/** Pixels between the places at which an edge of the polygon is compared with the image. */
const SAMPLE_PIXELS = 1.5

/** 0 to 1: how much of the straight line between two places lies on an edge that looks like this contour. */
function worthOfEdge(ca: number, ra: number, cb: number, rb: number, edges: EdgeMap, look: Look): number {
  const length = Math.hypot(cb - ca, rb - ra)
  const normal = leftOf(cb - ca, rb - ra)
  const samples = Math.min(16, Math.max(1, Math.round(length / SAMPLE_PIXELS)))
  let sum = 0
  for (let s = 0; s < samples; s++) {
    const t = (s + 0.5) / samples
    const column = ca + t * (cb - ca)
    const row = ra + t * (rb - ra)
    const slope = slopeAt(edges, column, row, normal, look.side)
    const rise = look.sign === 0 ? Math.abs(slope) : slope * look.sign
    if (rise <= 0) continue
    const ratio = rise / look.strength
    const level = edges.level(column - look.out * INSIDE_PIXELS * normal[0], row - look.out * INSIDE_PIXELS * normal[1])
    const unlike = (level - look.inside) / look.spread
    // Saturating in the slope, so that bone beside an organ does not win by sheer contrast.
    sum += ((ratio * ratio) / (ratio * ratio + 1)) * (1 / (1 + 0.25 * unlike * unlike))
  }
  return sum / samples
}

function distance(ring: Ring, i: number, j: number): number {
  return Math.hypot(ring[2 * i]! - ring[2 * j]!, ring[2 * i + 1]! - ring[2 * j + 1]!)
}

/** The ring and everything its members can reach. */
function boxAround({ target }: Stretch, frame: Frame): Box {
  let column0 = Infinity
  let row0 = Infinity
  let column1 = -Infinity
  let row1 = -Infinity
  for (let i = 0; i < target.length; i += 2) {
    column0 = Math.min(column0, target[i]!)
    column1 = Math.max(column1, target[i]!)
    row0 = Math.min(row0, target[i + 1]!)
    row1 = Math.max(row1, target[i + 1]!)
  }
  return {
    column0: clamp(Math.floor(column0) - MOST_REACH, frame.columns - 1),
    row0: clamp(Math.floor(row0) - MOST_REACH, frame.rows - 1),
    column1: clamp(Math.ceil(column1) + MOST_REACH, frame.columns - 1),
    row1: clamp(Math.ceil(row1) + MOST_REACH, frame.rows - 1),
  }
}

function diagonal(ring: Ring): number {
  let column0 = Infinity
  let row0 = Infinity
  let column1 = -Infinity
  let row1 = -Infinity
  for (let i = 0; i < ring.length; i += 2) {
    column0 = Math.min(column0, ring[i]!)
    column1 = Math.max(column1, ring[i]!)
    row0 = Math.min(row0, ring[i + 1]!)
    row1 = Math.max(row1, ring[i + 1]!)
  }
  return Math.hypot(column1 - column0, row1 - row0)
}

function nearestVertex(
  rings: readonly Ring[],
  column: number,
  row: number,
): { readonly polygon: number; readonly vertex: number; readonly distance: number } | undefined {
  let polygon = -1
  let vertex = -1
  let least = Infinity
  rings.forEach((ring, p) => {
    for (let i = 0; 2 * i < ring.length; i++) {
      const away = (ring[2 * i]! - column) ** 2 + (ring[2 * i + 1]! - row) ** 2
      if (away < least) {
        least = away
        polygon = p
        vertex = i
      }
    }
  })
  return polygon < 0 ? undefined : { polygon, vertex, distance: Math.sqrt(least) }
}
