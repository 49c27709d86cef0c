/**
 * A config_aiaa.json from a MONAI bundle: labels from metadata.json, transforms, inferer and fields from inference.json or
 * inference.yaml, as its evaluator would run them. Everything is read as data (bundle-content.ts): a class of the bundle's
 * own, or an expression that only Python could work out, is refused with its place; a config part of one's own says it then.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { buildTransform } from '../transforms/catalog.js'
import { BundleContent, Component, type Json } from './bundle-content.js'
import { neededSteps } from './bundle-fields.js'
import { type ReadTransforms, readTransforms, type Spec } from './bundle-transforms.js'

const Channels = z.record(z.string(), z.string())
const Tensor = z.looseObject({
  modality: z.string().optional(),
  format: z.string().optional(),
  num_channels: z.number().int().positive().optional(),
  channel_def: Channels.optional(),
  label_def: Channels.optional(),
})
const Metadata = z.looseObject({
  name: z.string().optional(),
  task: z.string().optional(),
  description: z.string().optional(),
  version: z.string().optional(),
  network_data_format: z
    .looseObject({ inputs: z.record(z.string(), Tensor).optional(), outputs: z.record(z.string(), Tensor).optional() })
    .optional(),
})
type Tensor = z.output<typeof Tensor>

const HINT = 'send the part config with a config_aiaa.json beside the bundle'

/** `file` is what messages call the config. Throws BAD_MODEL_CONFIG for a bundle that says what cannot be read as data. */
export function bundleConfig(metadata: unknown, inference: unknown, file = 'inference.json'): unknown {
  const parsed = Metadata.safeParse(metadata)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new AppError('BAD_MODEL_CONFIG', `metadata.json: ${issue?.path.join('.')}: ${issue?.message}`, { hint: HINT })
  }
  if (!isRecord(inference))
    throw new AppError(
      'BAD_MODEL_CONFIG',
      'the MONAI bundle has no configs/inference.json or configs/inference.yaml to read its transforms from',
      { hint: HINT },
    )
  const content = new BundleContent(inference, file)
  const [given, takes] = only(parsed.data.network_data_format?.inputs, 'image')
  const [gives, makes] = only(parsed.data.network_data_format?.outputs, 'pred')
  const parts = partsOf(content)
  const pre = readTransforms(content, parts.pre.value, parts.pre.id, { field: given, channels: undefined })
  const post = readTransforms(content, parts.post.value ?? [], parts.post.id, {
    field: gives,
    channels: makes.num_channels ?? (Object.keys(labelsIn(makes)).length || undefined),
  })
  const input = makesField(pre.specs, given) ? given : 'image'
  const output = post.specs.some(({ args }) => [args.keys].flat().includes(gives)) ? gives : 'pred'
  const result = resultOf(post, output)
  const before = neededSteps(pre.specs, [input], [])
  const loaded = pre.specs.flatMap(({ args }) => [args.keys, args.name, args.names].flat()).filter(isText)
  const after = neededSteps(post.specs, [result], [...loaded, ...KEYS, input, output])
  const steps = { pre: withChannels(before.steps, takes), post: [...after.steps] }
  for (const { from = '', ...spec } of [...steps.pre, ...steps.post])
    buildTransform(spec, { whole: from, name: `${from}._target_`, args: from })
  const inferer = inferenceArgs(content, parts.inferer)
  const type = typeOf(parsed.data.task ?? '', makes.format, steps.pre)
  return {
    version: '4',
    type,
    labels: labelNames(content, makes, type, steps.post),
    description: parsed.data.description ?? parsed.data.name ?? 'MONAI bundle',
    pre_transforms: steps.pre,
    inference: {
      input,
      output,
      meta_data: {
        ...(takes.modality === undefined ? {} : { modality: takes.modality }),
        ...(parsed.data.version === undefined ? {} : { bundle_version: parsed.data.version }),
        ...notesOf([
          ...pre.notes,
          ...post.notes,
          ...idleNotes([...before.idle, ...after.idle]),
          ...unreadNotes(content),
        ]),
      },
      args: inferer,
    },
    post_transforms: withRestore(steps.post, type, result, input),
    writer: { name: 'Writer', args: { image: result, json: 'result' } },
  }
}

