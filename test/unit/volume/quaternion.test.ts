import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import {
  determinant3,
  flipLpsRas,
  isInvertible,
  nearestRotation,
  quaternionOfRotation,
  rotationFromQuaternion,
} from '../../../src/volume/quaternion.js'

const THRESHOLD = 3 * 2 ** -52
const half = Math.SQRT1_2

describe('rotations', () => {
  it.each([
    { name: 'none', bcd: [0, 0, 0], want: [1, 0, 0, 0, 1, 0, 0, 0, 1] },
    { name: 'a quarter turn about x', bcd: [half, 0, 0], want: [1, 0, 0, 0, 0, -1, 0, 1, 0] },
    { name: 'half a turn about y', bcd: [0, 1, 0], want: [-1, 0, 0, 0, 1, 0, 0, 0, -1] },
    { name: 'a hair over half a turn', bcd: [0, 0, 1.0001], want: [-1, 0, 0, 0, -1, 0, 0, 0, 1] },
  ])('$name', ({ bcd: [b, c, d], want }) => {
    const found = rotationFromQuaternion(b!, c!, d!, THRESHOLD)
    for (let i = 0; i < 9; i++) expect(found[i]).toBeCloseTo(want[i]!, 12)
  })

  test('the nearest rotation of axes that lie nearly in a plane is one too', () => {
    const axis = fc.double({ min: -1, max: 1, noNaN: true })
    const column = fc.tuple(axis, axis, axis).filter((v) => Math.hypot(...v) > 0.1)
    fc.assert(
      fc.property(column, column, column, fc.double({ min: 3, max: 7, noNaN: true }), (a, b, beside, exponent) => {
        const c = a.map((value, i) => 0.7 * value + 0.3 * b[i]! + 10 ** -exponent * beside[i]!)
        const affine = Float64Array.of(...[0, 1, 2].flatMap((i) => [a[i]!, b[i]!, c[i]!, 0]), 0, 0, 0, 1)
        fc.pre(isInvertible(affine))
        for (const value of nearestRotation(affine)) expect(Math.abs(value)).toBeLessThan(1.0001)
      }),
    )
  })

  test('a quaternion and its rotation say the same', () => {
    const part = fc.double({ min: -1, max: 1, noNaN: true })
    fc.assert(
      fc.property(part, part, part, part, (a, b, c, d) => {
        const norm = Math.hypot(a, b, c, d)
        fc.pre(norm > 0.01)
        const sign = a < 0 ? -1 : 1
        const bcd = [b, c, d].map((value) => (value / norm) * sign) as [number, number, number]
        const rotation = rotationFromQuaternion(...bcd, THRESHOLD)
        expect(determinant3(rotation)).toBeCloseTo(1, 10)
        const back = rotationFromQuaternion(...quaternionOfRotation(rotation), THRESHOLD)
        for (let i = 0; i < 9; i++) expect(back[i]).toBeCloseTo(rotation[i]!, 6)
      }),
    )
  })

  it('the nearest to a sheared affine is orthogonal, and to a rigid one itself', () => {
    const sheared = Float64Array.of(2, 0.4, 0, 0, 0.1, 3, 0.5, 0, 0, 0.2, 1, 0, 0, 0, 0, 1)
    const r = nearestRotation(sheared)
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) {
        const dot = r[i]! * r[j]! + r[3 + i]! * r[3 + j]! + r[6 + i]! * r[6 + j]!
        expect(dot).toBeCloseTo(i === j ? 1 : 0, 12)
      }
    }
    const rigid = Float64Array.of(0, -2, 0, 5, 3, 0, 0, 6, 0, 0, -4, 7, 0, 0, 0, 1)
    expect(Array.from(nearestRotation(rigid), (value) => value + 0)).toEqual([0, -1, 0, 1, 0, 0, 0, 0, -1])
  })
})

describe('affines', () => {
  it.each([
    { name: 'a scale', affine: [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1], want: true },
    { name: 'zeros', affine: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], want: false },
    { name: 'two axes alike', affine: [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], want: false },
    { name: 'NaN in the offset', affine: [1, 0, 0, NaN, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], want: false },
  ])('$name: invertible is $want', ({ affine, want }) => {
    expect(isInvertible(Float64Array.from(affine))).toBe(want)
  })

  it('LPS to RAS and back is the same, without -0', () => {
    const affine = Float64Array.of(2, 0, 0, -5, 0, 3, 0, 6, 0, 0, 4, 7, 0, 0, 0, 1)
    expect(flipLpsRas(affine)).toEqual(Float64Array.of(-2, 0, 0, 5, 0, -3, 0, -6, 0, 0, 4, 7, 0, 0, 0, 1))
    expect(flipLpsRas(flipLpsRas(affine))).toEqual(affine)
  })
})
