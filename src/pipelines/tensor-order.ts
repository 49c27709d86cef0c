import type { BuiltTransform } from '../transforms/catalog.js'
import { requireImage, withImage } from '../transforms/fields.js'
import { movesTo, orientation, wantedOrientation } from '../transforms/orientation.js'
import { inTensorOrder, isPerpendicular } from '../transforms/tensor-order.js'
import type { Item } from '../transforms/types.js'
import type { Orientation } from '../volume/orientation.js'

/**
 * The pre-transforms of a 3-D network with the voxels laid out in the tensor's order as soon as the axes are settled: in
 * one step with the first Orientationd when it comes next for all images, else in a step of its own. Sheared images stay
 * as they are, since MONAI's Spacingd depends on the order of their axes.
 */
export function inTensorOrderEarly(pre: readonly BuiltTransform[]): BuiltTransform[] {
  const at = pre.findIndex(({ traits }) => !traits.axesOnly)
  const next = at < 0 ? undefined : pre[at]
  const before = at < 0 ? pre : pre.slice(0, at)
  const after = at < 0 ? [] : pre.slice(at)
  if (next?.definition === orientation) {
    const want = wantedOrientation(next.args as Parameters<typeof wantedOrientation>[0])
    const apply = (item: Item): Item | Promise<Item> =>
      canMove(item, next.keys) ? layOut(item, next.name, want) : next.apply(item)
    return [...before, { ...next, apply }, ...after.slice(1)]
  }
  const step: BuiltTransform = {
    name: 'tensor order',
    definition: orientation,
    args: {},
    keys: [],
    traits: {},
    apply: (item) => (canMove(item, [...item.images.keys()]) ? layOut(item, 'tensor order') : item),
  }
  return [...before, step, ...after]
}

/** Without a channel axis, a first axis Z would be taken for one by the transforms that follow. */
function canMove(item: Item, keys: readonly string[]): boolean {
  return [...item.images].every(
    ([key, field]) => keys.includes(key) && field.axes.includes('C') && isPerpendicular(field),
  )
}

function layOut(item: Item, name: string, want?: Orientation): Item {
  return [...item.images.keys()].reduce((current, key) => {
    const field = requireImage(current, key)
    return withImage(current, key, inTensorOrder(field, name, want && movesTo(field, want)))
  }, item)
}
