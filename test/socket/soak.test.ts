/**
 * Work in fast motion: thousands of mixed requests, hang-ups, uploads, loads and unloads on one server, and then as many
 * files, descriptors and processes as before, and no more memory than a server that works needs.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { fixtureModel, modelConfig, variant } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, volumeOf } from '../helpers/volumes.js'

/** AIDANT_SOAK=n does n of them; AIDANT_LONG=1 the hundred thousand of the acceptance. */
const REQUESTS = Number(process.env.AIDANT_SOAK ?? (process.env.AIDANT_LONG ? 100_000 : 400))
/** After these the server has everything it ever needs: both halves of the work are alike. */
const WARM_UP = Math.min(2_000, Math.floor(REQUESTS / 2))
const CLIENTS = 4
/** Resident memory goes up and down with the collector's moods; a leak of a kilobyte a request shows in the long version. */
const MEMORY_SLACK = 48 * 1024 * 1024

interface Reply {
  readonly status: number
  readonly body: Buffer
  readonly headers: IncomingMessage['headers']
}

interface Sent {
  readonly method?: string
  readonly parts?: Readonly<Record<string, string | Uint8Array>>
  /** Goes away after this share of the body; 1 is after all of it, before the reply. */
  readonly hangUpAt?: number
}

/** A connection of its own for each request, so that descriptors can be counted. */
async function ask(url: string, { method = 'GET', parts, hangUpAt }: Sent = {}): Promise<Reply | undefined> {
  const form = new FormData()
  for (const [name, part] of Object.entries(parts ?? {})) form.append(name, new Blob([part as BlobPart]), name)
  const encoded = parts ? new Response(form) : undefined
  const type = encoded?.headers.get('content-type') ?? undefined
  const body = encoded ? Buffer.from(await encoded.arrayBuffer()) : Buffer.alloc(0)
  return new Promise((resolve, reject) => {
    const headers = { ...(type ? { 'content-type': type } : {}), ...(parts ? { 'content-length': body.length } : {}) }
    const sending = request(url, { method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({ status: response.statusCode!, body: Buffer.concat(chunks), headers: response.headers }),
      )
    })
    sending.on('error', (error) => (hangUpAt === undefined ? reject(error) : resolve(undefined)))
    if (hangUpAt === undefined) sending.end(body)
    else
      sending.write(body.subarray(0, Math.floor(body.length * hangUpAt)), () => {
        sending.destroy()
        resolve(undefined)
      })
  })
}

