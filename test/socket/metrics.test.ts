/** /metrics of the real program, after requests of every kind: each has moved what it should, and promtool takes it all. */
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hasPromtool, promtool, samplesOf } from '../helpers/promtool.js'
import { modelPath } from '../helpers/runner-fixtures.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, tempFolder, volumeOf } from '../helpers/volumes.js'

const CONFIG = {
  version: '3',
  type: 'segmentation',
  labels: ['bright'],
  description: 'for tests',
  pre_transforms: [
    { name: 'LoadNifti', args: { fields: 'image' } },
    { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
  ],
  post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
  writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
  inference: { image: 'image', name: 'TRTISInference', node_mapping: { image: 'image', logits: 'model' } },
}
/** A hundred milliseconds for each of so many windows that a job is still there when it is called off. */
const MANY_WINDOWS = {
  ...CONFIG.inference,
  args: { scanning_window: true, roi: [8, 8, 8], batch_size: 1 },
}

let folder: Awaited<ReturnType<typeof tempFolder>>
let server: ServerProcess
let scan: Blob

beforeAll(async () => {
  folder = await tempFolder()
  const volume = volumeOf([64, 64, 64], { value: (i) => i % 2 })
  scan = new Blob([new Uint8Array(await readFile(await niftiFile(folder.path, volume, 'a.nii.gz')))])
  const flags = ['--device', 'cpu', '--max-queued-jobs', '1', '--allow-fetch', '127.0.0.1', '--optimise', 'off']
  server = await ServerProcess.startCompiled(join(folder.path, 'ws'), flags)
  for (const [name, weights, inference] of [
    ['quick', 'threshold', CONFIG.inference],
    ['long', 'slow', MANY_WINDOWS],
  ] as const) {
    const body = new FormData()
    body.append('config', new Blob([JSON.stringify({ ...CONFIG, inference })]), 'config_aiaa.json')
    body.append('data', new Blob([new Uint8Array(await readFile(modelPath(weights)))]), 'model.onnx')
    const reply = await fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
    expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
  }
})
afterAll(async () => {
  await server?.end('SIGTERM')
  await folder[Symbol.asyncDispose]()
})

const upload = () => {
  const body = new FormData()
  body.append('image', scan, 'a.nii.gz')
  return body
}
const segment = (model: string, signal?: AbortSignal) =>
  fetch(`${server.url}/v1/segmentation?model=${model}`, {
    method: 'POST',
    body: upload(),
    ...(signal ? { signal } : {}),
  })
const metrics = async () => (await fetch(`${server.url}/metrics`)).text()
const samples = async () => samplesOf(await metrics())
const value = async (name: string) => (await samples()).get(`aidant_${name}`)

test('a segmentation is a job, with its stages, its wait and its model in memory', async () => {
  expect((await segment('quick')).status).toBe(200)
  const found = await samples()
  expect(found.get('aidant_jobs_total{model="quick",outcome="done"}')).toBe(1)
  for (const stage of ['read', 'pre', 'infer', 'post', 'write'])
    expect([stage, found.get(`aidant_stage_seconds_count{model="quick",stage="${stage}"}`)]).toEqual([stage, 1])
  expect(found.get('aidant_queue_wait_seconds_count{model="quick"}')).toBe(1)
  expect(found.get('aidant_model_loads_total{model="quick",outcome="done"}')).toBe(1)
  expect(found.get('aidant_models_loaded')).toBe(1)
  expect(found.get('aidant_runner_memory_bytes{model="quick"}')).toBeGreaterThan(1e7)
})

test('a session is one, takes room, and goes', async () => {
  const reply = await (await fetch(`${server.url}/session/`, { method: 'PUT', body: upload() })).json()
  expect(await value('sessions')).toBe(1)
  expect(await value('session_bytes')).toBeGreaterThan(64 ** 3)
  expect(await value('jobs_total{model="tools",outcome="done"}')).toBe(1)
  await fetch(`${server.url}/session/${reply.session_id}`, { method: 'DELETE' })
  await expect.poll(() => value('sessions')).toBe(0)
})

test('a job that waits, one that is refused, one that is called off and one whose runner dies', async () => {
  const first = new AbortController()
  const running = segment('long', first.signal).catch(() => undefined)
  await expect.poll(() => value('runners{model="long",state="busy"}'), { timeout: 30_000 }).toBe(1)
  const waiting = segment('long')
  await expect.poll(() => value('queue_length{model="long"}')).toBe(1)
  expect((await segment('long')).status).toBe(503)
  expect(await value('jobs_refused_total{model="long"}')).toBe(1)
  expect(await value('errors_total{code="BUSY"}')).toBe(1)
  first.abort()
  await running
  await expect.poll(() => value('jobs_total{model="long",outcome="cancelled"}'), { timeout: 30_000 }).toBe(1)
  await expect.poll(() => value('queue_wait_seconds_count{model="long"}'), { timeout: 30_000 }).toBe(2)
  const runners = (await (await fetch(`${server.url}/admin/ps`)).json()) as { model: string; pid: number }[]
  process.kill(runners.find(({ model }) => model === 'long')!.pid, 'SIGKILL')
  expect((await waiting).status).toBe(503)
  expect(await value('runner_restarts_total{model="long",reason="crash"}')).toBe(1)
  expect(await value('job_failures_total{code="RUNNER_CRASHED",model="long"}')).toBe(1)
})

test('a job that fails is counted by why', async () => {
  const body = new FormData()
  body.append('image', new Blob(['no image at all']), 'a.nii.gz')
  const reply = await fetch(`${server.url}/v1/segmentation?model=quick`, { method: 'POST', body })
  const { code } = (await reply.json()) as { code: string }
  expect(await value(`job_failures_total{code="${code}",model="quick"}`)).toBe(1)
})

test('a fetch that comes and one that does not', async () => {
  const peer = createServer((_request, reply) => void scan.arrayBuffer().then((bytes) => reply.end(Buffer.from(bytes))))
  await new Promise<void>((resolve) => peer.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(peer.address() as AddressInfo).port}/a.nii.gz`
  const fetched = () => fetch(`${server.url}/session/`, { method: 'PUT', body: JSON.stringify({ http: { url } }) })
  expect((await fetched()).status).toBe(200)
  await new Promise((resolve) => peer.close(resolve))
  expect((await fetched()).status).toBe(502)
  expect(await value('fetches_total{kind="http",outcome="done"}')).toBe(1)
  expect(await value('fetches_total{kind="http",outcome="failed"}')).toBe(1)
})

test('the disk, the process and the version are told', async () => {
  const found = await samples()
  expect(found.get('aidant_workspace_size_bytes')).toBeGreaterThan(found.get('aidant_workspace_free_bytes')!)
  expect(found.get('process_resident_memory_bytes')).toBeGreaterThan(1e7)
  expect(await metrics()).toMatch(/^aidant_build_info\{version="\d[^"]*",node="v\d[^"]*"\} 1$/m)
})

test.skipIf(!hasPromtool)('promtool has nothing to say (skipped where Prometheus is not installed)', async () => {
  expect(promtool(['check', 'metrics'], { input: await metrics() })).toBe('')
})
