import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import type { RunnerStatus, Scheduler } from '../../src/scheduler/scheduler.js'
import { fakeScheduler } from '../helpers/fake-scheduler.js'
import { form, type Part } from '../helpers/multipart.js'
import { fixtureModel, LIMITS, modelConfig, RegistryHome, variant, writeModel } from '../helpers/registry.js'
import { testApp } from '../helpers/test-app.js'
import { zipBytes } from '../helpers/zip.js'

const onnx = fixtureModel('threshold.onnx')

/** The whole application around a real registry; only proofs and runners are not real. */
async function modelsApp({ catalog = '', flags = [] as string[], limits = LIMITS } = {}) {
  const home = new RegistryHome()
  const proofs = { outcome: async () => ({ inputs: [], outputs: [], device: 'cpu' }) as const }
  const statuses: RunnerStatus[] = []
  const loads: string[] = []
  const scheduler: Scheduler = {
    ...fakeScheduler(),
    prove: () => proofs.outcome(),
    status: () => statuses,
    load: async ({ name }) => void loads.push(name),
    retire: async (name) => void statuses.splice(0, statuses.length, ...statuses.filter((one) => one.model !== name)),
  }
  await home.bundle('bundled', modelConfig({ labels: ['Liver'] }), onnx)
  const { registry } = await home.open({
    scheduler: scheduler as never,
    catalog: catalog && join(home.root, catalog),
    limits,
  })
  const app = await testApp({ services: { registry, scheduler }, flags })
  return {
    home,
    registry,
    proofs,
    statuses,
    loads,
    inject: app.inject,
    app,
    async put(name: string, parts: readonly Part[]) {
      const { payload, headers } = form(parts)
      return app.inject({ method: 'PUT', url: `/admin/model/${name}`, payload, headers })
    },
    async json(method: 'PUT' | 'PATCH', name: string, body: unknown) {
      const payload = typeof body === 'string' ? body : JSON.stringify(body)
      const headers = { 'content-type': 'application/json' }
      return app.inject({ method, url: `/admin/model/${name}`, payload, headers })
    },
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      await registry.close()
      await home[Symbol.asyncDispose]()
    },
  }
}

const configPart = (config: unknown = modelConfig()): Part => ({
  name: 'config',
  body: typeof config === 'string' ? config : JSON.stringify(config),
  filename: 'config_aiaa.json',
  type: 'application/json',
})
const dataPart = (body: Buffer = onnx): Part => ({ name: 'data', body, filename: '/home/me/model.onnx' })

