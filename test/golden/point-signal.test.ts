/** Blobs at clicks and extreme points against MONAI; make_point_signal_golden.py made the answers. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { writePointSignal } from '../../src/geometry/point-signal.js'
import type { Vec3 } from '../../src/volume/volume.js'

interface Golden {
  readonly shape: Vec3
  readonly stride: number
  readonly cases: readonly {
    readonly name: string
    readonly points: readonly Vec3[]
    readonly sigma: number
    readonly low: number
    readonly samples: readonly number[]
  }[]
}

const { shape, stride, cases } = JSON.parse(
  readFileSync(new URL('point-signals.json', import.meta.url), 'utf8'),
) as Golden
const [nx, ny, nz] = shape

test.each(cases)('$name', ({ points, sigma, low, samples }) => {
  // Written at an offset into an array that is not empty, as the channels of an image are.
  const offset = 7
  const target = new Float32Array(nx * ny * nz + offset).fill(5)
  writePointSignal(target, offset, shape, points, { sigma, low, high: 1, empty: low })
  const ours: number[] = []
  for (let x = 0, i = 0; x < nx; x++)
    for (let y = 0; y < ny; y++)
      for (let z = 0; z < nz; z++, i++) if (i % stride === 0) ours.push(target[offset + x + nx * (y + ny * z)]!)
  expect(ours.length).toBe(samples.length)
  expect(Math.max(...ours.map((value, i) => Math.abs(value - samples[i]!)))).toBeLessThan(1e-5)
  expect([...target.subarray(0, offset)]).toEqual(Array(offset).fill(5))
})

test('no point leaves the channel at its resting value', () => {
  const target = new Float32Array(8)
  writePointSignal(target, 0, [2, 2, 2], [], { sigma: 3, low: -1, high: 1, empty: -1 })
  expect([...target]).toEqual(Array(8).fill(-1))
})
