import { copyFileSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { Predictor, Tensor } from '../../../src/contract/tensor.js'
import { parseDevice } from '../../../src/predictors/device.js'
import {
  createOnnxPredictor,
  inWords,
  type OnnxSettings,
  permittedThreads,
} from '../../../src/predictors/onnxruntime.js'
import { modelPath } from '../../helpers/runner-fixtures.js'

const cpu: OnnxSettings = { device: { kind: 'cpu', index: 0 }, session: { intraOpThreads: 1 }, arena: true }

const open: Predictor[] = []
async function load(name: string, settings: OnnxSettings = cpu): Promise<Predictor> {
  const predictor = await createOnnxPredictor(modelPath(name), settings)
  open.push(predictor)
  return predictor
}
afterEach(async () => {
  for (const predictor of open.splice(0)) await predictor.close()
})

const cube = (data: Tensor['data'], edge = 2): Tensor => ({ dims: [1, 1, edge, edge, edge], data })
const ramp = Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7)

describe('tensors', () => {
  it.each([
    ['identity', 'logits', Float32Array, [0, 1, 2, 3, 4, 5, 6, 7]],
    ['twice_float16', 'double', Float32Array, [0, 2, 4, 6, 8, 10, 12, 14]],
    ['twice_int64', 'double', Float64Array, [0, 2, 4, 6, 8, 10, 12, 14]],
    ['twice_int32', 'double', Int32Array, [0, 2, 4, 6, 8, 10, 12, 14]],
    ['invert_uint8', 'output', Uint8Array, [255, 254, 253, 252, 251, 250, 249, 248]],
    ['not_bool', 'output', Uint8Array, [1, 0, 0, 0, 0, 0, 0, 0]],
  ])('%s', async (name, output, type, expected) => {
    const predictor = await load(name)
    const { [output]: result } = await predictor.run({ image: cube(ramp) })
    expect(result!.data).toBeInstanceOf(type)
    expect([...result!.data]).toEqual(expected)
    expect(result!.dims).toEqual([1, 1, 2, 2, 2])
  })

  it('a view into a larger buffer is fine', async () => {
    const predictor = await load('identity')
    const wide = Float32Array.from({ length: 20 }, (_, i) => i)
    const { logits } = await predictor.run({ image: cube(wide.subarray(5, 13)) })
    expect([...logits!.data]).toEqual([5, 6, 7, 8, 9, 10, 11, 12])
  })

  it('several inputs, and names and shapes as the network has them', async () => {
    const predictor = await load('two_inputs')
    expect(predictor.inputs).toEqual([
      { name: 'image', type: 'float32', dims: ['n', 1, 'x', 'y', 'z'] },
      { name: 'scale', type: 'float32', dims: [1] },
    ])
    const scale = { dims: [1], data: Float32Array.of(3) }
    const { output } = await predictor.run({ image: cube(ramp), scale })
    expect([...output!.data]).toEqual([0, 3, 6, 9, 12, 15, 18, 21])
  })

  it('external data is read from beside the model', async () => {
    const predictor = await load('external')
    const { logits } = await predictor.run({ image: cube(new Float32Array(64).fill(2), 4) })
    expect(new Set(logits!.data)).toEqual(new Set([7]))
  })
})

it.each([
  { name: 'one that may use all cores leaves it to the engine', permitted: 8, all: 8, threads: undefined },
  { name: 'one that is confined to some has a thread for each of those', permitted: 2, all: 8, threads: 2 },
])('of processes, $name', ({ permitted, all, threads }) => {
  expect(permittedThreads(permitted, all)).toBe(threads)
})

describe('session options of the config', () => {
  it.each(['disabled', 'basic', 'extended', 'all'] as const)(
    'optimisation %s gives the same answer',
    async (optimisation) => {
      const predictor = await load('guidance_3d', {
        ...cpu,
        session: { intraOpThreads: 2, optimisation },
        arena: false,
      })
      const data = Float32Array.of(...ramp, ...ramp.map((x) => 10 * x), ...ramp)
      const { logits } = await predictor.run({ image: { dims: [1, 3, 2, 2, 2], data } })
      expect([...logits!.data]).toEqual([...ramp].map((x) => x - 0.5 + 10 * x - x))
    },
  )
})

