/**
 * The models as this server knows them: a picture of the manifests in memory, with the bundled models beneath. It is
 * renewed by our own publishes at once and, with auto-reload, by a look at the files now and then.
 */
import { isInteractive, type ModelConfig, type ModelRef, type RewriteChoices } from '../contract/model.js'
import { AppError } from '../errors.js'
import { parseModelConfig } from '../pipelines/parse-model-config.js'
import { networkNames } from '../pipelines/several-networks.js'
import type { Log } from '../util/log.js'
import type { BundledModel } from './bundled-models.js'
import { allWeights, isUnreadable, type Manifest, type Published, revisionOf, type Weights } from './manifest.js'
import type { ManifestStore } from './manifest-store.js'
import type { ModelEntry, ModelFilter, ModelPart } from './registry.js'
import { exists } from './weights-store.js'

export interface ModelDirectoryOptions {
  readonly manifests: ManifestStore
  readonly bundled: readonly BundledModel[]
  /** What trials on this machine found since a model was proved, or of one that never was. */
  readonly rewrites?: Pick<RewriteChoices, 'known'> | undefined
  /** Told when another server has replaced or removed a model. */
  readonly onReplaced: (name: string) => void
  readonly log: Pick<Log, 'warn'>
}

/** A model in memory: what clients may see, and where its weights are. */
interface Known {
  readonly entry: ModelEntry
  readonly weightsPaths: readonly string[]
}

export class ModelDirectory {
  readonly #options: ModelDirectoryOptions
  readonly #bundled: ReadonlyMap<string, BundledModel>
  readonly #known = new Map<string, Known>()
  /** Of the manifest that #known shows, to see changes without reading. */
  readonly #signatures = new Map<string, string>()
  /** Grows with every publish of ours, so that a look that began before it does not undo it. */
  readonly #epochs = new Map<string, number>()

  constructor(options: ModelDirectoryOptions) {
    this.#options = options
    this.#bundled = new Map(options.bundled.map((model) => [model.name, model]))
  }

  bundled(name: string): BundledModel | undefined {
    return this.#bundled.get(name)
  }

