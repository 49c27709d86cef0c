/**
 * How models change: under the name's lock the new one is brought in and proved, and only then its manifest is replaced, in
 * one rename. If anything fails, what came in is removed and nothing has changed.
 *
 * Crash safety: weights get their final name only when complete and synced, and whatever a dead writer left behind is no
 * manifest's and is collected.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { ModelConfig, ModelHost, ModelRef } from '../contract/model.js'
import { AppError } from '../errors.js'
import { parseModelConfig } from '../pipelines/parse-model-config.js'
import { networkNames } from '../pipelines/several-networks.js'
import type { Lease } from '../util/lease.js'
import type { Log } from '../util/log.js'
import { checkName } from '../util/safe-name.js'
import type { Workspace } from '../workspace/open-workspace.js'
import { type CatalogModel, findByPath, findByUrl } from './catalog.js'
import type { Collector } from './collect.js'
import type { Intake, IntakeLimits } from './intake.js'
import { allWeights, type LiveManifest, type Published, revisionOf, type Weights } from './manifest.js'
import { type ManifestStore, ownFile } from './manifest-store.js'
import { type ModelDirectory, needsWeights } from './model-directory.js'
import type { ModelEntry, ModelSource } from './registry.js'
import { storeWeights } from './weights-store.js'

export interface PublisherOptions {
  readonly manifests: ManifestStore
  readonly directory: ModelDirectory
  readonly collector: Collector
  readonly workspace: Pick<Workspace, 'discard'>
  readonly lock: (name: string, use: 'brief' | 'long') => Promise<Lease>
  /** `--model-catalog`: a folder or a JSON file; empty for none. */
  readonly catalog: string
  readonly scheduler: Pick<ModelHost, 'prove'>
  readonly limits: IntakeLimits
  readonly log: Pick<Log, 'info' | 'warn'>
}

/** A model that was brought in and is not published yet. */
interface Candidate {
  readonly rawConfig: unknown
  readonly config: ModelConfig
  /** One for each of the config's networks; none for a model without weights of its own. */
  readonly weights: readonly Weights[]
  /** Those that came with this change, and go again when it fails. */
  readonly fresh?: readonly Weights[] | undefined
}

