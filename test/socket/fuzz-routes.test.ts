/**
 * Garbage over raw sockets, on every route with every verb: the answer is never a 500, the server never dies, and nothing
 * of it stays. Everything ends by itself: whole requests are answered, half ones end with their connection.
 */
import { readdir, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { form } from '../helpers/multipart.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, modelConfig } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { tempFolder } from '../helpers/volumes.js'

const FLAGS = [
  ...['--device', 'cpu', '--tool-runners', '1', '--max-upload-bytes', '64k', '--max-params-bytes', '32k'],
  ...['--max-upload-files', '5', '--max-model-bytes', '64k', '--max-volume-bytes', '1m', '--max-voxels', '100000'],
]

let folder: Awaited<ReturnType<typeof tempFolder>>
let server: ServerProcess
let port: number

beforeAll(async () => {
  folder = await tempFolder()
  server = await ServerProcess.start(join(folder.path, 'ws'), FLAGS)
  port = Number(new URL(server.url).port)
  const body = new FormData()
  const pre_transforms = [
    { name: 'LoadImaged', args: { keys: 'image' } },
    { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
    { name: 'Orientationd', args: { keys: 'image', axcodes: 'RAS' } },
    { name: 'Spacingd', args: { keys: 'image', pixdim: [2, 2, 2], mode: 'bilinear' } },
    { name: 'NormalizeIntensityd', args: { keys: 'image', nonzero: true } },
  ]
  body.append('config', new Blob([JSON.stringify(modelConfig({ pre_transforms }))]), 'config_aiaa.json')
  body.append('data', new Blob([new Uint8Array(fixtureModel('threshold.onnx'))]), 'model.onnx')
  const reply = await fetch(`${server.url}/admin/model/bright`, { method: 'PUT', body })
  expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
})
afterAll(async () => {
  expect(await server?.end('SIGTERM')).toBe(0)
  await folder[Symbol.asyncDispose]()
})
afterEach(async () => {
  expect((await fetch(`${server.url}/health/live`)).status).toBe(200)
})

/**
 * Sends the bytes and gives all that comes back until the connection ends. `half`: the client ends its side at once, as
 * one that crashed; whatever is answered then, if anything, counts.
 */
function exchange(bytes: Buffer | string, half = false): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const chunks: Buffer[] = []
    socket.on('data', (chunk) => chunks.push(chunk))
    // A server that has refused already may reset what is still being written.
    socket.on('error', () => {})
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')))
    if (half) socket.end(bytes)
    else socket.write(bytes)
  })
}

const statusesOf = (reply: string) =>
  [...reply.matchAll(/(?:^|\n)HTTP\/1\.1 (\d{3}) /g)].map(([, code]) => Number(code))

