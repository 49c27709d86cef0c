/** The main job over a real socket with real runners: load a model, use it, change it, remove it. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { type RunningServer, startServer } from '../../src/server.js'
import { formData } from '../helpers/form-data.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, modelConfig, variant } from '../helpers/registry.js'
import { zipBytes } from '../helpers/zip.js'

let workspace: string
let server: RunningServer
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-load-'))
  const flags = ['--workspace', workspace, '--port', '0', '--log-level', 'silent', '--device', 'cpu']
  server = await startServer(loadConfig(flags, {}))
})
afterAll(async () => {
  await server.close()
  await rm(workspace, { recursive: true, force: true })
})

const voxels = Array.from({ length: 4 * 3 * 2 }, (_, i) => i / 23)
const image = niftiBytes({ dim: [3, 4, 3, 2], datatype: 16, voxels })

const put = (name: string, parts: Record<string, Uint8Array | string>) =>
  fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body: formData(parts) })
const segment = (name: string, file: Uint8Array = image) =>
  fetch(`${server.url}/v1/segmentation?model=${name}&output=image`, { method: 'POST', body: formData({ image: file }) })
const labelsOf = async (reply: Response) => [...new Uint8Array(await reply.arrayBuffer(), 352)]
const remove = (name: string) => fetch(`${server.url}/admin/model/${name}`, { method: 'DELETE' })

const pre_transforms = [
  { name: 'LoadNifti', args: { fields: 'image' } },
  { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
]
const config = (more: Record<string, unknown> = {}) => JSON.stringify(modelConfig({ pre_transforms, ...more }))
/** Such networks give one value a voxel, and their threshold is the config's. */
const single = (more: Record<string, unknown> = {}) =>
  config({ post_transforms: [{ name: 'ApplyThreshold', args: { fields: 'model', threshold: 0.5 } }], ...more })

test('a model is loaded, labels an image, is replaced, and gives its process back', async () => {
  const loaded = await put('organ', { config: config(), data: fixtureModel('threshold.onnx') })
  expect(await loaded.json()).toMatchObject({
    name: 'organ',
    inputs: [{ name: 'image', dims: ['n', 1, 'x', 'y', 'z'] }],
  })
  const reply = await segment('organ')
  expect(reply.status).toBe(200)
  expect(await labelsOf(reply)).toEqual(voxels.map((value) => (value > 0.5 ? 1 : 0)))
  const [running] = await (await fetch(`${server.url}/admin/ps`)).json()
  expect(running).toMatchObject({ model: 'organ', state: 'ready', device: 'cpu' })

  const replaced = await put('organ', { config: single(), data: fixtureModel('identity.onnx') })
  expect(await replaced.json()).toMatchObject({ name: 'organ' })
  expect(await labelsOf(await segment('organ'))).toEqual(voxels.map((value) => (value > 0.5 ? 1 : 0)))

  const [last] = await (await fetch(`${server.url}/admin/ps`)).json()
  expect(last.pid).not.toBe(running.pid)
  expect((await remove('organ')).status).toBe(200)
  expect(await (await fetch(`${server.url}/admin/ps`)).json()).toEqual([])
  expect(() => process.kill(last.pid, 0)).toThrow()
  expect((await segment('organ')).status).toBe(404)
  await expect.poll(() => readdir(join(workspace, 'models'))).toEqual(['.locks'])
})