/** What SupervisedEvaluator puts beside the prediction. */
const KEYS = ['image', 'label', 'pred']

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function only(tensors: Readonly<Record<string, Tensor>> | undefined, usual: string): [string, Tensor] {
  return Object.entries(tensors ?? {})[0] ?? [usual, {}]
}

function notesOf(notes: readonly string[]): { notes?: readonly string[] } {
  return notes.length === 0 ? {} : { notes: [...new Set(notes)] }
}

function idleNotes(fields: readonly string[]): string[] {
  return fields.map(
    (field) => `steps on '${field}' are left out: the answer does not depend on it, and no file is asked for`,
  )
}

/**
 * Parts that every bundle has and that have no say in how an image becomes an answer: where files lie, the network that the
 * ONNX file is, and what an evaluation counts, loads and saves. docs/models.md lists them.
 */
export const IDLE_PARTS: readonly string[] = [
  ...['imports', 'import', 'initialize', 'run', 'evaluating', 'inference', 'finalize', 'workflow_type'],
  ...[
    'bundle_root',
    'ckpt_dir',
    'ckpt_path',
    'model_dir',
    'dataset_dir',
    'data_list_file_path',
    'output_dir',
    'output_ext',
  ],
  ...[
    'output_dtype',
    'output_postfix',
    'separate_folder',
    'device',
    'amp',
    'data',
    'datalist',
    'test_datalist',
    'images',
  ],
  ...[
    'network_def',
    'network',
    'checkpointloader',
    'load_pretrain',
    'handlers',
    'val_handlers',
    'batch_size',
    'num_workers',
  ],
  ...['evaluator', 'dataloader', 'dataset', 'preprocessing', 'inferer', 'postprocessing', 'transforms'],
]

/** Whatever else a file holds that nothing here asked for. */
function unreadNotes(content: BundleContent): string[] {
  const unread = content.unread().filter((path) => !IDLE_PARTS.includes(path))
  return unread.length === 0 ? [] : [`${content.file} has more than was used: ${unread.join(', ')}`]
}

// ---- the parts of a bundle ----

interface Part {
  readonly value: unknown
  readonly id: string
}

/**
 * What the evaluator runs: the transform of its dataset, its inferer, its post-transforms. A bundle that is run by code
 * of its own still says them under their usual names.
 */
function partsOf(content: BundleContent): { pre: Part; post: Part; inferer: Part } {
  const evaluator = content.at('evaluator')
  if (evaluator instanceof Component) checkEvaluator(content, evaluator)
  else if (isRecord(evaluator) && Object.keys(evaluator).length > 0) content.refuse('evaluator', 'has no _target_')
  const first = (...ids: string[]): Part => {
    for (const id of ids) {
      const value = partAt(content, id)
      if (value !== undefined && value !== null && value !== '') return { value, id }
    }
    return { value: undefined, id: ids.at(-1)! }
  }
  const pre = first('evaluator::val_data_loader::dataset::transform', 'dataset::transform', 'preprocessing')
  if (pre.value === undefined)
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `${content.file}: neither preprocessing nor dataset.transform says how an image is prepared for the network`,
      {
        hint: 'a bundle that makes images from nothing, or is run by its own code, cannot be served; or send a config part',
      },
    )
  return {
    pre,
    post: first('evaluator::postprocessing', 'postprocessing'),
    inferer: first('evaluator::inferer', 'inferer'),
  }
}

