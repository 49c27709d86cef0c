import { describe, expect, it } from 'vitest'
import { parseModelConfig } from '../../../src/pipelines/parse-model-config.js'
import { networkNames } from '../../../src/pipelines/several-networks.js'

const parse = (inference: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  parseModelConfig({ type: 'segmentation', labels: ['a', 'b'], inference, ...more }, 'test')
const two = ['a.onnx', 'b.onnx']
const part = (network: string, labels: Record<string, number> = { '1': 1 }) => ({ network, labels })

describe('a config of several networks', () => {
  it('an ensemble is a segmentation for clients, or what its task says', () => {
    expect(parse({ networks: two }, { type: 'ensemble' })).toMatchObject({
      type: 'segmentation',
      inference: { networks: two, join: { kind: 'mean', of: 'scores' } },
    })
    const task = parse({ networks: two, ensemble: { task: 'classification', method: 'vote' } }, { type: 'Ensemble' })
    expect(task).toMatchObject({ type: 'classification', inference: { join: { kind: 'vote' } } })
  })
  it('label maps name their networks, and those of the first model come after them', () => {
    const first = { networks: ['rough.onnx'], crop_margin: 5 }
    const config = parse({ label_maps: [part('a.onnx'), part('b.onnx', { '2': 2 })], first })
    expect(networkNames(config)).toEqual(['a.onnx', 'b.onnx', 'rough.onnx'])
    expect(config.inference.join).toEqual({ kind: 'labelMaps', maps: [{ '1': 1 }, { '2': 2 }] })
    expect(config.first).toMatchObject({ field: 'first', cropMargin: 5 })
  })
  it.each<[string, Record<string, unknown>, Record<string, unknown>, RegExp]>([
    ['an ensemble without networks', { ensemble: {} }, {}, /inference\.networks is missing/],
    ['an ensemble of one', { networks: ['a.onnx'], ensemble: {} }, {}, /names one network/],
    ['a network twice', { networks: ['a.onnx', 'a.onnx'] }, {}, /'a\.onnx' twice/],
    [
      'the first model’s network again',
      { networks: two, first: { networks: ['b.onnx'], crop_margin: 5 } },
      {},
      /'b\.onnx' twice/,
    ],
    ['weights of another number', { networks: two, ensemble: { weights: [1] } }, {}, /weights has 1 entries for 2/],
    ['weights of nothing', { networks: two, ensemble: { weights: [0, 0] } }, {}, /more than 0/],
    [
      'weights of a vote',
      { networks: two, ensemble: { method: 'vote', weights: [1, 1] } },
      {},
      /weights is for the method mean/,
    ],
    [
      'scores of a vote',
      { networks: two, ensemble: { method: 'vote', of: 'scores' } },
      {},
      /of is for the method mean/,
    ],
    [
      'a task where the type says it',
      { networks: two, ensemble: { task: 'segmentation' } },
      {},
      /task is for type ensemble/,
    ],
    ['an unknown method', { networks: two, ensemble: { method: 'median' } }, {}, /ensemble\.method/],
    ['an unknown key', { networks: two, ensemble: { weight: [1, 1] } }, {}, /did you mean 'weights'/],
    ['label maps and networks', { networks: two, label_maps: [part('a.onnx')] }, {}, /leave networks out/],
    ['label maps and an ensemble', { ensemble: {}, label_maps: [part('a.onnx')] }, {}, /leave ensemble out/],
    [
      'a final label without a name',
      { label_maps: [part('a.onnx', { '1': 3 })] },
      {},
      /labels\.1 is 3, and the model has 2/,
    ],
    ['a background of its own', { label_maps: [part('a.onnx', { '0': 1 })] }, {}, /label_maps\[0\]\.labels/],
    ['an empty map', { label_maps: [part('a.onnx', {})] }, {}, /names no label/],
    ['a first model alone', { first: { networks: ['a.onnx'] } }, {}, /networks is missing; beside inference\.first/],
    [
      'a first model that nothing reads',
      { networks: two, first: { networks: ['c.onnx'] } },
      {},
      /first would change nothing/,
    ],
    ['a first model without networks', { networks: two, first: {} }, {}, /inference\.first\.networks/],
    [
      'a window of the first model',
      { networks: two, first: { networks: ['c.onnx'], crop_margin: 5, args: { scanning_window: true } } },
      {},
      /config\.inference\.first\.args\.roi is missing/,
    ],
    [
      'a first model under clicks',
      { networks: two, first: { networks: ['c.onnx'] } },
      { type: 'deepgrow' },
      /first is for models that answer without clicks/,
    ],
    [
      'networks elsewhere',
      { networks: two, kserve: { url: 'http://x', model: 'm' } },
      {},
      /networks is for networks that run here/,
    ],
    ['an encoder and a decoder', { networks: two, parts: {} }, {}, /exclude each other/],
  ])('%s is refused by name', (_, inference, more, says) => {
    expect(() => parse(inference, more)).toThrow(says)
  })
})
