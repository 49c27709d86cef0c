import { describe, expect, it } from 'vitest'
import { eachBlock, mapBlocks } from '../../../src/volume/blocks.js'

describe('blocks', () => {
  it.each([0, 1, 16_384, 16_385, 40_000])('%i voxels are all seen once, in order', (length) => {
    const data = Int16Array.from({ length }, (_, i) => (i % 1000) - 500)
    const seen: number[] = []
    eachBlock(data, (block, count, start) => {
      expect(start).toBe(seen.length)
      seen.push(...block.subarray(0, count))
    })
    expect(seen).toEqual(Array.from(data))
  })

  it('are mapped into another type, or in place', () => {
    const source = Uint8Array.from({ length: 20_000 }, (_, i) => i % 256)
    const target = new Float32Array(source.length)
    const half = (block: Float64Array, count: number) => {
      for (let i = 0; i < count; i++) block[i] = block[i]! / 2
    }
    mapBlocks(source, target, half)
    expect(target).toEqual(Float32Array.from(source, (value) => value / 2))
    mapBlocks(target, target, half)
    expect(target).toEqual(Float32Array.from(source, (value) => value / 4))
  })
})
