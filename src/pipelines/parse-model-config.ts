/**
 * config_aiaa.json of versions 2, 3 and 4 (which calls itself 1), in all their spellings, to one ModelConfig.
 *
 * v2 keeps `scanning_window`, `roi` and `batch_size` flat in `inference` and names tensors under `tf` or `trtis`; v3 has
 * `name`, `args` and `node_mapping`; v4 has `input`, `output` and the engine blocks `AIAA` and `TRITON`. The record that
 * a version 2 server dumps (one model under its name, with `inference_*` echoes) is read too. What is not known is
 * refused, naming the key path and the nearest known key, because a key that is silently ignored is a wrong mask later.
 */
import { z } from 'zod'
import { DtypeName } from '../contract/files.js'
import type { ModelConfig, ModelType, Parts, ScanningWindow, TransformSpec } from '../contract/model.js'
import { AppError } from '../errors.js'
import {
  ConfigFile,
  INFORMATION,
  type Inference,
  InferenceArgs,
  type PipelineModels,
  Shape,
  type Transform,
  WriterArgs,
  windowKeys,
} from './model-config-schema.js'
import { checkNetworkNames, firstOf, joinOf, taskOf } from './several-networks.js'

/** A config is a page of JSON; these bounds keep a hostile one from costing more than a page. */
export const CONFIG_LIMITS = { depth: 32, nodes: 20_000, text: 64 * 1024 } as const

const HELP = 'the keys of a config are listed in docs/models.md'
/** What a version 2 server adds to a dumped record: echoes of the inference section, flattened. */
const ECHO =
  /^inference_(batch_size|channel_first|image|image_format|padding|roi|scanning_window|name|args|node_mapping|tf|trtis)(_[a-z_]+)?$/
const DEFAULT_OVERLAP = 0.25

/**
 * Reads a model config. `json` is the decoded file; `name` is the model's name, for the messages.
 * Throws BAD_MODEL_CONFIG, naming the key path, what was found and what would be right.
 */
export function parseModelConfig(json: unknown, name: string): ModelConfig {
  checkBounds(json)
  const { record, comments } = splitComments(withoutEchoes(unwrap(json, name)))
  const parsed = ConfigFile.safeParse(record)
  if (!parsed.success) throw refusal(parsed.error)
  const config = parsed.data
  const { triton: block = config.trtis } = config
  const section =
    config.inference === undefined || block === undefined ? config.inference : { triton: block, ...config.inference }
  if (section === undefined && config.type !== 'pipeline') fail('inference', 'is missing; it says how the model is run')
  const inference = section ?? {}
  const type = taskOf(config.type, inference)
  const settings = inferenceArgs(inference)
  checkAgreement(config, inference, settings)
  checkFed(inference)
  const written = writerOf(config.writer)
  const notes = [...written.notes, ...idleWindowKeys(settings)]
  const info = {
    ...comments,
    ...Object.fromEntries(INFORMATION.flatMap((key) => (config[key] === undefined ? [] : [[key, config[key]]]))),
    ...config.additional_info,
    ...config.meta_data,
    ...inference.additional_info,
    ...inference.meta_data,
  }
  if (notes.length > 0) info.notes = [...new Set([...[info.notes ?? []].flat(), ...notes])]
  const preTransforms = config.pre_transforms.map(toSpec)
  const models = pipelineOf(type, config.pipeline, inference, settings, name)
  const deepgrow = type === 'deepgrow' ? dimensionsOf(preTransforms) : undefined
  const roi =
    config.roi ?? optional(Shape, settings.roi) ?? optional(Shape, info.roi) ?? annotationDefault(type, [128, 128, 128])
  const padding =
    config.padding ?? settings.padding ?? optional(z.number(), info.padding) ?? annotationDefault(type, 20)
  const cacheUntil = config.cache_until === undefined ? undefined : shortName(config.cache_until)
  if (cacheUntil !== undefined && cacheUntil !== 'ALL' && !preTransforms.some((one) => one.name === cacheUntil))
    fail('cache_until', `names '${cacheUntil}', which is not among pre_transforms; give one of them, or ALL`)
  const window = scanningWindow(settings)
  const mirror = mirrorOf(settings, config.tta)
  const parts = partsOf(inference, type)
  const model: ModelConfig = {
    version: config.version,
    type,
    labels: config.labels,
    description: config.description,
    ...(padding === undefined ? {} : { padding }),
    ...(roi === undefined ? {} : { roi }),
    info: deepgrow !== undefined && info.deepgrow === undefined ? { ...info, deepgrow } : info,
    preTransforms,
    postTransforms: config.post_transforms.map(toSpec),
    ...(written.spec === undefined ? {} : { writer: written.spec }),
    inference: {
      image: imageField(inference),
      ...(inference.image_format === undefined ? {} : { imageFormat: inference.image_format }),
      engine: engineOf(inference),
      ...(window === undefined ? {} : { scanningWindow: window }),
      nodeMapping: nodeMapping(inference),
      session: sessionOf(inference),
      ...joinOf(inference, config.type, config.labels),
      ...(parts === undefined ? {} : { parts }),
      ...(mirror === undefined ? {} : { mirror }),
      ...(inference.kserve === undefined ? {} : { kserve: inference.kserve }),
    },
    ...(cacheUntil === undefined ? {} : { cacheUntil }),
    ...(models === undefined ? {} : { pipeline: models }),
  }
  const first = firstOf(inference, model, (stage) => parseModelConfig(stage, name))
  const whole = first ? { ...model, first } : model
  checkNetworkNames(whole)
  return whole
}

