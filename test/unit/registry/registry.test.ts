import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import { AppError } from '../../../src/errors.js'
import { fixtureModel, modelConfig, PROOF, RegistryHome, variant } from '../../helpers/registry.js'
import { zipBytes } from '../../helpers/zip.js'

const onnx = fixtureModel('threshold.onnx')
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const files = (home: RegistryHome, data: Uint8Array | string = onnx, config: unknown = modelConfig()) =>
  ({ kind: 'files', config, data: home.file(data) }) as const

describe('publishing', () => {
  it('shows a model only after its proof, with checksum, size and tensors', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    scheduler.outcome = async (ref) => {
      expect(registry.list()).toEqual([])
      expect(readFileSync(ref.weightsPath!)).toEqual(onnx)
      return { ...PROOF, inputs: [{ name: 'image', type: 'float32', dims: [1] }] }
    }
    const entry = await registry.put('organ', files(home))
    expect(entry).toMatchObject({
      name: 'organ',
      generation: 1,
      origin: 'workspace',
      state: 'UNLOADED',
      sha256: sha(onnx),
      bytes: onnx.length,
      rawConfig: modelConfig(),
      tensors: { inputs: [{ name: 'image' }] },
    })
    expect(registry.resolve('organ')).toMatchObject({ name: 'organ', revision: entry.revision })
    expect(registry.list()).toEqual([entry])
    await registry.close()
  })

  it('is still there after a restart', async () => {
    await using home = new RegistryHome()
    const { registry } = await home.open()
    const entry = await registry.put('organ', files(home))
    await registry.close()
    const { registry: again } = await home.open()
    expect(again.get('organ')).toEqual(entry)
    await again.close()
  })

  it('keeps the old model when the proof of a new one fails, and leaves nothing of it', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    const old = await registry.put('organ', files(home))
    scheduler.outcome = async () => {
      throw new AppError('BAD_MODEL', 'no')
    }
    await expect(registry.put('organ', files(home, variant(onnx, 'new')))).rejects.toMatchObject({ code: 'BAD_MODEL' })
    await expect(registry.put('other', files(home, variant(onnx, 'new')))).rejects.toMatchObject({ code: 'BAD_MODEL' })
    expect(registry.list()).toEqual([old])
    await registry.close()
    expect(readdirSync(join(home.folder, 'organ')).toSorted()).toEqual([`${sha(onnx)}.onnx`, 'manifest.json'])
    expect(existsSync(join(home.folder, 'other'))).toBe(false)
    expect(readdirSync(join(home.folder, '.locks'))).toEqual([])
  })

  it('swaps, retires the old version, keeps one for a roll-back and removes older weights', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    const first = await registry.put('organ', files(home, variant(onnx, 'a')))
    const second = await registry.put('organ', files(home, variant(onnx, 'b')))
    const third = await registry.put('organ', files(home, variant(onnx, 'c')))
    expect(third).toMatchObject({ generation: 3, previous: { generation: 2, revision: second.revision } })
    expect(scheduler.retired).toContainEqual({ name: 'organ', except: third.revision })
    const back = await registry.put('organ', { kind: 'generation', generation: 2 })
    expect(back).toMatchObject({ generation: 4, revision: second.revision, sha256: second.sha256 })
    await expect(registry.put('organ', { kind: 'generation', generation: 1 })).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
    })
    await registry.close()
    const kept = readdirSync(join(home.folder, 'organ')).filter((file) => file.endsWith('.onnx'))
    expect(kept.toSorted()).toEqual([`${second.sha256}.onnx`, `${third.sha256}.onnx`].toSorted())
    expect(kept).not.toContain(`${first.sha256}.onnx`)
  })

  it.each([true, false])(
    'removes replaced weights at once, nobody else being there (auto-reload: %s)',
    async (autoReload) => {
      await using home = new RegistryHome()
      const { registry } = await home.open({ autoReload })
      for (const text of ['a', 'b', 'c']) await registry.put('organ', files(home, variant(onnx, text)))
      const kept = () => readdirSync(join(home.folder, 'organ')).filter((file) => file.endsWith('.onnx'))
      const wanted = ['b', 'c'].map((text) => `${sha(variant(onnx, text))}.onnx`)
      await expect.poll(() => kept().toSorted()).toEqual(wanted.toSorted())
      await registry.close()
    },
  )

  it('sets a manifest aside that is none of ours, and starts over a lock that cannot be read', async () => {
    await using home = new RegistryHome()
    const foreign = { 'organ/manifest.json': '{"name":"web app"}', 'organ/icon.png': 'icon' }
    mkdirSync(join(home.folder, 'organ'), { recursive: true })
    mkdirSync(join(home.folder, '.locks', 'stuck.lock'), { recursive: true })
    mkdirSync(join(home.folder, 'stuck'))
    writeFileSync(join(home.workspace, 'aidant-workspace.json'), '{"format":1}')
    for (const [name, text] of Object.entries(foreign)) writeFileSync(join(home.folder, name), text)
    const { registry } = await home.open()
    await registry.put('organ', files(home))
    await expect(registry.put('stuck', files(home))).rejects.toMatchObject({ code: 'BUSY_NAME' })
    await registry.remove('organ')
    await registry.close()
    const left = readdirSync(join(home.folder, 'organ'))
    expect(left.toSorted()).toEqual(['icon.png', expect.stringMatching(/^manifest\.json\..*\.set-aside$/)])
    expect(readFileSync(join(home.folder, 'organ', left.find((name) => name !== 'icon.png')!), 'utf8')).toBe(
      foreign['organ/manifest.json'],
    )
  })

  it('replaces the config and keeps the weights on PATCH', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    const old = await registry.put('organ', files(home))
    const patched = await registry.patch('organ', modelConfig({ labels: ['kidney'] }))
    expect(patched).toMatchObject({ generation: 2, sha256: old.sha256, config: { labels: ['kidney'] } })
    expect(patched.revision).not.toBe(old.revision)
    expect(scheduler.proved).toHaveLength(2)
    await expect(registry.patch('organ', { type: 'segmentation' })).rejects.toMatchObject({ code: 'BAD_MODEL_CONFIG' })
    await expect(registry.patch('nothing', modelConfig())).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
    expect(registry.get('organ')).toEqual(patched)
    await registry.close()
  })

  it('removes a model, its runner and its files', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    await registry.put('organ', files(home))
    await registry.remove('organ')
    expect(registry.list()).toEqual([])
    expect(scheduler.retired.at(-1)).toEqual({ name: 'organ', except: undefined })
    expect(existsSync(join(home.folder, 'organ'))).toBe(false)
    await expect(registry.remove('organ')).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
    await registry.close()
  })

  it('refuses a second writer of the same name, not of another', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    let finish = (_proof: typeof PROOF) => {}
    let start = () => {}
    const proof = new Promise<typeof PROOF>((resolve) => {
      finish = resolve
    })
    const started = new Promise<void>((resolve) => {
      start = resolve
    })
    scheduler.outcome = async (ref) => {
      if (ref.name === 'other') return PROOF
      start()
      return proof
    }
    const slow = registry.put('organ', files(home))
    await started
    await expect(registry.put('organ', files(home))).rejects.toMatchObject({ code: 'BUSY_NAME' })
    await expect(registry.put('other', files(home))).resolves.toMatchObject({ name: 'other' })
    finish(PROOF)
    await slow
    await registry.close()
  })

  it('closes without waiting for the runner of a removed model; the next start removes its files', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    await registry.put('organ', files(home))
    scheduler.retire = () => new Promise(() => {})
    const removal = registry.remove('organ')
    await expect.poll(() => registry.list()).toEqual([])
    await registry.close()
    await removal
    const { registry: next } = await home.open()
    expect(existsSync(join(home.folder, 'organ'))).toBe(false)
    await next.close()
  })

  it('gives up when the client hangs up, before anything changes', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    const controller = new AbortController()
    scheduler.outcome = async () => {
      controller.abort()
      return PROOF
    }
    const put = registry.put('organ', files(home), controller.signal)
    await expect(put).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(registry.list()).toEqual([])
    await registry.close()
    expect(readdirSync(home.folder)).toEqual(['.locks'])
  })
})