test('an MMAR and a MONAI bundle bring their own config and label an image on its grid', async () => {
  const onnx = fixtureModel('threshold.onnx')
  const mmar = zipBytes([
    { name: 'config/config_aiaa.json', data: config() },
    { name: 'models/model.onnx', data: onnx },
    { name: 'commands/train.sh', data: '' },
  ])
  const format = {
    inputs: { image: { type: 'image', modality: 'MR' } },
    outputs: { pred: { type: 'image', format: 'segmentation', channel_def: { '0': 'background', '1': 'bright' } } },
  }
  const compose = (...transforms: unknown[]) => ({ _target_: 'Compose', transforms })
  const bundle = zipBytes([
    {
      name: 'bright/configs/metadata.json',
      data: JSON.stringify({ task: 'segmentation', network_data_format: format }),
    },
    {
      name: 'bright/configs/inference.json',
      data: JSON.stringify({
        preprocessing: compose(
          { _target_: 'LoadImaged', keys: 'image' },
          { _target_: 'EnsureChannelFirstd', keys: 'image' },
          { _target_: 'Orientationd', keys: 'image', axcodes: 'LPS' },
          { _target_: 'EnsureTyped', keys: 'image' },
        ),
        inferer: { _target_: 'SlidingWindowInferer', roi_size: [4, 4, 4], sw_batch_size: 2, overlap: 0.25 },
        postprocessing: compose(
          { _target_: 'Activationsd', keys: 'pred', softmax: true },
          { _target_: 'Invertd', keys: 'pred', transform: '@preprocessing', orig_keys: 'image' },
          { _target_: 'AsDiscreted', keys: 'pred', argmax: true },
          { _target_: 'SaveImaged', keys: 'pred', output_dir: '/tmp' },
        ),
      }),
    },
    { name: 'bright/models/model.onnx', data: onnx },
  ])
  for (const [name, data] of Object.entries({ mmar, bundle })) {
    const loaded = await put(name, { data })
    expect(await loaded.json()).toMatchObject({ name, labels: [name === 'mmar' ? 'organ' : 'bright'] })
    const reply = await segment(name)
    expect(await labelsOf(reply)).toEqual(voxels.map((value) => (value > 0.5 ? 1 : 0)))
    await remove(name)
  }
})

test('external data comes in a zip and is used', async () => {
  const data = zipBytes([
    { name: 'external.onnx', data: fixtureModel('external.onnx') },
    { name: 'external.data', data: fixtureModel('external.data') },
  ])
  const reply = await put('external', { config: single(), data })
  expect(await reply.json()).toMatchObject({ name: 'external' })
  const cube = niftiBytes({
    dim: [3, 4, 4, 4],
    datatype: 16,
    voxels: Array.from({ length: 64 }, (_, i) => i / 64 - 0.5),
  })
  expect(await labelsOf(await segment('external', cube))).toEqual(
    Array.from({ length: 64 }, (_, i) => (3 * (i / 64 - 0.5) + 1 > 0.5 ? 1 : 0)),
  )
  await remove('external')
})

describe('what the proof finds keeps the model out, in words, and the old one in', () => {
  beforeAll(async () => {
    await put('kept', { config: config(), data: fixtureModel('threshold.onnx') })
  })
  it.each([
    { name: 'an operator nobody has', config: config(), data: 'unknown_op.onnx', code: 'BAD_MODEL' },
    { name: 'text', config: config(), data: 'bad.onnx', code: 'BAD_MODEL' },
    { name: 'half a model', config: config(), data: 'cut.onnx', code: 'BAD_MODEL' },
    { name: 'data outside its folder', config: config(), data: 'escape.onnx', code: 'BAD_MODEL' },
    { name: 'more memory than there is', config: config(), data: 'huge.onnx', code: 'BAD_MODEL' },
    {
      name: 'tensors that are not there',
      config: config({ inference: { node_mapping: { x: 'y' } } }),
      data: 'threshold.onnx',
      code: /BAD_MODEL/,
    },
    {
      name: 'a transform nobody has',
      config: config({ pre_transforms: [{ name: 'LoadNiftii', args: { fields: 'image' } }] }),
      data: 'threshold.onnx',
      code: 'BAD_MODEL_CONFIG',
      says: "did you mean 'LoadNifti'",
    },
    {
      name: 'a window of another number of axes',
      config: config({ inference: { scanning_window: true, roi: [16, 16] } }),
      data: 'threshold.onnx',
      code: 'BAD_MODEL',
      says: 'roi [16,16]',
    },
  ])('$name', async ({ config: wrong, data, code, says = '' }) => {
    const reply = await put('kept', { config: wrong, data: variant(fixtureModel(data), 'wrong') })
    const body = await reply.json()
    expect(reply.status).toBe(422)
    expect(body.code).toMatch(code)
    expect(body.error.message[0]).toContain(says)
    expect((await segment('kept')).status).toBe(200)
    const kept: { generation: number }[] = await (await fetch(`${server.url}/admin/model`)).json()
    expect(kept.find((model) => 'name' in model && model.name === 'kept')).toMatchObject({ generation: 1 })
  })
})