type Settings = z.output<typeof InferenceArgs>
type Config = z.output<typeof ConfigFile>

/**
 * What a config says in two places has to be said alike, since only one of them would count. Engine blocks beside AIAA's
 * configured another server and are not asked.
 */
function checkAgreement(config: Config, inference: Inference, settings: Settings): void {
  const { args = {}, AIAA, session } = inference
  const agree = (...said: readonly (readonly [path: string, value: unknown])[]) => {
    const given = said.filter(([, value]) => value !== undefined && value !== null)
    const odd = given.find(([, value]) => JSON.stringify(value) !== JSON.stringify(given[0]![1]))
    if (odd) fail(odd[0], `says otherwise than config.${given[0]![0]}; one of the two would have no effect`)
  }
  const engineArgs = AIAA?.args ?? {}
  for (const key of Object.keys(windowKeys) as (keyof typeof windowKeys)[])
    agree(
      [`inference.args.${key}`, args[key]],
      [`inference.${key}`, inference[key]],
      [`inference.AIAA.args.${key}`, engineArgs[key]],
    )
  agree(['inference.args.sw_batch_size', settings.sw_batch_size], ['inference.args.batch_size', settings.batch_size])
  agree(['inference.args.blend', settings.blend], ['inference.args.mode', settings.mode])
  agree(['tta', config.tta], ['inference.args.tta', settings.tta])
  agree(['padding', config.padding], ['inference.args.padding', settings.padding])
  agree(['pipeline.batch_size', config.pipeline?.batch_size], ['inference.args.batch_size', settings.batch_size])
  agree(
    ['pipeline.models', config.pipeline?.models],
    ['inference.models', inference.models],
    ['inference.args.models', settings.models],
  )
  agree(
    ['inference.session.intra_op_threads', session?.intra_op_threads],
    ['inference.session.intra_op_num_threads', session?.intra_op_num_threads],
  )
  agree(
    ['inference.session.optimisation', session?.optimisation],
    ['inference.session.optimization', session?.optimization],
    ['inference.session.graph_optimization_level', session?.graph_optimization_level],
  )
  agree(['inference.node_mapping', inference.node_mapping], ['inference.AIAA.node_mapping', AIAA?.node_mapping])
  const fed = list(inference.input)
  if (inference.image !== undefined && fed !== undefined && !fed.includes(inference.image))
    fail('inference.image', `is '${inference.image}', which inference.input does not name`)
  const pairs = inference.node_mapping ?? AIAA?.node_mapping
  if (pairs !== undefined) {
    const paired = new Set(Object.entries(pairs).flat())
    for (const key of ['image', 'input', 'output'] as const) {
      const odd = list(inference[key])?.find((field) => !paired.has(field))
      if (odd !== undefined) fail(`inference.${key}`, `names '${odd}', which node_mapping does not pair with a tensor`)
    }
  }
}

