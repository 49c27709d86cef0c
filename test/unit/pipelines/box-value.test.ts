import { describe, expect, it } from 'vitest'
import { boxValue } from '../../../src/pipelines/box-value.js'
import { clickValues } from '../../../src/pipelines/click-values.js'
import { BOX_VALUE } from '../../../src/transforms/box-prompt.js'
import type { Vec3 } from '../../../src/volume/volume.js'

const volume: Vec3 = [20, 10, 5]
const picture: Vec3 = [20, 10, 1]

describe('the box of a request', () => {
  it.each<[string, unknown, unknown, Vec3[], Vec3, number[]]>([
    ['of a picture', [2, 3, 8, 9], undefined, [], picture, [2, 3, 0, 8, 9, 0]],
    ['as text', '[2, 3, 8, 9]', undefined, [], picture, [2, 3, 0, 8, 9, 0]],
    [
      'as two corners',
      [
        [2, 3],
        [8, 9],
      ],
      undefined,
      [],
      picture,
      [2, 3, 0, 8, 9, 0],
    ],
    ['with fractions', [2.5, 3, 8.25, 9], undefined, [], picture, [2.5, 3, 0, 8.25, 9, 0]],
    ['with its slice', [2, 3, 8, 9], 4, [], volume, [2, 3, 4, 8, 9, 4]],
    ['with its slice as text', [2, 3, 8, 9], '4', [], volume, [2, 3, 4, 8, 9, 4]],
    ['in the slice of a click', [2, 3, 8, 9], undefined, [[1, 1, 2]], volume, [2, 3, 2, 8, 9, 2]],
    ['that has the slice itself', [2, 3, 1, 8, 9, 1], 4, [], volume, [2, 3, 1, 8, 9, 1]],
    ['that reaches beyond the slice', [-4, 3, 80, 9], undefined, [], picture, [0, 3, 0, 20, 9, 0]],
  ])('%s', (_, value, slice, clicked, size, wanted) => {
    const { box, note } = boxValue(value, slice, clicked, size)
    expect([...box.first, ...box.last]).toEqual(wanted)
    expect(note === undefined).toBe(wanted[0] !== 0)
  })

  it.each<[string, unknown, unknown, Vec3, RegExp]>([
    ['three numbers', [1, 2, 3], undefined, picture, /'box' has to be four numbers/],
    ['words', ['a', 'b', 'c', 'd'], undefined, picture, /'box' has to be four numbers/],
    ['text that is no JSON', '[1, 2', undefined, picture, /'box' has to be four numbers/],
    ['no number', [1, 2, null, 4], undefined, picture, /'box' has to be four numbers/],
    ['corners the wrong way round', [8, 3, 2, 9], undefined, picture, /is empty: x0 has to be below x1/],
    ['no height', [2, 3, 8, 3], undefined, picture, /is empty/],
    ['a place outside', [30, 3, 40, 9], undefined, picture, /lies outside the slice of 20 x 10 voxels/],
    ['no slice of a volume', [2, 3, 8, 9], undefined, volume, /does not say in which/],
    ['a slice that is not there', [2, 3, 8, 9], 5, volume, /slice of 'box' is 5, .* slices 0 to 4/],
    ['a slice that is no number', [2, 3, 8, 9], 1.5, volume, /'slice' has to be a whole number/],
    ['several slices', [2, 3, 1, 8, 9, 3], undefined, volume, /reaches from slice 1 to 3/],
  ])('%s is refused by name', (_, value, slice, size, says) => {
    expect(() => boxValue(value, slice, [], size)).toThrow(says)
  })
})

describe('a model', () => {
  it('that takes boxes may be asked with one alone', () => {
    const { values } = clickValues('deepgrow', { box: [2, 3, 8, 9] }, picture, true, undefined, true)
    expect(values.get(BOX_VALUE)).toEqual({ first: [2, 3, 0], last: [8, 9, 0] })
    expect(values.get('foreground')).toEqual([])
  })

  it('that takes boxes still wants one prompt', () => {
    const ask = () => clickValues('deepgrow', { foreground: [] }, picture, true, undefined, true)
    expect(ask).toThrow("'foreground' and 'background' are both empty")
  })

  it.each(['deepgrow', 'annotation', 'pipeline'] as const)('of type %s that takes none says so', (type) => {
    const params = { box: [2, 3, 8, 9], foreground: [[1, 1, 0]] }
    expect(() => clickValues(type, params, picture)).toThrow("'box': this model takes points, no box")
  })

  it('that reads no clicks has a box for something else', () => {
    expect(clickValues('others', { box: 'tight' }, picture, false).values.size).toBe(0)
  })
})
