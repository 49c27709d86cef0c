/**
 * Masks and polygons out of a seed, the same here and in test/golden/make_polygon_golden.py: whole-number arithmetic only.
 */

/** Marsaglia's xorshift32; `below(n)` gives a whole number from 0 to n - 1. */
export function xorshift32(seed: number): (n: number) => number {
  let state = seed >>> 0 || 1
  return (n) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % n
  }
}

export interface RandomMask {
  readonly columns: number
  readonly rows: number
  /** Row-major, 0 or 1. */
  readonly mask: Uint8Array
}

/** Noise of five densities, nested rings, lines of one pixel, boxes over boxes, frames along the image's edge, and none or all. */
export function randomMask(seed: number): RandomMask {
  const below = xorshift32(seed * 2654435761)
  const columns = 1 + below(40)
  const rows = 1 + below(40)
  const mask = new Uint8Array(columns * rows)
  const set = (column: number, row: number, value: number) => {
    if (column >= 0 && row >= 0 && column < columns && row < rows) mask[row * columns + column] = value
  }
  const kind = seed % 10
  if (kind < 5) {
    const percent = [5, 25, 50, 75, 95][kind]!
    for (let i = 0; i < mask.length; i++) mask[i] = below(100) < percent ? 1 : 0
  } else if (kind === 5) {
    const centreColumn = below(columns)
    const centreRow = below(rows)
    const width = 1 + below(3)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const square = (column - centreColumn) ** 2 + (row - centreRow) ** 2
        set(column, row, Math.floor(square / (8 * width)) % 2)
      }
  } else if (kind === 6) {
    for (let line = 1 + below(5); line > 0; line--) {
      let column = below(columns)
      let row = below(rows)
      const stepColumn = below(3) - 1
      const stepRow = below(3) - 1
      for (let i = below(40); i >= 0; i--) {
        set(column, row, 1)
        column += stepColumn
        row += stepRow
      }
    }
  } else if (kind === 7) {
    for (let box = 1 + below(12); box > 0; box--) {
      const column0 = below(columns)
      const row0 = below(rows)
      const width = below(columns)
      const height = below(rows)
      const value = below(2)
      for (let row = row0; row <= row0 + height; row++)
        for (let column = column0; column <= column0 + width; column++) set(column, row, value)
    }
  } else if (kind === 8) {
    const gap = 1 + below(3)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const depth = Math.min(column, row, columns - 1 - column, rows - 1 - row)
        set(column, row, depth % (gap + 1) === 0 && below(20) > 0 ? 1 : 0)
      }
  } else {
    mask.fill(below(2))
  }
  return { columns, rows, mask }
}

/** One to three polygons of one to nine vertices on the grid of `randomMask(seed)`, crossing themselves as they like. */
export function randomPolygons(seed: number): { columns: number; rows: number; polygons: Int32Array[] } {
  const { columns, rows } = randomMask(seed)
  const below = xorshift32(seed * 40503 + 1)
  const polygons = Array.from({ length: 1 + below(3) }, () => {
    const points = new Int32Array(2 * (1 + below(9)))
    for (let i = 0; i < points.length; i += 2) {
      points[i] = below(columns)
      points[i + 1] = below(rows)
    }
    return points
  })
  return { columns, rows, polygons }
}
