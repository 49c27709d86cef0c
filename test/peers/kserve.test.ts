/** Against KServe's own Python server (pip install kserve; AIDANT_PYTHON names the interpreter). */
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKservePredictor } from '../../src/predictors/kserve.js'
import { freePort, type Peer, startPeer } from '../helpers/peer-process.js'
import { pythonWith } from '../helpers/python.js'

const python = pythonWith(['kserve'])

describe.skipIf(!python)('KServe (skipped without the Python package kserve)', () => {
  let peer: Peer
  let url: string
  beforeAll(async () => {
    const port = await freePort()
    const script = fileURLToPath(new URL('./kserve_server.py', import.meta.url))
    peer = await startPeer(python!, [script, `${port}`], port)
    url = `http://127.0.0.1:${port}`
  })
  afterAll(() => peer.stop())

  const dims = [1, 1, 1, 2, 2]
  it.each([
    ['twice', 'float32', [0, 2, 5, -6]],
    ['half', 'float16', [0, 2, 5, -6]],
    ['index', 'int64', [1, 2, 3, -2]],
  ])('%s: binary %s tensors there and back', async (model, type, expected) => {
    const predictor = await createKservePredictor({ url, model, fetch })
    expect(predictor.inputs).toEqual([{ name: 'image', type, dims: [null, 1, null, null, null] }])
    const { logits } = await predictor.run({ image: { dims, data: Float32Array.of(0, 1, 2.5, -3) } })
    expect(logits!.dims).toEqual(dims)
    expect([...logits!.data]).toEqual(expected)
  })

  it('a model it does not have', async () => {
    await expect(createKservePredictor({ url, model: 'nobody', fetch })).rejects.toMatchObject({ code: 'BAD_MODEL' })
  })
})