/** `a::b::c` through components and references, where `content.at` sees only what is written in one place. */
function partAt(content: BundleContent, id: string): unknown {
  const [head = '', ...rest] = id.split('::')
  let value = content.at(head)
  for (const [i, step] of rest.entries()) {
    if (value === undefined || value === null || value === '') return undefined
    if (!(value instanceof Component)) content.refuse([head, ...rest.slice(0, i)].join('::'), 'has no _target_')
    if (head === 'evaluator' || head === 'dataset') checkArguments(content, value)
    if (i === rest.length - 1) return content.argument(value, step)
    try {
      value = content.argument(value, step)
    } catch (error) {
      // what only Python makes on the way, such as a list of files, is not asked for here
      if (error instanceof AppError) return undefined
      throw error
    }
  }
  return value
}

/** Arguments of MONAI's and torch's classes between the evaluator and the transforms; of them only those below are read. */
const DATASETS = new Set([
  ...['Dataset', 'CacheDataset', 'PersistentDataset', 'CacheNTransDataset', 'LMDBDataset', 'SmartCacheDataset'],
])
const LOADERS = new Set(['DataLoader', 'ThreadDataLoader'])
const LOADER_ARGS = {
  dataset: new Set([
    ...['data', 'transform', 'cache_num', 'cache_rate', 'num_workers', 'progress', 'copy_cache', 'as_contiguous'],
    ...['hash_as_key', 'hash_func', 'runtime_cache', 'cache_dir', 'pickle_module', 'pickle_protocol', 'hash_transform'],
    ...['reset_ops_id', 'track_meta', 'weights_only', 'cache_n_trans', 'db_name', 'lmdb_kwargs', 'replace_rate'],
    ...['num_init_workers', 'num_replace_workers', 'shuffle', 'seed'],
  ]),
  loader: new Set([
    ...['dataset', 'batch_size', 'shuffle', 'sampler', 'batch_sampler', 'num_workers', 'collate_fn', 'pin_memory'],
    ...[
      'drop_last',
      'timeout',
      'worker_init_fn',
      'multiprocessing_context',
      'generator',
      'prefetch_factor',
      'in_order',
    ],
    ...['persistent_workers', 'pin_memory_device', 'buffer_size', 'buffer_timeout', 'repeats', 'use_thread_workers'],
  ]),
}

/** A slip in a name would leave out what it means: `transfrom` of a dataset, `dataste` of a loader. */
function checkArguments(content: BundleContent, component: Component): void {
  const { name, module } = component.target
  if (EVALUATORS.has(name)) return
  const known = DATASETS.has(name) ? LOADER_ARGS.dataset : LOADERS.has(name) ? LOADER_ARGS.loader : undefined
  if (known === undefined || (module !== '' && !/^(monai|torch)(\.|$)/.test(module)))
    content.refuse(
      component.id,
      `is a ${name}; images come from requests here, through the transform of a Dataset or one of its kind`,
    )
  const odd = Object.keys(component.raw).find((key) => !key.startsWith('_') && !known.has(key))
  if (odd !== undefined) content.refuse(`${component.id}::${odd}`, `is no argument of ${name}`)
}

const EVALUATORS = new Set(['SupervisedEvaluator', 'Evaluator'])
/** Those of SupervisedEvaluator; what they count, watch and save is no part of an answer. */
const EVALUATOR_ARGS = new Set([
  ...[
    'device',
    'val_data_loader',
    'network',
    'epoch_length',
    'non_blocking',
    'prepare_batch',
    'iteration_update',
    'inferer',
  ],
  ...['postprocessing', 'key_val_metric', 'additional_metrics', 'metric_cmp_fn', 'val_handlers', 'amp', 'mode'],
  ...[
    'event_names',
    'event_to_attr',
    'decollate',
    'to_kwargs',
    'amp_kwargs',
    'compile',
    'compile_kwargs',
    'hyper_kwargs',
  ],
])
/** Arguments with which Python of one's own takes a hand in what goes into the network or comes out of it. */
const HANDS = ['prepare_batch', 'iteration_update', 'hyper_kwargs'] as const

