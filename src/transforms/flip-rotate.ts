import { AppError } from '../errors.js'
import { type AxisMoves, moveGrid } from '../volume/orientation.js'
import { type AxisMap, gather } from '../volume/resample.js'
import type { Vec3 } from '../volume/volume.js'
import { fieldArgs, integer, integers } from './args.js'
import { eachImage, spatialAxes } from './fields.js'
import type { ImageField, TransformDefinition } from './types.js'
import { axisStep, moved } from './undo.js'

const flipArgs = fieldArgs({ spatial_axis: integers.nullable().optional() })

/** MONAI's Flipd: reverses the given array axes, or all of them. */
export const flip: TransformDefinition<typeof flipArgs> = {
  names: ['Flipd', 'FlipD', 'FlipDict', 'Flip'],
  args: flipArgs,
  create: (a) =>
    eachImage(a, (field) => {
      const axes = spatialAxes(field)
      const flipped = (a.spatial_axis ?? axes.map((_, i) => i)).map((i) => memoryAxis(axes, i))
      const moves = ([0, 1, 2] as const).map((axis) => ({ from: axis, flip: flipped.includes(axis) }))
      return applyMoves(field, moves as unknown as AxisMoves, 'Flipd')
    }),
}

const rotateArgs = fieldArgs({ k: integer.default(1), spatial_axes: integers.default([0, 1]) })

/** MONAI's Rotate90d (numpy's rot90): k quarter turns from the first axis towards the second. */
export const rotate90: TransformDefinition<typeof rotateArgs> = {
  names: ['Rotate90d', 'Rotate90D', 'Rotate90Dict', 'Rotate90'],
  args: rotateArgs,
  create: (a) => {
    if (a.spatial_axes.length !== 2 || a.spatial_axes[0] === a.spatial_axes[1]) {
      throw new AppError('BAD_MODEL_CONFIG', 'spatial_axes must be two different axes')
    }
    return eachImage(a, (field) => {
      const axes = spatialAxes(field)
      const first = memoryAxis(axes, a.spatial_axes[0]!)
      const second = memoryAxis(axes, a.spatial_axes[1]!)
      const moves: { from: 0 | 1 | 2; flip: boolean }[] = [0, 1, 2].map((from) => ({
        from: from as 0 | 1 | 2,
        flip: false,
      }))
      const turns = ((a.k % 4) + 4) % 4
      if (turns === 1) {
        moves[first] = { from: second, flip: true }
        moves[second] = { from: first, flip: false }
      } else if (turns === 2) {
        moves[first]!.flip = true
        moves[second]!.flip = true
      } else if (turns === 3) {
        moves[first] = { from: second, flip: false }
        moves[second] = { from: first, flip: true }
      }
      return applyMoves(field, moves as unknown as AxisMoves, 'Rotate90d')
    })
  },
}

function memoryAxis(axes: readonly (0 | 1 | 2)[], index: number): 0 | 1 | 2 {
  const axis = axes[index < 0 ? index + axes.length : index]
  if (axis !== undefined) return axis
  throw new AppError('BAD_MODEL_CONFIG', `there is no spatial axis ${index} in an image of ${axes.length} axes`)
}

/** The field after the moves, with the way back. */
export function applyMoves(field: ImageField, moves: AxisMoves, name: string): ImageField {
  if (moves.every(({ from, flip }, axis) => from === axis && !flip)) return field
  const before = field.volume
  const grid = moveGrid(before, moves)
  const volume = gather(before, moveMap(moves, grid.size), grid.affine)
  const step = axisStep(name, 'orient', before, moveMap(inverseMoves(moves), before.size))
  return { ...moved(field, volume, step), scratch: true }
}

export function inverseMoves(moves: AxisMoves): AxisMoves {
  const back: { from: 0 | 1 | 2; flip: boolean }[] = []
  moves.forEach(({ from, flip }, axis) => {
    back[from] = { from: axis as 0 | 1 | 2, flip }
  })
  return back as unknown as AxisMoves
}

/** The moves as index tables, for a moved grid of `size`. */
export function moveMap(moves: AxisMoves, size: Vec3): AxisMap {
  const index = moves.map(({ flip }, axis) => {
    const n = size[axis]!
    return Int32Array.from({ length: n }, (_, i) => (flip ? n - 1 - i : i))
  })
  return {
    from: moves.map(({ from }) => from) as unknown as AxisMap['from'],
    index: index as unknown as AxisMap['index'],
  }
}
