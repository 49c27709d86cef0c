/** What a config_aiaa.json may hold, of any version; parse-model-config.ts makes one ModelConfig of it. */
import { z } from 'zod'
import { LAYOUTS, MODEL_TYPES, PADDING_MODES } from '../contract/model.js'
import { nearestWord } from '../util/nearest-word.js'

const FLAG_WORDS: Readonly<Record<string, boolean>> = { true: true, false: false, '1': true, '0': false }
/** A boolean, also as the word or digit that old files have. */
const flag = z.preprocess(
  (value) => FLAG_WORDS[String(value).trim().toLowerCase()] ?? value,
  z.boolean({ error: 'expected true or false' }),
)
const numeric = z.union([
  z.number(),
  z
    .string()
    .regex(/^-?\d+(\.\d+)?$/, 'expected a number')
    .transform(Number),
])
const count = numeric.pipe(z.number().int().min(1).max(4096))
/** One number for all spatial axes of the array, or one for each. */
const perAxis = <T extends z.ZodType<number>>(one: T) => z.union([one, z.array(one).min(1).max(3)])
/** A window's axes of length zero are the image's; a single number is for all axes. */
const WindowShape = z.preprocess(
  (value) => (Array.isArray(value) || value === undefined ? value : [value]),
  z
    .array(numeric.pipe(z.number().int().min(0).max(65_536)))
    .min(1)
    .max(4),
)
export const Shape = z
  .array(numeric.pipe(z.number().int().positive().max(65_536)))
  .min(1)
  .max(4)
const word = z.string().min(1).max(256)
const free = z.record(z.string(), z.unknown())
const names = z.record(word, word)
const fields = z.union([word, z.array(word).min(1).max(64)], { error: 'expected a field or a list of fields' })

/** An object whose unknown keys are refused by name, with the nearest known key. */
function section<S extends z.ZodRawShape>(known: S) {
  return z.strictObject(known, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? unknownKeys(issue.keys as string[], Object.keys(known)) : undefined,
  })
}

function unknownKeys(keys: readonly string[], known: readonly string[]): string {
  const said = keys.slice(0, 5).map((key) => {
    const near = nearestWord(key, known)
    return near === undefined ? `'${key.slice(0, 80)}'` : `'${key.slice(0, 80)}' (did you mean '${near}'?)`
  })
  return `unknown ${keys.length === 1 ? 'key' : 'keys'} ${said.join(', ')}; known here: ${known.join(', ')}`
}

/** `from` is where another file said it, from which the config was made. */
export const Transform = section({
  name: word,
  path: word.optional(),
  args: free.optional(),
  from: z.string().max(1024).optional(),
})
const transforms = z.array(Transform).max(100)

export const windowKeys = {
  scanning_window: flag.optional(),
  roi: WindowShape.optional(),
  batch_size: count.optional(),
  sw_batch_size: count.optional(),
  overlap: perAxis(numeric.pipe(z.number().min(0).lt(1))).optional(),
  mode: z.enum(['constant', 'gaussian', 'nnunet']).optional(),
  blend: z.enum(['constant', 'gaussian', 'nnunet']).optional(),
  steps: z.enum(['fixed', 'even']).optional(),
  sigma_scale: perAxis(numeric.pipe(z.number().positive().max(100))).optional(),
  padding_mode: z.enum(PADDING_MODES).optional(),
  cval: numeric.optional(),
  spatial_dim: numeric.pipe(z.union([z.literal(0), z.literal(1), z.literal(2)])).optional(),
  skip_empty: flag.optional(),
  padding: numeric.pipe(z.number().min(0).max(1000)).optional(),
  mirror_axes: z
    .array(numeric.pipe(z.number().int().min(0).max(2)))
    .min(1)
    .max(3)
    .refine((axes) => new Set(axes).size === axes.length, 'must name an axis once only')
    .optional(),
  tta: flag.optional(),
  /** Where AIAA put tensors and windows; here `--device` and the device slots decide. */
  device: z.union([z.string().max(64), z.number()]).optional(),
  sw_device: z.union([z.string().max(64), z.number()]).optional(),
}
export const PipelineModels = z.union([z.array(word).min(1).max(8), names], {
  error: 'expected a list of model names',
})
const argKeys = { ...windowKeys, models: PipelineModels.optional() }
export const InferenceArgs = section(argKeys)
const engineArgs = free.optional()

