import { describe, expect, test } from 'vitest'
import type { ModelType } from '../../../src/contract/model.js'
import { MAX_POINTS, MIN_EXTREME_POINTS, clickValues as readClicks } from '../../../src/pipelines/click-values.js'
import type { Vec3 } from '../../../src/volume/volume.js'

const size: Vec3 = [10, 20, 30]
const six = Array.from({ length: MIN_EXTREME_POINTS }, (_, i) => [i, i, i])

const clickValues = (...given: Parameters<typeof readClicks>) => readClicks(...given).values

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

describe('voxel i covers [i, i + 1)', () => {
  test.each([
    { name: 'OHIF sends the middle of a voxel', sent: [20.5, 3.999, 0.5], voxel: [20, 3, 0] },
    { name: 'the last voxel reaches up to the size', sent: [47.6, 47.999, 23.99], voxel: [47, 47, 23] },
    { name: 'whole numbers stay', sent: [47, 0, 23], voxel: [47, 0, 23] },
  ])('$name', ({ sent, voxel }) => {
    const [extent, flat]: [Vec3, Vec3] = [
      [48, 48, 24],
      [48, 48, 1],
    ]
    expect(clickValues('deepgrow', { foreground: [sent], current_point: sent }, extent)).toEqual(
      new Map<string, unknown>([
        ['foreground', [voxel]],
        ['background', []],
        ['current_point', voxel],
      ]),
    )
    expect(clickValues('annotation', { points: Array(6).fill(sent) }, extent).get('points')).toEqual(
      Array(6).fill(voxel),
    )
    expect(clickValues('pipeline', { background: [sent.slice(0, 2)] }, flat).get('background')).toEqual([
      [voxel[0], voxel[1], 0],
    ])
  })
})

describe('a click outside is left out, with a note, as long as another lies inside', () => {
  test.each<{ name: string; type: ModelType; params: Record<string, unknown>; left: object; says: RegExp }>([
    {
      name: 'of the foreground',
      type: 'deepgrow',
      params: {
        foreground: [
          [1, 1, 1],
          [1, 20.25, 1],
        ],
        current_point: [1, 20.25, 1],
      },
      left: { foreground: [[1, 1, 1]], background: [] },
      says: /^'foreground\[1\]' = \[1, 20.25, 1\] lies outside the image of 10 x 20 x 30 voxels and was left out$/,
    },
    {
      name: 'a fraction below the first voxel',
      type: 'deepgrow',
      params: {
        foreground: [[1, 1, 1]],
        background: [
          [-0.4, 0, 0],
          [0, 0, 99],
        ],
      },
      left: { foreground: [[1, 1, 1]], background: [] },
      says: /^'background\[0\]' = \[-0.4, 0, 0\] and 1 more lie outside/,
    },
    {
      name: 'the sixth extreme point',
      type: 'annotation',
      params: { points: [...six.slice(1), [0, 0, 30]] },
      left: { points: six.slice(1) },
      says: /'points\[5\]' = \[0, 0, 30\]/,
    },
    {
      name: 'the current point alone',
      type: 'deepgrow',
      params: { foreground: [[1, 1, 1]], current_point: [[10, 1, 1]] },
      left: { foreground: [[1, 1, 1]], background: [] },
      says: /^'current_point\[0\]' = \[10, 1, 1\] lies outside/,
    },
  ])('$name', ({ type, params, left, says }) => {
    const { values, notes } = readClicks(type, params, size)
    expect(Object.fromEntries(values)).toEqual(left)
    expect(notes).toEqual([expect.stringMatching(says)])
  })
})

describe('refusals name the parameter and the point', () => {
  test.each<{ name: string; type: ModelType; params: Record<string, unknown>; says: RegExp }>([
    { name: 'no click at all', type: 'deepgrow', params: {}, says: /'foreground' and 'background' are both empty/ },
    {
      name: 'every point outside',
      type: 'deepgrow',
      params: { foreground: [[1, 20.5, 1]], background: [[0, 0, 31]] },
      says: /'foreground\[0\]' = \[1, 20.5, 1\] lies outside the image of 10 x 20 x 30 voxels/,
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
      name: 'six extreme points outside',
      type: 'annotation',
      params: { points: six.map(([x, y]) => [x, y, 30]) },
      says: /'points\[0\]' = \[0, 0, 30\].*outside/,
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