export class Publisher {
  readonly #options: PublisherOptions

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  async put(name: string, source: ModelSource, signal?: AbortSignal): Promise<ModelEntry> {
    return this.#change(
      name,
      async (folder) => {
        if (source.kind === 'generation') return this.#bringBack(name, source.generation)
        const workFolder = join(folder, `${randomUUID()}.part`)
        const { intake, take } = await this.#receive(source, workFolder, signal)
        const config = parseModelConfig(intake.config, name)
        const files = needsWeights(config) ? intake.networks : []
        if (files.length === 0 && needsWeights(config))
          throw new AppError('BAD_MODEL', 'data is missing: a model of this config needs its weights', {
            hint: 'send the part data with the ONNX file; only pipelines and kserve models have none',
          })
        checkNetworks(config, files.length)
        const stored: Awaited<ReturnType<typeof storeWeights>>[] = []
        for (const { path, beside } of files) stored.push(await storeWeights(folder, path, beside, take))
        const weights = stored.map((one) => one.weights)
        return { rawConfig: intake.config, config, weights, fresh: weights.filter((_, i) => stored[i]!.isNew) }
      },
      signal,
    )
  }

  async patch(name: string, rawConfig: unknown, signal?: AbortSignal): Promise<ModelEntry> {
    return this.#change(
      name,
      async (folder, manifest) => {
        this.#options.directory.get(name)
        const config = parseModelConfig(rawConfig, name)
        if (manifest !== undefined) {
          if (needsWeights(config) && !manifest.weights)
            throw new AppError('BAD_MODEL_CONFIG', `model '${name}' has no weights, which this config needs`, {
              hint: 'PUT the model again with config and data',
            })
          const weights = needsWeights(config) ? weightsByName(config, manifest, name) : []
          checkNetworks(config, weights.length)
          return { rawConfig, config, weights }
        }
        const weights = this.#options.directory.bundled(name)?.weights
        const stored = weights && needsWeights(config) ? await storeWeights(folder, weights.path, [], false) : undefined
        const own = stored ? [stored.weights] : []
        checkNetworks(config, own.length)
        return { rawConfig, config, weights: own, fresh: stored?.isNew ? own : [] }
      },
      signal,
    )
  }

  async remove(name: string): Promise<void> {
    const { manifests, directory, collector, log } = this.#options
    const lock = await this.#options.lock(checkName(name, 'model'), 'brief')
    try {
      await directory.renew(name)
      directory.get(name)
      const manifest = await manifests.readUsable(name)
      if (manifest?.deleted === false) await collector.touch(name, manifest)
      if (directory.bundled(name)) {
        await manifests.makeFolder(name)
        await manifests.write(name, { format: 1, name, deleted: true, generation: (manifest?.generation ?? 0) + 1 })
      } else await manifests.remove(name)
      await directory.renew(name)
    } finally {
      await lock.release()
    }
    log.info({ model: name }, 'model removed')
  }

  /** The one way a model is published; `prepare` brings it in. */
  async #change(
    name: string,
    prepare: (folder: string, manifest: LiveManifest | undefined) => Promise<Candidate>,
    signal: AbortSignal | undefined,
  ): Promise<ModelEntry> {
    const { manifests, directory, collector, scheduler, log } = this.#options
    const lock = await this.#options.lock(checkName(name, 'model'), 'long')
    let candidate: Candidate | undefined
    let isPublished = false
    try {
      await directory.renew(name)
      const folder = await manifests.makeFolder(name)
      const seen = await manifests.readUsable(name)
      const live = seen?.deleted === false ? seen : undefined
      candidate = await prepare(folder, live)
      const [weights, ...more] = candidate.weights
      const hashes = candidate.weights.map(({ sha256 }) => sha256).join('+')
      const revision = revisionOf(candidate.rawConfig, hashes || undefined)
      const ref = this.#candidateRef(name, candidate, revision)
      throwIfCancelled(signal)
      const proof = await scheduler.prove(ref, signal)
      throwIfCancelled(signal)
      const published: Published = {
        generation: (seen?.generation ?? 0) + 1,
        revision,
        createdAt: new Date().toISOString(),
        config: candidate.rawConfig,
        ...(weights ? { weights } : {}),
        ...(more.length === 0 ? {} : { more }),
        tensors: { inputs: [...proof.inputs], outputs: [...proof.outputs] },
        ...(proof.rewrites ? { rewrites: proof.rewrites } : {}),
      }
      if (!(await lock.verify()) || (await manifests.readUsable(name))?.generation !== seen?.generation)
        throw new AppError('BUSY_NAME', `model '${name}' was changed by another server meanwhile`, {
          hint: 'look at the model, then try again',
        })
      if (live) await collector.touch(name, live)
      const previous = live && withoutPrevious(live)
      await manifests.write(name, { format: 1, name, deleted: false, ...published, ...(previous ? { previous } : {}) })
      isPublished = true
      await directory.renew(name)
      log.info({ model: name, revision, generation: published.generation }, 'model published')
      return directory.get(name)
    } finally {
      await this.#tidyUp(name, lock, isPublished ? 'published' : candidate)
      await lock.release()
    }
  }

  /** After a change, under its lock: what it unpacked goes, and all of one that failed. The sweep gets what stays. */
  async #tidyUp(name: string, lock: Lease, outcome: 'published' | Candidate | undefined): Promise<void> {
    const { manifests, collector, workspace, log } = this.#options
    try {
      if (outcome === 'published') return await collector.collectUnfinished(name)
      for (const weights of outcome?.fresh ?? [])
        await workspace.discard(join(manifests.folderOf(name), ownFile(weights)))
      await collector.collectUnder(name, lock)
    } catch (error) {
      log.warn({ model: name, err: error }, 'what a change of a model left stays for now')
    }
  }

  /** What the proof runs. A pipeline that cannot be put together is here the config's fault. */
  #candidateRef(name: string, candidate: Candidate, revision: string): ModelRef {
    const { manifests, directory } = this.#options
    try {
      const weights = candidate.weights.map((one) => manifests.weightsPath(name, one))
      return directory.refOf(name, candidate.config, revision, weights, [name])
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      const hint = error.hint === undefined ? {} : { hint: error.hint }
      throw new AppError('BAD_MODEL_CONFIG', error.message, { ...hint, cause: error })
    }
  }

  async #receive(
    source: Exclude<ModelSource, { kind: 'generation' }>,
    workFolder: string,
    signal: AbortSignal | undefined,
  ): Promise<{ intake: Intake; take: boolean }> {
    const { limits } = this.#options
    // It knows every archive, bundle and transform: loaded with the first upload, and not at the start.
    const { readLayout, takeIn, takeInFiles, takeParts } = await import('./intake.js')
    if (source.kind === 'parts') return { intake: takeParts(source), take: true }
    if (source.kind === 'files') return { intake: await takeInFiles(source, workFolder, limits, signal), take: true }
    const found = await this.#find(source)
    if (found.kind === 'model') return { intake: found.intake, take: false }
    if (found.kind === 'folder') return { intake: await readLayout(undefined, found.files, limits), take: false }
    const intake = await takeIn(found.config, found.path, workFolder, limits, signal)
    // What an archive was unpacked to is ours to move; the catalogue's own file is not.
    return { intake, take: intake.networks[0]?.path !== found.path }
  }

  /** The catalogue first; the bundled models are part of it, and so can be had back or under another name. */
  async #find(
    source: Exclude<ModelSource, { kind: 'generation' | 'files' | 'parts' }>,
  ): Promise<CatalogModel | { readonly kind: 'model'; readonly intake: Intake }> {
    const { catalog, directory } = this.#options
    const bundled = source.kind === 'catalog' ? directory.bundled(source.path) : undefined
    const asIs = bundled && {
      kind: 'model' as const,
      intake: {
        config: bundled.config,
        networks: bundled.weights ? [{ path: bundled.weights.path, beside: [] }] : [],
      },
    }
    if (catalog === '') {
      if (asIs) return asIs
      throw new AppError('BAD_MODEL', 'this server has no model catalogue, and fetches no models from NGC', {
        hint: 'send the parts config and data, or have the server started with --model-catalog',
      })
    }
    try {
      if (source.kind === 'url') return await findByUrl(catalog, source.url, source.sha256)
      return await findByPath(catalog, source.path, source.version)
    } catch (error) {
      if (asIs && error instanceof AppError && error.code === 'MODEL_NOT_FOUND') return asIs
      throw error
    }
  }

  async #bringBack(name: string, generation: number): Promise<Candidate> {
    const manifest = await this.#options.manifests.readUsable(name)
    const live = manifest?.deleted === false ? manifest : undefined
    const kept = [live, live?.previous].find((one) => one?.generation === generation)
    if (!kept)
      throw new AppError('MODEL_NOT_FOUND', `generation ${generation} of model '${name}' is not kept`, {
        hint: `kept: ${[live?.generation, live?.previous?.generation].filter((one) => one !== undefined).join(', ') || 'none'}`,
      })
    return { rawConfig: kept.config, config: parseModelConfig(kept.config, name), weights: allWeights(kept) }
  }
}