function checkEvaluator(content: BundleContent, evaluator: Component): void {
  const { name, module } = evaluator.target
  if (!EVALUATORS.has(name) || (module !== '' && !module.startsWith('monai')))
    content.refuse('evaluator', `is a ${name}; only a SupervisedEvaluator is run here`)
  const odd = Object.keys(evaluator.raw).find((key) => !key.startsWith('_') && !EVALUATOR_ARGS.has(key))
  if (odd !== undefined) content.refuse(`evaluator::${odd}`, `is no argument of ${name}`)
  const mode = content.argument(evaluator, 'mode') ?? 'eval'
  if (mode !== 'eval') content.refuse('evaluator::mode', `is '${String(mode)}'; a network is run to evaluate here`)
  const hand = HANDS.find((key) => evaluator.raw[key] !== undefined && evaluator.raw[key] !== null)
  if (hand !== undefined) content.refuse(`evaluator::${hand}`, 'is Python of its own, which is not run here')
}

// ---- the inferer ----

/** MONAI's argument -> ours. */
const WINDOW_ARGS: Readonly<Record<string, string>> = {
  roi_size: 'roi',
  sw_batch_size: 'sw_batch_size',
  overlap: 'overlap',
  mode: 'mode',
  sigma_scale: 'sigma_scale',
  padding_mode: 'padding_mode',
  cval: 'cval',
}
/** Where arrays lie while windows are put together, and whether a bar is drawn: the result is the same. */
const IDLE_ARGS = new Set([
  ...['sw_device', 'device', 'progress', 'cache_roi_weight_map', 'cpu_thresh', 'buffer_steps', 'buffer_dim'],
])

function inferenceArgs(content: BundleContent, { value, id }: Part): Json {
  if (value === undefined) return {}
  if (!(value instanceof Component)) content.refuse(id, 'has no _target_')
  const { name, module } = value.target
  if (module !== '' && !module.startsWith('monai'))
    content.refuse(id, `is ${module}.${name}, code of the bundle's own, which is not run here`)
  const known: Record<string, string> = {}
  switch (name) {
    case 'SimpleInferer':
      break
    case 'SliceInferer':
      Object.assign(known, WINDOW_ARGS, { spatial_dim: 'spatial_dim' })
      break
    case 'SlidingWindowInferer':
    case 'SlidingWindowInfererAdapt':
      Object.assign(known, WINDOW_ARGS)
      break
    default:
      content.refuse(
        id,
        `is a ${name}; SimpleInferer, SlidingWindowInferer, SlidingWindowInfererAdapt and SliceInferer are run here`,
      )
  }
  const args: Record<string, unknown> = {}
  for (const key of Object.keys(value.raw)) {
    if (key.startsWith('_') || (IDLE_ARGS.has(key) && name !== 'SimpleInferer')) continue
    const said = content.argument(value, key)
    const own = known[key]
    if (key === 'with_coord' && !said) continue
    if (own === undefined) content.refuse(`${value.id}::${key}`, `is no argument of ${name} that can be honoured here`)
    if (said !== null && said !== undefined) args[own] = said
  }
  if (name === 'SimpleInferer') return {}
  // None and numbers of zero or less mean the image's own size
  const roi = [args.roi].flat().map((n) => (typeof n === 'number' ? Math.max(n, 0) : (n ?? 0)))
  const slices = name === 'SliceInferer' ? { spatial_dim: args.spatial_dim ?? 0 } : {}
  return { scanning_window: true, ...args, ...slices, roi }
}

// ---- transforms ----

function makesField(specs: readonly Spec[], field: string): boolean {
  return specs.some(({ args }) => [args.keys, args.name, args.names, args.image].flat().includes(field))
}

