import fc from 'fast-check'
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { type ConvTransposeForm, rewriteConvTransposes } from '../../../src/onnx/conv-transpose.js'
import { makeNode } from '../../../src/onnx/graph.js'
import { copyModel, writeModel } from '../../../src/onnx/model-file.js'
import type { Model } from '../../../src/onnx/onnx_pb.js'
import { makeModel, weight } from '../../helpers/onnx-model.js'

interface Layer {
  readonly batch: number
  readonly groups: number
  readonly inEach: number
  readonly outEach: number
  readonly bias: boolean
  readonly axes: readonly {
    readonly size: number
    readonly kernel: number
    readonly stride: number
    readonly dilation: number
    readonly before: number
    readonly after: number
    readonly added: number
  }[]
}

const axis = fc
  .record({
    size: fc.integer({ min: 1, max: 5 }),
    kernel: fc.integer({ min: 1, max: 5 }),
    stride: fc.integer({ min: 1, max: 3 }),
    dilation: fc.integer({ min: 1, max: 2 }),
    before: fc.integer({ min: 0, max: 3 }),
    after: fc.integer({ min: 0, max: 3 }),
    added: fc.integer({ min: 0, max: 2 }),
  })
  .filter(({ size, kernel, stride, dilation, before, after, added }) => {
    const length = (size - 1) * stride + (kernel - 1) * dilation + 1 - before - after + added
    return length > 0 && added < stride
  })

const layers: fc.Arbitrary<Layer> = fc.record({
  batch: fc.integer({ min: 1, max: 2 }),
  groups: fc.integer({ min: 1, max: 2 }),
  inEach: fc.integer({ min: 1, max: 3 }),
  outEach: fc.integer({ min: 1, max: 3 }),
  bias: fc.boolean(),
  axes: fc.array(axis, { minLength: 1, maxLength: 3 }),
})

function modelOf({ groups, inEach, outEach, bias, axes }: Layer): Model {
  const dims = [groups * inEach, outEach, ...axes.map(({ kernel }) => kernel)]
  const node = makeNode('ConvTranspose', bias ? ['x', 'w', 'b'] : ['x', 'w'], 'y', {
    strides: axes.map(({ stride }) => stride),
    dilations: axes.map(({ dilation }) => dilation),
    output_padding: axes.map(({ added }) => added),
    pads: [...axes.map(({ before }) => before), ...axes.map(({ after }) => after)],
    group: groups,
  })
  const shape = ['n', groups * inEach, ...axes.map((_, i) => `d${i}`)]
  return makeModel([node], [weight('w', dims), ...(bias ? [weight('b', [groups * outEach])] : [])], shape)
}

async function answer(model: Model, { batch, groups, inEach, axes }: Layer): Promise<OrtTensor> {
  const session = await InferenceSession.create(writeModel(model), { logSeverityLevel: 4 })
  const dims = [batch, groups * inEach, ...axes.map(({ size }) => size)]
  const length = dims.reduce((product, n) => product * n, 1)
  const x = Float32Array.from({ length }, (_, i) => Math.sin(i * 7.3))
  const { y } = await session.run({ x: new OrtTensor('float32', x, dims) })
  await session.release()
  return y as OrtTensor
}

const forms: ConvTransposeForm[] = ['merged', 'phases']

test.each(forms)('a rewritten ConvTranspose gives what it gave, whatever its arguments: %s', async (form) => {
  await fc.assert(
    fc.asyncProperty(layers, async (layer) => {
      const model = modelOf(layer)
      const rewritten = copyModel(model)
      const strided = layer.axes.some(({ stride }) => stride > 1)
      expect(rewriteConvTransposes(rewritten.graph!, form)).toBe(strided ? 1 : 0)
      const [wanted, got] = [await answer(model, layer), await answer(rewritten, layer)]
      expect(got.dims).toEqual(wanted.dims)
      const values = got.data as Float32Array
      for (const [i, value] of (wanted.data as Float32Array).entries()) expect(values[i]).toBeCloseTo(value, 4)
    }),
    { numRuns: 60 },
  )
})

test('weights that nobody reads any more are gone, and those of others stay', () => {
  const model = modelOf({
    batch: 1,
    groups: 1,
    inEach: 1,
    outEach: 1,
    bias: true,
    axes: [{ size: 3, kernel: 2, stride: 2, dilation: 1, before: 0, after: 0, added: 0 }],
  })
  model.graph!.node.push(makeNode('Add', ['y', 'b'], 'z'))
  rewriteConvTransposes(model.graph!, 'phases')
  const names = model.graph!.initializer.map(({ name }) => name)
  expect(names).toContain('b')
  expect(names).not.toContain('w')
})

test('a layer whose output size is given outright, or whose weights are computed, stays', () => {
  const plain = { batch: 1, groups: 1, inEach: 1, outEach: 1, bias: false }
  const one = { size: 3, kernel: 2, stride: 2, dilation: 1, before: 0, after: 0, added: 0 }
  const sized = modelOf({ ...plain, axes: [one] })
  sized.graph!.node[0]!.attribute.push(...makeNode('', [], '', { output_shape: [6] }).attribute)
  expect(rewriteConvTransposes(sized.graph!, 'merged')).toBe(0)
  const computed = modelOf({ ...plain, axes: [one] })
  computed.graph!.node.unshift(makeNode('Neg', ['w'], 'w2'))
  computed.graph!.node[1]!.input[1] = 'w2'
  expect(rewriteConvTransposes(computed.graph!, 'merged')).toBe(0)
})
