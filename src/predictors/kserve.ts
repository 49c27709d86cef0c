/**
 * A network that runs elsewhere: Triton, OpenVINO Model Server, KServe or MLServer, over the Open Inference Protocol v2
 * with binary tensors (https://github.com/kserve/open-inference-protocol, and Triton's binary tensor data extension).
 */
import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import type { Predictor, Tensor, TensorSpec, TensorType } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { checkFeeds, describeSpec, describeTensor } from './check-feeds.js'
import { ModelChangedError } from './model-changed.js'
import { elementCount, fromWire, toWire, type WireArray } from './tensor-conversion.js'

export interface KserveSettings {
  /** Base address of the server, without /v2. */
  readonly url: string
  readonly model: string
  readonly version?: string | undefined
  /** Whoever runs it bounds time and size, and says where it may go. */
  readonly fetch: typeof fetch
}

const DATATYPES = {
  FP32: 'float32',
  FP16: 'float16',
  FP64: 'float64',
  INT64: 'int64',
  INT32: 'int32',
  INT16: 'int16',
  INT8: 'int8',
  UINT8: 'uint8',
  UINT16: 'uint16',
  BOOL: 'bool',
} as const satisfies Record<string, TensorType>
type Datatype = keyof typeof DATATYPES

const ARRAYS = {
  float32: Float32Array,
  float16: Uint16Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  bool: Uint8Array,
} as const

const TensorMetadata = z.object({ name: z.string(), datatype: z.string(), shape: z.array(z.coerce.number().int()) })
const ModelMetadata = z.object({ inputs: z.array(TensorMetadata), outputs: z.array(TensorMetadata) })
const InferReply = z.object({
  outputs: z.array(
    z.object({
      name: z.string(),
      datatype: z.string(),
      shape: z.array(z.number().int().nonnegative()),
      parameters: z.object({ binary_data_size: z.number().int().nonnegative().optional() }).optional(),
      data: z.array(z.union([z.number(), z.boolean()])).optional(),
    }),
  ),
})

/** Bytes of JSON before the tensors; without it the whole body is JSON. */
const HEADER_LENGTH = 'inference-header-content-length'

interface Signature {
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
}

/**
 * Asks the server about the model. Rejects BAD_MODEL when it has none of that name, FETCH_FAILED when it does not answer.
 * `run` rejects ModelChangedError when the server has another model under that name by then.
 */
export async function createKservePredictor(settings: KserveSettings): Promise<Predictor> {
  const base = modelUrl(settings)
  const known = await readSignature(settings, base)
  const { inputs, outputs } = known
  /** What is wrong with a request or a reply, unless it is that the model is another one. */
  const explain = async (error: unknown): Promise<unknown> => {
    const now = await readSignature(settings, base).catch(() => known)
    return isDeepStrictEqual(now, known) ? error : new ModelChangedError(settings.model, describe(now))
  }
  return {
    inputs,
    outputs,
    device: 'kserve',
    run: async (feeds) => {
      checkFeeds(inputs, feeds)
      const { body, headerLength } = encodeRequest(inputs, outputs, feeds)
      try {
        const reply = await call(settings, `${base}/infer`, {
          method: 'POST',
          headers: { 'content-type': 'application/octet-stream', [HEADER_LENGTH]: `${headerLength}` },
          body,
        })
        const results = decodeReply(settings, await reply.arrayBuffer(), reply.headers.get(HEADER_LENGTH))
        checkResults(settings, outputs, results)
        return results
      } catch (error) {
        throw await explain(error)
      }
    },
    close: async () => {},
  }
}

async function readSignature(settings: KserveSettings, base: string): Promise<Signature> {
  const answer = await call(settings, base, {})
  const metadata = ModelMetadata.safeParse(parseJson(await answer.text()))
  if (!metadata.success) throw unreadable(settings)
  return {
    inputs: metadata.data.inputs.map((tensor) => toSpec(tensor, 'input')),
    outputs: metadata.data.outputs.map((tensor) => toSpec(tensor, 'output')),
  }
}

function describe({ inputs, outputs }: Signature): string {
  return `inputs ${inputs.map(describeSpec).join(', ')}, outputs ${outputs.map(describeSpec).join(', ')}`
}

/** A server may say one thing of its model and send another. */
function checkResults(
  { model }: KserveSettings,
  outputs: readonly TensorSpec[],
  results: Readonly<Record<string, Tensor>>,
): void {
  for (const spec of outputs) {
    const result = results[spec.name]
    const dims = result?.dims
    if (dims?.length === spec.dims.length && spec.dims.every((d, i) => typeof d !== 'number' || d === dims[i])) continue
    const sent = result ? describeTensor(spec.name, result) : 'no such tensor'
    throw new AppError(
      'FETCH_FAILED',
      `the inference server of model '${model}' sent ${sent} where it had promised ${describeSpec(spec)}`,
      { hint: 'see the log of that server: its model answers with other shapes than it says' },
    )
  }
}

