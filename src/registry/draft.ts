/** What would be made of an upload, before anything is loaded: its config, line by line, and what remains to be answered. */
import { AppError } from '../errors.js'
import { buildTransforms } from '../pipelines/model-run.js'
import { parseModelConfig } from '../pipelines/parse-model-config.js'
import { type DraftQuestion, describe, draftConfig } from './draft-config.js'
import { readHead, refuseForeignFile } from './foreign-weights.js'
import { embeddedConfig, type IntakeLimits, isZip, takeIn } from './intake.js'
import { readOnnxHeader } from './onnx-header.js'

export interface Draft {
  /** A whole config_aiaa.json: it loads as it is, or after the questions are answered. */
  readonly config: unknown
  /** What was understood, a line each. */
  readonly understood: readonly string[]
  /** What no file told: the draft has the usual there. */
  readonly questions: readonly DraftQuestion[]
}

/**
 * Looks at `data` as a PUT would, without loading it. `workFolder` does not exist yet; an archive is unpacked there. Throws what
 * the PUT would throw, but for an ONNX file without a config, which gets one.
 */
export async function draftOf(
  config: unknown,
  data: string,
  workFolder: string,
  limits: IntakeLimits,
  signal?: AbortSignal,
): Promise<Draft> {
  if (isZip(await readHead(data))) {
    const intake = await takeIn(config, data, workFolder, limits, signal)
    const networks = await Promise.all(intake.networks.map(({ path }) => readOnnxHeader(path)))
    const tensors = networks.slice(0, 1).flatMap(tensorLines)
    return {
      config: intake.config,
      understood: [...tensors, ...linesOf(intake.config, networks.length)],
      questions: [],
    }
  }
  await refuseForeignFile(data)
  const header = await readOnnxHeader(data)
  const own = config ?? embeddedConfig(header)
  if (own !== undefined) {
    const said = config === undefined ? ['config: the one that the ONNX file has in its metadata_props'] : []
    return { config: own, understood: [...said, ...tensorLines(header), ...linesOf(own, 1)], questions: [] }
  }
  const draft = draftConfig(header)
  return { ...draft, understood: [...tensorLines(header), ...linesOf(draft.config, 1)] }
}

function tensorLines({ inputs, outputs }: Awaited<ReturnType<typeof readOnnxHeader>>): string[] {
  return [...inputs.map((spec) => `input: ${describe(spec)}`), ...outputs.map((spec) => `output: ${describe(spec)}`)]
}

/** The config as it is understood. Throws BAD_MODEL_CONFIG for what a PUT would refuse. */
function linesOf(raw: unknown, networks: number): string[] {
  const config = parseModelConfig(raw, 'draft')
  buildTransforms(config)
  const { inference } = config
  const step = (word: string) => (spec: { name: string; args: unknown }) =>
    `${word}: ${spec.name} ${JSON.stringify(spec.args)}`
  const window = inference.scanningWindow
  const notes = Array.isArray(config.info.notes) ? config.info.notes.map((note) => `note: ${String(note)}`) : []
  return [
    `type: ${config.type}`,
    `labels: ${config.labels.map((label, i) => `${config.type === 'classification' ? i : i + 1} ${label}`).join(', ') || 'none named'}`,
    ...(networks > 1 ? [`networks: ${networks}, whose outputs are averaged`] : []),
    ...config.preTransforms.map(step('before')),
    window ? `run: windows ${JSON.stringify(window)}` : 'run: the whole image at once',
    ...(inference.mirror
      ? [`mirroring: along the axes ${inference.mirror.axes.join(', ')}, ${mirrorWord(inference.mirror.on)}`]
      : []),
    ...config.postTransforms.map(step('after')),
    ...(config.writer ? [step('result')(config.writer)] : []),
    ...notes,
  ]
}

function mirrorWord(on: boolean | undefined): string {
  if (on === undefined) return 'on a GPU, or where a request asks for it'
  return on ? 'always' : 'where a request asks for it'
}

/** A draft is of files; what a catalogue or a generation has is known. */
export function draftNeedsFiles(): AppError {
  return new AppError('BAD_REQUEST', 'draft looks at an upload, and none was sent', {
    hint: 'send the part data: an ONNX file, or a zip of an MMAR, a MONAI bundle or nnU-Net v2',
  })
}
