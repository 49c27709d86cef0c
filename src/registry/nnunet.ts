/**
 * A config_aiaa.json from a model of nnU-Net v2, derived wholly from its plans.json and dataset.json: how its predictor
 * prepares an image, goes over it, and brings the answer back. What would be done another way here is refused by name.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { NNUNET_SCHEMES } from '../transforms/nnunet/normalize.js'
import { nearestWord } from '../util/nearest-word.js'

const count = z.number().int().positive()
const kwargs = z.record(z.string(), z.unknown())
const Configuration = z.looseObject({
  inherits_from: z.string().optional(),
  preprocessor_name: z.string().optional(),
  patch_size: z.array(count).min(2).max(3).optional(),
  spacing: z.array(z.number().positive()).min(2).max(3).optional(),
  normalization_schemes: z.array(z.string()).optional(),
  use_mask_for_norm: z.array(z.boolean()).optional(),
  resampling_fn_data: z.string().optional(),
  resampling_fn_data_kwargs: kwargs.optional(),
  resampling_fn_seg: z.string().optional(),
  resampling_fn_seg_kwargs: kwargs.optional(),
  resampling_fn_probabilities: z.string().optional(),
  resampling_fn_probabilities_kwargs: kwargs.optional(),
  previous_stage: z.string().nullable().optional(),
})
type Configuration = z.output<typeof Configuration>
const Properties = z.looseObject({
  mean: z.number(),
  std: z.number(),
  percentile_00_5: z.number(),
  percentile_99_5: z.number(),
})
const Plans = z.looseObject({
  dataset_name: z.string().optional(),
  plans_name: z.string().optional(),
  image_reader_writer: z.string().default('SimpleITKIO'),
  transpose_forward: z.array(z.number().int().min(0).max(2)).length(3),
  configurations: z.record(z.string(), Configuration),
  foreground_intensity_properties_per_channel: z.record(z.string(), Properties).default({}),
})
type Plans = z.output<typeof Plans>

const value = z.number().int().min(0).max(65_535)
const Dataset = z.looseObject({
  channel_names: z.record(z.string(), z.string()).optional(),
  /** As nnU-Net v1 calls them. */
  modality: z.record(z.string(), z.string()).optional(),
  labels: z.record(z.string(), z.union([value, z.array(value).min(1)])),
  regions_class_order: z.array(value).optional(),
  overwrite_image_reader_writer: z.string().nullable().optional(),
  name: z.string().optional(),
  description: z.string().optional(),
  licence: z.string().optional(),
  license: z.string().optional(),
})
type Dataset = z.output<typeof Dataset>

/** What training/nnunet_to_zip.py knows from the checkpoint and writes beside the plans. */
const Export = z.looseObject({
  trainer: z.string().optional(),
  configuration: z.string().optional(),
  inference_allowed_mirroring_axes: z.array(z.number().int().min(0).max(2)).nullable().optional(),
})

/** One trained configuration. */
export interface NnunetStage {
  /** nnunet_export.json, if there is one. */
  readonly exported?: unknown
  /** The folder's name, `<trainer>__<plans>__<configuration>`, if the archive has one. */
  readonly folder?: string | undefined
  /** Spatial dimensions of the network, which tell 2d from 3d where no name does, and its patch where that is fixed. */
  readonly patch: readonly (number | string | null)[]
  /** The ONNX files by their names in the archive, one a fold. */
  readonly networks: readonly string[]
}

export interface NnunetFiles extends NnunetStage {
  readonly plans: unknown
  readonly dataset: unknown
  /** Of a cascade, the stage whose label map the other reads. */
  readonly previous?: NnunetStage | undefined
}

/** The field of the first stage's label map. */
const PREVIOUS = 'previous'

const HINT = 'send the part config with a config_aiaa.json beside the archive, which says it in other words'

