/** What a session may fetch over HTTP, and what it may not: redirects, credentials, caps, silence. */
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFetchSource } from '../../src/fetchers/fetch-source.js'
import type { Lookup } from '../../src/util/fetch-policy.js'

const LIMITS = { maxBytes: 100_000, maxFiles: 10, seconds: 10, silenceSeconds: 5 }

interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** An HTTP server on loopback that remembers what it was asked. */
async function listen(answer: (seen: Seen, response: ServerResponse) => void) {
  const seen: Seen[] = []
  const server: Server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const one = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, body }
    seen.push(one)
    answer(one, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return { server, port, seen }
}

type Listening = Awaited<ReturnType<typeof listen>>
let root: string
let main: Listening
let other: Listening
const redirects: Record<string, () => string> = {}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'fetch-http-'))
  other = await listen((_seen, response) => response.end('from the other'))
  main = await listen(({ url }, response) => {
    const { pathname } = new URL(url, 'http://x')
    const target = redirects[pathname]
    if (target) {
      const status = /\d{3}/.exec(pathname)?.[0] ?? '302'
      response.writeHead(Number(status), { location: target() }).end()
    } else if (pathname === '/file') response.end('the file')
    else if (pathname === '/gzip') response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('unpacked'))
    else if (pathname === '/bomb')
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(10_000_000)))
    else if (pathname === '/odd') response.writeHead(200, { 'content-encoding': 'weird' }).end('x')
    else if (pathname === '/large') response.end(Buffer.alloc(200_000))
    else if (pathname === '/silent') response.write('some')
    else if (pathname === '/cut') {
      response.writeHead(200, { 'content-length': '100' }).write('x')
      setImmediate(() => response.destroy())
    } else response.writeHead(404).end('no')
  })
  Object.assign(redirects, {
    '/here': () => '/file',
    '/302-post': () => '/file',
    '/307-post': () => '/file',
    '/loop': () => '/loop',
    '/other-port': () => `http://127.0.0.1:${other.port}/secret`,
    '/307-other': () => `http://127.0.0.1:${other.port}/secret`,
    '/metadata': () => 'http://169.254.169.254/latest/meta-data/',
    '/decimal': () => 'http://2130706433:9/',
    '/mapped': () => 'http://[::ffff:127.0.0.1]:9/',
    '/local-file': () => 'file:///etc/passwd',
    '/garbage': () => 'http://[',
  })
})
afterAll(async () => {
  for (const { server } of [main, other]) {
    server.closeAllConnections()
    server.close()
  }
  await rm(root, { recursive: true, force: true })
})

let count = 0
async function get(http: Record<string, unknown>, allow?: readonly string[], limits = LIMITS, lookup?: Lookup) {
  const folder = join(root, String(count++))
  await mkdir(folder)
  const fetchSource = createFetchSource({
    allow: allow ?? [`127.0.0.1:${main.port}`],
    limits,
    dicom: { aeTitle: 'AIDANT', scpPort: 0 },
    lookup,
  })
  const { paths, received } = await fetchSource({ http }, folder, new AbortController().signal)
  expect(received).toBe(1)
  expect(await readdir(folder)).toHaveLength(1)
  return readFile(paths[0]!, 'utf8')
}
const at = (path: string) => `http://127.0.0.1:${main.port}${path}`

