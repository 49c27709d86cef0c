/** MONAI Label's protocol around a fake scheduler: what its clients read, and what they send. */
import { describe, expect, test } from 'vitest'
import type { InferenceJob } from '../../src/contract/job.js'
import type { ModelConfig } from '../../src/contract/model.js'
import type { ModelEntry } from '../../src/registry/registry.js'
import { type Answer, labelMap } from '../helpers/fake-scheduler.js'
import { form, type Part, readMultipart } from '../helpers/multipart.js'
import { plainConfig } from '../helpers/runner-fixtures.js'
import { fakeRegistry, type TestApp, testApp } from '../helpers/test-app.js'

const model = (name: string, config: Partial<ModelConfig>, changes: Partial<ModelEntry> = {}): ModelEntry => ({
  name,
  revision: '1',
  generation: 0,
  origin: 'bundled',
  state: 'UNLOADED',
  createdAt: '2026-01-01T00:00:00Z',
  config: { ...plainConfig, description: `the ${name} model`, ...config },
  ...changes,
})

const MODELS = [
  model('organs', { type: 'segmentation', labels: ['spleen', 'liver'] }),
  model('organs0', { type: 'others', labels: ['background', 'kidney', 'spleen'] }),
  model('clicks2d', { type: 'deepgrow', info: { deepgrow: '2d' } }),
  model('clicks3d', {
    type: 'deepgrow',
    info: { deepgrow: '3D', options: { smooth: true, mode: ['a', 'b'], odd: {} } },
  }),
  model('clicksof', { type: 'deepgrow', labels: ['spleen', 'liver'] }),
  model('both', { type: 'pipeline', labels: [] }),
  model('extreme', { type: 'annotation' }),
  model('kind', { type: 'classification', labels: ['hand'] }),
  model('broken', { type: 'segmentation' }, { state: 'FAILED', reason: 'no weights' }),
]

/** A registry of the models above. */
const registry = () => {
  const find = (name: string) => MODELS.find((one) => one.name === name)
  const fake = fakeRegistry(MODELS.map(({ name }) => name))
  return {
    ...fake,
    list: () => MODELS,
    resolve: (name: string) => ({ ...fake.resolve(name), config: find(name)!.config! }),
  }
}

/** Answers as models do: with the statistics of the labels found. */
const found =
  (...labels: readonly { readonly label: number; readonly name: string }[]): Answer =>
  async (job, signal, onProgress) => {
    const result = await labelMap(job, signal, onProgress)
    return { ...result, params: { ...result.params, label_statistics: labels } }
  }

const appOf = (answer?: Answer) => testApp({ ...(answer ? { answer } : {}), services: { registry: registry() } })

const FILE: Part = { name: 'file', body: 'a scan', filename: '/home/me/scan.nii.gz' }

async function infer(app: TestApp, path: string, params: unknown, parts: readonly Part[] = [FILE]) {
  const { payload, headers } = form([{ name: 'params', body: JSON.stringify(params) }, ...parts])
  return app.inject({ method: 'POST', url: `/infer/${path}`, payload, headers })
}

const paramsAsked = (app: TestApp) => (app.scheduler.asked.at(-1)!.job as InferenceJob).params

describe('GET /info/', () => {
  test.each(['/info/', '/info', '/info/?model=x&label='])('%s says what the clients read', async (url) => {
    await using app = await appOf()
    const reply = await app.inject(url)
    expect(reply.statusCode).toBe(200)
    const info = reply.json()
    expect(info).not.toHaveProperty('config')
    expect(info.labels).toEqual(['spleen', 'liver', 'kidney'])
    expect(info).toMatchObject({ trainers: {}, strategies: {}, scoring: {}, train_stats: {} })
    expect(info.datastore).toEqual({ total: 0, completed: 0 })
    expect(Object.keys(info.models)).toEqual(['organs', 'organs0', 'clicks2d', 'clicks3d', 'clicksof', 'both'])
  })

  test.each([
    { name: 'organs', type: 'segmentation', labels: { spleen: 1, liver: 2 }, dimension: 3, config: {} },
    { name: 'organs0', type: 'segmentation', labels: { kidney: 1, spleen: 2 }, dimension: 3, config: {} },
    { name: 'clicks2d', type: 'deepgrow', labels: {}, dimension: 2, config: {} },
    { name: 'clicks3d', type: 'deepgrow', labels: {}, dimension: 3, config: { smooth: true, mode: ['a', 'b'] } },
    { name: 'both', type: 'deepgrow', labels: {}, dimension: 3, config: {} },
  ])('$name is a $type model of $dimension dimensions', async ({ name, ...expected }) => {
    await using app = await appOf()
    expect((await app.inject('/info/')).json().models[name]).toEqual({ description: `the ${name} model`, ...expected })
  })
})

