import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { gzipMask } from '../../../src/formats/mask-gzip.js'

const gzip = (...parts: Uint8Array[]) => Buffer.concat([...gzipMask(parts)])

/** Bytes with some runs set: [position, length, value]. */
function mask(length: number, runs: readonly (readonly [number, number, number])[]): Uint8Array {
  const bytes = new Uint8Array(length)
  for (const [start, run, value] of runs) bytes.fill(value, start, start + run)
  return bytes
}

test.each([
  { name: 'nothing', bytes: mask(0, []) },
  { name: 'one byte', bytes: mask(1, [[0, 1, 7]]) },
  { name: 'a whole block of zeros', bytes: mask(65_536, []) },
  { name: 'zeros that end inside a block', bytes: mask(200_001, []) },
  { name: 'no zero at all, over many runs', bytes: mask(9_000_000, [[0, 9_000_000, 3]]) },
  { name: 'one slice of many', bytes: mask(5_000_000, [[2_000_000, 30_000, 1]]) },
])('gunzip gives back $name', ({ bytes }) => {
  expect(Buffer.compare(gunzipSync(gzip(bytes)), bytes)).toBe(0)
})

test('the parts are one stream: header and voxels', () => {
  const header = mask(352, [[0, 100, 9]])
  const voxels = mask(300_000, [[70_000, 10, 1]])
  expect(Buffer.compare(gunzipSync(gzip(header, voxels)), Buffer.concat([header, voxels]))).toBe(0)
})

test('law: any bytes come back, with their CRC and length checked by zlib', () => {
  const run = fc.tuple(fc.nat(400_000), fc.nat(80_000), fc.nat(255))
  fc.assert(
    fc.property(fc.nat(400_000), fc.array(run, { maxLength: 6 }), (length, runs) => {
      const bytes = mask(length, runs)
      expect(Buffer.compare(gunzipSync(gzip(bytes)), bytes)).toBe(0)
    }),
    { numRuns: 60 },
  )
})
