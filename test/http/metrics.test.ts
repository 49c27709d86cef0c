/** GET /metrics through the application: what a request moves, and that nothing of it becomes a label. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { InjectOptions } from 'fastify'
import { describe, expect, it, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { countFetches } from '../../src/services.js'
import { form } from '../helpers/multipart.js'
import { samplesOf } from '../helpers/promtool.js'
import { fakeRegistry, type TestApp, testApp } from '../helpers/test-app.js'
import { tempFolder } from '../helpers/volumes.js'

async function read(app: TestApp, headers = {}) {
  const reply = await app.inject({ url: '/metrics', headers })
  expect([reply.statusCode, reply.headers['content-type']]).toEqual([200, expect.stringMatching(/^text\/plain/)])
  return { text: reply.body, samples: samplesOf(reply.body) }
}

const image = form([{ name: 'image', body: Buffer.from('voxels'), filename: 'a.nii.gz' }])

it.each<{ what: string; ask: InjectOptions; moves: string[] }>([
  {
    what: 'a list of models',
    ask: { url: '/v1/models' },
    moves: ['aidant_http_requests_total{method="GET",route="/v1/models",status="2xx"}'],
  },
  {
    what: 'an inference',
    ask: { method: 'POST', url: '/v1/segmentation?model=spleen', ...image },
    moves: [
      'aidant_http_requests_total{method="POST",route="/v1/segmentation",status="2xx"}',
      'aidant_http_request_seconds_count{route="/v1/segmentation"}',
    ],
  },
  {
    what: 'a model that is not there',
    ask: { method: 'POST', url: '/v1/segmentation?model=liver', ...image },
    moves: [
      'aidant_http_requests_total{method="POST",route="/v1/segmentation",status="4xx"}',
      'aidant_errors_total{code="MODEL_NOT_FOUND"}',
    ],
  },
  {
    what: 'a URL that leads nowhere',
    ask: { url: '/wp-login.php' },
    moves: [
      'aidant_http_requests_total{method="GET",route="(unknown)",status="4xx"}',
      'aidant_errors_total{code="NOT_FOUND"}',
    ],
  },
  {
    what: 'a wrong method',
    ask: { method: 'DELETE', url: '/v1/models' },
    moves: ['aidant_errors_total{code="METHOD_NOT_ALLOWED"}'],
  },
  {
    what: 'a URL that is none',
    ask: { url: '/v1/%zz' },
    moves: ['aidant_errors_total{code="BAD_REQUEST"}'],
  },
  {
    what: 'a page of the docs',
    ask: { url: '/docs/static/swagger-ui.css' },
    moves: ['aidant_http_requests_total{method="GET",route="/docs/static/*",status="2xx"}'],
  },
  {
    what: 'a refused host',
    ask: { url: '/v1/models', headers: { host: 'rebound.example' } },
    moves: ['aidant_errors_total{code="FORBIDDEN"}'],
  },
])('$what moves its own counters by one', async ({ ask, moves }) => {
  await using app = await testApp()
  const before = (await read(app)).samples
  await app.inject(ask)
  const after = (await read(app)).samples
  for (const name of moves) expect([name, (after.get(name) ?? 0) - (before.get(name) ?? 0)]).toEqual([name, 1])
})

test('a fetch is counted by its kind and its end', async () => {
  await using app = await testApp()
  const { metrics } = app.services
  const fetchSource = countFetches(async (body) => {
    if ('http' in body) throw new AppError('FETCH_FAILED', 'the peer is not there')
    return { files: [] } as never
  }, metrics!)
  const never = new AbortController().signal
  await fetchSource({ dicomweb: { url: 'http://doe.example/' } }, '', never)
  await expect(fetchSource({ http: { url: 'http://doe.example/' } }, '', never)).rejects.toThrow()
  const { samples, text } = await read(app)
  expect(samples.get('aidant_fetches_total{kind="dicomweb",outcome="done"}')).toBe(1)
  expect(samples.get('aidant_fetches_total{kind="http",outcome="failed"}')).toBe(1)
  expect(text).not.toContain('doe')
})

test('nothing that a client writes is in a label', async () => {
  const HOSTILE = 'Doe^Jane"} 1\\n{x="'
  const safe = encodeURIComponent(HOSTILE)
  await using app = await testApp({ services: { registry: fakeRegistry(['spleen', 'deepgrow']) } })
  const headers = {
    host: '127.0.0.1',
    'x-request-id': 'Doe-1',
    'user-agent': HOSTILE.replace('\n', ' '),
    referer: `http://127.0.0.1/${safe}`,
    authorization: `Bearer Doe`,
    'accept-language': 'Doe',
  }
  const upload = form([
    { name: 'params', body: JSON.stringify({ Doe: HOSTILE, result_extension: HOSTILE }) },
    { name: 'Doe', body: Buffer.from('voxels'), filename: `${HOSTILE}.nii.gz`, type: 'application/Doe' },
  ])
  const sent = { ...upload, headers: { ...upload.headers, ...headers } }
  const asks: InjectOptions[] = [
    ...[
      '/v1/models?model=',
      '/v1/models?label=',
      '/',
      '/web/',
      '/docs/',
      '/session/',
      '/v1/requests/',
      '/admin/model/',
    ].map((url) => ({ url: url + safe, headers })),
    ...['/v1/segmentation?model=', '/v1/inference?model=spleen&session_id=', '/infer/'].map((url) => ({
      method: 'POST' as const,
      url: url + safe,
      ...sent,
    })),
    { method: 'POST', url: '/v1/segmentation?model=spleen', ...sent },
    { method: 'PUT', url: '/session/', headers, payload: { [HOSTILE]: { url: HOSTILE } } },
    { method: 'PUT', url: `/admin/model/${safe}`, ...sent },
    { method: 'PROPFIND' as never, url: '/v1/models', headers },
  ]
  for (const ask of asks) await app.inject(ask)
  const { text } = await read(app)
  expect(text).not.toMatch(/doe/i)
  const names = new Set([...text.matchAll(/^(aidant_http_requests_total\{.*\}) /gm)].map(([, name]) => name))
  expect(names.size).toBeLessThan(asks.length + 1)
})

describe('who may see them', () => {
  test('nobody where the operator wants none', async () => {
    await using app = await testApp({ flags: ['--metrics', 'off'] })
    expect((await app.inject('/metrics')).statusCode).toBe(404)
  })

  test('with tokens, whoever has one', async () => {
    await using folder = await tempFolder()
    writeFileSync(join(folder.path, 'tokens'), 'prometheus:scrape-0123456789abcdef', { mode: 0o600 })
    await using app = await testApp({ flags: ['--api-token-file', join(folder.path, 'tokens')] })
    expect((await app.inject('/metrics')).statusCode).toBe(401)
    await read(app, { authorization: 'Bearer scrape-0123456789abcdef' })
  })
})
