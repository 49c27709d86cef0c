/** What a model takes for an image, read from its network's input and its transforms before any voxel is read. */
import type { BuiltTransform } from '../transforms/catalog.js'
import { concatItems } from '../transforms/channels.js'
import type { ModelPlan } from './model-run.js'

export interface ImageNeeds {
  /**
   * How an image of one slice looks to the transforms: `flat`, two axes, to a network for pictures; `slices`, a volume whose
   * last axis is across the slice, to one that takes its slice out of a volume; `volume`, as it lies in the file.
   */
  readonly view: 'flat' | 'slices' | 'volume'
  /** Channels of one image as it is read; absent: the config does not tell, or the network takes any number. */
  readonly channels?: number | undefined
}

/** What `plan` wants of the image that is loaded as `field`, one of `files` that become its channels. */
export function imageNeeds({ pre, mapping, model }: ModelPlan, field: string, files = 1): ImageNeeds {
  const pictures = mapping.inputs.every(({ spec }) => spec.dims.length === 4)
  const view = pre.some(({ traits }) => traits.slices) ? 'slices' : pictures ? 'flat' : 'volume'
  const { imageFormat } = model.ref.config.inference
  const last = imageFormat !== undefined && /.C$/i.test(imageFormat)
  const fixed = (input: string): number | undefined => {
    const spec = mapping.inputs.find((one) => one.field === input)?.spec
    const channels = last ? spec?.dims.at(-1) : spec?.dims[1]
    return typeof channels === 'number' ? channels : undefined
  }
  const joined = pre.find(({ definition, keys }) => definition === concatItems && keys.includes(field))
  if (joined) {
    const all = fixed((joined.args as { name: string }).name)
    return { view, channels: all === joined.keys.length ? 1 : undefined }
  }
  const steps = pre.filter(({ keys }) => keys.length === 0 || keys.includes(field))
  const all =
    steps.find(({ traits }) => traits.usesChannels !== undefined)?.traits.usesChannels ?? before(fixed(field), steps)
  return { view, channels: all === undefined || all % files !== 0 ? undefined : all / files }
}

/** The channels before `steps` of an image that has `after` of them at the end. */
function before(after: number | undefined, steps: readonly BuiltTransform[]): number | undefined {
  let channels = after
  for (const { traits } of steps) {
    if (traits.channels === 'other' || channels === undefined) return undefined
    channels -= traits.channels ?? 0
  }
  return channels !== undefined && channels > 0 ? channels : undefined
}
