import { expect, test } from 'vitest'
import { makeNode } from '../../../src/onnx/graph.js'
import { rewriteScalarPrelus } from '../../../src/onnx/scalar-prelu.js'
import { makeModel, weight } from '../../helpers/onnx-model.js'

const SHAPE = [1, 3, 4, 4]

test.each([
  { what: 'one slope', slope: [1], count: 1 },
  { what: 'one slope, shaped as the image', slope: [1, 1, 1], count: 1 },
  { what: 'a slope for each channel', slope: [3, 1, 1], count: 0 },
])('a PRelu of $what: $count become LeakyRelu', ({ slope, count }) => {
  const { graph } = makeModel([makeNode('PRelu', ['x', 'slope'], 'y')], [weight('slope', slope)], SHAPE)
  expect(rewriteScalarPrelus(graph!)).toBe(count)
  expect(graph!.node.map(({ opType }) => opType)).toEqual([count ? 'LeakyRelu' : 'PRelu'])
})

test('slopes that an exporter keeps once, and passes on by Identity, are found', () => {
  const nodes = [
    makeNode('PRelu', ['x', 'slope'], 'a'),
    makeNode('Identity', ['slope'], 'same'),
    makeNode('PRelu', ['a', 'same'], 'y'),
  ]
  const { graph } = makeModel(nodes, [weight('slope', [1])], SHAPE)
  expect(rewriteScalarPrelus(graph!)).toBe(2)
  const alphas = graph!.node.filter(({ opType }) => opType === 'LeakyRelu').map(({ attribute }) => attribute[0]!.f)
  expect(alphas).toEqual([alphas[0], alphas[0]])
})
