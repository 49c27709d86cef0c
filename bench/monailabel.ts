/**
 * What MONAI Label's clients ask all the time, with a datastore of 200 images, 40 of them labelled:
 * npm run build && npx tsx bench/monailabel.ts
 *
 * The median and the worst of 200 calls each of /info/, the next sample by each strategy, and the list; beside them the
 * time of /health/live on the same connection, which is what any call costs.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeVolume } from '../src/formats/write-volume.js'
import { makeVolume } from '../src/volume/volume.js'
import { startCompiledServer } from './compiled-server.js'

const IMAGES = 200
const LABELS = 40
const CALLS = 200

const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
const server = await startCompiledServer(join(folder, 'workspace'), ['--datastore', 'workspace'])
try {
  const path = join(folder, 'scan.nii.gz')
  for (let i = 0; i < IMAGES; i++) {
    const data = new Int16Array(16 ** 3).fill(i)
    await writeVolume(
      makeVolume([16, 16, 16], Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1), data),
      path,
      {
        extension: '.nii.gz',
        kind: 'intensity',
      },
    )
    const scan = new Blob([new Uint8Array(readFileSync(path))])
    await put(`/datastore/?image=scan%20${i}`, 'file', scan)
    if (i < LABELS) await put(`/datastore/label?image=scan%20${i}`, 'label', scan)
  }
  const post = { method: 'POST', body: '{"client_id": "bench"}', headers: { 'content-type': 'application/json' } }
  console.log('| call | median | worst |\n|---|---|---|')
  await measure('/health/live')
  await measure('/info/')
  for (const strategy of ['first', 'random', 'unlabelled']) await measure(`/activelearning/${strategy}`, post)
  await measure('/datastore/?output=all')
} finally {
  await server.stop()
  rmSync(folder, { recursive: true, force: true })
}

async function put(url: string, part: string, blob: Blob): Promise<void> {
  const body = new FormData()
  body.append(part, blob, 'scan')
  const reply = await fetch(`${server.url}${url}`, { method: 'PUT', body })
  if (!reply.ok) throw new Error(`${url}: ${await reply.text()}`)
}

async function measure(url: string, init: RequestInit = {}): Promise<void> {
  const times: number[] = []
  for (let i = 0; i < CALLS; i++) {
    const start = performance.now()
    const reply = await fetch(`${server.url}${url}`, init)
    await reply.arrayBuffer()
    if (!reply.ok) throw new Error(`${url} answered ${reply.status}`)
    times.push(performance.now() - start)
  }
  times.sort((a, b) => a - b)
  const ms = (value: number) => `${value.toFixed(1)} ms`
  console.log(`| ${url} | ${ms(times[CALLS / 2]!)} | ${ms(times.at(-1)!)} |`)
}
