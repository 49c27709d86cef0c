/**
 * The only file that knows onnxruntime-node. It is loaded in runner processes alone: `run()` blocks the thread it is
 * called on, and its memory goes back to the system only with its process.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { env, InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import type { SessionSettings } from '../contract/model.js'
import type { Predictor, Tensor, TensorSpec, TensorType } from '../contract/tensor.js'
import type { DeviceWish } from '../contract/wire.js'
import { AppError } from '../errors.js'
import { checkFeeds, describeTensor } from './check-feeds.js'
import { isOutOfMemory, OutOfMemoryError } from './out-of-memory.js'
import { fromWire, toWire, type WireArray } from './tensor-conversion.js'

export interface OnnxSettings {
  readonly device: DeviceWish
  readonly session: SessionSettings
  /** Off where memory is short: 10 to 20 % slower, and a lower peak on large volumes. */
  readonly arena: boolean
}

/** The engine and its version, as a measurement of a network's speed must name them. */
export const ENGINE = `onnxruntime-node ${env.versions.node ?? env.versions.common}`

/** A network as a file, with external data beside it if it has some, or as the bytes of one without. */
type NetworkSource = string | Uint8Array

keepHalfFloatsAsBits()

/**
 * Where JavaScript has half floats of its own (Node 24 and later), the library wraps them so, and its native part then
 * finds no bytes in them. It looks for the type once, with the first tensor: for that moment there is none.
 */
function keepHalfFloatsAsBits(): void {
  const global = globalThis as { Float16Array?: unknown }
  if (!global.Float16Array) return
  const { Float16Array } = global
  delete global.Float16Array
  new OrtTensor('uint8', new Uint8Array(1), [1])
  global.Float16Array = Float16Array
}

const TYPES: ReadonlySet<string> = new Set<TensorType>([
  'float32',
  'float16',
  'float64',
  'int64',
  'int32',
  'int16',
  'int8',
  'uint8',
  'uint16',
  'bool',
])

/**
 * Loads an ONNX network on the GPU where there is one and it is wanted, else on the CPU. Rejects BAD_MODEL in words when
 * it is not a network that can run here.
 */
export async function createOnnxPredictor(source: NetworkSource, settings: OnnxSettings): Promise<Predictor> {
  const { session, device, fallbackReason } = await createSession(source, settings)
  const inputs = session.inputMetadata.map((m) => toSpec(m, 'input'))
  const outputs = session.outputMetadata.map((m) => toSpec(m, 'output'))
  return {
    inputs,
    outputs,
    device,
    fallbackReason,
    run: (feeds) => run(session, inputs, outputs, feeds),
    close: () => session.release(),
  }
}

interface Session {
  readonly session: InferenceSession
  readonly device: string
  readonly fallbackReason?: string | undefined
}

async function createSession(source: NetworkSource, settings: OnnxSettings): Promise<Session> {
  const gpu = gpuWanted(settings.device)
  if (!gpu.tryIt) return { session: await open(source, settings, undefined), device: 'cpu', fallbackReason: gpu.reason }
  try {
    const session = await open(source, settings, settings.device.index)
    return { session, device: `cuda:${settings.device.index}` }
  } catch (error) {
    // A model that does not load on the CPU either says so there, in better words.
    const session = await open(source, settings, undefined)
    return { session, device: 'cpu', fallbackReason: `CUDA could not be used (${whyNoCuda(error)})` }
  }
}

/** `auto` tries CUDA where its provider is installed; `cuda` is always tried, so that the reason can be told. */
function gpuWanted({ kind }: DeviceWish): { tryIt: boolean; reason?: string } {
  if (kind === 'cpu') return { tryIt: false }
  if (kind === 'cuda' || cudaProviderInstalled()) return { tryIt: true }
  return existsSync('/dev/nvidiactl')
    ? { tryIt: false, reason: 'there is an NVIDIA GPU, but the CUDA provider is not installed' }
    : { tryIt: false }
}

/** The provider is a library beside onnxruntime's own; its npm package comes without it (see scripts/install-cuda.mjs). */
export function cudaProviderInstalled(): boolean {
  const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch)
  return ['libonnxruntime_providers_cuda.so', 'onnxruntime_providers_cuda.dll'].some((name) =>
    existsSync(join(folder, name)),
  )
}

/**
 * By itself the engine starts a thread for each core of the machine and ties it there, also in a process that may use fewer of them
 * (taskset, a cpuset): it gets as many threads as there are cores for us then, which stay where they may. Undefined: as the engine does.
 */
export function permittedThreads(permitted: number, all: number): number | undefined {
  return permitted < all ? permitted : undefined
}