describe('bundled models', () => {
  const bundled = async () => {
    const home = new RegistryHome()
    await home.bundle('organ', modelConfig(), onnx)
    return home
  }

  it('are there from the first start and are not written', async () => {
    await using home = await bundled()
    const { registry } = await home.open()
    expect(registry.get('organ')).toMatchObject({
      origin: 'bundled',
      generation: 0,
      sha256: sha(onnx),
      state: 'UNLOADED',
    })
    expect(registry.resolve('organ').weightsPath).toBe(join(home.bundledFolder, 'organ', 'model.onnx'))
    await registry.close()
    expect(readdirSync(home.folder).filter((name) => name !== '.locks')).toEqual([])
  })

  it('show what a trial of their network found on this machine', async () => {
    await using home = await bundled()
    const found = { engine: 'engine 1', plan: null, rewrites: {}, originalMs: 2, chosenMs: 2 }
    const asked: string[] = []
    const known = (revision: string) => {
      asked.push(revision)
      return found
    }
    const { registry } = await home.open({ rewrites: { known } })
    const { revision, rewrites } = registry.get('organ')
    expect(rewrites).toEqual(found)
    expect(asked).toEqual([revision])
    await registry.close()
  })

  it('give way to a workspace copy of their name', async () => {
    await using home = await bundled()
    const { registry } = await home.open()
    await registry.put('organ', files(home, variant(onnx, 'mine')))
    expect(registry.get('organ')).toMatchObject({ origin: 'workspace', sha256: sha(variant(onnx, 'mine')) })
    await registry.close()
    expect(readFileSync(join(home.bundledFolder, 'organ', 'model.onnx'))).toEqual(onnx)
  })

  it('stay deleted over a restart, and come back by their name in the catalogue', async () => {
    await using home = await bundled()
    const first = await home.open()
    await first.registry.remove('organ')
    await first.registry.close()
    const { registry } = await home.open()
    expect(registry.list()).toEqual([])
    await expect(registry.remove('organ')).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
    await registry.put('organ', { kind: 'catalog', path: 'organ' })
    expect(registry.get('organ')).toMatchObject({ origin: 'workspace', sha256: sha(onnx) })
    await registry.remove('organ')
    expect(registry.list()).toEqual([])
    await registry.close()
    expect(readdirSync(join(home.folder, 'organ'))).toEqual(['manifest.json'])
  })

  it('are patched into the workspace with their weights', async () => {
    await using home = await bundled()
    const { registry } = await home.open()
    await registry.patch('organ', modelConfig({ labels: ['kidney'] }))
    expect(registry.get('organ')).toMatchObject({
      origin: 'workspace',
      sha256: sha(onnx),
      config: { labels: ['kidney'] },
    })
    expect(registry.resolve('organ').weightsPath).toBe(join(home.folder, 'organ', `${sha(onnx)}.onnx`))
    await registry.close()
  })

  it('show why they cannot be used', async () => {
    await using home = await bundled()
    await home.bundle('weightless', modelConfig())
    await home.bundle('odd', { type: 'nothing' })
    mkdirSync(join(home.bundledFolder, 'unfinished'))
    const { registry } = await home.open()
    expect(registry.list().map(({ name, state }) => [name, state])).toEqual([
      ['odd', 'FAILED'],
      ['organ', 'UNLOADED'],
      ['weightless', 'FAILED'],
    ])
    expect(registry.get('odd').reason).toContain('config.type')
    expect(() => registry.resolve('weightless')).toThrow(expect.objectContaining({ code: 'MODEL_NOT_READY' }))
    await registry.close()
  })
})

