import { describe, expect, test } from 'vitest'
import { makeNode } from '../../../src/onnx/graph.js'
import { endInLabels } from '../../../src/onnx/label-end.js'
import type { Node } from '../../../src/onnx/onnx_pb.js'
import { makeModel, weight } from '../../helpers/onnx-model.js'

const scores = { scores: 'y', rank: 5, channels: 3 }
const argmax = { kind: 'argmax' } as const

function ended(nodes: Node[], more: Partial<typeof scores> = {}, end: Parameters<typeof endInLabels>[2] = argmax) {
  const model = makeModel(nodes, [weight('w', [3, 1, 1, 1, 1])], ['n', 1, 'd', 'h', 'w'])
  const output = endInLabels(model, { ...scores, ...more }, end)
  return {
    output,
    steps: model.graph!.node.map(({ opType }) => opType),
    outputs: model.graph!.output.map(({ name }) => name),
  }
}
const conv = makeNode('Conv', ['x', 'w'], 'logits')

describe('a network that ends in labels', () => {
  test('gives them alone, and what only made other outputs is gone', () => {
    const features = makeNode('Relu', ['logits'], 'features')
    const { output, steps, outputs } = ended([conv, features, makeNode('Elu', ['logits'], 'y')])
    expect(steps).toEqual(['Conv', 'Elu', 'ArgMax', 'Cast'])
    expect(outputs).toEqual([output!.name])
    expect(output!.type).toBe('uint8')
  })

  test.each([
    ['Softmax over the channels', { axis: 1 }, true],
    ['Softmax over the channels, counted from the end', { axis: -4 }, true],
    ['Softmax over the last axis', {}, false],
  ])('a %s before an argmax: goes %o %s', (_, attributes, goes) => {
    const { steps } = ended([conv, makeNode('Softmax', ['logits'], 'y', attributes)])
    expect(steps).toEqual(goes ? ['Conv', 'ArgMax', 'Cast'] : ['Conv', 'Softmax', 'ArgMax', 'Cast'])
  })

  test('a sigmoid stays: what it rounds to 1 are ties, of which the first class wins', () => {
    expect(ended([conv, makeNode('Sigmoid', ['logits'], 'y')]).steps).toContain('Sigmoid')
  })

  test('a softmax before a threshold stays', () => {
    const softmax = makeNode('Softmax', ['logits'], 'y', { axis: 1 })
    expect(ended([conv, softmax], {}, { kind: 'threshold', from: 0.5 }).steps).toContain('Softmax')
  })

  test('of more classes than a byte counts takes wider labels', () => {
    expect(ended([makeNode('Conv', ['x', 'w'], 'y')], { channels: 257 }).output!.type).toBe('int32')
  })

  test('is not made of a graph without that output, or of an operator set from before', () => {
    expect(ended([conv], { scores: 'z' }).output).toBeUndefined()
    const old = makeModel([makeNode('Conv', ['x', 'w'], 'y')], [weight('w', [3, 1, 1, 1, 1])], ['n', 1, 'd', 'h', 'w'])
    old.opsetImport[0]!.version = 12n
    expect(endInLabels(old, scores, argmax)).toBeUndefined()
  })
})
