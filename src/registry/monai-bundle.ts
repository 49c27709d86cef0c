/**
 * A config_aiaa.json from a MONAI bundle: labels and fields from metadata.json, transforms and window from
 * inference.json. Only what is plain data is read: `_target_` names a transform, `@name` refers to another entry, and a
 * Python expression (`$...`) is refused, since nothing here runs Python; a config part of one's own then says it instead.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'

const Channels = z.record(z.string(), z.string())
const Metadata = z.looseObject({
  name: z.string().optional(),
  task: z.string().optional(),
  description: z.string().optional(),
  version: z.string().optional(),
  network_data_format: z.looseObject({
    inputs: z.record(z.string(), z.looseObject({ modality: z.string().optional() })),
    outputs: z.record(z.string(), z.looseObject({ format: z.string().optional(), channel_def: Channels.optional() })),
  }),
})

type Json = Readonly<Record<string, unknown>>

/** Transforms that write, watch or tidy up; the server does that itself. */
const NOT_OURS = new Set(['SaveImaged', 'SaveImage', 'DataStatsd', 'ToDeviced', 'DeleteItemsd'])
const ARGUMENT_KEYS_TO_DROP = new Set(['_target_', '_disabled_', '_requires_', '_mode_', '_desc_', 'device'])
const HINT = 'send the part config with a config_aiaa.json beside the bundle'

/** Throws BAD_MODEL_CONFIG for a bundle that says with Python what cannot be read as data. */
export function bundleConfig(metadata: unknown, inference: unknown): unknown {
  const parsed = Metadata.safeParse(metadata)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new AppError('BAD_MODEL_CONFIG', `metadata.json: ${issue?.path.join('.')}: ${issue?.message}`, { hint: HINT })
  }
  if (!isRecord(inference))
    throw new AppError(
      'BAD_MODEL_CONFIG',
      'the MONAI bundle has no configs/inference.json to read its transforms from',
      {
        hint: HINT,
      },
    )
  const { network_data_format: format, task = '', description, name } = parsed.data
  const [input = 'image'] = Object.keys(format.inputs)
  const [output = 'pred'] = Object.keys(format.outputs)
  const labels = labelsOf(format.outputs[output]?.channel_def)
  const post = transformsOf(inference, 'postprocessing')
  const restores = post.some((step) => ['Invertd', 'Restored', 'RestoreLabeld'].includes(step.name))
  const modality = format.inputs[input]?.modality
  return {
    version: '4',
    type: typeOf(task, format.outputs[output]?.format),
    labels,
    description: description ?? name ?? 'MONAI bundle',
    pre_transforms: transformsOf(inference, 'preprocessing'),
    inference: {
      input,
      output,
      meta_data: {
        ...(modality === undefined ? {} : { modality }),
        ...(parsed.data.version === undefined ? {} : { bundle_version: parsed.data.version }),
      },
      args: windowOf(inference),
    },
    post_transforms: restores ? post : [...post, { name: 'Restored', args: { keys: output, ref_image: input } }],
    writer: { name: 'Writer', args: { image: output, json: 'result' } },
  }
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function typeOf(task: string, format: string | undefined): string {
  const words = `${task} ${format ?? ''}`.toLowerCase()
  if (words.includes('segmentation')) return 'segmentation'
  return words.includes('classification') ? 'classification' : 'others'
}

/** Names of the classes in the order of their numbers, without the background. */
function labelsOf(channels: Readonly<Record<string, string>> | undefined): string[] {
  return Object.entries(channels ?? {})
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([, label]) => label)
    .filter((label) => label.toLowerCase() !== 'background')
}

function transformsOf(bundle: Json, section: string): { name: string; args: Json }[] {
  const compose = resolve(bundle, bundle[section], section)
  if (compose === undefined) return []
  const listed = isRecord(compose) ? resolve(bundle, compose.transforms, `${section}.transforms`) : compose
  if (!Array.isArray(listed))
    throw new AppError('BAD_MODEL_CONFIG', `inference.json: ${section} has no list of transforms`, { hint: HINT })
  return listed.flatMap((step: unknown, index) => {
    const where = `${section}.transforms[${index}]`
    const target = isRecord(step) ? step._target_ : undefined
    if (!isRecord(step) || typeof target !== 'string')
      throw new AppError('BAD_MODEL_CONFIG', `inference.json: ${where} has no _target_`, { hint: HINT })
    const name = target.slice(target.lastIndexOf('.') + 1)
    if (step._disabled_ === true || NOT_OURS.has(name)) return []
    // What Invertd inverts is here always what was done to the image it names.
    const ownTransform = name === 'Invertd' || name === 'Invert' ? ['transform', 'to_tensor', 'device'] : []
    const kept = Object.entries(step).filter(([key]) => !ARGUMENT_KEYS_TO_DROP.has(key) && !ownTransform.includes(key))
    const args = Object.fromEntries(kept.map(([key, value]) => [key, resolve(bundle, value, `${where}.${key}`)]))
    return [{ name, args }]
  })
}

function windowOf(bundle: Json): Json {
  const inferer = resolve(bundle, bundle.inferer, 'inferer')
  if (!isRecord(inferer) || !String(inferer._target_).endsWith('SlidingWindowInferer')) return {}
  const read = (key: string) => resolve(bundle, inferer[key], `inferer.${key}`)
  const settings = {
    roi: read('roi_size'),
    sw_batch_size: read('sw_batch_size'),
    overlap: read('overlap'),
    mode: read('mode'),
  }
  return {
    scanning_window: true,
    ...Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined && value !== null)),
  }
}

/** Follows `@name` and `@name::part`, inside lists too, and reads literals. Throws on any other Python expression. */
function resolve(bundle: Json, value: unknown, where: string, depth = 0): unknown {
  if (depth > MAX_STEPS)
    throw new AppError('BAD_MODEL_CONFIG', `inference.json: ${where} refers to itself`, { hint: HINT })
  if (Array.isArray(value)) return value.map((item, i) => resolve(bundle, item, `${where}[${i}]`, depth + 1))
  if (typeof value !== 'string') return value
  const reference = REFERENCE.exec(value)?.[1]
  if (reference !== undefined) return resolve(bundle, lookUp(bundle, reference), where, depth + 1)
  if (!value.startsWith('$')) return value
  const choice = CHOICE.exec(value)
  if (choice) {
    const condition = resolve(bundle, choice[2], where, depth + 1)
    return resolve(bundle, `$${condition ? choice[1] : choice[3]}`, where, depth + 1)
  }
  try {
    // Python's literals are JSON's but for three words and the other quotes.
    const json = value
      .slice(1)
      .replaceAll("'", '"')
      .replace(/\b(True|False|None)\b/g, (word) => LITERALS[word] ?? word)
    return JSON.parse(json)
  } catch (cause) {
    throw new AppError('BAD_MODEL_CONFIG', `inference.json: ${where} is a Python expression`, { hint: HINT, cause })
  }
}

const MAX_STEPS = 32
const REFERENCE = /^\$?@([A-Za-z_][\w:#]*)$/
/** `$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]`, as MONAI's whole-body model has it. */
const CHOICE = /^\$(.{1,200}?) if (@[A-Za-z_][\w:#]*) else (.{1,200})$/
const LITERALS: Readonly<Record<string, string>> = { True: 'true', False: 'false', None: 'null' }

function lookUp(bundle: Json, reference: string): unknown {
  let target: unknown = bundle
  for (const step of reference.split(/::|#/)) {
    const inside = isRecord(target) || Array.isArray(target)
    target = inside && Object.hasOwn(target as object, step) ? (target as Json)[step] : undefined
  }
  return target
}
