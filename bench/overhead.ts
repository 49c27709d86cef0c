/**
 * What the server itself costs, against another build of it:
 *   npm run build && npx tsx bench/overhead.ts OTHER/dist [ROUNDS]
 *
 * In each round both are started in turn, as processes of their own: the time until each listens, GET /health/live on a
 * kept connection, the first session (whose runner starts with it), and clicks in it on a network that takes next to no time.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { publish, scanOf } from './compiled-server.js'

const HEALTH_CALLS = 400
const CLICKS = 40

const [other, rounds = '5'] = process.argv.slice(2)
if (other === undefined) throw new Error('name the dist/ folder of the other build')
const builds = { other, own: fileURLToPath(new URL('../dist', import.meta.url)) }
const noFigures = () => ({
  start: [] as number[],
  health: [] as number[],
  session: [] as number[],
  click: [] as number[],
})
const figures = { other: noFigures(), own: noFigures() }

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

async function measure(build: keyof typeof builds): Promise<void> {
  const workspace = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
  const began = performance.now()
  const words = [join(builds[build], 'cli/main.js'), 'serve', '--port', '0', '--workspace', workspace]
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] })
  let url = ''
  for await (const line of createInterface({ input: child.stderr })) {
    url = /listens on (\S+)/.exec(line)?.[1] ?? ''
    if (url !== '') break
  }
  if (url === '') throw new Error(`the server of ${builds[build]} did not start: build it with npm run build`)
  figures[build].start.push(performance.now() - began)
  child.stderr.resume()
  try {
    const agent = new Agent({ keepAlive: true })
    const health = () =>
      new Promise((resolve, reject) => {
        get(`${url}/health/live`, { agent }, (reply) => reply.resume().on('end', resolve)).on('error', reject)
      })
    for (let i = 0; i < 50; i++) await health()
    for (let i = 0; i < HEALTH_CALLS; i++) figures[build].health.push(await timed(health))
    const body = new FormData()
    body.append('image', scanOf(64, 64, 32))
    const asked = performance.now()
    const created = (await (await fetch(`${url}/session/`, { method: 'PUT', body })).json()) as { session_id: string }
    figures[build].session.push(performance.now() - asked)
    await publish(url, 'quick', 'threshold')
    const click = async () => {
      const params = new FormData()
      params.append('params', '{}')
      const route = `/v1/inference?model=quick&session_id=${created.session_id}&output=image`
      const reply = await fetch(`${url}${route}`, { method: 'POST', body: params })
      if (!reply.ok) throw new Error(await reply.text())
      await reply.arrayBuffer()
    }
    for (let i = 0; i < 5; i++) await click()
    for (let i = 0; i < CLICKS; i++) figures[build].click.push(await timed(click))
    agent.destroy()
  } finally {
    child.kill()
    await once(child, 'exit')
    rmSync(workspace, { recursive: true, force: true })
  }
}

const at = (values: readonly number[], share: number) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!

// Each goes first as often as the other: what the machine has just read, and how warm it is, favours the second.
for (let round = 0; round < Number(rounds); round++) {
  const order = ['other', 'own'] as const
  for (const build of round % 2 === 0 ? order : order.toReversed()) await measure(build)
}
const row = (what: string, of: (build: keyof typeof builds) => number) =>
  console.log(
    `${what}: other ${of('other').toFixed(1)} ms, own ${of('own').toFixed(1)} ms (${(of('own') / of('other')).toFixed(2)} x)`,
  )
row('start, best', (build) => at(figures[build].start, 0))
row('start, median', (build) => at(figures[build].start, 0.5))
row('GET /health/live, median', (build) => at(figures[build].health, 0.5))
row('GET /health/live, p99', (build) => at(figures[build].health, 0.99))
row('first session, median', (build) => at(figures[build].session, 0.5))
row('warm click, best', (build) => at(figures[build].click, 0))
row('warm click, median', (build) => at(figures[build].click, 0.5))
const load = readFileSync('/proc/loadavg', 'latin1').split(' ')[0]
console.log(`${rounds} rounds; load of the machine at the end ${load}`)
