/**
 * An active contour in one step: the moved stretch of a polygon settles on the image's edge. Every vertex may take a
 * bounded number of places, and the places that cost least together are found exactly by dynamic programming along the
 * stretch (Amini, Weymouth and Jain, "Using dynamic programming for solving variational problems in vision", IEEE PAMI 12,
 * 1990). What an edge of the structure looks like is learnt from the rest of the polygon.
 */
import type { Box, EdgeMap } from './edge-map.js'
import { boxOfRing, distance, leftOf, type Normal, normalAt, type Ring, signedArea } from './ring.js'
import { countContacts } from './ring-contacts.js'
import type { Work } from './work.js'

/** Columns and rows of a slice. */
export interface Frame {
  readonly columns: number
  readonly rows: number
}

/** A stretch of a ring that was moved, and may still settle. */
export interface Stretch {
  /** Before the move. */
  readonly ring: Ring
  /** After it. */
  readonly target: Ring
  /** The moved vertices, in ring order. */
  readonly members: readonly number[]
  /** Pixels that each member may settle to either side along its normal; 0 for one that must stay on its target. */
  readonly reach: readonly number[]
}

/** No member reaches further than this, whatever its stretch says. */
export const MOST_REACH = 16

/** Weights of what a place costs; one edge of the polygon lying wholly on a sharp edge of the image is worth 1. */
interface Weights {
  /** A vertex at the end of its reach. */
  readonly away: number
  /** Neighbours that settle apart by as many pixels as lie between them. */
  readonly apart: number
  /** An edge of the polygon growing by its own length. */
  readonly longer: number
  /** Extra worth of an edge of the image along which the polygon ran before the move. */
  readonly asBefore: number
}

/** Chosen on edits of CT organ contours; the test of fixpolygon on real slices says what they reach. */
const WEIGHTS: Weights = { away: 0.25, apart: 0.2, longer: 0.25, asBefore: 2 }

/**
 * The ring after its members have settled; the target itself where the image has no edge to offer. No member leaves the
 * image, and no edge of the polygon meets another, or one of `others`, more often than the target's edges do.
 */
export function* settle(
  stretch: Stretch,
  frame: Frame,
  others: readonly Ring[],
  edgesIn: (box: Box) => EdgeMap,
): Work<Ring> {
  const { target, reach } = stretch
  if (reach.every((pixels) => pixels === 0)) return target
  const edges = edgesIn(surroundings(target, frame))
  const look = lookOf(stretch, edges)
  if (!look) return target
  yield
  const shifts = yield* cheapestPath(chainOf(stretch, frame), target, edges, look)
  return yield* withoutNewContacts(stretch, shifts, others)
}

/** The ring and everything its members can reach. */
function surroundings(ring: Ring, frame: Frame): Box {
  const box = boxOfRing(ring)
  return {
    column0: Math.max(0, Math.floor(box.column0) - MOST_REACH),
    row0: Math.max(0, Math.floor(box.row0) - MOST_REACH),
    column1: Math.min(frame.columns - 1, Math.ceil(box.column1) + MOST_REACH),
    row1: Math.min(frame.rows - 1, Math.ceil(box.row1) + MOST_REACH),
  }
}

/** Shifts from the target: [column, row] of vertex i at 2i and 2i + 1. */
type Shifts = Float64Array

/** Halves the shifts of vertices whose edges meet something they did not meet before, until none does. */
function* withoutNewContacts({ members, target }: Stretch, shifts: Shifts, others: readonly Ring[]): Work<Ring> {
  const allowed = yield* countContacts(target, members, others)
  for (;;) {
    if (shifts.every((shift) => shift === 0)) return target
    const ring = target.map((value, i) => value + shifts[i]!)
    const touched = new Uint8Array(target.length >> 1)
    if ((yield* countContacts(ring, members, others, touched)) <= allowed) return ring
    const isShifted = (i: number) => shifts[2 * i] !== 0 || shifts[2 * i + 1] !== 0
    const guilty = members.filter((i) => touched[i] === 1 && isShifted(i))
    for (const i of guilty.length > 0 ? guilty : members) {
      shifts[2 * i] = Math.trunc(shifts[2 * i]! / 2)
      shifts[2 * i + 1] = Math.trunc(shifts[2 * i + 1]! / 2)
    }
  }
}

/** A vertex and the places it may take, as shifts from its target; the first is the target itself. */
interface Link {
  readonly vertex: number
  readonly columns: readonly number[]
  readonly rows: readonly number[]
  /** 1 for a place where the polygon was before the move. */
  readonly isBefore: Uint8Array
  readonly reach: number
}

