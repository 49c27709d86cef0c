/** A small inference server that speaks the Open Inference Protocol v2: model `twice` doubles FP32, `bits` inverts BOOL. */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface KserveServer {
  readonly url: string
  /** The JSON part of every request to /infer. */
  readonly asked: Record<string, unknown>[]
  /** From now on `twice` has this input, and refuses every other, as when it was deployed anew. */
  rename(input: string): void
  /** What the next requests to /infer meet instead of an answer. */
  fault: Fault | undefined
  close(): Promise<void>
}

/** The connection breaks before or within the answer; an error with words for the inside; another shape than promised. */
export type Fault = 'cut' | 'half' | 'error' | 'flat' | 'nothing'

const MODELS = {
  twice: { datatype: 'FP32', input: 'image', output: 'logits' },
  bits: { datatype: 'BOOL', input: 'image', output: 'logits' },
} as const

/** `plain` answers without binary tensors, as servers without the extension do. */
export async function startKserveServer({ plain = false } = {}): Promise<KserveServer> {
  const asked: Record<string, unknown>[] = []
  let twiceInput = 'image'
  const state: { fault: Fault | undefined } = { fault: undefined }
  const server = createServer(async (request, response) => {
    const [, name, , action] = /^\/v2\/models\/([^/]+)(\/versions\/1)?(\/infer)?$/.exec(request.url ?? '') ?? []
    const json = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    if (name === 'busy') return json(503, { error: 'model is loading' })
    if (name === 'liar') return json(200, { inputs: 'none' })
    if (name !== 'twice' && name !== 'bits') return json(404, { error: `unknown model '${name}'` })
    const { datatype, output } = MODELS[name]
    const input = name === 'twice' ? twiceInput : MODELS[name].input
    const shape = [-1, 1, -1, -1, -1]
    if (!action)
      return json(200, {
        name,
        platform: 'test',
        inputs: [{ name: input, datatype, shape }],
        outputs: [{ name: output, datatype, shape }],
      })
    const body = await readAll(request)
    const length = Number(request.headers['inference-header-content-length'])
    const header = JSON.parse(body.subarray(0, length).toString()) as { inputs: { name: string; shape: number[] }[] }
    asked.push(header)
    if (state.fault === 'cut') return request.socket.destroy()
    if (state.fault === 'error') return json(500, { error: '/srv/models/twice: CUDA error on gpu-7' })
    if (state.fault === 'nothing') return json(200, { model_name: name, outputs: [] })
    if (header.inputs[0]!.name !== input) return json(400, { error: `unexpected inference input '${input}'` })
    const bytes = Uint8Array.from(body.subarray(length))
    const result =
      name === 'twice' ? new Float32Array(bytes.buffer).map((value) => 2 * value) : bytes.map((value) => 1 - value)
    const given = header.inputs[0]!.shape
    const reply = { name: output, datatype, shape: state.fault === 'flat' ? given.slice(1) : given }
    if (plain) {
      const data = name === 'twice' ? [...result] : [...result].map((value) => value === 1)
      return json(200, { model_name: name, outputs: [{ ...reply, data }] })
    }
    const head = Buffer.from(
      JSON.stringify({
        model_name: name,
        outputs: [{ ...reply, parameters: { binary_data_size: result.byteLength } }],
      }),
    )
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': `${head.length}`,
    })
    const whole = Buffer.concat([head, Buffer.from(result.buffer)])
    if (state.fault !== 'half') return response.end(whole)
    response.write(whole.subarray(0, whole.length - 4), () => request.socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    rename: (input) => {
      twiceInput = input
    },
    get fault() {
      return state.fault
    },
    set fault(fault) {
      state.fault = fault
    },
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
