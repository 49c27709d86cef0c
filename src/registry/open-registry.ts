/**
 * The registry on disk. Each name has a folder under `<workspace>/models` with a manifest and content-addressed weights;
 * the manifest is the model, everything else there is weights of it or rubbish. The memory's picture is a copy of the
 * manifests, renewed by our own publishes at once and, with auto-reload, by a look at the files every two seconds.
 *
 * Crash safety: weights get their final name only when complete and synced, the manifest is replaced in one rename after
 * the proof, and whatever a dead writer left behind is no manifest's and is swept.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, rmdir, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { isInteractive, type ModelConfig, type ModelHost, type ModelRef } from '../contract/model.js'
import { AppError } from '../errors.js'
import { parseModelConfig } from '../pipelines/parse-model-config.js'
import { syncFolder } from '../util/atomic-write.js'
import { checkName, childPath } from '../util/safe-name.js'
import { type BundledModel, foldersIn, readBundledModels } from './bundled-models.js'
import { type CatalogModel, findByPath, findByUrl } from './catalog.js'
import { type Intake, type IntakeLimits, readLayout, takeIn } from './intake.js'
import {
  isMissing,
  isUnreadable,
  type LiveManifest,
  MANIFEST_FILE,
  type Manifest,
  type Published,
  readManifest,
  readUsableManifest,
  revisionOf,
  type Weights,
  writeManifest,
} from './manifest.js'
import { abandonedNames, NameLock } from './name-lock.js'
import type { ModelChange, ModelEntry, ModelFilter, ModelRegistry, ModelSource } from './registry.js'
import { exists, storeWeights } from './weights-store.js'

const POLL_MS = 2_000
/** Another server may still start a runner for a model it has not heard is gone; its weights stay that long. */
const FOREIGN_USE_MS = 10 * 60_000
const SWEEP_MS = 10 * 60_000
/** How long a DELETE waits for the runner to end; running jobs may take longer, and then it answers before. */
const RETIRE_WAIT_MS = 5_000
const WEIGHTS = /^[0-9a-f]{64}\.(onnx|d)$/

export interface RegistryLog {
  info(fields: Readonly<Record<string, unknown>>, message: string): void
  warn(fields: Readonly<Record<string, unknown>>, message: string): void
}

export interface RegistryOptions {
  /** `<workspace>/models`; created when absent. */
  readonly folder: string
  /** The folder of the models that come with the program. */
  readonly bundledFolder: string
  /** `--model-catalog`: a folder or a JSON file; empty for none. */
  readonly catalog: string
  readonly autoReload: boolean
  readonly scheduler: ModelHost
  readonly limits: IntakeLimits
  readonly log: RegistryLog
}

export async function openRegistry(options: RegistryOptions): Promise<ModelRegistry> {
  await mkdir(options.folder, { recursive: true })
  const registry = new WorkspaceRegistry(options, await readBundledModels(options.bundledFolder))
  await registry.start()
  return registry
}

/** A model in memory: what clients may see, and where its weights are. */
interface Known {
  readonly entry: ModelEntry
  readonly weightsPath: string | undefined
}