/**
 * The members in ring order between the vertices that hold them: the ones just outside the window or, when the window is
 * the whole ring, the member that must not move at both ends.
 */
function chainOf({ ring, members, target, reach }: Stretch, frame: Frame): Link[] {
  const n = ring.length >> 1
  const fixed = (vertex: number): Link => ({ vertex, columns: [0], rows: [0], isBefore: Uint8Array.of(1), reach: 1 })
  const links = members.map((i, m) => (reach[m] === 0 ? fixed(i) : freeLink(i, ring, target, reach[m]!, frame)))
  if (members.length < n) return [fixed((members[0]! + n - 1) % n), ...links, fixed((members.at(-1)! + 1) % n)]
  const at = reach.indexOf(0)
  return at < 0 ? links : [...links.slice(at), ...links.slice(0, at), links[at]!]
}

/** Places along the normal through the target, and those around where the vertex was before: it may have been right. */
function freeLink(vertex: number, ring: Ring, target: Ring, reach: number, frame: Frame): Link {
  const columns = [0]
  const rows = [0]
  const alongNormal = (of: Ring, most: number) => {
    const [column, row] = normalAt(of, vertex)
    for (let step = -most; step <= most; step++) {
      const c = of[2 * vertex]! + roundAway(step * column)
      const r = of[2 * vertex + 1]! + roundAway(step * row)
      if (c < 0 || r < 0 || c > frame.columns - 1 || r > frame.rows - 1) continue
      columns.push(c - target[2 * vertex]!)
      rows.push(r - target[2 * vertex + 1]!)
    }
  }
  alongNormal(target, Math.min(reach, MOST_REACH))
  alongNormal(ring, 1)
  const isBefore = Uint8Array.from(columns, (shift, i) => {
    const column = target[2 * vertex]! + shift
    const row = target[2 * vertex + 1]! + rows[i]!
    return column === ring[2 * vertex] && row === ring[2 * vertex + 1] ? 1 : 0
  })
  return { vertex, columns, rows, isBefore, reach }
}

/** To the nearest whole number, halves away from zero, so that opposite moves are mirror images. */
export function roundAway(value: number): number {
  return Math.sign(value) * Math.round(Math.abs(value))
}

/** Links of a chain between two chances to stop: some thousand pairs of places each. */
const LINKS_PER_STOP = 8

/** The cheapest places along the chain. Of equally cheap ones the target wins, being listed first. */
function* cheapestPath(chain: readonly Link[], target: Ring, edges: EdgeMap, look: Look): Work<Shifts> {
  const came: Int32Array[] = []
  let costs = chain[0]!.columns.map((_, i) => costOfBeingAway(chain[0]!, i))
  for (let k = 1; k < chain.length; k++) {
    if (k % LINKS_PER_STOP === 0) yield
    const from = new Int32Array(chain[k]!.columns.length)
    costs = step(chain[k - 1]!, chain[k]!, costs, from, target, edges, look)
    came.push(from)
  }
  let place = costs.indexOf(Math.min(...costs))
  const shifts = new Float64Array(target.length)
  for (let k = chain.length - 1; k >= 0; k--) {
    const { vertex, columns, rows } = chain[k]!
    shifts[2 * vertex] = columns[place]!
    shifts[2 * vertex + 1] = rows[place]!
    if (k > 0) place = came[k - 1]![place]!
  }
  return shifts
}

/** Costs of the best ways to every place of b; `from` gets the place of a that each of them comes from. */
function step(
  a: Link,
  b: Link,
  costs: readonly number[],
  from: Int32Array,
  target: Ring,
  edges: EdgeMap,
  look: Look,
): number[] {
  const gap = Math.max(1, distance(target, a.vertex, b.vertex))
  return b.columns.map((columnShift, j) => {
    const column = target[2 * b.vertex]! + columnShift
    const row = target[2 * b.vertex + 1]! + b.rows[j]!
    let least = Infinity
    for (let i = 0; i < a.columns.length; i++) {
      const startColumn = target[2 * a.vertex]! + a.columns[i]!
      const startRow = target[2 * a.vertex + 1]! + a.rows[i]!
      const apart = ((columnShift - a.columns[i]!) ** 2 + (b.rows[j]! - a.rows[i]!) ** 2) / gap ** 2
      const longer = Math.hypot(column - startColumn, row - startRow) / gap - 1
      const most = b.isBefore[j] === 1 && a.isBefore[i] === 1 ? 1 + WEIGHTS.asBefore : 1
      const cost = costs[i]! + WEIGHTS.apart * apart + WEIGHTS.longer * longer
      // Looking at the image is what takes time: not when even a perfect edge could not win.
      if (cost - most >= least) continue
      const path = cost - most * worthOfEdge(startColumn, startRow, column, row, edges, look)
      if (path < least) {
        least = path
        from[j] = i
      }
    }
    return least + costOfBeingAway(b, j)
  })
}

