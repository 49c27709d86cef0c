import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKservePredictor } from '../../src/predictors/kserve.js'
import { createFetchPolicy } from '../../src/util/fetch-policy.js'
import { createGuardedFetch, type FetchBounds } from '../../src/util/guarded-fetch.js'
import { type KserveServer, startKserveServer } from '../helpers/kserve-server.js'
import { inferenceJob, modelRef, plainConfig, realScheduler, request } from '../helpers/runner-fixtures.js'

let server: KserveServer
let plain: KserveServer
beforeAll(async () => {
  server = await startKserveServer()
  plain = await startKserveServer({ plain: true })
})
afterAll(async () => {
  await server.close()
  await plain.close()
})

const image = { dims: [1, 1, 1, 2, 2], data: Float32Array.of(0, 1, 2.5, -3) }

describe('a network on another server', () => {
  it('tells its tensors, free dimensions as null', async () => {
    const predictor = await createKservePredictor({ url: `${server.url}/`, model: 'twice', fetch })
    expect(predictor.device).toBe('kserve')
    expect(predictor.inputs).toEqual([{ name: 'image', type: 'float32', dims: [null, 1, null, null, null] }])
  })

  it('gets and gives binary tensors', async () => {
    const predictor = await createKservePredictor({ url: server.url, model: 'twice', version: '1', fetch })
    expect(await predictor.run({ image })).toEqual({
      logits: { dims: [1, 1, 1, 2, 2], data: Float32Array.of(0, 2, 5, -6) },
    })
    expect(server.asked.at(-1)).toEqual({
      id: expect.any(String),
      inputs: [{ name: 'image', shape: [1, 1, 1, 2, 2], datatype: 'FP32', parameters: { binary_data_size: 16 } }],
      outputs: [{ name: 'logits', parameters: { binary_data: true } }],
    })
  })

  it('converts types, and takes JSON tensors where the server has no binary ones', async () => {
    for (const { url } of [server, plain]) {
      const bits = await createKservePredictor({ url, model: 'bits', fetch })
      expect(await bits.run({ image })).toEqual({
        logits: { dims: [1, 1, 1, 2, 2], data: Uint8Array.of(1, 0, 0, 0) },
      })
    }
    const twice = await createKservePredictor({ url: plain.url, model: 'twice', fetch })
    expect((await twice.run({ image })).logits!.data).toEqual(Float32Array.of(0, 2, 5, -6))
  })

  it.each([
    ['nobody', 'BAD_MODEL', /\(404\)$/],
    ['busy', 'MODEL_NOT_READY', /\(503\)$/],
    ['liar', 'FETCH_FAILED', /cannot be read/],
  ])('%s: %s', async (model, code, message) => {
    await expect(createKservePredictor({ url: server.url, model, fetch })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it('no server at all', async () => {
    const gone = await startKserveServer()
    await gone.close()
    await expect(createKservePredictor({ url: gone.url, model: 'twice', fetch })).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      statusCode: 502,
    })
  })

  const guarded = (allow: readonly string[], bounds: Partial<FetchBounds> = {}) =>
    createGuardedFetch(createFetchPolicy(allow), { deadlineMs: 60_000, maxBytes: 2 ** 20, ...bounds })

  it('is asked where the operator allows it', async () => {
    const predictor = await createKservePredictor({
      url: server.url,
      model: 'twice',
      fetch: guarded([new URL(server.url).host]),
    })
    expect((await predictor.run({ image })).logits!.data).toEqual(Float32Array.of(0, 2, 5, -6))
  })

  it.each([
    { name: 'nowhere', allow: [] },
    { name: 'on another port', allow: ['127.0.0.1:1'] },
    { name: 'elsewhere', allow: ['10.0.0.0/8'] },
  ])('is not asked when the operator allows fetching $name', async ({ allow }) => {
    const asked = server.asked.length
    await expect(
      createKservePredictor({ url: server.url, model: 'twice', fetch: guarded(allow) }),
    ).rejects.toMatchObject({ code: 'FETCH_FORBIDDEN', hint: expect.stringContaining('--allow-fetch') })
    expect(server.asked.length).toBe(asked)
  })

  it('that sends more than fits is cut off', async () => {
    await expect(
      createKservePredictor({ url: server.url, model: 'twice', fetch: guarded(['127.0.0.1'], { maxBytes: 16 }) }),
    ).rejects.toMatchObject({ code: 'FETCH_FAILED', message: expect.stringContaining('more than 16 bytes') })
  })

  it('that does not answer is given up', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
    const asking = createKservePredictor({ url, model: 'twice', fetch: guarded(['127.0.0.1'], { deadlineMs: 200 }) })
    await expect(asking).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      hint: expect.stringContaining('--fetch-deadline'),
    })
    silent.closeAllConnections()
    silent.close()
  })

  it('whose name is not resolved in time is given up', async () => {
    const policy = createFetchPolicy(['triton.example'], () => new Promise(() => {}))
    const asking = createKservePredictor({
      url: 'http://triton.example',
      model: 'twice',
      fetch: createGuardedFetch(policy, { deadlineMs: 50, maxBytes: 2 ** 20 }),
    })
    await expect(asking).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: 'triton.example did not answer within 0.05 s',
    })
  })

  it('that redirects is not followed, not even to an allowed host', async () => {
    const elsewhere = createServer((_request, response) => {
      response.writeHead(307, { location: `${server.url}/v2/models/twice` }).end('moved to a secret place')
    }).listen(0, '127.0.0.1')
    await once(elsewhere, 'listening')
    const asked = server.asked.length
    const url = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`
    await expect(createKservePredictor({ url, model: 'twice', fetch: guarded(['127.0.0.1']) })).rejects.toMatchObject({
      message: "the inference server refused model 'twice' (307)",
    })
    expect(server.asked.length).toBe(asked)
    elsewhere.close()
  })

  it.each([
    ['cut', 'FETCH_FAILED', /does not answer/],
    ['half', 'FETCH_FAILED', /does not answer/],
    ['error', 'FETCH_FAILED', /refused model 'twice' \(500\)$/],
    [
      'flat',
      'FETCH_FAILED',
      /sent 'logits' float32 \[1,1,2,2\] where it had promised 'logits' float32 \[\?,1,\?,\?,\?\]/,
    ],
    ['nothing', 'FETCH_FAILED', /sent no such tensor where it had promised 'logits'/],
  ] as const)('%s: %s, and the next run works', async (fault, code, message) => {
    const own = await startKserveServer()
    try {
      const predictor = await createKservePredictor({ url: own.url, model: 'twice', fetch: guarded(['127.0.0.1']) })
      own.fault = fault
      await expect(predictor.run({ image })).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
      own.fault = undefined
      expect((await predictor.run({ image })).logits!.data).toEqual(Float32Array.of(0, 2, 5, -6))
    } finally {
      await own.close()
    }
  })

  it('with another model under the name by now: 503 once, then its runner is another one that knows', async () => {
    const own = await startKserveServer()
    const { scheduler, pids } = realScheduler({
      fetch: { allow: ['127.0.0.1'], deadlineMs: 60_000, maxBytes: 2 ** 30 },
    })
    const { weightsPath: _none, ...bare } = modelRef('remote')
    const kserve = { url: own.url, model: 'twice' }
    const inference = { ...plainConfig.inference, engine: 'kserve' as const, kserve }
    const model = { ...bare, config: { ...plainConfig, inference } }
    const ask = () => scheduler.runModel(request(), model, inferenceJob({ fill: 21 }), new AbortController().signal)
    try {
      expect(await ask()).toMatchObject({ params: { mean: 42 } })
      own.rename('scan')
      await expect(ask()).rejects.toMatchObject({
        code: 'MODEL_NOT_READY',
        message: expect.stringContaining("inputs 'scan' float32 [?,1,?,?,?]"),
        retryAfterSeconds: 1,
      })
      // The mapping of its one free input needs no name.
      expect(await ask()).toMatchObject({ params: { mean: 42 } })
      expect(new Set(pids).size).toBe(2)
    } finally {
      await scheduler.close(0)
      await own.close()
    }
  })

  it('serves a job through the scheduler, whose model has no weights here', async () => {
    const { scheduler } = realScheduler({ fetch: { allow: ['127.0.0.1'], deadlineMs: 60_000, maxBytes: 2 ** 30 } })
    const { weightsPath: _none, ...bare } = modelRef('remote')
    const kserve = { url: server.url, model: 'twice' }
    const model = {
      ...bare,
      config: { ...plainConfig, inference: { ...plainConfig.inference, engine: 'kserve' as const, kserve } },
    }
    const job = inferenceJob({ fill: 21 })
    const result = await scheduler.runModel(request(), model, job, new AbortController().signal)
    expect(result).toMatchObject({ device: 'kserve', params: { mean: 42 } })
    await scheduler.close(0)
  })
})
