/**
 * Where polygons meet: the guard that keeps a moved contour from folding over itself or its neighbours. Contours of
 * one-pixel structures touch themselves from the start, so callers compare counts instead of asking for none.
 */
import type { Work } from './work.js'

/** Edges looked at between two chances to stop; against as many others that is about a millisecond. */
const EDGES_PER_STOP = 64

/**
 * Pairs of edges that cross, touch or run over each other, at least one of them having a vertex of `members`: within
 * `ring` (edges that merely follow each other do not count unless they fold back), and between `ring` and `others`.
 * `touched`, when given, gets a 1 for every vertex of `ring` whose edge is part of such a pair.
 */
export function* countContacts(
  ring: Float64Array,
  members: readonly number[],
  others: readonly Float64Array[],
  touched?: Uint8Array,
): Work<number> {
  const n = ring.length >> 1
  const isMember = new Uint8Array(n)
  for (const i of members) isMember[i] = 1
  const starts = edgeStarts(ring)
  const isMoved = (edge: number) => isMember[starts[edge]!] === 1 || isMember[(starts[edge]! + 1) % n] === 1
  const edges = Array.from(starts, (_, edge) => edge)
  const moved = edges.filter(isMoved)
  // Most edges of a large contour are nowhere near the moved ones.
  const box = boxOfEdges(
    ring,
    moved.map((edge) => starts[edge]!),
  )
  const near = edges.filter((edge) => isNear(ring, starts[edge]!, box))
  const nearOthers = others.flatMap((other) => {
    const own = Array.from({ length: other.length >> 1 }, (_, i) => i).filter((i) => isNear(other, i, box))
    return own.length === 0 ? [] : [{ other, own }]
  })
  let contacts = 0
  for (const [done, k] of moved.entries()) {
    if (done % EDGES_PER_STOP === 0) yield
    const from = starts[k]!
    let met = 0
    for (const j of near) {
      // A pair of two moved edges is met from both sides; count it once.
      if (j === k || (j < k && isMoved(j))) continue
      const start = starts[j]!
      const next = (k + 1) % starts.length === j
      const before = (j + 1) % starts.length === k
      const meets =
        next || before ? foldsBack(ring, next ? from : start, next ? start : from) : meet(ring, from, ring, start)
      if (!meets) continue
      met++
      if (touched) {
        touched[start] = 1
        touched[(start + 1) % n] = 1
      }
    }
    for (const { other, own } of nearOthers) for (const i of own) if (meet(ring, from, other, i)) met++
    if (met > 0 && touched) {
      touched[from] = 1
      touched[(from + 1) % n] = 1
    }
    contacts += met
  }
  return contacts
}

interface Box {
  readonly column0: number
  readonly row0: number
  readonly column1: number
  readonly row1: number
}

function boxOfEdges(ring: Float64Array, starts: readonly number[]): Box {
  let column0 = Infinity
  let row0 = Infinity
  let column1 = -Infinity
  let row1 = -Infinity
  for (const start of starts) {
    for (const at of [2 * start, (2 * start + 2) % ring.length]) {
      column0 = Math.min(column0, ring[at]!)
      column1 = Math.max(column1, ring[at]!)
      row0 = Math.min(row0, ring[at + 1]!)
      row1 = Math.max(row1, ring[at + 1]!)
    }
  }
  return { column0, row0, column1, row1 }
}

function isNear(ring: Float64Array, start: number, { column0, row0, column1, row1 }: Box): boolean {
  const c0 = ring[2 * start]!
  const r0 = ring[2 * start + 1]!
  const c1 = ring[(2 * start + 2) % ring.length]!
  const r1 = ring[(2 * start + 3) % ring.length]!
  return (
    Math.max(c0, c1) >= column0 && Math.min(c0, c1) <= column1 && Math.max(r0, r1) >= row0 && Math.min(r0, r1) <= row1
  )
}

/** Vertices whose edge to the next vertex has a length; vertices on one spot count as one. */
function edgeStarts(ring: Float64Array): number[] {
  const n = ring.length >> 1
  const starts: number[] = []
  for (let i = 0; i < n; i++) {
    const j = (i + 1) % n
    if (ring[2 * i] !== ring[2 * j] || ring[2 * i + 1] !== ring[2 * j + 1]) starts.push(i)
  }
  return starts
}

/** Whether the edge that begins at `second` runs back over the edge before it, which begins at `first`. */
function foldsBack(ring: Float64Array, first: number, second: number): boolean {
  const size = ring.length
  const ac = ring[(2 * first + 2) % size]! - ring[2 * first]!
  const ar = ring[(2 * first + 3) % size]! - ring[2 * first + 1]!
  const bc = ring[(2 * second + 2) % size]! - ring[2 * second]!
  const br = ring[(2 * second + 3) % size]! - ring[2 * second + 1]!
  return ac * br - ar * bc === 0 && ac * bc + ar * br < 0
}

/** Whether two edges, given by the vertices they begin at, have a point in common. */
function meet(a: Float64Array, i: number, b: Float64Array, j: number): boolean {
  const ac = a[2 * i]!
  const ar = a[2 * i + 1]!
  const bc = a[(2 * i + 2) % a.length]!
  const br = a[(2 * i + 3) % a.length]!
  const cc = b[2 * j]!
  const cr = b[2 * j + 1]!
  const dc = b[(2 * j + 2) % b.length]!
  const dr = b[(2 * j + 3) % b.length]!
  if (Math.max(ac, bc) < Math.min(cc, dc) || Math.max(cc, dc) < Math.min(ac, bc)) return false
  if (Math.max(ar, br) < Math.min(cr, dr) || Math.max(cr, dr) < Math.min(ar, br)) return false
  const c = (bc - ac) * (cr - ar) - (br - ar) * (cc - ac)
  const d = (bc - ac) * (dr - ar) - (br - ar) * (dc - ac)
  const e = (dc - cc) * (ar - cr) - (dr - cr) * (ac - cc)
  const f = (dc - cc) * (br - cr) - (dr - cr) * (bc - cc)
  return c * d <= 0 && e * f <= 0
}
