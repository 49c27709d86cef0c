import { describe, expect, test } from 'vitest'
import { clickValues, MAX_POINTS, MIN_EXTREME_POINTS } from '../../../src/pipelines/click-values.js'
import type { ModelType } from '../../../src/pipelines/model-config.js'
import type { Vec3 } from '../../../src/volume/volume.js'

const size: Vec3 = [10, 20, 30]
const six = Array.from({ length: MIN_EXTREME_POINTS }, (_, i) => [i, i, i])

describe('spellings that clients send', () => {
  test.each([
    { name: 'arrays', foreground: [[1, 2, 3]] },
    { name: 'JSON text', foreground: '[[1, 2, 3]]' },
    { name: 'JSON5 text, as a shell leaves it', foreground: '[[1,2,3,],]' },
    { name: 'one bare point', foreground: [1, 2, 3] },
    { name: 'whole numbers as floats', foreground: [[1.0, 2.0000001, 3]] },
  ])('$name', ({ foreground }) => {
    const values = clickValues('deepgrow', { foreground, background: '[]' }, size)
    expect(values.get('foreground')).toEqual([[1, 2, 3]])
    expect(values.get('background')).toEqual([])
  })

  test.each([
    { name: 'flat', current_point: [1, 2, 3] },
    { name: 'nested', current_point: [[1, 2, 3]] },
    { name: 'text', current_point: '[[1, 2, 3]]' },
  ])('current_point $name', ({ current_point }) => {
    expect(clickValues('deepgrow', { foreground: [[0, 0, 0]], current_point }, size).get('current_point')).toEqual([
      1, 2, 3,
    ])
  })

  test('background clicks alone are legal', () => {
    expect(clickValues('deepgrow', { background: [[0, 0, 0]] }, size).get('foreground')).toEqual([])
  })

  test('a 2-D image takes [x, y]', () => {
    expect(clickValues('deepgrow', { foreground: [[4, 5]] }, [10, 20, 1]).get('foreground')).toEqual([[4, 5, 0]])
  })

  test('spatial_size as a list, as text, as one number', () => {
    for (const spatial_size of [[64, 64], '[64, 64]'])
      expect(clickValues('deepgrow', { foreground: [[0, 0, 0]], spatial_size }, size).get('spatial_size')).toEqual([
        64, 64,
      ])
    expect(clickValues('deepgrow', { foreground: [[0, 0, 0]], spatial_size: 64 }, size).get('spatial_size')).toEqual([
      64,
    ])
  })
})

test('a model that promises no clicks gets its params as they came', () => {
  expect(clickValues('others', { points: 'any words' }, size)).toEqual(new Map())
})

describe('refusals name the parameter and the point', () => {
  test.each<{ name: string; type: ModelType; params: Record<string, unknown>; says: RegExp }>([
    { name: 'no click at all', type: 'deepgrow', params: {}, says: /'foreground' and 'background' are both empty/ },
    {
      name: 'a point outside',
      type: 'deepgrow',
      params: {
        foreground: [
          [1, 1, 1],
          [1, 20, 1],
        ],
      },
      says: /'foreground\[1\]'.*outside/,
    },
    {
      name: 'a negative index',
      type: 'deepgrow',
      params: { background: [[-1, 0, 0]] },
      says: /'background\[0\]'.*outside/,
    },
    {
      name: 'two coordinates in 3-D',
      type: 'deepgrow',
      params: { foreground: [[1, 1]] },
      says: /'foreground\[0\]' is not/,
    },
    { name: 'text that is no JSON', type: 'deepgrow', params: { foreground: 'here' }, says: /'foreground' has to be/ },
    { name: 'NaN', type: 'deepgrow', params: { foreground: [[Number.NaN, 1, 1]] }, says: /'foreground\[0\]' is not/ },
    {
      name: 'five extreme points',
      type: 'annotation',
      params: { points: six.slice(1) },
      says: /at least 6 extreme points, got 5/,
    },
    {
      name: 'the sixth one outside',
      type: 'annotation',
      params: { points: [...six.slice(1), [0, 0, 30]] },
      says: /'points\[5\]'/,
    },
    { name: 'a spatial size of zero', type: 'deepgrow', params: { spatial_size: [0] }, says: /'spatial_size'/ },
    { name: 'a spatial size of words', type: 'deepgrow', params: { spatial_size: 'big' }, says: /whole numbers/ },
    {
      name: 'too many points',
      type: 'annotation',
      params: { points: Array(MAX_POINTS + 1).fill([0, 0, 0]) },
      says: /limit is 10000/,
    },
  ])('$name', ({ type, params, says }) => {
    expect(() => clickValues(type, params, size)).toThrow(
      expect.objectContaining({ code: 'BAD_PARAMS', message: expect.stringMatching(says) }),
    )
  })
})