describe('what is wrong is said in words', () => {
  it.each([
    ['bad', /not a network.*Protobuf parsing failed/],
    ['cut', /not a network.*Protobuf parsing failed/],
    ['unknown_op', /NoSuchOperator/],
    ['escape', /External data path escapes model directory/],
    ['string_output', /output 'words' has type string/],
  ])('%s', async (name, message) => {
    const error = await load(name).catch((cause: unknown) => cause)
    expect(error).toMatchObject({ code: 'BAD_MODEL', message: expect.stringMatching(message) })
    expect((error as Error).message).not.toMatch(/\/(work|root|home|tmp|etc|onnxruntime_src)\b/)
  })

  it('external data that is missing', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'aidant-test-'))
    copyFileSync(modelPath('external'), join(folder, 'alone.onnx'))
    await expect(createOnnxPredictor(join(folder, 'alone.onnx'), cpu)).rejects.toMatchObject({ code: 'BAD_MODEL' })
  })

  it.each<[string, string, Record<string, Tensor>, RegExp]>([
    [
      'an unknown input',
      'identity',
      { scan: cube(ramp) },
      /no input 'scan'; its inputs are 'image' float32 \[n,1,x,y,z\]/,
    ],
    ['a missing input', 'two_inputs', { image: cube(ramp) }, /input 'scale' float32 \[1\] was not fed/],
    [
      'a wrong rank',
      'threshold_2d',
      { image: cube(ramp) },
      /wants input 'image' float32 \[n,1,h,w\] but was fed 'image' float32 \[1,1,2,2,2\]/,
    ],
    [
      'a wrong fixed size',
      'threshold_fixed16',
      { image: cube(ramp) },
      /wants input 'image' float32 \[1,1,16,16,16\] but was fed/,
    ],
    [
      'a size the network cannot halve',
      'needs_divisible',
      { image: cube(new Float32Array(27), 3) },
      /could not run on 'image' float32 \[1,1,3,3,3\]: .*broadcast/,
    ],
  ])('%s', async (_what, name, feeds, message) => {
    const predictor = await load(name)
    await expect(predictor.run(feeds)).rejects.toMatchObject({
      code: 'BAD_MODEL',
      message: expect.stringMatching(message),
      hint: expect.any(String),
    })
  })

  it('memory that is not there', async () => {
    const predictor = await load('huge')
    await expect(predictor.run({ image: cube(new Float32Array(64 ** 3), 64) })).rejects.toMatchObject({
      code: 'RUNNER_CRASHED',
      message: 'the network ran out of memory on this image',
    })
  })

  it('what the engine says is passed on without places on this machine', () => {
    const said = new Error(
      'Non-zero status code returned while running Add node. Name:\'\' Status Message: /src/core/ops.h:563 void f() bad axis. "C:\\models\\x.onnx" 4 by 5\n',
    )
    expect(inWords(said)).toBe('void f() bad axis. 4 by 5')
  })
})

describe('the device', () => {
  it.each([
    ['auto', { kind: 'auto', index: 0 }],
    ['cpu', { kind: 'cpu', index: 0 }],
    ['cuda', { kind: 'cuda', index: 0 }],
    ['cuda:3', { kind: 'cuda', index: 3 }],
    ['gpu', undefined],
    ['cuda:', undefined],
    ['cpu:1', undefined],
  ])('%s', (text, expected) => {
    expect(parseDevice(text)).toEqual(expected)
  })

  it('is the CPU, with the reason, when CUDA is wanted and cannot be had', async () => {
    const predictor = await load('identity', { ...cpu, device: { kind: 'cuda', index: 99 } })
    expect(predictor.device).toBe('cpu')
    expect(predictor.fallbackReason).toMatch(/^CUDA could not be used \(.+\)$/)
    const { logits } = await predictor.run({ image: cube(ramp) })
    expect([...logits!.data]).toEqual([...ramp])
  })

  it('is the CPU without a word when that is what was asked for', async () => {
    const predictor = await load('identity')
    expect(predictor.device).toBe('cpu')
    expect(predictor.fallbackReason).toBeUndefined()
  })
})