describe('an allowed URL', () => {
  it('is fetched, with its parameters added to the query', async () => {
    expect(
      await get({
        url: at('/file?a=1'),
        params: { format: 'zip', n: 2, list: ['x', 'y z'], none: null },
        method: 'get',
      }),
    ).toBe('the file')
    expect(main.seen.at(-1)).toMatchObject({ method: 'GET', url: '/file?a=1&format=zip&n=2&list=x&list=y+z' })
  })
  it('gets the headers and the login', async () => {
    await get({ url: at('/file'), headers: { 'X-Token': 'abc', Accept: 'application/zip' }, auth: ['me', 'pass:word'] })
    expect(main.seen.at(-1)!.headers).toMatchObject({
      'x-token': 'abc',
      accept: 'application/zip',
      authorization: `Basic ${Buffer.from('me:pass:word').toString('base64')}`,
      host: `127.0.0.1:${main.port}`,
      'accept-encoding': 'identity',
    })
    await get({ url: `http://us%65r:pw@127.0.0.1:${main.port}/file` })
    expect(main.seen.at(-1)!.headers.authorization).toBe(`Basic ${Buffer.from('user:pw').toString('base64')}`)
  })
  it('may have a password without a user', async () => {
    await get({ url: `http://:pw@127.0.0.1:${main.port}/file` })
    expect(main.seen.at(-1)!.headers.authorization).toBe(`Basic ${Buffer.from(':pw').toString('base64')}`)
  })
  it('is refused with a login that is no percent coding', async () => {
    await expect(get({ url: `http://50%:pw@127.0.0.1:${main.port}/file` })).rejects.toMatchObject({
      code: 'BAD_PARAMS',
      message: expect.stringContaining('write %25'),
    })
  })
  it.each([
    { name: 'json', body: { json: { a: [1] } }, type: 'application/json', sent: '{"a":[1]}' },
    {
      name: 'a form',
      body: { data: { a: 'b c', n: 1 } },
      type: 'application/x-www-form-urlencoded',
      sent: 'a=b+c&n=1',
    },
    { name: 'text', body: { data: 'plain' }, type: undefined, sent: 'plain' },
  ])('is sent $name', async ({ body, type, sent }) => {
    await get({ url: at('/file'), method: 'POST', ...body })
    expect(main.seen.at(-1)).toMatchObject({ method: 'POST', body: sent })
    expect(main.seen.at(-1)!.headers['content-type']).toBe(type)
  })
  it('is unpacked where the server compressed it unasked', async () => {
    expect(await get({ url: at('/gzip') })).toBe('unpacked')
  })
  it('is followed to where it moved', async () => {
    expect(await get({ url: at('/here') })).toBe('the file')
    expect(await get({ url: at('/302-post'), method: 'POST', data: 'x' })).toBe('the file')
    expect(main.seen.at(-1)).toMatchObject({ method: 'GET', body: '' })
    expect(await get({ url: at('/307-post'), method: 'POST', data: 'x' })).toBe('the file')
    expect(main.seen.at(-1)).toMatchObject({ method: 'POST', body: 'x' })
  })
  it('takes no credentials along to another host', async () => {
    const both = [`127.0.0.1:${main.port}`, `127.0.0.1:${other.port}`]
    const secrets = { headers: { 'X-Token': 'abc', Cookie: 'session=1', Accept: 'x/y' }, auth: ['me', 'pw'] }
    expect(await get({ url: at('/other-port'), ...secrets }, both)).toBe('from the other')
    const { headers } = other.seen.at(-1)!
    expect(headers).toMatchObject({ accept: 'x/y' })
    expect(Object.keys(headers)).not.toEqual(expect.arrayContaining(['authorization']))
    expect(headers['x-token'] ?? headers.cookie ?? headers.authorization).toBeUndefined()
  })
  it('takes no body along to another host', async () => {
    const both = [`127.0.0.1:${main.port}`, `127.0.0.1:${other.port}`]
    await expect(get({ url: at('/307-other'), method: 'POST', data: 'secret' }, both)).rejects.toMatchObject({
      code: 'FETCH_FAILED',
    })
  })
})

describe('what ends a fetch', () => {
  it.each([
    { name: 'a status', path: '/nothing', code: 'FETCH_FAILED', words: /answered 404/ },
    { name: 'endless redirects', path: '/loop', code: 'FETCH_FAILED', words: /redirects more than/ },
    { name: 'a redirect to nonsense', path: '/garbage', code: 'FETCH_FAILED', words: /no URL/ },
    { name: 'an unknown coding', path: '/odd', code: 'FETCH_FAILED', words: /content coding/ },
    { name: 'too many bytes', path: '/large', code: 'TOO_LARGE', words: /over 100000 bytes/ },
    { name: 'a bomb', path: '/bomb', code: 'TOO_LARGE', words: /over 100000 bytes/ },
    { name: 'a body that breaks off', path: '/cut', code: 'FETCH_FAILED', words: /broke off/ },
  ])('$name', async ({ path, code, words }) => {
    await expect(get({ url: at(path) })).rejects.toMatchObject({ code, message: expect.stringMatching(words) })
  })
  it('silence', async () => {
    await expect(get({ url: at('/silent'), timeout: 0.2 })).rejects.toMatchObject({ code: 'FETCH_FAILED' })
  })
  it('its time, while the name is still looked up', async () => {
    const never: Lookup = () => new Promise(() => {})
    await expect(
      get({ url: 'http://slow.example/file' }, ['slow.example'], { ...LIMITS, seconds: 0.2 }, never),
    ).rejects.toMatchObject({ code: 'FETCH_FAILED' })
  })
  it('its time', async () => {
    await expect(get({ url: at('/silent') }, undefined, { ...LIMITS, seconds: 0.3 })).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: expect.stringContaining('took over'),
    })
  })
  it('nobody there', async () => {
    await expect(get({ url: 'http://127.0.0.1:1/' }, ['127.0.0.1'])).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: expect.stringContaining('refused'),
    })
  })
  it.each([
    { name: 'a method', http: { method: 'DELETE' } },
    { name: 'a body without POST', http: { data: 'x' } },
    { name: 'a Host header', http: { headers: { Host: 'x' } } },
    { name: 'a header that ends', http: { headers: { 'x-a': 'b\r\nc: d' } } },
    { name: 'a header name that ends', http: { headers: { 'x\r\n': 'b' } } },
    { name: 'Transfer-Encoding', http: { headers: { 'Transfer-Encoding': 'chunked' } } },
    { name: 'a proxy', http: { proxies: { http: 'x' } } },
    { name: 'a certificate path', http: { verify: '/etc/passwd' } },
  ])('$name that is not for clients to choose', async ({ http }) => {
    await expect(get({ url: at('/file'), ...http })).rejects.toMatchObject({ code: 'BAD_PARAMS' })
  })
})

