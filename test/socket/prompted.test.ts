/** Pairs of the SAM family over a real socket: one PUT, then clicks and boxes through every door. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it, test } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { type RunningServer, startServer } from '../../src/server.js'
import { formData } from '../helpers/form-data.js'
import { fixtureModel } from '../helpers/registry.js'
import { zipBytes } from '../helpers/zip.js'

const golden = (name: string) => readFile(new URL(`../golden/prompted/${name}`, import.meta.url))
let workspace: string
let server: RunningServer
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-prompted-'))
  const flags = ['--workspace', workspace, '--port', '0', '--log-level', 'silent', '--device', 'cpu']
  server = await startServer(loadConfig(flags, {}))
  expect(await put('sam', { layout: 'sam', window: { level: 40, width: 400 } })).toMatchObject({ status: 200 })
  expect(await put('lite_medsam', {})).toMatchObject({ status: 200 })
})
afterAll(async () => {
  await server.close()
  await rm(workspace, { recursive: true, force: true })
})

async function put(pair: string, parts: Record<string, unknown>, more: Record<string, unknown> = { type: 'deepgrow' }) {
  const files = ['encoder', 'decoder'].map(async (part) => ({
    name: `${pair}/${pair}.${part}.onnx`,
    data: await golden(`${pair}_${part}.onnx`),
  }))
  const config = JSON.stringify({ ...more, inference: { parts } })
  const body = formData({ config, data: zipBytes(await Promise.all(files)) })
  const reply = await fetch(`${server.url}/admin/model/${pair}`, { method: 'PUT', body })
  return { status: reply.status, said: await reply.json() }
}
async function ask(path: string, params: Record<string, unknown>, image?: string, field = 'image') {
  const body = formData({
    params: JSON.stringify({ foreground: [], background: [], result_extension: '.nii', ...params }),
  })
  if (image) body.append(field, new Blob([(await golden(image)) as BlobPart]), image)
  const reply = await fetch(`${server.url}${path}`, { method: 'POST', body })
  const bytes = new Uint8Array(await reply.arrayBuffer())
  return {
    status: reply.status,
    mask: Buffer.from(bytes.subarray(352)),
    text: new TextDecoder().decode(bytes),
    headers: reply.headers,
  }
}
const box = { box: [25, 21, 70, 46], slice: 1 }
const deepgrow = (model: string, more = '') => `/v1/deepgrow?model=${model}&output=image${more}`

test('a click and a box, in a session and out of it, by AIAA and by MONAI Label', async () => {
  const click = { foreground: [[40, 36, 1]] }
  const posted = await ask(deepgrow('sam'), click, 'ct.nii.gz')
  expect(posted.status).toBe(200)
  expect(posted.mask[40 + 100 * (36 + 72)]).toBe(1)
  expect((await ask('/infer/sam?output=image', click, 'ct.nii.gz', 'file')).mask).toEqual(posted.mask)

  const boxed = await ask(deepgrow('sam'), box, 'ct.nii.gz')
  expect([boxed.status, boxed.mask.includes(1)]).toEqual([200, true])
  const twoDoors = await ask('/infer/sam?output=image', { ...box, label: 'organ' }, 'ct.nii.gz', 'file')
  expect(twoDoors.mask).toEqual(boxed.mask)

  const made = await fetch(`${server.url}/session/`, {
    method: 'PUT',
    body: formData({ image: await golden('ct.nii.gz') }),
  })
  const { session_id: id } = (await made.json()) as { session_id: string }
  const first = await ask(deepgrow('sam', `&session_id=${id}`), box)
  expect(first.mask).toEqual(boxed.mask)
  const again = await ask(deepgrow('sam', `&session_id=${id}`), { ...box, foreground: [[45, 30, 1]] })
  expect(again.headers.get('server-timing')).toContain('encoder;dur=0.0;desc="cached"')
})

test('a reply says what was black and white, and what the network thinks of its mask', async () => {
  const { text } = await ask('/v1/deepgrow?model=sam&output=results', box, 'ct.nii.gz')
  expect(JSON.parse(text)).toMatchObject({
    mask_quality: expect.any(Number),
    notes: [expect.stringContaining('from -160 (black) to 240 (white): level 40 and width 400')],
  })
})

test.each([
  [
    'two opposite corners',
    {
      foreground: [
        [25, 21, 1],
        [70, 46, 1],
      ],
    },
    'the one around the 2 foreground clicks was used',
  ],
  ['clicks beside a box', { ...box, background: [[5, 5, 1]] }, 'takes a box alone: the clicks were not used'],
])('a model of boxes alone, asked with %s, says what it made of them', async (_, params, says) => {
  const { status, text } = await ask('/v1/deepgrow?model=lite_medsam&output=results', params, 'ct.nii.gz')
  expect([status, text]).toEqual([200, expect.stringContaining(says)])
})

test.each([
  ['lite_medsam', 'one click', { foreground: [[40, 36, 1]] }, 'this model takes a box'],
  ['sam', 'a box of no slice', { box: [25, 21, 70, 46] }, "'box' lies in one slice of a volume"],
  ['sam', 'nothing', {}, "'foreground' and 'background' are both empty"],
  ['deepgrow_2d', 'a box', { ...box, foreground: [[40, 36, 1]] }, "'box': this model takes points, no box"],
])('%s asked with %s is a 400 that says what would be right', async (model, _, params, says) => {
  const { status, text } = await ask(deepgrow(model), params, 'ct.nii.gz')
  expect([status, text]).toEqual([400, expect.stringContaining(says)])
})

it('is the slice model of a pipeline', async () => {
  const load = (name: string, parts: Record<string, Uint8Array | string>) =>
    fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body: formData(parts) })
  const volume = JSON.stringify({
    type: 'deepgrow',
    pre_transforms: [
      { name: 'LoadImaged', args: { keys: 'image' } },
      { name: 'AddChanneld', args: { keys: 'image' } },
      { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', dimensions: 3 } },
      { name: 'AddGuidanceSignald', args: { image: 'image' } },
    ],
    inference: { node_mapping: { image: 'image', logits: 'pred' } },
    post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', threshold: 0 } }],
  })
  expect((await load('coarse', { config: volume, data: fixtureModel('guidance_3d.onnx') })).status).toBe(200)
  const config = JSON.stringify({ type: 'pipeline', pipeline: { models: ['coarse', 'sam'], batch_size: 2 } })
  expect((await load('both', { config })).status).toBe(200)
  const { status, mask, text } = await ask(
    '/v1/inference?model=both&output=image',
    { foreground: [[40, 36, 1]] },
    'ct.nii.gz',
  )
  expect(status, text.slice(0, 300)).toBe(200)
  const slices = [0, 1, 2].map((z) => mask.subarray(z * 7200, (z + 1) * 7200).includes(1))
  expect(slices).toEqual([true, true, true])
})

it('a pair of another type, or with a part that is not there, is a 422', async () => {
  expect(await put('sam2', {}, { type: 'segmentation' })).toMatchObject({
    status: 422,
    said: { error: { message: [expect.stringContaining('config.type has to be deepgrow')] } },
  })
  expect(await put('sam2', { window: { level: 40 } })).toMatchObject({ status: 422 })
  const mixed = formData({
    config: JSON.stringify({ type: 'deepgrow', inference: { parts: {} } }),
    encoder: await golden('medsam_encoder.onnx'),
    decoder: await golden('sam2_decoder.onnx'),
  })
  const reply = await fetch(`${server.url}/admin/model/mixed`, { method: 'PUT', body: mixed })
  expect([reply.status, await reply.text()]).toEqual([422, expect.stringContaining("input 'high_res_feats_0'")])
})

it('takes boxes from the command line', async () => {
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const scan = fileURLToPath(new URL('../golden/prompted/ct.nii.gz', import.meta.url))
  const out = join(workspace, 'label.nii')
  const words = [
    'deepgrow',
    scan,
    '-m',
    'sam',
    '-o',
    out,
    '--box',
    '25,21,70,46',
    '--slice',
    '1',
    '--server',
    server.url,
  ]
  await promisify(execFile)(process.execPath, ['--import', 'tsx', main, ...words])
  expect((await readFile(out)).subarray(352)).toEqual((await ask(deepgrow('sam'), box, 'ct.nii.gz')).mask)
})
