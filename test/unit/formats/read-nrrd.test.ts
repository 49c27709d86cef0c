import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AppError, type ErrorCode } from '../../../src/errors.js'
import type { ReadLimits, ReadResult } from '../../../src/formats/format.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { roomyLimits, tempFolder } from '../../helpers/volumes.js'

const FIELDS = {
  type: 'short',
  dimension: '3',
  sizes: '2 2 1',
  endian: 'little',
  encoding: 'raw',
  space: 'RAS',
  'space directions': '(1,0,0) (0,1,0) (0,0,1)',
  'space origin': '(0,0,0)',
}
const BODY = new Uint8Array(Int16Array.of(1, 2, 3, 4).buffer)

/** A header of FIELDS with some replaced, or left out where undefined; then the body. */
function nrrd(change: Record<string, string | undefined> = {}, body: Uint8Array = BODY, newline = '\n'): Buffer {
  const lines = Object.entries({ ...FIELDS, ...change }).flatMap(([k, v]) => (v === undefined ? [] : [`${k}: ${v}`]))
  return Buffer.concat([Buffer.from(`NRRD0004${newline}${lines.join(newline)}${newline}${newline}`), body])
}

async function read(bytes: Uint8Array, limits: ReadLimits = roomyLimits): Promise<ReadResult> {
  await using folder = await tempFolder()
  const path = join(folder.path, 'upload')
  await writeFile(path, bytes)
  return await readVolume([path], limits)
}