/** Throws BAD_MODEL_CONFIG naming the file and the key of what cannot be run as nnU-Net would. */
export function nnunetConfig(files: NnunetFiles): unknown {
  const plans = parsed(Plans, files.plans, 'plans.json')
  const dataset = parsed(Dataset, files.dataset, 'dataset.json')
  const stage = stageOf(plans, files)
  const first = files.previous && stageOf(plans, files.previous)
  const wanted = stage.configuration.previous_stage ?? undefined
  if (wanted !== first?.name)
    refuse(
      wanted === undefined
        ? `${stage.place} is no second stage, and the archive holds ${first?.name} too`
        : `${stage.place} is the second stage of a cascade and needs the networks of ${wanted}, which the archive does not hold`,
      'a cascade is a zip of both configurations, as training/nnunet_to_zip.py writes it',
    )
  const channels = Object.values(dataset.channel_names ?? dataset.modality ?? {})
  const name = first ? `${stage.name} after ${first.name}` : stage.name
  return {
    version: '4',
    type: 'segmentation',
    labels: labelsOf(dataset, 'pred').names,
    description: dataset.description || `${plans.dataset_name ?? dataset.name ?? 'nnU-Net'}, nnU-Net ${name}`,
    ...(dataset.licence || dataset.license ? { license: dataset.licence ?? dataset.license } : {}),
    pre_transforms: preparation(plans, dataset, stage, first ? PREVIOUS : undefined),
    inference: {
      input: 'image',
      output: 'pred',
      networks: stage.networks,
      ...(first
        ? {
            first: {
              networks: first.networks,
              output: PREVIOUS,
              pre_transforms: preparation(plans, dataset, first),
              args: windowArgs(first),
              post_transforms: finish(dataset, PREVIOUS),
            },
          }
        : {}),
      args: windowArgs(stage),
      meta_data: {
        framework: 'nnU-Net v2',
        configuration: name,
        ...(stage.trainer === undefined ? {} : { trainer: stage.trainer }),
        ...(channels.length === 0 ? {} : { channels }),
      },
    },
    post_transforms: finish(dataset, 'pred'),
    writer: { name: 'Writer', args: { image: 'pred', json: 'result' } },
  }
}

/** A trained configuration with what the plans say of it. */
interface Stage {
  readonly name: string
  readonly configuration: Configuration
  /** For messages: where the plans say it. */
  readonly place: string
  readonly patch: readonly number[]
  readonly trainer: string | undefined
  readonly networks: readonly string[]
  readonly mirror: ReturnType<typeof mirrorAxes>
}

function stageOf(plans: Plans, files: NnunetStage): Stage {
  const exported = parsed(Export, files.exported ?? {}, 'nnunet_export.json')
  const [folderTrainer, , named] = files.folder?.split('__') ?? []
  const trainer = exported.trainer ?? folderTrainer
  const name = configurationName(plans, exported.configuration ?? named, files.patch)
  const configuration = inherited(plans, name)
  const place = `plans.json: configurations.${name}`
  if ((configuration.preprocessor_name ?? 'DefaultPreprocessor') !== 'DefaultPreprocessor')
    refuse(`${place}.preprocessor_name is '${configuration.preprocessor_name}'; only DefaultPreprocessor is run here`)
  const patch = needed(configuration.patch_size, `${place}.patch_size`)
  const mirror = mirrorAxes(trainer, exported.inference_allowed_mirroring_axes, patch.length)
  return { name, configuration, place, patch, trainer, networks: files.networks, mirror }
}

/** The name of the stage before that a configuration reads, if it is the second of a cascade; undefined for what cannot be read. */
export function previousStage(
  plans: unknown,
  { exported, folder }: Pick<NnunetStage, 'exported' | 'folder'>,
): string | undefined {
  const known = Plans.safeParse(plans)
  const name = configurationSaid({ exported, folder })
  if (!known.success || name === undefined || !Object.hasOwn(known.data.configurations, name)) return undefined
  return inherited(known.data, name).previous_stage ?? undefined
}

/** The configuration that a folder or its nnunet_export.json names. */
export function configurationSaid({ exported, folder }: Pick<NnunetStage, 'exported' | 'folder'>): string | undefined {
  const said = Export.safeParse(exported ?? {})
  return (said.success ? said.data.configuration : undefined) ?? folder?.split('__')[2]
}

