/** What the hand tools do to a box of labels. Voxels of other segments are never taken, except by the brush. */
import type { Vec3 } from './geometry.js'

/** Voxels within `radius` voxels (of the finest axis) of a stroke's points: a disc in the slice, or a ball in the volume. */
export interface Nib {
  /** In mm. */
  readonly radius: number
  readonly spacing: Vec3
  /** The axis across the slice that is painted; undefined paints a ball. */
  readonly across: 0 | 1 | 2 | undefined
}

/** How far a nib reaches along each axis, in voxels. */
export function reachOf({ radius, spacing, across }: Nib): Vec3 {
  const reach = (axis: number) => (axis === across ? 0 : Math.floor(radius / spacing[axis]! + 1e-6))
  return [reach(0), reach(1), reach(2)]
}

/** Calls `visit` for every voxel of a nib at `centre`, inside a grid of `size`. */
export function stamp(centre: Vec3, nib: Nib, size: Vec3, visit: (x: number, y: number, z: number) => void): void {
  const reach = reachOf(nib)
  const [sx, sy, sz] = nib.spacing
  const most = nib.radius * nib.radius + 1e-6
  for (let z = Math.max(0, centre[2] - reach[2]); z <= Math.min(size[2] - 1, centre[2] + reach[2]); z++)
    for (let y = Math.max(0, centre[1] - reach[1]); y <= Math.min(size[1] - 1, centre[1] + reach[1]); y++)
      for (let x = Math.max(0, centre[0] - reach[0]); x <= Math.min(size[0] - 1, centre[0] + reach[0]); x++) {
        const [dx, dy, dz] = [(x - centre[0]) * sx, (y - centre[1]) * sy, (z - centre[2]) * sz]
        if (dx * dx + dy * dy + dz * dz <= most) visit(x, y, z)
      }
}

/** The voxels from one point to the next, at most one voxel apart, ends included. */
export function line(from: Vec3, to: Vec3): Vec3[] {
  const steps = Math.max(1, ...from.map((v, axis) => Math.abs(to[axis]! - v)))
  return Array.from({ length: steps + 1 }, (_, i) => {
    const along = (axis: 0 | 1 | 2) => Math.round(from[axis] + ((to[axis] - from[axis]) * i) / steps)
    return [along(0), along(1), along(2)]
  })
}

/**
 * Fills what a label encloses: background that no path of 4 neighbours in a slice across `across` joins with the edge of
 * the box. Slice by slice, since anatomy is open at the ends of a scan. Changes `labels`.
 */
export function fillHoles(labels: Uint8Array, size: Vec3, label: number, across: 0 | 1 | 2): number {
  const strides = [1, size[0], size[0] * size[1]] as const
  const [u, v] = ([0, 1, 2] as const).filter((axis) => axis !== across) as [0 | 1 | 2, 0 | 1 | 2]
  const [nu, nv] = [size[u], size[v]]
  let filled = 0
  const outside = new Uint8Array(nu * nv)
  const stack: number[] = []
  for (let s = 0; s < size[across]; s++) {
    const at = (i: number) => s * strides[across] + (i % nu) * strides[u] + Math.floor(i / nu) * strides[v]
    outside.fill(0)
    const reach = (i: number) => {
      if (outside[i] === 0 && labels[at(i)] !== label) {
        outside[i] = 1
        stack.push(i)
      }
    }
    for (let i = 0; i < nu; i++) {
      reach(i)
      reach((nv - 1) * nu + i)
    }
    for (let j = 0; j < nv; j++) {
      reach(j * nu)
      reach(j * nu + nu - 1)
    }
    for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
      const column = i % nu
      if (column > 0) reach(i - 1)
      if (column < nu - 1) reach(i + 1)
      if (i >= nu) reach(i - nu)
      if (i < nu * (nv - 1)) reach(i + nu)
    }
    for (let i = 0; i < outside.length; i++)
      if (outside[i] === 0 && labels[at(i)] === 0) {
        labels[at(i)] = label
        filled++
      }
  }
  return filled
}

/** Keeps the largest piece (6 neighbours) of a label and clears the others. Changes `labels`; gives the voxels cleared. */
export function keepLargest(labels: Uint8Array, size: Vec3, label: number): number {
  const [nx, ny, nz] = size
  const plane = nx * ny
  const piece = new Int32Array(labels.length)
  const stack: number[] = []
  let pieces = 0
  let [largest, most, total] = [0, 0, 0]
  for (let seed = 0; seed < labels.length; seed++) {
    if (labels[seed] !== label || piece[seed] !== 0) continue
    pieces++
    let count = 0
    const reach = (i: number) => {
      if (labels[i] === label && piece[i] === 0) {
        piece[i] = pieces
        stack.push(i)
      }
    }
    reach(seed)
    for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
      count++
      const x = i % nx
      const y = Math.floor(i / nx) % ny
      const z = Math.floor(i / plane)
      if (x > 0) reach(i - 1)
      if (x < nx - 1) reach(i + 1)
      if (y > 0) reach(i - nx)
      if (y < ny - 1) reach(i + nx)
      if (z > 0) reach(i - plane)
      if (z < nz - 1) reach(i + plane)
    }
    total += count
    if (count > most) [largest, most] = [pieces, count]
  }
  for (let i = 0; i < labels.length; i++) if (piece[i] !== 0 && piece[i] !== largest) labels[i] = 0
  return total - most
}
