/**
 * The messages between the server and a runner process. Both ends read them with these schemas, and neither sends what
 * the other would refuse: texts that come from files and libraries are clipped before they leave.
 */
import { z } from 'zod'
import { ERROR_STATUS, type ErrorCode, type ErrorRecord } from '../errors.js'
import { Job, JobResult, Stage } from './job.js'
import { ModelProof, ModelRef, RewriteChoice } from './model.js'

/** Where the user wants networks to run: `--device auto|cpu|cuda[:n]`. */
export const DeviceWish = z
  .object({
    kind: z.enum(['auto', 'cpu', 'cuda']),
    /** Which GPU, from 0. */
    index: z.number(),
  })
  .readonly()
export type DeviceWish = z.infer<typeof DeviceWish>

/** What a runner needs to know besides its model. */
export const RunnerSettings = z
  .object({
    device: DeviceWish,
    /** onnxruntime's arena: off where memory is short. */
    arena: z.boolean(),
    /** Threads of a network that shares the cores with others, where its model says no number; absent: none ever does. */
    shareThreads: z.number().optional(),
    /** A network whose one run takes longer than this is not tried rewritten; 0: none is. Milliseconds. */
    rewriteTrialMs: z.number(),
    /** Values of one array that the trial of a pipeline may make; what makes more is not tried further. */
    maxTrialValues: z.number(),
    /** Bytes of pre-transformed session images to keep. */
    cacheBytes: z.number(),
    /** Bytes of the files of networks, of one model of several, that stay open; others are opened one at a time. */
    networkBytes: z.number(),
    /** Where networks that run elsewhere may be, how long one call may take and how many bytes its reply may have. */
    fetch: z.object({ allow: z.array(z.string()).readonly(), deadlineMs: z.number(), maxBytes: z.number() }).readonly(),
    /** The runner ends itself when its resident memory passes this. */
    memoryLimitBytes: z.number().optional(),
  })
  .readonly()
export type RunnerSettings = z.infer<typeof RunnerSettings>

export const ToRunner = z.discriminatedUnion('type', [
  z.object({ type: z.literal('load'), model: ModelRef.optional(), settings: RunnerSettings }),
  z.object({ type: z.literal('prove'), model: ModelRef, settings: RunnerSettings }),
  z.object({ type: z.literal('run'), id: z.int(), job: Job }),
  z.object({ type: z.literal('cancel'), id: z.int() }),
  /** The device is the job's: all of it, or, `shared`, a share of its cores. */
  z.object({ type: z.literal('grant'), id: z.int(), shared: z.boolean() }),
  /** Somebody else waits for the device. */
  z.object({ type: z.literal('yield'), id: z.int() }),
  /** Are you there? A runner that does not compute answers at once. */
  z.object({ type: z.literal('ping') }),
])
export type ToRunner = z.infer<typeof ToRunner>

/** Characters of a text for people; what is longer quotes a file or a library at length. */
const LONGEST_TEXT = 2000
/** Lines of a stack, which only the log shows. */
const LONGEST_STACK = 8000
/** A reader notes a handful of things, or one of each of a thousand slices. */
const MOST_NOTES = 100

const Text = z.string().max(LONGEST_TEXT)
const Code = z.enum(Object.keys(ERROR_STATUS) as [ErrorCode, ...ErrorCode[]])

const ErrorShape = z.object({
  code: Code,
  message: Text,
  hint: Text.optional(),
  retryAfterSeconds: z.number().optional(),
  stack: z.string().max(LONGEST_STACK).optional(),
}) satisfies z.ZodType<ErrorRecord>

export const FromRunner = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('loaded'),
    device: z.string(),
    fallbackReason: Text.optional(),
    /** What trials of networks rewritten have found, by revision: of the model, or of the models of a pipeline. */
    rewrites: z.record(z.string(), RewriteChoice).optional(),
    /** Whether its networks can run on a share of the cores; absent: they cannot. */
    shares: z.boolean().optional(),
  }),
  z.object({ type: z.literal('proved'), proof: ModelProof }),
  z.object({ type: z.literal('pong') }),
  /** Loading or proving failed; the runner is of no more use. */
  z.object({ type: z.literal('failed'), error: ErrorShape }),
  z.object({
    type: z.literal('progress'),
    id: z.int(),
    stage: Stage,
    done: z.number(),
    total: z.number(),
    part: Text.optional(),
  }),
  /** Asks for the device slot, and gives it back. */
  z.object({ type: z.literal('want'), id: z.int() }),
  z.object({ type: z.literal('release'), id: z.int() }),
  z.object({ type: z.literal('done'), id: z.int(), result: JobResult }),
  /** `spent`: this runner is not to be used again, since memory that was once short stays so, or its model has changed. */
  z.object({ type: z.literal('error'), id: z.int(), error: ErrorShape, spent: z.boolean() }),
])
export type FromRunner = z.infer<typeof FromRunner>

/** What a runner says, with every text cut to what the wire carries. */
export function clipped(message: FromRunner): FromRunner {
  switch (message.type) {
    case 'loaded': {
      const { fallbackReason } = message
      return fallbackReason === undefined ? message : { ...message, fallbackReason: cut(fallbackReason) }
    }
    case 'progress':
      return message.part === undefined ? message : { ...message, part: cut(message.part) }
    case 'failed':
    case 'error':
      return { ...message, error: clippedError(message.error) }
    case 'done':
      return { ...message, result: { ...message.result, notes: clippedNotes(message.result.notes) } }
    default:
      return message
  }
}

function clippedError({ code, message, hint, retryAfterSeconds, stack }: ErrorRecord): z.infer<typeof ErrorShape> {
  return {
    code,
    message: cut(message),
    ...(hint === undefined ? {} : { hint: cut(hint) }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    ...(stack === undefined ? {} : { stack: cut(stack, LONGEST_STACK) }),
  }
}

function clippedNotes(notes: readonly string[]): string[] {
  if (notes.length <= MOST_NOTES) return notes.map((note) => cut(note))
  const kept = notes.slice(0, MOST_NOTES - 1).map((note) => cut(note))
  return [...kept, `and ${notes.length - kept.length} more notes`]
}

/** The text, or its beginning with a mark that there was more. */
function cut(text: string, most = LONGEST_TEXT): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`
}
