/** Connected components of label maps, and holes in them. Background is 0; voxels connect only within one label. */
import type { Vec3, VoxelArray } from '../volume/volume.js'

/** How many orthogonal steps away a neighbour may be: 1 = faces, 2 = edges too, 3 = corners too (scikit-image's word). */
export type Connectivity = 1 | 2 | 3

export interface Components {
  /** 0 for background, else the component's number from 1 on, in scan order of their first voxels. */
  readonly ids: Int32Array
  /** Voxels of each component; entry 0 is unused. */
  readonly sizes: Uint32Array
  /** The label that each component has. */
  readonly labels: Float64Array
  readonly count: number
}

/**
 * Stretches of one label in a row are joined with those that they touch in the rows before, by union-find (as in He, Chao
 * and Suzuki, "A run-based two-scan labeling algorithm", 2008): there are far fewer of them than voxels.
 */
export function components(values: VoxelArray, size: Vec3, connectivity: Connectivity): Components {
  const [, ny, nz] = size
  const runs = runsOf(values, size)
  const before = rowsBefore(connectivity)
  for (let z = 0; z < nz; z++)
    for (let y = 0; y < ny; y++)
      for (const { dy, dz, reach } of before)
        if (y + dy >= 0 && y + dy < ny && z + dz >= 0) joinRows(runs, y + ny * z, y + dy + ny * (z + dz), reach)
  return numbered(runs, values.length, size)
}

/** Stretches of one label, in scan order. */
interface Runs {
  readonly starts: Int32Array
  /** Exclusive. */
  readonly ends: Int32Array
  readonly labels: Float64Array
  /** Another run of the same component that came before, or the run itself. */
  readonly parents: Int32Array
  /** The first run of each row; the entry after the last row is how many runs there are. */
  readonly ofRow: Int32Array
}

function runsOf(values: VoxelArray, [nx, ny, nz]: Vec3): Runs {
  const rows = ny * nz
  const ofRow = new Int32Array(rows + 1)
  let count = 0
  for (let row = 0; row < rows; row++) {
    ofRow[row] = count
    for (let x = 0, i = row * nx; x < nx; x++, i++)
      if (values[i] !== 0 && (x === 0 || values[i] !== values[i - 1])) count += 1
  }
  ofRow[rows] = count
  const starts = new Int32Array(count)
  const ends = new Int32Array(count)
  const labels = new Float64Array(count)
  let run = 0
  for (let row = 0; row < rows; row++) {
    for (let x = 0, i = row * nx; x < nx; ) {
      const label = values[i]!
      const start = x
      do {
        x += 1
        i += 1
      } while (x < nx && values[i] === label)
      if (label === 0) continue
      starts[run] = start
      ends[run] = x
      labels[run] = label
      run += 1
    }
  }
  return { starts, ends, labels, parents: Int32Array.from(starts, (_, i) => i), ofRow }
}

/** Joins the runs of `row` with those of the row `other` that they touch, `reach` voxels to the side. */
function joinRows(runs: Runs, row: number, other: number, reach: number): void {
  const { ends, ofRow } = runs
  const last = ofRow[row + 1]!
  const lastOther = ofRow[other + 1]!
  for (let run = ofRow[row]!, against = ofRow[other]!; run < last && against < lastOther; ) {
    join(runs, run, against, reach)
    const further = ends[run]! - ends[against]!
    if (further === 0) {
      // corner to corner with what follows, on either side
      if (run + 1 < last) join(runs, run + 1, against, reach)
      if (against + 1 < lastOther) join(runs, run, against + 1, reach)
    }
    if (further <= 0) run += 1
    if (further >= 0) against += 1
  }
}

function join({ starts, ends, labels, parents }: Runs, run: number, against: number, reach: number): void {
  if (labels[run] !== labels[against]) return
  if (starts[against]! >= ends[run]! + reach || starts[run]! >= ends[against]! + reach) return
  const a = rootOf(parents, run)
  const b = rootOf(parents, against)
  if (a < b) parents[b] = a
  else parents[a] = b
}

function rootOf(parents: Int32Array, run: number): number {
  let root = run
  while (parents[root]! !== root) root = parents[root]!
  for (let at = run; at !== root; ) {
    const next = parents[at]!
    parents[at] = root
    at = next
  }
  return root
}

