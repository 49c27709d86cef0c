/**
 * Moving scores between grids axis by axis, each target voxel a weighted sum of a few source voxels along each axis: the
 * linear counterpart of AxisMap. Copies, crops, linear and area resampling are all of this form, and two in a row again.
 */
import { type AxisMap, isDiagonal, type LinearTables } from './resample.js'
import type { Vec3 } from './volume.js'

/** Target voxel i is the sum of `weight[k]` x source voxel `index[k]` over k from `start[i]` to before `start[i + 1]`. */
export interface WeightTable {
  readonly start: Int32Array
  readonly index: Int32Array
  readonly weight: Float64Array
}

export interface AxisWeights {
  /** The source axis that each target axis runs along. */
  readonly from: readonly [0 | 1 | 2, 0 | 1 | 2, 0 | 1 | 2]
  readonly tables: readonly [WeightTable, WeightTable, WeightTable]
}

const STRAIGHT: AxisWeights['from'] = [0, 1, 2]

function tablesOf(make: (axis: 0 | 1 | 2) => WeightTable): AxisWeights['tables'] {
  return [make(0), make(1), make(2)]
}

function tableOf(rows: readonly (readonly (readonly [index: number, weight: number])[])[]): WeightTable {
  const start = new Int32Array(rows.length + 1)
  for (const [i, row] of rows.entries()) start[i + 1] = start[i]! + row.length
  const flat = rows.flat()
  return {
    start,
    index: Int32Array.from(flat, ([index]) => index),
    weight: Float64Array.from(flat, ([, weight]) => weight),
  }
}

export function identityWeights(size: Vec3): AxisWeights {
  return { from: STRAIGHT, tables: tablesOf((axis) => tableOf(Array.from({ length: size[axis] }, (_, i) => [[i, 1]]))) }
}

/** Voxels outside the source are zero. */
export function weightsOfMap({ from, index }: AxisMap): AxisWeights {
  return { from, tables: tablesOf((axis) => tableOf(Array.from(index[axis], (i) => (i < 0 ? [] : [[i, 1]])))) }
}

export function weightsOfLinear(tables: LinearTables): AxisWeights {
  return {
    from: STRAIGHT,
    tables: tablesOf((axis) => {
      const { low, high, weight } = tables[axis]
      return tableOf(
        Array.from(low, (first, i) => {
          const share = weight[i]!
          return share === 0 || first === high[i]
            ? [[first, 1]]
            : [
                [first, 1 - share],
                [high[i]!, share],
              ]
        }),
      )
    }),
  }
}

/**
 * Linear between the source voxels that an affine leads to, where it goes along the axes; undefined where it does not.
 * Beyond the source lies its edge, or zero.
 */
export function weightsOfAffine(
  source: Vec3,
  size: Vec3,
  toSource: Float64Array,
  outside: 'border' | 'zeros',
): AxisWeights | undefined {
  if (!isDiagonal(source, size, toSource)) return undefined
  return {
    from: STRAIGHT,
    tables: tablesOf((axis) => {
      const last = source[axis] - 1
      const rows = Array.from({ length: size[axis] }, (_, i) => {
        const at = toSource[axis * 4 + 3]! + i * toSource[axis * 5]!
        const held = outside === 'border' ? Math.min(Math.max(at, 0), last) : at
        const low = Math.floor(held)
        const share = held - low
        const taps = [
          [low, 1 - share],
          [low + 1, share],
        ] as const
        return taps.filter(([index, weight]) => weight > 0 && index >= 0 && index <= last)
      })
      return tableOf(rows)
    }),
  }
}

/** torch's adaptive average pooling of `source` voxels into `target`, as `resampleArea` does it. */
export function weightsOfArea(source: Vec3, target: Vec3): AxisWeights {
  return {
    from: STRAIGHT,
    tables: tablesOf((axis) => {
      const [n, m] = [source[axis], target[axis]]
      return tableOf(
        Array.from({ length: m }, (_, t) => {
          const first = Math.floor((t * n) / m)
          const end = Math.ceil(((t + 1) * n) / m)
          return Array.from({ length: end - first }, (_, k) => [first + k, 1 / (end - first)] as const)
        }),
      )
    }),
  }
}

/** `second` reads what `first` made: the weights that do both at once. */
export function composeWeights(first: AxisWeights, second: AxisWeights): AxisWeights {
  const from = second.from.map((axis) => first.from[axis]) as unknown as AxisWeights['from']
  return {
    from,
    tables: tablesOf((axis) => {
      const inner = first.tables[second.from[axis]]
      const outer = second.tables[axis]
      const rows = Array.from({ length: outer.start.length - 1 }, (_, i) => {
        const sums = new Map<number, number>()
        for (let k = outer.start[i]!; k < outer.start[i + 1]!; k++) {
          const middle = outer.index[k]!
          for (let j = inner.start[middle]!; j < inner.start[middle + 1]!; j++) {
            const index = inner.index[j]!
            sums.set(index, (sums.get(index) ?? 0) + inner.weight[j]! * outer.weight[k]!)
          }
        }
        return [...sums].toSorted(([a], [b]) => a - b)
      })
      return tableOf(rows)
    }),
  }
}

export function weightsSize({ tables }: AxisWeights): [number, number, number] {
  return [tables[0].start.length - 1, tables[1].start.length - 1, tables[2].start.length - 1]
}