/** From the file to what the networks see; `previous` is the field of an earlier stage's label map. */
function preparation(plans: Plans, dataset: Dataset, stage: Stage, previous?: string): unknown[] {
  const { configuration, place } = stage
  const keys = previous === undefined ? 'image' : ['image', previous]
  return [
    { name: 'LoadImaged', args: { keys: 'image', ensure_channel_first: true } },
    ...readerSteps(dataset.overwrite_image_reader_writer ?? plans.image_reader_writer, keys),
    { name: 'NnUNetTransposed', args: { keys, transpose_forward: plans.transpose_forward } },
    { name: 'NnUNetCropd', args: { keys: 'image', ...(previous === undefined ? {} : { also: [previous] }) } },
    { name: 'NnUNetNormalized', args: { keys: 'image', channels: channelsOf(plans, configuration, place) } },
    ...resampleSteps(configuration, place),
    ...(previous === undefined ? [] : [previousStep(dataset, configuration, place, previous)]),
  ]
}

/** The label map of the stage before, a channel a label. */
function previousStep(dataset: Dataset, configuration: Configuration, place: string, source: string): unknown {
  const values = Object.entries(dataset.labels).flatMap(([name, value]) => (name === 'ignore' ? [] : value))
  const labels = [...new Set(values)].filter((value) => value !== 0).sort((a, b) => a - b)
  const segmentation = resamplingOf(configuration, 'seg', place) ?? {}
  const spacing = needed(configuration.spacing, `${place}.spacing`)
  return { name: 'NnUNetPreviousStaged', args: { keys: 'image', source, labels, spacing, segmentation } }
}

function windowArgs({ patch, mirror }: Stage): Record<string, unknown> {
  return {
    scanning_window: true,
    roi: patch,
    overlap: 0.5,
    steps: 'even',
    mode: 'nnunet',
    ...(patch.length === 2 ? { spatial_dim: 0 } : {}),
    ...mirror,
  }
}

function finish(dataset: Dataset, key: string): unknown[] {
  return [
    { name: 'Invertd', args: { keys: key, orig_keys: 'image', nearest_interp: false } },
    ...labelsOf(dataset, key).steps,
  ]
}

function parsed<S extends z.ZodType>(schema: S, json: unknown, file: string): z.output<S> {
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const [issue] = result.error.issues
  return refuse(`${file}: ${issue?.path.join('.')}: ${issue?.message}`)
}

function refuse(message: string, hint = HINT): never {
  throw new AppError('BAD_MODEL_CONFIG', message, { hint })
}

function needed<T>(found: T | undefined, place: string): T {
  return found ?? refuse(`${place} is missing`)
}

/** The one that is named; without a name, the one whose patch is the network's, 3d_fullres before others. */
function configurationName(
  { configurations }: Plans,
  named: string | undefined,
  patch: readonly (number | string | null)[],
): string {
  const all = Object.keys(configurations)
  if (named !== undefined) {
    if (all.includes(named)) return named
    const near = nearestWord(named, all)
    refuse(
      `plans.json has no configuration '${named.slice(0, 80)}', which the archive names` +
        `${near === undefined ? '' : ` (did you mean '${near}'?)`}; it has ${all.join(', ')}`,
      'name the folder as nnU-Net does, <trainer>__<plans>__<configuration>',
    )
  }
  const fitting = all.filter((name) => {
    const size = inherited({ configurations }, name).patch_size
    return size?.length === patch.length && size.every((n, i) => typeof patch[i] !== 'number' || patch[i] === n)
  })
  const usual = ['3d_fullres', '2d', ...fitting].find((name) => fitting.includes(name))
  return (
    usual ??
    refuse(
      `none of the configurations in plans.json (${all.join(', ')}) has the patch of the network, [${patch.map((n) => n ?? '?').join(', ')}]`,
      'name the folder as nnU-Net does, <trainer>__<plans>__<configuration>',
    )
  )
}

