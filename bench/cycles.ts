/**
 * Whether anything is left behind:  npm run build && npx tsx bench/cycles.ts [CYCLES]
 *
 * CYCLES times (default 100): PUT a model, POST a segmentation, DELETE the model. Prints the server's resident memory on
 * the way, and at the end its growth, its child processes and the files under workspace/tmp and workspace/models.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { memoryOf, publish, scanOf, segment, startCompiledServer } from './compiled-server.js'

const cycles = Number(process.argv[2] ?? 100)
const workspace = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
const server = await startCompiledServer(workspace)
const scan = scanOf(32, 32, 32)
const mb = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MB`

function childrenOf(pid: number): number {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).length
}

try {
  const warm = Math.min(10, cycles)
  let first = 0
  for (let cycle = 1; cycle <= cycles; cycle++) {
    await publish(server.url, 'cycled', 'threshold')
    await segment(server.url, 'cycled', scan)
    const reply = await fetch(`${server.url}/admin/model/cycled`, { method: 'DELETE' })
    if (!reply.ok) throw new Error(await reply.text())
    const now = memoryOf(server.pid, 'VmRSS')
    if (cycle === warm) first = now
    if (cycle % 10 === 0) console.log(`cycle ${cycle}: server ${mb(now)}`)
  }
  await sleep(1000)
  const last = memoryOf(server.pid, 'VmRSS')
  console.log(`${cycles} cycles: server grew by ${mb(last - first)} since cycle ${warm}, ${mb(last)} in all`)
  const left = (name: string) => readdirSync(join(workspace, name), { recursive: true }).join(' ') || 'nothing'
  console.log(`left: ${childrenOf(server.pid)} children, in tmp ${left('tmp')}, in models ${left('models')}`)
} finally {
  await server.stop()
  rmSync(workspace, { recursive: true, force: true })
}
