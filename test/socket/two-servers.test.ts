/** Two whole servers with --auto-reload on one workspace, models changing on both, requests all the while. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, modelConfig, variant } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'

/** AIDANT_LONG=1 does the hundred changes of the acceptance; every change of weights is proved in a process of its own. */
const CHANGES = process.env.AIDANT_LONG ? 100 : 12
const NAMES = ['a', 'b', 'c']
const FLAGS = ['--auto-reload', '--log-level', 'silent']

const onnx = fixtureModel('threshold.onnx')
const image = niftiBytes({ dim: [3, 4, 4, 4], datatype: 16, voxels: Array.from({ length: 64 }, (_, i) => i / 64) })

test(`${CHANGES} changes on either, one killed and restarted: both end alike, requests see 404 or 503 at worst`, {
  timeout: 600_000,
}, async () => {
  const workspace = await mkdtemp(join(tmpdir(), 'aidant-two-'))
  const servers = await Promise.all([ServerProcess.start(workspace, FLAGS), ServerProcess.start(workspace, FLAGS)])
  let seed = 4711
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((seed / 2_147_483_648) * below)
  }
  let killing: ServerProcess | undefined
  /** Connections to a server that is being killed may break; no others. */
  const ask = async (server: ServerProcess, path: string, init?: RequestInit) => {
    try {
      const reply = await fetch(`${server.url}${path}`, init)
      return { status: reply.status, body: await reply.text() }
    } catch (error) {
      if (server === killing || !servers.includes(server)) return { status: 503, body: 'killed' }
      throw error
    }
  }
  const form = (parts: Record<string, Blob>) => {
    const body = new FormData()
    for (const [name, blob] of Object.entries(parts)) body.append(name, blob, name)
    return body
  }

  let busy = true
  const seen = new Map<number, number>()
  const requests = [0, 1].map(async (which) => {
    for (let i = 0; busy; i++) {
      const url = `/v1/segmentation?model=${NAMES[i % NAMES.length]}&output=results`
      const reply = await ask(servers[which]!, url, {
        method: 'POST',
        body: form({ image: new Blob([image as BlobPart]) }),
      })
      seen.set(reply.status, (seen.get(reply.status) ?? 0) + 1)
      expect([200, 404, 503], reply.body).toContain(reply.status)
    }
  })

  const killAt = 4 + random(CHANGES - 8)
  const changes = async () => {
    for (let i = 0; i < CHANGES; i++) {
      const which = random(2)
      const server = servers[which]!
      const name = NAMES[random(NAMES.length)]!
      const op = ['PUT', 'PUT', 'PATCH', 'DELETE'][random(4)]!
      const config = JSON.stringify(modelConfig({ labels: [`label ${i}`] }))
      const data = variant(onnx, `version ${i}`)
      const body =
        op === 'PUT'
          ? form({ config: new Blob([config]), data: new Blob([data as unknown as BlobPart]) })
          : op === 'PATCH'
            ? config
            : null
      const headers: Record<string, string> = op === 'PATCH' ? { 'content-type': 'application/json' } : {}
      const asked = ask(server, `/admin/model/${name}`, { method: op, body, headers })
      if (i === killAt) {
        killing = server
        await server.end('SIGKILL')
        servers[which] = await ServerProcess.start(workspace, FLAGS)
      }
      const reply = await asked
      expect([200, 404, 503], reply.body).toContain(reply.status)
    }
  }
  try {
    await changes()
    busy = false
    await Promise.all(requests)
    const list = async (server: ServerProcess) => {
      const models: Record<string, unknown>[] = JSON.parse((await ask(server, '/admin/model')).body)
      return JSON.stringify(
        models
          .filter(({ origin }) => origin === 'workspace')
          .map(({ name, revision, generation }) => [name, revision, generation]),
      )
    }
    const difference = async () => {
      const [one, two] = await Promise.all(servers.map(list))
      return one === two ? 'none' : `${one} and ${two}`
    }
    await expect.poll(difference, { timeout: 5_000, interval: 200 }).toBe('none')
    expect(seen.get(200)).toBeGreaterThan(0)
    for (const server of servers) expect(await server.end('SIGTERM')).toBe(0)
  } finally {
    busy = false
    await Promise.allSettled(requests)
    for (const server of servers) await server.end('SIGKILL')
    await rm(workspace, { recursive: true, force: true })
  }
})
