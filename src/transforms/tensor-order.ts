/**
 * Laying voxels out as the network will read them: the array's last axis fastest. Done once, early, on the file's own
 * small numbers, it makes every later copy into a tensor a copy of whole rows, or none at all.
 */
import type { AxisMoves } from '../volume/orientation.js'
import { spatialAxes } from './fields.js'
import { applyMoves } from './flip-rotate.js'
import type { ImageField } from './types.js'

const STAY: AxisMoves = [0, 1, 2].map((from) => ({ from, flip: false })) as unknown as AxisMoves

/**
 * The same array with x (memory's fastest axis) along its last axis; `moves` are made on the way. The word `axes`
 * follows, so that nobody who reads arguments by array axis sees a difference. Arrays that are not of three spatial axes
 * only get the moves.
 */
export function inTensorOrder(field: ImageField, name: string, moves = STAY): ImageField {
  const order = spatialAxes(field)
  if (order.length !== 3) return applyMoves(field, moves, name)
  const memory = order.toReversed()
  const composed = memory.map((axis) => moves[axis]) as unknown as AxisMoves
  const laid = applyMoves(field, composed, name)
  const axes = [...field.axes].map((letter) => {
    if (letter === 'C') return letter
    return 'XYZ'[memory.indexOf('XYZ'.indexOf(letter) as 0 | 1 | 2)]
  })
  return { ...laid, axes: axes.join('') }
}

/** Whether the three voxel axes are perpendicular, so that no transform depends on the order it meets them in. */
export function isPerpendicular({ volume: { affine: m } }: Pick<ImageField, 'volume'>): boolean {
  for (const [a, b] of [
    [0, 1],
    [0, 2],
    [1, 2],
  ] as const) {
    const dot = m[a]! * m[b]! + m[4 + a]! * m[4 + b]! + m[8 + a]! * m[8 + b]!
    const norms = Math.hypot(m[a]!, m[4 + a]!, m[8 + a]!) * Math.hypot(m[b]!, m[4 + b]!, m[8 + b]!)
    if (Math.abs(dot) > 1e-4 * norms) return false
  }
  return true
}