describe('finding', () => {
  it('filters by label, whatever its case, and by type', async () => {
    await using home = new RegistryHome()
    const { registry } = await home.open()
    await registry.put('a', files(home, onnx, modelConfig({ labels: ['Liver', 'tumour'] })))
    await registry.put('b', files(home, onnx, modelConfig({ labels: ['spleen'], type: 'annotation' })))
    const names = (filter: Parameters<typeof registry.list>[0]) => registry.list(filter).map(({ name }) => name)
    expect(names({ label: 'liver' })).toEqual(['a'])
    expect(names({ type: 'annotation' })).toEqual(['b'])
    expect(names({ label: 'liver', type: 'annotation' })).toEqual([])
    expect(names({ label: '', type: '' })).toEqual(['a', 'b'])
  })

  it('finds models without labels under each label where a user points at the structure, and only there', async () => {
    await using home = new RegistryHome()
    const { registry } = await home.open()
    for (const type of ['annotation', 'deepgrow', 'segmentation', 'others'])
      await registry.put(type, files(home, onnx, modelConfig({ labels: [], type })))
    expect(registry.list({ label: 'Spleen' }).map(({ name }) => name)).toEqual(['annotation', 'deepgrow'])
    expect(registry.list({ label: 'Spleen', type: 'deepgrow' }).map(({ name }) => name)).toEqual(['deepgrow'])
    await registry.close()
  })

  it('says which models there are when one is unknown', async () => {
    await using home = new RegistryHome()
    const { registry } = await home.open()
    await registry.put('a', files(home))
    expect(() => registry.resolve('liver')).toThrow(
      expect.objectContaining({ code: 'MODEL_NOT_FOUND', hint: 'models here: a' }),
    )
    await registry.close()
  })

  it('shows a model whose weights somebody removed as failed', async () => {
    await using home = new RegistryHome()
    const first = await home.open()
    const { sha256 } = await first.registry.put('organ', files(home))
    await first.registry.close()
    rmSync(join(home.folder, 'organ', `${sha256}.onnx`))
    const { registry } = await home.open()
    expect(registry.get('organ')).toMatchObject({ state: 'FAILED', reason: 'its weights are missing' })
    expect(() => registry.resolve('organ')).toThrow(expect.objectContaining({ code: 'MODEL_NOT_READY' }))
    await registry.put('organ', files(home))
    expect(registry.get('organ').state).toBe('UNLOADED')
    await registry.close()
  })

  it('shows a model whose manifest is damaged as failed, and lets it be replaced or removed', async () => {
    await using home = new RegistryHome()
    const first = await home.open()
    await first.registry.put('organ', files(home))
    await first.registry.close()
    writeFileSync(join(home.folder, 'organ', 'manifest.json'), '{"format":')
    const { registry } = await home.open()
    expect(registry.get('organ').state).toBe('FAILED')
    await registry.put('organ', files(home))
    expect(registry.get('organ').state).toBe('UNLOADED')
    writeFileSync(join(home.folder, 'organ', 'manifest.json'), '[]')
    await registry.remove('organ')
    expect(registry.list()).toEqual([])
    await registry.close()
  })
})

