import { describe, expect, it } from 'vitest'
import type { TensorSpec } from '../../../src/contract/tensor.js'
import { labelName } from '../../../src/pipelines/label-names.js'
import { resolveMapping } from '../../../src/pipelines/node-mapping.js'

const spec = (name: string): TensorSpec => ({ name, type: 'float32', dims: ['n', 1, 'd', 'h', 'w'] })

function fields(pairs: Record<string, string>, more: Partial<Parameters<typeof resolveMapping>[0]> = {}) {
  const mapping = resolveMapping({
    pairs,
    inputs: [spec('in')],
    outputs: [spec('out')],
    imageField: 'image',
    postFields: ['model'],
    ...more,
  })
  return [...mapping.inputs, ...mapping.outputs].map(({ spec: { name }, field }) => `${name}=${field}`)
}

describe('which tensor is which field', () => {
  it.each([
    { name: 'tensor to field', pairs: { in: 'image', out: 'model' } },
    { name: 'field to tensor', pairs: { image: 'in', model: 'out' } },
    { name: "AIAA's own names", pairs: { NV_MODEL_INPUT: 'image', NV_MODEL_OUTPUT: 'model' } },
    { name: 'nothing said', pairs: {} },
  ])('$name', ({ pairs }) => {
    expect(fields(pairs)).toEqual(['in=image', 'out=model'])
  })

  it('takes the name of the result from the post-transforms when the pairs leave it open', () => {
    expect(fields({ NV_MODEL_INPUT: 'image' }, { postFields: ['pred', 'pred'] })).toEqual(['in=image', 'out=pred'])
  })

  it('refuses a name of the result that nothing after the network takes', () => {
    expect(() => fields({ NV_MODEL_OUTPUT: 'model' }, { postFields: ['pred'] })).toThrow(/called 'model'.*take 'pred'/)
  })

  it('feeds the image to a network whose own tensor is called image', () => {
    expect(fields({ input: 'image', output: 'model' }, { inputs: [spec('image')] })).toEqual([
      'image=image',
      'out=model',
    ])
  })

  it('puts the image first of several inputs', () => {
    const inputs = [spec('a'), spec('b')]
    expect(fields({ a: 'mask', b: 'image' }, { inputs })).toEqual(['b=image', 'a=mask', 'out=model'])
  })

  it('names an input that nothing feeds', () => {
    expect(() => fields({ a: 'image' }, { inputs: [spec('a'), spec('b')] })).toThrow(/gives no field.*'b'/)
  })
})

it.each([
  { names: ['spleen'], label: 1, want: 'spleen' },
  { names: ['background', 'spleen'], label: 1, want: 'spleen' },
  { names: ['spleen'], label: 3, want: 'label 3' },
])('label $label of $names is $want', ({ names, label, want }) => expect(labelName(label, names)).toBe(want))
