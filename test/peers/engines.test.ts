/** A model whose network runs on a real Triton or KServe: the same label map, and a clear word where that server fails. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EnginePeer, enginePython } from '../helpers/engine-peer.js'
import { ServerProcess } from '../helpers/server-process.js'

const MODELS = new URL('../../models/', import.meta.url)
const SCAN = new URL('../golden/transform-hippocampus.nii.gz', import.meta.url)
/** Longer than any network here computes, shorter than the slow one. */
const FETCH_SECONDS = 15

describe.each(['triton', 'kserve'] as const)('%s', (kind) => {
  const python = enginePython(kind)
  describe.skipIf(!python)(
    'as an engine (skipped without AIDANT_ENGINES_PYTHON, see test/requirements-engines.txt)',
    () => {
      let workspace: string
      let peer: EnginePeer
      let server: ServerProcess
      let scan: Buffer
      beforeAll(async () => {
        workspace = await mkdtemp(join(tmpdir(), 'aidant-engines-'))
        scan = await readFile(SCAN)
        peer = await EnginePeer.start(python!, kind)
        const flags = [
          '--allow-fetch',
          '127.0.0.1',
          '--fetch-deadline',
          String(FETCH_SECONDS),
          '--max-loaded-models',
          '8',
        ]
        server = await ServerProcess.startCompiled(workspace, flags)
        const config = JSON.parse(await readFile(new URL('hippocampus_mri/config_aiaa.json', MODELS), 'utf8'))
        for (const model of ['network', 'slow', 'failing', 'flat', 'fickle']) {
          const inference = { ...config.inference, engine: 'kserve', kserve: { url: peer.url, model } }
          const body = new FormData()
          body.append('config', new Blob([JSON.stringify({ ...config, inference })]), 'config_aiaa.json')
          const reply = await fetch(`${server.url}/admin/model/${model}`, { method: 'PUT', body })
          if (!reply.ok) throw new Error(`${model}: ${await reply.text()}`)
        }
      }, 300_000)
      afterAll(async () => {
        await server?.end('SIGKILL')
        await peer?.kill()
        await rm(workspace, { recursive: true, force: true })
      })

      async function segment(model: string) {
        const body = new FormData()
        body.append('params', '{"result_extension": ".nii.gz"}')
        body.append('image', new Blob([scan as BlobPart]), 'scan.nii.gz')
        const reply = await fetch(`${server.url}/v1/segmentation?model=${model}&output=image`, { method: 'POST', body })
        const bytes = Buffer.from(await reply.arrayBuffer())
        return { status: reply.status, device: reply.headers.get('x-aidant-device'), bytes, text: bytes.toString() }
      }
      const labelsOf = (bytes: Buffer) => gunzipSync(bytes).subarray(352)

      it('gives the label map that the embedded engine gives', async () => {
        const here = await segment('hippocampus_mri')
        const there = await segment('network')
        expect([here.status, here.device, there.status, there.device]).toEqual([200, 'cpu', 200, 'kserve'])
        const [one, other] = [labelsOf(here.bytes), labelsOf(there.bytes)]
        expect(other.length).toBe(one.length)
        for (const label of [1, 2]) {
          const count = (a: Buffer) => a.filter((value) => value === label).length
          const both = one.filter((value, i) => value === label && other[i] === label).length
          expect(count(one)).toBeGreaterThan(100)
          expect((2 * both) / (count(one) + count(other))).toBeGreaterThanOrEqual(0.9999)
        }
      })

      it('killed in the middle of a request: a 502 that says so; it is used again when it is back, with what its models are then', {
        timeout: 300_000,
      }, async () => {
        // as it was at first, should this be the second try: the server learns it with a request that fails
        await peer.kill()
        await peer.start()
        await segment('fickle')
        expect((await segment('fickle')).status).toBe(200)
        const asking = segment('slow')
        await expect.poll(() => peer.isAsked, { timeout: FETCH_SECONDS * 1000, interval: 20 }).toBe(true)
        await peer.kill()
        const lost = await asking
        expect([lost.status, JSON.parse(lost.text).code]).toEqual([502, 'FETCH_FAILED'])
        expect(lost.text).toContain("the inference server of model 'slow' does not answer")
        const gone = await segment('network')
        expect([gone.status, JSON.parse(gone.text).code]).toEqual([502, 'FETCH_FAILED'])
        await peer.start('labels')
        expect((await segment('network')).status).toBe(200)

        // There it has come back as another model than the one that was loaded here.
        const changed = await segment('fickle')
        expect([changed.status, JSON.parse(changed.text).code]).toEqual([503, 'MODEL_NOT_READY'])
        expect(changed.text).toMatch(/'fickle' has changed on its inference server: .*outputs 'labels' uint8/)
        expect((await segment('fickle')).status).toBe(200)
      })

      it('too slow: a 502 that names the flag, and the next request works', async () => {
        const late = await segment('slow')
        expect([late.status, JSON.parse(late.text).code]).toEqual([502, 'FETCH_FAILED'])
        expect(late.text).toContain('--fetch-deadline')
        expect((await segment('network')).status).toBe(200)
      })

      it('failing: a 502 with its status and none of its words, again and again', async () => {
        for (const _ of [1, 2]) {
          const failed = await segment('failing')
          expect([failed.status, JSON.parse(failed.text).code]).toEqual([502, 'FETCH_FAILED'])
          expect(failed.text).toMatch(/the inference server refused model 'failing' \(5\d\d\)/)
          expect(failed.text).not.toMatch(/secret|gpu-node/)
        }
      })

      it('a reply of another shape than promised is told as that', async () => {
        const wrong = await segment('flat')
        expect(wrong.text).toMatch(/'output'/)
        expect([wrong.status, JSON.parse(wrong.text).code]).toEqual([502, 'FETCH_FAILED'])
        expect((await segment('network')).status).toBe(200)
      })
    },
  )
})
