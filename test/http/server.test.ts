import { hostname } from 'node:os'
import { describe, expect, it, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { testApp } from '../helpers/test-app.js'

describe('GET /', () => {
  test('is JSON with versions for programs', async () => {
    await using app = await testApp()
    const reply = await app.inject('/')
    expect(reply.json()).toMatchObject({ name: 'aidant', version: expect.any(String), protocol: 'AIAA 3.1' })
  })

  test('is a page for browsers, with links that also work behind a prefix', async () => {
    await using app = await testApp()
    const reply = await app.inject({ url: '/', headers: { accept: 'text/html,application/xhtml+xml' } })
    expect(reply.headers['content-type']).toMatch(/^text\/html/)
    expect(reply.body).toContain('href="docs"')
    expect(reply.body).not.toMatch(/href="\//)
  })
})

describe('health', () => {
  test.each(['/health', '/health/live', '/health/ready', '/health/ready/'])('%s is ok', async (url) => {
    await using app = await testApp()
    expect((await app.inject(url)).json()).toEqual({ status: 'ok' })
  })

  test('is not ready while a wanted model cannot answer', async () => {
    await using app = await testApp({ services: { readiness: () => "model 'spleen' is being loaded" } })
    const reply = await app.inject('/health/ready')
    expect(reply.statusCode).toBe(503)
    expect(reply.json()).toEqual({ status: 'unavailable', reason: "model 'spleen' is being loaded" })
  })
})

describe('unknown URLs', () => {
  test('are a JSON 404 that names the base URL', async () => {
    await using app = await testApp()
    const reply = await app.inject({ url: '/v1/v1/models?patient=Doe', headers: { host: '127.0.0.1:5000' } })
    expect(reply.statusCode).toBe(404)
    expect(reply.json()).toMatchObject({
      code: 'NOT_FOUND',
      error: { message: [expect.stringContaining('http://127.0.0.1:5000/')] },
    })
    expect(reply.body).not.toContain('Doe')
  })

  test.each([
    { method: 'GET', url: '/v1/segmentation', allow: 'POST' },
    { method: 'DELETE', url: '/v1/models/', allow: 'GET, HEAD' },
    { method: 'PATCH', url: '/session/', allow: 'PUT' },
  ] as const)('that only lack the method are a 405: $method $url', async ({ method, url, allow }) => {
    await using app = await testApp()
    const reply = await app.inject({ method, url })
    expect([reply.statusCode, reply.headers.allow]).toEqual([405, allow])
    expect(reply.json()).toMatchObject({ code: 'METHOD_NOT_ALLOWED' })
  })

  test.each(['/docs', '/docs/', '/logs', '/logs/', '/v1/models', '/v1/models/', '/docs/json'])(
    '%s is none',
    async (url) => {
      await using app = await testApp()
      expect((await app.inject(url)).statusCode).toBe(200)
    },
  )
})

describe('GET /logs', () => {
  test('has the last lines as text', async () => {
    await using app = await testApp()
    for (let i = 0; i < 5; i++) await app.inject('/health')
    const reply = await app.inject('/logs/?lines=3')
    expect(reply.headers['content-type']).toMatch(/^text\/plain/)
    expect(reply.body.trimEnd().split('\n')).toHaveLength(3)
    expect(reply.body).toMatch(/^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] \[pid \S+\] \[AIDANT_INFO\] - request /)
  })

  test('never holds query strings, file names, params or session ids', async () => {
    await using app = await testApp()
    const id = '9ad970be-530e-11ea-84e3-0242ac110007'
    await app.inject(`/session/${id}?patient=Doe`)
    await app.inject('/nowhere/Doe')
    const payload =
      '--b\r\nContent-Disposition: form-data; name="params"\r\n\r\n{"patient": "Doe"}\r\n' +
      '--b\r\nContent-Disposition: form-data; name="image"; filename="Doe.nii"\r\n\r\nx\r\n--b--\r\n'
    const headers = { 'content-type': 'multipart/form-data; boundary=b', authorization: 'Bearer Doe' }
    await app.inject({ method: 'POST', url: '/v1/inference?model=spleen&note=Doe', payload, headers })
    const { body } = await app.inject('/logs?lines=2000')
    expect(body).toContain('/v1/inference')
    expect(body).not.toContain('Doe')
    expect(body).not.toContain(id)
  })

  test.each(['0', '-1', 'many', '1e9'])('refuses lines=%s', async (lines) => {
    await using app = await testApp()
    expect((await app.inject(`/logs?lines=${lines}`)).statusCode).toBe(400)
  })
})

describe('request ids', () => {
  it.each([
    { given: 'click-17', kept: true },
    { given: '../../etc', kept: false },
    { given: 'a b', kept: false },
    { given: 'x'.repeat(65), kept: false },
  ])('$given is kept: $kept', async ({ given, kept }) => {
    await using app = await testApp()
    const reply = await app.inject({ url: '/health', headers: { 'x-request-id': given } })
    expect(reply.headers['x-request-id'] === given).toBe(kept)
    expect(reply.headers['x-request-id']).toMatch(/^[\w.-]+$/)
  })
})

describe('admin hosts', () => {
  const from = (remoteAddress: string) => ({ url: '/admin/model/spleen', remoteAddress })

  test('are everyone by default', async () => {
    await using app = await testApp()
    expect((await app.inject(from('203.0.113.9'))).statusCode).toBe(200)
  })

  it.each([
    { hosts: '127.0.0.1', address: '127.0.0.1', status: 200 },
    { hosts: '127.0.0.1', address: '::ffff:127.0.0.1', status: 200 },
    { hosts: '127.0.0.1', address: '10.0.0.1', status: 403 },
    { hosts: '10.0.0.0/8,192.168.1.7', address: '10.200.3.4', status: 200 },
    { hosts: '10.0.0.0/8,192.168.1.7', address: '192.168.1.7', status: 200 },
    { hosts: '10.0.0.0/8,192.168.1.7', address: '192.168.1.8', status: 403 },
    { hosts: 'localhost', address: '127.0.0.1', status: 200 },
    { hosts: '::1', address: '::1', status: 200 },
    { hosts: 'fd00::/8', address: 'fd12::1', status: 200 },
    { hosts: 'fd00::/8', address: 'fe80::1', status: 403 },
  ])('$hosts lets $address have a $status', async ({ hosts, address, status }) => {
    await using app = await testApp({ flags: ['--admin_hosts', hosts] })
    const reply = await app.inject(from(address))
    expect(reply.statusCode).toBe(status)
    if (status === 403)
      expect(reply.json()).toMatchObject({ code: 'FORBIDDEN', hint: expect.stringContaining('--admin-hosts') })
  })

  test('are not believed from a forwarded header', async () => {
    await using app = await testApp({ flags: ['--admin-hosts', '127.0.0.1'] })
    const headers = { 'x-forwarded-for': '127.0.0.1', forwarded: 'for=127.0.0.1' }
    expect((await app.inject({ ...from('203.0.113.9'), headers })).statusCode).toBe(403)
  })

  test('guard the log', async () => {
    await using app = await testApp({ flags: ['--admin-hosts', '127.0.0.1'] })
    expect((await app.inject({ url: '/logs', remoteAddress: '203.0.113.9' })).statusCode).toBe(403)
    expect((await app.inject({ url: '/logs', remoteAddress: '127.0.0.1' })).statusCode).toBe(200)
  })

  test('leave the other routes alone', async () => {
    await using app = await testApp({ flags: ['--admin-hosts', '127.0.0.1'] })
    expect((await app.inject({ url: '/v1/models', remoteAddress: '203.0.113.9' })).statusCode).toBe(200)
  })

  test.each(['10.0.0.0/40', 'no such name!', '10.0.0.0/8/8'])('that mean nothing stop the start: %s', async (hosts) => {
    await expect(testApp({ flags: [`--admin-hosts=${hosts.replaceAll(' ', '-')}`] })).rejects.toThrow(/--admin-hosts/)
  })
})

describe('the Host header, on a loopback bind', () => {
  it.each([
    { host: 'localhost:5000', status: 200 },
    { host: '127.0.0.1:5000', status: 200 },
    { host: '[::1]:5000', status: 200 },
    { host: '192.168.1.5:5000', status: 200 },
    { host: 'evil.example', status: 403 },
    { host: 'localhost.evil.example:5000', status: 403 },
    { host: 'LocalHost.:5000', status: 200 },
    { host: '[::ffff:127.0.0.1]:5000', status: 200 },
    { host: 'localhost%.evil.example', status: 403 },
    { host: '127.0.0.1.evil.example', status: 403 },
    { host: 'evil.example@127.0.0.1', status: 403 },
    { host: '[evil.example]:5000', status: 403 },
  ])('$host gets a $status', async ({ host, status }) => {
    await using app = await testApp()
    expect((await app.inject({ url: '/health', headers: { host } })).statusCode).toBe(status)
  })

  it.each([
    { flags: ['--allowed-hosts', 'aidant.hospital.example'], status: 200 },
    { flags: ['--allowed-hosts', 'Aidant.Hospital.Example.'], status: 200 },
    { flags: ['--allowed-hosts', '*'], status: 200 },
    { flags: ['--host', '0.0.0.0'], status: 200 },
    { flags: ['--allowed-hosts', 'other.example'], status: 403 },
  ])('may be another name with $flags: $status', async ({ flags, status }) => {
    await using app = await testApp({ flags })
    const reply = await app.inject({ url: '/health', headers: { host: 'aidant.hospital.example' } })
    expect(reply.statusCode).toBe(status)
  })
})

describe('the Host header, on a bind that other machines reach', () => {
  const wide = ['--host', '0.0.0.0']
  const own = hostname()
  const rows = [
    { host: 'evil.example:5000', flags: wide, status: 403 },
    { host: 'evil.example', flags: ['--host', '192.168.1.5'], status: 403 },
    { host: 'evil.example', flags: ['--host', '::'], status: 403 },
    { host: '127.evil.example', flags: wide, status: 403 },
    { host: 'evil.example', flags: [...wide, '--admin-hosts', '127.0.0.1'], status: 403 },
    { host: 'evil.example', flags: [...wide, '--allowed-hosts', 'aidant.hospital.example'], status: 403 },
    { host: 'aidant.hospital.example', flags: [...wide, '--allowed-hosts', 'aidant.hospital.example'], status: 200 },
    { host: '10.1.2.3:5000', flags: wide, status: 200 },
    { host: '[fd00::5]:5000', flags: wide, status: 200 },
    { host: 'localhost:5000', flags: wide, status: 200 },
    { host: `${own.toUpperCase()}.:5000`, flags: wide, status: 200 },
    { host: 'aidant.lan', flags: ['--host', 'aidant.lan'], status: 200 },
  ]
  it.each(rows.flatMap((row) => ['/admin/model/spleen', '/logs', '/%6cogs'].map((url) => ({ ...row, url }))))(
    'DNS rebinding: $url as $host with $flags gets a $status',
    async ({ host, flags, status, url }) => {
      await using app = await testApp({ flags })
      const reply = await app.inject({ url, headers: { host } })
      expect(reply.statusCode).toBe(status)
      if (status === 403)
        expect(reply.json()).toMatchObject({ code: 'FORBIDDEN', hint: expect.stringContaining('--allowed-hosts') })
    },
  )

  it.each(['/v1/models', '/health', '/session/x', '/'])('may be any name for %s', async (url) => {
    await using app = await testApp({ flags: wide })
    expect((await app.inject({ url, headers: { host: 'aidant.swarm:5000' } })).statusCode).not.toBe(403)
  })
})

describe('pages of other origins', () => {
  const origin = 'https://viewer.hospital.example'
  const preflight = (url: string, method = 'POST') => ({
    method: 'OPTIONS' as const,
    url,
    headers: { origin, 'access-control-request-method': method, 'access-control-request-headers': 'content-type' },
  })

  test('may call the API by default, without credentials', async () => {
    await using app = await testApp()
    const asked = await app.inject(preflight('/v1/segmentation?model=x'))
    expect(asked.statusCode).toBe(204)
    expect(asked.headers['access-control-allow-origin']).toBe('*')
    expect(asked.headers['access-control-allow-methods']).toContain('PUT')
    expect(asked.headers['access-control-allow-credentials']).toBeUndefined()
    const reply = await app.inject({ url: '/v1/models', headers: { origin } })
    expect(reply.headers['access-control-allow-origin']).toBe('*')
  })

  test('can read the reason of a refusal', async () => {
    await using app = await testApp()
    const reply = await app.inject({ method: 'POST', url: '/v1/segmentation?model=liver', headers: { origin } })
    expect([reply.statusCode, reply.headers['access-control-allow-origin']]).toEqual([404, '*'])
  })

  test('may not call /admin unless named', async () => {
    await using app = await testApp()
    expect(
      (await app.inject(preflight('/admin/model/x', 'DELETE'))).headers['access-control-allow-origin'],
    ).toBeUndefined()
    await using named = await testApp({ flags: ['--cors-origins', origin] })
    expect((await named.inject(preflight('/admin/model/x', 'DELETE'))).headers['access-control-allow-origin']).toBe(
      origin,
    )
  })

  test.each([
    { from: 'https://evil.example', status: 403 },
    { from: 'null', status: 403 },
    { from: 'http://127.0.0.1:5000', status: 200 },
    { from: undefined, status: 200 },
  ])('may not even send to /admin, as a form would: $from', async ({ from, status }) => {
    await using app = await testApp()
    const headers = { host: '127.0.0.1:5000', ...(from === undefined ? {} : { origin: from }) }
    for (const url of ['/admin/model/spleen/unload', '/%61dmin/model/spleen/unload']) {
      const reply = await app.inject({ method: 'POST', url, headers })
      expect(reply.statusCode).toBe(status)
    }
  })

  test.each([
    { from: 'https://evil.example', status: 403 },
    { from: 'null', status: 403 },
    { from: 'http://127.0.0.1:5000', status: 200 },
    { from: origin, status: 200 },
  ])('may not read the log: $from', async ({ from, status }) => {
    await using app = await testApp({ flags: ['--cors-origins', `*,${origin}`] })
    const reply = await app.inject({ url: '/logs', headers: { host: '127.0.0.1:5000', origin: from } })
    expect(reply.statusCode).toBe(status)
    expect(reply.headers['access-control-allow-origin']).not.toBe('*')
  })

  test.each([
    { cors: 'none', method: 'POST', url: '/v1/segmentation?model=spleen', from: origin, refused: true },
    { cors: 'none', method: 'POST', url: '/v1/segmentation?model=spleen', from: 'null', refused: true },
    { cors: 'none', method: 'PUT', url: '/session', from: origin, refused: true },
    { cors: 'none', method: 'DELETE', url: '/v1/requests/x', from: origin, refused: true },
    { cors: 'https://other.example', method: 'POST', url: '/v1/fixpolygon', from: origin, refused: true },
    { cors: origin, method: 'POST', url: '/v1/segmentation?model=spleen', from: origin, refused: false },
    { cors: '*', method: 'POST', url: '/v1/segmentation?model=spleen', from: origin, refused: false },
    { cors: 'none', method: 'POST', url: '/v1/segmentation?model=spleen', from: 'http://127.0.0.1', refused: false },
    { cors: 'none', method: 'POST', url: '/v1/segmentation?model=spleen', from: undefined, refused: false },
  ] as const)(
    '--cors-origins $cors: a $method of a page of $from, which no preflight asks for, is refused: $refused',
    async ({ cors, method, url, from, refused }) => {
      await using app = await testApp({ flags: ['--cors-origins', cors] })
      const headers = { host: '127.0.0.1', ...(from === undefined ? {} : { origin: from }) }
      const reply = await app.inject({ method, url, headers })
      expect(reply.json().hint?.includes('--cors-origins') ?? false).toBe(refused)
      if (refused) expect(reply.statusCode).toBe(403)
    },
  )

  test('are kept out when not in the list', async () => {
    await using app = await testApp({ flags: ['--cors-origins', 'https://other.example'] })
    const reply = await app.inject({ url: '/v1/models', headers: { origin } })
    expect(reply.headers['access-control-allow-origin']).toBeUndefined()
  })
})

test('a status line keeps to printable ASCII', async () => {
  await using app = await testApp({
    answer: async () => {
      throw new AppError('UNREADABLE_IMAGE', 'bad\r\nX-Evil: 1 größe')
    },
  })
  const headers = { 'content-type': 'application/octet-stream' }
  const reply = await app.inject({ method: 'POST', url: '/v1/inference?model=spleen', payload: 'x', headers })
  expect(reply.statusMessage).toBe('bad X-Evil: 1 gr e')
})
