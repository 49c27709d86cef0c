/**
 * What the rest of the server knows about models: which there are, from where, and how they change. The bundled models of
 * `models/` are part of it from the first start and are never written; a change to one of their names lives in the
 * workspace, as a copy that wins or as a mark that the model is gone.
 */
import type { ModelConfig, ModelRef, RewriteChoice } from '../contract/model.js'
import type { TensorSpec } from '../contract/tensor.js'
import type { UnzippedFile } from '../util/unzip.js'
import type { Draft } from './draft.js'

export interface ModelPart {
  readonly network: string
  readonly sha256: string
  readonly bytes: number
  /** `first`: of the model that runs before the others. */
  readonly role: 'first' | 'mean' | 'vote' | 'label map' | 'second'
  /** Of a part of a label map, the final labels by its own. */
  readonly labels?: Readonly<Record<string, number>> | undefined
}

export interface ModelEntry {
  readonly name: string
  /** Hash of weights and config: two servers that show the same revision run the same model. */
  readonly revision: string
  /** Counts the publishes of this name, from 1; bundled models have 0. */
  readonly generation: number
  readonly origin: 'bundled' | 'workspace'
  /** UNLOADED models are loaded by their first request; FAILED ones cannot be, and `reason` says why. */
  readonly state: 'UNLOADED' | 'FAILED'
  readonly reason?: string | undefined
  /** Absent only when it cannot be read, in a FAILED model. */
  readonly config?: ModelConfig | undefined
  /** The config as it was uploaded. */
  readonly rawConfig?: unknown
  /** Of the weights; absent for pipelines and kserve models. */
  readonly sha256?: string | undefined
  readonly bytes?: number | undefined
  /** The network's own inputs and outputs, as the proof before the publish found them. */
  readonly tensors?: { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] } | undefined
  /** What the last trial of the network's rewrites found: when it was proved, or when it was first loaded here. */
  readonly rewrites?: RewriteChoice | undefined
  /** The networks of a model of several, by the names in its config, in the order in which they run after one another. */
  readonly networks?: readonly ModelPart[] | undefined
  readonly createdAt: string
  /** What a roll-back would bring back. */
  readonly previous?: { readonly generation: number; readonly revision: string; readonly createdAt: string } | undefined
}

export interface ModelFiles {
  readonly config?: unknown
  readonly data?: string | undefined
  readonly several?: readonly UnzippedFile[] | undefined
}

/** Where a model to publish comes from. */
export type ModelSource =
  /**
   * `data` is a file of ours that the registry may move away: ONNX, or a zip of one of the known layouts. `several` are files
   * instead, by the names their sender gave them: the networks of one model, and what they keep beside them.
   */
  | ({ readonly kind: 'files' } & ModelFiles)
  /** An encoder and its decoder as two files. */
  | { readonly kind: 'parts'; readonly config?: unknown; readonly encoder: string; readonly decoder: string }
  /** A model of the catalogue, or a bundled one, by its path there. */
  | { readonly kind: 'catalog'; readonly path: string; readonly version?: string | undefined }
  | { readonly kind: 'url'; readonly url: string; readonly sha256: string }
  /** A generation of this name that is still kept. */
  | { readonly kind: 'generation'; readonly generation: number }

export interface ModelFilter {
  /** One of the model's labels, whatever its case; a model that finds what a user points at, and has no labels, finds each. */
  readonly label?: string | undefined
  readonly type?: string | undefined
}

export interface ModelRegistry {
  /** By name; models whose config cannot be read are left out when a filter is given. */
  list(filter?: ModelFilter): readonly ModelEntry[]
  /** Throws MODEL_NOT_FOUND, whose hint names the models there are. */
  get(name: string): ModelEntry
  /** What a runner needs, parts of a pipeline included. Throws MODEL_NOT_FOUND or MODEL_NOT_READY. */
  resolve(name: string): ModelRef
  /** Proves the model and publishes it; until then, and if it fails, the old one serves. BUSY_NAME while another writes. */
  put(name: string, source: ModelSource, signal?: AbortSignal): Promise<ModelEntry>
  /** What a PUT of these files would understand, and a config for an ONNX file that brings none; `folder` is for scratch. */
  draft(source: ModelSource, folder: string, signal?: AbortSignal): Promise<Draft>
  /** Replaces the config and keeps the weights; proved and published like a PUT. */
  patch(name: string, config: unknown, signal?: AbortSignal): Promise<ModelEntry>
  remove(name: string): Promise<void>
  close(): Promise<void>
}
