/**
 * A model as server and runner know it: its config_aiaa.json, normalised (versions 2, 3 and 4 and all their spellings
 * become this one shape), and where its weights lie. What a file may hold and how it becomes this is in pipelines/.
 */
import { z } from 'zod'
import { TensorSpec } from './tensor.js'

export const MODEL_TYPES = ['segmentation', 'annotation', 'classification', 'deepgrow', 'others', 'pipeline'] as const
export const ModelType = z.enum(MODEL_TYPES)
export type ModelType = z.infer<typeof ModelType>

/** Whether models of this type find whatever a user points at, rather than the structures they were trained for. */
export function isInteractive(type: ModelType): boolean {
  return type === 'annotation' || type === 'deepgrow' || type === 'pipeline'
}

const free = z.record(z.string(), z.unknown()).readonly()
const numbers = z.array(z.number()).readonly()
const words = z.array(z.string()).readonly()

export const TransformSpec = z
  .object({
    /** Short name without class path; MONAI's or Clara's, `d` suffix kept as written. */
    name: z.string(),
    args: free,
    /** The class path, where that is not in a package whose classes are known: Python of the config's author. */
    ownClass: z.string().optional(),
    /** Where a bundle's own file says it, `inference.json: preprocessing.transforms[3]`, for messages. */
    from: z.string().optional(),
  })
  .readonly()
export type TransformSpec = z.infer<typeof TransformSpec>

/** torch's words for what lies beyond the edge of an array. */
export const PADDING_MODES = ['constant', 'replicate', 'reflect', 'circular'] as const
export type PaddingMode = (typeof PADDING_MODES)[number]

/** One number for all spatial axes of the image, or one for each. */
const perAxis = z.union([z.number(), numbers])

export const ScanningWindow = z
  .object({
    /** Window size in the array order the model sees; 0 is the whole axis, and one number counts for all axes. */
    roi: numbers,
    /** Fraction of a window shared with its neighbour, 0 <= overlap < 1. */
    overlap: perAxis,
    /** Windows per run. */
    batchSize: z.number(),
    blend: z.enum(['constant', 'gaussian', 'nnunet']),
    /** Windows lie equally far apart over each axis, as nnU-Net's do, instead of `overlap` apart up to the last. */
    evenSteps: z.boolean().optional(),
    /** Sigma of the Gaussian as a fraction of the window; 1/8 by default. */
    sigmaScale: perAxis.optional(),
    /** What lies beyond an image that is smaller than the window: `fill` (0 by default), or the image continued. */
    padding: z.enum(PADDING_MODES).optional(),
    fill: z.number().optional(),
    /** MONAI's SliceInferer: the array axis along which a 2-D network goes through a volume, slice by slice. */
    sliceAxis: z.union([z.literal(0), z.literal(1), z.literal(2)]).optional(),
    /** False: windows that hold one value a channel are all run, and not just the first of them. */
    skipEmpty: z.boolean().optional(),
  })
  .readonly()
export type ScanningWindow = z.infer<typeof ScanningWindow>

export const SessionSettings = z
  .object({
    intraOpThreads: z.number().optional(),
    optimisation: z.enum(['disabled', 'basic', 'extended', 'all']).optional(),
  })
  .readonly()
export type SessionSettings = z.infer<typeof SessionSettings>

/** How the tensors of a model of two networks are used; `plain`: both are fed with fields, as any network. */
export const LAYOUTS = ['plain', 'sam', 'mobile_sam', 'efficient_sam', 'medsam', 'lite_medsam', 'sam2'] as const
export type Layout = (typeof LAYOUTS)[number]

/** Which values become black and white of an 8-bit picture: a window, or percentiles of the slice. */
const PictureWindow = z.union([
  z.object({ level: z.number(), width: z.number() }).readonly(),
  z.object({ percentiles: numbers, foreground: z.boolean() }).readonly(),
])
export type PictureWindow = z.infer<typeof PictureWindow>