/** MONAI stacks several files of one key channel first; a file with channels is then read the same way. */
function withChannels(pre: readonly Spec[], { num_channels: channels = 1 }: Tensor): Spec[] {
  const says = /^(EnsureChannelFirst|AsChannelFirst|AsChannelLast|AddChannel|Transpose|SqueezeDim|ConcatItems)/
  if (channels < 2 || pre.some(({ name }) => says.test(name))) return [...pre]
  return pre.map((spec) =>
    /^LoadImage/.test(spec.name) ? { ...spec, args: { ...spec.args, ensure_channel_first: true } } : spec,
  )
}

/** What is saved, when that is not what the network gives but what the post-transforms make of it. */
function resultOf({ specs, saved }: ReadTransforms, output: string): string {
  if (saved.length === 0 || saved.includes(output)) return output
  const made = new Set(specs.flatMap(({ args }) => [args.name, args.names, args.output_key].flat()))
  return saved.find((field) => made.has(field)) ?? output
}

const RESTORES = /^(Invert|Restore)/

function withRestore(post: readonly Spec[], type: string, result: string, input: string): Spec[] {
  if (type === 'classification' || post.some(({ name }) => RESTORES.test(name))) return [...post]
  return [...post, { name: 'Restored', args: { keys: result, ref_image: input } }]
}

// ---- what the model is ----

const GUIDANCE = /^(AddGuidance|AddClickSignals)/

function typeOf(task: string, format: string | undefined, pre: readonly Spec[]): string {
  if (pre.some(({ name }) => GUIDANCE.test(name))) return 'deepgrow'
  const words = `${task} ${format ?? ''}`.toLowerCase()
  if (/segment/.test(words)) return 'segmentation'
  return /classif|classes|probabilities/.test(words) ? 'classification' : 'others'
}

function labelsIn({ channel_def, label_def }: Tensor): Readonly<Record<string, string>> {
  return channel_def ?? label_def ?? {}
}

const BACKGROUND = /^(background|bg)$/i

/**
 * The names in the order of their numbers: of a classifier all of them, since every class has its score; of label maps
 * without the background. Where channels are merged into values of their own, the name of value n comes n-th.
 */
function labelNames(content: BundleContent, makes: Tensor, type: string, post: readonly Spec[]): string[] {
  const entries = Object.entries(labelsIn(makes))
  const named = entries.length > 0 ? entries.map(([n, name]) => [Number(n), name] as const) : labelsOfConfig(content)
  const sorted = named.toSorted(([a], [b]) => a - b)
  if (type === 'classification') return sorted.map(([, name]) => name)
  const merge = post.find(({ name }) => name === 'MergeChannelsd')?.args
  if (merge) {
    const channels = merge.channels as readonly number[]
    const values = merge.values as readonly number[]
    return Array.from({ length: Math.max(...values) }, (_, i) => {
      const channel = channels[values.indexOf(i + 1)]
      return sorted.find(([n]) => n === channel)?.[1] ?? `label ${i + 1}`
    })
  }
  return sorted.map(([, name]) => name).filter((name) => !BACKGROUND.test(name))
}

/** `labels` or `label_names` of the config: {"liver": 1}, {"1": "liver"} or a list. */
function labelsOfConfig(content: BundleContent): (readonly [number, string])[] {
  for (const id of ['labels', 'label_names', 'label_def', 'class_names']) {
    let value: unknown
    try {
      value = content.at(id)
    } catch (error) {
      if (error instanceof AppError) continue // the list of label files, as a rule
      throw error
    }
    const pairs: [unknown, unknown][] = Array.isArray(value)
      ? [...value.entries()]
      : isRecord(value)
        ? Object.entries(value)
        : []
    const named = pairs.map(([key, item]) =>
      typeof item === 'string' ? ([Number(key), item] as const) : ([Number(item), String(key)] as const),
    )
    if (named.length > 0 && named.every(([n]) => Number.isInteger(n))) return named
  }
  return []
}
