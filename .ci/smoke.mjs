/** README's start command, for real: listens, answers every kind of route, runs a model, stops with code 0 and leaves no child. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

const root = new URL('..', import.meta.url)
const workspace = await mkdtemp(join(tmpdir(), 'aidant-smoke-'))
const port = await freePort()
const base = `http://127.0.0.1:${port}`
const child = spawn('npm', ['start', '--', '--port', String(port), '--workspace', workspace], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
  shell: process.platform === 'win32',
})
let log = ''
child.stdout.on('data', (chunk) => {
  log += chunk
})

try {
  await until(async () => (await fetch(`${base}/health/live`)).ok, 120)
  console.log('it listens')
  for (const path of [
    '/',
    '/health',
    '/health/ready',
    '/docs',
    '/docs/',
    '/docs/json',
    '/v1/models',
    '/v1/models/',
    '/logs?lines=5',
    '/admin/model',
    '/admin/ps',
    '/v1/requests',
  ])
    assert.equal((await fetch(base + path)).status, 200, path)
  const unknown = await fetch(`${base}/nothing`)
  assert.deepEqual([unknown.status, (await unknown.json()).code], [404, 'NOT_FOUND'])
  console.log('it answers')

  const config = {
    version: '3',
    type: 'segmentation',
    labels: ['bright'],
    description: 'a voxel is bright above one half',
    pre_transforms: [
      { name: 'LoadNifti', args: { fields: 'image' } },
      { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
    ],
    inference: { image: 'image', name: 'TRTISInference', node_mapping: { image: 'image', logits: 'model' } },
    post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
    writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
  }
  const upload = new FormData()
  upload.append('config', new Blob([JSON.stringify(config)], { type: 'application/json' }), 'config_aiaa.json')
  upload.append('data', new Blob([await readFile(new URL('test/fixtures/models/threshold.onnx', root))]), 'model.onnx')
  const published = await fetch(`${base}/admin/model/bright`, { method: 'PUT', body: upload })
  assert.equal(published.status, 200, await published.text())
  assert.equal((await (await fetch(`${base}/v1/models?model=bright`)).json()).name, 'bright')
  console.log('it takes a model')

  const scan = nifti([0, 1, 0.2, 0.9])
  const request = new FormData()
  request.append('params', JSON.stringify({ result_extension: '.nii' }))
  request.append('image', new Blob([scan]), 'scan.nii')
  const labelled = await fetch(`${base}/v1/segmentation?model=bright&output=image`, { method: 'POST', body: request })
  const labels = Buffer.from(await labelled.arrayBuffer())
  assert.equal(labelled.status, 200, labels.toString())
  assert.deepEqual([...labels.subarray(labels.readFloatLE(108))], [0, 1, 0, 1])
  assert.deepEqual(labels.subarray(40, 48), scan.subarray(40, 48), 'dimensions')
  assert.deepEqual(labels.subarray(280, 328), scan.subarray(280, 328), 'affine')
  console.log('it labels a scan')

  const [{ pid: runner }] = await (await fetch(`${base}/admin/ps`)).json()
  const server = Number(/"pid":(\d+)/.exec(log)?.[1])
  process.kill(server, 'SIGTERM')
  const [code] = await once(child, 'exit')
  assert.equal(code, 0, 'exit code')
  assert.deepEqual([isRunning(server), isRunning(runner)], [false, false])
  assert.deepEqual(await readdir(join(workspace, 'tmp')), [])
  console.log('it stops, and leaves nothing')
} finally {
  if (child.exitCode === null) child.kill('SIGTERM')
  await rm(workspace, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
}

async function until(condition, seconds) {
  for (let tries = 0; tries < seconds * 10; tries++) {
    if (child.exitCode !== null) throw new Error(`npm start ended with code ${child.exitCode}`)
    if (await condition().catch(() => false)) return
    await wait(100)
  }
  throw new Error(`nothing listens after ${seconds} s`)
}

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port: free } = probe.address()
  probe.close()
  await once(probe, 'close')
  return free
}

function isRunning(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** A NIfTI-1 file of 2x2x1 float32 voxels with an oblique sform. */
function nifti(voxels) {
  const bytes = Buffer.alloc(352 + 4 * voxels.length)
  bytes.writeInt32LE(348, 0)
  for (const [i, dim] of [3, 2, 2, 1, 1, 1, 1, 1].entries()) bytes.writeInt16LE(dim, 40 + 2 * i)
  bytes.writeInt16LE(16, 70)
  bytes.writeInt16LE(32, 72)
  for (const [i, size] of [1, 1, 1, 2].entries()) bytes.writeFloatLE(size, 76 + 4 * i)
  bytes.writeFloatLE(352, 108)
  bytes.writeInt16LE(1, 254)
  const affine = [0.8, -0.6, 0, 10, 0.6, 0.8, 0, 20, 0, 0, 2, 30]
  for (const [i, value] of affine.entries()) bytes.writeFloatLE(value, 280 + 4 * i)
  bytes.write('n+1\0', 344, 'latin1')
  for (const [i, value] of voxels.entries()) bytes.writeFloatLE(value, 352 + 4 * i)
  return bytes
}
