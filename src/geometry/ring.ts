/** A closed polygon as [column, row] pairs; the last vertex is followed by the first. */
export type Ring = Float64Array

/** Distance between vertices i and j. */
export function distance(ring: Ring, i: number, j: number): number {
  return Math.hypot(ring[2 * i]! - ring[2 * j]!, ring[2 * i + 1]! - ring[2 * j + 1]!)
}

/** The smallest box around a ring, ends included. */
export function boxOfRing(ring: Ring): { column0: number; row0: number; column1: number; row1: number } {
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
  return { column0, row0, column1, row1 }
}

/** Twice the enclosed area: positive when the left of the direction of travel, as seen on screen, is outside. */
export function signedArea(ring: Ring): number {
  const n = ring.length
  let twice = 0
  for (let i = 0; i < n; i += 2) twice += ring[i]! * ring[(i + 3) % n]! - ring[(i + 2) % n]! * ring[i + 1]!
  return twice
}

export type Normal = readonly [column: number, row: number]

/** Along a contour of single pixels, a direction shows only over a few of them. */
const TANGENT_PIXELS = 3

/** Unit normal at a vertex, to the left of the ring's direction on screen; [0, 0] where the ring has none. */
export function normalAt(ring: Ring, vertex: number): Normal {
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

/** Unit vector to the left, on screen, of a direction. */
export function leftOf(column: number, row: number): Normal {
  const length = Math.hypot(column, row)
  return length === 0 ? [0, 0] : [row / length, -column / length]
}
