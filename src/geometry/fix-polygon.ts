/**
 * Correcting a contour by dragging one of its vertices. The dragged vertex lands exactly where the user put it. Its
 * neighbours along the polygon, and the nearest stretches of polygons in the slices around, follow with a smooth falloff
 * and then settle on the image's edge where it shows one near by. On a flat image nothing is there to settle on, and the
 * plain falloff stands.
 *
 * Coordinates are [column, row] of a slice "as loaded" (see RowAxis); rings are closed, and their indices wrap.
 */
import type { Volume } from '../volume/volume.js'
import { type Box, EdgeMap } from './edge-map.js'
import type { RowAxis } from './mask-to-polygon.js'
import { boxOfRing, type Ring } from './ring.js'
import { countContacts } from './ring-contacts.js'
import { type Frame, MOST_REACH, roundAway, type Stretch, settle } from './settle-ring.js'
import type { Work } from './work.js'

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
 * Applies an edit to `slices` (rings of every slice of `volume`) and gives the rings that change, one slice after another,
 * the edited one first; and nothing (undefined) in between, wherever a caller may stop. Nothing that was given is written to. Vertex counts and
 * order stay.
 */
export function* fixPolygons(
  volume: Volume,
  rowAxis: RowAxis,
  slices: readonly (readonly Ring[])[],
  edit: PolygonEdit,
): Generator<FixedRing | undefined, void, undefined> {
  const { offset, neighbours } = edit
  if (offset[0] === 0 && offset[1] === 0) return
  const frame = frameOf(volume, rowAxis)
  for (const { slice, polygon, vertex, strength } of follow(slices, edit)) {
    const drag = { vertex, offset, neighbours, strength, pinned: slice === edit.slice }
    const edgesIn = (box: Box) => new EdgeMap(volume, rowAxis, slice, box)
    const ring = yield* dragRing(slices[slice]!, polygon, drag, frame, edgesIn)
    if (ring) yield { slice, polygon, ring }
  }
}

interface Follower {
  readonly slice: number
  readonly polygon: number
  readonly vertex: number
  /** Share of the offset that this vertex takes. */
  readonly strength: number
}

/** The dragged vertex, and in every slice of the window the vertex nearest to where it was. */
function follow(slices: readonly (readonly Ring[])[], edit: PolygonEdit): Follower[] {
  const { slice, polygon, vertex, sliceNeighbours } = edit
  const ring = slices[slice]![polygon]!
  const { column0, row0, column1, row1 } = boxOfRing(ring)
  // A polygon further off than the edited one is large belongs to another structure.
  const reach = Math.hypot(column1 - column0, row1 - row0)
  const followers: Follower[] = [{ slice, polygon, vertex, strength: 1 }]
  const first = Math.max(0, slice - sliceNeighbours)
  const last = Math.min(slices.length - 1, slice + sliceNeighbours)
  for (let other = first; other <= last; other++) {
    if (other === slice) continue
    const nearest = nearestVertex(slices[other]!, ring[2 * vertex]!, ring[2 * vertex + 1]!)
    if (!nearest || nearest.distance > reach) continue
    const strength = falloff(Math.abs(other - slice), sliceNeighbours)
    followers.push({ slice: other, polygon: nearest.polygon, vertex: nearest.vertex, strength })
  }
  return followers
}

/** 1 at the dragged vertex, 0 just outside the window, smooth at both ends. */
export function falloff(distance: number, reach: number): number {
  return distance > reach ? 0 : 0.5 * (1 + Math.cos((Math.PI * distance) / (reach + 1)))
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

/** The changed ring, or undefined when no vertex moves. */
function* dragRing(
  rings: readonly Ring[],
  polygon: number,
  drag: Drag,
  frame: Frame,
  edgesIn: (box: Box) => EdgeMap,
): Work<Ring | undefined> {
  const ring = rings[polygon]!
  const n = ring.length >> 1
  const members = windowAround(drag.vertex, drag.neighbours, n)
  const others = rings.filter((_, i) => i !== polygon)
  const stretch = yield* plainFalloff(ring, members, drag, frame, others)
  const settled = yield* settle(stretch, frame, others, edgesIn)
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
function* plainFalloff(
  ring: Ring,
  members: readonly number[],
  drag: Drag,
  frame: Frame,
  others: readonly Ring[],
): Work<Stretch> {
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
  const allowed = yield* countContacts(alone.target, members, others)
  for (const share of [1, 0.75, 0.5, 0.25]) {
    const stretch = moved(share)
    if ((yield* countContacts(stretch.target, members, others)) <= allowed) return stretch
  }
  return alone
}

/** Pixels beyond the falloff's own movement within which an edge attracts. */
const EXTRA_REACH = 2

function clamp(value: number, last: number): number {
  return Math.min(last, Math.max(0, value))
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