describe('NRRD', () => {
  it.each([
    { name: 'as it is', file: nrrd() },
    { name: 'with CR LF', file: nrrd({}, BODY, '\r\n') },
    { name: 'with a byte skip', file: nrrd({ 'byte skip': '3' }, Buffer.concat([Buffer.from('abc'), BODY])) },
    { name: 'with voxels at the end', file: nrrd({ 'byte skip': '-1' }, Buffer.concat([Buffer.from('abcde'), BODY])) },
    { name: 'gzip', file: nrrd({ encoding: 'GZIP' }, gzipSync(BODY)) },
    { name: 'int64', file: nrrd({ type: 'long long int' }, new Uint8Array(BigInt64Array.of(1n, 2n, 3n, 4n).buffer)) },
    { name: 'one byte, no endian', file: nrrd({ type: 'uint8_t', endian: undefined }, Uint8Array.of(1, 2, 3, 4)) },
  ])('is read $name', async ({ file }) => {
    const { volume } = await read(file)
    expect(Array.from(volume.data)).toEqual([1, 2, 3, 4])
  })

  it('whose directions make no grid gets the identity and a note', async () => {
    const { volume, notes } = await read(nrrd({ 'space directions': '(1,0,0) (1,0,0) (0,0,1)' }))
    expect(Array.from(volume.affine)).toEqual([-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    expect(notes.join()).toMatch(/directions/)
  })

  it.each<{ name: string; file: Uint8Array; code: ErrorCode; words: RegExp; limits?: ReadLimits }>([
    {
      name: 'a detached header',
      file: nrrd({ 'data file': 'x.raw' }),
      code: 'MISSING_IMAGE',
      words: /voxels are in 1 file beside it; none was sent/,
    },
    {
      name: 'a header that does not end',
      file: nrrd().subarray(0, 60),
      code: 'UNREADABLE_IMAGE',
      words: /ends without an empty line/,
    },
    { name: 'no sizes', file: nrrd({ sizes: undefined }), code: 'UNREADABLE_IMAGE', words: /'sizes' is missing/ },
    { name: 'too few sizes', file: nrrd({ sizes: '2 2' }), code: 'UNREADABLE_IMAGE', words: /3 whole numbers/ },
    { name: 'a size of -1', file: nrrd({ sizes: '2 -1 2' }), code: 'UNREADABLE_IMAGE', words: /whole numbers/ },
    { name: 'no byte order', file: nrrd({ endian: undefined }), code: 'UNREADABLE_IMAGE', words: /endian/ },
    { name: 'blocks', file: nrrd({ type: 'block' }), code: 'UNSUPPORTED_FORMAT', words: /block/ },
    { name: 'bzip2', file: nrrd({ encoding: 'bzip2' }), code: 'UNSUPPORTED_FORMAT', words: /bzip2/ },
    { name: 'text that is none', file: nrrd({ encoding: 'ascii' }), code: 'UNREADABLE_IMAGE', words: /is no number/ },
    {
      name: 'hex that is none',
      file: nrrd({ encoding: 'hex' }),
      code: 'UNREADABLE_IMAGE',
      words: /cut short|another sign/,
    },
    { name: 'time in space', file: nrrd({ space: 'scanner-xyz-time' }), code: 'UNSUPPORTED_FORMAT', words: /time/ },
    {
      name: 'two axes that are not spatial',
      file: nrrd({ dimension: '4', sizes: '2 2 1 1', 'space directions': 'none (1,0,0) (0,1,0) none' }),
      code: 'UNSUPPORTED_FORMAT',
      words: /spatial/,
    },
    {
      name: 'the odd axis in the middle',
      file: nrrd({ 'space directions': '(1,0,0) none (0,1,0)' }),
      code: 'UNSUPPORTED_FORMAT',
      words: /spatial/,
    },
    {
      name: 'a vector that is none',
      file: nrrd({ 'space origin': '(a,b,c)' }),
      code: 'UNREADABLE_IMAGE',
      words: /vector/,
    },
    {
      name: 'too few voxels',
      file: nrrd().subarray(0, -1),
      code: 'UNREADABLE_IMAGE',
      words: /8 bytes of voxels expected, 7/,
    },
    {
      name: 'too few packed voxels',
      file: nrrd({ encoding: 'gzip' }, gzipSync(BODY.subarray(1))),
      code: 'UNREADABLE_IMAGE',
      words: /8 bytes of voxels expected, 7/,
    },
    {
      name: 'gzip that is none',
      file: nrrd({ encoding: 'gzip' }, Uint8Array.of(9, 9, 9, 9)),
      code: 'UNREADABLE_IMAGE',
      words: /damaged/,
    },
    {
      name: 'too many voxels',
      file: nrrd(),
      limits: { maxVoxels: 3, maxVolumeBytes: 1000 },
      code: 'TOO_LARGE',
      words: /at most 3/,
    },
    {
      name: 'sizes beyond counting',
      file: nrrd({ sizes: '9007199254740991 9007199254740991 9' }),
      code: 'TOO_LARGE',
      words: /voxels/,
    },
  ])('is refused: $name', async ({ file, code, words, limits }) => {
    await expect(read(file, limits)).rejects.toMatchObject({ code, message: expect.stringMatching(words) })
  })

  it('mutated gives a volume within the limits, or a 4xx', async () => {
    const limits = { maxVoxels: 4096, maxVolumeBytes: 65536 }
    const seeds = [nrrd(), nrrd({ encoding: 'gzip' }, gzipSync(BODY)), nrrd({ kinds: 'domain domain domain' })]
    const text = fc.constantFrom('0', '9', '-', ' ', '(', ')', ',', 'none', '\n', '1e9', 'NaN', ':', 'x')
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(180), text), { minLength: 1, maxLength: 4 }),
        async (seed, edits) => {
          let bytes = seed
          for (const [at, word] of edits)
            bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(word), bytes.subarray(at + 1)])
          try {
            const { volume } = await read(bytes, limits)
            expect(volume.data.length).toBeLessThanOrEqual(limits.maxVoxels)
          } catch (error) {
            if (!(error instanceof AppError)) throw error
            expect(error.statusCode).toBeLessThan(500)
          }
        },
      ),
      { numRuns: 500 },
    )
  })
})