/** Threads of a network that is opened so. */
export function threadsOf({ session }: OnnxSettings): number {
  return session.intraOpThreads ?? availableParallelism()
}

async function open(source: NetworkSource, settings: OnnxSettings, gpu: number | undefined): Promise<InferenceSession> {
  const { intraOpThreads = permittedThreads(availableParallelism(), cpus().length), optimisation } = settings.session
  try {
    const options: InferenceSession.SessionOptions = {
      executionProviders: gpu === undefined ? ['cpu'] : [{ name: 'cuda', deviceId: gpu }, 'cpu'],
      // Measured: on large volumes the memory pattern doubles the peak and gains nothing.
      enableMemPattern: false,
      enableCpuMemArena: settings.arena,
      graphOptimizationLevel: optimisation ?? 'all',
      ...(intraOpThreads === undefined ? {} : { intraOpNumThreads: intraOpThreads }),
      // What goes wrong is thrown; the engine need not print it too.
      logSeverityLevel: 4,
    }
    // The library tells a path from bytes by its type, which TypeScript asks to be known.
    return typeof source === 'string'
      ? await InferenceSession.create(source, options)
      : await InferenceSession.create(source, options)
  } catch (error) {
    if (isOutOfMemory(error)) throw new OutOfMemoryError('loading the model', error)
    throw new AppError('BAD_MODEL', `the weights are not a network that can run here: ${inWords(error)}`, {
      cause: error,
      hint: 'export to ONNX in one file, or zip it with its external data; check it with onnx.checker',
    })
  }
}

function toSpec(metadata: InferenceSession.ValueMetadata, what: string): TensorSpec {
  const { name } = metadata
  if (!metadata.isTensor) throw new AppError('BAD_MODEL', `the network's ${what} '${name}' is not a tensor`)
  if (!TYPES.has(metadata.type))
    throw new AppError('BAD_MODEL', `the network's ${what} '${name}' has type ${metadata.type}, which no image has`, {
      hint: `use one of ${[...TYPES].join(', ')}`,
    })
  return { name, type: metadata.type as TensorType, dims: metadata.shape.map((d) => (d === '' ? null : d)) }
}

async function run(
  session: InferenceSession,
  inputs: readonly TensorSpec[],
  outputs: readonly TensorSpec[],
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Readonly<Record<string, Tensor>>> {
  checkFeeds(inputs, feeds)
  const ortFeeds: Record<string, OrtTensor> = {}
  for (const { name, type } of inputs) ortFeeds[name] = toOrt(toWire(feeds[name]!.data, type), type, feeds[name]!.dims)
  let fetched: InferenceSession.OnnxValueMapType
  try {
    fetched = await session.run(ortFeeds)
  } catch (error) {
    if (isOutOfMemory(error)) throw new OutOfMemoryError('the network', error)
    const fed = inputs.map(({ name }) => describeTensor(name, feeds[name]!)).join(', ')
    throw new AppError('BAD_MODEL', `the network could not run on ${fed}: ${inWords(error)}`, {
      cause: error,
      hint: 'many networks need edges divisible by 8, 16 or 32 (DivisiblePadd), or one fixed size (a scanning window)',
    })
  }
  const results: Record<string, Tensor> = {}
  for (const { name, type } of outputs) {
    const value = fetched[name]
    if (!value) throw new AppError('BAD_MODEL', `the network gave no output '${name}'`)
    results[name] = { dims: value.dims, data: fromWire(value.data as WireArray, type) }
  }
  return results
}

function toOrt(data: WireArray, type: TensorType, dims: readonly number[]): OrtTensor {
  // The constructor's types pair each word with its array; toWire has made that pair.
  const Untyped = OrtTensor as unknown as new (type: string, data: WireArray, dims: readonly number[]) => OrtTensor
  return new Untyped(type, data, dims)
}

/** What the engine said, without source locations or file names of this machine. */
export function inWords(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  const told = /Status Message: (.*)/s.exec(message)?.[1] ?? message.replace(/^Load model from .* failed:/s, '')
  return told
    .replaceAll(/["']?(?:[A-Za-z]:)?[\\/][^\s"']*["']?(:\d+)?/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
    .slice(0, 300)
}

/** The engine says only that a library did not load; which one is missing can be told from here. */
function whyNoCuda(error: unknown): string {
  const cause = error instanceof AppError && error.cause !== undefined ? error.cause : error
  const told = inWords(cause)
  if (!/load (shared )?library/i.test(told)) return told.split('. ')[0]!.slice(0, 200)
  return cudaProviderInstalled()
    ? 'its libraries do not load: CUDA 13 and cuDNN 9 must be on the library path'
    : 'its provider is not installed: node scripts/install-cuda.mjs'
}
