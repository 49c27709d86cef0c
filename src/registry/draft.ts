/** What would be made of an upload, before anything is loaded: its config, line by line, and what remains to be answered. */
import type { ModelConfig } from '../contract/model.js'
import { AppError } from '../errors.js'
import { buildTransforms } from '../pipelines/model-run.js'
import { parseModelConfig } from '../pipelines/parse-model-config.js'
import { placedInFirst } from '../pipelines/several-networks.js'
import { type DraftQuestion, describe, draftConfig } from './draft-config.js'
import { readHead, refuseForeignFile } from './foreign-weights.js'
import { embeddedConfig, type IntakeLimits, isZip, takeInFiles } from './intake.js'
import { readOnnxHeader } from './onnx-header.js'
import type { ModelFiles } from './registry.js'

export interface Draft {
  /** A whole config_aiaa.json: it loads as it is, or after the questions are answered. */
  readonly config: unknown
  /** What was understood, a line each. */
  readonly understood: readonly string[]
  /** What no file told: the draft has the usual there. */
  readonly questions: readonly DraftQuestion[]
}

/**
 * Looks at files as a PUT would, without loading it. `workFolder` does not exist yet; an archive is unpacked there. Throws what
 * the PUT would throw, but for an ONNX file without a config, which gets one.
 */
export async function draftOf(
  files: ModelFiles,
  workFolder: string,
  limits: IntakeLimits,
  signal?: AbortSignal,
): Promise<Draft> {
  const { config, data } = files
  if (data === undefined || isZip(await readHead(data))) {
    const intake = await takeInFiles(files, workFolder, limits, signal)
    const networks = await Promise.all(intake.networks.map(({ path }) => readOnnxHeader(path)))
    const tensors = networks.slice(0, 1).flatMap(tensorLines)
    return { config: intake.config, understood: [...tensors, ...linesOf(intake.config)], questions: [] }
  }
  await refuseForeignFile(data)
  const header = await readOnnxHeader(data)
  const own = config ?? embeddedConfig(header)
  if (own !== undefined) {
    const said = config === undefined ? ['config: the one that the ONNX file has in its metadata_props'] : []
    return { config: own, understood: [...said, ...tensorLines(header), ...linesOf(own)], questions: [] }
  }
  const draft = draftConfig(header)
  return { ...draft, understood: [...tensorLines(header), ...linesOf(draft.config)] }
}

function tensorLines({ inputs, outputs }: Awaited<ReturnType<typeof readOnnxHeader>>): string[] {
  return [...inputs.map((spec) => `input: ${describe(spec)}`), ...outputs.map((spec) => `output: ${describe(spec)}`)]
}

/** The config as it is understood. Throws BAD_MODEL_CONFIG for what a PUT would refuse. */
function linesOf(raw: unknown): string[] {
  const config = parseModelConfig(raw, 'draft')
  buildTransforms(config)
  if (config.first) buildFirst(config.first.config)
  const notes = Array.isArray(config.info.notes) ? config.info.notes.map((note) => `note: ${String(note)}`) : []
  return [
    `type: ${config.type}`,
    `labels: ${config.labels.map((label, i) => `${config.type === 'classification' ? i : i + 1} ${label}`).join(', ') || 'none named'}`,
    ...(config.first ? firstLines(config.first) : []),
    ...stepLines(config),
    ...notes,
  ]
}

function buildFirst(first: NonNullable<ModelConfig['first']>['config']): void {
  try {
    buildTransforms(first)
  } catch (error) {
    throw placedInFirst(error)
  }
}

/** What is done with an image, from its file to the result. */
function stepLines(config: Pick<ModelConfig, 'preTransforms' | 'postTransforms' | 'inference' | 'writer'>): string[] {
  const { inference } = config
  const step = (word: string) => (spec: { name: string; args: unknown }) =>
    `${word}: ${spec.name} ${JSON.stringify(spec.args)}`
  const window = inference.scanningWindow
  return [
    ...config.preTransforms.map(step('before')),
    ...networkLines(inference),
    window ? `run: windows ${JSON.stringify(window)}` : 'run: the whole image at once',
    ...(inference.mirror
      ? [`mirroring: along the axes ${inference.mirror.axes.join(', ')}, ${mirrorWord(inference.mirror.on)}`]
      : []),
    ...config.postTransforms.map(step('after')),
    ...(config.writer ? [step('result')(config.writer)] : []),
  ]
}

function firstLines({ config, field, cropMargin }: NonNullable<ModelConfig['first']>): string[] {
  const then =
    cropMargin === undefined
      ? `its label map is the field '${field}'`
      : `the image is cut to what it finds and ${cropMargin} mm around`
  return [...stepLines(config).map((line) => `first model: ${line}`), `first model: ${then}`]
}

function networkLines({ networks, join }: ModelConfig['inference']): string[] {
  if (!networks) return []
  if (join?.kind === 'labelMaps')
    return networks.map((name, i) => {
      const pairs = Object.entries(join.maps[i]!).map(([own, final]) => `${own} as ${final}`)
      return `network ${i + 1} of ${networks.length}: ${name}, labels ${pairs.join(', ')}${i > 0 ? ', over those before' : ''}`
    })
  const list = `networks: ${networks.join(', ')}`
  if (networks.length === 1) return [list]
  if (join?.kind === 'vote') return [`${list}; the label with most votes`]
  const weights = join?.weights ? `, with the weights ${JSON.stringify(join.weights)}` : ''
  return [`${list}; the mean of their ${join?.of ?? 'scores'}${weights}`]
}

function mirrorWord(on: boolean | undefined): string {
  if (on === undefined) return 'on a GPU, or where a request asks for it'
  return on ? 'always' : 'where a request asks for it'
}

/** A draft is of files; what a catalogue or a generation has is known. */
export function draftNeedsFiles(): AppError {
  return new AppError('BAD_REQUEST', 'draft looks at an upload, and none was sent', {
    hint: 'send the part data: an ONNX file, or a zip of an MMAR, a MONAI bundle or nnU-Net v2, or the files of several networks',
  })
}
