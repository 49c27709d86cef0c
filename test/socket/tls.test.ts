/** https, as clients meet it: curl, the way of NVIDIA's Python client, the command line; and files exchanged under load. */
import { execFile } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { join } from 'node:path'
import { connect, type PeerCertificate } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canMakeCertificates, makeCertificate, type Pair } from '../helpers/certificates.js'
import { pythonWith } from '../helpers/python.js'
import { ServerProcess } from '../helpers/server-process.js'
import { tempFolder } from '../helpers/volumes.js'

const run = promisify(execFile)
const TOKEN = 'ward-0123456789abcdef'
const SCAN = fileURLToPath(new URL('../golden/transform-hippocampus.nii.gz', import.meta.url))
const CLIENT = fileURLToPath(new URL('../helpers/https_client.py', import.meta.url))
const AIDANT = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

describe.skipIf(!canMakeCertificates)('https (skipped without openssl)', () => {
  let folder: Awaited<ReturnType<typeof tempFolder>>
  let first: Pair
  let second: Pair
  let shown: Pair
  let tokens: string
  let server: ServerProcess

  beforeAll(async () => {
    folder = await tempFolder()
    first = makeCertificate(folder.path, 'first')
    second = makeCertificate(folder.path, 'second')
    shown = { cert: join(folder.path, 'server.crt'), key: join(folder.path, 'server.key'), passphrase: '' }
    show(first)
    tokens = join(folder.path, 'tokens')
    writeFileSync(tokens, `ward:${TOKEN}\n`, { mode: 0o600 })
    const tls = ['--ssl', '--ssl_cert_file', shown.cert, '--ssl_pkey_file', shown.key]
    server = await ServerProcess.startCompiled(join(folder.path, 'ws'), [...tls, '--api-token-file', tokens])
  })
  afterAll(async () => {
    await server?.end('SIGTERM')
    await folder[Symbol.asyncDispose]()
  })

  /** Puts the pair where the server looks, each file at once. */
  function show(pair: Pair) {
    for (const part of ['cert', 'key'] as const) {
      copyFileSync(pair[part], `${shown[part]}.new`)
      renameSync(`${shown[part]}.new`, shown[part])
    }
  }

  const port = () => Number(new URL(server.url).port)
  const ca = () => [readFileSync(first.cert), readFileSync(second.cert)]

  /** The certificate that a new connection is shown. */
  function seen(versions: { minVersion?: 'TLSv1'; maxVersion?: 'TLSv1.1' | 'TLSv1.2' } = {}): Promise<PeerCertificate> {
    return new Promise((resolve, reject) => {
      const ciphers = versions.minVersion ? { ciphers: 'ALL:@SECLEVEL=0' } : {}
      const socket = connect({ port: port(), host: '127.0.0.1', ca: ca(), ...versions, ...ciphers }, () => {
        resolve(socket.getPeerCertificate())
        socket.destroy()
      })
      socket.on('error', reject)
    })
  }

  test('says its address, and answers health checks, docs and a token', async () => {
    expect(server.url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/)
    const status = async (path: string, headers = {}) => (await get(new Agent({ ca: ca() }), path, headers)).status
    expect(await status('/health/ready')).toBe(200)
    expect(await status('/docs')).toBe(401)
    expect(await status('/docs', { authorization: `Bearer ${TOKEN}` })).toBe(200)
  })

  function get(agent: Agent, path: string, headers: object = {}): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const asked = request({ agent, host: '127.0.0.1', port: port(), path, headers: { ...headers } }, (reply) => {
        const chunks: Buffer[] = []
        reply.on('data', (chunk) => chunks.push(chunk))
        reply.on('error', reject)
        reply.on('end', () => resolve({ status: reply.statusCode!, body: Buffer.concat(chunks).toString() }))
      })
      asked.on('error', reject)
      asked.end()
    })
  }

  test('speaks TLS 1.2 and newer only', async () => {
    expect((await seen({ maxVersion: 'TLSv1.2' })).subject.CN).toBe('first')
    await expect(seen({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1' })).rejects.toThrow(/protocol|version|alert/i)
  })

  test('plain http to its port ends the connection', async () => {
    await expect(fetch(server.url.replace('https', 'http'))).rejects.toThrow()
  })

  test('curl works with the certificate, and with a token in the address', async () => {
    const address = `${server.url.replace('//', `//me:${TOKEN}@`)}/v1/models`
    const { stdout } = await run('curl', ['-sS', '--cacert', first.cert, address])
    expect(JSON.parse(stdout)).toContainEqual(expect.objectContaining({ name: 'hippocampus_mri' }))
    await expect(run('curl', ['-sS', address])).rejects.toThrow(/certificate/)
  })

  const python = pythonWith(['cgi', 'http.client', 'ssl'])

  test.skipIf(!python)(
    "NVIDIA's Python client works, with the token before the path (skipped without Python < 3.13)",
    async () => {
      const words = ['-W', 'ignore', CLIENT, `${server.url}/token/${TOKEN}`, 'hippocampus_mri', SCAN]
      const told = JSON.parse((await run(python!, words)).stdout)
      expect(told).toMatchObject({
        session: 200,
        closed: 200,
        status: 200,
        fields: ['params'],
        filename: 'aas_result.nii.gz',
      })
      expect(told.bytes).toBeGreaterThan(100)
      expect(told.models).toContain('hippocampus_mri')
    },
  )

  test('aidant works with --ca, with --insecure, and says why without', async () => {
    const aidant = (...flags: string[]) =>
      run(process.execPath, [
        '--import',
        'tsx',
        AIDANT,
        'segment',
        SCAN,
        '-m',
        'hippocampus_mri',
        '-o',
        join(folder.path, 'labels.nii.gz'),
        '--server',
        server.url,
        '--token',
        TOKEN,
        ...flags,
      ])
    await aidant('--ca', first.cert)
    await aidant('--insecure')
    await expect(aidant()).rejects.toMatchObject({
      stderr: expect.stringContaining('the certificate of the server is not believed'),
    })
  })

  test('a new certificate and new tokens on SIGHUP cost no request under way', async () => {
    const agents = Array.from({ length: 6 }, () => new Agent({ ca: ca(), keepAlive: true, maxSockets: 1 }))
    const headers = { authorization: `Bearer ${TOKEN}` }
    let isOver = false
    const tally = { asked: 0, answered: 0 }
    const client = async (agent: Agent) => {
      while (!isOver) {
        tally.asked++
        const { status, body } = await get(agent, '/v1/models?model=hippocampus_mri', headers)
        expect([status, JSON.parse(body).name]).toEqual([200, 'hippocampus_mri'])
        tally.answered++
      }
      agent.destroy()
    }
    const clients = Promise.all(agents.map(client))
    for (let round = 0; round < 6; round++) {
      const pair = round % 2 === 0 ? second : first
      show(pair)
      writeFileSync(`${tokens}.new`, `ward:${TOKEN}\nround:${'r'.repeat(20)}${round}\n`, { mode: 0o600 })
      renameSync(`${tokens}.new`, tokens)
      process.kill(server.pid, 'SIGHUP')
      // A new connection is shown the new certificate soon, and a new token holds.
      while ((await seen()).subject.CN !== (round % 2 === 0 ? 'second' : 'first'));
      const fresh = { authorization: `Bearer ${'r'.repeat(20)}${round}` }
      const agent = new Agent({ ca: ca() })
      while ((await get(agent, '/v1/models', fresh)).status !== 200);
    }
    isOver = true
    await clients
    expect(tally.answered).toBe(tally.asked)
    expect(tally.answered).toBeGreaterThan(50)
  })

  test('a broken pair changes nothing, and the log says so', async () => {
    const before = (await seen()).subject.CN
    writeFileSync(shown.key, 'not a key')
    process.kill(server.pid, 'SIGHUP')
    while (!server.output.includes('certificate not read anew')) await seen()
    expect((await seen()).subject.CN).toBe(before)
  })
})

describe.skipIf(!canMakeCertificates)('a server that cannot show a certificate does not start', () => {
  test.each([
    { flags: () => ['--ssl'], said: /--ssl-cert: must name[\s\S]*--ssl-key: must name/ },
    { flags: (pair: Pair) => ['--ssl-cert', pair.cert], said: /--ssl-key: must name the private key/ },
    {
      flags: (pair: Pair) => ['--ssl-cert', pair.cert, '--ssl-key', pair.cert],
      said: /--ssl-key: there is no private key/,
    },
    { flags: () => ['--ssl', 'perhaps'], said: /--ssl: must be true, false or auto/ },
  ])('$said', async ({ flags, said }) => {
    await using folder = await tempFolder()
    const pair = makeCertificate(folder.path, 'a')
    await expect(ServerProcess.startCompiled(join(folder.path, 'ws'), flags(pair))).rejects.toThrow(said)
  })
})