/** The image that feeds the network is one of the fields that go into it. */
function checkFed({ image, tf, trtis }: Inference): void {
  if (image === undefined) return
  for (const [path, fed] of [
    ['tf.input_nodes', tf?.input_nodes],
    ['trtis.input_channels', trtis?.input_channels],
  ] as const)
    if (fed !== undefined && !Object.hasOwn(fed, image))
      fail('inference.image', `is '${image}', which inference.${path} does not name`)
}

/** Settings of a window that is not there. One image is one batch, so `batch_size` says what is so anyway. */
function idleWindowKeys(settings: Settings): string[] {
  if (settings.scanning_window === true) return []
  const idle = (['overlap', 'mode', 'blend'] as const).filter((key) => settings[key] !== undefined)
  return idle.map((key) => `inference.args.${key} counts only with scanning_window, and there is no window`)
}

const OWN_WRITERS = /^(WriteNifti|WritePng|WriteJpg|Writer|SaveImaged?)$/

/** The server writes results itself: a known writer says the field and its type, of any other a note says that it is not run. */
function writerOf(given: z.output<typeof Transform> | undefined): { spec?: TransformSpec; notes: string[] } {
  if (given === undefined) return { notes: [] }
  const spec = toSpec(given)
  if (!OWN_WRITERS.test(spec.name) || spec.ownClass !== undefined) {
    const others = Object.keys(spec.args).filter((key) => !(key in WriterArgs.shape))
    const unread = others.length === 0 ? '' : `, and its arguments ${others.join(', ')} are not read`
    return { spec, notes: [`writer ${given.name} is not run: the server writes the result itself${unread}`] }
  }
  const parsed = WriterArgs.safeParse(spec.args)
  if (!parsed.success)
    throw refusal(
      new z.ZodError(parsed.error.issues.map((issue) => ({ ...issue, path: ['writer', 'args', ...issue.path] }))),
    )
  const { field, fields, image, dtype, dtypes } = parsed.data
  if ([field, fields, image].filter((value) => value !== undefined).length > 1)
    fail('writer.args', 'names the result more than once; give field or image, one of them')
  if (dtype !== undefined && dtypes !== undefined)
    fail('writer.args.dtypes', 'means the same as dtype; give one of them')
  const odd = [dtype ?? dtypes ?? []].flat().find((name) => !DtypeName.safeParse(name).success)
  if (odd !== undefined)
    fail('writer.args.dtype', `is '${odd}'; results are written as ${DtypeName.options.join(', ')}`)
  return { spec, notes: [] }
}

function fail(path: string, what: string): never {
  throw new AppError('BAD_MODEL_CONFIG', `config.${path} ${what}`, { hint: HELP })
}

/** Depth, count and text length, and the one key that JSON.parse turns into something other than data. */
function checkBounds(json: unknown): void {
  let nodes = 0
  const walk = (value: unknown, path: string, depth: number): void => {
    if (++nodes > CONFIG_LIMITS.nodes)
      throw new AppError('BAD_MODEL_CONFIG', `config has more than ${CONFIG_LIMITS.nodes} values`)
    if (depth > CONFIG_LIMITS.depth)
      throw new AppError('BAD_MODEL_CONFIG', `config is nested deeper than ${CONFIG_LIMITS.depth} levels`)
    if (typeof value === 'string' && value.length > CONFIG_LIMITS.text)
      throw new AppError('BAD_MODEL_CONFIG', `${path} is a text of more than ${CONFIG_LIMITS.text} characters`)
    if (typeof value !== 'object' || value === null) return
    if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) walk(item, `${path}[${index}]`, depth + 1)
      return
    }
    for (const [key, item] of Object.entries(value)) {
      if (key === '__proto__') throw new AppError('BAD_MODEL_CONFIG', `${path}: the key '__proto__' is not allowed`)
      walk(item, `${path}.${key.slice(0, 80)}`, depth + 1)
    }
  }
  walk(json, 'config', 0)
}

/** A dumped record is one model under its name: `{"spleen": {"type": ..., "inference": ...}}`. */
function unwrap(json: unknown, name: string): Record<string, unknown> {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new AppError('BAD_MODEL_CONFIG', `config of '${name}' must be a JSON object`, { hint: HELP })
  const record = json as Record<string, unknown>
  const [only, ...more] = Object.values(record)
  if (more.length > 0 || typeof only !== 'object' || only === null || Array.isArray(only)) return record
  return 'type' in only ? (only as Record<string, unknown>) : record
}

