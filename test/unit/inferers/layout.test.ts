import fc from 'fast-check'
import { expect, test } from 'vitest'
import { copyBox, layoutOf } from '../../../src/inferers/layout.js'
import { makeVolume, type Vec3 } from '../../../src/volume/volume.js'

const IDENTITY = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
const edge = fc.integer({ min: 1, max: 5 })
const box = fc.tuple(edge, edge, edge) as fc.Arbitrary<Vec3>
const orders = ['CXYZ', 'CXZY', 'CYXZ', 'CYZX', 'CZXY', 'CZYX', 'XYZC', 'ZYXC']

test('a box of the tensor holds the voxels of its place in the image, and zeros beyond it', () => {
  fc.assert(
    fc.property(
      fc.record({ axes: fc.constantFrom(...orders), size: box, channels: fc.integer({ min: 1, max: 3 }) }),
      fc.option(fc.record({ box, start: fc.tuple(...[0, 0, 0].map(() => fc.integer({ min: -2, max: 2 }))) })),
      ({ axes, size, channels }, window) => {
        const data = Int16Array.from({ length: size[0] * size[1] * size[2] * channels }, (_, i) => i + 1)
        const volume = makeVolume(size, IDENTITY, data, { channels })
        const dims = axes.endsWith('C') ? [1, null, null, null, channels] : [1, channels, null, null, null]
        const field = { volume, axes, content: 'intensity' as const, source: volume, undo: [] }
        const layout = layoutOf(field, { name: 'in', type: 'float32', dims })
        // Without a window the whole image is one.
        const [start, [n0, n1, n2]] = window
          ? [window.start as unknown as Vec3, window.box]
          : [[0, 0, 0] as Vec3, layout.extent]
        // A window has a part in the image.
        fc.pre(start.every((from, i) => from < layout.extent[i]! && from + [n0, n1, n2][i]! > 0))
        const target = new Float32Array(n0 * n1 * n2 * channels + 2)
        copyBox(layout, start, [n0, n1, n2], target, 1)
        const want = (c: number, ...place: Vec3) => {
          const at: [number, number, number] = [0, 0, 0]
          for (const [i, axis] of layout.order.entries()) at[axis] = start[i]! + place[i]!
          if (at.some((x, axis) => x < 0 || x >= size[axis]!)) return 0
          return data[at[0] + size[0] * (at[1] + size[1] * (at[2] + size[2] * c))]!
        }
        const wanted = [0]
        const places = [...Array(n0 * n1 * n2).keys()].map(
          (i): Vec3 => [Math.floor(i / (n1 * n2)), Math.floor(i / n2) % n1, i % n2],
        )
        if (layout.channelLast)
          for (const place of places) for (let c = 0; c < channels; c++) wanted.push(want(c, ...place))
        else for (let c = 0; c < channels; c++) for (const place of places) wanted.push(want(c, ...place))
        expect([...target]).toEqual([...wanted, 0])
      },
    ),
    { numRuns: 500 },
  )
})
