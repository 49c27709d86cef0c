/**
 * Three servers on one workspace behind HAProxy (deploy/haproxy/haproxy.cfg), twenty clients with sessions and clicks, and
 * autocannon beside them; servers are killed, stopped in order and started again. Every request is in the tally: answered
 * rightly, or lost with the server that was killed while it had it, and answered rightly when sent again.
 */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { clickConfig } from '../helpers/click-model.js'
import { formData } from '../helpers/form-data.js'
import { haproxy, startHaproxy } from '../helpers/haproxy.js'
import { freePort, type Peer } from '../helpers/peer-process.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, volumeOf } from '../helpers/volumes.js'

/** Times that all three servers are ended and started again; AIDANT_LONG=1 takes some minutes, AIDANT_ROUNDS=n does n of them. */
const ROUNDS = Number(process.env.AIDANT_ROUNDS ?? (process.env.AIDANT_LONG ? 12 : 1))
const CLIENTS = 20
const CLICKS_A_SESSION = 4
/** Between one end of a server and the next, so that the clients meet all three. */
const PAUSE_MS = process.env.AIDANT_LONG ? 4000 : 1000
/** HAProxy's check looks every second. */
const FLAGS = ['--auto-reload', '--log-level', 'silent', '--shutdown-delay', '3', '--max-queued-jobs', '64']
const run = promisify(execFile)
const autocannon = createRequire(import.meta.url).resolve('autocannon/autocannon.js')

type Servers = [ServerProcess, ServerProcess, ServerProcess]

/** A request that did not get its answer. */
interface Lost {
  readonly what: string
  readonly status: number
  /** HAProxy's name of the server that had it. */
  readonly server: string | null
  readonly began: number
  readonly ended: number
}

interface Kill {
  readonly server: string
  readonly at: number
}

const NAMES = ['one', 'two', 'three'] as const
const SCANS = [0, 1, 2, 3]
const CLICKS: readonly (readonly [number, number, number])[] = [
  [4, 5, 1],
  [10, 9, 4],
  [15, 12, 6],
]

/** The mask itself: what a compressor makes of it may differ from version to version. */
const maskOf = (bytes: Buffer) => gunzipSync(bytes).toString('base64')

const clickOn = (session: string, click: readonly number[]) => ({
  path: `/v1/deepgrow?model=clicker&session_id=${session}&output=image`,
  init: () => ({ method: 'POST', body: formData({ params: JSON.stringify({ foreground: [click], background: [] }) }) }),
})