class WorkspaceRegistry implements ModelRegistry {
  readonly #options: RegistryOptions
  readonly #bundled: ReadonlyMap<string, BundledModel>
  readonly #known = new Map<string, Known>()
  /** Of the manifest that #known shows, to see changes without reading. */
  readonly #signatures = new Map<string, string>()
  /** Grows with every publish of ours, so that a poll that began before it does not undo it. */
  readonly #epochs = new Map<string, number>()
  readonly #listeners = new Set<(change: ModelChange) => void>()
  readonly #background = new Set<Promise<unknown>>()
  readonly #timers: NodeJS.Timeout[] = []
  #polling = false
  #closed = false
  #stop: () => void = () => {}
  /** Ends the waiting for runners: those that still work are the scheduler's to end. */
  readonly #stopped = new Promise<void>((resolve) => {
    this.#stop = resolve
  })

  constructor(options: RegistryOptions, bundled: readonly BundledModel[]) {
    this.#options = options
    this.#bundled = new Map(bundled.map((model) => [model.name, model]))
  }

  async start(): Promise<void> {
    await this.#poll()
    await this.#sweep()
    if (this.#options.autoReload) this.#every(POLL_MS, () => this.#poll())
    this.#every(SWEEP_MS, () => this.#sweep())
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

  resolve(name: string): ModelRef {
    return this.#resolve(name, [])
  }

  async put(name: string, source: ModelSource, signal?: AbortSignal): Promise<ModelEntry> {
    return this.#change(
      name,
      async (folder) => {
        if (source.kind === 'generation') return this.#bringBack(name, source.generation)
        const workFolder = join(folder, `${randomUUID()}.part`)
        const { intake, take } = await this.#receive(source, workFolder, signal)
        const config = parseModelConfig(intake.config, name)
        const stored =
          intake.onnx && needsWeights(config)
            ? await storeWeights(folder, intake.onnx.path, intake.onnx.beside, take)
            : undefined
        if (!stored && needsWeights(config))
          throw new AppError('BAD_MODEL', 'data is missing: a model of this config needs its weights', {
            hint: 'send the part data with the ONNX file; only pipelines and kserve models have none',
          })
        return { rawConfig: intake.config, config, ...stored }
      },
      signal,
    )
  }

  async patch(name: string, rawConfig: unknown, signal?: AbortSignal): Promise<ModelEntry> {
    return this.#change(
      name,
      async (folder, manifest) => {
        this.get(name)
        const config = parseModelConfig(rawConfig, name)
        if (manifest !== undefined) {
          if (needsWeights(config) && !manifest.weights)
            throw new AppError('BAD_MODEL_CONFIG', `model '${name}' has no weights, which this config needs`, {
              hint: 'PUT the model again with config and data',
            })
          return { rawConfig, config, weights: needsWeights(config) ? manifest.weights : undefined }
        }
        const weights = this.#bundled.get(name)?.weights
        const stored = weights && needsWeights(config) ? await storeWeights(folder, weights.path, [], false) : undefined
        return { rawConfig, config, ...stored }
      },
      signal,
    )
  }

  async remove(name: string): Promise<void> {
    const lock = await this.#lock(name, 'brief')
    try {
      await this.#renew(name)
      this.get(name)
      const folder = this.#folder(name)
      const path = join(folder, MANIFEST_FILE)
      const manifest = await readUsableManifest(path)
      if (manifest?.deleted === false) await this.#touch(folder, manifest)
      if (this.#bundled.has(name)) {
        await mkdir(folder, { recursive: true })
        const generation = (manifest?.generation ?? 0) + 1
        await writeManifest(path, { format: 1, name, deleted: true, generation })
      } else {
        await rm(path, { force: true })
        await syncFolder(folder)
      }
      await this.#renew(name)
    } finally {
      await lock.release()
    }
    this.#options.log.info({ model: name }, 'model removed')
    const gone = this.#track(this.#retireAndCollect(name))
    await Promise.race([gone, new Promise((done) => setTimeout(done, RETIRE_WAIT_MS).unref())])
  }

  onChange(listener: (change: ModelChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const timer of this.#timers) clearInterval(timer)
    this.#stop()
    await Promise.allSettled(this.#background)
  }

  // ---- publishing ----

  /**
   * The one way a model is published: under the name's lock, `prepare` brings the weights in, then they are proved, and
   * only then the manifest is replaced. If anything fails, what came in is removed and nothing has changed.
   */
  async #change(
    name: string,
    prepare: (folder: string, manifest: LiveManifest | undefined) => Promise<Candidate>,
    signal: AbortSignal | undefined,
  ): Promise<ModelEntry> {
    checkName(name, 'model')
    const folder = this.#folder(name)
    const lock = await this.#lock(name, 'long')
    let candidate: Candidate | undefined
    let isPublished = false
    try {
      await this.#renew(name)
      if (await mkdir(folder, { recursive: true })) await syncFolder(this.#options.folder)
      const path = join(folder, MANIFEST_FILE)
      const seen = await readUsableManifest(path)
      const live = seen?.deleted === false ? seen : undefined
      candidate = await prepare(folder, live)
      const revision = revisionOf(candidate.rawConfig, candidate.weights?.sha256)
      const ref = this.#candidateRef(name, candidate, revision, weightsPath(folder, candidate.weights))
      throwIfCancelled(signal)
      const proof = await this.#options.scheduler.prove(ref, signal)
      throwIfCancelled(signal)
      const published: Published = {
        generation: (seen?.generation ?? 0) + 1,
        revision,
        createdAt: new Date().toISOString(),
        config: candidate.rawConfig,
        ...(candidate.weights ? { weights: candidate.weights } : {}),
        tensors: { inputs: [...proof.inputs], outputs: [...proof.outputs] },
      }
      if (!(await lock.verify()) || (await readUsableManifest(path))?.generation !== seen?.generation)
        throw new AppError('BUSY_NAME', `model '${name}' was changed by another server meanwhile`, {
          hint: 'look at the model, then try again',
        })
      if (live) await this.#touch(folder, live)
      const previous = live && withoutPrevious(live)
      await writeManifest(path, { format: 1, name, deleted: false, ...published, ...(previous ? { previous } : {}) })
      isPublished = true
      await this.#renew(name)
      this.#options.log.info({ model: name, revision, generation: published.generation }, 'model published')
      // Jobs of the old version finish on it; what no manifest names goes when they have.
      void this.#track(this.#retireAndCollect(name))
      return this.get(name)
    } finally {
      if (!isPublished && candidate?.isNew && candidate.weights) await discard(folder, ownFile(candidate.weights))
      await this.#collect(name, !isPublished).catch((error: unknown) => this.#complain(name, error))
      await lock.release()
    }
  }

  /** What the proof runs. A pipeline that cannot be put together is here the config's fault. */
  #candidateRef(name: string, candidate: Candidate, revision: string, weights: string | undefined): ModelRef {
    try {
      return this.#refOf(name, candidate.config, revision, weights, [name])
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
    if (source.kind === 'files')
      return { intake: await takeIn(source.config, source.data, workFolder, limits, signal), take: true }
    const found = await this.#find(source)
    if (found.kind === 'model') return { intake: found.intake, take: false }
    if (found.kind === 'folder') return { intake: await readLayout(undefined, found.files, limits), take: false }
    const intake = await takeIn(found.config, found.path, workFolder, limits, signal)
    // What an archive was unpacked to is ours to move; the catalogue's own file is not.
    return { intake, take: intake.onnx?.path !== found.path }
  }

  /** The catalogue first; the bundled models are part of it, and so can be had back or under another name. */
  async #find(
    source: Exclude<ModelSource, { kind: 'generation' | 'files' }>,
  ): Promise<CatalogModel | { readonly kind: 'model'; readonly intake: Intake }> {
    const { catalog } = this.#options
    const bundled = source.kind === 'catalog' ? this.#bundled.get(source.path) : undefined
    const asIs = bundled && {
      kind: 'model' as const,
      intake: {
        config: bundled.config,
        ...(bundled.weights ? { onnx: { path: bundled.weights.path, beside: [] } } : {}),
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
    const manifest = await readUsableManifest(join(this.#folder(name), MANIFEST_FILE))
    const live = manifest?.deleted === false ? manifest : undefined
    const kept = [live, live?.previous].find((one) => one?.generation === generation)
    if (!kept)
      throw new AppError('MODEL_NOT_FOUND', `generation ${generation} of model '${name}' is not kept`, {
        hint: `kept: ${[live?.generation, live?.previous?.generation].filter((one) => one !== undefined).join(', ') || 'none'}`,
      })
    return { rawConfig: kept.config, config: parseModelConfig(kept.config, name), weights: kept.weights }
  }

  async #lock(name: string, use: 'brief' | 'long'): Promise<NameLock> {
    return NameLock.acquire(this.#locks, checkName(name, 'model'), use)
  }

  // ---- memory ----

  /** Shows what the disk says now of `name`, and tells when that is something new. */
  async #renew(name: string): Promise<void> {
    this.#epochs.set(name, (this.#epochs.get(name) ?? 0) + 1)
    const signature = await this.#signature(name)
    this.#show(name, await this.#readKnown(name), signature)
  }

  async #poll(): Promise<void> {
    if (this.#polling) return
    this.#polling = true
    try {
      const names = [...(await foldersIn(this.#options.folder)), ...this.#bundled.keys(), ...this.#known.keys()]
      // A disk that fails for a moment leaves the picture as it was; the next look tries again.
      for (const name of new Set(names)) await this.#look(name).catch((error: unknown) => this.#complain(name, error))
    } finally {
      this.#polling = false
    }
  }

  /** Renews what is shown of a name if its manifest has changed, unless we are changing it ourselves. */
  async #look(name: string): Promise<void> {
    const epoch = this.#epochs.get(name)
    const signature = await this.#signature(name)
    if (signature === this.#signatures.get(name)) return
    const known = await this.#readKnown(name)
    if (this.#epochs.get(name) !== epoch) return
    const before = this.#known.get(name)?.entry.revision
    this.#show(name, known, signature)
    if (before !== undefined && before !== known?.entry.revision)
      void this.#track(Promise.race([this.#retire(name), this.#stopped]))
  }

  #show(name: string, known: Known | undefined, signature: string): void {
    const before = this.#known.get(name)?.entry.revision
    if (known) this.#known.set(name, known)
    else this.#known.delete(name)
    this.#signatures.set(name, signature)
    const revision = known?.entry.revision
    if (before === revision) return
    for (const listener of this.#listeners) listener({ name, revision })
  }

  /**
   * Changes whenever the manifest is replaced: every replacement is a new file. The file is opened for it, since NFS looks
   * at the server's truth on open, while a plain stat may answer from a cache that is a minute old.
   */
  async #signature(name: string): Promise<string> {
    try {
      const file = await open(join(this.#folder(name), MANIFEST_FILE), 'r')
      try {
        const { ino, size, mtimeNs } = await file.stat({ bigint: true })
        return `${ino} ${size} ${mtimeNs}`
      } finally {
        await file.close()
      }
    } catch (error) {
      if (isMissing(error)) return 'none'
      throw error
    }
  }

  async #readKnown(name: string): Promise<Known | undefined> {
    const folder = this.#folder(name)
    let manifest: Manifest | undefined
    try {
      manifest = await readManifest(join(folder, MANIFEST_FILE))
    } catch (error) {
      if (!isUnreadable(error)) throw error
      this.#complain(name, error)
      const entry = { name, revision: 'unreadable', generation: 0, origin: 'workspace', state: 'FAILED' } as const
      const reason = 'its manifest cannot be read; PUT or DELETE the model'
      return { entry: { ...entry, reason, createdAt: new Date(0).toISOString() }, weightsPath: undefined }
    }
    if (manifest?.deleted) return undefined
    if (manifest) {
      const path = weightsPath(folder, manifest.weights)
      return knownOf(name, manifest, 'workspace', path && (await exists(path)) ? path : undefined)
    }
    const bundled = this.#bundled.get(name)
    if (!bundled) return undefined
    const weights = bundled.weights && { file: '', sha256: bundled.weights.sha256, bytes: bundled.weights.bytes }
    return knownOf(name, { ...bundled, generation: 0, weights }, 'bundled', bundled.weights?.path)
  }

  /** An entry as of now: a pipeline also fails with its parts. */
  #view(name: string): ModelEntry | undefined {
    const known = this.#known.get(name)
    if (known?.entry.state !== 'UNLOADED' || known.entry.config?.type !== 'pipeline') return known?.entry
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
    return this.#refOf(name, entry.config, entry.revision, known.weightsPath, [...path, name])
  }

  #refOf(
    name: string,
    config: ModelConfig,
    revision: string,
    weights: string | undefined,
    path: readonly string[],
  ): ModelRef {
    const own = { name, config, revision, ...(weights === undefined ? {} : { weightsPath: weights }) }
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

  // ---- rubbish ----

  /** Ends the runners of what this name was before, and of the pipelines it is part of. */
  async #retire(name: string): Promise<void> {
    const users = [...this.#known.values()].filter(({ entry }) => entry.config?.pipeline?.models.includes(name))
    for (const one of [name, ...users.map(({ entry }) => entry.name)])
      await this.#options.scheduler.retire(one, this.#view(one)?.revision)
  }

  async #retireAndCollect(name: string): Promise<void> {
    const isRetired = await Promise.race([this.#retire(name).then(() => true), this.#stopped.then(() => false)])
    // What is left then is swept at the next start.
    if (isRetired) await this.#collectUnlessBusy(name)
  }

  /** At start and now and then: what dead writers left, in the names that nobody is writing. */
  async #sweep(): Promise<void> {
    const locked = await abandonedNames(this.#locks)
    for (const name of new Set([...(await foldersIn(this.#options.folder)), ...locked]))
      if (!this.#closed) await this.#collectUnlessBusy(name)
  }

  /** Whoever is writing the name collects when done. */
  async #collectUnlessBusy(name: string): Promise<void> {
    let lock: NameLock
    try {
      lock = await this.#lock(name, 'brief')
    } catch (error) {
      if (error instanceof AppError) return
      throw error
    }
    try {
      await this.#collect(name, true)
    } finally {
      await lock.release()
    }
  }

  /** Removes from a name's folder what its manifest does not name, finished weights only when asked. Needs the lock. */
  async #collect(name: string, weightsToo: boolean): Promise<void> {
    const folder = this.#folder(name)
    let manifest: Manifest | undefined
    try {
      manifest = await readManifest(join(folder, MANIFEST_FILE))
    } catch {
      return // unreadable: it may name anything here
    }
    const live = manifest?.deleted === false ? manifest : undefined
    const kept = new Set([live?.weights, live?.previous?.weights].map((weights) => weights && ownFile(weights)))
    const files = await readdir(folder).catch((error: unknown) => {
      if (isMissing(error)) return []
      throw error
    })
    let left = 0
    for (const file of files) {
      const path = join(folder, file)
      const spared = WEIGHTS.test(file) && (!weightsToo || (await this.#mayBeInUse(path)))
      if (file === MANIFEST_FILE || kept.has(file) || spared) left++
      else await discard(folder, file)
    }
    if (left === 0) await rmdir(folder).catch(() => undefined)
  }

  async #mayBeInUse(path: string): Promise<boolean> {
    if (!this.#options.autoReload) return false
    const { mtimeMs } = await stat(path)
    return Date.now() - mtimeMs < FOREIGN_USE_MS
  }

  /** Starts the clock of weights that are about to lose their manifest. */
  async #touch(folder: string, manifest: LiveManifest): Promise<void> {
    const now = new Date()
    for (const weights of [manifest.weights, manifest.previous?.weights]) {
      if (weights) await utimes(join(folder, ownFile(weights)), now, now).catch(() => undefined)
    }
  }

  get #locks(): string {
    return join(this.#options.folder, '.locks')
  }

  #folder(name: string): string {
    return childPath(this.#options.folder, name, 'model')
  }

  #every(ms: number, work: () => Promise<void>): void {
    const timer = setInterval(() => {
      void this.#track(work().catch((error: unknown) => this.#complain('*', error)))
    }, ms)
    timer.unref()
    this.#timers.push(timer)
  }

  #track(work: Promise<unknown>): Promise<unknown> {
    const settled = work.catch((error: unknown) => this.#complain('*', error))
    this.#background.add(settled)
    return settled.finally(() => this.#background.delete(settled))
  }

  #complain(name: string, error: unknown): void {
    this.#options.log.warn({ model: name, err: error }, 'model registry')
  }
}

interface Candidate {
  readonly rawConfig: unknown
  readonly config: ModelConfig
  readonly weights?: Weights | undefined
  /** Whether the weights came with this change, so that they go again when it fails. */
  readonly isNew?: boolean | undefined
}

/** `label` in lower case. Interactive models without labels find whatever is pointed at: MITK asks by the structure's name. */
function findsLabel({ type, labels }: ModelConfig, label: string): boolean {
  if (labels.length === 0) return isInteractive(type)
  return labels.some((one) => one.toLowerCase() === label)
}

function needsWeights(config: ModelConfig): boolean {
  return config.type !== 'pipeline' && config.inference.engine !== 'kserve'
}

/** Under another name first: a removal that is cut short must not leave half a model under a name that means a whole one. */
async function discard(folder: string, file: string): Promise<void> {
  const rubbish = file.endsWith('.part') ? file : `${randomUUID()}.part`
  if (rubbish !== file) await rename(join(folder, file), join(folder, rubbish))
  await rm(join(folder, rubbish), { recursive: true, force: true })
}

/** The file or folder that these weights are, in their model's folder. */
function ownFile(weights: Weights): string {
  return weights.file.split('/')[0]!
}

/** The parts of a deepgrow pipeline as pipelines want them, whichever way round the config has them. */
function volumeFirst(parts: readonly ModelRef[]): readonly ModelRef[] {
  const [first, second, ...more] = parts
  if (!first || !second || more.length > 0) return parts
  const is = (part: ModelRef, dimensions: RegExp) => dimensions.test(String(part.config.info.deepgrow))
  return is(first, /2d/i) && is(second, /3d/i) ? [second, first] : parts
}

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AppError('CANCELLED', 'the request was cancelled')
}

function weightsPath(folder: string, weights: Weights | undefined): string | undefined {
  return weights && join(folder, weights.file)
}

function withoutPrevious({ generation, revision, createdAt, config, weights, tensors }: LiveManifest): Published {
  return {
    generation,
    revision,
    createdAt,
    config,
    ...(weights ? { weights } : {}),
    ...(tensors ? { tensors } : {}),
  }
}

function knownOf(
  name: string,
  model: Omit<Published, 'config' | 'generation'> & {
    readonly config?: unknown
    readonly generation: number
    readonly previous?: Published | undefined
  },
  origin: ModelEntry['origin'],
  path: string | undefined,
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
    bytes: model.weights?.bytes,
    tensors: model.tensors,
    createdAt: model.createdAt,
    previous: previous && {
      generation: previous.generation,
      revision: previous.revision,
      createdAt: previous.createdAt,
    },
  }
  try {
    const config = parseModelConfig(model.config, name)
    if (needsWeights(config) && path === undefined)
      return { entry: { ...entry, config, state: 'FAILED', reason: 'its weights are missing' }, weightsPath: undefined }
    return { entry: { ...entry, config }, weightsPath: path }
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { entry: { ...entry, state: 'FAILED', reason: error.message }, weightsPath: undefined }
  }
}