function costOfBeingAway({ columns, rows, reach }: Link, place: number): number {
  return WEIGHTS.away * Math.min(1, Math.hypot(columns[place]!, rows[place]!) / reach) ** 2
}

/** What the contour of this structure looks like. */
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
  /** +1 when the normal points out of the ring, -1 when into it. */
  readonly out: number
}

/** How much of the rise along a contour must have one sign for edges of the other to be ignored. */
const AGREEMENT = 0.4
/** How much steeper than the image's texture a typical edge must be. */
const ABOVE_TEXTURE = 2
/** How far inside the contour its structure is looked at, in pixels. */
const INSIDE_PIXELS = 1.5

/**
 * Learnt from the vertices that nobody doubts: those outside the window and the one the user placed; when they are too few,
 * from all. undefined when the image shows no edge there at all.
 */
function lookOf({ target, members, reach }: Stretch, edges: EdgeMap): Look | undefined {
  const n = target.length >> 1
  const doubted = new Set(members.filter((_, m) => reach[m] !== 0))
  const all = Array.from({ length: n }, (_, i) => i)
  const certain = all.filter((i) => !doubted.has(i))
  const vertices = certain.length > 3 ? certain : all
  const normals = vertices.map((i) => normalAt(target, i))
  const out = signedArea(target) > 0 ? 1 : -1
  const levels = vertices.map((i, v) => levelInside(edges, target[2 * i]!, target[2 * i + 1]!, normals[v]!, out))
  const inside = median(levels)
  let best: Look | undefined
  for (const side of [-0.5, 0.5]) {
    const slopes = vertices.map((i, v) => slopeAt(edges, target[2 * i]!, target[2 * i + 1]!, normals[v]!, side))
    const sum = slopes.reduce((total, slope) => total + slope, 0)
    const magnitude = slopes.reduce((total, slope) => total + Math.abs(slope), 0)
    if (magnitude === 0) continue
    const sign = Math.abs(sum) < AGREEMENT * magnitude ? 0 : sum > 0 ? 1 : -1
    const rises = slopes.map((slope) => (sign === 0 ? Math.abs(slope) : slope * sign)).filter((rise) => rise > 0)
    const strength = Math.max(median(rises), ABOVE_TEXTURE * edges.texture)
    const spread = Math.max(strength, 1.5 * median(levels.map((level) => Math.abs(level - inside))))
    if (!best || strength > best.strength) best = { sign, strength, side, inside, spread, out }
  }
  return best
}

/** Pixels between the places at which an edge of the polygon is compared with the image. */
const SAMPLE_PIXELS = 1.5
const MOST_SAMPLES = 16

/** 0 to 1: how much of the straight line between two places lies on an edge that looks like this contour. */
function worthOfEdge(ca: number, ra: number, cb: number, rb: number, edges: EdgeMap, look: Look): number {
  const normal = leftOf(cb - ca, rb - ra)
  const samples = Math.min(MOST_SAMPLES, Math.max(1, Math.round(Math.hypot(cb - ca, rb - ra) / SAMPLE_PIXELS)))
  let sum = 0
  for (let s = 0; s < samples; s++) {
    const t = (s + 0.5) / samples
    const column = ca + t * (cb - ca)
    const row = ra + t * (rb - ra)
    const slope = slopeAt(edges, column, row, normal, look.side)
    const rise = look.sign === 0 ? Math.abs(slope) : slope * look.sign
    if (rise <= 0) continue
    const sharp = (rise / look.strength) ** 2
    const unlike = (levelInside(edges, column, row, normal, look.out) - look.inside) / look.spread
    // Saturating in the rise, so that bone beside an organ does not win by sheer contrast.
    sum += (sharp / (sharp + 1)) * (1 / (1 + 0.25 * unlike * unlike))
  }
  return sum / samples
}

function slopeAt(edges: EdgeMap, column: number, row: number, normal: Normal, side: number): number {
  return edges.slope(column + side * normal[0], row + side * normal[1], normal[0], normal[1])
}

function levelInside(edges: EdgeMap, column: number, row: number, normal: Normal, out: number): number {
  return edges.level(column - out * INSIDE_PIXELS * normal[0], row - out * INSIDE_PIXELS * normal[1])
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? 0
}