describe.skipIf(!haproxy)('three servers behind a proxy (skipped without HAProxy)', () => {
  let folder: string
  let servers: Servers
  let proxy: Peer & { readonly url: string }
  let ports: [number, number, number]
  let scans: Buffer[]
  /** By scan and click, as one server gave them while nothing was wrong. */
  let answers: string[][]

  const start = (which: number) =>
    ServerProcess.startCompiled(join(folder, 'workspace'), [...FLAGS, '--port', String(ports[which])])

  async function ok(reply: Response): Promise<Buffer> {
    const bytes = Buffer.from(await reply.arrayBuffer())
    if (reply.status !== 200) throw new Error(`${reply.status} ${bytes.toString('latin1', 0, 300)}`)
    return bytes
  }

  async function openSession(url: string, scan: number): Promise<string> {
    const bytes = await ok(await fetch(`${url}/session/`, { method: 'PUT', body: formData({ image: scans[scan]! }) }))
    return (JSON.parse(bytes.toString()) as { session_id: string }).session_id
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'aidant-scale-'))
    ports = [await freePort(), await freePort(), await freePort()]
    servers = [await start(0), await start(1), await start(2)]
    proxy = await startHaproxy(ports)
    scans = []
    for (const scan of SCANS) {
      const path = await niftiFile(folder, volumeOf([40, 36, 20], { value: noise(scan + 1) }))
      scans.push(await readFile(path))
    }
    const data = readFileSync(new URL('../fixtures/models/guidance_2d.onnx', import.meta.url))
    const model = formData({ config: JSON.stringify(clickConfig(2)), data })
    await ok(await fetch(`${proxy.url}/admin/model/clicker`, { method: 'PUT', body: model }))
    const known = async ({ url }: ServerProcess) => void (await ok(await fetch(`${url}/v1/models?model=clicker`)))
    for (const server of servers) await vi.waitFor(() => known(server), { timeout: 30_000, interval: 100 })

    const [one] = servers
    answers = []
    for (const scan of SCANS) {
      const session = await openSession(one.url, scan)
      const masks: string[] = []
      for (const click of CLICKS) {
        const { path, init } = clickOn(session, click)
        masks.push(maskOf(await ok(await fetch(one.url + path, init()))))
      }
      answers.push(masks)
    }
    // Were two alike, an answer to somebody else's question could pass.
    expect(new Set(answers.flat()).size).toBe(SCANS.length * CLICKS.length)
  })

  afterAll(async () => {
    await proxy?.stop()
    for (const server of servers ?? []) await server.end('SIGKILL')
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  })

  it('any server knows a session, and has the same answer', async () => {
    const session = await openSession(proxy.url, 2)
    const { path, init } = clickOn(session, CLICKS[1]!)
    const seen = new Set<string | null>()
    for (let i = 0; i < 6; i++) {
      const reply = await fetch(proxy.url + path, init())
      seen.add(reply.headers.get('x-served-by'))
      expect(maskOf(await ok(reply))).toBe(answers[2]![1])
    }
    expect([...seen].sort()).toEqual(['one', 'three', 'two'])
  })

  it('an asynchronous result is found at the server that has it', async () => {
    const session = await openSession(proxy.url, 1)
    for (let i = 0; i < 4; i++) {
      const { path, init } = clickOn(session, CLICKS[0]!)
      const accepted = await fetch(`${proxy.url}${path}&async=true`, init())
      expect(accepted.status).toBe(202)
      const result = `${proxy.url}${accepted.headers.get('location')}`
      let reply = await fetch(result)
      for (; reply.status === 202; reply = await fetch(result)) await wait(20)
      expect(reply.headers.get('x-served-by')).toBe(accepted.headers.get('x-served-by'))
      expect(maskOf(await ok(reply))).toBe(answers[1]![0])
    }
  })

  it.each(['/admin/model', '//admin/model', '/%61dmin/model', '/ADMIN/model', '/logs', '/metrics', '/admin'])(
    '%s is for the inside alone',
    async (path) => {
      const outside = await startHaproxy(ports, '10.0.0.0/8')
      try {
        expect((await fetch(outside.url + path)).status).toBe(403)
        expect((await fetch(`${outside.url}/v1/models`)).status).toBe(200)
      } finally {
        await outside.stop()
      }
    },
  )

  it(`${ROUNDS} times each server ended and started again: nothing is lost but with a killed server`, {
    timeout: 3600_000,
  }, async () => {
    let busy = true
    const lost: Lost[] = []
    const kills: Kill[] = []
    let asked = 0
    const servedBy: Record<string, number> = {}

    /** Sends it until it is answered; whatever is not an answer is noted. */
    const insist = async (what: string, path: string, init: () => RequestInit, fine: readonly number[] = [200]) => {
      for (let tries = 0; ; tries++) {
        const began = Date.now()
        asked++
        // Everything between us and HAProxy is sound: a connection that breaks there fails the test.
        const reply = await fetch(proxy.url + path, init())
        const bytes = Buffer.from(await reply.arrayBuffer())
        const server = reply.headers.get('x-served-by')
        if (fine.includes(reply.status) || (tries > 0 && what === 'end' && reply.status === 404)) {
          servedBy[server!] = (servedBy[server!] ?? 0) + 1
          return bytes
        }
        lost.push({ what, status: reply.status, server, began, ended: Date.now() })
        if (tries > 2) throw new Error(`${what}: ${reply.status} ${bytes.toString('latin1', 0, 300)}`)
      }
    }

    const client = async (id: number) => {
      for (let turn = 0; busy; turn++) {
        const scan = (id + turn) % SCANS.length
        const opened = await insist('open', '/session/', () => ({
          method: 'PUT',
          body: formData({ image: scans[scan]! }),
        }))
        const { session_id: session } = JSON.parse(opened.toString()) as { session_id: string }
        for (let i = 0; i < CLICKS_A_SESSION; i++) {
          const which = (id + i) % CLICKS.length
          const { path, init } = clickOn(session, CLICKS[which]!)
          expect(maskOf(await insist('click', path, init))).toBe(answers[scan]![which])
        }
        await insist('end', `/session/${session}`, () => ({ method: 'DELETE' }))
      }
    }

    const cannon = await startAutocannon()
    const clients = Promise.all(Array.from({ length: CLIENTS }, (_, id) => client(id)))
    // A client that fails ends the test now, not after all the rounds.
    const orFailure = <T>(work: Promise<T>): Promise<T> => Promise.race([work, clients.then(() => work)])
    try {
      for (let round = 0; round < ROUNDS; round++)
        for (const [which, name] of NAMES.entries()) {
          await orFailure(wait(PAUSE_MS))
          // Two of three are killed in the middle of what they do, the third is told to end, as for an update.
          const killed = (round + which) % 3 !== 2
          if (killed) kills.push({ server: name, at: Date.now() })
          const code = await orFailure(servers[which]!.end(killed ? 'SIGKILL' : 'SIGTERM'))
          if (!killed) expect(code).toBe(0)
          await orFailure(wait(PAUSE_MS))
          servers[which] = await orFailure(start(which))
        }
      await orFailure(wait(PAUSE_MS))
    } finally {
      busy = false
      await Promise.allSettled([clients])
    }
    await clients
    const hits = await cannon.stop()
    console.log(
      `scale-out: ${asked} requests of ${CLIENTS} clients (${JSON.stringify(servedBy)}), ${kills.length} kills, ` +
        `${lost.length} lost with a killed server and answered when sent again; autocannon: ${JSON.stringify(hits)}`,
    )

    for (const { what, status, server, began, ended } of lost) {
      const why = `${what} ${status} by ${server}`
      expect([502, 503], why).toContain(status)
      const cause = kills.find((kill) => kill.server === server && kill.at >= began - 1000 && kill.at <= ended)
      expect(cause, `${why}: in nobody's hands who was killed`).toBeDefined()
    }
    expect(lost.length).toBeLessThanOrEqual(kills.length * CLIENTS)
    for (const name of NAMES) expect(servedBy[name]).toBeGreaterThan(0)
    expect(Object.values(servedBy).reduce((sum, n) => sum + n, 0)).toBe(asked - lost.length)
    expect(hits.right).toBeGreaterThan(0)
    expect([hits.wrong, hits.broken]).toEqual([0, 0])
    expect(hits.refused).toBeLessThanOrEqual(kills.length * AUTOCANNON_CONNECTIONS)
    for (const server of servers) expect(await server.end('SIGTERM')).toBe(0)
  })

  const AUTOCANNON_CONNECTIONS = 8

  /** Clicks at one place of one session again and again; the numbers it gets are always the same. */
  async function startAutocannon() {
    const session = await openSession(proxy.url, 3)
    const url = `${proxy.url}/v1/deepgrow?model=clicker&session_id=${session}&output=results`
    const type = 'multipart/form-data; boundary=cannon'
    const body =
      '--cannon\r\ncontent-disposition: form-data; name="params"\r\n\r\n{"foreground":[[10,9,4]]}\r\n--cannon--\r\n'
    const input = join(folder, 'click')
    await writeFile(input, body)
    const init = { method: 'POST', headers: { 'content-type': type }, body }
    const expected = (await ok(await fetch(url, init))).toString()
    const flags = {
      connections: AUTOCANNON_CONNECTIONS,
      overallRate: AUTOCANNON_CONNECTIONS,
      duration: 3,
      timeout: 60,
      method: 'POST',
      headers: `content-type=${type}`,
      input,
      expectBody: expected,
    }
    const words = ['--json', ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]), url]
    const sum = { right: 0, wrong: 0, refused: 0, broken: 0 }
    let busy = true
    const work = async () => {
      while (busy) {
        const { stdout, stderr } = await run(process.execPath, [autocannon, ...words])
        if (!stdout.startsWith('{')) throw new Error(`autocannon gives no tally: ${stderr}`)
        const tally = JSON.parse(stdout) as Record<'2xx' | 'non2xx' | 'mismatches' | 'errors', number>
        sum.right += tally['2xx']
        sum.wrong += tally.mismatches - tally.non2xx
        sum.refused += tally.non2xx
        sum.broken += tally.errors
      }
      return sum
    }
    const working = work()
    return {
      stop: () => {
        busy = false
        return working
      },
    }
  }
})

/** What no compressor makes small: an upload that does not fit a buffer of HAProxy's. */
const noise = (seed: number) => () => {
  seed = (seed * 48_271) % 2_147_483_647
  return seed % 500
}