function numbered({ starts, ends, labels, parents, ofRow }: Runs, voxels: number, [nx, ny, nz]: Vec3): Components {
  const numbers = new Int32Array(starts.length)
  let count = 0
  for (let run = 0; run < numbers.length; run++) {
    const root = rootOf(parents, run)
    numbers[run] = root === run ? ++count : numbers[root]!
  }
  const ids = new Int32Array(voxels)
  const sizes = new Uint32Array(count + 1)
  const componentLabels = new Float64Array(count + 1)
  for (let row = 0; row < ny * nz; row++)
    for (let run = ofRow[row]!; run < ofRow[row + 1]!; run++) {
      const number = numbers[run]!
      ids.fill(number, row * nx + starts[run]!, row * nx + ends[run]!)
      sizes[number]! += ends[run]! - starts[run]!
      componentLabels[number] = labels[run]!
    }
  return { ids, sizes, labels: componentLabels, count }
}

/** Rows that a scan has passed already, and how far to the side of a voxel its neighbours there lie. */
function rowsBefore(
  connectivity: Connectivity,
): { readonly dy: number; readonly dz: number; readonly reach: number }[] {
  const rows = [
    { dy: -1, dz: 0 },
    { dy: 0, dz: -1 },
    { dy: -1, dz: -1 },
    { dy: 1, dz: -1 },
  ]
  return rows.flatMap(({ dy, dz }) => {
    const hops = Math.abs(dy) + Math.abs(dz)
    return hops <= connectivity ? [{ dy, dz, reach: hops < connectivity ? 1 : 0 }] : []
  })
}

type Step = readonly [number, number, number]

function neighbours(connectivity: Connectivity): Step[] {
  const steps: Step[] = []
  for (let z = -1; z <= 1; z++) {
    for (let y = -1; y <= 1; y++) {
      for (let x = -1; x <= 1; x++) {
        const hops = Math.abs(x) + Math.abs(y) + Math.abs(z)
        if (hops > 0 && hops <= connectivity) steps.push([x, y, z])
      }
    }
  }
  return steps
}

export interface LabelBox {
  readonly start: readonly [number, number, number]
  /** Exclusive. */
  readonly end: readonly [number, number, number]
}

/** Box of every label but 0 that occurs, by label. */
export function labelBoxes(values: VoxelArray, [nx, ny, nz]: Vec3): Map<number, LabelBox> {
  const boxes = new Map<number, { start: [number, number, number]; end: [number, number, number] }>()
  let i = 0
  for (let z = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      const row = i
      for (let x = 0; x < nx; x++, i++) {
        const value = values[i]!
        if (value === 0 || (x > 0 && value === values[i - 1] && x + 1 < nx && value === values[i + 1])) continue
        let box = boxes.get(value)
        if (!box) {
          box = { start: [x, y, z], end: [x + 1, y + 1, z + 1] }
          boxes.set(value, box)
          continue
        }
        const at = i - row
        if (at < box.start[0]) box.start[0] = at
        if (at >= box.end[0]) box.end[0] = at + 1
        if (y < box.start[1]) box.start[1] = y
        if (y >= box.end[1]) box.end[1] = y + 1
        if (z >= box.end[2]) box.end[2] = z + 1
      }
    }
  }
  return boxes
}

/**
 * Gives `label` every voxel that it encloses: one that no path of not-`label` voxels joins to the border of the image.
 * Axes of length 1 have no border. Writes into `values`. MONAI's fill_holes.
 */
export function fillHoles(
  values: VoxelArray,
  size: Vec3,
  label: number,
  box: LabelBox,
  connectivity: Connectivity,
): void {
  const [nx, ny] = size
  const { start, end } = box
  const w = end[0] - start[0]
  const h = end[1] - start[1]
  const d = end[2] - start[2]
  const open = new Uint8Array(w * h * d)
  const queue: number[] = []
  const at = (x: number, y: number, z: number) => start[0] + x + nx * (start[1] + y + ny * (start[2] + z))
  const flat = size.map((n) => n === 1)
  for (let z = 0; z < d; z++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const edge =
          (!flat[0] && (x === 0 || x === w - 1)) ||
          (!flat[1] && (y === 0 || y === h - 1)) ||
          (!flat[2] && (z === 0 || z === d - 1))
        if (!edge || values[at(x, y, z)] === label) continue
        const i = x + w * (y + h * z)
        open[i] = 1
        queue.push(i)
      }
    }
  }
  const steps = neighbours(connectivity)
  for (let i = queue.pop(); i !== undefined; i = queue.pop()) {
    const x = i % w
    const y = Math.floor(i / w) % h
    const z = Math.floor(i / (w * h))
    for (const [dx, dy, dz] of steps) {
      const px = x + dx
      const py = y + dy
      const pz = z + dz
      if (px < 0 || py < 0 || pz < 0 || px >= w || py >= h || pz >= d) continue
      const j = px + w * (py + h * pz)
      if (open[j] || values[at(px, py, pz)] === label) continue
      open[j] = 1
      queue.push(j)
    }
  }
  for (let z = 0; z < d; z++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) if (!open[x + w * (y + h * z)]) values[at(x, y, z)] = label
    }
  }
}