/** The weights for another config of a model: by the names of its networks, where both configs have names. Throws BAD_MODEL_CONFIG. */
function weightsByName(config: ModelConfig, manifest: LiveManifest, name: string): Weights[] {
  const weights = allWeights(manifest)
  const wanted = networkNames(config)
  const known = networkNames(parseModelConfig(manifest.config, name))
  if (!wanted || !known) return weights
  return wanted.map((network) => {
    const found = weights[known.indexOf(network)]
    if (found) return found
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `the model has no network '${network.slice(0, 200)}', which the config names`,
      {
        hint: `its networks are called ${known.join(', ').slice(0, 400)}; PUT config and data together to change them`,
      },
    )
  })
}

/** The config names as many networks as there are files, `inference.parts` has two; any other config runs one. */
function checkNetworks(config: ModelConfig, files: number): void {
  const { parts } = config.inference
  const named = parts ? 2 : (networkNames(config)?.length ?? 1)
  if (!needsWeights(config) || named === files) return
  if (parts)
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `config.inference.parts is an encoder and a decoder, and the model has ${files === 1 ? 'one network' : `${files} networks`}`,
      { hint: 'send a zip that holds both, or the parts encoder and decoder, together with the config' },
    )
  throw new AppError('BAD_MODEL_CONFIG', `config.inference names ${named} networks, and the model has ${files}`, {
    hint: 'send config and data together to change how many networks a model has',
  })
}

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AppError('CANCELLED', 'the request was cancelled')
}

function withoutPrevious({
  generation,
  revision,
  createdAt,
  config,
  weights,
  more,
  tensors,
  rewrites,
}: LiveManifest): Published {
  return {
    generation,
    revision,
    createdAt,
    config,
    ...(weights ? { weights } : {}),
    ...(more ? { more } : {}),
    ...(tensors ? { tensors } : {}),
    ...(rewrites ? { rewrites } : {}),
  }
}