  list({ label, type }: ModelFilter = {}): readonly ModelEntry[] {
    const wantedLabel = label?.toLowerCase()
    const wantedType = type?.toLowerCase()
    return [...this.#known.keys()]
      .toSorted()
      .map((name) => this.#view(name)!)
      .filter(({ config }) => {
        if (wantedType && config?.type !== wantedType) return false
        return !wantedLabel || (config !== undefined && findsLabel(config, wantedLabel))
      })
  }

  get(name: string): ModelEntry {
    const entry = this.#view(name)
    if (!entry) throw this.#unknown(name)
    return entry
  }

  /** What a runner needs, parts of a pipeline included. Throws MODEL_NOT_FOUND or MODEL_NOT_READY. */
  resolve(name: string): ModelRef {
    return this.#resolve(name, [])
  }

  /** The model and the pipelines that it is part of, each with the revision that serves now. */
  usersOf(name: string): readonly { readonly name: string; readonly revision: string | undefined }[] {
    const users = [...this.#known.values()].filter(({ entry }) => entry.config?.pipeline?.models.includes(name))
    return [name, ...users.map(({ entry }) => entry.name)].map((one) => ({
      name: one,
      revision: this.#view(one)?.revision,
    }))
  }

  /** Shows what the disk says now of `name`. */
  async renew(name: string): Promise<void> {
    this.#epochs.set(name, (this.#epochs.get(name) ?? 0) + 1)
    const signature = await this.#options.manifests.signature(name)
    this.#show(name, await this.#readKnown(name), signature)
  }

  /** Looks at every name. A disk that fails for a moment leaves the picture as it was; the next look tries again. */
  async poll(): Promise<void> {
    const names = [...(await this.#options.manifests.names()), ...this.#bundled.keys(), ...this.#known.keys()]
    for (const name of new Set(names)) await this.#look(name).catch((error: unknown) => this.#complain(name, error))
  }

  /** Renews what is shown of a name if its manifest has changed, unless we are changing it ourselves. */
  async #look(name: string): Promise<void> {
    const epoch = this.#epochs.get(name)
    const signature = await this.#options.manifests.signature(name)
    if (signature === this.#signatures.get(name)) return
    const known = await this.#readKnown(name)
    if (this.#epochs.get(name) !== epoch) return
    const before = this.#known.get(name)?.entry.revision
    this.#show(name, known, signature)
    if (before !== undefined && before !== known?.entry.revision) this.#options.onReplaced(name)
  }

  #show(name: string, known: Known | undefined, signature: string): void {
    if (known) this.#known.set(name, known)
    else this.#known.delete(name)
    this.#signatures.set(name, signature)
  }

  async #readKnown(name: string): Promise<Known | undefined> {
    const { manifests } = this.#options
    let manifest: Manifest | undefined
    try {
      manifest = await manifests.read(name)
    } catch (error) {
      if (!isUnreadable(error)) throw error
      this.#complain(name, error)
      const entry = { name, revision: 'unreadable', generation: 0, origin: 'workspace', state: 'FAILED' } as const
      const reason = 'its manifest cannot be read; PUT or DELETE the model'
      return { entry: { ...entry, reason, createdAt: new Date(0).toISOString() }, weightsPaths: [] }
    }
    if (manifest?.deleted) return undefined
    if (manifest) {
      const paths = allWeights(manifest).map((weights) => manifests.weightsPath(name, weights))
      const there = await Promise.all(paths.map(exists))
      return knownOf(name, manifest, 'workspace', there.every(Boolean) ? paths : [])
    }
    const bundled = this.#bundled.get(name)
    if (!bundled) return undefined
    const weights = bundled.weights && { file: '', sha256: bundled.weights.sha256, bytes: bundled.weights.bytes }
    return knownOf(
      name,
      { ...bundled, generation: 0, weights },
      'bundled',
      bundled.weights ? [bundled.weights.path] : [],
    )
  }

  /** An entry as of now: a pipeline also fails with its parts. */
  #view(name: string): ModelEntry | undefined {
    const known = this.#known.get(name)
    if (!known) return undefined
    if (known.entry.state !== 'UNLOADED' || known.entry.config?.type !== 'pipeline') {
      const rewrites = this.#options.rewrites?.known(known.entry.revision)
      return rewrites ? { ...known.entry, rewrites } : known.entry
    }
    try {
      return { ...known.entry, revision: this.#resolve(name, []).revision }
    } catch (error) {
      return { ...known.entry, state: 'FAILED', reason: (error as AppError).message }
    }
  }

  #resolve(name: string, path: readonly string[]): ModelRef {
    const known = this.#known.get(name)
    if (!known) throw this.#unknown(name)
    const { entry } = known
    if (entry.state === 'FAILED' || !entry.config)
      throw new AppError('MODEL_NOT_READY', `model '${name}' cannot be used: ${entry.reason}`, {
        hint: 'an administrator can PUT it again',
      })
    const ref = this.refOf(name, entry.config, entry.revision, known.weightsPaths, [...path, name])
    return entry.rewrites ? { ...ref, rewrites: entry.rewrites } : ref
  }

  /** What a runner needs for such a model. `path` names the pipelines on the way to it. Throws as resolve does. */
  refOf(
    name: string,
    config: ModelConfig,
    revision: string,
    [weights, ...more]: readonly string[],
    path: readonly string[],
  ): ModelRef {
    const own = {
      name,
      config,
      revision,
      ...(weights === undefined ? {} : { weightsPath: weights }),
      ...(more.length === 0 ? {} : { morePaths: more }),
    }
    if (!config.pipeline) return own
    const named = config.pipeline.models.map((part) => {
      if (path.includes(part))
        throw new AppError('BAD_MODEL_CONFIG', `pipeline '${name}' runs itself through '${part}'`)
      if (!this.#known.has(part))
        throw new AppError('MODEL_NOT_READY', `pipeline '${name}' needs the model '${part}', which is not here`, {
          hint: `load '${part}' first`,
        })
      return this.#resolve(part, path)
    })
    const parts = volumeFirst(named)
    const pipeline = { ...config.pipeline, models: parts.map((part) => part.name) }
    const revisions = parts.map((part) => part.revision)
    return { ...own, config: { ...config, pipeline }, revision: revisionOf([revision, revisions], undefined), parts }
  }

  #unknown(name: string): AppError {
    const names = [...this.#known.keys()].toSorted()
    const shown = names.slice(0, 20).join(', ')
    return new AppError('MODEL_NOT_FOUND', `there is no model '${name.slice(0, 80)}'`, {
      hint: names.length === 0 ? 'no model is loaded' : `models here: ${shown}${names.length > 20 ? ', …' : ''}`,
    })
  }

  #complain(name: string, error: unknown): void {
    this.#options.log.warn({ model: name, err: error }, 'model registry')
  }
}

/** `label` in lower case. Interactive models without labels find whatever is pointed at: MITK asks by the structure's name. */
function findsLabel({ type, labels }: ModelConfig, label: string): boolean {
  if (labels.length === 0) return isInteractive(type)
  return labels.some((one) => one.toLowerCase() === label)
}

export function needsWeights(config: ModelConfig): boolean {
  return config.type !== 'pipeline' && config.inference.engine !== 'kserve'
}

/** The parts of a deepgrow pipeline as pipelines want them, whichever way round the config has them. */
function volumeFirst(parts: readonly ModelRef[]): readonly ModelRef[] {
  const [first, second, ...more] = parts
  if (!first || !second || more.length > 0) return parts
  const is = (part: ModelRef, dimensions: RegExp) => dimensions.test(String(part.config.info.deepgrow))
  return is(first, /2d/i) && is(second, /3d/i) ? [second, first] : parts
}

/** What each of several networks is for; undefined for a model of one. */
function partsOf(config: ModelConfig, weights: readonly Weights[]): ModelPart[] | undefined {
  const names = networkNames(config)
  if (!names || names.length !== weights.length) return undefined
  const { networks = [], join } = config.inference
  const own = join?.kind === 'labelMaps' ? 'label map' : networks.length === 1 ? 'second' : (join?.kind ?? 'mean')
  const parts = names.map((network, i): ModelPart => {
    const { sha256, bytes } = weights[i]!
    if (i >= networks.length) return { network, sha256, bytes, role: 'first' }
    return { network, sha256, bytes, role: own, ...(join?.kind === 'labelMaps' ? { labels: join.maps[i]! } : {}) }
  })
  return [...parts.slice(networks.length), ...parts.slice(0, networks.length)]
}

function knownOf(
  name: string,
  model: Omit<Published, 'config' | 'generation'> & {
    readonly config?: unknown
    readonly generation: number
    readonly previous?: Published | undefined
  },
  origin: ModelEntry['origin'],
  paths: readonly string[],
): Known {
  const { previous } = model
  const entry: ModelEntry = {
    name,
    revision: model.revision,
    generation: model.generation,
    origin,
    state: 'UNLOADED',
    rawConfig: model.config,
    sha256: model.weights?.sha256,
    bytes: model.weights && allWeights(model).reduce((sum, { bytes }) => sum + bytes, 0),
    tensors: model.tensors,
    rewrites: model.rewrites,
    createdAt: model.createdAt,
    previous: previous && {
      generation: previous.generation,
      revision: previous.revision,
      createdAt: previous.createdAt,
    },
  }
  try {
    const config = parseModelConfig(model.config, name)
    if (needsWeights(config) && paths.length === 0)
      return { entry: { ...entry, config, state: 'FAILED', reason: 'its weights are missing' }, weightsPaths: [] }
    const networks = partsOf(config, allWeights(model))
    return { entry: { ...entry, config, ...(networks ? { networks } : {}) }, weightsPaths: paths }
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { entry: { ...entry, state: 'FAILED', reason: error.message }, weightsPaths: [] }
  }
}