describe('pipelines', () => {
  const pipeline = (models: string[]) => ({ type: 'pipeline', pipeline: { models } })
  const clicks = (deepgrow: string) => modelConfig({ type: 'deepgrow', meta_data: { deepgrow } })

  it('carry their parts, the 3-D one first', async () => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    await registry.put('slices', files(home, onnx, clicks('2D')))
    await registry.put('volume', files(home, variant(onnx, '3d'), clicks('3D')))
    await registry.put('both', { kind: 'files', config: pipeline(['slices', 'volume']) })
    const ref = registry.resolve('both')
    expect(ref.parts?.map(({ name }) => name)).toEqual(['volume', 'slices'])
    expect(ref.config.pipeline?.models).toEqual(['volume', 'slices'])
    await registry.put('volume', files(home, variant(onnx, 'new'), clicks('3D')))
    const renewed = registry.resolve('both')
    expect(renewed.revision).not.toBe(ref.revision)
    expect(registry.get('both').revision).toBe(renewed.revision)
    await registry.close()
    expect(scheduler.retired).toContainEqual({ name: 'both', except: renewed.revision })
  })

  it('fail while a part is missing', async () => {
    await using home = new RegistryHome()
    const { registry } = await home.open()
    const put = registry.put('both', { kind: 'files', config: pipeline(['slices', 'volume']) })
    await expect(put).rejects.toMatchObject({ code: 'BAD_MODEL_CONFIG', message: expect.stringContaining("'slices'") })
    await registry.put('slices', files(home, onnx, clicks('2D')))
    await registry.put('both', { kind: 'files', config: pipeline(['slices']) })
    await registry.remove('slices')
    expect(registry.get('both')).toMatchObject({ state: 'FAILED', reason: expect.stringContaining("'slices'") })
    await registry.close()
  })

  it('may not run themselves, not even through another', async () => {
    await using home = new RegistryHome()
    const { registry } = await home.open()
    await registry.put('slices', files(home, onnx, clicks('2D')))
    await registry.put('one', { kind: 'files', config: pipeline(['slices']) })
    await registry.put('two', { kind: 'files', config: pipeline(['one']) })
    await expect(registry.patch('one', pipeline(['two']))).rejects.toMatchObject({ code: 'BAD_MODEL_CONFIG' })
    await registry.close()
  })
})

