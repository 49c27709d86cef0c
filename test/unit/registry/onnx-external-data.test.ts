import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it, test } from 'vitest'
import { AppError } from '../../../src/errors.js'
import { outlineOnnx } from '../../../src/registry/onnx-external-data.js'
import { fixtureModel } from '../../helpers/registry.js'

const folder = mkdtempSync(join(tmpdir(), 'aidant-onnx-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let count = 0
async function outline(bytes: Uint8Array) {
  const path = join(folder, `${count++}.onnx`)
  writeFileSync(path, bytes)
  return outlineOnnx(path)
}

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]
/** A length-delimited field of a protobuf message. */
const field = (number: number, ...content: (Uint8Array | string)[]): Buffer => {
  const body = Buffer.concat(content.map((part) => Buffer.from(part as Uint8Array)))
  return Buffer.concat([Buffer.from(varint(number * 8 + 2)), Buffer.from(varint(body.length)), body])
}
const entry = (key: string, value: string) => field(13, field(1, key), field(2, value))
/** A TensorProto whose data lies in `location`. */
const tensor = (location: string) =>
  Buffer.concat([field(8, 'weights'), entry('location', location), entry('offset', '0')])
const opsets = field(8, Buffer.from([0x10, 17]))
const model = (...graph: Uint8Array[]) => Buffer.concat([Buffer.from([0x08, 8]), opsets, field(7, ...graph)])

test('an entry whose value comes before its key, or comes twice, hides nothing', async () => {
  const swapped = field(13, field(2, '../evil'), field(1, 'location'))
  await expect(outline(model(field(5, swapped)))).rejects.toMatchObject({ code: 'BAD_MODEL' })
  const twice = field(13, field(1, 'location'), field(2, 'fine'), field(2, '../evil'))
  await expect(outline(model(field(5, twice)))).rejects.toMatchObject({ code: 'BAD_MODEL' })
})

describe('where an external tensor can hide', () => {
  it.each([
    { name: 'an initializer', bytes: model(field(5, tensor('w.bin'))) },
    { name: 'a sparse initializer', bytes: model(field(15, field(2, tensor('w.bin')))) },
    { name: 'a node attribute', bytes: model(field(1, field(5, field(5, tensor('w.bin'))))) },
    { name: 'a list of tensors in an attribute', bytes: model(field(1, field(5, field(10, tensor('w.bin'))))) },
    { name: 'the branch of an If', bytes: model(field(1, field(5, field(6, field(5, tensor('w.bin')))))) },
    {
      name: 'a branch in a branch',
      bytes: model(field(1, field(5, field(11, field(1, field(5, field(6, field(5, tensor('w.bin'))))))))),
    },
    {
      name: 'a function of the model',
      bytes: Buffer.concat([model(), field(25, field(7, field(5, field(5, tensor('w.bin')))))]),
    },
    { name: 'training information', bytes: Buffer.concat([model(), field(20, field(1, field(5, tensor('w.bin'))))]) },
    {
      name: 'a second graph, which protobuf merges with the first',
      bytes: Buffer.concat([model(), field(7, field(5, tensor('w.bin')))]),
    },
  ])('$name', async ({ bytes }) => {
    expect(await outline(bytes)).toEqual({ externalFiles: ['w.bin'] })
  })
})

it.each(['w.bin', 'sub/folder/w.bin', 'a..b', '.hidden', 'ä b.data'])('takes the location %j', async (location) => {
  expect((await outline(model(field(5, tensor(location))))).externalFiles).toEqual([location])
})

it.each([
  '../w.bin',
  'a/../../w.bin',
  '/etc/passwd',
  '',
  '.',
  'a//b',
  'a/',
  '..',
  'C:\\w.bin',
  'a\\..\\b',
  'file:w',
  'a\0b',
])('refuses the location %j', async (location) => {
  await expect(outline(model(field(5, tensor(location))))).rejects.toMatchObject({
    code: 'BAD_MODEL',
    message: expect.stringContaining('outside its own folder'),
  })
})

it.each([
  { name: 'no bytes', bytes: Buffer.alloc(0) },
  { name: 'a model without a graph', bytes: opsets },
  { name: 'a graph without operator sets', bytes: field(7, '') },
  { name: 'a number without an end', bytes: Buffer.alloc(12, 0xff) },
  { name: 'a field longer than the file', bytes: Buffer.from([0x3a, 0xff, 0xff, 0xff, 0x7f]) },
  { name: 'a field longer than its message', bytes: model(Buffer.from([0x0a, 0x7f])) },
  { name: 'a group, which ONNX never has', bytes: Buffer.concat([model(), Buffer.from([0x0b])]) },
  { name: 'field number 0', bytes: Buffer.concat([model(), Buffer.from([0x02, 0x00])]) },
  { name: 'an endless name', bytes: model(field(5, tensor('x'.repeat(2000)))) },
  {
    name: 'depth without end',
    bytes: model(
      Array.from({ length: 40 }).reduce<Buffer>((inner) => field(1, field(5, field(6, inner))), Buffer.alloc(0)),
    ),
  },
])('refuses $name', async ({ bytes }) => {
  await expect(outline(bytes)).rejects.toMatchObject({ code: 'BAD_MODEL' })
})

test('does not read the weights: a tensor of 200 kB across the window costs a seek', async () => {
  const big = field(5, field(9, Buffer.alloc(200_000, 0x0a)))
  expect(await outline(model(big, field(5, tensor('w.bin'))))).toEqual({ externalFiles: ['w.bin'] })
})

test('any damage to a model gives an outline or BAD_MODEL, never anything else', async () => {
  const whole = fixtureModel('external.onnx')
  await fc.assert(
    fc.asyncProperty(
      fc.nat(whole.length),
      fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 4 }),
      async (length, changes) => {
        const bytes = Buffer.from(whole)
        for (const [at, value] of changes) bytes[at] = value
        try {
          await outline(bytes.subarray(0, length))
        } catch (error) {
          expect(error).toBeInstanceOf(AppError)
          expect((error as AppError).code).toBe('BAD_MODEL')
        }
      },
    ),
    { numRuns: 300 },
  )
})
