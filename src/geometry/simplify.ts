/**
 * Douglas and Peucker, "Algorithms for the reduction of the number of points required to represent a digitized line",
 * Cartographica 10 (1973), on a closed ring: no dropped vertex lies further than `tolerance` from the ring that is left.
 * `ring` holds [column, row] pairs; the result holds the kept ones in their order, the first vertex always among them.
 */
export function simplifyRing(ring: Int32Array, tolerance: number): Int32Array {
  const n = ring.length >> 1
  if (n < 3) return ring.slice()
  const keep = new Uint8Array(n)
  let far = 0
  let farDistance = -1
  for (let i = 1; i < n; i++) {
    const distance = (ring[2 * i]! - ring[0]!) ** 2 + (ring[2 * i + 1]! - ring[1]!) ** 2
    if (distance > farDistance) {
      farDistance = distance
      far = i
    }
  }
  keep[0] = 1
  keep[far] = 1
  const limit = tolerance * tolerance
  // Stretches still to look at, as [from, to] with `to` possibly n, which stands for vertex 0 again.
  const stack = [0, far, far, n]
  while (stack.length > 0) {
    const to = stack.pop()!
    const from = stack.pop()!
    const c0 = ring[2 * from]!
    const r0 = ring[2 * from + 1]!
    const c1 = ring[2 * (to % n)]!
    const r1 = ring[2 * (to % n) + 1]!
    let worst = -1
    let worstDistance = limit
    for (let i = from + 1; i < to; i++) {
      const distance = distanceSquared(ring[2 * i]!, ring[2 * i + 1]!, c0, r0, c1, r1)
      if (distance > worstDistance) {
        worstDistance = distance
        worst = i
      }
    }
    if (worst < 0) continue
    keep[worst] = 1
    stack.push(from, worst, worst, to)
  }
  let kept = 0
  for (let i = 0; i < n; i++) kept += keep[i]!
  const simple = new Int32Array(2 * kept)
  let at = 0
  for (let i = 0; i < n; i++) {
    if (keep[i] === 0) continue
    simple[at++] = ring[2 * i]!
    simple[at++] = ring[2 * i + 1]!
  }
  return simple
}

/** Squared distance from a point to a segment. */
export function distanceSquared(c: number, r: number, c0: number, r0: number, c1: number, r1: number): number {
  const dc = c1 - c0
  const dr = r1 - r0
  const length = dc * dc + dr * dr
  const t = length === 0 ? 0 : Math.min(1, Math.max(0, ((c - c0) * dc + (r - r0) * dr) / length))
  return (c - c0 - t * dc) ** 2 + (r - r0 - t * dr) ** 2
}
