import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { openBytes, openChain } from '../../../src/formats/byte-source.js'
import { tempFolder } from '../../helpers/volumes.js'

const MiB = 1024 * 1024

/** Stretches of zeros and of other bytes, as long as what is looked at at once, a little more or less, or much more. */
const stretches = fc.array(
  fc.record({
    zeros: fc.boolean(),
    length: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.constantFrom(MiB - 1, MiB, MiB + 1, 3 * MiB, 9 * MiB + 5)),
  }),
  { maxLength: 6 },
)

function bytesOf(list: readonly { zeros: boolean; length: number }[]): Buffer {
  // zeros among the others too
  return Buffer.concat(list.map(({ zeros, length }) => Buffer.alloc(length, zeros ? 0 : Buffer.from([0, 7, 0, 0, 9]))))
}

test('a blank array is filled with what the file holds, however much of it is zero', async () => {
  await using folder = await tempFolder()
  const path = join(folder.path, 'bytes')
  await fc.assert(
    fc.asyncProperty(stretches, fc.boolean(), fc.integer({ min: 0, max: 5 }), async (list, packed, lead) => {
      const bytes = bytesOf(list)
      await writeFile(path, packed ? gzipSync(bytes, { level: 1 }) : bytes)
      const source = await openBytes(path, packed ? { packing: 'gzip' } : { packing: 'none' })
      try {
        await source.skip(Math.min(lead, bytes.length))
        const rest = bytes.subarray(Math.min(lead, bytes.length))
        // more than there is, as from a file that was cut short
        const target = new Uint8Array(rest.length + 10)
        expect(await source.read(target, true)).toBe(rest.length)
        expect(Buffer.from(target.buffer, 0, rest.length).equals(rest)).toBe(true)
        expect([...target.subarray(rest.length)]).toEqual(new Array(10).fill(0))
      } finally {
        await source.close()
      }
    }),
    { numRuns: 30 },
  )
})

test('what was read into a blank array is not read again: the next read goes on behind it', async () => {
  await using folder = await tempFolder()
  const path = join(folder.path, 'bytes')
  await writeFile(path, Buffer.concat([Buffer.alloc(2 * MiB), Buffer.from([1, 2, 3])]))
  const source = await openBytes(path)
  await source.read(new Uint8Array(2 * MiB), true)
  const rest = new Uint8Array(3)
  await source.read(rest)
  await source.close()
  expect([...rest]).toEqual([1, 2, 3])
})

test('several files fill one blank array', async () => {
  await using folder = await tempFolder()
  const parts = [Buffer.alloc(MiB + 3), Buffer.from([5, 0, 6]), Buffer.alloc(2 * MiB), Buffer.from([8])]
  const paths = parts.map((_, i) => join(folder.path, `part-${i}`))
  for (const [i, part] of parts.entries()) await writeFile(paths[i]!, part)
  const whole = Buffer.concat(parts)
  const source = await openChain(paths)
  const target = Buffer.alloc(whole.length)
  expect(await source.read(target, true)).toBe(whole.length)
  await source.close()
  expect(target.equals(whole)).toBe(true)
})

test('a job that was called off reads no further, also where all is zero', async () => {
  await using folder = await tempFolder()
  const path = join(folder.path, 'bytes')
  await writeFile(path, Buffer.alloc(40 * MiB))
  const abort = new AbortController()
  const source = await openBytes(path, { signal: abort.signal })
  const reading = source.read(new Uint8Array(40 * MiB), true)
  abort.abort(new Error('enough'))
  await expect(reading).rejects.toThrow('enough')
  await source.close()
})
