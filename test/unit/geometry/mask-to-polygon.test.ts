import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { slicePolygons } from '../../../src/geometry/mask-to-polygon.js'
import { makeVolume, type VoxelArray } from '../../../src/volume/volume.js'

const affine = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
const options = { morePoints: 0, rowAxis: 'x' } as const

function polygonsAt(nx: number, ny: number, data: VoxelArray, z: number): number[][] {
  const volume = makeVolume([nx, ny, data.length / (nx * ny)], affine, data)
  return slicePolygons(volume, z, options).map((polygon) => [...polygon])
}

describe('the polygons of a slice', () => {
  // What counts as nothing, and as something, in each type that a volume may have.
  const kinds = [
    { name: 'uint8', make: (n: number) => new Uint8Array(n), nothing: [0], something: [1, 255] },
    { name: 'int16', make: (n: number) => new Int16Array(n), nothing: [0], something: [1, -1, 256] },
    { name: 'float32', make: (n: number) => new Float32Array(n), nothing: [0, -0, Number.NaN], something: [0.5, -2] },
    { name: 'float64', make: (n: number) => new Float64Array(n), nothing: [0, -0, Number.NaN], something: [1e-9, -2] },
  ] as const

  it.each(kinds)('are those of its mask, whatever the type ($name) and wherever the slice lies', (kind) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 0, max: 2 }),
        fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 49, maxLength: 49 }),
        (nx, ny, z, draws) => {
          const voxels = nx * ny
          const mask = new Uint8Array(voxels)
          const data = kind.make(3 * voxels).fill(kind.something[0])
          for (let i = 0; i < voxels; i++) {
            const draw = draws[i]!
            mask[i] = draw > 2 ? 1 : 0
            const choices = mask[i] === 1 ? kind.something : kind.nothing
            data[z * voxels + i] = choices[draw % choices.length]!
          }
          expect(polygonsAt(nx, ny, data, z)).toEqual(polygonsAt(nx, ny, mask, 0))
        },
      ),
    )
  })
})