test.skipIf(!existsSync('/proc/self/fd'))(
  `after ${REQUESTS} mixed requests there are as many files, descriptors and processes as before (needs /proc)`,
  { timeout: 4 * 3600_000 },
  async () => {
    const workspace = await mkdtemp(join(tmpdir(), 'aidant-soak-'))
    const volume = volumeOf([24, 24, 8], { value: (i) => (i % 97) / 97, make: (n) => new Float32Array(n) })
    const image = await readFile(await niftiFile(workspace, volume))
    await rm(join(workspace, 'image.nii.gz'))
    const onnx = fixtureModel('threshold.onnx')
    const server = await ServerProcess.startCompiled(workspace, ['--log-level', 'error', '--auto-reload'])
    const at = (path: string) => `${server.url}${path}`
    const put = (name: string, text: string) =>
      ask(at(`/admin/model/${name}`), {
        method: 'PUT',
        parts: { config: JSON.stringify(modelConfig()), data: variant(onnx, text) },
      })
    const infer = (query: string, more: Partial<Sent> = {}) =>
      ask(at(`/v1/segmentation?model=organ&${query}`), {
        method: 'POST',
        parts: query.includes('session_id') ? { params: '{}' } : { params: '{}', image },
        ...more,
      })

    /** One of each kind of work; the heavy ones are rare, as they are in life. */
    const work = async (i: number): Promise<void> => {
      const kind = i % 100
      if (kind === 0) {
        const reply = await put(`spare${i % 3}`, `${i}`)
        // Two of three clients may change the same name.
        expect([200, 409]).toContain(reply!.status)
      } else if (kind === 50) {
        expect([200, 404, 409]).toContain((await ask(at(`/admin/model/spare${i % 3}`), { method: 'DELETE' }))!.status)
      } else if (kind === 75) {
        expect((await ask(at('/admin/model/organ/unload'), { method: 'POST' }))!.status).toBe(200)
      } else if (kind % 10 === 1) {
        const made = await ask(at('/session/?expiry=60'), { method: 'PUT', parts: { image } })
        expect(made!.status, made!.body.toString()).toBe(200)
        const { session_id: id } = JSON.parse(made!.body.toString()) as { session_id: string }
        for (const output of ['image', 'results'])
          expect([200, 503]).toContain((await infer(`session_id=${id}&output=${output}`))!.status)
        expect((await ask(at(`/session/${id}`), { method: 'DELETE' }))!.status).toBe(200)
      } else if (kind % 10 === 3) await infer('output=image', { hangUpAt: (i % 7) / 7 })
      else if (kind % 10 === 5) await infer('output=image', { hangUpAt: 1 })
      else if (kind % 10 === 7) {
        const accepted = await infer('async=true')
        expect([202, 503]).toContain(accepted!.status)
        if (accepted!.status === 202) await collect(at(accepted!.headers.location!))
      } else if (kind % 10 === 8) expect((await infer('output=nonsense'))!.status).toBe(400)
      else if (kind % 10 === 9) expect([200, 503]).toContain((await infer('output=image'))!.status)
      else expect((await ask(at(kind % 2 === 0 ? '/v1/models' : '/health')))!.status).toBe(200)
    }
    const collect = async (url: string): Promise<void> => {
      for (;;) {
        const reply = await ask(url)
        if (reply!.status !== 202) return
        await wait(20)
      }
    }
    const run = async (from: number, to: number): Promise<void> => {
      let next = from
      const client = async () => {
        while (next < to) await work(next++)
      }
      await Promise.all(Array.from({ length: CLIENTS }, client))
    }

    const under = (folder: string) => readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted()
    /** Everything a server at rest has, without what it works on. */
    const atRest = async () => {
      for (const name of ['spare0', 'spare1', 'spare2', 'organ'])
        await ask(at(name === 'organ' ? '/admin/model/organ/unload' : `/admin/model/${name}`), {
          method: name === 'organ' ? 'POST' : 'DELETE',
        })
      const proc = `/proc/${server.pid}`
      return {
        files: under(workspace),
        descriptors: readdirSync(`${proc}/fd`).length,
        processes: readFileSync(`${proc}/task/${server.pid}/children`, 'utf8').trim().split(' ').length,
      }
    }
    const memory = () =>
      Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${server.pid}/status`, 'latin1'))![1]) * 1024

    try {
      expect((await put('organ', 'first'))!.status).toBe(200)
      await run(0, WARM_UP)
      // It comes to rest: jobs that were called off end, results that broke off expire from its sight.
      let before = await atRest()
      await expect
        .poll(
          async () => {
            const last = before
            before = await atRest()
            return JSON.stringify(before) === JSON.stringify(last)
          },
          { timeout: 60_000, interval: 1_000 },
        )
        .toBe(true)
      const memoryBefore = memory()
      await run(WARM_UP, REQUESTS)
      await expect.poll(atRest, { timeout: 60_000, interval: 1_000 }).toEqual(before)
      const grown = memory() - memoryBefore
      process.stderr.write(
        `soak: ${REQUESTS} requests, ${before.files.length} files, ${before.descriptors} descriptors, ` +
          `${before.processes} processes; memory ${(memoryBefore / 2 ** 20).toFixed(0)} MiB, grown by ${(grown / 2 ** 20).toFixed(1)}\n`,
      )
      expect(grown).toBeLessThan(MEMORY_SLACK)
      expect(await server.end('SIGTERM')).toBe(0)
    } finally {
      await server.end('SIGKILL')
      await rm(workspace, { recursive: true, force: true })
    }
  },
)
