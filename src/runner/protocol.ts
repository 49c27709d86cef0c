/**
 * The messages between the server and a runner process. The server's are trusted (they come from our own code); a
 * runner's are checked, since it runs networks from outside.
 */
import { z } from 'zod'
import { ERROR_STATUS, type ErrorCode, type ErrorRecord } from '../errors.js'
import type { ModelRef } from '../pipelines/model-config.js'
import type { DeviceWish } from '../predictors/device.js'
import type { Job } from './job.js'

/** What a runner needs to know besides its model. */
export interface RunnerSettings {
  readonly device: DeviceWish
  /** onnxruntime's arena: off where memory is short. */
  readonly arena: boolean
  /** Bytes of pre-transformed session images to keep. */
  readonly cacheBytes: number
  /** The runner ends itself when its resident memory passes this. */
  readonly memoryLimitBytes?: number | undefined
}

export type ToRunner =
  | { readonly type: 'load'; readonly model: ModelRef | undefined; readonly settings: RunnerSettings }
  | { readonly type: 'prove'; readonly model: ModelRef; readonly settings: RunnerSettings }
  | { readonly type: 'run'; readonly id: number; readonly job: Job }
  | { readonly type: 'cancel'; readonly id: number }
  | { readonly type: 'grant'; readonly id: number }
  /** Somebody else waits for the device. */
  | { readonly type: 'yield'; readonly id: number }

const Code = z.enum(Object.keys(ERROR_STATUS) as [ErrorCode, ...ErrorCode[]])

const ErrorShape = z.object({
  code: Code,
  message: z.string().max(4000),
  hint: z.string().max(4000).optional(),
  retryAfterSeconds: z.number().optional(),
  stack: z.string().optional(),
}) satisfies z.ZodType<ErrorRecord>

const TensorSpecShape = z.object({
  name: z.string(),
  type: z.enum(['float32', 'float16', 'float64', 'int64', 'int32', 'int16', 'int8', 'uint8', 'uint16', 'bool']),
  dims: z.array(z.union([z.number(), z.string(), z.null()])),
})

const StageName = z.enum(['read', 'pre', 'wait', 'infer', 'post', 'write'])
export const STAGES = StageName.options

const JobResultShape = z.object({
  file: z.object({ path: z.string(), extension: z.string(), contentType: z.string() }).optional(),
  params: z.record(z.string(), z.unknown()),
  paramsPath: z.string().optional(),
  timings: z.partialRecord(StageName, z.number()),
  device: z.string().optional(),
  notes: z.array(z.string()),
})

/** What the wire carries of a ModelProof. */
const ProofShape = z.object({ inputs: z.array(TensorSpecShape), outputs: z.array(TensorSpecShape), device: z.string() })

export type ProofRecord = z.infer<typeof ProofShape>

export const FromRunner = z.discriminatedUnion('type', [
  /** The program runs and listens. */
  z.object({ type: z.literal('up') }),
  z.object({ type: z.literal('loaded'), device: z.string(), fallbackReason: z.string().optional() }),
  z.object({ type: z.literal('proved'), proof: ProofShape }),
  /** Loading or proving failed; the runner is of no more use. */
  z.object({ type: z.literal('failed'), error: ErrorShape, outOfMemory: z.boolean() }),
  z.object({ type: z.literal('progress'), id: z.int(), stage: StageName, done: z.number(), total: z.number() }),
  /** Asks for the device slot, and gives it back. */
  z.object({ type: z.literal('want'), id: z.int() }),
  z.object({ type: z.literal('release'), id: z.int() }),
  z.object({ type: z.literal('done'), id: z.int(), result: JobResultShape }),
  z.object({ type: z.literal('error'), id: z.int(), error: ErrorShape, outOfMemory: z.boolean() }),
])
export type FromRunner = z.infer<typeof FromRunner>
