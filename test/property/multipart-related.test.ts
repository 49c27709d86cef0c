import fc from 'fast-check'
import { expect, it, test } from 'vitest'
import { boundaryOf, multipartParts } from '../../src/fetchers/multipart-related.js'

const BOUNDARY = 'abc-123'

function body(parts: readonly Buffer[], { preamble = '', epilogue = '' } = {}): Buffer {
  const pieces = parts.flatMap((part) => [
    Buffer.from(`\r\n--${BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n`),
    part,
  ])
  const all = Buffer.concat([Buffer.from(preamble), ...pieces, Buffer.from(`\r\n--${BOUNDARY}--\r\n${epilogue}`)])
  return preamble === '' ? all.subarray(2) : all
}

async function* inChunks(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes.length > 0 ? sizes[i % sizes.length]! : bytes.length
    yield bytes.subarray(at, at + size)
    at += size
  }
}

async function read(chunks: AsyncIterable<Buffer>): Promise<Buffer[]> {
  const found: Buffer[] = []
  for await (const part of multipartParts(chunks, BOUNDARY)) {
    const pieces: Buffer[] = []
    for await (const piece of part) pieces.push(Buffer.from(piece))
    found.push(Buffer.concat(pieces))
  }
  return found
}

/** Bytes that like to look like a boundary; at a part's start they would be one. */
const part = fc
  .array(
    fc.oneof(
      fc.constant('\r\n--abc-12'),
      fc.constant('\r\n--'),
      fc.constant('\r'),
      fc.constant('--abc-123'),
      fc.string(),
    ),
    { maxLength: 6 },
  )
  .map((words) => Buffer.from(words.join('')))
  .filter((bytes) => !bytes.includes(`--${BOUNDARY}`))

test('parts come out as they went in, however the body is cut into chunks', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(part, { maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 5 }),
      fc.constantFrom('', 'some words nobody reads'),
      async (parts, sizes, preamble) => {
        const found = await read(inChunks(body(parts, { preamble, epilogue: 'more words' }), sizes))
        expect(found).toEqual(parts)
      },
    ),
    { numRuns: 300 },
  )
})

it.each([1, 3, 1000])('a body cut off anywhere is an error (chunks of %i)', async (size) => {
  const whole = body([Buffer.from('one'), Buffer.from('two')])
  for (let end = 0; end < whole.length - 4; end++) {
    await expect(read(inChunks(whole.subarray(0, end), [size]))).rejects.toMatchObject({ code: 'FETCH_FAILED' })
  }
})

it('headers without an end are an error', async () => {
  const bytes = Buffer.concat([Buffer.from(`--${BOUNDARY}\r\n`), Buffer.alloc(40_000, 65)])
  await expect(read(inChunks(bytes, [1000]))).rejects.toMatchObject({ code: 'FETCH_FAILED' })
})

it.each([
  { type: 'multipart/related; boundary=abc; type="application/dicom"', boundary: 'abc' },
  { type: 'multipart/related; type="application/dicom"; boundary="a b=c"', boundary: 'a b=c' },
  { type: 'multipart/related;BOUNDARY=x', boundary: 'x' },
  { type: 'application/dicom', boundary: undefined },
])('$type has boundary $boundary', ({ type, boundary }) => expect(boundaryOf(type)).toBe(boundary))
