/** What a config says that its network's output holds: labels that need nothing more, or scores. */

import type { ModelConfig } from '../contract/model.js'
import type { BuiltTransform } from '../transforms/catalog.js'

/** Their answer is a label map by the protocol; models of type `others` may give an image. */
const LABELLING: readonly string[] = ['segmentation', 'annotation', 'deepgrow']
const WHOLE_DTYPE = /^u?int(8|16|32|64)$/

/**
 * Reads the post-transforms of `field` in order: the first that takes scores (an activation, an argmax, a threshold) or
 * label maps (components, a cast to whole numbers) decides. Without any, the writer of a segmentation, annotation or
 * deepgrow model decides when its `dtype` is of whole numbers. Undefined: the config says nothing.
 */
export function outputContent(
  { type, writer }: Pick<ModelConfig, 'type' | 'writer'>,
  post: readonly BuiltTransform[],
  field: string,
): 'labels' | 'scores' | undefined {
  for (const { keys, traits } of post) {
    if (!keys.includes(field)) continue
    if (traits.takes === 'labels' || traits.takes === 'scores') return traits.takes
    if (traits.takes !== 'either' && !traits.axesOnly && !traits.identity) return undefined
  }
  const { dtype, dtypes } = (writer?.args ?? {}) as { dtype?: unknown; dtypes?: unknown }
  const written = [dtype, dtypes].flat().find((value) => typeof value === 'string')
  return LABELLING.includes(type) && WHOLE_DTYPE.test(String(written)) ? 'labels' : undefined
}