/** Drops the echoes of a dumped record, and nulls at the two upper levels, which mean "not set". */
function withoutEchoes(record: Record<string, unknown>): Record<string, unknown> {
  const kept = Object.fromEntries(Object.entries(record).filter(([key, value]) => value !== null && !ECHO.test(key)))
  const section = kept.inference
  if (typeof section === 'object' && section !== null && !Array.isArray(section))
    kept.inference = Object.fromEntries(Object.entries(section).filter(([, value]) => value !== null))
  return kept
}

const COMMENT = /^_+comment/i

/** JSON has no comments, so files have `_comment` keys, anywhere; those of the top level are kept for readers. */
function splitComments(config: Record<string, unknown>): {
  record: Record<string, unknown>
  comments: Record<string, unknown>
} {
  const without = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(without)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).flatMap(([key, one]) => (COMMENT.test(key) ? [] : [[key, without(one)]])),
    )
  }
  const comments = Object.fromEntries(Object.entries(config).filter(([key]) => COMMENT.test(key)))
  return { record: without(config) as Record<string, unknown>, comments }
}

function refusal(error: z.ZodError): AppError {
  const said = error.issues.slice(0, 5).map((issue) => describe(issue))
  return new AppError('BAD_MODEL_CONFIG', said.join('; '), { hint: HELP })
}

function describe(issue: z.core.$ZodIssue, prefix: readonly PropertyKey[] = []): string {
  const path = [...prefix, ...issue.path]
  if (issue.code === 'invalid_union') {
    // The branch that got furthest says what is wrong; the others say only that it is not theirs.
    const furthest = issue.errors
      .filter((branch) => branch.length > 0)
      .toSorted((a, b) => depthOf(b) - depthOf(a))
      .at(0)?.[0]
    if (furthest && (furthest.path.length > 0 || furthest.code !== 'invalid_type')) return describe(furthest, path)
  }
  return `config${pathText(path)}: ${issue.message}`
}

