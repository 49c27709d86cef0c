/**
 * The registry on disk. Each name has a folder under `<workspace>/models` with a manifest and content-addressed weights;
 * the manifest is the model. Put together here: the manifests (manifest-store.ts), the picture of them in memory
 * (model-directory.ts), changes (publish.ts) and the removal of what no manifest names (collect.ts).
 */
import { join } from 'node:path'
import type { ModelHost, RewriteChoices } from '../contract/model.js'
import { Background } from '../util/background.js'
import type { Log } from '../util/log.js'
import { LOCKS_FOLDER } from '../workspace/names.js'
import type { Workspace } from '../workspace/open-workspace.js'
import { readBundledModels } from './bundled-models.js'
import { Collector } from './collect.js'
import type { IntakeLimits } from './intake.js'
import { ManifestStore } from './manifest-store.js'
import { ModelDirectory } from './model-directory.js'
import { lockedNames, lockName } from './name-lock.js'
import { Publisher } from './publish.js'
import type { ModelEntry, ModelRegistry } from './registry.js'

const POLL_MS = 2_000
const SWEEP_MS = 5 * 60_000
/** How long a DELETE waits for the runner to end; running jobs may take longer, and then it answers before. */
const RETIRE_WAIT_MS = 5_000

export interface RegistryOptions {
  readonly workspace: Pick<Workspace, 'models' | 'discard' | 'othersServe'>
  /** The folder of the models that come with the program. */
  readonly bundledFolder: string
  /** `--model-catalog`: a folder or a JSON file; empty for none. */
  readonly catalog: string
  readonly autoReload: boolean
  readonly scheduler: ModelHost
  readonly rewrites?: Pick<RewriteChoices, 'known'>
  readonly limits: IntakeLimits
  readonly log: Log
}

export async function openRegistry(options: RegistryOptions): Promise<ModelRegistry> {
  const { workspace, scheduler, log } = options
  const locks = join(workspace.models, LOCKS_FOLDER)
  const lock = (name: string, use: 'brief' | 'long') => lockName(locks, name, use)
  const manifests = new ManifestStore(workspace.models)
  const background = new Background(log)
  let tellClosed = () => {}
  const closed = new Promise<void>((resolve) => {
    tellClosed = resolve
  })
  const directory: ModelDirectory = new ModelDirectory({
    manifests,
    bundled: await readBundledModels(options.bundledFolder),
    rewrites: options.rewrites,
    onReplaced: (name) =>
      void background.start(`runners of model '${name}'`, () => Promise.race([collector.retire(name), closed])),
    log,
  })
  const collector = new Collector({
    manifests,
    directory,
    workspace,
    lock,
    lockedNames: () => lockedNames(locks),
    scheduler,
    background,
    closed,
  })
  const publisher = new Publisher({ ...options, manifests, directory, collector, lock })

  await directory.poll()
  // What cannot be removed now is tried again; it is no reason not to start.
  await background.start('what no manifest names', () => collector.sweep())
  if (options.autoReload) background.every(POLL_MS, 'changes of models by other servers', () => directory.poll())
  background.every(SWEEP_MS, 'what no manifest names', () => collector.sweep())

  const published = async (change: Promise<ModelEntry>): Promise<ModelEntry> => {
    const entry = await change
    // Jobs of the old version finish on it; what no manifest names goes when they have.
    void collector.retireAndCollect(entry.name)
    return entry
  }
  return {
    list: (filter) => directory.list(filter),
    get: (name) => directory.get(name),
    resolve: (name) => directory.resolve(name),
    put: (name, source, signal) => published(publisher.put(name, source, signal)),
    async draft(source, folder, signal) {
      // As with an upload (publish.ts): what reads models is loaded when one comes.
      const { draftNeedsFiles, draftOf } = await import('./draft.js')
      if (source.kind !== 'files' || (source.data ?? source.several) === undefined) throw draftNeedsFiles()
      return draftOf(source, join(folder, 'draft'), options.limits, signal)
    },
    patch: (name, config, signal) => published(publisher.patch(name, config, signal)),
    async remove(name) {
      await publisher.remove(name)
      const gone = collector.retireAndCollect(name)
      await Promise.race([gone, new Promise((done) => setTimeout(done, RETIRE_WAIT_MS).unref())])
    },
    async close() {
      tellClosed()
      await background.close()
    },
  }
}
