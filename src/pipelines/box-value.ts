/** The `box` of a request: two corners around a structure in one slice, checked against the image that it lies on. */
import { AppError } from '../errors.js'
import type { BoxPrompt } from '../transforms/box-prompt.js'
import { parseLooseJson } from '../util/loose-json.js'
import type { Vec3 } from '../volume/volume.js'

export interface BoxValue {
  readonly box: BoxPrompt
  readonly note?: string | undefined
}

const HINT = 'send "box": [x0, y0, x1, y1], columns and rows of the slice, counted from 0 in the posted image'

/**
 * Reads `value`: [x0, y0, x1, y1], two corners as lists, or [x0, y0, z, x1, y1, z], as JSON or its text. The slice is that of
 * the corners, else `slice` of the request, else that of `clicked` voxels, else the only one. What lies outside the image is
 * cut off, with a note. Throws BAD_PARAMS naming what is wrong.
 */
export function boxValue(value: unknown, slice: unknown, clicked: readonly Vec3[], size: Vec3): BoxValue {
  const numbers = numbersOf(value)
  const flat = numbers.length === 6
  const [x0, y0, x1, y1] = (flat ? [numbers[0], numbers[1], numbers[3], numbers[4]] : numbers) as [
    number,
    number,
    number,
    number,
  ]
  const z = flat ? sameSlice(numbers) : (sliceOf(slice) ?? clicked[0]?.[2] ?? (size[2] === 1 ? 0 : undefined))
  if (z === undefined)
    throw new AppError('BAD_PARAMS', "'box' lies in one slice of a volume, and the request does not say in which", {
      hint: `send "slice" from 0 to ${size[2] - 1}, a click in it, or "box": [x0, y0, z, x1, y1, z]`,
    })
  if (!Number.isInteger(z) || z < 0 || z >= size[2])
    throw new AppError('BAD_PARAMS', `the slice of 'box' is ${z}, and the image has slices 0 to ${size[2] - 1}`)
  if (!(x0 < x1 && y0 < y1))
    throw new AppError(
      'BAD_PARAMS',
      `'box' = [${[x0, y0, x1, y1].join(', ')}] is empty: x0 has to be below x1, and y0 below y1`,
      {
        hint: HINT,
      },
    )
  const cut = [Math.max(0, x0), Math.max(0, y0), Math.min(size[0], x1), Math.min(size[1], y1)] as const
  if (cut[0] >= cut[2] || cut[1] >= cut[3])
    throw new AppError(
      'BAD_PARAMS',
      `'box' = [${[x0, y0, x1, y1].join(', ')}] lies outside the slice of ${size[0]} x ${size[1]} voxels`,
      { hint: HINT },
    )
  const isCut = cut.some((n, i) => n !== [x0, y0, x1, y1][i])
  return {
    box: { first: [cut[0], cut[1], z], last: [cut[2], cut[3], z] },
    note: isCut ? `'box' reaches beyond the slice and was cut to [${cut.join(', ')}]` : undefined,
  }
}

function numbersOf(value: unknown): number[] {
  let list = value
  if (typeof list === 'string') {
    try {
      list = parseLooseJson(list)
    } catch {
      list = undefined
    }
  }
  const flat: unknown[] = Array.isArray(list) ? list.flat() : []
  if ((flat.length === 4 || flat.length === 6) && flat.every((n) => typeof n === 'number' && Number.isFinite(n)))
    return flat as number[]
  throw new AppError('BAD_PARAMS', "'box' has to be four numbers", { hint: HINT })
}

function sameSlice(numbers: readonly number[]): number {
  if (numbers[2] === numbers[5]) return numbers[2]!
  throw new AppError(
    'BAD_PARAMS',
    `'box' reaches from slice ${numbers[2]} to ${numbers[5]}, and this model draws in one`,
    {
      hint: 'send a box for each slice',
    },
  )
}

function sliceOf(value: unknown): number | undefined {
  if (value === undefined || value === null || value === '') return undefined
  const slice = typeof value === 'string' ? Number(value) : value
  if (typeof slice === 'number' && Number.isInteger(slice)) return slice
  throw new AppError('BAD_PARAMS', "'slice' has to be a whole number from 0 on")
}
