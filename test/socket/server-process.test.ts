/** The real program: it starts, says why when it cannot, and ends in order, leaving no child and no file. */
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import type { RunnerSettings, ToRunner } from '../../src/contract/wire.js'
import { runnerEntry } from '../../src/scheduler/spawn-runner.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { isAlive, modelPath } from '../helpers/runner-fixtures.js'
import { ServerProcess } from '../helpers/server-process.js'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
let workspace: string

beforeEach(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-process-'))
})
afterEach(async () => {
  for (const server of servers.splice(0)) await server.end('SIGKILL')
  await rm(workspace, { recursive: true, force: true, maxRetries: 3 })
})

const servers: ServerProcess[] = []
async function start(flags: readonly string[] = []): Promise<ServerProcess> {
  const server = await ServerProcess.start(workspace, flags)
  servers.push(server)
  return server
}

const config = {
  version: '3',
  type: 'segmentation',
  labels: ['bright'],
  description: 'for tests',
  pre_transforms: [
    { name: 'LoadNifti', args: { fields: 'image' } },
    { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
  ],
  inference: { image: 'image', name: 'TRTISInference', node_mapping: { image: 'image', logits: 'model' } },
  post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
  writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
}

async function put(url: string, model: string): Promise<Response> {
  const data = new FormData()
  data.append('config', new Blob([JSON.stringify(config)], { type: 'application/json' }), 'config_aiaa.json')
  data.append('data', new Blob([await readFile(modelPath(model))]), 'model.onnx')
  return fetch(`${url}/admin/model/${model}`, { method: 'PUT', body: data })
}

function segment(url: string, model: string): Promise<Response> {
  const data = new FormData()
  data.append('params', '{}')
  data.append('image', new Blob([Buffer.from(niftiBytes())]), 'scan.nii')
  return fetch(`${url}/v1/segmentation?model=${model}&output=image`, { method: 'POST', body: data })
}

/** Runs the program to its end; gives its exit code and what it said. */
async function runToEnd(words: readonly string[]): Promise<{ code: number; said: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', main, ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stdout.on('data', (chunk) => (said += chunk))
  child.stderr.on('data', (chunk) => (said += chunk))
  const [code] = (await once(child, 'close')) as [number]
  return { code, said }
}

test('loads a model, answers with a label map, and ends with code 0 on SIGTERM, without child or file left', async () => {
  const server = await start()
  const published = await put(server.url, 'threshold')
  expect(published.status, await published.text()).toBe(200)
  const reply = await segment(server.url, 'threshold')
  expect(reply.status).toBe(200)
  const running = (await (await fetch(`${server.url}/admin/ps`)).json()) as { pid: number }[]
  expect(running.map(({ pid }) => isAlive(pid))).toEqual([true])
  expect(await server.end('SIGTERM')).toBe(0)
  expect(isAlive(running[0]!.pid)).toBe(false)
  expect(await readdir(join(workspace, 'tmp'))).toEqual([])
})

const RUNNER_SETTINGS: RunnerSettings = {
  device: { kind: 'cpu', index: 0 },
  arena: true,
  rewriteTrialMs: 0,
  maxTrialValues: 2 ** 26,
  cacheBytes: 2 ** 20,
  networkBytes: 2 ** 20,
  fetch: { allow: [], deadlineMs: 1000, maxBytes: 1000 },
}

/** Files that only some requests need, and that a start would wait for. */
const NOT_AT_START = [
  ...['src/volume', 'src/geometry', 'src/transforms', 'src/inferers', 'src/onnx'],
  ...['src/formats/read-volume.ts', 'src/registry/intake.ts', 'src/fetchers/dimse.ts'],
  ...['ajv/', '@opentelemetry/', 'nifti-reader-js/', 'onnxruntime-node/', 'sharp/', 'dcmjs', 'yauzl/'].map(
    (vendor) => `node_modules/${vendor}`,
  ),
]

/** The files that a program of ours loads, from its start to its end; Node lists them at that end. */
async function filesLoadedBy(program: () => Promise<void>): Promise<string[]> {
  const covered = await mkdtemp(join(tmpdir(), 'aidant-loaded-'))
  onTestFinished(() => rm(covered, { recursive: true, force: true }))
  vi.stubEnv('NODE_V8_COVERAGE', covered)
  await program().finally(() => vi.unstubAllEnvs())
  const reports = await Promise.all((await readdir(covered)).map((file) => readFile(join(covered, file), 'utf8')))
  return reports
    .flatMap((report) => (JSON.parse(report) as { result: { url: string }[] }).result)
    .map(({ url }) => decodeURIComponent(url).replaceAll('\\', '/'))
}

/** Those of `files` that lie in one of `places`. */
const among = (files: readonly string[], places: readonly string[]) =>
  files.filter((file) => places.some((place) => file.includes(`/${place}`)))

test('a start loads nothing that touches voxels or reads models, nor what nothing uses', async () => {
  const loaded = await filesLoadedBy(async () => {
    const server = await start()
    expect((await fetch(`${server.url}/health/ready`)).status).toBe(200)
    expect(await server.end('SIGTERM')).toBe(0)
  })
  expect(among(loaded, ['src/app.ts'])).toHaveLength(1)
  expect(among(loaded, NOT_AT_START)).toEqual([])
})

test('a runner without a model loads no engine and no network code', async () => {
  const loaded = await filesLoadedBy(async () => {
    const { path, execArgv } = runnerEntry()
    const runner = fork(path, [], { execArgv: [...execArgv] })
    runner.send({ type: 'load', settings: RUNNER_SETTINGS } satisfies ToRunner)
    const answer = await Promise.race([once(runner, 'message'), once(runner, 'exit')])
    expect(answer).toEqual([{ type: 'loaded', device: 'none' }, undefined])
    runner.disconnect()
    expect(await once(runner, 'exit')).toEqual([0, null])
  })
  expect(among(loaded, ['src/pipelines/run-tool.ts'])).toHaveLength(1)
  expect(among(loaded, ['src/onnx', 'src/inferers', 'src/transforms/catalog.ts', 'node_modules/onnxruntime'])).toEqual(
    [],
  )
})

/** Twelve jobs of a model that takes a while, the first of them running. */
async function twelveJobs(url: string): Promise<Promise<Response>[]> {
  expect((await put(url, 'slow')).status).toBe(200)
  const replies = Array.from({ length: 12 }, () => segment(url, 'slow'))
  const requests = async () => (await fetch(`${url}/v1/requests`)).text()
  await expect.poll(requests, { timeout: 30_000, interval: 10 }).toContain('"running"')
  return replies
}

test('lets the running job finish and its reply leave, and refuses those that wait, before it ends', async () => {
  const server = await start()
  const replies = await twelveJobs(server.url)
  const ended = server.end('SIGTERM')
  const answers = await Promise.all(
    replies.map(async (reply) => `${(await reply).status} ${/"code":"(\w+)"/.exec(await (await reply).text())?.[1]}`),
  )
  expect(await ended).toBe(0)
  expect(new Set(answers)).toEqual(new Set(['200 undefined', '503 SHUTTING_DOWN']))
})

test('for --shutdown-delay after SIGTERM it says that it is not ready, and does all else', async () => {
  const server = await start(['--shutdown-delay', '5'])
  const ask = async (path: string) => (await fetch(server.url + path, { headers: { connection: 'close' } })).status
  expect(await ask('/health/ready')).toBe(200)
  const ended = server.end('SIGTERM')
  await expect.poll(() => ask('/health/ready'), { timeout: 4000, interval: 20 }).toBe(503)
  expect([await ask('/health/live'), await ask('/v1/models')]).toEqual([200, 200])
  expect(await ended).toBe(0)
})

test('cancels what does not finish within --shutdown-grace, and tells the clients', async () => {
  const server = await start(['--shutdown-grace', '0', '--cancel-grace', '0.1'])
  const replies = await twelveJobs(server.url)
  const ended = server.end('SIGTERM')
  const bodies = await Promise.all(replies.map(async (reply) => (await reply).text()))
  expect(await ended).toBe(0)
  expect(
    bodies.filter((body) => /"code":"(CANCELLED|SHUTTING_DOWN|RUNNER_CRASHED)"/.test(body)).length,
  ).toBeGreaterThan(5)
  expect(await readdir(join(workspace, 'tmp'))).toEqual([])
})

test('says which port is in use, and ends with code 1', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as { port: number }
  const { code, said } = await runToEnd(['serve', '--workspace', workspace, '--port', String(port)])
  other.close()
  expect(code).toBe(1)
  expect(said).toContain(`port ${port} on 127.0.0.1 is in use`)
})

