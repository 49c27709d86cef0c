/** Tokens, on every route there is: the table is the OpenAPI document, so that a new route is in it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { InjectOptions } from 'fastify'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { describeApi } from '../../src/app.js'
import { testApp } from '../helpers/test-app.js'
import { tempFolder } from '../helpers/volumes.js'

const API = 'api-0123456789abcdef'
const ADMIN = 'admin-0123456789abcdef'
const WRONG = 'wrong-0123456789abcdef'

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const basic = (user: string, token: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${token}`).toString('base64')}`,
})

/** The application with both files of tokens, or one, and further flags. */
async function guarded(flags: readonly string[] = [], files: readonly ('api' | 'admin')[] = ['api', 'admin']) {
  const folder = await tempFolder()
  const path = { api: join(folder.path, 'api'), admin: join(folder.path, 'admin') }
  writeFileSync(path.api, `ward-3:${API}\n`, { mode: 0o600 })
  writeFileSync(path.admin, `root:${ADMIN}\n`, { mode: 0o600 })
  const named = files.flatMap((right) => [`--${right}-token-file`, path[right]])
  const app = await testApp({ flags: [...named, '--max-failed-tokens', '1000', ...flags] })
  return {
    ...app,
    path,
    [Symbol.asyncDispose]: async () => {
      await app[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

interface Operation {
  readonly security?: readonly unknown[]
}
const { paths } = (await describeApi()) as { paths: Record<string, Record<string, Operation>> }
const operations = Object.entries(paths).flatMap(([path, verbs]) =>
  Object.entries(verbs).map(([verb, { security }]) => ({
    method: verb.toUpperCase() as NonNullable<InjectOptions['method']>,
    url: path.replace(/\{[^}]+\}/g, 'spleen'),
    open: security?.length === 0,
  })),
)
/** What the document does not list. */
const others = ['/docs', '/docs/json', '/docs/static/index.html', '/web/main.js', '/favicon.ico', '/nowhere'].map(
  (url) => ({ method: 'GET' as const, url, open: false }),
)
const isAdmin = (url: string) => /^\/(admin|logs)(\/|$)/.test(url)

test('open are the health checks and the two questions of a log-in, and nothing else', () => {
  expect(operations.filter(({ open }) => open).map(({ method, url }) => `${method} ${url}`)).toEqual([
    'GET /health',
    'GET /health/live',
    'GET /health/ready',
    'GET /auth',
    'POST /auth/token',
  ])
})

describe('every route and verb', async () => {
  let app: Awaited<ReturnType<typeof guarded>>
  beforeAll(async () => {
    app = await guarded()
  })
  afterAll(async () => {
    await app[Symbol.asyncDispose]()
  })

  test.each([...operations, ...others])('$method $url', async ({ method, url, open }) => {
    const isLetIn = async (headers: Record<string, string>) => {
      const { statusCode } = await app.inject({ method, url, headers })
      return statusCode === 401 || statusCode === 403 ? statusCode : 'let in'
    }
    const unknown = open ? 'let in' : 401
    const ward = isAdmin(url) ? 403 : 'let in'
    expect({
      none: await isLetIn({}),
      wrong: await isLetIn(bearer(WRONG)),
      wrongPassword: await isLetIn(basic('root', WRONG)),
      otherScheme: await isLetIn({ authorization: `Digest ${ADMIN}` }),
      noToken: await isLetIn({ authorization: 'Bearer' }),
      api: await isLetIn(bearer(API)),
      apiPassword: await isLetIn(basic('anybody', API)),
      admin: await isLetIn(bearer(ADMIN)),
      adminPassword: await isLetIn(basic('', ADMIN)),
    }).toEqual({
      none: unknown,
      wrong: unknown,
      wrongPassword: unknown,
      otherScheme: unknown,
      noToken: unknown,
      api: ward,
      apiPassword: ward,
      admin: 'let in',
      adminPassword: 'let in',
    })
  })

  test.each([...operations, ...others])('$method $url with a token before the path', async ({ method, url, open }) => {
    const status = async (token: string) => (await app.inject({ method, url: `/token/${token}${url}` })).statusCode
    expect([401, 403]).not.toContain(await status(ADMIN))
    if (isAdmin(url)) expect(await status(API)).toBe(403)
    if (!open) expect(await status(WRONG)).toBe(401)
  })
})

test('a refusal asks for a token in both ways, in the words of the protocol', async () => {
  await using app = await guarded()
  const reply = await app.inject('/v1/models')
  expect(reply.headers['www-authenticate']).toEqual(['Bearer realm="Aidant"', 'Basic realm="Aidant", charset="UTF-8"'])
  expect(reply.json()).toMatchObject({ success: false, code: 'UNAUTHORIZED', hint: expect.stringContaining('Bearer') })
  expect((await app.inject({ url: '/v1/models', headers: bearer(WRONG) })).json().code).toBe('UNAUTHORIZED')
  const ward = await app.inject({ url: '/admin/ps', headers: bearer(API) })
  expect(ward.json()).toMatchObject({
    code: 'FORBIDDEN',
    error: { message: ['this token may not call the admin API'] },
  })
})

describe('which file is named', () => {
  it.each([
    { files: [], anybody: [200, 200], ward: [200, 200] },
    { files: ['admin'], anybody: [200, 401], ward: [200, 401] },
    { files: ['api'], anybody: [401, 401], ward: [200, 403] },
    { files: ['api', 'admin'], anybody: [401, 401], ward: [200, 403] },
  ] as const)('$files: /v1/models and /admin/ps answer anybody $anybody', async ({ files, anybody, ward }) => {
    await using app = await guarded([], files)
    const ask = async (headers: Record<string, string>) =>
      Promise.all(['/v1/models', '/admin/ps'].map(async (url) => (await app.inject({ url, headers })).statusCode))
    expect([await ask({}), await ask(bearer(API))]).toEqual([anybody, ward])
  })
})

describe('together with the other rules', () => {
  test('an operator token does not stand in for --admin-hosts', async () => {
    await using app = await guarded(['--admin-hosts', '10.0.0.1'])
    const ask = (remoteAddress: string, token: string) =>
      app.inject({ url: '/admin/ps', remoteAddress, headers: bearer(token) })
    expect((await ask('10.0.0.1', ADMIN)).statusCode).toBe(200)
    expect((await ask('10.0.0.2', ADMIN)).statusCode).toBe(403)
    expect((await ask('10.0.0.1', API)).statusCode).toBe(403)
    expect((await ask('10.0.0.2', WRONG)).statusCode).toBe(401)
  })

  test('a token does not stand in for a known Host', async () => {
    await using app = await guarded()
    const reply = await app.inject({ url: '/v1/models', headers: { host: 'rebound.example', ...bearer(ADMIN) } })
    expect(reply.statusCode).toBe(403)
  })

  const page = { host: '127.0.0.1:5000', origin: 'https://viewer.example' }
  it.each([
    { how: 'Bearer', headers: bearer(API), flags: [], status: 200 },
    { how: 'Basic, as its browser sends by itself', headers: basic('u', API), flags: [], status: 403 },
    {
      how: 'Basic, from an origin that is named',
      headers: basic('u', API),
      flags: ['--cors-origins', '*,https://viewer.example'],
      status: 200,
    },
  ])('a page of another origin with $how gets a $status', async ({ headers, flags, status }) => {
    await using app = await guarded(flags)
    const reply = await app.inject({ url: '/v1/models', headers: { ...page, ...headers } })
    expect([reply.statusCode, reply.headers['access-control-allow-origin'] !== undefined]).toEqual([status, true])
  })

  test('the page of this server may use Basic', async () => {
    await using app = await guarded()
    const headers = { host: '127.0.0.1:5000', origin: 'http://127.0.0.1:5000', ...basic('u', API) }
    expect((await app.inject({ method: 'PUT', url: '/session/', headers })).statusCode).toBe(400)
  })

  test('a page asks beforehand without a token, and may send one', async () => {
    await using app = await guarded()
    const asked = { 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' }
    const reply = await app.inject({ method: 'OPTIONS', url: '/v1/models', headers: { ...page, ...asked } })
    expect(reply.statusCode).toBe(204)
    expect(reply.headers['access-control-allow-headers']).toBe('authorization')
  })
})

describe('wrong tokens', () => {
  test('are answered 429 when there are too many, and keep nobody else out', async () => {
    await using app = await guarded(['--max-failed-tokens', '3'])
    const ask = async (token: string, remoteAddress = '10.0.0.9') =>
      app.inject({ url: '/v1/models', remoteAddress, headers: { host: '127.0.0.1', ...bearer(token) } })
    const guesses = []
    for (let i = 0; i < 5; i++) guesses.push((await ask(`${WRONG}${i}`)).statusCode)
    expect(guesses).toEqual([401, 401, 401, 429, 429])
    const late = await ask(WRONG)
    expect(Number(late.headers['retry-after'])).toBeGreaterThan(0)
    expect(late.json()).toMatchObject({
      code: 'TOO_MANY_REQUESTS',
      hint: expect.stringContaining('--max-failed-tokens'),
    })
    expect((await ask(API)).statusCode).toBe(200)
    expect((await ask(WRONG, '10.0.0.10')).statusCode).toBe(401)
  })

  test('are logged with the address and without the token, as often as they are looked at', async () => {
    await using app = await guarded(['--max-failed-tokens', '2'])
    for (const headers of [bearer(WRONG), basic('u', WRONG), bearer(WRONG)])
      await app.inject({ url: '/v1/models', headers, remoteAddress: '10.0.0.9' })
    await app.inject(`/token/${WRONG}/v1/models`)
    await app.inject({ url: '/v1/models', headers: basic('anybody', API) })
    const { body } = await app.inject({ url: '/logs?lines=2000', headers: bearer(ADMIN) })
    expect(body.match(/wrong token .*client=10\.0\.0\.9 route=\/v1\/models/g)).toHaveLength(2)
    expect(body).toContain('caller=ward-3')
    for (const secret of [WRONG, API, ADMIN, Buffer.from(`u:${WRONG}`).toString('base64')])
      expect(body).not.toContain(secret)
  })

  test('no token at all is no attempt', async () => {
    await using app = await guarded(['--max-failed-tokens', '1'])
    for (let i = 0; i < 4; i++) expect((await app.inject('/v1/models')).statusCode).toBe(401)
  })
})

describe("MONAI Label's log-in", () => {
  const logIn = (password: string) => ({
    method: 'POST' as const,
    url: '/auth/token',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: new URLSearchParams({ username: 'ann', password, grant_type: 'password' }).toString(),
  })

  test('gives the token that is its password', async () => {
    await using app = await guarded()
    expect((await app.inject('/auth/')).json()).toEqual({ enabled: true })
    expect((await app.inject(logIn(API))).json()).toEqual({ access_token: API, token_type: 'bearer' })
    expect((await app.inject({ url: '/auth/token/valid', headers: bearer(API) })).statusCode).toBe(200)
  })

  test('refuses a wrong one and counts it, and a form without any', async () => {
    await using app = await guarded(['--max-failed-tokens', '1'])
    expect((await app.inject(logIn(''))).json()).toMatchObject({ code: 'BAD_PARAMS' })
    expect((await app.inject(logIn(WRONG))).statusCode).toBe(401)
    expect((await app.inject(logIn(WRONG))).statusCode).toBe(429)
  })

  test('is not there where the API wants no token', async () => {
    await using app = await guarded([], ['admin'])
    expect((await app.inject('/auth/')).json()).toEqual({ enabled: false })
    expect((await app.inject(logIn(ADMIN))).statusCode).toBe(404)
  })
})

test('a changed file counts from the next request on', async () => {
  await using app = await guarded()
  const ask = async () => (await app.inject({ url: '/v1/models', headers: bearer(WRONG) })).statusCode
  expect(await ask()).toBe(401)
  writeFileSync(
    app.path.api,
    `new:${WRONG}
`,
  )
  await app.services.tokens.reload(true)
  expect(await ask()).toBe(200)
  expect((await app.inject({ url: '/v1/models', headers: bearer(API) })).statusCode).toBe(401)
})
