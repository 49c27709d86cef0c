/** A model whose network runs on an inference cluster, from PUT to label map: transforms here, tensors there. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type KserveServer, startKserveServer } from '../helpers/kserve-server.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { ServerProcess } from '../helpers/server-process.js'

let workspace: string
let cluster: KserveServer
let server: ServerProcess
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-test-'))
  cluster = await startKserveServer()
  server = await ServerProcess.start(workspace, ['--allow-fetch', '127.0.0.1'])
})
afterAll(async () => {
  await server.end('SIGTERM')
  await cluster.close()
  await rm(workspace, { recursive: true, force: true })
})

const config = (model: string) => ({
  version: '3',
  type: 'segmentation',
  labels: ['bright'],
  description: 'runs elsewhere',
  pre_transforms: [
    { name: 'LoadNifti', args: { fields: 'image' } },
    { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
  ],
  inference: {
    image: 'image',
    engine: 'kserve',
    kserve: { url: cluster.url, model },
    node_mapping: { image: 'image', logits: 'model' },
  },
  post_transforms: [{ name: 'ApplyThreshold', args: { fields: 'model', threshold: 0.5 } }],
  writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
})

function put(name: string, model: string): Promise<Response> {
  const body = new FormData()
  body.append('config', new Blob([JSON.stringify(config(model))], { type: 'application/json' }), 'config_aiaa.json')
  return fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
}

test('serves segmentations', async () => {
  const published = await put('remote', 'twice')
  expect(published.status, await published.text()).toBe(200)
  const body = new FormData()
  body.append('params', '{}')
  body.append('image', new Blob([Buffer.from(niftiBytes())]), 'scan.nii')
  const reply = await fetch(`${server.url}/v1/segmentation?model=remote&output=image`, { method: 'POST', body })
  expect(reply.status).toBe(200)
  expect(reply.headers.get('x-aidant-device')).toBe('kserve')
  expect(cluster.asked.length).toBeGreaterThan(1)
})

test('is refused at PUT when the cluster does not have it', async () => {
  const refused = await put('missing', 'nobody')
  expect(refused.status).toBe(422)
  const text = await refused.text()
  expect(text).toContain("refused model 'nobody' (404)")
  // The words of an inner server stay inside.
  expect(text).not.toContain('unknown model')
})