function depthOf(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(...issues.map((issue) => issue.path.length + (issue.code === 'invalid_type' ? 0 : 1)))
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step).slice(0, 80)}`)).join('')
}

/** `monai.transforms.Spacingd` and `Module.Class` are named by their last word. */
function shortName(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1)
}

/** The packages whose classes a config may name: those that this server's transforms are named after. */
const KNOWN_PACKAGES = ['monai', 'monailabel', 'aiaa', 'ai4med', 'nvmidl', 'medl', 'dlmed']

/** A class of the config's own cannot be run here, whatever its last word; the refusal says so (see `buildTransform`). */
function toSpec(spec: z.output<typeof Transform>): TransformSpec {
  const name = shortName(spec.name)
  const args = spec.args ?? {}
  if (name !== spec.name && spec.path !== undefined && spec.path !== spec.name)
    fail('…path', `is '${spec.path}', and the name '${spec.name}' has a class path of its own`)
  const path = name === spec.name ? spec.path : spec.name
  const from = spec.from === undefined ? {} : { from: spec.from }
  if (path === undefined || KNOWN_PACKAGES.includes(path.split('.')[0]!)) return { name, args, ...from }
  return { name, args, ...from, ownClass: shortName(path) === name ? path : `${path}.${name}` }
}

/** The settings of the inference class, wherever this version keeps them; AIAA's block before TRITON's. */
function inferenceArgs(inference: Inference): Settings {
  const merged: Record<string, unknown> = {}
  const blocks = [
    { path: ['inference', 'TRITON', 'args'], args: inference.TRITON?.args },
    { path: ['inference', 'AIAA', 'args'], args: inference.AIAA?.args },
    { path: ['inference', 'args'], args: inference.args },
  ]
  for (const block of blocks) {
    if (block.args === undefined) continue
    const given = Object.fromEntries(Object.entries(block.args).filter(([, value]) => value !== null))
    // Whatever class is named, it means "run the network": an argument that only that class knows would have no effect.
    const parsed = InferenceArgs.safeParse(given)
    if (!parsed.success)
      throw refusal(
        new z.ZodError(parsed.error.issues.map((issue) => ({ ...issue, path: [...block.path, ...issue.path] }))),
      )
    Object.assign(merged, parsed.data)
  }
  for (const key of Object.keys(windowKeys) as (keyof typeof windowKeys)[])
    if (inference[key] !== undefined) merged[key] ??= inference[key]
  return merged as Settings
}

/** Keys that say nothing but how a window goes over the image. */
const WINDOW_ONLY = ['padding_mode', 'cval', 'sigma_scale', 'spatial_dim', 'steps', 'skip_empty'] as const

function scanningWindow(settings: Settings): ScanningWindow | undefined {
  if (settings.scanning_window !== true) {
    const idle = WINDOW_ONLY.find((key) => settings[key] !== undefined)
    if (idle !== undefined) fail(`inference.args.${idle}`, 'needs scanning_window: true')
    return undefined
  }
  if (settings.roi === undefined) fail('inference.args.roi', 'is missing; scanning_window needs the size of its window')
  return {
    roi: settings.roi,
    overlap: settings.overlap ?? DEFAULT_OVERLAP,
    batchSize: settings.sw_batch_size ?? settings.batch_size ?? 1,
    blend: settings.blend ?? settings.mode ?? 'constant',
    ...(settings.steps === 'even' ? { evenSteps: true } : {}),
    ...(settings.sigma_scale === undefined ? {} : { sigmaScale: settings.sigma_scale }),
    ...(settings.padding_mode === undefined ? {} : { padding: settings.padding_mode }),
    ...(settings.cval === undefined ? {} : { fill: settings.cval }),
    ...(settings.spatial_dim === undefined ? {} : { sliceAxis: settings.spatial_dim }),
    ...(settings.skip_empty === undefined ? {} : { skipEmpty: settings.skip_empty }),
  }
}

/** Test-time augmentation: the mean over every way of mirroring the image along `mirror_axes`. */
function mirrorOf(
  { mirror_axes: axes, tta: inner }: Settings,
  outer: boolean | undefined,
): ModelConfig['inference']['mirror'] {
  const on = outer ?? inner
  if (axes === undefined) {
    if (on !== undefined) fail('tta', 'needs inference.args.mirror_axes, the axes to mirror along')
    return undefined
  }
  return { axes, ...(on === undefined ? {} : { on }) }
}

function first(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : value?.[0]
}

function imageField(inference: Inference): string {
  const fromTf = Object.keys(inference.tf?.input_nodes ?? {})[0]
  return inference.image ?? first(inference.input) ?? fromTf ?? 'image'
}

/**
 * Tensor to field. An explicit node_mapping stays as written, since files have it either way round; otherwise v2's
 * `tf` nodes or `trtis` channels, or v4's input and output with the tensor names of the Triton block.
 */
function nodeMapping(inference: Inference): Record<string, string> {
  const written = inference.node_mapping ?? inference.AIAA?.node_mapping ?? inference.TRITON?.node_mapping
  if (written !== undefined) return written
  const mapping: Record<string, string> = {}
  const { tf, trtis } = inference
  if (tf?.input_nodes !== undefined || tf?.output_nodes !== undefined) {
    for (const [field, tensor] of Object.entries({ ...tf.input_nodes, ...tf.output_nodes })) mapping[tensor] = field
    return mapping
  }
  const block = inference.TRITON?.triton_model_config ?? inference.triton_model_config ?? inference.triton ?? trtis
  const inputs = list(inference.input) ?? keys(block?.input_channels) ?? [imageField(inference)]
  const outputs = list(inference.output) ?? keys(block?.output_channels) ?? []
  for (const [i, field] of inputs.entries()) mapping[tensorName(block?.input?.[i]?.name, 'INPUT', i)] = field
  for (const [i, field] of outputs.entries()) mapping[tensorName(block?.output?.[i]?.name, 'OUTPUT', i)] = field
  return mapping
}

/** `INPUT__0` is how Triton numbers the tensors of TorchScript, which have no names; an ONNX export of it has others. */
function tensorName(given: string | undefined, kind: 'INPUT' | 'OUTPUT', index: number): string {
  if (given !== undefined && !/^(INPUT|OUTPUT)__\d+$/.test(given)) return given
  return `NV_MODEL_${kind}${index === 0 ? '' : `_${index}`}`
}

function list(value: string | readonly string[] | undefined): readonly string[] | undefined {
  return typeof value === 'string' ? [value] : value
}

function keys(record: Readonly<Record<string, unknown>> | undefined): readonly string[] | undefined {
  return record === undefined ? undefined : Object.keys(record)
}

function engineOf(inference: Inference): 'onnxruntime' | 'kserve' {
  const engine = inference.engine ?? (inference.kserve === undefined ? 'onnxruntime' : 'kserve')
  if (engine === 'kserve' && inference.kserve === undefined)
    fail('inference.kserve', 'is missing; the kserve engine needs {"url", "model"}')
  if (engine !== 'kserve' && inference.kserve !== undefined) fail('inference.kserve', 'needs engine kserve')
  return engine
}

function sessionOf(inference: Inference): ModelConfig['inference']['session'] {
  const given = inference.session
  const intraOpThreads = given?.intra_op_threads ?? given?.intra_op_num_threads
  const optimisation = given?.optimisation ?? given?.optimization ?? given?.graph_optimization_level
  return {
    ...(intraOpThreads === undefined ? {} : { intraOpThreads }),
    ...(optimisation === undefined ? {} : { optimisation }),
  }
}

/** Keys that say how a picture and its prompts are fed, which a `plain` pair is not. */
const PICTURE_ONLY = ['size', 'resize', 'pixels', 'window', 'prompts'] as const

function partsOf({ parts, kserve, engine }: Inference, type: ModelType): Parts | undefined {
  if (parts === undefined) return undefined
  if (kserve !== undefined || engine === 'kserve')
    fail('inference.parts', 'runs here; the kserve engine has one network')
  const { previous_mask: previousMask, mask_threshold: maskThreshold, ...rest } = parts
  const idle = PICTURE_ONLY.find((key) => parts[key] !== undefined)
  if (parts.layout === 'plain' && idle !== undefined)
    fail(`inference.parts.${idle}`, "is for the layouts of the SAM family; this one is 'plain'")
  if (parts.layout !== undefined && parts.layout !== 'plain' && type !== 'deepgrow')
    fail('inference.parts.layout', `'${parts.layout}' answers prompts; the type has to be deepgrow, not ${type}`)
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
  return { ...(given as typeof rest), previousMask, maskThreshold } as Parts
}

/** The models of a pipeline, the 3-D one first where their names tell which is which. */
function pipelineOf(
  type: ModelType,
  given: { models: z.output<typeof PipelineModels>; batch_size?: number | undefined } | undefined,
  inference: Inference,
  settings: Settings,
  name: string,
): ModelConfig['pipeline'] {
  const models = given?.models ?? inference.models ?? settings.models
  if (type !== 'pipeline') {
    if (models !== undefined) fail('pipeline', `is for models of type pipeline; this one is of type ${type}`)
    return undefined
  }
  if (models === undefined) fail('pipeline', 'is missing; a pipeline names its models: {"models": ["<3-D>", "<2-D>"]}')
  const pairs = Array.isArray(models) ? models.map((model) => [model, model] as const) : Object.entries(models)
  const sorted = pairs.toSorted(([a], [b]) => Number(/3d/i.test(b)) - Number(/3d/i.test(a))).map(([, model]) => model)
  if (sorted.includes(name)) fail('pipeline.models', `names '${name}' itself`)
  return { models: sorted, batchSize: given?.batch_size ?? settings.batch_size ?? 1 }
}

/** Whether the clicks of a deepgrow model go to a slice or to the volume, from its guidance transform. */
function dimensionsOf(preTransforms: readonly TransformSpec[]): string {
  const guidance = preTransforms.find((one) => /^AddGuidanceFromPoints/.test(one.name))
  if (guidance && /DeepEdit/.test(guidance.name)) return '3D'
  return (guidance?.args.spatial_dims ?? guidance?.args.dimensions) === 3 ? '3D' : '2D'
}

function annotationDefault<T>(type: ModelType, value: T): T | undefined {
  return type === 'annotation' ? value : undefined
}

function optional<T extends z.ZodType>(schema: T, value: unknown): z.output<T> | undefined {
  const parsed = schema.safeParse(value)
  return parsed.success ? parsed.data : undefined
}
