/** Several networks of one kind as one: the folds of a training, whose outputs are averaged. */
import type { Predictor, TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { addTo, means } from '../inferers/mirror.js'
import { describeSpec } from './check-feeds.js'

/** What has to be equal: free dimensions may have other names. */
function shapeOf(spec: TensorSpec | undefined): string {
  return JSON.stringify([spec?.name, spec?.type, spec?.dims.map((dim) => (typeof dim === 'number' ? dim : null))])
}

/** Throws BAD_MODEL when their tensors differ. Runs one after another; the slowest device is shown. */
export function meanPredictor(predictors: readonly Predictor[]): Predictor {
  const [first, ...others] = predictors
  if (!first || others.length === 0) return first!
  for (const [i, other] of others.entries()) {
    const odd = [...first.inputs, ...first.outputs].find(
      (spec, at) => shapeOf(spec) !== shapeOf([...other.inputs, ...other.outputs][at]),
    )
    if (odd)
      throw new AppError('BAD_MODEL', `networks 1 and ${i + 2} differ in their tensor ${describeSpec(odd)}`, {
        hint: 'only networks of the same inputs and outputs, such as the folds of one training, can be averaged',
      })
  }
  const shown = predictors.find(({ fallbackReason }) => fallbackReason) ?? first
  return {
    inputs: first.inputs,
    outputs: first.outputs,
    device: shown.device,
    fallbackReason: shown.fallbackReason,
    run: async (feeds) => {
      const sums: Parameters<typeof addTo>[0] = new Map()
      for (const { run } of predictors)
        for (const [name, tensor] of Object.entries(await run(feeds))) addTo(sums, name, tensor)
      return means(sums, predictors.length)
    },
    close: async () => {
      await Promise.all(predictors.map((predictor) => predictor.close()))
    },
  }
}