describe('GET /v1/models', () => {
  test('is an array of what every known client reads, in their types', async () => {
    await using app = await modelsApp()
    await app.put('clicks', [
      configPart(
        modelConfig({ version: 1, type: 'deepgrow', labels: [], meta_data: { deepgrow: '3D' }, description: '' }),
      ),
      dataPart(),
    ])
    await app.put('points', [
      configPart(modelConfig({ type: 'annotation', padding: 12.5, roi: [96, 96, 96] })),
      dataPart(),
    ])
    for (const url of ['/v1/models', '/v1/models/']) {
      const reply = await app.inject(url)
      expect(reply.statusCode).toBe(200)
      expect(reply.json()).toMatchObject([
        {
          name: 'bundled',
          type: 'segmentation',
          labels: ['Liver'],
          version: '3',
          origin: 'bundled',
          state: 'UNLOADED',
        },
        { name: 'clicks', type: 'deepgrow', labels: [], version: '1', deepgrow: '3D', description: '' },
        { name: 'points', type: 'annotation', padding: 12.5, roi: [96, 96, 96], origin: 'workspace' },
      ])
    }
  })

  test('with model is one object', async () => {
    await using app = await modelsApp()
    const reply = await app.inject('/v1/models?model=bundled')
    expect(reply.json()).toMatchObject({ name: 'bundled', description: 'above one half', bytes: onnx.length })
    expect(reply.json().sha256).toMatch(/^[0-9a-f]{64}$/)
  })

  it.each([
    { query: 'label=liver', names: ['bundled'] },
    { query: 'label=spleen', names: [] },
    { query: 'type=segmentation', names: ['bundled'] },
    { query: 'label=Liver&type=annotation', names: [] },
    { query: 'label=&type=&model=', names: ['bundled'] },
  ])('filters by $query', async ({ query, names }) => {
    await using app = await modelsApp()
    const models: { name: string }[] = (await app.inject(`/v1/models?${query}`)).json()
    expect(models.map(({ name }) => name)).toEqual(names)
  })

  test('404 says which models there are', async () => {
    await using app = await modelsApp()
    const reply = await app.inject('/v1/models?model=liver')
    expect(reply.statusCode).toBe(404)
    expect(reply.json()).toMatchObject({ code: 'MODEL_NOT_FOUND', hint: 'models here: bundled' })
  })

  test('shows state and device of a loaded model', async () => {
    await using app = await modelsApp()
    const { revision } = app.registry.get('bundled')
    const status = { model: 'bundled', pid: 7, rssBytes: 9, queued: 0, until: undefined, revision }
    app.statuses.push({ ...status, state: 'busy', device: 'cpu', fallbackReason: 'CUDA is not there' })
    const reply = await app.inject('/v1/models?model=bundled')
    expect(reply.json()).toMatchObject({ state: 'READY', device: 'cpu', reason: 'CUDA is not there' })
    expect((await app.inject('/admin/ps')).json()).toEqual([
      {
        model: 'bundled',
        revision,
        pid: 7,
        rss_bytes: 9,
        queued: 0,
        state: 'busy',
        device: 'cpu',
        fallback_reason: 'CUDA is not there',
      },
    ])
  })

  test("a config's additions do not replace the fields that clients rely on", async () => {
    await using app = await modelsApp()
    const config = modelConfig({ additional_info: { name: 'evil', labels: null, version: 7, sigma: 3 } })
    await app.put('organ', [configPart(config), dataPart()])
    const reply = await app.inject('/v1/models?model=organ')
    expect(reply.json()).toMatchObject({ name: 'organ', labels: ['organ'], version: '3', sigma: 3 })
  })

  test('additions of a type that a client would fail on do not cost it the list', async () => {
    await using app = await modelsApp()
    const additional_info = {
      padding: '12',
      roi: 'small',
      sigma: null,
      device: 0,
      reason: null,
      bytes: 'many',
      note: [1],
    }
    await app.put('organ', [configPart(modelConfig({ additional_info })), dataPart()])
    const reply = await app.inject('/v1/models')
    expect([reply.statusCode, reply.body]).toEqual([200, expect.not.stringContaining('null')])
    const organ = reply.json().find(({ name }: { name: string }) => name === 'organ')
    expect(organ).toMatchObject({ padding: 12, note: [1], bytes: onnx.length })
    for (const key of ['roi', 'sigma', 'device', 'reason']) expect(organ).not.toHaveProperty(key)
  })

  test('leaves out a model whose config cannot be read, and says so when it is asked for', async () => {
    await using app = await modelsApp()
    await app.home.bundle('odd', { type: 'nothing' }, onnx)
    const { registry } = await app.home.open()
    await using other = await testApp({ services: { registry } })
    expect((await other.inject('/v1/models')).json()).toHaveLength(1)
    expect((await other.inject('/v1/models?model=odd')).json()).toMatchObject({ code: 'MODEL_NOT_READY' })
    expect((await other.inject('/admin/model')).json()).toMatchObject([
      { name: 'bundled' },
      { name: 'odd', state: 'FAILED' },
    ])
    await registry.close()
  })
})