/** No fault of ours, and no word of our insides. */
function expectSound(reply: string): void {
  for (const status of statusesOf(reply)) {
    expect(status, reply.slice(0, 500)).not.toBe(500)
    expect(status, reply.slice(0, 500)).toBeLessThanOrEqual(505)
  }
  expect(reply).not.toMatch(/node_modules|\.ts:\d|\bat \w+ \(/)
  expect(reply).not.toContain(folder.path)
}

async function leftovers(): Promise<string[]> {
  const tmp = join(folder.path, 'ws', 'tmp')
  return (await Promise.all((await readdir(tmp)).map((name) => readdir(join(tmp, name))))).flat()
}

const head = (line: string, more = '') => `${line}\r\nHost: 127.0.0.1\r\nConnection: close\r\n${more}\r\n`
const json = (method: string, path: string, text: string) =>
  head(`${method} ${path} HTTP/1.1`, `Content-Type: application/json\r\nContent-Length: ${text.length}\r\n`) + text
const upload = (path: string, { payload, headers }: ReturnType<typeof form>, method = 'POST') =>
  Buffer.concat([
    Buffer.from(
      head(
        `${method} ${path} HTTP/1.1`,
        `Content-Type: ${headers['content-type']}\r\nContent-Length: ${payload.length}\r\n`,
      ),
    ),
    payload,
  ])
const scan = { name: 'image', body: Buffer.from(niftiBytes()), filename: 'scan.nii' }
const segmentation = '/v1/segmentation?model=bright&output=image'
const deep = (n: number) => `${'['.repeat(n)}${']'.repeat(n)}`
const deepObject = (n: number) => `${'{"a":'.repeat(n)}1${'}'.repeat(n)}`

describe('made to hurt', () => {
  test.each<{ name: string; bytes: string | Buffer; status: number | readonly number[] }>([
    { name: 'a header of 64 KB', bytes: head('GET /v1/models HTTP/1.1', `X: ${'x'.repeat(65536)}\r\n`), status: 431 },
    { name: '3,000 headers', bytes: head('GET / HTTP/1.1', 'X: y\r\n'.repeat(3000)), status: [200, 431] },
    { name: 'a path of 100 KB', bytes: head(`GET /${'x'.repeat(100_000)} HTTP/1.1`), status: [414, 431] },
    { name: 'a query of 10 KB', bytes: head(`GET /v1/models?label=${'x'.repeat(10_000)} HTTP/1.1`), status: 200 },
    { name: 'a thousand parameters', bytes: head(`GET /v1/models?${'a=1&'.repeat(1000)} HTTP/1.1`), status: 200 },
    { name: 'the same parameter twice', bytes: head('GET /v1/models?model=a&model=b HTTP/1.1'), status: 400 },
    { name: 'a broken escape in the path', bytes: head('GET /session/%E0%A4%A HTTP/1.1'), status: [400, 404] },
    { name: 'a broken escape in the query', bytes: head('GET /v1/models?model=%E0%A4%A HTTP/1.1'), status: 404 },
    { name: 'a zero byte in a name', bytes: head('GET /admin/model/a%00b HTTP/1.1'), status: [400, 404] },
    { name: 'a name that climbs', bytes: head('GET /admin/model/..%2f..%2fetc%2fpasswd HTTP/1.1'), status: [400, 404] },
    { name: 'a session that climbs', bytes: head('GET /session/..%2f..%2fmodels?image=true HTTP/1.1'), status: 404 },
    {
      name: 'docs that climb',
      bytes: head('GET /docs/static/..%2f..%2f..%2fpackage.json HTTP/1.1'),
      status: [400, 403, 404],
    },
    { name: 'a method nobody has', bytes: head('BREW / HTTP/1.1'), status: 400 },
    { name: 'a method we do not have', bytes: head('PROPFIND /v1/models HTTP/1.1'), status: [404, 405] },
    { name: 'TRACE', bytes: head('TRACE /v1/models HTTP/1.1', 'Content-Length: 0\r\n'), status: [404, 405] },
    {
      name: 'an absolute URL of elsewhere',
      bytes: head('GET http://example.com/v1/models HTTP/1.1'),
      status: [200, 400, 404],
    },
    { name: 'two slashes', bytes: head('GET //v1//models HTTP/1.1'), status: 404 },
    { name: 'OPTIONS of everything', bytes: head('OPTIONS * HTTP/1.1'), status: [204, 400, 404] },
    { name: 'HTTP/2', bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', status: 400 },
    { name: 'HTTP/9.9', bytes: head('GET / HTTP/9.9'), status: [400, 505] },
    { name: 'TLS', bytes: Buffer.from('16030100c8010000c403035f', 'hex'), status: 400 },
    {
      name: 'two Content-Lengths',
      bytes: head('POST /v1/inference HTTP/1.1', 'Content-Length: 1\r\nContent-Length: 2\r\n'),
      status: 400,
    },
    {
      name: 'a length and chunks',
      bytes:
        head('POST /v1/inference?model=bright HTTP/1.1', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n') +
        '0\r\n\r\n',
      status: 400,
    },
    { name: 'a negative length', bytes: head('POST /v1/inference HTTP/1.1', 'Content-Length: -1\r\n'), status: 400 },
    {
      name: 'chunks that are no numbers',
      bytes: `${head(`POST ${segmentation} HTTP/1.1`, 'Transfer-Encoding: chunked\r\n')}zz\r\nvoxels\r\n0\r\n\r\n`,
      status: 400,
    },
    {
      name: 'an encoding nobody has',
      bytes: head(`POST ${segmentation} HTTP/1.1`, 'Transfer-Encoding: gzip\r\n'),
      status: [400, 501],
    },
    { name: 'an expectation nobody meets', bytes: head('GET / HTTP/1.1', 'Expect: miracles\r\n'), status: 417 },
    {
      name: 'an upgrade',
      bytes: head('GET / HTTP/1.1', 'Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n'),
      status: [200, 426],
    },
    {
      name: 'a Host that is no name',
      bytes: 'GET /v1/models HTTP/1.1\r\nHost: ][<>\r\nConnection: close\r\n\r\n',
      status: [400, 403],
    },
    { name: 'no Host', bytes: 'GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n', status: 400 },
    { name: 'an Origin that is none', bytes: head('GET /v1/models HTTP/1.1', 'Origin: ]]\r\n'), status: 200 },
    {
      name: 'a request id of 8 KB',
      bytes: head('GET /v1/models HTTP/1.1', `X-Request-Id: ${'../'.repeat(2700)}\r\n`),
      status: 200,
    },
    {
      name: 'a deep config',
      bytes: json('PATCH', '/admin/model/bright', deepObject(100_000)),
      status: [400, 413, 422],
    },
    { name: 'a deep source', bytes: json('PUT', '/admin/model/other', deep(100_000)), status: [400, 413, 422] },
    { name: 'a deep session', bytes: json('PUT', '/session/', `{"dicom":${deep(10_000)}}`), status: [400, 403] },
    { name: 'a session too big', bytes: json('PUT', '/session/', `{"dicom":"${'x'.repeat(100_000)}"}`), status: 413 },
    { name: 'a session of __proto__', bytes: json('PUT', '/session/', '{"__proto__":{"dicom":{}}}'), status: 400 },
    {
      name: 'a config of __proto__',
      bytes: json('PATCH', '/admin/model/bright', '{"__proto__":{"type":"others"}}'),
      status: 422,
    },
    { name: 'a config that is a number', bytes: json('PATCH', '/admin/model/bright', '1e999'), status: 422 },
    {
      name: 'deep params',
      bytes: upload(segmentation, form([{ name: 'params', body: deepObject(5000) }, scan])),
      status: 400,
    },
    {
      name: 'params too large',
      bytes: upload(segmentation, form([{ name: 'params', body: ' '.repeat(40_000) }, scan])),
      status: 413,
    },
    {
      name: 'points that are not',
      bytes: upload(
        '/v1/deepgrow?model=bright',
        form([{ name: 'params', body: '{"foreground":[[1e400,null,"x"]],"background":"[[["}' }, scan]),
      ),
      status: [200, 400],
    },
    {
      name: 'polygons that are not',
      bytes: upload(
        '/v1/fixpolygon',
        form([
          { name: 'params', body: `{"poly":${deep(60)},"vertex_offset":[1e308,-1e308],"vertex_index":9e15}` },
          scan,
        ]),
      ),
      status: 400,
    },
    {
      name: 'more_points below zero',
      bytes: upload('/v1/mask2polygon', form([{ name: 'params', body: '{"more_points":-1e30}' }, scan])),
      status: 400,
    },
    {
      name: 'too many files',
      bytes: upload(segmentation, form(Array.from({ length: 6 }, (_, i) => ({ ...scan, name: `image${i}` })))),
      status: 413,
    },
    {
      name: '2,000 fields',
      bytes: upload(segmentation, form(Array.from({ length: 2000 }, (_, i) => ({ name: `f${i}`, body: '' })))),
      status: 413,
    },
    {
      name: 'a name of 10 KB',
      bytes: upload(segmentation, form([{ ...scan, name: 'x'.repeat(10_000) }])),
      status: [200, 400],
    },
    {
      name: 'a file name with a line end',
      bytes: upload(segmentation, form([{ ...scan, filename: 'a\r\nX: y' }])),
      status: [200, 400],
    },
    {
      name: 'a boundary of 1,000 bytes',
      bytes: upload(segmentation, form([scan], 'b'.repeat(1000))),
      status: 400,
    },
    { name: 'an empty file', bytes: upload(segmentation, form([{ ...scan, body: '' }])), status: 400 },
    {
      name: 'half a form',
      bytes: upload(segmentation, { ...form([scan]), payload: form([scan]).payload.subarray(0, 150) }),
      status: 400,
    },
    {
      name: 'a form without a boundary',
      bytes: upload(segmentation, { ...form([scan]), headers: { 'content-type': 'multipart/form-data' } }),
      status: 400,
    },
    {
      name: 'a form of another kind',
      bytes: upload(segmentation, {
        ...form([scan]),
        headers: { 'content-type': 'multipart/mixed; boundary=test-boundary' },
      }),
      status: [400, 415],
    },
    {
      name: 'parts with endless headers',
      bytes: upload(segmentation, {
        ...form([scan]),
        payload: Buffer.from(`--test-boundary\r\n${'X: y\r\n'.repeat(5000)}`),
      }),
      status: 400,
    },
    {
      name: 'a volume beyond the limit',
      bytes: upload(
        segmentation,
        form([{ ...scan, body: Buffer.from(niftiBytes({ dim: [3, 900, 900, 900], voxels: [] })) }]),
      ),
      status: 413,
    },
    {
      name: 'a model that is none',
      bytes: upload(
        '/admin/model/other',
        form([
          { name: 'config', body: '{}' },
          { name: 'data', body: 'x', filename: 'm' },
        ]),
        'PUT',
      ),
      status: 422,
    },
    {
      name: 'a model with a name of dots',
      bytes: upload('/admin/model/%2e%2e', form([{ name: 'config', body: '{}' }]), 'PUT'),
      status: [400, 404, 422],
    },
    { name: 'a negative expiry', bytes: head('PUT /session?expiry=-1 HTTP/1.1', 'Content-Length: 0\r\n'), status: 400 },
    { name: 'lines of the log that are not', bytes: head('GET /logs?lines=1e9 HTTP/1.1'), status: [200, 400] },
  ])('$name', async ({ name, bytes, status }) => {
    const reply = await exchange(bytes)
    expectSound(reply)
    const [code] = statusesOf(reply).filter((seen) => seen !== 100)
    expect([status].flat(), reply.slice(0, 300)).toContain(code)
    // Node refuses these two by itself.
    if (code! >= 400 && code !== 417 && name !== 'no Host') expect(reply).toContain('"success":false')
  })

  test('20 requests in one go get 20 answers, in order', async () => {
    const one = (i: number) => `GET /v1/models?model=none-${i} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`
    const last = head('GET /health/live HTTP/1.1')
    const reply = await exchange(Array.from({ length: 20 }, (_, i) => one(i)).join('') + last)
    expect(statusesOf(reply)).toEqual([...Array.from({ length: 20 }, () => 404), 200])
    expect(
      [...reply.matchAll(/'none-(\d+)'/g)].map(([, i]) => Number(i)).filter((i, at, all) => all[at - 1] !== i),
    ).toEqual(Array.from({ length: 20 }, (_, i) => i))
  })
})

test('every route answers every verb, with a body and without', async () => {
  const openapi = fileURLToPath(new URL('../../openapi/openapi.json', import.meta.url))
  const { paths } = JSON.parse(await readFile(openapi, 'utf8')) as { paths: Record<string, unknown> }
  for (const pattern of [...Object.keys(paths), '/docs', '/docs/json', '/nowhere']) {
    const path = pattern.replace(/\{\w+\}/g, 'nobody')
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'LOCK'])
      for (const body of ['', '{"a": 1}']) {
        const reply = await exchange(body === '' ? head(`${method} ${path} HTTP/1.1`) : json(method, path, body))
        expectSound(reply)
        expect(statusesOf(reply), `${method} ${path}`).toHaveLength(1)
      }
  }
})

const token = fc.string({ unit: fc.constantFrom(...'abcXYZ09-_.~!%$&[]{}"\\ /?:@;,=\u0000\u00ff'), maxLength: 40 })
const target = fc.oneof(
  fc.constantFrom(
    ...[
      '/v1/models',
      segmentation,
      '/v1/inference?model=bright',
      '/v1/dextr3d?model=bright',
      '/v1/deepgrow?model=bright',
    ],
    ...['/v1/mask2polygon', '/v1/fixpolygon', '/session/', '/session/x', '/admin/model/fuzz', '/admin/model/fuzz/load'],
    ...['/admin/ps', '/logs', '/v1/requests/x', '/docs/', '/'],
  ),
  token.map((text) => `/${text.replaceAll(' ', '+')}`),
)
const multipart = fc
  .array(
    fc.record(
      {
        name: fc.constantFrom('params', 'image', 'datapoint', 'image0', 'config', 'data', ''),
        body: fc.oneof(
          fc.json(),
          token,
          fc.constant(Buffer.from(niftiBytes())),
          fc.uint8Array({ maxLength: 900 }).map((bytes) => Buffer.from(bytes)),
        ),
        filename: token,
      },
      { requiredKeys: ['name', 'body'] },
    ),
    { maxLength: 4 },
  )
  .map((parts) => form(parts))
const request = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD', 'POST', 'PUT'),
    target,
    query: token,
    headers: fc.array(
      fc.tuple(
        fc.constantFrom('Accept', 'Origin', 'X-Request-Id', 'Range', 'Cookie', 'If-None-Match', 'Content-Encoding'),
        token,
      ),
      { maxLength: 4 },
    ),
    body: fc.option(multipart),
  })
  .map(({ method, target: path, query, headers, body }) => {
    const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    const separator = path.includes('?') ? '&' : '?'
    const type =
      body === null
        ? 'Content-Length: 0\r\n'
        : `Content-Type: ${body.headers['content-type']}\r\nContent-Length: ${body.payload.length}\r\n`
    const start = `${method} ${path}${separator}${query.replaceAll(' ', '+')} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${lines}${type}\r\n`
    return Buffer.concat([Buffer.from(start, 'latin1'), body?.payload ?? Buffer.alloc(0)])
  })

