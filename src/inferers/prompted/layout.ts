/**
 * How a pair of networks of the SAM family is fed, told by the names and shapes of its tensors, by what the config states,
 * and by what is usual for its kind. Exporters of these models agree on little more than their meaning.
 *
 * Sources: the ONNX exports of segment-anything (facebookresearch), MobileSAM (ChaoningZhang), EfficientSAM (yformer), MedSAM
 * and LiteMedSAM (bowang-lab), samexporter (vietanhdev) for SAM 2, and each one's own pre- and post-processing.
 */
import type { Layout, Parts } from '../../contract/model.js'
import type { TensorSpec } from '../../contract/tensor.js'
import { AppError } from '../../errors.js'
import type { Network } from '../two-parts.js'

/** What each of the decoder's inputs is; those that are none of these come from the encoder. */
export interface PromptInputs {
  readonly coords?: TensorSpec | undefined
  readonly labels?: TensorSpec | undefined
  readonly box?: TensorSpec | undefined
  readonly mask?: TensorSpec | undefined
  readonly hasMask?: TensorSpec | undefined
  /** Height and width of the slice. */
  readonly size?: TensorSpec | undefined
}

export interface PromptOutputs {
  readonly masks?: TensorSpec | undefined
  /** The masks before they were enlarged: what a further click is fed with, and what we enlarge ourselves. */
  readonly lowMasks?: TensorSpec | undefined
  readonly scores?: TensorSpec | undefined
}

/** The encoder's picture. */
export interface PictureInput {
  readonly spec: TensorSpec
  readonly order: 'NCHW' | 'NHWC' | 'CHW' | 'HWC'
  readonly channels: 1 | 3
  /** [height, width]; undefined where the network takes any. */
  readonly fixed: readonly [number, number] | undefined
}

export interface Prompted {
  readonly layout: Exclude<Layout, 'plain'>
  readonly picture: PictureInput
  readonly inputs: PromptInputs
  readonly outputs: PromptOutputs
  /** What the slice is resized into, [height, width]. */
  readonly size: readonly [number, number]
  readonly resize: 'longest' | 'stretch' | 'none'
  /** How pixels are blended: PIL's (and torchvision's) triangle, OpenCV's area, or scipy's cubic spline where it grows. */
  readonly filter: 'triangle' | 'area' | 'cubic'
  /** Whether resized pixels are whole numbers again. */
  readonly rounds: boolean
  /** Whether what the resized slice leaves of `size` is filled with zeros; not where the graph does that. */
  readonly pads: boolean
  readonly pixels: 'imagenet' | 'minmax' | 'unit' | 'bytes'
  readonly prompts: readonly ('points' | 'box')[]
  /** Points lie in the slice's own pixels, and the graph scales them. */
  readonly ownPixels: boolean
  /** A point of label -1 follows the points where there is no box. */
  readonly endsWithPadding: boolean
  /** A box is cut to whole pixels of the resized picture. */
  readonly wholeBox: boolean
  /** Masks are enlarged as probabilities, not as logits. */
  readonly probabilities: boolean
  readonly window: Parts['window']
  readonly previousMask: boolean
  readonly threshold: number
}

type Usual = Pick<
  Prompted,
  'resize' | 'filter' | 'rounds' | 'pixels' | 'prompts' | 'endsWithPadding' | 'wholeBox' | 'probabilities'
> & { readonly edge: number }

const SAM: Usual = {
  edge: 1024,
  resize: 'longest',
  filter: 'triangle',
  rounds: true,
  pixels: 'imagenet',
  prompts: ['points', 'box'],
  endsWithPadding: true,
  wholeBox: false,
  probabilities: false,
}
const USUAL: Readonly<Record<Prompted['layout'], Usual>> = {
  sam: SAM,
  mobile_sam: SAM,
  efficient_sam: { ...SAM, resize: 'none', pixels: 'unit', endsWithPadding: false },
  medsam: { ...SAM, resize: 'stretch', filter: 'cubic', pixels: 'minmax', prompts: ['box'], probabilities: true },
  lite_medsam: { ...SAM, edge: 256, filter: 'area', pixels: 'minmax', prompts: ['box'], wholeBox: true },
  sam2: { ...SAM, resize: 'stretch', rounds: false, endsWithPadding: false },
}

/** What the decoder's inputs are by name. */
export function promptInputs({ inputs }: Pick<Network, 'inputs'>): { roles: PromptInputs; readers: TensorSpec[] } {
  const named = (pattern: RegExp, ok: (spec: TensorSpec) => boolean = () => true) =>
    inputs.find((spec) => pattern.test(spec.name) && ok(spec))
  const hasMask = named(/^has_|has_mask/i)
  const roles: PromptInputs = {
    coords: named(/point_?coord|^(input_)?points?$|^coords?$/i),
    labels: named(/label/i),
    box: named(/box/i),
    mask: named(/mask/i, (spec) => spec !== hasMask && spec.dims.length >= 3),
    hasMask,
    size: named(/(orig|im|image|frame|input)_?(im_|image_)?size|^original_size$/i),
  }
  const known = new Set(Object.values(roles))
  return { roles, readers: inputs.filter((spec) => !known.has(spec)) }
}

/** Whether a pair takes prompts: by its layout, else by its tensors, unless the config feeds those with fields. */
export function takesPrompts(
  decoder: Pick<Network, 'inputs'>,
  { layout }: Parts,
  mapped: Readonly<Record<string, string>>,
): boolean {
  if (layout !== undefined) return layout !== 'plain'
  const { coords, labels, box } = promptInputs(decoder).roles
  const told = [coords, labels, box].filter((spec) => spec !== undefined)
  return (
    ((coords && labels) || box) !== undefined && !told.some(({ name }) => Object.entries(mapped).flat().includes(name))
  )
}