const session = section({
  intra_op_threads: count.optional(),
  intra_op_num_threads: count.optional(),
  optimisation: z.enum(['disabled', 'basic', 'extended', 'all']).optional(),
  optimization: z.enum(['disabled', 'basic', 'extended', 'all']).optional(),
  graph_optimization_level: z.enum(['disabled', 'basic', 'extended', 'all']).optional(),
})
/** What else stands in it would be left out of every request. */
function isPlainBase(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : undefined
  return url === undefined || (!/[?#]/.test(text) && url.username === '' && url.password === '')
}

const kserve = section({
  url: z
    .url({ protocol: /^https?$/, error: 'expected an http or https URL' })
    .max(2048)
    .refine(isPlainBase, { error: 'expected the base of the server alone, without a login, ? and #' }),
  model: word,
  version: z.union([word, z.number().transform(String)]).optional(),
})
/**
 * Old engine blocks: the names of tensors and fields are read. The rest configured a server that is not there and changes
 * nothing; its keys are those of Triton's ModelConfig (model_config.proto) and of AIAA's short form of it.
 */
const tf = section({ input_nodes: names.optional(), output_nodes: names.optional() })
const idle = z.unknown().optional()
const idleKeys = <K extends string>(...keys: readonly K[]) =>
  Object.fromEntries(keys.map((key) => [key, idle])) as Record<K, typeof idle>
const tritonTensor = z
  .array(
    section({
      name: word,
      ...idleKeys('data_type', 'dims', 'format', 'reshape', 'label_filename', 'is_shape_tensor'),
      ...idleKeys('allow_ragged_batch', 'optional', 'is_non_linear_format_io'),
    }),
  )
  .max(64)
const triton = section({
  input_channels: free.optional(),
  output_channels: free.optional(),
  input: tritonTensor.optional(),
  output: tritonTensor.optional(),
  ...idleKeys('gpu_instance_count', 'name', 'platform', 'backend', 'runtime', 'version_policy', 'max_batch_size'),
  ...idleKeys('batch_input', 'batch_output', 'optimization', 'dynamic_batching', 'sequence_batching'),
  ...idleKeys('ensemble_scheduling', 'instance_group', 'default_model_filename', 'cc_model_filenames', 'metric_tags'),
  ...idleKeys('parameters', 'model_warmup', 'model_operations', 'model_transaction_policy'),
  ...idleKeys('model_repository_agents', 'response_cache', 'model_metrics'),
})
/** What AIAA's writers took: the field and its type count, the rest of a result is as the request and the image say. */
export const WriterArgs = section({
  field: word.optional(),
  fields: z.union([word, z.array(word).length(1)]).optional(),
  image: word.optional(),
  dtype: z.union([word, z.array(word).length(1)]).optional(),
  dtypes: z.union([word, z.array(word).length(1)]).optional(),
  use_identity: flag.pipe(z.literal(false, 'only false is supported: a result has the grid of its image')).optional(),
  transpose_axes: z.null('is not supported: a result has the axes of its image').optional(),
  ref_image: word.optional(),
  key_extension: z.literal('result_extension').optional(),
  key_dtype: z.literal('result_dtype').optional(),
  key_compress: z.literal('result_compress').optional(),
  key_write_to_file: z.literal('result_write_to_file').optional(),
  ...idleKeys('json', 'compressed', 'revert_canonical', 'squeeze', 'nibabel', 'meta_key_postfix'),
})
const engine = section({
  name: word.optional(),
  path: word.optional(),
  args: engineArgs,
  triton_model_config: triton.optional(),
  node_mapping: names.optional(),
})

const percent = numeric.pipe(z.number().min(0).max(100))
const pictureWindow = z.union([
  section({ level: numeric, width: numeric.pipe(z.number().positive()) }),
  section({
    percentiles: z.tuple([percent, percent]).refine(([low, high]) => low < high, 'must go up'),
    foreground: flag.default(false),
  }),
])
const edge = numeric.pipe(z.number().int().min(16).max(4096))
export const PartsSection = section({
  encoder: word.optional(),
  decoder: word.optional(),
  layout: z.enum(LAYOUTS).optional(),
  feeds: names.default({}),
  size: z.union([edge.transform((n) => [n, n]), z.tuple([edge, edge])]).optional(),
  resize: z.enum(['longest', 'stretch', 'none']).optional(),
  pixels: z.enum(['imagenet', 'minmax', 'unit', 'bytes']).optional(),
  window: pictureWindow.optional(),
  prompts: z
    .array(z.enum(['points', 'box']))
    .min(1)
    .max(2)
    .optional(),
  previous_mask: flag.default(true),
  mask_threshold: numeric.default(0),
})
/** Networks of one model: a training of a few folds has five, a whole body in parts some ten. */
export const MOST_NETWORKS = 64
const networks = z.array(word).min(1).max(MOST_NETWORKS)
const weight = numeric.pipe(z.number().min(0).max(1e6))
/** Final labels by a network's own. */
const finalLabels = z
  .record(z.string().regex(/^[1-9]\d{0,4}$/, 'expected a label of the network, from 1 on'), z.int().min(1).max(65_535))
  .refine((map) => Object.keys(map).length > 0, 'names no label')

export const Inference = section({
  ...windowKeys,
  image: word.optional(),
  input: fields.optional(),
  output: fields.optional(),
  image_format: z
    .string()
    .regex(/^N?(C?D?HW|D?HWC)$/i, 'expected one of CHW, HWC, CDHW, DHWC, HW or DHW, with or without N in front')
    .optional(),
  channel_first: flag
    .pipe(z.literal(true, 'only true is supported; image_format DHWC or HWC says channels last'))
    .optional(),
  name: word.optional(),
  path: word.optional(),
  args: engineArgs,
  node_mapping: names.optional(),
  additional_info: free.optional(),
  meta_data: free.optional(),
  trtis: triton.optional(),
  triton: triton.optional(),
  triton_model_config: triton.optional(),
  tf: tf.optional(),
  AIAA: engine.optional(),
  TRITON: engine.optional(),
  engine: z.enum(['onnxruntime', 'kserve']).optional(),
  kserve: kserve.optional(),
  session: session.optional(),
  models: PipelineModels.optional(),
  parts: PartsSection.optional(),
  networks: networks.optional(),
  ensemble: section({
    task: z.enum(['segmentation', 'classification']).optional(),
    method: z.enum(['mean', 'vote']).optional(),
    of: z.enum(['scores', 'probabilities']).optional(),
    weights: z.array(z.union([weight, z.array(weight).min(1).max(4096)])).optional(),
  }).optional(),
  label_maps: z
    .array(section({ network: word, labels: finalLabels }))
    .min(1)
    .max(MOST_NETWORKS)
    .optional(),
  first: section({
    networks,
    ensemble: z.unknown().optional(),
    input: word.optional(),
    output: word.optional(),
    node_mapping: names.optional(),
    args: engineArgs,
    pre_transforms: transforms.default([]),
    post_transforms: transforms.default([]),
    crop_margin: numeric.pipe(z.number().min(0).max(10_000)).optional(),
  }).optional(),
})
export type Inference = z.output<typeof Inference>

const labelName = z.string().max(256)
const MOST_LABELS = 4096
/** Names by value, `{"1": "spleen"}`, or the other way round; the background is no label, and gaps get a name of their own. */
const labelTable = z.record(labelName, z.union([labelName, z.int()])).transform((table, context) => {
  const pairs = Object.entries(table).map(([key, value]): [number, string] =>
    typeof value === 'number' ? [value, key] : [Number(key), value],
  )
  if (!pairs.every(([value]) => Number.isInteger(value) && value >= 0 && value <= MOST_LABELS)) {
    context.addIssue(
      `expected names by label value, {"1": "spleen", "2": "liver"}, with values from 1 to ${MOST_LABELS}`,
    )
    return z.NEVER
  }
  const names = new Map(pairs)
  const last = Math.max(0, ...names.keys())
  return Array.from({ length: last }, (_, i) => names.get(i + 1) ?? `label ${i + 1}`)
})

/** What authors write for readers: kept, and shown in the model's entry in /v1/models. */
export const INFORMATION = [
  'license',
  'licence',
  'author',
  'authors',
  'copyright',
  'citation',
  'references',
  'url',
  'homepage',
  'date',
  'changelog',
  'internal name',
  'sigma',
] as const
const information = Object.fromEntries(INFORMATION.map((key) => [key, z.json().optional()])) as Record<
  (typeof INFORMATION)[number],
  z.ZodOptional<z.ZodJSONSchema>
>

export const ConfigFile = section({
  version: z
    .union([z.string(), z.number()])
    .transform(String)
    .pipe(z.string().regex(/^[1-4](\.\d+)*$/, 'expected 2, 3 or 4 (a version 4 file may say 1)'))
    .default('3'),
  name: word.optional(),
  type: z
    .string()
    .transform((text) => text.toLowerCase())
    .pipe(z.enum([...MODEL_TYPES, 'ensemble'])),
  labels: z
    .union([z.array(labelName).max(MOST_LABELS), labelName.transform((label) => [label]), labelTable])
    .default([]),
  description: z
    .string()
    .max(16 * 1024)
    .default(''),
  padding: windowKeys.padding,
  tta: windowKeys.tta,
  roi: Shape.optional(),
  pre_transforms: transforms.default([]),
  inference: Inference.optional(),
  post_transforms: transforms.default([]),
  writer: z
    .union(
      [
        Transform,
        z
          .array(Transform)
          .length(1)
          .transform((list) => list[0]!),
      ],
      {
        error: 'expected one {"name", "args"}',
      },
    )
    .optional(),
  cache_until: word.optional(),
  additional_info: free.optional(),
  meta_data: free.optional(),
  pipeline: section({ models: PipelineModels, batch_size: count.optional() }).optional(),
  /** The engine's block, where Clara 3's and 4's early configs have it. */
  trtis: triton.optional(),
  triton: triton.optional(),
  ...information,
  /** Of a dumped record: how and where that server kept the weights. */
  format: word.optional(),
  path: word.optional(),
})