describe('PUT /admin/model/<name>', () => {
  test('takes config and data, and the model can be used at once', async () => {
    await using app = await modelsApp()
    const reply = await app.put('organ', [configPart(), dataPart()])
    expect(reply.statusCode).toBe(200)
    expect(reply.json()).toMatchObject({ name: 'organ', state: 'UNLOADED', generation: 1, bytes: onnx.length })
    const image: Part = { name: 'image', body: 'x', filename: 'a.nii.gz' }
    const { payload, headers } = form([image])
    const url = '/v1/segmentation?model=organ&output=image'
    expect((await app.inject({ method: 'POST', url, payload, headers })).statusCode).toBe(200)
    await expect.poll(() => app.app.leftovers()).toEqual([])
  })

  it.each([
    { name: 'the data before the config', parts: [dataPart(), configPart()] },
    {
      name: 'the config as a plain field',
      parts: [{ name: 'config', body: JSON.stringify(modelConfig()) }, dataPart()],
    },
    {
      name: 'the config as a JSON field',
      parts: [{ name: 'config', body: JSON.stringify(modelConfig()), type: 'application/json' }, dataPart()],
    },
    {
      name: 'an MMAR zip alone',
      parts: [
        dataPart(
          zipBytes([
            { name: 'config/config_aiaa.json', data: JSON.stringify(modelConfig()) },
            { name: 'models/model.onnx', data: onnx },
          ]),
        ),
      ],
    },
    { name: 'a pipeline without data', parts: [configPart({ type: 'pipeline', pipeline: { models: ['bundled'] } })] },
  ])('takes $name', async ({ parts }) => {
    await using app = await modelsApp()
    const reply = await app.put('organ', parts)
    expect(reply.json()).toMatchObject({ name: 'organ', generation: 1 })
  })

  it.each([
    { name: 'no part', parts: [{ name: 'other', body: 'x' }], status: 400, says: 'neither config nor data' },
    {
      name: 'an unknown part',
      parts: [configPart(), { ...dataPart(), name: 'model' }],
      status: 400,
      says: "part 'model'",
    },
    {
      name: 'two data parts',
      parts: [configPart(), dataPart(), dataPart()],
      status: 400,
      says: 'two parts data are called',
    },
    { name: 'data as text', parts: [configPart(), { name: 'data', body: 'x' }], status: 400, says: 'not a file' },
    {
      name: 'config that is not JSON',
      parts: [configPart('{"type":'), dataPart()],
      status: 422,
      says: 'config is not JSON',
    },
    {
      name: 'a config with a slip',
      parts: [configPart(modelConfig({ lables: [] })), dataPart()],
      status: 422,
      says: "'lables'",
    },
    {
      name: 'a TorchScript file',
      parts: [configPart(), dataPart(zipBytes([{ name: 'm/constants.pkl', data: 'x' }]))],
      status: 422,
      says: 'TorchScript',
    },
    {
      name: 'an NGC model without a catalogue',
      parts: [{ name: 'ngc', body: '{"path":"nvidia/med/x","version":"1"}' }],
      status: 422,
      says: 'no model catalogue',
    },
    { name: 'NGC in odd words', parts: [{ name: 'ngc', body: '{}' }], status: 400, says: 'does not name a model' },
  ])('refuses $name', async ({ parts, status, says }) => {
    await using app = await modelsApp()
    const reply = await app.put('organ', parts)
    expect(reply.statusCode).toBe(status)
    expect(reply.json().error.message[0]).toContain(says)
    expect((await app.inject('/v1/models?model=organ')).statusCode).toBe(404)
  })

  test('takes an archive as the body itself, and a pipeline as its config alone', async () => {
    await using app = await modelsApp()
    const mmar = zipBytes([
      { name: 'config/config_aiaa.json', data: JSON.stringify(modelConfig()) },
      { name: 'models/model.onnx', data: onnx },
    ])
    const headers = { 'content-type': 'application/zip' }
    const reply = await app.inject({ method: 'PUT', url: '/admin/model/organ', payload: mmar, headers })
    expect(reply.json()).toMatchObject({ name: 'organ', type: 'segmentation' })
    const pipeline = await app.json('PUT', 'both', { type: 'pipeline', pipeline: { models: ['organ'] } })
    expect(pipeline.json()).toMatchObject({ name: 'both', type: 'pipeline' })
  })

  test('names the limit and its flag when the model is too large', async () => {
    await using app = await modelsApp({ flags: ['--max-model-bytes', '100'] })
    const reply = await app.put('organ', [configPart(), dataPart()])
    expect(reply.statusCode).toBe(413)
    expect(reply.json().hint).toContain('--max-model-bytes')
  })

  test('that fails its proof changes nothing', async () => {
    await using app = await modelsApp()
    await app.put('organ', [configPart(), dataPart()])
    app.proofs.outcome = async () => {
      throw new AppError('BAD_MODEL', "output 'logits' has 3 channels, the config names 5 labels")
    }
    const reply = await app.put('organ', [configPart(), dataPart(variant(onnx, 'new'))])
    expect(reply.statusCode).toBe(422)
    expect(reply.json().error.message).toEqual(["output 'logits' has 3 channels, the config names 5 labels"])
    expect((await app.inject('/admin/model')).json()[1]).toMatchObject({ name: 'organ', generation: 1 })
  })

  it.each(['..%2f..%2fetc', '.hidden', 'a%2Fb', '%2e%2e', 'a%00b'])('refuses the name %s', async (name) => {
    await using app = await modelsApp()
    const reply = await app.put(name, [configPart(), dataPart()])
    expect([400, 404]).toContain(reply.statusCode)
    expect(readdirSync(app.home.folder).filter((entry) => entry !== '.locks')).toEqual([])
  })

  test('brings a kept generation back', async () => {
    await using app = await modelsApp()
    const first = await app.put('organ', [configPart(), dataPart()])
    await app.put('organ', [configPart(), dataPart(variant(onnx, 'new'))])
    const back = await app.json('PUT', 'organ', { generation: 1 })
    expect(back.json()).toMatchObject({ generation: 3, revision: first.json().revision, previous: { generation: 2 } })
    const missing = await app.json('PUT', 'organ', { generation: 1 })
    expect(missing.json()).toMatchObject({ code: 'MODEL_NOT_FOUND', hint: 'kept: 3, 2' })
  })
})