describe('what is sent', () => {
  const bundleFiles = {
    'configs/metadata.json': JSON.stringify({
      name: 'spleen',
      task: 'spleen segmentation',
      network_data_format: {
        inputs: { image: { modality: 'CT' } },
        outputs: { pred: { format: 'segmentation', channel_def: { '0': 'background', '1': 'spleen' } } },
      },
    }),
    'configs/inference.json': JSON.stringify({
      preprocessing: { _target_: 'Compose', transforms: [{ _target_: 'LoadImaged', keys: 'image' }] },
      inferer: { _target_: 'SlidingWindowInferer', roi_size: [96, 96, 96], sw_batch_size: 4, overlap: 0.5 },
      postprocessing: { _target_: 'Compose', transforms: [{ _target_: 'AsDiscreted', keys: 'pred', argmax: true }] },
    }),
    'models/model.onnx': onnx,
  }
  const config = JSON.stringify(modelConfig())
  const zip = (entries: Record<string, string | Uint8Array>) =>
    zipBytes(Object.entries(entries).map(([name, data]) => ({ name, data })))
  const enclosed = (entries: Record<string, string | Uint8Array>) =>
    Object.fromEntries(Object.entries(entries).map(([name, data]) => [`folder/${name}`, data]))

  it.each([
    { name: 'an MMAR zip', data: zip({ 'config/config_aiaa.json': config, 'models/model.onnx': onnx, 'docs/x': '' }) },
    { name: 'a zip of one ONNX file', data: zip({ 'deep/er/net.onnx': onnx }), config: modelConfig() },
    { name: 'a MONAI bundle zip', data: zip(bundleFiles), want: { config: { labels: ['spleen'] } } },
    {
      name: 'a MONAI bundle zip in its folder',
      data: zip(enclosed(bundleFiles)),
      want: { config: { labels: ['spleen'] } },
    },
    {
      name: 'an MMAR zip with a config that wins',
      data: zip({ 'config/config_aiaa.json': config, 'models/model.onnx': onnx }),
      config: modelConfig({ labels: ['won'] }),
      want: { config: { labels: ['won'] } },
    },
    {
      name: 'a zip of ONNX with external data',
      data: zip({ 'm/external.onnx': fixtureModel('external.onnx'), 'm/external.data': fixtureModel('external.data') }),
      config: modelConfig(),
      want: { bytes: 327 + 512 },
    },
    {
      name: 'a pipeline of nothing but a kserve model',
      config: modelConfig({ inference: { engine: 'kserve', kserve: { url: 'http://a', model: 'm' } } }),
    },
  ])('takes $name', async ({ data, config, want = {} }) => {
    await using home = new RegistryHome()
    const { registry, scheduler } = await home.open()
    const entry = await registry.put('organ', { kind: 'files', config, data: data && home.file(data) })
    expect(entry).toMatchObject({ name: 'organ', ...want })
    const { weightsPath } = scheduler.proved[0]!
    if (weightsPath?.includes('.d/')) expect(existsSync(join(weightsPath, '..', 'external.data'))).toBe(true)
    await registry.close()
    expect(readdirSync(join(home.folder, 'organ')).filter((file) => file.endsWith('.part'))).toEqual([])
  })

  const tensorflow = Buffer.from([0x0a, 0x10, 0x0a, 0x05, ...Buffer.from('input'), 0x12, 0x01])
  it.each([
    { name: 'nothing', code: 'BAD_REQUEST', says: 'neither config nor data' },
    { name: 'a config without data', config: modelConfig(), code: 'BAD_MODEL', says: 'data is missing' },
    { name: 'data without a config', data: onnx, code: 'BAD_MODEL_CONFIG', says: 'config is missing' },
    { name: 'no bytes', data: '', config: modelConfig(), code: 'BAD_MODEL', says: 'data is empty' },
    {
      name: 'text',
      data: fixtureModel('bad.onnx'),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'not a readable ONNX',
    },
    {
      name: 'half a model',
      data: fixtureModel('cut.onnx'),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'ends too early',
    },
    {
      name: 'external data that escapes',
      data: fixtureModel('escape.onnx'),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'outside its own folder',
    },
    {
      name: 'external data that is not there',
      data: fixtureModel('external.onnx'),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: "'external.data', which was not sent",
    },
    {
      name: 'a TensorFlow graph',
      data: tensorflow,
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'TensorFlow graph',
    },
    { name: 'a TensorRT plan', data: 'ptrt....', config: modelConfig(), code: 'BAD_MODEL', says: 'TensorRT plan' },
    {
      name: 'a Keras file',
      data: Buffer.from('\x89HDF\r\n\x1a\n', 'latin1'),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'Keras',
    },
    {
      name: 'a pickle',
      data: Buffer.from([0x80, 0x02, 0x8a]),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'PyTorch',
    },
    {
      name: 'TorchScript',
      data: zip({ 'm/constants.pkl': 'x', 'm/data.pkl': 'x' }),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'TorchScript',
    },
    {
      name: 'a SavedModel',
      data: zip({ 'saved_model.pb': 'x' }),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'TensorFlow graph',
    },
    {
      name: 'an MMAR in a folder',
      data: zip(enclosed({ 'config/config_aiaa.json': config, 'models/model.onnx': onnx })),
      code: 'BAD_MODEL',
      says: 'inside another folder',
    },
    {
      name: 'an MMAR of TorchScript',
      data: zip({ 'config/config_aiaa.json': config, 'models/model.ts': 'x' }),
      code: 'BAD_MODEL',
      says: 'TorchScript',
    },
    {
      name: 'a bundle without ONNX',
      data: zip({ 'configs/metadata.json': '{}', 'docs/a': '' }),
      code: 'BAD_MODEL',
      says: 'holds no ONNX model',
    },
    { name: 'an empty archive', data: zip({}), config: modelConfig(), code: 'BAD_MODEL', says: 'holds no ONNX model' },
    {
      name: 'two models',
      data: zip({ 'a.onnx': onnx, 'b.onnx': onnx }),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: '2 ONNX models',
    },
    {
      name: 'a slip out of the archive',
      data: zip({ '../../evil.onnx': onnx }),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'unsafe name',
    },
    {
      name: 'an absolute entry',
      data: zip({ '/etc/evil.onnx': onnx }),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'unsafe name',
    },
    {
      name: 'a link',
      data: zipBytes([{ name: 'model.onnx', data: '/etc/passwd', mode: 0o120777 }]),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'link',
    },
    {
      name: 'a bomb',
      data: zip({ 'model.onnx': Buffer.alloc(2 << 20) }),
      config: modelConfig(),
      code: 'TOO_LARGE',
      says: 'limit',
    },
    {
      name: 'a damaged archive',
      data: zip({ 'model.onnx': onnx }).subarray(0, 100),
      config: modelConfig(),
      code: 'BAD_MODEL',
      says: 'zip archive',
    },
    {
      name: 'a config that is not JSON',
      data: zip({ 'config/config_aiaa.json': '{', 'models/model.onnx': onnx }),
      code: 'BAD_MODEL_CONFIG',
      says: 'is not JSON',
    },
  ])('refuses $name', async ({ data, config, code, says }) => {
    await using home = new RegistryHome()
    const { registry } = await home.open()
    const put = registry.put('organ', { kind: 'files', config, data: data === undefined ? undefined : home.file(data) })
    await expect(put).rejects.toMatchObject({ code, message: expect.stringContaining(says) })
    await registry.close()
    expect(readdirSync(home.folder)).toEqual(['.locks'])
    expect(readdirSync(join(home.folder, '.locks'))).toEqual([])
  })

  it.each(['..', '.', '../up', 'a/b', '/etc', '.hidden', 'a\\b', '', 'a\0b', 'x'.repeat(65), '%2e%2e'])(
    'refuses the name %j',
    async (name) => {
      await using home = new RegistryHome()
      const { registry } = await home.open()
      await expect(registry.put(name, files(home))).rejects.toMatchObject({ code: 'BAD_NAME' })
      await expect(registry.remove(name)).rejects.toMatchObject({ code: 'BAD_NAME' })
      expect(() => registry.get(name)).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FOUND' }))
      await registry.close()
    },
  )
})