test.each(['/auth/', '/auth'])('GET %s: nobody has to log in', async (url) => {
  await using app = await appOf()
  expect((await app.inject(url)).json()).toEqual({ enabled: false })
})

test.each([
  { method: 'GET', url: '/train/?check_if_running=true' },
  { method: 'POST', url: '/train/deepedit' },
  { method: 'DELETE', url: '/train/' },
  { method: 'POST', url: '/auth/token' },
  { method: 'GET', url: '/auth/token/valid' },
  { method: 'POST', url: '/infer/wsi/organs?image=a' },
  { method: 'POST', url: '/infer/wsi_v2/organs?image=a' },
  { method: 'GET', url: '/batch/infer' },
  { method: 'GET', url: '/scoring/' },
  { method: 'GET', url: '/model/organs' },
  { method: 'GET', url: '/proxy/dicom/studies' },
  { method: 'GET', url: '/ohif/' },
] as const)('$method $url is not offered: 404', async ({ method, url }) => {
  await using app = await appOf()
  const reply = await app.inject({ method, url })
  expect([reply.statusCode, reply.json().code]).toEqual([404, 'NOT_FOUND'])
})

describe('POST /infer/{model}', () => {
  test('the reply has params, and a file whose name has its suffix', async () => {
    await using app = await appOf(found({ label: 2, name: 'liver' }))
    const reply = await infer(app, 'organs?image=my%20scan', { result_extension: '.nrrd', client_id: 'me' })
    expect(reply.statusCode).toBe(200)
    expect(reply.headers['content-length']).toBe(String(reply.rawPayload.length))
    const [params, file] = readMultipart(String(reply.headers['content-type']), reply.rawPayload)
    expect(JSON.parse(params!.body.toString()).label_names).toEqual({ liver: 2 })
    expect([file!.filename, file!.body.toString()]).toEqual(['aas_result.nrrd', 'label map'])
  })

  test.each([
    { output: 'image', type: 'application/octet-stream', body: 'label map' },
    { output: 'all', type: 'multipart/form-data', body: 'label map' },
    { output: 'json', type: 'application/json', body: '"label_names":{"spleen":1}' },
  ])('output=$output', async ({ output, type, body }) => {
    await using app = await appOf(found({ label: 1, name: 'spleen' }))
    const reply = await infer(app, `organs?image=a&output=${output}&unknown=1`, {})
    expect(reply.statusCode).toBe(200)
    expect(reply.headers['content-type']).toContain(type)
    expect(reply.body).toContain(body)
  })

  test('an output that there is none of is refused by name', async () => {
    await using app = await appOf()
    const reply = await infer(app, 'organs?output=gif', {})
    expect([reply.statusCode, reply.json().error.message[0]]).toEqual([400, expect.stringContaining("'output'")])
  })

  test.each([
    {
      what: 'two labels',
      labels: [
        { label: 1, name: 'spleen' },
        { label: 2, name: 'liver' },
      ],
      names: { spleen: 1, liver: 2 },
    },
    { what: 'none', labels: [], names: {} },
    {
      what: 'two of one name',
      labels: [
        { label: 1, name: 'a' },
        { label: 4, name: 'a' },
      ],
      names: { a: 1, 'a (4)': 4 },
    },
  ])('label_names of $what', async ({ labels, names }) => {
    await using app = await appOf(found(...labels))
    expect((await infer(app, 'organs?output=json', {})).json().label_names).toEqual(names)
  })

  test('what a click model draws is called as the client calls it', async () => {
    await using app = await appOf(found({ label: 1, name: 'label 1' }))
    const reply = await infer(app, 'clicks3d?output=json', { label: 'cyst', foreground: [[1, 2, 3]], background: [] })
    expect(reply.json().label_names).toEqual({ cyst: 1 })
  })

  test('what only the client needs does not reach the model', async () => {
    await using app = await appOf()
    const sent = {
      client_id: 'a',
      label: 'b',
      model: 'c',
      slice: 3,
      reset_state: true,
      roi: [1],
      restore_label_idx: false,
    }
    await infer(app, 'clicks2d', { ...sent, foreground: [[1, 2, 3]], result_dtype: 'uint8', smooth: true })
    expect(paramsAsked(app)).toEqual({ foreground: [[1, 2, 3]], result_dtype: 'uint8', smooth: true })
  })

  test.each([
    { what: 'one label', model: 'clicksof', sent: { spleen: [[1, 2, 3]], liver: [], background: [[0, 0, 0]] } },
    {
      what: 'one label that the model does not know',
      model: 'clicks3d',
      sent: { spleen: [[1, 2, 3]], background: [[0, 0, 0]] },
    },
    {
      what: 'the one that is drawn',
      model: 'clicksof',
      sent: { label: 'spleen', spleen: [[1, 2, 3]], liver: [[9, 9, 9]], background: [[0, 0, 0]] },
    },
  ])('clicks of $what become foreground', async ({ model: name, sent }) => {
    await using app = await appOf(found({ label: 1, name: 'label 1' }))
    const reply = await infer(app, `${name}?output=json`, sent)
    expect(paramsAsked(app)).toEqual({ foreground: [[1, 2, 3]], background: [[0, 0, 0]] })
    expect(reply.json().label_names).toEqual({ spleen: 1 })
    const unused = 'label' in sent ? [expect.stringContaining("'liver'")] : undefined
    expect(reply.json().notes).toEqual(unused)
  })

  test('clicks of two labels, and none said to be drawn, are refused with their names', async () => {
    await using app = await appOf()
    const reply = await infer(app, 'clicksof', { spleen: [[1, 2, 3]], liver: [[4, 5, 6]] })
    expect(reply.statusCode).toBe(400)
    expect(reply.json().error.message[0]).toMatch(/'spleen' and 'liver'.*one structure/)
  })

  test('a key named like a label is a parameter where the model takes no clicks', async () => {
    await using app = await appOf()
    await infer(app, 'organs', { spleen: [[1, 2, 3]] })
    expect(paramsAsked(app)).toEqual({ spleen: [[1, 2, 3]] })
  })

  test("a mask for scribbles, the part 'label', is not taken for the image, and said to be unused", async () => {
    await using app = await appOf()
    const label = { name: 'label', body: 'raw', filename: 'label.bin' }
    const reply = await infer(app, 'organs?output=json', {}, [label, FILE])
    expect(reply.json().notes).toEqual([expect.stringContaining("'label' was not used")])
    expect((app.scheduler.asked.at(-1)!.job as InferenceJob).images).toHaveLength(1)
    const without = await infer(app, 'organs', {}, [label])
    expect([without.statusCode, without.json().code]).toEqual([400, 'MISSING_IMAGE'])
  })

  test.each([
    { what: 'no image at all', path: 'organs', parts: [], status: 400, code: 'MISSING_IMAGE' },
    { what: 'an image by name', path: 'organs?image=scan', parts: [], status: 404, code: 'NOT_FOUND' },
    {
      what: 'a session that is gone',
      path: 'organs?session_id=x&image=y',
      parts: [],
      status: 440,
      code: 'SESSION_EXPIRED',
    },
    { what: 'a model that there is none of', path: 'brain', parts: [FILE], status: 404, code: 'MODEL_NOT_FOUND' },
    {
      what: 'params as long as a mask',
      path: 'organs',
      parts: [FILE],
      params: { a: 'x'.repeat(300_000) },
      status: 413,
      code: 'TOO_LARGE',
    },
  ])('$what: $status', async ({ path, parts, params = {}, status, code }) => {
    await using app = await appOf()
    const reply = await infer(app, path, params, parts)
    expect([reply.statusCode, reply.json().code]).toEqual([status, code])
    await expect.poll(() => app.leftovers()).toEqual([])
  })
})
