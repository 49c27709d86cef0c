import { z } from 'zod'
import { AppError } from '../errors.js'
import { type AxisMoves, movesBetween, type Orientation, orientationOf, parseAxisCodes } from '../volume/orientation.js'
import { fieldArgs } from './args.js'
import { eachImage, spatialAxes } from './fields.js'
import { applyMoves } from './flip-rotate.js'
import type { ImageField, TransformDefinition } from './types.js'

const args = fieldArgs({
  axcodes: z.string().nullable().optional(),
  as_closest_canonical: z.boolean().default(false),
  /** The names of the directions: MONAI's own, which are nibabel's. */
  labels: z
    .tuple([
      z.tuple([z.literal('L'), z.literal('R')]),
      z.tuple([z.literal('P'), z.literal('A')]),
      z.tuple([z.literal('I'), z.literal('S')]),
    ])
    .nullable()
    .optional(),
})

/** Reorders and flips axes so that they run to `axcodes` (or RAS, when `as_closest_canonical`). MONAI's Orientationd. */
export const orientation: TransformDefinition<typeof args> = {
  names: ['Orientationd', 'OrientationD', 'OrientationDict', 'Orientation'],
  args,
  create: (a) => {
    const want = wantedOrientation(a)
    return eachImage(a, (field) => reorient(field, want, 'Orientationd'))
  },
}

/** What the arguments ask for. Throws BAD_MODEL_CONFIG when they name no orientation. */
export function wantedOrientation(a: z.output<typeof args>): Orientation {
  if (a.as_closest_canonical && (a.axcodes ?? 'RAS') !== 'RAS')
    throw new AppError('BAD_MODEL_CONFIG', `as_closest_canonical means RAS, and axcodes says '${a.axcodes}'`)
  const codes = a.as_closest_canonical ? 'RAS' : (a.axcodes ?? '')
  const want = parseAxisCodes(codes)
  if (want) return want
  throw new AppError('BAD_MODEL_CONFIG', `axcodes must be three letters such as RAS, got '${codes}'`)
}

/** The field with its array axes running as `want` says; what MONAI and nibabel do, by moving voxels. */
export function reorient(field: ImageField, want: Orientation, name: string): ImageField {
  return applyMoves(field, movesTo(field, want), name)
}

/** How memory axes move so that the array's axes run as `want` says. */
export function movesTo(field: ImageField, want: Orientation): AxisMoves {
  const memory = spatialAxes(field)
  const target = [...orientationOf(field.volume.affine)] as [Orientation[0], Orientation[1], Orientation[2]]
  if (memory.length === 3) {
    memory.forEach((axis, i) => {
      target[axis] = want[i]!
    })
  } else {
    planeTarget(target, memory, want)
  }
  return movesBetween(orientationOf(field.volume.affine), target)
}

/** Two-dimensional arrays: their two axes take the wanted directions of the world axes that they span. */
function planeTarget(
  target: [Orientation[0], Orientation[1], Orientation[2]],
  memory: readonly (0 | 1 | 2)[],
  want: Orientation,
): void {
  const worlds = memory.map((axis) => target[axis].world)
  const directions = want.filter(({ world }) => worlds.includes(world))
  memory.forEach((axis, i) => {
    target[axis] = directions[i]!
  })
}