describe('two registries on one workspace', () => {
  test('follow each other: loads, updates, removals, marks of bundled names', async () => {
    await using home = new RegistryHome()
    await home.bundle('bundled', modelConfig(), onnx)
    const one = await home.open({ autoReload: true })
    const two = await home.open({ autoReload: true })
    const shown = ({ registry }: typeof one) => registry.list().map(({ name, revision }) => `${name} ${revision}`)
    const alike = () => expect.poll(() => shown(two), { timeout: 5_000 }).toEqual(shown(one))

    await one.registry.put('organ', files(home))
    await alike()
    const updated = await one.registry.put('organ', files(home, variant(onnx, 'new')))
    await alike()
    expect(two.scheduler.retired).toContainEqual({ name: 'organ', except: updated.revision })
    expect(readFileSync(two.registry.resolve('organ').weightsPath!)).toEqual(variant(onnx, 'new'))
    await one.registry.remove('bundled')
    await one.registry.remove('organ')
    await alike()
    expect(shown(two)).toEqual([])
    await Promise.all([one.registry.close(), two.registry.close()])
  })

  test('weights of a removed model stay for the server that has not heard', async () => {
    await using home = new RegistryHome()
    const one = await home.open({ autoReload: true })
    await one.registry.put('organ', files(home))
    const two = await home.open({ autoReload: true })
    await one.registry.remove('organ')
    expect(existsSync(two.registry.resolve('organ').weightsPath!)).toBe(true)
    await Promise.all([one.registry.close(), two.registry.close()])
  })

  test('change a name one at a time', async () => {
    await using home = new RegistryHome()
    const one = await home.open()
    const two = await home.open()
    one.scheduler.outcome = async () => {
      await expect(two.registry.put('organ', files(home))).rejects.toMatchObject({ code: 'BUSY_NAME' })
      return PROOF
    }
    await one.registry.put('organ', files(home))
    await two.registry.put('organ', files(home, variant(onnx, 'second')))
    expect(two.registry.get('organ').generation).toBe(2)
    await Promise.all([one.registry.close(), two.registry.close()])
  })
})
