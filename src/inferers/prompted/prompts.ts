/** Points and boxes as the decoder's tensors. Coordinates are pixels of the slice: column, row, each pixel's centre at its index. */
import type { Tensor, TensorSpec } from '../../contract/tensor.js'
import { AppError } from '../../errors.js'
import type { Tensors } from '../two-parts.js'
import type { Prompted } from './layout.js'

export interface Prompts {
  readonly points: readonly { readonly x: number; readonly y: number; readonly inside: boolean }[]
  readonly box?: readonly [x0: number, y0: number, x1: number, y1: number] | undefined
}

interface Sizes {
  /** Of the slice. */
  readonly width: number
  readonly height: number
  /** [height, width] of the slice as the encoder sees it. */
  readonly seen: readonly [number, number]
  /** [height, width] of the mask that the decoder may be fed with. */
  readonly mask: readonly [number, number]
}

/** Labels of points, as all of the family have them. */
const [OUTSIDE, INSIDE, FIRST_CORNER, LAST_CORNER, NO_POINT] = [0, 1, 2, 3, -1]

/** The decoder's inputs but for what the encoder made. Throws BAD_PARAMS when it takes fewer points. */
export function promptTensors(
  prompted: Prompted,
  { points, box }: Prompts,
  sizes: Sizes,
  previous: Tensor | undefined,
): Tensors {
  const { inputs, ownPixels, wholeBox } = prompted
  const { width, height, seen } = sizes
  const along = ownPixels ? [1, 1] : [seen[1] / width, seen[0] / height]
  const placed = (x: number, y: number): readonly [number, number] => [x * along[0]!, y * along[1]!]
  const corners = box && [placed(box[0], box[1]), placed(box[2], box[3])]
  const kept = wholeBox && corners ? corners.map(([x, y]) => [Math.trunc(x), Math.trunc(y)] as const) : corners
  const feeds: Record<string, Tensor> = {}
  if (inputs.box && kept) feeds[inputs.box.name] = { dims: boxDims(inputs.box), data: Float32Array.from(kept.flat()) }
  else if (inputs.box) feeds[inputs.box.name] = { dims: boxDims(inputs.box), data: new Float32Array(4) }
  if (inputs.coords && inputs.labels) {
    const all = points.map(({ x, y, inside }) => ({ at: placed(x, y), label: inside ? INSIDE : OUTSIDE }))
    if (kept && !inputs.box) all.push({ at: kept[0]!, label: FIRST_CORNER }, { at: kept[1]!, label: LAST_CORNER })
    Object.assign(feeds, pointTensors(prompted, inputs.coords, inputs.labels, all, kept !== undefined))
  }
  const { mask, hasMask, size } = inputs
  if (mask) {
    const [h, w] = sizes.mask
    feeds[mask.name] = previous ?? { dims: [...mask.dims.slice(2).map(() => 1), h, w], data: new Float32Array(h * w) }
  }
  if (hasMask) feeds[hasMask.name] = { dims: ones(hasMask), data: Float32Array.of(previous ? 1 : 0) }
  if (size) feeds[size.name] = { dims: [...ones(size).slice(0, -1), 2], data: Float32Array.of(height, width) }
  return feeds
}

function pointTensors(
  { endsWithPadding }: Prompted,
  coords: TensorSpec,
  labels: TensorSpec,
  points: readonly { at: readonly [number, number] | readonly number[]; label: number }[],
  hasBox: boolean,
): Tensors {
  const most = coords.dims.at(-2)
  const all = [...points]
  const none = { at: [0, 0] as const, label: NO_POINT }
  if (all.length === 0 || (endsWithPadding && !hasBox && (typeof most !== 'number' || all.length < most)))
    all.push(none)
  if (typeof most === 'number') {
    if (all.length > most)
      throw new AppError(
        'BAD_PARAMS',
        `this model was exported for ${most} points, and the request has ${points.length}`,
        {
          hint: hasBox ? 'a box counts as two points' : 'send fewer clicks',
        },
      )
    while (all.length < most) all.push(none)
  }
  const batch = new Array<number>(coords.dims.length - 2).fill(1)
  return {
    [coords.name]: { dims: [...batch, all.length, 2], data: Float32Array.from(all.flatMap(({ at }) => [...at])) },
    [labels.name]: {
      dims: [...new Array<number>(labels.dims.length - 1).fill(1), all.length],
      data: Float32Array.from(all, ({ label }) => label),
    },
  }
}

/** [.., 4], or two corners as [.., 2, 2]. */
function boxDims({ dims }: TensorSpec): number[] {
  const corners = dims.at(-1) === 2
  const own = corners ? [2, 2] : [4]
  return [...new Array<number>(Math.max(0, dims.length - own.length)).fill(1), ...own]
}

function ones({ dims }: TensorSpec): number[] {
  return dims.map(() => 1)
}
