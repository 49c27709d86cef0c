/** An image smaller than the window, continued beyond its edges in the ways of torch's `pad`. */
import { AppError } from '../errors.js'
import { askBeside } from '../transforms/new-grid.js'
import { withOwnValues } from '../transforms/value-table.js'
import { type AxisMap, gather } from '../volume/resample.js'
import type { Layout } from './layout.js'
import type { WindowPlan } from './windows.js'

export type Padding = 'constant' | 'replicate' | 'reflect' | 'circular'

/**
 * The layouts over images as large as `plan.padded`; undefined where nothing need be made, since windows are filled with
 * zeros beyond the image anyway. Throws BAD_PARAMS where the image is too small to be continued that way, as torch does.
 */
export function padLayouts(
  layouts: readonly Layout[],
  { padded, before }: WindowPlan,
  { padding = 'constant', fill = 0 }: { readonly padding?: Padding | undefined; readonly fill?: number | undefined },
): Layout[] | undefined {
  const grows = layouts[0]!.extent.some((n, i) => padded[i]! > n)
  if (!grows || (padding === 'constant' && fill === 0)) return undefined
  const [p0, p1, p2] = padded
  return layouts.map((layout) => {
    const { order, extent } = layout
    const field = withOwnValues(layout.field)
    askBeside(field, 4 * (field.volume.data.length + p0 * p1 * p2 * layout.channels), 'the padded image')
    const index: Int32Array[] = []
    order.forEach((axis, i) => {
      index[axis] = paddedIndex(extent[i]!, padded[i]!, before[i]!, padding)
    })
    const map: AxisMap = { from: [0, 1, 2], index: index as unknown as AxisMap['index'] }
    const volume = gather(field.volume, map, field.volume.affine, fill)
    return { ...layout, field: { ...field, volume }, extent: padded }
  })
}

/** Which voxel of an axis of `length` each of `padded` voxels shows; -1 is the fill. */
function paddedIndex(length: number, padded: number, before: number, padding: Padding): Int32Array {
  const after = padded - length - before
  const most = { constant: Infinity, replicate: Infinity, reflect: length - 1, circular: length }[padding]
  if (Math.max(before, after) > most)
    throw new AppError(
      'BAD_PARAMS',
      `the image has ${length} voxels along an axis of a window of ${padded}: too few for padding_mode ${padding}`,
      { hint: 'send an image of more than half the window, or set padding_mode to constant or replicate' },
    )
  return Int32Array.from({ length: padded }, (_, i) => {
    const at = i - before
    if (at >= 0 && at < length) return at
    if (padding === 'constant') return -1
    if (padding === 'replicate') return at < 0 ? 0 : length - 1
    if (padding === 'circular') return (at + length) % length
    return at < 0 ? -at : 2 * (length - 1) - at
  })
}
