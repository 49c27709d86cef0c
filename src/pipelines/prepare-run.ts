/**
 * Getting ready for the first click: a model of two parts is asked once, with a click in the middle of the slice that will be
 * clicked, and its answer is thrown away. What stays is what every click on that slice shares, the encoding among it.
 */
import type { JobControl } from '../contract/job.js'
import { AppError } from '../errors.js'
import { BOX_VALUE } from '../transforms/box-prompt.js'
import type { Item } from '../transforms/types.js'
import type { Vec3 } from '../volume/volume.js'
import { applyAll, applyNetwork, type ModelPlan } from './model-run.js'

/** The slice that is to be ready: the one that was asked for, else the middle one. Throws BAD_PARAMS for one that is not there. */
export function sliceToPrepare(asked: number | undefined, [, , slices]: Vec3): number {
  const slice = asked ?? Math.floor(slices / 2)
  if (Number.isInteger(slice) && slice >= 0 && slice < slices) return slice
  throw new AppError('BAD_PARAMS', `'slice' is ${slice}, and the image has slices 0 to ${slices - 1}`)
}

/** Whether there is more to get ready than the image itself: only an encoder's work outlives a click. */
export function runsAhead({ model }: ModelPlan): boolean {
  return model.parts !== undefined && model.ref.config.type === 'deepgrow'
}

/** Asks the model about the middle of `slice`; `item` has come through the first `from` pre-transforms. */
export async function runAhead(
  plan: ModelPlan,
  item: Item,
  from: number,
  size: Vec3,
  slice: number,
  control: JobControl,
): Promise<void> {
  const middle: Vec3 = [size[0] >> 1, size[1] >> 1, slice]
  const values = new Map<string, unknown>([...item.values, ['foreground', [middle]], ['background', []]])
  if (plan.prompted && !plan.prompted.prompts.includes('points'))
    values.set(BOX_VALUE, { first: [0, 0, slice], last: [size[0], size[1], slice] })
  // nobody has asked for this mask, so no click goes on from it
  const parts = plan.model.parts && { ...plan.model.parts, session: undefined }
  const clicked = await applyAll(plan.pre.slice(from), { ...item, values }, control, 'pre')
  await applyNetwork({ ...plan, model: { ...plan.model, parts } }, clicked, control)
}