/** A configuration with what it inherits. */
function inherited({ configurations }: Pick<Plans, 'configurations'>, name: string): Configuration {
  let found: Configuration = {}
  const seen = new Set<string>()
  for (let next: string | undefined = name; next !== undefined; ) {
    const own: Configuration | undefined = configurations[next]
    if (!own || seen.has(next))
      refuse(`plans.json: configurations.${name} inherits from '${next}', which leads nowhere`)
    seen.add(next)
    found = { ...own, ...found }
    next = own.inherits_from
  }
  return found
}

/** What nnU-Net's readers do beside reading. */
function readerSteps(reader: string, keys: unknown): unknown[] {
  const plain = ['SimpleITKIO', 'NibabelIO', 'NaturalImage2DIO', 'Tiff3DIO']
  if (plain.includes(reader)) return []
  if (['SimpleITKIOWithReorient', 'NibabelIOWithReorient'].includes(reader))
    return [{ name: 'Orientationd', args: { keys, axcodes: 'RAS' } }]
  return refuse(
    `plans.json: image_reader_writer is '${reader}'; known here are ${plain.join(', ')} and those WithReorient`,
  )
}

function channelsOf(plans: Plans, configuration: Configuration, place: string): unknown[] {
  const schemes = needed(configuration.normalization_schemes, `${place}.normalization_schemes`)
  return schemes.map((scheme, i) => {
    const known = (NNUNET_SCHEMES as readonly string[]).includes(scheme)
    if (!known)
      refuse(`${place}.normalization_schemes has '${scheme.slice(0, 80)}'; known here are ${NNUNET_SCHEMES.join(', ')}`)
    const properties = plans.foreground_intensity_properties_per_channel[String(i)]
    if (scheme !== 'CTNormalization') return { scheme, use_mask: configuration.use_mask_for_norm?.[i] ?? false }
    const { mean, std, percentile_00_5, percentile_99_5 } = needed(
      properties,
      `plans.json: foreground_intensity_properties_per_channel.${i}`,
    )
    return { scheme, properties: { mean, std, percentile_00_5, percentile_99_5 } }
  })
}

function resampleSteps(configuration: Configuration, place: string): unknown[] {
  const spacing = needed(configuration.spacing, `${place}.spacing`)
  const data = resamplingOf(configuration, 'data', place)
  const probabilities = resamplingOf(configuration, 'probabilities', place)
  if (data === undefined && probabilities === undefined) return []
  if (data === undefined || probabilities === undefined)
    refuse(`${place} resamples images or probabilities and not both`)
  return [{ name: 'NnUNetResampled', args: { keys: 'image', spacing, data, probabilities } }]
}

/** Of the two functions that nnU-Net has; undefined for none. */
function resamplingOf(configuration: Configuration, what: 'data' | 'seg' | 'probabilities', place: string) {
  const fn = configuration[`resampling_fn_${what}`] ?? 'resample_data_or_seg_to_shape'
  const given = configuration[`resampling_fn_${what}_kwargs`] ?? {}
  const key = `${place}.resampling_fn_${what}`
  if (fn === 'no_resampling_hack') return undefined
  const {
    is_seg: isSeg,
    force_separate_z: force = false,
    separate_z_anisotropy_threshold: threshold,
    ...rest
  } = given as Record<string, unknown>
  if ((isSeg ?? what === 'seg') !== (what === 'seg'))
    refuse(`${key}_kwargs.is_seg is ${String(isSeg)}, which is for ${isSeg === true ? 'label maps' : 'images'}`)
  const shared = {
    force_separate_z: force,
    ...(threshold === undefined ? {} : { separate_z_anisotropy_threshold: threshold }),
  }
  if (fn === 'resample_data_or_seg_to_shape') {
    const { order, order_z, ...unknown } = rest
    const odd = Object.keys(unknown)[0]
    if (odd !== undefined) refuse(`${key}_kwargs.${odd} is not known`)
    for (const [name, one] of Object.entries({ order, order_z })) {
      const most = what === 'data' ? [0, 1, 3] : [0, 1]
      if (one !== undefined && !most.includes(one as number))
        refuse(`${key}_kwargs.${name} is ${String(one)}; ${most.join(', ')} are run here`)
    }
    return { ...shared, order: order ?? (what === 'seg' ? 1 : 3), order_z: order_z ?? 0 }
  }
  if (fn === 'resample_torch_fornnunet') {
    const { mode = 'linear', aniso_axis_mode: thick = 'nearest-exact', ...unknown } = rest
    const idle = ['num_threads', 'device', 'memefficient_seg_resampling']
    const odd = Object.keys(unknown).find((name) => !idle.includes(name))
    if (odd !== undefined) refuse(`${key}_kwargs.${odd} is not known`)
    if (mode !== 'linear' || (thick !== 'nearest-exact' && thick !== 'linear'))
      refuse(`${key}_kwargs asks for ${String(mode)} and ${String(thick)}; linear and nearest-exact are run here`)
    return {
      ...shared,
      force_separate_z: given.force_separate_z ?? null,
      order: 1,
      order_z: thick === 'linear' ? 1 : 0,
    }
  }
  return refuse(
    `${key} is '${fn}'; known here are resample_data_or_seg_to_shape, resample_torch_fornnunet and no_resampling_hack`,
  )
}