/** Two networks: an encoder that sees the image alone, and a decoder that answers each click from what the encoder made. */
export const Parts = z
  .object({
    /** Their files; absent: told by name or by tensors. */
    encoder: z.string().optional(),
    decoder: z.string().optional(),
    /** Absent: told by the tensors' names. */
    layout: z.enum(LAYOUTS).optional(),
    /** The encoder's output to the decoder's input, where their names differ. */
    feeds: z.record(z.string(), z.string()).readonly(),
    /** Of the encoder's picture: [height, width]. Absent: its tensor, else the layout, says it. */
    size: numbers.optional(),
    /** How a slice gets that size: its longer side, both sides, or not at all. */
    resize: z.enum(['longest', 'stretch', 'none']).optional(),
    /** What the encoder takes for pixels. */
    pixels: z.enum(['imagenet', 'minmax', 'unit', 'bytes']).optional(),
    window: PictureWindow.optional(),
    prompts: z
      .array(z.enum(['points', 'box']))
      .readonly()
      .optional(),
    /** Whether the mask before is fed with a further click of a session. */
    previousMask: z.boolean(),
    /** What is above it belongs to the mask. */
    maskThreshold: z.number(),
  })
  .readonly()
export type Parts = z.infer<typeof Parts>
/** How the answers of several networks to one prepared image become one. */
export const NetworkJoin = z.discriminatedUnion('kind', [
  z
    .object({
      kind: z.literal('mean'),
      /** `probabilities`: after the config's activation, `scores`: before it. */
      of: z.enum(['scores', 'probabilities']),
      /** One number a network, or one a network and channel. */
      weights: z
        .array(z.union([z.number(), numbers]))
        .readonly()
        .optional(),
    })
    .readonly(),
  z.object({ kind: z.literal('vote') }).readonly(),
  z
    .object({
      kind: z.literal('labelMaps'),
      /** Of each network, the final label of each of its own; what is not named is background. Later networks lie over earlier ones. */
      maps: z.array(z.record(z.string(), z.number()).readonly()).readonly(),
    })
    .readonly(),
])
export type NetworkJoin = z.infer<typeof NetworkJoin>

export const InferenceConfig = z
  .object({
    /** Field that feeds the network. */
    image: z.string(),
    /** Shape format such as CDHW, when the config names one. */
    imageFormat: z.string().optional(),
    engine: z.enum(['onnxruntime', 'kserve']),
    scanningWindow: ScanningWindow.optional(),
    /** Pairs as written, tensor -> field or field -> tensor; resolved when the network's tensor names are known. */
    nodeMapping: z.record(z.string(), z.string()).readonly(),
    session: SessionSettings,
    /** The files of several networks, by name; `join` says how their answers become one. */
    networks: words.optional(),
    /** The model is an encoder and a decoder, in this order among its files. */
    parts: Parts.optional(),
    /** Absent: the mean of their scores. */
    join: NetworkJoin.optional(),
    /** The spatial array axes over which the network may see the image mirrored, and whether it does unless a request says. */
    mirror: z.object({ axes: numbers, on: z.boolean().optional() }).readonly().optional(),
    kserve: z.object({ url: z.string(), model: z.string(), version: z.string().optional() }).readonly().optional(),
  })
  .readonly()
export type InferenceConfig = z.infer<typeof InferenceConfig>

const ownConfig = {
  version: z.string(),
  type: ModelType,
  labels: words,
  description: z.string(),
  /** mm around the extreme points, for annotation models. */
  padding: z.number().optional(),
  roi: numbers.optional(),
  /** additional_info / meta_data: merged into the model's entry in /v1/models. */
  info: free,
  preTransforms: z.array(TransformSpec).readonly(),
  postTransforms: z.array(TransformSpec).readonly(),
  writer: TransformSpec.optional(),
  inference: InferenceConfig,
  /** Name of the last pre-transform whose output a session may cache, or 'ALL'; absent: everything before the first that reads clicks. */
  cacheUntil: z.string().optional(),
  /** For type pipeline: the models it runs, by name, first the 3-D one. */
  pipeline: z.object({ models: words, batchSize: z.number() }).readonly().optional(),
}

