/** A model of an encoder and a decoder over a real socket with real runners. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { type RunningServer, startServer } from '../../src/server.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, variant } from '../helpers/registry.js'
import { zipBytes } from '../helpers/zip.js'

let workspace: string
let server: RunningServer
const start = async () => {
  const flags = ['--workspace', workspace, '--port', '0', '--log-level', 'silent', '--device', 'cpu']
  server = await startServer(loadConfig(flags, {}))
}
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-parts-'))
  await start()
})
afterAll(async () => {
  await server.close()
  await rm(workspace, { recursive: true, force: true })
})

const form = (parts: Record<string, Uint8Array | string>) => {
  const body = new FormData()
  for (const [name, content] of Object.entries(parts)) body.append(name, new Blob([content as BlobPart]), name)
  return body
}
const put = async (name: string, parts: Record<string, Uint8Array | string>) => {
  const reply = await fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body: form(parts) })
  return { status: reply.status, said: await reply.json() }
}
const encoder = fixtureModel('parts_2d_encoder.onnx')
const decoder = fixtureModel('parts_2d_decoder.onnx')
const zipOf = (files: Record<string, Uint8Array>) =>
  zipBytes(Object.entries(files).map(([name, data]) => ({ name, data })))

const clicked = (image: string) => [
  { name: 'LoadImaged', args: { keys: 'image' } },
  { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
  { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', dimensions: 2, axis: 2 } },
  { name: 'Fetch2DSliced', args: { keys: 'image', axis: 3 } },
  ...(image === 'image' ? [] : [{ name: 'CopyItemsd', args: { keys: 'image', names: image } }]),
  { name: 'AddGuidanceSignald', args: { image } },
]
const after = {
  type: 'deepgrow',
  post_transforms: [
    { name: 'AsDiscreted', args: { keys: 'pred', threshold: 0 } },
    { name: 'RestoreLabeld', args: { keys: 'pred', ref_image: 'image' } },
  ],
}
const config = (parts: unknown = {}, mapping: Record<string, string> = {}) =>
  JSON.stringify({
    ...after,
    pre_transforms: clicked('clicked'),
    inference: { parts, node_mapping: { image: 'image', clicked: 'clicked', logits: 'pred', ...mapping } },
  })
const whole = JSON.stringify({
  ...after,
  pre_transforms: clicked('image'),
  inference: { node_mapping: { image: 'image', logits: 'pred' } },
})

const [nx, ny, nz] = [12, 10, 6]
const voxels = Array.from({ length: nx * ny * nz }, (_, i) => ((i * 37) % 89) / 100)
const scan = niftiBytes({ dim: [3, nx, ny, nz], datatype: 16, voxels })
const session = async () => {
  const reply = await fetch(`${server.url}/session/`, { method: 'PUT', body: form({ image: scan }) })
  return (await reply.json()).session_id as string
}
async function click(model: string, params: Record<string, unknown>, id?: string) {
  const query = new URLSearchParams({ model, output: 'image', ...(id === undefined ? {} : { session_id: id }) })
  const body = form({ params: JSON.stringify({ background: [], result_extension: '.nii', ...params }) })
  if (id === undefined) body.append('image', new Blob([scan as BlobPart]), 'scan.nii')
  const reply = await fetch(`${server.url}/v1/deepgrow?${query}`, { method: 'POST', body })
  const bytes = new Uint8Array(await reply.arrayBuffer())
  expect(reply.status, new TextDecoder().decode(bytes.subarray(0, 500))).toBe(200)
  return { mask: Buffer.from(bytes.subarray(352)), timing: reply.headers.get('server-timing')! }
}
const CACHED = 'encoder;dur=0.0;desc="cached"'
const ran = (timing: string) => Number(/encoder;dur=([\d.]+)/.exec(timing)?.[1] ?? 0) > 0

type Sent = Record<string, Uint8Array | string>

describe('an encoder and its decoder', () => {
  beforeAll(() => put('whole', { data: fixtureModel('guidance_2d.onnx'), config: whole }))

  test.each([
    ['in a zip', { data: zipOf({ 'encoder.onnx': encoder, 'decoder.onnx': decoder }), config: config() }],
    ['in a folder of a zip', { data: zipOf({ 'a/my_enc.onnx': encoder, 'a/my_dec.onnx': decoder }), config: config() }],
    ['told by their tensors', { data: zipOf({ 'b.onnx': encoder, 'a.onnx': decoder }), config: config() }],
    [
      'as the config names them',
      {
        data: zipOf({ '1.onnx': decoder, '2.onnx': encoder, 'other.onnx': encoder }),
        config: config({ encoder: '2.onnx', decoder: '1.onnx' }),
      },
    ],
    [
      'with the config in the zip',
      {
        data: zipBytes([
          { name: 'config_aiaa.json', data: config() },
          { name: 'encoder.onnx', data: encoder },
          { name: 'decoder.onnx', data: decoder },
        ]),
      },
    ],
    ['as two files', { encoder, decoder, config: config() }],
    [
      'under other names, as the config pairs them',
      {
        encoder,
        decoder: fixtureModel('parts_other_name_decoder.onnx'),
        config: config({ layout: 'plain', feeds: { features: 'embedding' } }),
      },
    ],
  ])('are one model: %s', async (_, parts) => {
    expect(await put('halves', parts as Sent)).toMatchObject({
      status: 200,
      said: { inputs: [{ name: 'image' }, { name: 'clicked' }], outputs: [{ name: 'logits' }] },
    })
    const clicks = { foreground: [[4, 5, 3]], background: [[9, 2, 3]] }
    expect((await click('halves', clicks)).mask).toEqual((await click('whole', clicks)).mask)
  })

  test.each([
    [
      'an unknown key',
      { encoder, decoder, config: config({ enocder: 'x' }) },
      /inference\.parts: unknown key 'enocder'/,
    ],
    ['an unknown layout', { encoder, decoder, config: config({ layout: 'samm' }) }, /inference\.parts\.layout/],
    [
      'a setting of pictures',
      { encoder, decoder, config: config({ layout: 'plain', size: 64 }) },
      /parts\.size is for/,
    ],
    [
      'a decoder that reads another tensor',
      { encoder, decoder: fixtureModel('parts_other_name_decoder.onnx'), config: config() },
      /output 'features' .*meets no input of the decoder/,
    ],
    [
      'a decoder that wants another shape',
      { encoder, decoder: fixtureModel('parts_other_shape_decoder.onnx'), config: config() },
      /'features' float32 \[n,1,h,w\] does not fit the decoder's input 'features' float32 \[n,4,h,w\]/,
    ],
    ['one network', { data: encoder, config: config() }, /the model has one network/],
    ['a zip of one', { data: zipOf({ 'encoder.onnx': encoder }), config: config() }, /holds 1 ONNX model/],
    [
      'a name that is not there',
      { data: zipOf({ 'encoder.onnx': encoder, 'decoder.onnx': decoder }), config: config({ encoder: 'e.onnx' }) },
      /no 'e\.onnx', which inference\.parts\.encoder names/,
    ],
    ['a config without parts', { encoder, decoder, config: whole }, /the config has no inference\.parts/],
  ])('%s is a 422 that says so', async (_, parts, says) => {
    const { status, said } = await put('refused', parts as Sent)
    expect([status, said.error.message.join(' ')]).toEqual([422, expect.stringMatching(says)])
  })

  it('a lone encoder is a 400', async () => {
    expect(await put('refused', { encoder, config: config() })).toMatchObject({ status: 400 })
  })
})

describe('in a session', () => {
  it('the second click on a slice needs the decoder alone, and one on another slice both', async () => {
    await put('halves', { encoder, decoder, config: config() })
    const id = await session()
    const first = await click('halves', { foreground: [[4, 5, 3]] }, id)
    expect(ran(first.timing)).toBe(true)
    expect(first.timing).toMatch(/decoder;dur=/)
    const second = await click(
      'halves',
      {
        foreground: [
          [4, 5, 3],
          [6, 6, 3],
        ],
      },
      id,
    )
    expect(second.timing).toContain(CACHED)
    expect(second.mask).toEqual(
      (
        await click('halves', {
          foreground: [
            [4, 5, 3],
            [6, 6, 3],
          ],
        })
      ).mask,
    )
    expect(ran((await click('halves', { foreground: [[4, 5, 2]] }, id)).timing)).toBe(true)
    expect((await click('halves', { foreground: [[1, 1, 3]] }, id)).timing).toContain(CACHED)
  })

  it('replaced weights look again', async () => {
    await put('halves', { encoder, decoder, config: config() })
    const id = await session()
    await click('halves', { foreground: [[4, 5, 3]] }, id)
    await put('halves', { encoder: variant(encoder, 'new'), decoder, config: config() })
    expect(ran((await click('halves', { foreground: [[4, 5, 3]] }, id)).timing)).toBe(true)
  })
})

it('a model of two parts is there after a restart, with both', async () => {
  await put('halves', { encoder, decoder, config: config() })
  const before = await click('halves', { foreground: [[4, 5, 3]] })
  await server.close()
  await start()
  expect((await click('halves', { foreground: [[4, 5, 3]] })).mask).toEqual(before.mask)
})
