import { describe, expect, it } from 'vitest'
import type { Tensor, TensorSpec } from '../../../src/contract/tensor.js'
import {
  createEncode,
  type EncoderMemory,
  linkParts,
  outerInputs,
  type PartsClock,
  type Tensors,
  twoPartPredict,
  UNWATCHED,
} from '../../../src/inferers/two-parts.js'

const spec = (name: string, dims: TensorSpec['dims'], type: TensorSpec['type'] = 'float32'): TensorSpec => ({
  name,
  type,
  dims,
})
const pixels = (...values: number[]): Tensor => ({ dims: [values.length, 1, 1, 1], data: Float32Array.from(values) })

/** An encoder that doubles, a decoder that adds the click; `runs` has the batch of every run. */
function pair(batch: 'n' | 1 = 'n') {
  const runs: { encoder: number[]; decoder: number[] } = { encoder: [], decoder: [] }
  const encoder = {
    inputs: [spec('image', [batch, 1, 1, 1])],
    outputs: [spec('features', [batch, 1, 1, 1])],
    run: async ({ image }: Tensors) => {
      runs.encoder.push(image!.dims[0]!)
      return { features: { dims: image!.dims, data: image!.data.map((n) => 2 * n) as Tensor['data'] } }
    },
  }
  const decoder = {
    inputs: [spec('features', ['n', 1, 1, 1]), spec('click', ['n', 1, 1, 1])],
    outputs: [spec('mask', ['n', 1, 1, 1])],
    run: async ({ features, click }: Tensors) => {
      runs.decoder.push(features!.dims[0]!)
      const data = features!.data.map((n, i) => n + click!.data[i]!) as Tensor['data']
      return { mask: { dims: features!.dims, data } }
    },
  }
  return { parts: { encoder, decoder, links: linkParts(encoder, decoder, {}) }, runs }
}

function memory(): EncoderMemory & { readonly kept: Map<string, Tensors> } {
  const kept = new Map<string, Tensors>()
  return { kept, get: (key) => kept.get(key), set: (key, made) => void kept.set(key, made) }
}

const predictor = (
  { parts }: ReturnType<typeof pair>,
  store?: EncoderMemory,
  clock: PartsClock = UNWATCHED,
): ((image: Tensor, click: Tensor) => Promise<number[]>) => {
  const predict = twoPartPredict(parts, createEncode(parts, store, clock), clock)
  return async (image, click) => Array.from((await predict({ image, click })).mask!.data)
}

describe('an encoder and a decoder', () => {
  it('run one after the other where nothing is kept', async () => {
    const made = pair()
    const answer = predictor(made)
    expect(await answer(pixels(3), pixels(1))).toEqual([7])
    expect(await answer(pixels(3), pixels(2))).toEqual([8])
    expect(made.runs).toEqual({ encoder: [1, 1], decoder: [1, 1] })
  })

  it('answer a second click on an image with the decoder alone', async () => {
    const made = pair()
    const answer = predictor(made, memory())
    expect(await answer(pixels(3), pixels(1))).toEqual([7])
    expect(await answer(pixels(3), pixels(5))).toEqual([11])
    expect(made.runs).toEqual({ encoder: [1], decoder: [1, 1] })
  })

  it('look again at another slice or window', async () => {
    const made = pair()
    const answer = predictor(made, memory())
    for (const value of [3, 4, 3]) expect(await answer(pixels(value), pixels(0))).toEqual([2 * value])
    expect(made.runs.encoder).toEqual([1, 1])
  })

  it('run the encoder for those of a batch that it has not seen, and once for two that are alike', async () => {
    const made = pair()
    const answer = predictor(made, memory())
    await answer(pixels(4), pixels(0))
    expect(await answer(pixels(3, 4, 5, 3), pixels(1, 2, 3, 4))).toEqual([7, 10, 13, 10])
    expect(made.runs).toEqual({ encoder: [1, 2], decoder: [1, 4] })
  })

  it('run the encoder one by one where its batch is fixed', async () => {
    const made = pair(1)
    expect(await predictor(made)(pixels(3, 4), pixels(1, 1))).toEqual([7, 9])
    expect(made.runs).toEqual({ encoder: [1, 1], decoder: [2] })
  })

  it('keep each member of a batch in memory of its own', async () => {
    const store = memory()
    await predictor(pair(), store)(pixels(1, 2, 3), pixels(0, 0, 0))
    expect([...store.kept.values()].map(({ features }) => features!.data.buffer.byteLength)).toEqual([4, 4, 4])
  })

  it('say which of them runs, and that the encoder did not have to', async () => {
    const said: string[] = []
    const clock: PartsClock = {
      encoder: (work) => {
        said.push('encoder')
        return work()
      },
      decoder: (work) => {
        said.push('decoder')
        return work()
      },
      kept: () => void said.push('kept'),
    }
    const answer = predictor(pair(), memory(), clock)
    await answer(pixels(1), pixels(0))
    await answer(pixels(1), pixels(1))
    expect(said).toEqual(['encoder', 'decoder', 'kept', 'decoder'])
  })

  it('want fields for what neither makes, a shared input once', () => {
    const { parts } = pair()
    const decoder = { ...parts.decoder, inputs: [...parts.decoder.inputs, spec('image', ['n', 1, 1, 1])] }
    expect(outerInputs({ ...parts, decoder }).map(({ name }) => name)).toEqual(['image', 'click'])
  })
})

describe('what the encoder gives has to meet what the decoder reads', () => {
  const decoder = { inputs: [spec('features', ['n', 4, 'h', 'w']), spec('click', ['n', 2, 'h', 'w'])] }
  const encoder = (name: string, dims: TensorSpec['dims'], type?: TensorSpec['type']) => ({
    outputs: [spec(name, dims, type)],
  })

  it.each([
    ['by name', encoder('features', ['batch', 4, null, null]), {}],
    ['as the config pairs them', encoder('1234', ['n', 4, 8, 8]), { '1234': 'features' }],
  ])('%s', (_, network, feeds) => {
    expect([...linkParts(network, decoder, feeds).values()]).toEqual(['features'])
  })

  it.each([
    ['another name', encoder('embedding', ['n', 4, 8, 8]), {}, /output 'embedding' float32 \[n,4,8,8\] meets no input/],
    [
      'another shape',
      encoder('features', ['n', 3, 8, 8]),
      {},
      /'features' float32 \[n,3,8,8\] does not fit .*\[n,4,h,w\]/,
    ],
    ['another rank', encoder('features', ['n', 4]), {}, /does not fit the decoder's input 'features'/],
    ['another type', encoder('features', ['n', 4, 8, 8], 'float16'), {}, /'features' float16 .* does not fit/],
    ['a pair of no output', encoder('features', ['n', 4, 8, 8]), { gone: 'click' }, /the encoder has no output 'gone'/],
    [
      'a pair of no input',
      encoder('features', ['n', 4, 8, 8]),
      { features: 'gone' },
      /the decoder has no input 'gone'/,
    ],
  ])('%s is refused by name', (_, network, feeds, says) => {
    expect(() => linkParts(network, decoder, feeds)).toThrow(says)
  })

  it('finds what only its shape tells, among inputs that nothing else feeds', () => {
    const two = { outputs: [spec('a', [1, 32, 8, 8]), spec('b', [1, 64, 4, 4])] }
    const readers = [spec('embed', [1, 64, 4, 4]), spec('feats', [1, 32, 8, 8])]
    expect(Object.fromEntries(linkParts(two, { inputs: readers }, {}, readers))).toEqual({ a: 'feats', b: 'embed' })
  })
})