describe('the catalogue', () => {
  const layout = async () => {
    const app = await modelsApp({ catalog: 'catalog' })
    const catalog = join(app.home.root, 'catalog')
    await writeModel(join(catalog, 'nvidia/med/spleen/1'), modelConfig({ labels: ['one'] }), onnx)
    await writeModel(join(catalog, 'nvidia/med/spleen/2'), modelConfig({ labels: ['two'] }), onnx)
    writeFileSync(
      join(catalog, 'mmar.zip'),
      zipBytes([
        { name: 'config/config_aiaa.json', data: JSON.stringify(modelConfig({ labels: ['zip'] })) },
        { name: 'models/model.onnx', data: onnx },
      ]),
    )
    return app
  }

  test('as a folder gives models by path and version', async () => {
    await using app = await layout()
    const two = await app.json('PUT', 'spleen', { path: 'nvidia/med/spleen', version: 2 })
    expect(two.json()).toMatchObject({ name: 'spleen', labels: ['two'] })
    const ngc = await app.put('spleen', [{ name: 'ngc', body: '{"path":"nvidia/med/spleen","version":"1"}' }])
    expect(ngc.json()).toMatchObject({ labels: ['one'], generation: 2 })
    expect((await app.json('PUT', 'zipped', { path: 'mmar' })).json()).toMatchObject({ labels: ['zip'] })
    expect((await app.json('PUT', 'spleen', { path: 'nvidia/med/liver' })).statusCode).toBe(404)
    expect((await app.json('PUT', 'mine', { path: 'bundled' })).json()).toMatchObject({ labels: ['Liver'] })
  })

  it.each(['../bundled/bundled', '/etc', 'nvidia//med', 'nvidia/../mmar', '.'])('refuses the path %s', async (path) => {
    await using app = await layout()
    const reply = await app.json('PUT', 'organ', { path })
    expect(reply.json()).toMatchObject({ code: 'BAD_NAME' })
  })

  test('as a file gives models by path or url, when the hash is right', async () => {
    await using app = await modelsApp({ catalog: 'catalog.json' })
    const url = 'https://models.example/spleen.onnx'
    const { sha256 } = app.registry.get('bundled')
    writeFileSync(join(app.home.root, 'spleen.onnx'), onnx)
    writeFileSync(join(app.home.root, 'spleen.json'), JSON.stringify(modelConfig()))
    const spleen = { file: 'spleen.onnx', config: 'spleen.json', version: 1, url, sha256 }
    const outside = { ...spleen, file: '../../../../etc/hostname', sha256: undefined, url: undefined }
    writeFileSync(join(app.home.root, 'catalog.json'), JSON.stringify({ spleen, outside }))
    expect((await app.json('PUT', 'a', { path: 'spleen', version: '1' })).statusCode).toBe(200)
    expect((await app.json('PUT', 'b', { url, sha256 })).statusCode).toBe(200)
    expect((await app.json('PUT', 'b', { url, sha256: 'a'.repeat(64) })).json()).toMatchObject({ code: 'BAD_MODEL' })
    expect((await app.json('PUT', 'b', { url: `${url}2`, sha256 })).statusCode).toBe(404)
    expect((await app.json('PUT', 'c', { path: 'outside' })).statusCode).toBe(404)
    expect((await app.json('PUT', 'd', { path: 'spleen', version: '9' })).statusCode).toBe(404)
    expect(readdirSync(app.home.root)).toContain('spleen.onnx')
  })
})

