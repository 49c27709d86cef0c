import { describe, expect, it } from 'vitest'
import { itemBytes, VolumeCache } from '../../../src/runner/volume-cache.js'
import type { ImageField, Item } from '../../../src/transforms/types.js'
import { makeVolume } from '../../../src/volume/volume.js'

const IDENTITY = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)

function item(...edges: number[]): Item {
  const images = new Map<string, ImageField>()
  for (const [i, edge] of edges.entries()) {
    const volume = makeVolume([edge, edge, edge], IDENTITY, new Float32Array(edge ** 3))
    images.set(`image${i}`, { volume, content: 'intensity', axes: 'XYZ', source: volume, undo: [] })
  }
  return { images, values: new Map(), result: {} }
}

describe('VolumeCache', () => {
  it('counts each buffer once', () => {
    const one = item(10)
    const image = one.images.get('image0')!
    const twice: Item = { ...one, images: new Map([...one.images, ['again', image]]) }
    expect(itemBytes(one)).toBe(4000 + 1024)
    expect(itemBytes(twice)).toBe(itemBytes(one))
    expect(itemBytes(item(10, 10))).toBe(8000 + 1024)
  })

  it('drops the least recently used when bytes run out', () => {
    const cache = new VolumeCache(2 * (4000 + 1024))
    const [a, b, c] = [item(10), item(10), item(10)]
    cache.set('a', a)
    cache.set('b', b)
    expect(cache.get('a')).toBe(a)
    cache.set('c', c)
    expect(cache.get('b')).toBeUndefined()
    expect(cache.get('a')).toBe(a)
    expect(cache.get('c')).toBe(c)
    expect(cache.bytes).toBeLessThanOrEqual(2 * (4000 + 1024))
  })

  it('does not keep what is larger than itself, nor anything at size 0', () => {
    const small = new VolumeCache(1000)
    small.set('a', item(10))
    expect(small.get('a')).toBeUndefined()
    const none = new VolumeCache(0)
    none.set('a', item(1))
    expect(none.get('a')).toBeUndefined()
    expect(none.bytes).toBe(0)
  })
})
