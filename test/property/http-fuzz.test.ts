/** Whatever a client sends, the answer is a success or a refusal in our own words, never a fault, and nothing is left behind. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { labelMap } from '../helpers/fake-scheduler.js'
import { form } from '../helpers/multipart.js'
import { type TestApp, testApp } from '../helpers/test-app.js'

let app: TestApp
beforeAll(async () => {
  app = await testApp({
    answer: async (job, ...rest) => {
      if (job.kind !== 'inference') throw new AppError('UNREADABLE_IMAGE', 'not an image')
      return labelMap(job, ...rest)
    },
    flags: ['--max-upload-bytes', '4k', '--max-params-bytes', '2k', '--max-upload-files', '3', '--log-level', 'fatal'],
  })
})
afterAll(() => app[Symbol.asyncDispose]())

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD'] as const
const PATHS = [
  '/',
  '/v1/models',
  '/v1/segmentation',
  '/v1/inference',
  '/v1/dextr3d',
  '/v1/deepgrow',
  '/v1/mask2polygon',
  '/v1/fixpolygon',
  '/v1/requests',
  '/v1/requests/x',
  '/session/',
  '/session/9ad970be-530e-11ea-84e3-0242ac110007',
  '/admin/model/spleen',
  '/admin/ps',
  '/logs',
  '/docs',
  '/health/ready',
]

const word = fc.oneof(
  fc.constantFrom(
    '',
    'spleen',
    'null',
    'true',
    '-1',
    '1e999',
    '../..',
    '%00',
    '%',
    '[]',
    '{}',
    'image',
    'results',
    '\u{1f480}',
  ),
  fc.string({ maxLength: 30 }),
)
const query = fc
  .array(fc.tuple(fc.constantFrom('model', 'output', 'session_id', 'expiry', 'lines', 'async', 'image', 'x'), word), {
    maxLength: 5,
  })
  .map((pairs) => pairs.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join('&'))

const part = fc.record(
  {
    name: fc.constantFrom(
      'params',
      'image',
      'datapoint',
      'image0',
      'image1',
      'config',
      'data',
      '__proto__',
      'constructor',
      '',
    ),
    body: fc.oneof(
      word,
      fc.uint8Array({ maxLength: 6000 }).map((bytes) => Buffer.from(bytes)),
      fc.json(),
    ),
    filename: fc.constantFrom('a.nii.gz', '/x/y.nii', '..', '', 'a\u0000b'),
    type: fc.constantFrom('application/json', 'application/octet-stream', 'text/plain; charset=utf-16', 'x'),
  },
  { requiredKeys: ['name', 'body'] },
)

/** A well-formed body, then perhaps bytes changed, cut out or doubled. */
const body = fc
  .tuple(
    fc.array(part, { maxLength: 5 }),
    fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 }), fc.constantFrom('set', 'cut', 'double')), { maxLength: 4 }),
  )
  .map(([parts, damage]) => {
    let { payload } = form(parts)
    for (const [where, value, how] of damage) {
      const at = where % payload.length
      if (how === 'set') payload[at] = value
      else if (how === 'cut') payload = Buffer.concat([payload.subarray(0, at), payload.subarray(at + (value % 64))])
      else payload = Buffer.concat([payload.subarray(0, at), payload.subarray(at / 2), payload.subarray(at)])
      if (payload.length === 0) payload = Buffer.from('-')
    }
    return payload
  })

const contentType = fc.constantFrom(
  'multipart/form-data; boundary=test-boundary',
  'multipart/form-data; boundary="test-boundary"',
  'multipart/form-data',
  'multipart/form-data; boundary=',
  'application/json',
  'application/x-www-form-urlencoded',
  'text/plain',
  'image/png',
  'nonsense',
  '',
)

test('every answer is in our own words, and none is a 500', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...METHODS),
      fc.constantFrom(...PATHS),
      query,
      contentType,
      body,
      async (method, path, words, type, payload) => {
        const sends = method === 'POST' || method === 'PUT' || method === 'PATCH'
        const headers = type === '' ? {} : { 'content-type': type }
        const reply = await app.inject({ method, url: `${path}?${words}`, ...(sends ? { payload, headers } : {}) })
        expect(reply.statusCode, reply.body).not.toBe(500)
        expect(reply.statusCode).toBeLessThan(505)
        if (reply.statusCode >= 400 && method !== 'HEAD')
          expect(reply.json()).toMatchObject({
            success: false,
            code: expect.stringMatching(/^[A-Z_]+$/),
            request_id: expect.any(String),
          })
        expect(reply.body).not.toMatch(/\.ts:\d|node_modules|\/tmp\//)
      },
    ),
    { numRuns: 1500 },
  )
}, 300_000)

test('nothing is left of any of it', async () => {
  await expect.poll(() => app.leftovers(), { timeout: 5000 }).toEqual([])
  expect((await app.inject('/health')).statusCode).toBe(200)
})
