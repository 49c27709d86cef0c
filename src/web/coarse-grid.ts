/** A coarser grid in the axes R, A, S over a volume: what the 3-D view draws. */
import { type Box, type PatientAxis, type Vec3, wholeBox } from './geometry.js'
import type { LabelMap } from './label-map.js'
import type { Voxels } from './nifti.js'

export class CoarseGrid {
  readonly size: Vec3
  readonly spacing: Vec3
  /** The volume's size along R, A and S. */
  readonly #fine: Vec3
  /** For R, A and S: how many voxels of the volume make one, and where they lie among the volume's. */
  readonly #along: readonly {
    readonly axis: 0 | 1 | 2
    readonly step: number
    readonly offset: (v: number) => number
  }[]

  /** `axes`: the volume's axes along R, A and S. `most`: voxels. */
  constructor(size: Vec3, spacing: Vec3, axes: readonly PatientAxis[], most: number) {
    const strides = [1, size[0], size[0] * size[1]] as const
    const steps = stepsOf(size, spacing, most)
    this.#along = axes.map(({ axis, backwards }) => ({
      axis,
      step: steps[axis],
      offset: (v: number) => (backwards ? size[axis] - 1 - v : v) * strides[axis],
    }))
    this.size = this.#along.map(({ axis, step }) => Math.ceil(size[axis] / step)) as unknown as Vec3
    this.spacing = this.#along.map(({ axis, step }) => spacing[axis] * step) as unknown as Vec3
    this.#fine = this.#along.map(({ axis }) => size[axis]) as unknown as Vec3
  }

  get voxels(): number {
    return this.size[0] * this.size[1] * this.size[2]
  }

  /** The volume's voxel in the middle of each one here. */
  sample(data: Voxels): Voxels {
    const out = new (data.constructor as new (length: number) => Voxels)(this.voxels)
    const [xs, ys, zs] = this.#along.map(({ step, offset }, r) =>
      Array.from({ length: this.size[r]! }, (_, i) => offset(Math.min(this.#fine[r]! - 1, i * step + (step >> 1)))),
    ) as [number[], number[], number[]]
    let to = 0
    for (const z of zs) for (const y of ys) for (const x of xs) out[to++] = data[x + y + z]!
    return out
  }

  /** Writes the labels inside a box of the volume into `out`: any label that lies in a voxel here, so that nothing thin is lost. */
  sampleLabels(out: Uint8Array, labels: LabelMap, box: Box = wholeBox(labels.size)): void {
    const [x, y, z] = this.#along.map(({ axis, step, offset }, r) => {
      const last = this.#fine[r]! - 1
      const [a, b] = [box.min[axis], box.max[axis]]
      const [from, to] = offset(0) === 0 ? [a, b] : [last - b, last - a]
      const [begin, end] = [Math.floor(from / step), Math.floor(to / step)]
      return { begin, end, step, offset, first: begin * step, last: Math.min(last, end * step + step - 1) }
    }) as [Range, Range, Range]
    const [nx, ny] = this.size
    for (let k = z.begin; k <= z.end; k++)
      for (let j = y.begin; j <= y.end; j++) out.fill(0, nx * (j + ny * k) + x.begin, nx * (j + ny * k) + x.end + 1)
    const next = x.offset(1) - x.offset(0)
    for (let k = z.first; k <= z.last; k++)
      for (let j = y.first; j <= y.last; j++) {
        const row = nx * (Math.floor(j / y.step) + ny * Math.floor(k / z.step))
        let at = z.offset(k) + y.offset(j) + x.offset(x.first)
        for (let i = x.first; i <= x.last; i++, at += next) {
          const label = labels.data[at]!
          if (label !== 0) out[row + Math.floor(i / x.step)] = label
        }
      }
  }
}

interface Range {
  readonly begin: number
  readonly end: number
  readonly step: number
  readonly offset: (v: number) => number
  readonly first: number
  readonly last: number
}

/** So many voxels along each axis become one, as even in mm as whole steps allow. */
export function stepsOf(size: Vec3, spacing: Vec3, most: number): Vec3 {
  const along = (edge: number) => spacing.map((mm) => Math.max(1, Math.round(edge / mm))) as unknown as Vec3
  const voxels = (steps: Vec3) => steps.reduce((n, step, axis) => n * Math.ceil(size[axis]! / step), 1)
  let edge = Math.min(...spacing)
  while (voxels(along(edge)) > most) edge *= 1.1
  return along(edge)
}
