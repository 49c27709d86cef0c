import { z } from 'zod'
import { fieldArgs, integers } from '../args.js'
import { eachImage } from '../fields.js'
import type { TransformDefinition } from '../types.js'

const args = fieldArgs({
  transpose_forward: integers.pipe(
    z
      .array(z.int().min(0).max(2))
      .length(3)
      .refine((axes) => new Set(axes).size === 3, 'must name each of 0, 1 and 2 once'),
  ),
})

/**
 * The array as nnU-Net has it: channels, then the file's axes z, y, x in the order of `transpose_forward` (plans.json). A
 * picture is a volume of one slice.
 */
export const nnunetAxes: TransformDefinition<typeof args> = {
  names: ['NnUNetTransposed'],
  args,
  traits: () => ({ axesOnly: true }),
  create: (a) => {
    const axes = `C${a.transpose_forward.map((axis) => 'ZYX'[axis]).join('')}`
    return eachImage(a, (field) => ({ ...field, axes }))
  },
}
