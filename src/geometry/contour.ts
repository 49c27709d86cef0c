/**
 * Border following with holes: Suzuki and Abe, "Topological structural analysis of digitized binary images by border
 * following", CVGIP 30 (1985). Order, start points and direction are those of OpenCV's findContours with RETR_TREE and
 * CHAIN_APPROX_NONE, which clients of mask2polygon rely on.
 */

/** Closed borders in tree order: a parent comes before its children, siblings run from the last found to the first. */
export interface Contours {
  readonly count: number
  /** [column, row] pairs of every border; border i owns `lengths[i]` pairs from pair `starts[i]` on. */
  readonly points: Int32Array
  readonly starts: Int32Array
  readonly lengths: Int32Array
  /** Index of the border around border i, -1 for an outermost one. Odd depths are holes. */
  readonly parents: Int32Array
}

/**
 * A binary image with a background frame one pixel wide: `(columns + 2) * (rows + 2)` cells, row-major, 1 for foreground
 * and 0 elsewhere. Following its borders leaves their labels in the cells.
 */
export interface FramedMask {
  readonly cells: Int32Array
  readonly columns: number
  readonly rows: number
}

/** Borders of a row-major mask of `columns * rows` pixels, non-zero being foreground (8-connected). */
export function findContours(mask: ArrayLike<number>, columns: number, rows: number): Contours {
  const stride = columns + 2
  const cells = new Int32Array(stride * (rows + 2))
  for (let row = 0; row < rows; row++) {
    const from = row * columns
    const to = (row + 1) * stride + 1
    for (let column = 0; column < columns; column++) if (mask[from + column] !== 0) cells[to + column] = 1
  }
  return followBorders({ cells, columns, rows }, 0, 0)
}

/** Borders of a framed mask whose first pixel is [originColumn, originRow] of the whole image. Overwrites the cells. */
export function followBorders(mask: FramedMask, originColumn: number, originRow: number): Contours {
  const { cells, columns, rows } = mask
  const stride = columns + 2
  const found = new BorderTree()
  // Neighbours counter-clockwise on screen from the right, twice over so that a search may run past the end.
  const around = [1, 1 - stride, -stride, -stride - 1, -1, stride - 1, stride, stride + 1]
  const steps = Int32Array.from([...around, ...around])
  for (let row = 1; row <= rows; row++) {
    const line = row * stride
    const end = line + columns + 2
    let previous = 0
    let lastBorder = 0
    for (let cell = line + 1; cell < end; cell++) {
      const value = cells[cell]!
      if (value === previous) continue
      let isHole = false
      if (previous === 0 && value === 1) isHole = false
      else if (value === 0 && previous >= 1) {
        isHole = true
        if (previous > 1) lastBorder = cell - 1
      } else {
        previous = value
        if (value !== 0 && value !== 1) lastBorder = cell
        continue
      }
      const border = lastBorder === 0 ? 0 : Math.abs(cells[lastBorder]!)
      const start = isHole ? cell - 1 : cell
      const label = found.open(border, isHole)
      follow(cells, steps, start, isHole, label, found, stride, originColumn - 1, originRow - 1)
      lastBorder = start
      previous = cells[cell]!
      if (previous !== 0 && previous !== 1) lastBorder = cell
    }
  }
  return found.inTreeOrder()
}

/** Walks one border from `start`, marking its cells with `label`, negative where the cell to the right is background. */
function follow(
  cells: Int32Array,
  steps: Int32Array,
  start: number,
  isHole: boolean,
  label: number,
  found: BorderTree,
  stride: number,
  originColumn: number,
  originRow: number,
): void {
  let direction = isHole ? 0 : 4
  const first = direction
  let neighbour = start
  do {
    direction = (direction - 1) & 7
    neighbour = start + steps[direction]!
  } while (cells[neighbour] === 0 && direction !== first)
  if (direction === first) {
    cells[start] = -label
    found.add(originColumn + (start % stride), originRow + Math.floor(start / stride))
    return
  }
  const last = neighbour
  let cell = start
  let column = originColumn + (start % stride)
  let row = originRow + Math.floor(start / stride)
  for (;;) {
    const from = direction
    let next = 0
    do {
      direction++
      next = cell + steps[direction]!
    } while (cells[next] === 0)
    direction &= 7
    // The search passed the cell to the right (direction 0): the border's right side is background here.
    if (direction > 0 && direction - 1 < from) cells[cell] = -label
    else if (cells[cell] === 1) cells[cell] = label
    found.add(column, row)
    if (next === start && cell === last) return
    cell = next
    column += COLUMN_STEP[direction]!
    row += ROW_STEP[direction]!
    direction = (direction + 4) & 7
  }
}

const COLUMN_STEP = Int8Array.of(1, 1, 0, -1, -1, -1, 0, 1)
const ROW_STEP = Int8Array.of(0, -1, -1, -1, 0, 1, 1, 1)

/** Labels count from 2, since 0 and 1 are pixels; entry 0 is the frame around the image, which counts as a hole. */
class BorderTree {
  #points = new Int32Array(1024)
  #used = 0
  readonly #starts = [0]
  readonly #holes = [true]
  readonly #parents = [-1]
  readonly #firstChild = [-1]
  readonly #nextSibling = [-1]

  /** Begins a border found right after the border labelled `previous` (0 or 1: after the frame); gives its label. */
  open(previous: number, isHole: boolean): number {
    const before = previous > 1 ? previous - 1 : 0
    // Two borders of one kind are siblings; of different kinds, the earlier one is the parent.
    const parent = this.#holes[before] === isHole ? Math.max(0, this.#parents[before]!) : before
    const id = this.#starts.length
    this.#starts.push(this.#used >> 1)
    this.#holes.push(isHole)
    this.#parents.push(parent)
    this.#firstChild.push(-1)
    this.#nextSibling.push(this.#firstChild[parent]!)
    this.#firstChild[parent] = id
    return id + 1
  }

  add(column: number, row: number): void {
    if (this.#used === this.#points.length) {
      const larger = new Int32Array(this.#points.length * 2)
      larger.set(this.#points)
      this.#points = larger
    }
    this.#points[this.#used++] = column
    this.#points[this.#used++] = row
  }

  inTreeOrder(): Contours {
    const count = this.#starts.length - 1
    const starts = new Int32Array(count)
    const lengths = new Int32Array(count)
    const parents = new Int32Array(count)
    const place = new Int32Array(count + 1)
    place[0] = -1
    let id = this.#firstChild[0]!
    for (let i = 0; i < count; i++) {
      starts[i] = this.#starts[id]!
      lengths[i] = (this.#starts[id + 1] ?? this.#used >> 1) - starts[i]!
      parents[i] = place[this.#parents[id]!]!
      place[id] = i
      if (this.#firstChild[id] !== -1) id = this.#firstChild[id]!
      else {
        while (id > 0 && this.#nextSibling[id] === -1) id = this.#parents[id]!
        id = this.#nextSibling[id]!
      }
    }
    return { count, points: this.#points.subarray(0, this.#used), starts, lengths, parents }
  }
}
