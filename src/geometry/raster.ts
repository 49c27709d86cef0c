/** Filling polygons on the pixel grid, with the very pixels OpenCV's fillPoly would set (8-connected, no shift). */

/** Closed polygons as [column, row] integer pairs, all of them inside the image. */
export type FlatPolygon = Int32Array

/** 16.16 fixed point, as OpenCV computes edge crossings; kept in doubles, exact far beyond any image size. */
const ONE = 65536

/**
 * Sets the pixels of the polygons to `value` in a row-major image: every pixel on an edge, and every pixel inside an odd
 * number of polygons (so a polygon within another is a hole). `columnStep` and `rowStep` are the distances in `image`
 * between neighbouring columns and rows, so a slice of a volume can be filled in place, in either orientation.
 * Vertices must lie on the image.
 */
export function fillPolygons(
  image: Uint8Array,
  polygons: readonly FlatPolygon[],
  value: number,
  columnStep: number,
  rowStep: number,
  origin = 0,
): void {
  let edges = 0
  for (const polygon of polygons) edges += polygon.length >> 1
  const table: EdgeTable = {
    top: new Int32Array(edges),
    bottom: new Int32Array(edges),
    crossing: new Float64Array(edges),
    slope: new Float64Array(edges),
    count: 0,
  }
  for (const polygon of polygons) {
    const n = polygon.length
    if (n === 0) continue
    let c0 = polygon[n - 2]!
    let r0 = polygon[n - 1]!
    for (let i = 0; i < n; i += 2) {
      const c1 = polygon[i]!
      const r1 = polygon[i + 1]!
      drawLine(image, c0, r0, c1, r1, value, columnStep, rowStep, origin)
      if (r0 !== r1) {
        const e = table.count++
        table.top[e] = Math.min(r0, r1)
        table.bottom[e] = Math.max(r0, r1)
        table.crossing[e] = (r0 < r1 ? c0 : c1) * ONE
        table.slope[e] = Math.trunc(((c1 - c0) * ONE) / (r1 - r0))
      }
      c0 = c1
      r0 = r1
    }
  }
  fillSpans(image, table, value, columnStep, rowStep, origin)
}

interface EdgeTable {
  readonly top: Int32Array
  /** The row that the edge no longer crosses. */
  readonly bottom: Int32Array
  /** Column of the crossing with the current row, fixed point. */
  readonly crossing: Float64Array
  readonly slope: Float64Array
  count: number
}

/** With more edges on a row than this, counting crossings by pixel beats sorting them. */
const FEW_EDGES = 64

/** Even-odd scan lines: between each pair of crossings, from the first whole pixel to the last. */
function fillSpans(
  image: Uint8Array,
  { top, bottom, crossing, slope, count }: EdgeTable,
  value: number,
  columnStep: number,
  rowStep: number,
  origin: number,
): void {
  if (count < 2) return
  const byTop = new Uint32Array(count)
  for (let e = 0; e < count; e++) byTop[e] = e
  byTop.sort((a, b) => top[a]! - top[b]!)
  const active = new Uint32Array(count)
  let activeCount = 0
  let next = 0
  let row = top[byTop[0]!]!
  while (next < count || activeCount > 0) {
    let kept = 0
    for (let a = 0; a < activeCount; a++) if (bottom[active[a]!]! > row) active[kept++] = active[a]!
    activeCount = kept
    while (next < count && top[byTop[next]!]! === row) active[activeCount++] = byTop[next++]!
    const start = origin + row * rowStep
    if (activeCount > FEW_EDGES) fillByCount(image, active, activeCount, crossing, value, columnStep, start)
    else fillByOrder(image, active, activeCount, crossing, value, columnStep, start)
    for (let a = 0; a < activeCount; a++) crossing[active[a]!]! += slope[active[a]!]!
    row++
  }
}

function fillByOrder(
  image: Uint8Array,
  active: Uint32Array,
  count: number,
  crossing: Float64Array,
  value: number,
  columnStep: number,
  start: number,
): void {
  sortByCrossing(active, count, crossing)
  for (let a = 0; a + 1 < count; a += 2) {
    const from = Math.ceil(crossing[active[a]!]! / ONE)
    const to = Math.floor(crossing[active[a + 1]!]! / ONE)
    for (let column = from; column <= to; column++) image[start + column * columnStep] = value
  }
}

/** Insertion sort: from one row to the next the order hardly changes. */
function sortByCrossing(active: Uint32Array, count: number, crossing: Float64Array): void {
  for (let a = 1; a < count; a++) {
    const edge = active[a]!
    const key = crossing[edge]!
    let b = a - 1
    while (b >= 0 && crossing[active[b]!]! > key) {
      active[b + 1] = active[b]!
      b--
    }
    active[b + 1] = edge
  }
}

/**
 * The same pixels without an order: a pixel lies between a pair, or on one of it, when an odd number of crossings lies at
 * or before it, or one lies exactly on it.
 */
function fillByCount(
  image: Uint8Array,
  active: Uint32Array,
  count: number,
  crossing: Float64Array,
  value: number,
  columnStep: number,
  start: number,
): void {
  let first = Infinity
  let last = -Infinity
  for (let a = 0; a < count; a++) {
    const place = crossing[active[a]!]! / ONE
    if (place < first) first = place
    if (place > last) last = place
  }
  first = Math.floor(first)
  const columns = Math.ceil(last) - first + 1
  const arriving = new Uint32Array(columns)
  const exact = new Uint8Array(columns)
  for (let a = 0; a < count; a++) {
    const place = crossing[active[a]!]! / ONE
    const column = Math.ceil(place) - first
    arriving[column]!++
    if (column + first === place) exact[column] = 1
  }
  let before = 0
  for (let column = 0; column < columns; column++) {
    before += arriving[column]!
    if ((before & 1) === 1 || exact[column] === 1) image[start + (first + column) * columnStep] = value
  }
}

/** Bresenham's line from left to right, as OpenCV's LineIterator rounds it. */
function drawLine(
  image: Uint8Array,
  c0: number,
  r0: number,
  c1: number,
  r1: number,
  value: number,
  columnStep: number,
  rowStep: number,
  origin: number,
): void {
  const swap = c1 < c0
  const width = Math.abs(c1 - c0)
  const height = swap ? r0 - r1 : r1 - r0
  const tall = Math.abs(height) > width
  const long = tall ? Math.abs(height) : width
  const short = tall ? width : Math.abs(height)
  const vertical = height < 0 ? -rowStep : rowStep
  const along = tall ? vertical : columnStep
  const aside = tall ? columnStep : vertical
  let at = origin + (swap ? c1 * columnStep + r1 * rowStep : c0 * columnStep + r0 * rowStep)
  let error = long - 2 * short
  for (let i = 0; i <= long; i++) {
    image[at] = value
    if (error < 0) {
      error += 2 * long
      at += aside
    }
    error -= 2 * short
    at += along
  }
}
