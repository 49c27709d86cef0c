/**
 * Throughput of several servers on one workspace behind HAProxy against one:  npm run build && npx tsx bench/scale-out.ts [SERVERS]
 *
 * deepgrow_2d clicks in sessions of a CT of 512 x 512 x 64, from four clients a server, each of which clicks again when it has
 * its mask. Every server, with its runners, is pinned to a core of its own (taskset; Linux), so there are as many as cores at most; clients
 * and HAProxy run where there is room. One server and several take turns, so that both meet what else the machine does.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { startHaproxy } from '../test/helpers/haproxy.js'
import { freePort } from '../test/helpers/peer-process.js'
import { scanOf } from './compiled-server.js'

const SERVERS = Math.min(Number(process.argv[2] ?? 3), 3, availableParallelism())
const CLIENTS_A_SERVER = 4
const SECONDS = Number(process.env.SECONDS ?? 15)
const ROUNDS = Number(process.env.ROUNDS ?? 3)
const GOAL = 0.9

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))

async function startPinned(core: number, port: number): Promise<() => Promise<void>> {
  const words = [main, 'serve', '--port', String(port), '--workspace', join(folder, 'workspace'), '--auto-reload']
  const child = spawn('taskset', ['-c', String(core), process.execPath, ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  for await (const line of createInterface({ input: child.stderr })) if (line.includes('listens on')) break
  child.stderr.resume()
  return async () => {
    child.kill()
    await once(child, 'exit')
  }
}

async function ok(reply: Response): Promise<Response> {
  if (!reply.ok) throw new Error(`${reply.status} ${await reply.text()}`)
  return reply
}

/** Gives the milliseconds that the network itself took. */
async function click(url: string, session: string, step: number): Promise<number> {
  const body = new FormData()
  body.append(
    'params',
    JSON.stringify({ foreground: [[200 + ((step * 7) % 90), 220 + ((step * 5) % 80), 32]], background: [] }),
  )
  const path = `/v1/deepgrow?model=deepgrow_2d&session_id=${session}&output=image`
  const reply = await ok(await fetch(url + path, { method: 'POST', body }))
  await reply.arrayBuffer()
  return Number(/infer;dur=([\d.]+)/.exec(reply.headers.get('server-timing') ?? '')?.[1] ?? Number.NaN)
}

/** Clicks a second over `count` servers. */
async function throughput(count: number): Promise<number> {
  const ports = [await freePort(), await freePort(), await freePort()] as [number, number, number]
  const stops = await Promise.all(ports.slice(0, count).map((port, core) => startPinned(core, port)))
  const proxy = await startHaproxy(ports)
  try {
    const scan = scanOf(512, 512, 64)
    const sessions: string[] = []
    for (let i = 0; i < CLIENTS_A_SERVER * count; i++) {
      const body = new FormData()
      body.append('image', scan, 'scan.nii')
      const reply = await ok(await fetch(`${proxy.url}/session/`, { method: 'PUT', body }))
      sessions.push(((await reply.json()) as { session_id: string }).session_id)
    }
    // Every server has every session's image at hand before it counts.
    for (const port of ports.slice(0, count))
      for (const session of sessions) await click(`http://127.0.0.1:${port}`, session, 0)
    const network: number[] = []
    const end = performance.now() + SECONDS * 1000
    await Promise.all(
      sessions.map(async (session, client) => {
        for (let step = client; performance.now() < end; step++) {
          network.push(await click(proxy.url, session, step))
        }
      }),
    )
    console.log(`  ${count} server(s): the network alone takes ${median(network).toFixed(0)} ms of a click`)
    return network.length / SECONDS
  } finally {
    await proxy.stop()
    for (const stop of stops) await stop()
  }
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!

try {
  if (SERVERS < 2) throw new Error('this machine has one core: nothing to compare')
  const one: number[] = []
  const several: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    one.push(await throughput(1))
    several.push(await throughput(SERVERS))
    console.log(
      `round ${round + 1}: 1 server ${one.at(-1)!.toFixed(1)}, ${SERVERS} servers ${several.at(-1)!.toFixed(1)} clicks/s`,
    )
  }
  const ratio = median(several) / median(one)
  const each = (ratio - 1) / (SERVERS - 1)
  console.log(
    `${SERVERS} servers of one core each: ${ratio.toFixed(2)} x one; ${each.toFixed(2)} x per added core (goal ${GOAL})`,
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}
