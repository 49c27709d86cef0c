/**
 * What a config says of a model of several networks: which files they are, how their answers become one (a mean, a vote, or
 * label maps side by side), and a first model whose answer the others start from.
 */
import { isInteractive, type ModelConfig, type ModelType, type NetworkJoin } from '../contract/model.js'
import { AppError } from '../errors.js'
import type { Inference } from './model-config-schema.js'

const HELP = 'models of several networks are in docs/models.md'
/** The field of a first model's label map where its config names none. */
export const FIRST_FIELD = 'first'

function fail(path: string, what: string): never {
  throw new AppError('BAD_MODEL_CONFIG', `config.inference.${path} ${what}`, { hint: HELP })
}

/** The files of a model's networks in the order in which they are kept: its own, then those of its first model. */
export function networkNames(config: ModelConfig): readonly string[] | undefined {
  const own = config.inference.networks
  return own && [...own, ...(config.first?.config.inference.networks ?? [])]
}

/** `type: ensemble` is a way to say how a model works; for clients it is what its answers are. */
export function taskOf(type: ModelType | 'ensemble', { ensemble }: Inference): ModelType {
  if (type === 'ensemble') return ensemble?.task ?? 'segmentation'
  if (ensemble?.task !== undefined) fail('ensemble.task', `is for type ensemble; this model says its type, ${type}`)
  return type
}

/** The networks and their join. Throws BAD_MODEL_CONFIG naming the key of what does not go together. */
export function joinOf(
  inference: Inference,
  type: ModelType | 'ensemble',
  labels: readonly string[],
): { networks?: readonly string[]; join?: NetworkJoin } {
  const { ensemble, label_maps: maps, networks, first } = inference
  const said = Object.entries({ ensemble, label_maps: maps, networks, first }).filter(
    ([, value]) => value !== undefined,
  )
  const [several] = said[0] ?? []
  if (first && type !== 'ensemble' && isInteractive(type))
    fail('first', 'is for models that answer without clicks; the clicks of a request are not moved into what it finds')
  if (several !== undefined && type === 'pipeline')
    fail(several, 'is for models with networks of their own; a pipeline names models')
  if (several !== undefined && (inference.engine === 'kserve' || inference.kserve !== undefined))
    fail(several, 'is for networks that run here; the kserve engine runs one on its own server')
  if (several !== undefined && inference.parts)
    fail(several, 'and inference.parts exclude each other: an encoder and its decoder are one network')
  if (maps) {
    const other = networks ? 'networks' : ensemble || type === 'ensemble' ? 'ensemble' : undefined
    if (other !== undefined) fail('label_maps', `names networks and joins them itself; leave ${other} out`)
    return { networks: maps.map(({ network }) => network), join: mapsOf(maps, labels) }
  }
  if (!ensemble && type !== 'ensemble') {
    if (first && !networks)
      fail('networks', 'is missing; beside inference.first, name the files of the networks after it')
    return networks ? { networks } : {}
  }
  if (!networks) fail('networks', 'is missing; an ensemble names the files of its networks')
  if (networks.length < 2) fail('networks', 'names one network; an ensemble has two or more')
  return { networks, join: ensembleOf(ensemble ?? {}, networks.length) }
}

function ensembleOf(
  { method = 'mean', of, weights }: Partial<NonNullable<Inference['ensemble']>>,
  count: number,
): NetworkJoin {
  if (method === 'vote') {
    if (of !== undefined) fail('ensemble.of', 'is for the method mean; a vote is of labels')
    if (weights !== undefined) fail('ensemble.weights', 'is for the method mean; in a vote every network has one voice')
    return { kind: 'vote' }
  }
  if (weights && weights.length !== count)
    fail('ensemble.weights', `has ${weights.length} entries for ${count} networks; give one for each`)
  const sums = weights?.reduce<number[]>((sum, one) => [one].flat().map((weight, c) => weight + (sum[c] ?? 0)), [])
  if (sums?.some((sum) => sum <= 0)) fail('ensemble.weights', 'must add up to more than 0')
  return { kind: 'mean', of: of ?? 'scores', ...(weights ? { weights } : {}) }
}

function mapsOf(maps: NonNullable<Inference['label_maps']>, labels: readonly string[]): NetworkJoin {
  for (const [i, { labels: map }] of maps.entries())
    for (const [own, final] of Object.entries(map))
      if (labels.length > 0 && final > labels.length)
        fail(`label_maps[${i}].labels.${own}`, `is ${final}, and the model has ${labels.length} labels`)
  return { kind: 'labelMaps', maps: maps.map(({ labels: map }) => map) }
}

/** Throws BAD_MODEL_CONFIG for a file that is named twice. */
export function checkNetworkNames(config: ModelConfig): void {
  const names = networkNames(config) ?? []
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined)
    throw new AppError('BAD_MODEL_CONFIG', `config.inference names the network '${twice.slice(0, 200)}' twice`, {
      hint: HELP,
    })
}

/**
 * `inference.first` as a model of its own. `parse` reads a config; what it refuses is said at its place here.
 */
export function firstOf(
  inference: Inference,
  { inference: { image }, preTransforms }: Pick<ModelConfig, 'inference' | 'preTransforms'>,
  parse: (record: Record<string, unknown>) => ModelConfig,
): ModelConfig['first'] {
  const { first } = inference
  if (!first) return undefined

  const { pre_transforms, post_transforms, crop_margin: cropMargin, output = FIRST_FIELD, ...rest } = first
  const isRead = preTransforms.some(({ args }) => JSON.stringify(args).includes(JSON.stringify(output)))
  if (cropMargin === undefined && !isRead)
    fail('first', `would change nothing: give crop_margin, or name its field '${output}' in pre_transforms`)
  const record = {
    version: '4',
    type: 'segmentation',
    pre_transforms,
    post_transforms,
    inference: { input: image, output, ...rest },
  }
  try {
    return { config: parse(record), field: output, ...(cropMargin === undefined ? {} : { cropMargin }) }
  } catch (error) {
    throw placedInFirst(error)
  }
}

/** An error of a first model's config, with the place it has in the whole config. */
export function placedInFirst(error: unknown): unknown {
  if (!(error instanceof AppError)) return error
  const message = error.message.replaceAll(/\bconfig\.(?:inference\.)?(?!inference)/g, 'config.inference.first.')
  const hint = error.hint === undefined ? {} : { hint: error.hint }
  return new AppError(error.code, message, { ...hint, cause: error })
}