describe('a draft', () => {
  test('of an ONNX file says what would be done with it, and loads nothing', async () => {
    await using app = await modelsApp()
    const reply = await app.put('organ?draft=true', [dataPart()])
    expect(reply.statusCode, reply.body).toBe(200)
    const { draft, config, understood, questions } = reply.json()
    expect(draft).toBe(true)
    expect(config).toMatchObject({ type: 'segmentation', version: '4' })
    expect(understood).toContain('type: segmentation')
    expect(questions.length).toBeGreaterThan(0)
    expect((await app.inject('/admin/model/organ')).statusCode).toBe(404)
    expect((await app.put('organ', [configPart(config), dataPart()])).statusCode).toBe(200)
  })
  test('needs an upload', async () => {
    await using app = await modelsApp()
    expect((await app.json('PUT', 'organ?draft=true', { generation: 1 })).statusCode).toBe(400)
  })
})

describe('several networks in one model', () => {
  const networks = ['fold_0/model.onnx', 'fold_1/model.onnx']
  const config = () => {
    const { inference, ...rest } = modelConfig() as { inference: object }
    return { ...rest, inference: { ...inference, networks } }
  }
  const folds = (names: readonly string[]): Part => ({
    name: 'data',
    filename: 'folds.zip',
    body: zipBytes(names.map((name, i) => ({ name, data: i === 0 ? onnx : variant(onnx, name) }))),
  })

  test('are kept together, and with them the publish before', async () => {
    await using app = await modelsApp()
    const reply = await app.put('organ', [configPart(config()), folds(networks)])
    expect(reply.statusCode, reply.body).toBe(200)
    expect(app.registry.resolve('organ').morePaths).toHaveLength(1)
    expect((await app.json('PATCH', 'organ', { ...config(), labels: ['kidney'] })).statusCode).toBe(200)
    expect(app.registry.resolve('organ').morePaths).toHaveLength(1)
    expect((await app.json('PUT', 'organ', { generation: 1 })).statusCode).toBe(200)
    expect(app.registry.resolve('organ').morePaths).toHaveLength(1)
  })
  test('keep their names when a PATCH puts them in another order or leaves one out', async () => {
    await using app = await modelsApp()
    await app.put('organ', [configPart(config()), folds(networks)])
    const paths = () => {
      const { weightsPath, morePaths = [] } = app.registry.resolve('organ')
      return [weightsPath, ...morePaths]
    }
    const before = paths()
    const named = (names: readonly string[]) => {
      const { inference, ...rest } = config()
      return { ...rest, inference: { ...inference, networks: names } }
    }
    expect((await app.json('PATCH', 'organ', named(networks.toReversed()))).statusCode).toBe(200)
    expect(paths()).toEqual(before.toReversed())
    expect((await app.json('PATCH', 'organ', named(networks.slice(1)))).statusCode).toBe(200)
    expect(paths()).toEqual(before.slice(1))
    const reply = await app.json('PATCH', 'organ', named(networks))
    expect([reply.statusCode, reply.json().error.message[0]]).toEqual([
      422,
      expect.stringContaining("no network 'fold_0"),
    ])
  })
  test.each([
    ['a network that the archive does not have', [networks[0]!], 422],
    ['fewer networks than the config names, by PATCH', networks, 422],
  ])('%s is refused', async (_, names, status) => {
    await using app = await modelsApp()
    const put = await app.put('organ', [configPart(config()), folds(names)])
    if (names.length < 2) return void expect(put.statusCode).toBe(status)
    expect((await app.json('PATCH', 'organ', modelConfig())).statusCode).toBe(status)
  })
})