function modelUrl({ url, model, version }: KserveSettings): string {
  const path = `/v2/models/${encodeURIComponent(model)}`
  return `${url.replace(/\/+$/, '')}${path}${version === undefined ? '' : `/versions/${encodeURIComponent(version)}`}`
}

function toSpec({ name, datatype, shape }: z.infer<typeof TensorMetadata>, what: string): TensorSpec {
  if (!(datatype in DATATYPES))
    throw new AppError('BAD_MODEL', `the network's ${what} '${name}' has type ${datatype}, which no image has`)
  return { name, type: DATATYPES[datatype as Datatype], dims: shape.map((d) => (d < 0 ? null : d)) }
}

function datatypeOf(type: TensorType): Datatype {
  const names = Object.keys(DATATYPES) as Datatype[]
  return names.find((name) => DATATYPES[name] === type)!
}

function encodeRequest(
  inputs: readonly TensorSpec[],
  outputs: readonly TensorSpec[],
  feeds: Readonly<Record<string, Tensor>>,
): { body: Blob; headerLength: number } {
  const tensors = inputs.map(({ name, type }) => toWire(feeds[name]!.data, type))
  const header = JSON.stringify({
    // Optional by the protocol, but KServe's own server fails without one.
    id: randomUUID(),
    inputs: inputs.map(({ name, type }, i) => ({
      name,
      shape: feeds[name]!.dims,
      datatype: datatypeOf(type),
      parameters: { binary_data_size: tensors[i]!.byteLength },
    })),
    outputs: outputs.map(({ name }) => ({ name, parameters: { binary_data: true } })),
  })
  const head = new TextEncoder().encode(header)
  return { body: new Blob([head, ...tensors.map(bytesOf)]), headerLength: head.byteLength }
}

/** The tensor's bytes; the protocol is little-endian, as every machine that Node runs on is. */
function bytesOf(data: WireArray): Uint8Array<ArrayBuffer> {
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
}

function decodeReply(settings: KserveSettings, body: ArrayBuffer, length: string | null): Record<string, Tensor> {
  const headerLength = length === null ? body.byteLength : Number(length)
  if (!Number.isSafeInteger(headerLength) || headerLength < 0 || headerLength > body.byteLength)
    throw unreadable(settings)
  const reply = InferReply.safeParse(parseJson(new TextDecoder().decode(new Uint8Array(body, 0, headerLength))))
  if (!reply.success) throw unreadable(settings)
  const results: Record<string, Tensor> = {}
  let offset = headerLength
  for (const { name, datatype, shape, parameters, data } of reply.data.outputs) {
    if (!(datatype in DATATYPES)) throw unreadable(settings)
    const type = DATATYPES[datatype as Datatype]
    const count = elementCount(shape)
    const bytes = parameters?.binary_data_size
    if (bytes !== undefined) {
      const Wanted = ARRAYS[type]
      if (bytes !== count * Wanted.BYTES_PER_ELEMENT || offset + bytes > body.byteLength) throw unreadable(settings)
      // A copy, since the tensor may begin at any byte.
      results[name] = { dims: shape, data: fromWire(new Wanted(body.slice(offset, offset + bytes)), type) }
      offset += bytes
    } else {
      if (data?.length !== count) throw unreadable(settings)
      const numbers = Float64Array.from(data, Number)
      results[name] = { dims: shape, data: type === 'int64' ? numbers : fromWire(toWire(numbers, type), type) }
    }
  }
  return results
}

async function call(settings: KserveSettings, url: string, init: RequestInit): Promise<Response> {
  let response: Response
  try {
    response = await settings.fetch(url, { ...init, redirect: 'error' })
  } catch (cause) {
    if (cause instanceof AppError) throw cause
    throw new AppError('FETCH_FAILED', `the inference server of model '${settings.model}' does not answer`, {
      cause,
      hint: 'see that it runs and that inference.kserve.url in the model config names it',
    })
  }
  if (response.ok) return response
  // Not its words: they may name files, addresses and versions of a network that clients have no business in.
  const message = `the inference server refused model '${settings.model}' (${response.status})`
  if (response.status === 429 || response.status === 503)
    throw new AppError('MODEL_NOT_READY', message, { retryAfterSeconds: 5 })
  throw new AppError(response.status >= 500 ? 'FETCH_FAILED' : 'BAD_MODEL', message, {
    hint: 'see inference.kserve in the model config and the log of that server',
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function unreadable({ model }: KserveSettings): AppError {
  return new AppError('FETCH_FAILED', `the inference server of model '${model}' sent an answer that cannot be read`, {
    hint: 'inference.kserve.url must name a server that speaks the Open Inference Protocol v2 over HTTP',
  })
}
