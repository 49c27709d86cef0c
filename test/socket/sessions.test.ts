/** Sessions against the real program: what an annotator's clients do, with real runner processes. */
import { readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { clickConfig as config } from '../helpers/click-model.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, scaleAffine, tempFolder, volumeOf } from '../helpers/volumes.js'

const onnx = (name: string) => readFile(fileURLToPath(new URL(`../fixtures/models/${name}.onnx`, import.meta.url)))

async function form(parts: Readonly<Record<string, string | Buffer>>): Promise<FormData> {
  const body = new FormData()
  for (const [name, part] of Object.entries(parts))
    if (typeof part === 'string') body.append(name, part)
    else body.append(name, new Blob([new Uint8Array(part)]), `${name}.nii.gz`)
  return body
}

async function putModel(url: string, name: string, json: unknown, weights: Buffer): Promise<void> {
  const body = new FormData()
  body.append('config', new Blob([JSON.stringify(json)], { type: 'application/json' }), 'config_aiaa.json')
  body.append('data', new Blob([new Uint8Array(weights)]), 'model.onnx')
  const reply = await fetch(`${url}/admin/model/${name}`, { method: 'PUT', body })
  expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
}

async function putSession(url: string, image: Buffer, query = ''): Promise<string> {
  const reply = await fetch(`${url}/session/${query}`, { method: 'PUT', body: await form({ image }) })
  expect(reply.status).toBe(200)
  return ((await reply.json()) as { session_id: string }).session_id
}

async function click(url: string, query: string, parts: Readonly<Record<string, string | Buffer>>) {
  const reply = await fetch(`${url}/v1/deepgrow?${query}&output=image`, { method: 'POST', body: await form(parts) })
  const bytes = Buffer.from(await reply.arrayBuffer())
  return { status: reply.status, bytes }
}

const params = JSON.stringify({ foreground: [[12, 14, 5]], background: [[2, 3, 5]] })

describe('a session', () => {
  let workspace: Awaited<ReturnType<typeof tempFolder>>
  let server: ServerProcess
  let scan: Buffer

  /** What requests left in the server's own folder under workspace/tmp. */
  async function leftovers(): Promise<string[]> {
    const tmp = join(workspace.path, 'ws', 'tmp')
    const servers = await readdir(tmp)
    return (await Promise.all(servers.map((name) => readdir(join(tmp, name))))).flat()
  }

  beforeAll(async () => {
    workspace = await tempFolder()
    const volume = volumeOf([30, 28, 10], {
      value: (i) => (i * 7919) % 500,
      affine: scaleAffine([0.8, 1.3, 4], [-9, 4, 2]),
    })
    scan = await readFile(await niftiFile(workspace.path, volume))
    server = await ServerProcess.start(join(workspace.path, 'ws'))
    await putModel(server.url, 'two', config(2), await onnx('guidance_2d'))
    await putModel(server.url, 'three', config(3), await onnx('guidance_3d'))
  })
  afterAll(async () => {
    await server.end('SIGTERM')
    await workspace[Symbol.asyncDispose]()
  })

  test.each(['two', 'three'])(
    'gives the label map of a direct call, click after click, and over a restart (%s)',
    async (model) => {
      const direct = await click(server.url, `model=${model}`, { params, image: scan })
      expect(direct.status).toBe(200)
      expect(
        gunzipSync(direct.bytes)
          .subarray(352)
          .some((voxel) => voxel !== 0),
      ).toBe(true)

      const session = await putSession(server.url, scan)
      const first = await click(server.url, `model=${model}&session_id=${session}`, { params })
      // The prepared volume is in the runner: the file is not even looked at.
      const volume = join(workspace.path, 'ws', 'sessions', session, 'volume.nii')
      await rename(volume, `${volume}.away`)
      const second = await click(server.url, `model=${model}&session_id=${session}`, { params })
      await rename(`${volume}.away`, volume)
      expect(first.bytes.equals(direct.bytes)).toBe(true)
      expect(second.bytes.equals(direct.bytes)).toBe(true)

      expect(await server.end('SIGTERM')).toBe(0)
      server = await ServerProcess.start(join(workspace.path, 'ws'))
      const later = await click(server.url, `model=${model}&session_id=${session}`, { params })
      expect(later.bytes.equals(direct.bytes)).toBe(true)
    },
  )

  test('is used by /v1/inference all the same, and is 440 once deleted', async () => {
    const session = await putSession(server.url, scan)
    const query = `model=two&session_id=${session}&output=image`
    const reply = await fetch(`${server.url}/v1/inference?${query}`, { method: 'POST', body: await form({ params }) })
    expect(reply.status).toBe(200)
    expect((await fetch(`${server.url}/session/${session}`, { method: 'DELETE' })).status).toBe(200)
    expect((await click(server.url, `model=two&session_id=${session}`, { params })).status).toBe(440)
  })

  test('eight clients click in eight sessions at once: all are answered, and nothing is left behind', async () => {
    const sessions = await Promise.all(Array.from({ length: 8 }, () => putSession(server.url, scan)))
    const replies = await Promise.all(
      sessions.flatMap((session) => [1, 2].map(() => click(server.url, `model=two&session_id=${session}`, { params }))),
    )
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]))
    expect(replies.every(({ bytes }) => bytes.equals(replies[0]!.bytes))).toBe(true)
    await expect.poll(() => leftovers()).toEqual([])
  })

  test('hanging up in a long job frees its runner, and leaves nothing behind', async () => {
    const slow = { ...config(3), type: 'segmentation' as const, pre_transforms: config(3).pre_transforms.slice(0, 1) }
    slow.pre_transforms.push({ name: 'AddChanneld', args: { keys: 'image' } })
    slow.post_transforms = [{ name: 'AsDiscreted', args: { keys: 'pred', argmax: true } } as never]
    slow.inference = { ...slow.inference, args: { scanning_window: true, roi: [4, 4, 4], overlap: 0.5 } } as never
    await putModel(server.url, 'slow', slow, await onnx('slow'))
    const hangUp = new AbortController()
    const lost = fetch(`${server.url}/v1/segmentation?model=slow`, {
      method: 'POST',
      body: await form({ image: scan }),
      headers: { 'x-request-id': 'lost' },
      signal: hangUp.signal,
    })
    const own = async () => {
      const { requests } = (await (await fetch(`${server.url}/v1/requests`)).json()) as {
        requests: { trace: string }[]
      }
      return requests.find(({ trace }) => trace === 'lost')
    }
    await expect.poll(own, { timeout: 20_000 }).toMatchObject({ stage: 'infer' })
    hangUp.abort()
    await expect(lost).rejects.toThrow()
    await expect.poll(own).toMatchObject({ state: 'cancelled' })
    await expect.poll(() => leftovers()).toEqual([])
    const ps = (await (await fetch(`${server.url}/admin/ps`)).json()) as unknown
    expect(JSON.stringify(ps)).not.toContain('"busy"')
  })
})