export const ModelConfig = z
  .object({
    ...ownConfig,
    /** A model that runs first over the whole image, with networks of its own among the model's files. */
    first: z
      .object({
        config: z.object(ownConfig).readonly(),
        /** The field under which the pre-transforms find its label map, on the file's grid. */
        field: z.string(),
        /** The image is cut to what it found and so many mm around, before the pre-transforms; absent: it is not. */
        cropMargin: z.number().optional(),
      })
      .readonly()
      .optional(),
  })
  .readonly()
export type ModelConfig = z.infer<typeof ModelConfig>

/** Whether a network runs faster rewritten: what was measured, and what follows from it. */
export const RewriteChoice = z
  .object({
    /** The engine and its version; with another one the choice is made anew. */
    engine: z.string(),
    /** Where and with how many threads it was measured; elsewhere the choice is made anew. */
    device: z.string().optional(),
    threads: z.number().optional(),
    /** The plan that paid, or null: the network as it was exported. */
    plan: z.string().nullable(),
    /** By rewrite of the plan, how many nodes it replaced. */
    rewrites: z.record(z.string(), z.number()).readonly(),
    /** One run of the network as exported and as chosen, the best of those timed. */
    originalMs: z.number(),
    chosenMs: z.number(),
    /** Its run took longer than a trial may, so nothing was tried: a longer trial is made anew. */
    tooLong: z.boolean().optional(),
    /** The machine had more to do than it has cores when it was measured: good enough for now, and not for ever. */
    busy: z.boolean().optional(),
  })
  .readonly()
export type RewriteChoice = z.infer<typeof RewriteChoice>

/** What trials found, by the revision of the model. */
export interface RewriteChoices {
  known(revision: string): RewriteChoice | undefined
  keep(revision: string, choice: RewriteChoice): void
}

const ownModel = {
  name: z.string(),
  /** Changes with every publish: the sha256 of the weights and the config together. */
  revision: z.string(),
  config: ModelConfig,
  /** Absolute path of the ONNX file (a .onnx beside its external data, if it has some). Absent for pipelines and kserve. */
  weightsPath: z.string().optional(),
  /** What a trial of the network's rewrites found, where there was one. */
  rewrites: RewriteChoice.optional(),
  /** The networks after the first: those of config.inference.networks, then those of config.first; of config.inference.parts the decoder. */
  morePaths: words.optional(),
}

/** Everything a runner needs to own a model. */
export const ModelRef = z
  .object({
    ...ownModel,
    /** The models of a pipeline, in the order of config.pipeline.models. */
    parts: z.array(z.object(ownModel).readonly()).readonly().optional(),
  })
  .readonly()
export type ModelRef = z.infer<typeof ModelRef>

/** What a throw-away runner found out about a model before it is published. */
export const ModelProof = z
  .object({
    inputs: z.array(TensorSpec).readonly(),
    outputs: z.array(TensorSpec).readonly(),
    device: z.string(),
    rewrites: RewriteChoice.optional(),
  })
  .readonly()
export type ModelProof = z.infer<typeof ModelProof>

/** Whoever owns the runners of models, as the registry needs it. */
export interface ModelHost {
  /** Loads the model in a throw-away runner, checks it against its config and runs it once on zeros. Rejects BAD_MODEL. */
  prove(model: ModelRef, signal?: AbortSignal): Promise<ModelProof>
  /** Ends the runners of a model once their jobs are done; `exceptRevision` keeps that one alive. */
  retire(name: string, exceptRevision?: string): Promise<void>
}
