/**
 * A model's config_aiaa.json, normalised: versions 2, 3 and 4 and all their spellings become this one shape.
 * Parsing (zod, unknown keys named) lives in parse-model-config.ts.
 */
export const MODEL_TYPES = ['segmentation', 'annotation', 'classification', 'deepgrow', 'others', 'pipeline'] as const
export type ModelType = (typeof MODEL_TYPES)[number]

/** Whether models of this type find whatever a user points at, rather than the structures they were trained for. */
export function isInteractive(type: ModelType): boolean {
  return type === 'annotation' || type === 'deepgrow' || type === 'pipeline'
}

export interface TransformSpec {
  /** Short name without class path; MONAI's or Clara's, `d` suffix kept as written. */
  readonly name: string
  readonly args: Readonly<Record<string, unknown>>
  /** The class path, where that is not in a package whose classes are known: Python of the config's author. */
  readonly ownClass?: string | undefined
}

export interface ScanningWindow {
  /** Window size in the array order the model sees. */
  readonly roi: readonly number[]
  /** Fraction of a window shared with its neighbour, 0 <= overlap < 1. */
  readonly overlap: number
  /** Windows per run. */
  readonly batchSize: number
  readonly blend: 'constant' | 'gaussian'
}

export interface SessionSettings {
  readonly intraOpThreads?: number | undefined
  readonly optimisation?: 'disabled' | 'basic' | 'extended' | 'all' | undefined
}

export interface InferenceConfig {
  /** Field that feeds the network. */
  readonly image: string
  /** Shape format such as CDHW, when the config names one. */
  readonly imageFormat?: string | undefined
  readonly engine: 'onnxruntime' | 'kserve'
  readonly scanningWindow?: ScanningWindow | undefined
  /** Pairs as written, tensor -> field or field -> tensor; resolved when the network's tensor names are known. */
  readonly nodeMapping: Readonly<Record<string, string>>
  readonly session: SessionSettings
  readonly kserve?: { readonly url: string; readonly model: string; readonly version?: string | undefined } | undefined
}

export interface ModelConfig {
  readonly version: string
  readonly type: ModelType
  readonly labels: readonly string[]
  readonly description: string
  /** mm around the extreme points, for annotation models. */
  readonly padding?: number | undefined
  readonly roi?: readonly number[] | undefined
  /** additional_info / meta_data: merged into the model's entry in /v1/models. */
  readonly info: Readonly<Record<string, unknown>>
  readonly preTransforms: readonly TransformSpec[]
  readonly postTransforms: readonly TransformSpec[]
  readonly writer?: TransformSpec | undefined
  readonly inference: InferenceConfig
  /** Name of the last pre-transform whose output a session may cache, or 'ALL'; absent: everything before the first that reads clicks. */
  readonly cacheUntil?: string | undefined
  /** For type pipeline: the models it runs, by name, first the 3-D one. */
  readonly pipeline?: { readonly models: readonly string[]; readonly batchSize: number } | undefined
}

/** Everything a runner needs to own a model. Crosses the process boundary as JSON. */
export interface ModelRef {
  readonly name: string
  /** Changes with every publish: the sha256 of the weights and the config together. */
  readonly revision: string
  readonly config: ModelConfig
  /** Absolute path of the ONNX file (a .onnx beside its external data, if it has some). Absent for pipelines and kserve. */
  readonly weightsPath?: string | undefined
  /** The models of a pipeline, in the order of config.pipeline.models. */
  readonly parts?: readonly ModelRef[] | undefined
}