test('whole requests of random content are answered', async () => {
  await fc.assert(
    fc.asyncProperty(request, async (bytes) => {
      const reply = await exchange(bytes)
      expectSound(reply)
      expect(statusesOf(reply)).toHaveLength(1)
    }),
    { numRuns: 150 },
  )
})

test('requests with bytes changed, lost or doubled anywhere, and then no more, do no harm', async () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 }), fc.constantFrom('set', 'cut', 'end', 'double')), {
    minLength: 1,
    maxLength: 5,
  })
  await fc.assert(
    fc.asyncProperty(request, damage, async (whole, changes) => {
      let bytes = Buffer.from(whole)
      for (const [where, value, how] of changes) {
        const at = where % Math.max(1, bytes.length)
        if (how === 'set') bytes[at] = value
        else if (how === 'cut') bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + value)])
        else if (how === 'end') bytes = bytes.subarray(0, at + 1)
        else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at >> 1)])
      }
      expectSound(await exchange(bytes, true))
    }),
    { numRuns: 150 },
  )
})

const real = fc.oneof(
  fc.constantFrom(0, -1, 0.5, 3, 1e-320, 1e12, 1e300, Number.NaN, Infinity),
  fc.integer({ min: -3, max: 9 }),
)
const reals = (count: number) => fc.array(real, { minLength: count, maxLength: count })
const image = fc
  .record(
    {
      version: fc.constantFrom(1 as const, 2 as const),
      littleEndian: fc.boolean(),
      dim: fc
        .array(fc.integer({ min: 0, max: 6 }), { minLength: 2, maxLength: 5 })
        .map((dims) => [dims.length, ...dims]),
      datatype: fc.constantFrom(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 2304),
      pixdim: reals(8),
      slope: real,
      inter: real,
      units: fc.integer({ min: 0, max: 255 }),
      qformCode: fc.integer({ min: -1, max: 6 }),
      sformCode: fc.integer({ min: -1, max: 6 }),
      quatern: reals(6),
      srow: reals(12),
      voxels: fc.uint8Array({ minLength: 8000, maxLength: 8000 }),
    },
    { requiredKeys: ['voxels'] },
  )
  .map((spec) => Buffer.from(niftiBytes(spec)))

test('images whose headers hold random numbers are labelled, or refused', async () => {
  await fc.assert(
    fc.asyncProperty(image, async (body) => {
      const reply = await exchange(upload(segmentation, form([{ ...scan, body }])))
      expectSound(reply)
      const [status] = statusesOf(reply)
      expect([200, 400, 413, 415], reply.slice(0, 900)).toContain(status)
    }),
    { numRuns: 150 },
  )
})

test('a form cut at any place by a client that is gone leaves nothing', async () => {
  const whole = upload(segmentation, form([{ name: 'params', body: '{}' }, scan]))
  for (let at = 1; at < whole.length; at += 5) expectSound(await exchange(whole.subarray(0, at), true))
  await expect.poll(leftovers, { timeout: 10_000 }).toEqual([])
})

test('the model still answers, nothing is left behind, and the server is the same process', async () => {
  const reply = await exchange(upload(segmentation, form([scan])))
  expect(statusesOf(reply)).toEqual([200])
  await expect.poll(leftovers, { timeout: 10_000 }).toEqual([])
  expect(() => process.kill(server.pid, 0)).not.toThrow()
})