describe('the other admin routes', () => {
  test('GET gives the config as uploaded; PATCH takes it back changed', async () => {
    await using app = await modelsApp()
    await app.put('organ', [configPart(), dataPart()])
    const config = (await app.inject('/admin/model/organ')).json()
    expect(config).toEqual(modelConfig())
    const reply = await app.json('PATCH', 'organ', { ...config, labels: ['kidney'] })
    expect(reply.json()).toMatchObject({ labels: ['kidney'], generation: 2 })
    expect((await app.inject('/admin/model/organ')).json().labels).toEqual(['kidney'])
  })

  it.each([
    { name: 'no body', body: '', status: 400 },
    { name: 'no JSON', body: '{"a"', status: 422 },
    { name: 'no config', body: '[]', status: 422 },
    { name: 'a prototype', body: '{"__proto__":{},"type":"others","inference":{}}', status: 422 },
  ])('PATCH refuses $name', async ({ body, status }) => {
    await using app = await modelsApp()
    expect((await app.json('PATCH', 'bundled', body)).statusCode).toBe(status)
  })

  test('PATCH takes what curl -d sends without a header, too', async () => {
    await using app = await modelsApp()
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const payload = JSON.stringify(modelConfig({ labels: ['kidney'] }))
    const reply = await app.inject({ method: 'PATCH', url: '/admin/model/bundled', payload, headers })
    expect(reply.json()).toMatchObject({ labels: ['kidney'], origin: 'workspace' })
  })

  test('DELETE of a bundled model marks it as gone, and its path brings it back', async () => {
    await using app = await modelsApp()
    expect((await app.inject({ method: 'DELETE', url: '/admin/model/bundled' })).json()).toMatchObject({
      name: 'bundled',
    })
    expect((await app.inject('/v1/models')).json()).toEqual([])
    expect((await app.inject({ method: 'DELETE', url: '/admin/model/bundled' })).statusCode).toBe(404)
    expect((await app.json('PUT', 'bundled', { path: 'bundled' })).statusCode).toBe(200)
    expect((await app.inject('/v1/models')).json()).toMatchObject([{ name: 'bundled', origin: 'workspace' }])
  })

  test('load and unload a model', async () => {
    await using app = await modelsApp()
    expect((await app.inject({ method: 'POST', url: '/admin/model/bundled/load' })).statusCode).toBe(200)
    expect(app.loads).toEqual(['bundled'])
    expect((await app.inject({ method: 'POST', url: '/admin/model/bundled/unload' })).json()).toMatchObject({
      state: 'UNLOADED',
    })
    expect((await app.inject({ method: 'POST', url: '/admin/model/nothing/load' })).statusCode).toBe(404)
  })

  it.each([
    { method: 'GET', url: '/admin/model' },
    { method: 'GET', url: '/admin/model/bundled' },
    { method: 'GET', url: '/admin/ps' },
    { method: 'PUT', url: '/admin/model/bundled' },
    { method: 'PATCH', url: '/admin/model/bundled' },
    { method: 'DELETE', url: '/admin/model/bundled' },
    { method: 'POST', url: '/admin/model/bundled/load' },
    { method: 'POST', url: '/admin/model/bundled/unload' },
  ] as const)('$method $url is for admin hosts only', async (request) => {
    await using app = await modelsApp({ flags: ['--admin_hosts', '10.1.2.3'] })
    expect((await app.inject(request)).statusCode).toBe(403)
    expect((await app.inject('/v1/models')).json()).toHaveLength(1)
  })
})
