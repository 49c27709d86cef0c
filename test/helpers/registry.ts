/** A registry in a folder of its own, with a scheduler that proves everything and remembers what it was asked. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ModelProof, ModelRef } from '../../src/contract/model.js'
import { openRegistry, type RegistryOptions } from '../../src/registry/open-registry.js'
import type { ModelRegistry } from '../../src/registry/registry.js'
import { silentLog } from '../../src/util/log.js'
import { openWorkspace } from '../../src/workspace/open-workspace.js'

export const PROOF: ModelProof = { inputs: [], outputs: [], device: 'cpu' }

export class FakeProver {
  readonly proved: ModelRef[] = []
  readonly retired: { name: string; except: string | undefined }[] = []
  /** What the next proofs do; they succeed unless told otherwise. */
  outcome: (model: ModelRef) => Promise<ModelProof> = async () => PROOF

  async prove(model: ModelRef): Promise<ModelProof> {
    this.proved.push(model)
    return this.outcome(model)
  }

  async retire(name: string, except?: string): Promise<void> {
    this.retired.push({ name, except })
  }
}

export const LIMITS = { maxEntries: 100, maxBytes: 1 << 20, maxConfigBytes: 1 << 20 }

export class RegistryHome {
  readonly root = mkdtempSync(join(tmpdir(), 'aidant-registry-'))
  readonly workspace = join(this.root, 'workspace')
  readonly folder = join(this.workspace, 'models')
  readonly bundledFolder = join(this.root, 'bundled')
  #files = 0

  /** A registry on the workspace as one more server would open it; the server's lease goes when it closes. */
  async open(more: Partial<RegistryOptions> = {}): Promise<{ registry: ModelRegistry; scheduler: FakeProver }> {
    const workspace = await openWorkspace(this.workspace, { log: silentLog })
    const scheduler = new FakeProver()
    const registry = await openRegistry({
      workspace,
      bundledFolder: this.bundledFolder,
      catalog: '',
      autoReload: false,
      scheduler,
      limits: LIMITS,
      log: silentLog,
      ...more,
    })
    const close = async () => {
      await registry.close()
      await workspace.close()
    }
    return { registry: { ...registry, close }, scheduler }
  }

  /** A file for the registry to take, as an upload leaves it. */
  file(bytes: Uint8Array | string): string {
    const path = join(this.root, `upload-${this.#files++}`)
    writeFileSync(path, bytes)
    return path
  }

  async bundle(name: string, config: unknown, weights?: Uint8Array): Promise<void> {
    await writeModel(join(this.bundledFolder, name), config, weights)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }
}

export const fixtureModel = (name: string): Buffer =>
  readFileSync(new URL(`../fixtures/models/${name}`, import.meta.url))

/** The same network, another file: ONNX carries a doc_string (field 6 of ModelProto) at any place. */
export function variant(bytes: Uint8Array, text: string): Buffer {
  return Buffer.concat([bytes, Buffer.from([0x32, text.length]), Buffer.from(text)])
}

export const modelConfig = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  version: '3',
  type: 'segmentation',
  labels: ['organ'],
  description: 'above one half',
  pre_transforms: [{ name: 'LoadNifti', args: { fields: 'image' } }],
  inference: { image: 'image', name: 'TRTISInference', node_mapping: { image: 'image', logits: 'model' } },
  post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
  writer: { name: 'WriteNifti', args: { field: 'model' } },
  ...more,
})

/** A model as the program bundles it, or a catalogue has it. */
export async function writeModel(folder: string, config: unknown, weights?: Uint8Array): Promise<void> {
  await mkdir(folder, { recursive: true })
  writeFileSync(join(folder, 'config_aiaa.json'), JSON.stringify(config))
  if (weights) writeFileSync(join(folder, 'model.onnx'), weights)
}