/** Each is a way to reach what nobody allowed; `other` runs, so a hole would show as its answer. */
describe('SSRF', () => {
  const turncoat = (): Lookup => {
    const answers = ['10.255.255.1', '127.0.0.1']
    return async () => [{ address: answers.shift() ?? '127.0.0.1', family: 4 }]
  }
  const targets: { name: string; url: () => string; lookup?: Lookup }[] = [
    { name: 'loopback by name', url: () => `http://localhost:${other.port}/` },
    { name: 'loopback by address', url: () => `http://127.0.0.1:${other.port}/` },
    { name: 'loopback by decimal', url: () => `http://2130706433:${other.port}/` },
    { name: 'loopback by hex', url: () => `http://0x7f.1:${other.port}/` },
    { name: 'loopback by octal', url: () => `http://0177.0.0.1:${other.port}/` },
    { name: 'loopback as no address', url: () => `http://0.0.0.0:${other.port}/` },
    { name: 'loopback as IPv6', url: () => `http://[::1]:${other.port}/` },
    { name: 'loopback as IPv4-mapped IPv6', url: () => `http://[::ffff:127.0.0.1]:${other.port}/` },
    {
      name: 'loopback as a name of ours',
      url: () => `http://evil.example:${other.port}/`,
      lookup: async () => [{ address: '127.0.0.1', family: 4 }],
    },
    { name: 'the metadata address', url: () => 'http://169.254.169.254/latest/meta-data/' },
    { name: 'a file', url: () => 'file:///etc/passwd' },
    { name: 'another protocol', url: () => 'gopher://127.0.0.1:70/' },
    { name: 'a redirect to another port', url: () => at('/other-port') },
    { name: 'a redirect to the metadata address', url: () => at('/metadata') },
    { name: 'a redirect to a decimal address', url: () => at('/decimal') },
    { name: 'a redirect to a mapped address', url: () => at('/mapped') },
    { name: 'a redirect to a file', url: () => at('/local-file') },
  ]
  it.each(targets)('$name is refused with fetching off', async ({ url, lookup }) => {
    await expect(get({ url: url() }, [], LIMITS, lookup)).rejects.toMatchObject({
      code: 'FETCH_FORBIDDEN',
      statusCode: 403,
      hint: expect.stringContaining('--allow-fetch'),
    })
  })
  it.each(targets)('$name is refused with an allow-list that does not name it', async ({ url, lookup }) => {
    const before = other.seen.length
    const allow = [`127.0.0.1:${main.port}`, '10.0.0.0/8', '0.0.0.0/0', 'evil.example']
    await expect(get({ url: url() }, allow, LIMITS, lookup)).rejects.toMatchObject({ code: 'FETCH_FORBIDDEN' })
    expect(other.seen.length).toBe(before)
  })
  it('a name that changes its address after the check is connected to where it was checked', async () => {
    const before = other.seen.length
    const limits = { ...LIMITS, seconds: 0.5, silenceSeconds: 0.3 }
    // The first answer is a private address where nobody is; the second would be our own machine.
    await expect(
      get({ url: `http://turncoat.example:${other.port}/` }, ['10.0.0.0/8'], limits, turncoat()),
    ).rejects.toMatchObject({
      code: 'FETCH_FAILED',
    })
    expect(other.seen.length).toBe(before)
  })
})
