/**
 * Which way the voxel axes of an affine run, as nibabel's `io_orientation` decides it, and the axis map that turns one
 * order into another.
 */
import { linearPart, multiply4 } from './affine.js'
import { isInvertible, nearestRotation } from './quaternion.js'
import type { Grid, Vec3 } from './volume.js'

/** For one voxel axis: the world axis (0 = x, 1 = y, 2 = z) it follows most, and whether towards plus. */
export interface AxisDirection {
  readonly world: 0 | 1 | 2
  readonly sign: 1 | -1
}
export type Orientation = readonly [AxisDirection, AxisDirection, AxisDirection]

const CODES = [
  ['L', 'R'],
  ['P', 'A'],
  ['I', 'S'],
] as const

/**
 * The orientation closest to the affine's axes: the rotation nearest to its unit columns (polar decomposition, as in
 * nibabel), then each voxel axis, the clearest first, takes the world axis left that it follows most.
 */
export function orientationOf(affine: Float64Array): Orientation {
  const rotation = isInvertible(affine) ? nearestRotation(affine) : unitColumns(linearPart(affine))
  const clarity = [0, 1, 2].map((axis) => Math.max(...[0, 3, 6].map((row) => rotation[row + axis]! ** 2)))
  const taken = [false, false, false]
  const axes: AxisDirection[] = []
  for (const axis of [0, 1, 2].sort((a, b) => clarity[b]! - clarity[a]!)) {
    let best = -1
    for (let world = 0; world < 3; world++) {
      if (taken[world]) continue
      if (best < 0 || Math.abs(rotation[world * 3 + axis]!) > Math.abs(rotation[best * 3 + axis]!)) best = world
    }
    taken[best] = true
    axes[axis] = { world: best as 0 | 1 | 2, sign: rotation[best * 3 + axis]! < 0 ? -1 : 1 }
  }
  return axes as unknown as Orientation
}

/** 'RAS' for an identity affine: the end each axis runs to. */
export function axisCodes(affine: Float64Array): string {
  return orientationOf(affine)
    .map(({ world, sign }) => CODES[world][sign > 0 ? 1 : 0])
    .join('')
}

/** 'LIA' to directions; undefined when it is not three letters of three different axes. */
export function parseAxisCodes(codes: string): Orientation | undefined {
  const axes: AxisDirection[] = []
  for (const letter of codes.toUpperCase()) {
    const world = CODES.findIndex((pair) => pair.includes(letter as never))
    if (world < 0 || axes.some((axis) => axis.world === world)) return undefined
    axes.push({ world: world as 0 | 1 | 2, sign: CODES[world]![1] === letter ? 1 : -1 })
  }
  return axes.length === 3 ? (axes as unknown as Orientation) : undefined
}

/** How each axis of a reordered grid reads the old one: old axis `from`, backwards when `flip`. */
export interface AxisMove {
  readonly from: 0 | 1 | 2
  readonly flip: boolean
}
export type AxisMoves = readonly [AxisMove, AxisMove, AxisMove]

export function movesBetween(have: Orientation, want: Orientation): AxisMoves {
  return want.map(({ world, sign }) => {
    const from = have.findIndex((axis) => axis.world === world)
    return { from, flip: have[from]!.sign !== sign }
  }) as unknown as AxisMoves
}

/** The grid after the moves: same voxels in the same places of the world. */
export function moveGrid({ size, affine }: Grid, moves: AxisMoves): Grid {
  const toOld = new Float64Array(16)
  toOld[15] = 1
  moves.forEach(({ from, flip }, axis) => {
    toOld[from * 4 + axis] = flip ? -1 : 1
    if (flip) toOld[from * 4 + 3] = size[from] - 1
  })
  const newSize = moves.map(({ from }) => size[from]) as unknown as Vec3
  return { size: newSize, affine: multiply4(affine, toOld) }
}

function unitColumns(m: Float64Array): Float64Array {
  const out = Float64Array.from(m)
  for (let column = 0; column < 3; column++) {
    const norm = Math.hypot(m[column]!, m[3 + column]!, m[6 + column]!) || 1
    for (let row = 0; row < 3; row++) out[row * 3 + column]! /= norm
  }
  return out
}
