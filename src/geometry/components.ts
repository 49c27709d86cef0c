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

/** Two passes with union-find over the neighbours already seen. */
export function components(values: VoxelArray, size: Vec3, connectivity: Connectivity): Components {
  const [nx, ny, nz] = size
  const ids = new Int32Array(nx * ny * nz)
  const back = neighboursBefore(connectivity)
  const steps = Int32Array.from(back, ([dx, dy, dz]) => dx + nx * (dy + ny * dz))
  const parents: number[] = [0]
  const find = (id: number): number => {
    let root = id
    while (parents[root]! !== root) root = parents[root]!
    for (let at = id; at !== root; ) {
      const next = parents[at]!
      parents[at] = root
      at = next
    }
    return root
  }
  let i = 0
  for (let z = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++, i++) {
        const value = values[i]!
        if (value === 0) continue
        let id = 0
        for (let n = 0; n < steps.length; n++) {
          const j = i + steps[n]!
          if (j < 0 || values[j] !== value) continue
          const [dx, dy, dz] = back[n]!
          const outside = x + dx < 0 || x + dx >= nx || y + dy < 0 || y + dy >= ny || z + dz < 0
          if (outside) continue
          const other = ids[j]!
          if (id === 0) id = other
          else if (id !== other) {
            const a = find(id)
            const b = find(other)
            if (a < b) parents[b] = a
            else if (b < a) parents[a] = b
          }
        }
        if (id === 0) {
          id = parents.length
          parents.push(id)
        }
        ids[i] = id
      }
    }
  }
  return renumber(ids, values, parents, find)
}

function renumber(
  ids: Int32Array,
  values: VoxelArray,
  parents: readonly number[],
  find: (id: number) => number,
): Components {
  const numbers = new Int32Array(parents.length)
  let count = 0
  for (let id = 1; id < parents.length; id++) {
    const root = find(id)
    numbers[id] = root === id ? ++count : numbers[root]!
  }
  const sizes = new Uint32Array(count + 1)
  const labels = new Float64Array(count + 1)
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === 0) continue
    const number = numbers[ids[i]!]!
    ids[i] = number
    sizes[number]!++
    labels[number] = values[i]!
  }
  return { ids, sizes, labels, count }
}

type Step = readonly [number, number, number]

/** Neighbours that a scan has passed already. */
function neighboursBefore(connectivity: Connectivity): Step[] {
  return neighbours(connectivity).filter(([x, y, z]) => z < 0 || (z === 0 && (y < 0 || (y === 0 && x < 0))))
}

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
