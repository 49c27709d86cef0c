/** Behind a reverse proxy: what it forwards is believed of it, and of nobody else. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { testApp } from '../helpers/test-app.js'
import { tempFolder } from '../helpers/volumes.js'

const PROXY = '10.0.0.1'

describe('the client of a request', () => {
  it.each([
    { peer: PROXY, forwarded: '192.0.2.7', client: '192.0.2.7' },
    { peer: PROXY, forwarded: undefined, client: PROXY },
    { peer: `::ffff:${PROXY}`, forwarded: '192.0.2.7', client: '192.0.2.7' },
    { peer: PROXY, forwarded: '::ffff:192.0.2.7', client: '192.0.2.7' },
    { peer: PROXY, forwarded: '192.0.2.7:50123', client: '192.0.2.7' },
    { peer: PROXY, forwarded: '[2001:db8::7]:50123', client: '2001:db8::7' },
    // What the client itself wrote stands before what the proxy appended.
    { peer: PROXY, forwarded: '192.0.2.1, 192.0.2.7', client: '192.0.2.7' },
    { peer: PROXY, forwarded: '192.0.2.1, 192.0.2.7, 10.0.0.1', client: '192.0.2.7' },
    { peer: PROXY, forwarded: '<script>, 192.0.2.7', client: '192.0.2.7' },
    { peer: PROXY, forwarded: '<script>', client: 'unknown' },
    // Nobody else may say who they are.
    { peer: '10.0.0.2', forwarded: '192.0.2.7', client: '10.0.0.2' },
    { peer: '192.0.2.1', forwarded: `192.0.2.7, ${PROXY}`, client: '192.0.2.1' },
  ])('$peer forwarding $forwarded is $client', async ({ peer, forwarded, client }) => {
    await using app = await testApp({ flags: ['--trusted-proxies', PROXY, '--admin-hosts', '192.0.2.7,2001:db8::7'] })
    const headers = { host: '127.0.0.1', ...(forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }) }
    const reply = await app.inject({ url: '/admin/ps', remoteAddress: peer, headers })
    expect(reply.statusCode).toBe(['192.0.2.7', '2001:db8::7'].includes(client) ? 200 : 403)
    expect(app.services.logs.last(1)[0]).toContain(`client=${client} `)
  })

  test('is the socket where no proxy is named', async () => {
    await using app = await testApp({ flags: ['--admin-hosts', '192.0.2.7'] })
    const headers = { 'x-forwarded-for': '192.0.2.7' }
    expect((await app.inject({ url: '/admin/ps', remoteAddress: PROXY, headers })).statusCode).toBe(403)
  })

  test('has wrong tokens counted apart from those of others behind the same proxy', async () => {
    await using folder = await tempFolder()
    writeFileSync(join(folder.path, 'tokens'), 'ward:ward-0123456789abcdef', { mode: 0o600 })
    await using app = await testApp({
      flags: ['--trusted-proxies', PROXY, '--api-token-file', join(folder.path, 'tokens'), '--max-failed-tokens', '1'],
    })
    const guess = async (client: string) =>
      (
        await app.inject({
          url: '/v1/models',
          remoteAddress: PROXY,
          headers: { host: '127.0.0.1', 'x-forwarded-for': client, authorization: 'Bearer wrong-0123456789abcdef' },
        })
      ).statusCode
    expect([await guess('192.0.2.7'), await guess('192.0.2.7'), await guess('192.0.2.8')]).toEqual([401, 429, 401])
  })
})

describe('the name that the client used', () => {
  const ask = (remoteAddress: string, host: string) => ({
    url: '/v1/models',
    remoteAddress,
    headers: { host: '127.0.0.1:5000', 'x-forwarded-host': host },
  })

  it.each([
    { peer: PROXY, host: 'aidant.example', status: 200 },
    { peer: PROXY, host: 'rebound.example', status: 403 },
    // Forged, and so not looked at: the server was called by its address.
    { peer: '10.0.0.2', host: 'rebound.example', status: 200 },
  ])('is $host, forwarded by $peer: $status', async ({ peer, host, status }) => {
    await using app = await testApp({ flags: ['--trusted-proxies', PROXY, '--allowed-hosts', 'aidant.example'] })
    expect((await app.inject(ask(peer, host))).statusCode).toBe(status)
  })

  test('cannot be forged to a known one', async () => {
    await using app = await testApp({ flags: ['--trusted-proxies', PROXY] })
    const headers = { host: 'rebound.example', 'x-forwarded-host': '127.0.0.1' }
    expect((await app.inject({ url: '/v1/models', remoteAddress: '10.0.0.2', headers })).statusCode).toBe(403)
  })

  test('and the scheme stand in the address that a wrong URL is told', async () => {
    await using app = await testApp({ flags: ['--trusted-proxies', PROXY, '--allowed-hosts', 'aidant.example'] })
    const headers = { host: '127.0.0.1', 'x-forwarded-host': 'aidant.example', 'x-forwarded-proto': 'https' }
    const reply = await app.inject({ url: '/nowhere', remoteAddress: PROXY, headers })
    expect(reply.json().error.message[0]).toContain('https://aidant.example/')
  })

  test("is the page's own origin", async () => {
    await using app = await testApp({ flags: ['--trusted-proxies', PROXY, '--allowed-hosts', 'aidant.example'] })
    const headers = { host: '127.0.0.1', 'x-forwarded-host': 'aidant.example', origin: 'https://aidant.example' }
    expect((await app.inject({ url: '/admin/ps', remoteAddress: PROXY, headers })).statusCode).toBe(200)
  })
})

it.each([
  { value: '*', why: 'a proxy is named by its address' },
  { value: '10.0.0.0/40', why: 'a block is an address and a length' },
])('--trusted-proxies $value is refused', ({ value, why }) => {
  expect(() => loadConfig(['--trusted-proxies', value], {})).toThrow(why)
})