/** `mirror_axes`, and `tta: false` for a trainer without mirroring, so that only a request that asks for it has it. */
function mirrorAxes(
  trainer: string | undefined,
  exported: readonly number[] | null | undefined,
  rank: number,
): { mirror_axes: readonly number[]; tta?: false } {
  const all = [0, 1, 2].slice(0, rank)
  const some = trainer?.includes('onlyMirror01') ? all.slice(0, -1) : all
  const allowed = exported === undefined ? (trainer?.includes('NoMirroring') ? null : some) : exported
  return allowed === null || allowed.length === 0 ? { mirror_axes: all, tta: false } : { mirror_axes: allowed }
}

interface Labels {
  readonly names: readonly string[]
  readonly steps: readonly unknown[]
}

/** nnU-Net's sigmoid above one half is a logit above zero; beyond the crop, where there is none, zero is background. */
const ABOVE_ZERO = 1e-6

function labelsOf({ labels, regions_class_order: order }: Dataset, key: string): Labels {
  const entries = Object.entries(labels)
  if (labels.background !== 0) refuse('dataset.json: labels.background must be 0')
  const hasRegions = entries.some(([, value]) => Array.isArray(value) && value.length > 1)
  const found = entries
    .filter(([name, value]) => name !== 'ignore' && [value].flat().some((one) => one !== 0))
    .map(([name, value]) => ({ name, value: [value].flat()[0]! }))
  if (hasRegions) {
    if (!order) refuse('dataset.json: regions_class_order is missing, which a model of regions needs')
    if (order.length !== found.length)
      refuse(`dataset.json: regions_class_order has ${order.length} values, and labels ${found.length} regions`)
    // later regions lie over earlier ones, and MergeChannelsd takes the first that is set
    const channels = order.map((_, i) => i).toReversed()
    const values = order.toReversed()
    const names = Array.from(
      { length: Math.max(...order) },
      (_, i) => found[order.lastIndexOf(i + 1)]?.name ?? `label ${i + 1}`,
    )
    return {
      names,
      steps: [
        { name: 'AsDiscreted', args: { keys: key, threshold: ABOVE_ZERO } },
        { name: 'MergeChannelsd', args: { keys: key, channels, values } },
      ],
    }
  }
  const sorted = found.toSorted((a, b) => a.value - b.value)
  const gap = sorted.findIndex(({ value }, i) => value !== i + 1)
  if (gap >= 0)
    refuse(
      `dataset.json: labels are numbered ${sorted.map(({ value }) => value).join(', ')}, not one after another from 1`,
    )
  return {
    names: sorted.map(({ name }) => name),
    steps: [{ name: 'AsDiscreted', args: { keys: key, argmax: true } }],
  }
}
