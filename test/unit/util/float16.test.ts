import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { float32FromHalf, halfFromFloat32 } from '../../../src/util/float16.js'

const golden = JSON.parse(readFileSync(new URL('../../golden/float16.json', import.meta.url), 'utf8')) as {
  float32: number[]
  float16: number[]
}

describe('float16', () => {
  it('rounds as numpy does, subnormals, ties and overflow included', () => {
    const values = new Float32Array(Uint32Array.from(golden.float32).buffer)
    expect([...halfFromFloat32(values)]).toEqual(golden.float16)
  })

  it('every half survives the way to float32 and back', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i).filter(
      (h) => (h & 0x7c00) !== 0x7c00 || (h & 0x3ff) === 0,
    )
    expect(halfFromFloat32(float32FromHalf(all))).toEqual(all)
  })

  it('NaN stays NaN', () => {
    expect(float32FromHalf(halfFromFloat32(Float32Array.of(Number.NaN)))[0]).toBeNaN()
  })
})
