/**
 * Whether the server answers while it computes:  npm run build && npx tsx bench/responsiveness.ts [SECONDS]
 *
 * GET /v1/models and /health/live, each ten times a second on a kept connection, first on an idle server, then while a
 * job of SECONDS (default 60) keeps every core busy. Then the server's own memory during an upload of 300 MB.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { memoryOf, publish, scanOf, segment, startCompiledServer } from './compiled-server.js'

const seconds = Number(process.argv[2] ?? 60)
const agent = new Agent({ keepAlive: true })
const workspace = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
const server = await startCompiledServer(workspace)

function ask(path: string): Promise<number> {
  const start = performance.now()
  return new Promise((resolve, reject) => {
    get(`${server.url}${path}`, { agent }, (reply) => {
      reply.resume().on('end', () => resolve(performance.now() - start))
    }).on('error', reject)
  })
}

async function sample(until: () => boolean, what: string): Promise<void> {
  for (const path of ['/v1/models', '/health/live']) await ask(path)
  const times: Record<string, number[]> = { '/v1/models': [], '/health/live': [] }
  while (!until()) {
    for (const [path, list] of Object.entries(times)) list.push(await ask(path))
    await sleep(100)
  }
  for (const [path, list] of Object.entries(times)) {
    const sorted = list.sort((a, b) => a - b)
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!.toFixed(1)
    console.log(
      `${what}: GET ${path}: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms (${list.length} requests)`,
    )
  }
}

try {
  const windows = { args: { scanning_window: true, roi: [16, 16, 16], overlap: 0, batch_size: 1 } }
  await publish(server.url, 'slow', 'slow', windows)
  await segment(server.url, 'slow', scanOf(16, 16, 16))
  const before = performance.now()
  await segment(server.url, 'slow', scanOf(16, 16, 16 * 20))
  const perWindow = (performance.now() - before) / 20_000
  const idleUntil = performance.now() + 10_000
  await sample(() => performance.now() > idleUntil, 'idle')
  let done = false
  const start = performance.now()
  const windowsWanted = seconds / perWindow
  const edge = Math.ceil(Math.cbrt(windowsWanted))
  const scan = scanOf(16 * edge, 16 * edge, 16 * Math.ceil(windowsWanted / edge ** 2))
  const job = segment(server.url, 'slow', scan).finally(() => {
    done = true
  })
  await sample(() => done, 'while a job runs')
  await job
  console.log(`the job took ${((performance.now() - start) / 1000).toFixed(0)} s`)

  const idle = memoryOf(server.pid, 'VmRSS')
  const body = new FormData()
  body.append('image', scanOf(512, 512, 573), 'scan.nii')
  const reply = await fetch(`${server.url}/session/`, { method: 'PUT', body })
  if (!reply.ok) throw new Error(await reply.text())
  const mb = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MB`
  console.log(`upload of 300 MB: server ${mb(idle)} before, ${mb(memoryOf(server.pid, 'VmHWM'))} at most`)
} finally {
  agent.destroy()
  await server.stop()
  rmSync(workspace, { recursive: true, force: true })
}
