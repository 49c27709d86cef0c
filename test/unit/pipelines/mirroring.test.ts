import { describe, expect, it } from 'vitest'
import { mirroring } from '../../../src/pipelines/mirroring.js'
import type { LoadedModel } from '../../../src/pipelines/run.js'

function model(device: string, mirror?: { axes: number[]; on?: boolean }): LoadedModel {
  return { ref: { config: { inference: { mirror } } }, predictor: { device } } as unknown as LoadedModel
}
const axes = [0, 1, 2]

describe('mirroring', () => {
  it.each([
    ['a request that asks for it has it, on a CPU too', model('cpu', { axes }), true, 3, false],
    ['also where the trainer did without', model('cpu', { axes, on: false }), true, 3, false],
    ['a request that says no has none', model('cuda:0', { axes, on: true }), false, 0, false],
    ['the config says so', model('cpu', { axes, on: true }), undefined, 3, false],
    ['nobody says: on a GPU', model('cuda:0', { axes }), undefined, 3, false],
    ['nobody says: not on a CPU, which is told', model('cpu', { axes }), undefined, 0, true],
    ['a model that cannot says so when it is asked to', model('cpu'), true, 0, true],
    ['and else says nothing', model('cpu'), undefined, 0, false],
    ['words count', model('cpu', { axes }), 'True', 3, false],
  ])('%s', (_, loaded, wish, count, told) => {
    const { axes: used, note } = mirroring(loaded, wish)
    expect(used).toHaveLength(count)
    expect(note !== undefined).toBe(told)
  })
  it.each([1, 'maybe', [true]])('%j is neither true nor false', (wish) => {
    expect(() => mirroring(model('cpu', { axes }), wish)).toThrow(/params.tta/)
  })
})
