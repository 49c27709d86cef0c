/** A day's worth of work in fast motion: what a server holds at the end is what it held when it was warm. */
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, modelConfig } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'

/** AIDANT_SOAK=n does n of them; AIDANT_LONG=1 the hundred thousand of the acceptance. */
const REQUESTS = Number(process.env.AIDANT_SOAK ?? (process.env.AIDANT_LONG ? 100_000 : 150))
const WARM = Math.min(2000, REQUESTS / 2)
/** How many are under way at a time. */
const CLIENTS = 6
/** Of the server's own memory; a heap that is collected late moves by tens of MB. */
const MOST_GROWTH_BYTES = 96 * 1024 * 1024

const image = niftiBytes({ dim: [3, 8, 8, 8], datatype: 16, voxels: Array.from({ length: 512 }, (_, i) => i / 512) })
const scan = () => new Blob([image as BlobPart])

interface Held {
  readonly descriptors: number
  readonly children: number
  readonly temporary: number
  readonly sessions: number
  readonly bytes: number
}

test.skipIf(process.platform !== 'linux')(
  `${REQUESTS} mixed requests leave nothing behind (needs /proc)`,
  {
    timeout: 24 * 3600 * 1000,
  },
  async () => {
    const workspace = await mkdtemp(join(tmpdir(), 'aidant-soak-'))
    const flags = ['--log-level', 'silent', '--preload', 'seg', '--max-sessions', '8', '--keep-alive', '-1']
    const server = await ServerProcess.start(workspace, flags)
    const { url, pid } = server
    let seed = 20_240_611
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
      return Math.floor((seed / 2_147_483_648) * below)
    }
    const form = (parts: Record<string, Blob | string>) => {
      const body = new FormData()
      for (const [name, part] of Object.entries(parts)) body.append(name, part)
      return body
    }
    const ask = async (path: string, init?: RequestInit) => {
      const reply = await fetch(`${url}${path}`, init)
      return { status: reply.status, body: await reply.text() }
    }
    const post = (path: string, parts: Record<string, Blob | string>, signal?: AbortSignal) =>
      ask(path, { method: 'POST', body: form(parts), ...(signal ? { signal } : {}) })
    const sessions: string[] = []

    const kinds: readonly (() => Promise<readonly number[]>)[] = [
      async () => [(await post('/v1/segmentation?model=seg', { params: '{}', image: scan() })).status, 200, 503],
      async () => {
        const created = await ask('/session/', { method: 'PUT', body: form({ image: scan() }) })
        if (created.status === 200) sessions.push((JSON.parse(created.body) as { session_id: string }).session_id)
        return [created.status, 200, 503]
      },
      async () => {
        const id = sessions[random(sessions.length)] ?? 'none'
        return [
          (await post(`/v1/segmentation?model=seg&session_id=${id}`, { params: '{}' })).status,
          200,
          440,
          404,
          503,
        ]
      },
      async () => {
        const id = sessions.shift() ?? 'none'
        return [(await ask(`/session/${id}`, { method: 'DELETE' })).status, 200, 404]
      },
      async () => {
        const gone = new AbortController()
        const asking = post('/v1/segmentation?model=seg', { image: scan() }, gone.signal)
        setTimeout(() => gone.abort(), random(30))
        return [await asking.then(({ status }) => status).catch(() => 499), 200, 499, 503]
      },
      async () => [(await post('/v1/segmentation?model=seg', { image: new Blob(['no image']) })).status, 400, 415, 503],
      async () => [(await post('/v1/mask2polygon', { params: '{"more_points": 1}', image: scan() })).status, 200, 503],
      async () => {
        const accepted = await post('/v1/segmentation?model=seg&async=true', { image: scan() })
        if (accepted.status !== 202) return [accepted.status, 503]
        const { id } = JSON.parse(accepted.body) as { id: string }
        return [(await ask(`/v1/requests/${id}`, { method: 'DELETE' })).status, 200]
      },
      async () => [(await ask('/v1/models')).status, 200],
      async () => [(await ask('/health/live')).status, 200],
      async () =>
        random(10) > 0
          ? [200, 200]
          : [(await ask(`/admin/model/seg/${random(2) ? 'unload' : 'load'}`, { method: 'POST' })).status, 200, 503],
    ]
    const work = async (count: number) => {
      let left = count
      const one = async () => {
        while (left-- > 0) {
          const [status, ...allowed] = await kinds[random(kinds.length)]!()
          expect(allowed).toContain(status)
        }
      }
      await Promise.all(Array.from({ length: CLIENTS }, one))
    }
    /** At rest: the model in memory, no session, no request. */
    const atRest = async (): Promise<Held> => {
      for (const id of sessions.splice(0)) await ask(`/session/${id}`, { method: 'DELETE' })
      await ask('/admin/model/seg/load', { method: 'POST' })
      const folder = async (name: string) => (await readdir(join(workspace, name), { recursive: true })).length
      let last: Held | undefined
      const look = async () => {
        const now = {
          descriptors: readdirSync(`/proc/${pid}/fd`).length,
          children: readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').length,
          temporary: await folder('tmp'),
          sessions: await folder('sessions'),
          bytes: Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024,
        }
        const same = last !== undefined && now.descriptors === last.descriptors && now.temporary === last.temporary
        last = now
        return same && now.sessions === last.sessions
      }
      await expect.poll(look, { timeout: 60_000, interval: 1500 }).toBe(true)
      return last!
    }

    try {
      const model = form({
        config: new Blob([JSON.stringify(modelConfig())]),
        data: new Blob([fixtureModel('threshold.onnx') as unknown as BlobPart]),
      })
      expect((await ask('/admin/model/seg', { method: 'PUT', body: model })).status).toBe(200)
      await work(WARM)
      const warm = await atRest()
      await work(REQUESTS - WARM)
      const end = await atRest()
      const { bytes: before, ...held } = warm
      const { bytes: after, ...holds } = end
      // Kept-alive connections of this client come and go.
      expect(holds.descriptors).toBeLessThanOrEqual(held.descriptors + CLIENTS)
      expect(holds.children).toBeLessThanOrEqual(held.children)
      expect([holds.temporary, holds.sessions]).toEqual([held.temporary, held.sessions])
      expect(after - before).toBeLessThan(MOST_GROWTH_BYTES)
      console.log(`soak: ${REQUESTS} requests; at ${WARM}: ${JSON.stringify(warm)}; at the end: ${JSON.stringify(end)}`)
    } finally {
      await server.end('SIGTERM')
      await rm(workspace, { recursive: true, force: true })
    }
  },
)