test('says at the start that a model catalogue is not there', async () => {
  const { code, said } = await runToEnd(['serve', '--workspace', workspace, '--model-catalog', join(workspace, 'none')])
  expect(code).toBe(1)
  expect(said).toMatch(/--model-catalog: must be a folder or a JSON file, and nothing readable is at '.*none'/)
})

test('says everything that is wrong with its settings, and ends with code 1', async () => {
  const { code, said } = await runToEnd(['serve', '--prot', '1', '--device', 'abacus', '--allow-fetch', '10.0.0.0/99'])
  expect(code).toBe(1)
  expect(said).toMatch(/--prot.*did you mean --port/)
  expect(said).toContain('--device')
})

test('prints its flags, its version, and its commands', async () => {
  const [flags, version, help] = await Promise.all([['serve', '--help'], ['--version'], ['--help']].map(runToEnd))
  expect(flags).toMatchObject({ code: 0, said: expect.stringContaining('--max-upload-bytes BYTES') })
  expect(version).toMatchObject({ code: 0, said: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
  expect(help).toMatchObject({ code: 0, said: expect.stringContaining('serve') })
})

test('warns when /admin is open to a wider network', async () => {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', main, 'serve', '--host', '0.0.0.0', '--port', '0', '--workspace', workspace],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  let said = ''
  for await (const chunk of child.stderr) {
    said += chunk
    if (/who may\.\n/.test(said)) break
  }
  child.kill('SIGTERM')
  await once(child, 'exit')
  expect(said).toMatch(/WARNING: .*\/admin is open/)
})
