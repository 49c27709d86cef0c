/**
 * A first config_aiaa.json for an ONNX file that brings none, from what the file says of its tensors. What no tensor tells
 * is filled in with the usual and left as a question with choices.
 */
import type { TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import type { OnnxHeader } from './onnx-header.js'

export interface DraftQuestion {
  /** The key of the config that the answer changes. */
  readonly about: string
  readonly question: string
  /** What the draft says now. */
  readonly drafted: string
  readonly choices: readonly DraftChoice[]
}

export interface DraftChoice {
  readonly answer: string
  /** What to write at `about` instead. */
  readonly write: unknown
}

export interface DraftConfig {
  readonly config: Readonly<Record<string, unknown>>
  readonly questions: readonly DraftQuestion[]
}

const EDGE = 96
const MOST_NAMED = 256

/** Throws BAD_MODEL for a network that takes no image. */
export function draftConfig({ inputs, outputs }: OnnxHeader): DraftConfig {
  const input = inputs.find(({ dims }) => dims.length === 4 || dims.length === 5)
  const output = outputs[0]
  if (!input || !output)
    throw new AppError(
      'BAD_MODEL',
      `the network takes no image: its inputs are ${inputs.map(describe).join(', ') || 'none'}`,
      { hint: 'an image is a tensor [n, channels, height, width] or [n, channels, depth, height, width]' },
    )
  const last = isChannelLast(input)
  const spatial = last ? input.dims.slice(1, -1) : input.dims.slice(2)
  const channels = last ? input.dims.at(-1) : input.dims[1]
  const outputChannels = last && output.dims.length === input.dims.length ? output.dims.at(-1) : output.dims[1]
  const classifies = output.dims.length <= 2 || output.dims.slice(2).every((dim) => dim === 1)
  const questions: DraftQuestion[] = []
  const grid = gridOf(spatial, classifies, questions)
  const answer = answerOf(output, outputChannels, classifies, output.dims.length === input.dims.length, questions)
  const extra = inputs.filter((one) => one !== input)
  if (extra.length > 0)
    questions.push({
      about: 'inference.node_mapping',
      question: `the network also takes ${extra.map(describe).join(', ')}: from which fields?`,
      drafted: 'nothing feeds them, and the model will be refused',
      choices: extra.map(({ name }) => ({ answer: `'${name}' is a second image`, write: { [name]: `image_${name}` } })),
    })
  const config = {
    version: '4',
    type: classifies ? 'classification' : 'segmentation',
    labels: answer.labels,
    description: '',
    pre_transforms: [
      { name: 'LoadImaged', args: { keys: 'image', ensure_channel_first: true } },
      ...(spatial.length === 3 ? geometry(questions) : []),
      ...intensities(channels, spatial.length, questions),
      ...grid.steps,
      ...(last ? [{ name: 'AsChannelLastd', args: { keys: 'image' } }] : []),
    ],
    inference: {
      input: 'image',
      output: 'pred',
      node_mapping: { [input.name]: 'image', [output.name]: 'pred' },
      args: grid.args,
    },
    post_transforms: answer.steps,
    ...(classifies ? {} : { writer: { name: 'Writer', args: { image: 'pred', json: 'result' } } }),
  }
  return { config, questions }
}

export function describe({ name, type, dims }: TensorSpec): string {
  return `'${name}' ${type} [${dims.map((dim) => dim ?? '?').join(', ')}]`
}

/** Colours behind the pixels, as TensorFlow has them: few in the last dimension, and not few in the second. */
function isChannelLast({ dims }: TensorSpec): boolean {
  const few = (dim: unknown) => typeof dim === 'number' && dim <= 4
  return few(dims.at(-1)) && !few(dims[1])
}

/** Axes and voxel sizes are the training's, and no tensor tells them. */
function geometry(questions: DraftQuestion[]): unknown[] {
  questions.push({
    about: 'pre_transforms: Orientationd and Spacingd',
    question: 'in which order of axes and at which voxel size, in mm, was the network trained?',
    drafted: 'RAS, and the voxel size of each image',
    choices: [
      { answer: 'RAS at 1 mm', write: { name: 'Spacingd', args: { keys: 'image', pixdim: [1, 1, 1] } } },
      { answer: 'another order', write: { name: 'Orientationd', args: { keys: 'image', axcodes: 'LPS' } } },
      { answer: 'as the file has it', write: null },
    ],
  })
  return [{ name: 'Orientationd', args: { keys: 'image', axcodes: 'RAS' } }]
}

function intensities(channels: unknown, rank: number, questions: DraftQuestion[]): unknown[] {
  const bytes = {
    name: 'ScaleIntensityRanged',
    args: { keys: 'image', a_min: 0, a_max: 255, b_min: 0, b_max: 1, clip: true },
  }
  const stretch = { name: 'ScaleIntensityd', args: { keys: 'image' } }
  const colour = rank === 2 && channels === 3
  questions.push({
    about: 'pre_transforms: intensities',
    question: 'how were the intensities of the training images scaled?',
    drafted: colour ? 'bytes from 0..255 to 0..1' : 'each image from its least to its greatest value, to 0..1',
    choices: [
      {
        answer: 'a CT window, in Hounsfield units',
        write: {
          name: 'ScaleIntensityRanged',
          args: { keys: 'image', a_min: -175, a_max: 250, b_min: 0, b_max: 1, clip: true },
        },
      },
      { answer: 'z-scores', write: { name: 'NormalizeIntensityd', args: { keys: 'image', channel_wise: true } } },
      {
        answer: 'z-scores of what is not zero',
        write: { name: 'NormalizeIntensityd', args: { keys: 'image', nonzero: true, channel_wise: true } },
      },
      colour ? { answer: 'each image to 0..1', write: stretch } : { answer: 'bytes to 0..1', write: bytes },
      { answer: 'not at all', write: null },
    ],
  })
  if (typeof channels !== 'number')
    questions.push({
      about: 'inference.input',
      question: 'how many channels does the network take?',
      drafted: 'as many as the image has',
      choices: [{ answer: 'one', write: 'image' }],
    })
  return [colour ? bytes : stretch]
}

type Dim = number | string | null

/** How an image meets the network's own size: in windows, resized, or as it is. */
function gridOf(spatial: readonly Dim[], classifies: boolean, questions: DraftQuestion[]) {
  const fixed = spatial.every((dim) => typeof dim === 'number')
  const about = 'inference.args'
  const windows = (roi: readonly unknown[]) => ({ scanning_window: true, roi, overlap: 0.25, mode: 'gaussian' })
  const resize = { name: 'Resized', args: { keys: 'image', spatial_size: spatial, mode: 'bilinear' } }
  if (!fixed) {
    const roi = spatial.map((dim) => (typeof dim === 'number' ? dim : EDGE))
    const whole = spatial.length === 2 || classifies
    questions.push({
      about,
      question: `the network takes images of any size, [${spatial.map((dim) => dim ?? '?').join(', ')}]: how large were those of the training?`,
      drafted: whole ? 'the whole image at once' : `windows of ${roi.join(' x ')}`,
      choices: whole
        ? [{ answer: 'windows of a fixed size', write: windows(roi) }]
        : [
            { answer: 'windows of another size', write: windows(roi.map(() => 128)) },
            { answer: 'the whole image at once', write: {} },
          ],
    })
    return { steps: [], args: whole ? {} : windows(roi) }
  }
  if (classifies) return { steps: [resize], args: {} }
  const resizes = spatial.length === 2
  questions.push({
    about: resizes ? 'pre_transforms: Resized' : about,
    question: `the network takes ${spatial.join(' x ')} voxels: is an image resized to that, or gone over in windows?`,
    drafted: resizes ? 'resized' : 'windows',
    choices: [resizes ? { answer: 'windows', write: windows(spatial) } : { answer: 'resized', write: resize }],
  })
  return resizes ? { steps: [resize], args: {} } : { steps: [], args: windows(spatial) }
}

function named(count: number): string[] {
  return Array.from({ length: Math.min(count, MOST_NAMED) }, (_, i) => `class ${i + 1}`)
}

/** What becomes of the output, told from how many values a voxel has and of which type. */
function answerOf(
  output: TensorSpec,
  channels: Dim | undefined,
  classifies: boolean,
  hasChannels: boolean,
  questions: DraftQuestion[],
) {
  const count = typeof channels === 'number' ? channels : undefined
  const back = { name: 'Invertd', args: { keys: 'pred', orig_keys: 'image', nearest_interp: false } }
  const names = (labels: readonly string[]) =>
    questions.push({
      about: 'labels',
      question: 'what are the classes called?',
      drafted: labels.join(', ') || 'nothing',
      choices: [{ answer: 'their names in the order of their values', write: labels }],
    })
  const activation = (softmax: boolean, drafted: unknown[]) => {
    const name = softmax ? 'softmax' : 'sigmoid'
    const step = { name: 'Activationsd', args: { keys: 'pred', [name]: true } }
    questions.push({
      about: 'post_transforms: Activationsd',
      question: `does the network end in a ${name} of its own?`,
      drafted: drafted.length > 0 ? 'no' : 'yes',
      choices: [
        { answer: 'yes', write: null },
        { answer: 'no', write: step },
      ],
    })
    return step
  }
  if (classifies) {
    const labels = named(count ?? 2)
    names(labels)
    const softmax = count !== 1
    return { labels, steps: [activation(softmax, [softmax])] }
  }
  const whole = !/float/.test(output.type)
  if (whole || !hasChannels) {
    names([])
    return { labels: [], steps: [back] }
  }
  if (count === 1) {
    names(named(1))
    const step = activation(false, [true])
    return { labels: named(1), steps: [step, back, { name: 'AsDiscreted', args: { keys: 'pred', threshold: 0.5 } }] }
  }
  const labels = named((count ?? 2) - 1)
  names(labels)
  questions.push({
    about: 'post_transforms: AsDiscreted',
    question: `${describe(output)} has ${count ?? 'several'} values a voxel: one class a voxel, the first of them the background, or classes that overlap?`,
    drafted: 'one class a voxel (argmax)',
    choices: [
      {
        answer: 'overlapping classes, from the smallest structure, which lies on top, to the largest',
        write: [
          { name: 'Activationsd', args: { keys: 'pred', sigmoid: true } },
          back,
          { name: 'AsDiscreted', args: { keys: 'pred', threshold: 0.5 } },
          {
            name: 'MergeChannelsd',
            args: {
              keys: 'pred',
              channels: named(count ?? 2).map((_, i) => i),
              values: named(count ?? 2).map((_, i) => i + 1),
            },
          },
        ],
      },
    ],
  })
  return { labels, steps: [back, { name: 'AsDiscreted', args: { keys: 'pred', argmax: true } }] }
}
