import { describe, expect, it } from 'vitest'
import type { Tensor, TensorType } from '../../../src/contract/tensor.js'
import { fromWire, toWire } from '../../../src/predictors/tensor-conversion.js'

const odd = Float32Array.of(0, 1, -1.7, 1.9, 254.6, 300, -300, 70000)

describe('toWire', () => {
  it.each<[TensorType, readonly (number | bigint)[]]>([
    ['float64', [...odd]],
    ['int64', [0n, 1n, -1n, 1n, 254n, 300n, -300n, 70000n]],
    ['int32', [0, 1, -1, 1, 254, 300, -300, 70000]],
    ['int16', [0, 1, -1, 1, 254, 300, -300, 32767]],
    ['int8', [0, 1, -1, 1, 127, 127, -128, 127]],
    ['uint8', [0, 1, 0, 1, 254, 255, 0, 255]],
    ['uint16', [0, 1, 0, 1, 254, 300, 0, 65535]],
    ['bool', [0, 1, 1, 1, 1, 1, 1, 1]],
  ])('%s: truncates and saturates', (type, expected) => {
    expect([...toWire(odd, type)]).toEqual(expected)
  })

  it('does not copy what already has the type', () => {
    const data = new Uint8Array(3)
    expect(toWire(data, 'uint8')).toBe(data)
    expect(toWire(odd, 'float32')).toBe(odd)
  })

  it('not-a-number becomes 0 in integers', () => {
    expect([...toWire(Float32Array.of(Number.NaN), 'int64')]).toEqual([0n])
    expect([...toWire(Float32Array.of(Number.NaN), 'uint8')]).toEqual([0])
  })
})

describe('fromWire', () => {
  it.each<[TensorType, Parameters<typeof fromWire>[0], Tensor['data']]>([
    ['int64', BigInt64Array.of(-5n, 7n), Float64Array.of(-5, 7)],
    ['float16', Uint16Array.of(0x3c00, 0xc000), Float32Array.of(1, -2)],
    ['bool', Uint8Array.of(0, 1), Uint8Array.of(0, 1)],
  ])('%s', (type, wire, expected) => {
    expect(fromWire(wire, type)).toEqual(expected)
  })
})