/** Reads the layout of a pair that takes prompts. Throws BAD_MODEL naming the tensor that is missing or cannot be fed. */
export function readLayout(
  encoder: Pick<Network, 'inputs'>,
  decoder: Pick<Network, 'inputs' | 'outputs'>,
  parts: Parts,
  scales: 'bytes' | 'unit' | undefined,
): Prompted {
  const { roles: inputs } = promptInputs(decoder)
  const picture = pictureInput(encoder)
  if (!(inputs.coords && inputs.labels) && !inputs.box)
    throw new AppError(
      'BAD_MODEL',
      `the decoder takes no prompts: it needs the inputs point_coords and point_labels, or boxes, and has ${names(decoder.inputs)}`,
      { hint: 'export the prompt encoder and the mask decoder together' },
    )
  const outputs = promptOutputs(decoder)
  const layout = parts.layout && parts.layout !== 'plain' ? parts.layout : guess(picture, inputs, decoder.inputs)
  const { edge, ...usual } = USUAL[layout]
  const resize = parts.resize ?? (usual.resize === 'none' && picture.fixed ? 'stretch' : usual.resize)
  const stated = parts.size as readonly [number, number] | undefined
  if (picture.fixed && stated && picture.fixed.join() !== stated.join())
    throw new AppError(
      'BAD_MODEL',
      `inference.parts.size is ${stated.join(' x ')}, and the encoder's input '${picture.spec.name}' is ${picture.fixed.join(' x ')}`,
      { hint: 'leave size out: the encoder has one of its own' },
    )
  if (picture.fixed && resize === 'none')
    throw new AppError(
      'BAD_MODEL',
      `inference.parts.resize is 'none', and the encoder's input '${picture.spec.name}' is fixed to ${picture.fixed.join(' x ')}`,
    )
  const prompts = parts.prompts ?? (inputs.coords ? usual.prompts : (['box'] as const))
  if (prompts.includes('points') && !(inputs.coords && inputs.labels))
    throw new AppError(
      'BAD_MODEL',
      `inference.parts.prompts has 'points', and the decoder has ${names(decoder.inputs)}`,
    )
  return {
    ...usual,
    layout,
    picture,
    inputs,
    outputs,
    size: picture.fixed ?? stated ?? [edge, edge],
    resize,
    // an unbatched picture of any size is padded by the graph that was made for it
    pads: picture.fixed !== undefined || picture.order.startsWith('N'),
    pixels: parts.pixels ?? scales ?? (picture.order.length === 3 ? 'bytes' : usual.pixels),
    prompts,
    ownPixels: inputs.size !== undefined && inputs.coords?.dims.length === 4,
    window: parts.window,
    previousMask: parts.previousMask && inputs.mask !== undefined && inputs.hasMask !== undefined,
    threshold: parts.maskThreshold,
  }
}

function guess(
  { fixed, spec }: PictureInput,
  { coords, box }: PromptInputs,
  decoderInputs: readonly TensorSpec[],
): Prompted['layout'] {
  if (coords?.dims.length === 4 || /^batched_/.test(spec.name)) return 'efficient_sam'
  if (decoderInputs.some(({ name }) => /high_res/i.test(name))) return 'sam2'
  if (fixed?.[0] === 256) return 'lite_medsam'
  return !coords && box ? 'medsam' : 'sam'
}

function pictureInput({ inputs }: Pick<Network, 'inputs'>): PictureInput {
  const [spec, ...more] = inputs
  if (!spec || more.length > 0)
    throw new AppError('BAD_MODEL', `the encoder takes one picture, and this one has the inputs ${names(inputs)}`)
  const { dims } = spec
  const isColour = (axis: number) => dims[axis] === 3 || dims[axis] === 1
  const order =
    dims.length === 4
      ? isColour(3) && !isColour(1)
        ? 'NHWC'
        : 'NCHW'
      : dims.length === 3
        ? isColour(0) && !isColour(2)
          ? 'CHW'
          : 'HWC'
        : undefined
  const channels = order === undefined ? undefined : (dims[order.indexOf('C')] ?? 3)
  if (order === undefined || (typeof channels === 'number' && channels !== 3 && channels !== 1))
    throw new AppError(
      'BAD_MODEL',
      `the encoder's input ${names([spec])} is no picture: it has to be [n,3,height,width], or the same with its channels last`,
    )
  const [height, width] = [dims[order.indexOf('H')], dims[order.indexOf('W')]]
  const fixed = typeof height === 'number' && typeof width === 'number' ? ([height, width] as const) : undefined
  return { spec, order, channels: channels === 1 ? 1 : 3, fixed }
}

function promptOutputs({ outputs }: Pick<Network, 'outputs'>): PromptOutputs {
  const scores = outputs.find(({ name, dims }) => /iou|score/i.test(name) && dims.length <= 3)
  const maps = outputs.filter((spec) => spec !== scores && spec.dims.length >= 3 && !/stability|area/i.test(spec.name))
  const lowMasks = maps.find(({ name }) => /low_?res/i.test(name))
  const masks =
    maps.find((spec) => spec !== lowMasks && /mask/i.test(spec.name)) ?? maps.find((spec) => spec !== lowMasks)
  if (masks || lowMasks) return { masks, lowMasks, scores }
  throw new AppError('BAD_MODEL', `the decoder gives no masks: its outputs are ${names(outputs)}`, {
    hint: 'one output has to be [n, masks, height, width], as masks or low_res_masks',
  })
}

function names(specs: readonly TensorSpec[]): string {
  return (
    specs.map(({ name, type, dims }) => `'${name}' ${type} [${dims.map((n) => n ?? '?').join(',')}]`).join(', ') ||
    'none'
  )
}
