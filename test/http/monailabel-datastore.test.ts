/** The datastore as MONAI Label's clients use it, around a tool runner that really reads what is sent. */
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { InferenceJob, ToolJob } from '../../src/contract/job.js'
import { runTool } from '../../src/pipelines/run-tool.js'
import { type Answer, labelMap } from '../helpers/fake-scheduler.js'
import { form, type Part } from '../helpers/multipart.js'
import { idleControl } from '../helpers/pipeline.js'
import { type TestApp, testApp } from '../helpers/test-app.js'
import { niftiFile, tempFolder, volumeOf } from '../helpers/volumes.js'

const answer: Answer = (job, signal, onProgress) =>
  job.kind !== 'inference' ? runTool(job as ToolJob, idleControl) : labelMap(job, signal, onProgress)

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-stored-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const storeApp = (flags: readonly string[] = []) =>
  testApp({ answer, flags: ['--datastore', join(root, 'store'), ...flags] })

async function nifti(shift = 0, size = [4, 3, 2] as const): Promise<Buffer> {
  await using folder = await tempFolder()
  // Awaited here: the folder goes when this function returns.
  return await readFile(await niftiFile(folder.path, volumeOf(size, { value: (i) => i + shift })))
}

const filesBelow = async (folder: string) => (await readdir(folder, { recursive: true })).sort()

async function send(app: TestApp, method: 'PUT' | 'POST', url: string, parts: readonly Part[], extra = {}) {
  const { payload, headers } = form(parts)
  return app.inject({ method, url, payload, headers: { ...headers, ...extra } })
}

const fileOf = (name: string, body: Buffer | string): Part => ({ name, body, filename: `/home/me/${name}.nii.gz` })
const PARAMS: Part = { name: 'params', body: '{"client_id": "me"}' }

const putImage = async (app: TestApp, id: string, body?: Buffer) =>
  send(app, 'PUT', `/datastore/?image=${encodeURIComponent(id)}`, [PARAMS, fileOf('file', body ?? (await nifti()))])

const putLabel = (app: TestApp, id: string, body: Buffer | string, tag = '', params: unknown = {}) =>
  send(app, 'PUT', `/datastore/label?image=${encodeURIComponent(id)}&tag=${encodeURIComponent(tag)}`, [
    { name: 'params', body: JSON.stringify(params) },
    fileOf('label', body),
  ])

test('an image goes in and comes out as it came, with a file name that has its suffix', async () => {
  await using app = await storeApp()
  const scan = await nifti()
  const put = await putImage(app, 'MR Head / 1', scan)
  expect([put.statusCode, put.json()]).toEqual([200, { image: 'MR Head / 1' }])
  const got = await app.inject('/datastore/image?image=MR%20Head%20%2F%201')
  expect(got.rawPayload.equals(scan)).toBe(true)
  expect(got.headers['content-disposition']).toBe('attachment; filename="MR_Head_1.nii.gz"')
  const volume = await app.inject('/datastore/image?image=MR%20Head%20%2F%201&volume=true')
  expect(volume.headers['content-disposition']).toContain('filename="MR_Head_1.nii"')
  expect(volume.rawPayload.subarray(352).equals(gunzipSync(scan).subarray(352))).toBe(true)
  await expect.poll(() => app.leftovers()).toEqual([])
})

test('without a name one is made', async () => {
  await using app = await storeApp()
  const { image } = (await send(app, 'PUT', '/datastore/', [fileOf('file', await nifti())])).json()
  expect(image).toMatch(/^image-[0-9a-f-]{36}$/)
  expect((await app.inject(`/datastore/image/info/?image=${image}`)).json()).toMatchObject({
    name: image,
    size: [4, 3, 2],
  })
})

test('a label is listed, comes back, and says which value is called what', async () => {
  await using app = await storeApp()
  await putImage(app, 'a')
  const mask = await nifti(1)
  const put = await putLabel(app, 'a', mask, '', { label_info: [{ name: 'spleen', idx: 1 }], client_id: 'me' })
  expect([put.statusCode, put.json()]).toEqual([200, { image: 'a', label: 'a' }])
  await putLabel(app, 'a', mask, 'original')
  const { objects } = (await app.inject('/datastore/?output=all')).json()
  expect(objects.a.image).toMatchObject({ ext: '.nii.gz', info: { format: 'nifti', versions: 3 } })
  expect(objects.a.labels.final).toMatchObject({ ext: '.nii.gz', info: { params: { label_names: { spleen: 1 } } } })
  expect(JSON.stringify(objects)).not.toContain('client_id')
  const got = await app.inject('/datastore/label?label=a&tag=final')
  expect(got.rawPayload.equals(mask)).toBe(true)
  expect(got.headers['content-disposition']).toContain('filename="a.nii.gz"')
  const volume = await app.inject('/datastore/label?label=a&volume=true')
  expect(volume.rawPayload.subarray(352).equals(gunzipSync(mask).subarray(352))).toBe(true)
  expect((await app.inject('/datastore/label?label=a')).rawPayload.equals(mask)).toBe(true)
  expect((await app.inject('/datastore/')).json()).toEqual({
    total: 1,
    completed: 1,
    label_tags: { final: 1, original: 1 },
  })
})

test('points come as JSON and stay JSON; a label on another grid is kept and said to be', async () => {
  await using app = await storeApp()
  await putImage(app, 'a')
  expect((await putLabel(app, 'a', '{"markups": []}', 'points')).statusCode).toBe(200)
  const got = await app.inject('/datastore/label?label=a&tag=points')
  expect([got.json(), got.headers['content-type']]).toEqual([{ markups: [] }, 'application/json'])
  const other = await putLabel(app, 'a', await nifti(0, [4, 3, 3] as never))
  expect(other.json().notes).toEqual([expect.stringMatching(/4 x 3 x 3 voxels and its image 4 x 3 x 2/)])
})

test.each([
  { what: 'uint8', Type: Uint8Array },
  { what: 'uint16', Type: Uint16Array },
])('bare $what voxels, as many as the image has, become a file that others read', async ({ Type }) => {
  await using app = await storeApp()
  await putImage(app, 'a')
  const voxels = new Type(24)
  for (let i = 0; i < voxels.length; i++) voxels[i] = i % 3
  expect((await putLabel(app, 'a', Buffer.from(voxels.buffer))).statusCode).toBe(200)
  const got = await app.inject('/datastore/label?label=a')
  expect(got.headers['content-disposition']).toContain('filename="a.nii.gz"')
  expect([...gunzipSync(got.rawPayload).subarray(352)]).toEqual([...voxels].map(Number))
  const more = await putLabel(app, 'a', Buffer.alloc(25, 1))
  expect([more.statusCode, more.json().hint]).toEqual([
    400,
    expect.stringMatching(/24 bytes \(uint8\) or 48 \(uint16\)/),
  ])
})

test('the same bytes again are not decoded and not a version; others are', async () => {
  await using app = await storeApp()
  await putImage(app, 'a')
  await putImage(app, 'a')
  expect(app.scheduler.asked).toHaveLength(1)
  await putImage(app, 'a', await nifti(5))
  expect((await app.inject('/datastore/image/info/?image=a')).json().versions).toBe(2)
})

test('a model runs on a stored image, as on a session; each version is another image to its cache', async () => {
  await using app = await storeApp()
  const infer = () => send(app, 'POST', '/infer/spleen?image=a&output=image', [PARAMS])
  const jobs = () =>
    app.scheduler.asked.filter(({ job }) => job.kind === 'inference').map(({ job }) => job as InferenceJob)
  await putImage(app, 'a')
  expect((await infer()).body).toBe('label map')
  await putImage(app, 'a', await nifti(5))
  await infer()
  const [first, second] = jobs().map(({ images }) => images[0]!)
  expect(first).toMatchObject({ extension: '.nii.gz', paths: [expect.stringMatching(/volume\.nii$/)] })
  expect(first!.cacheKey).not.toBe(second!.cacheKey)
  const beside = await send(app, 'POST', '/infer/spleen?image=nowhere', [PARAMS, fileOf('file', 'a scan')])
  expect(beside.statusCode).toBe(200)
})

describe('the next sample', () => {
  test('is an image without a label, under the name and checksum of its file; then there is none', async () => {
    await using app = await storeApp()
    const scan = await nifti()
    await putImage(app, 'a b', scan)
    const next = () => app.inject({ method: 'POST', url: '/activelearning/first', payload: { client_id: 'me' } })
    const checksum = `SHA256:${createHash('sha256').update(scan).digest('hex')}`
    expect((await next()).json()).toEqual({ id: 'a b', name: 'a_b.nii.gz', checksum, ts: expect.any(Number) })
    await putLabel(app, 'a b', scan)
    expect([(await next()).statusCode, (await next()).json()]).toEqual([200, {}])
  })

  test.each(['first', 'random', 'unlabelled'])(
    '%s is a strategy of /info/, with and without a slash or body',
    async (name) => {
      await using app = await storeApp()
      await putImage(app, 'a')
      const info = (await app.inject('/info/')).json()
      expect([info.strategies[name].description, info.datastore]).toEqual([
        expect.any(String),
        { total: 1, completed: 0 },
      ])
      for (const url of [`/activelearning/${name}`, `/activelearning/${name}/`])
        expect((await app.inject({ method: 'POST', url })).json().id).toBe('a')
    },
  )

  test('by a strategy that there is none of is a 404 that names those there are', async () => {
    await using app = await storeApp()
    const reply = await app.inject({ method: 'POST', url: '/activelearning/constructor' })
    expect([reply.statusCode, reply.json().hint]).toEqual([404, 'there are first, random, unlabelled'])
  })
})

test.each([
  { what: 'an image that is none', put: (app: TestApp) => putImage(app, 'a', Buffer.from('hello')), status: 415 },
  { what: 'no file', put: (app: TestApp) => send(app, 'PUT', '/datastore/?image=a', [PARAMS]), status: 400 },
  { what: 'a label of no image', put: (app: TestApp) => putLabel(app, 'b', 'x'), status: 404 },
  {
    what: 'a label without a name',
    put: (app: TestApp) => send(app, 'PUT', '/datastore/label', [PARAMS]),
    status: 400,
  },
  { what: 'a tag that is a path', put: (app: TestApp) => putLabel(app, 'there', 'x', '../x'), status: 400 },
  {
    what: 'an output that there is none of',
    put: (app: TestApp) => app.inject('/datastore/?output=train'),
    status: 400,
  },
  { what: 'a name of no image', put: (app: TestApp) => app.inject('/datastore/image?image=b'), status: 404 },
  {
    what: 'a tag without a label',
    put: (app: TestApp) => app.inject('/datastore/label?label=there&tag=b'),
    status: 404,
  },
])('$what: $status', async ({ put, status }) => {
  await using app = await storeApp()
  await putImage(app, 'there')
  const before = await filesBelow(root)
  const reply = await put(app)
  expect(reply.statusCode).toBe(status)
  expect(reply.json().error.message[0]).not.toContain(root)
  expect(await filesBelow(root)).toEqual(before)
})

describe('without --datastore', () => {
  test.each([
    { method: 'PUT', url: '/datastore/?image=a' },
    { method: 'PUT', url: '/datastore/label?image=a' },
    { method: 'GET', url: '/datastore/?output=all' },
    { method: 'GET', url: '/datastore/image?image=a' },
    { method: 'GET', url: '/datastore/image/info/?image=a' },
    { method: 'GET', url: '/datastore/label?label=a' },
    { method: 'POST', url: '/activelearning/first' },
  ] as const)('$method $url is not found, for pages of any origin too', async ({ method, url }) => {
    await using app = await testApp({ answer })
    for (const headers of [{}, { origin: 'https://xnat.example' }]) {
      const reply = await app.inject({ method, url, headers })
      expect([reply.statusCode, reply.json().code]).toEqual([404, 'NOT_FOUND'])
      if ('origin' in headers) expect(reply.headers['access-control-allow-origin']).toBe('*')
    }
  })
})

describe('who may use it', () => {
  const foreign = { origin: 'https://other.example' }
  const URLS = [
    '/datastore/?output=all',
    '/datastore/image?image=a',
    '/DATASTORE/label?label=a',
    '/datastore/image/info?image=a',
  ]

  test('a page that --cors-origins does not name reads and changes nothing', async () => {
    await using app = await storeApp()
    await putImage(app, 'a')
    for (const url of URLS) {
      const reply = await app.inject({ url, headers: foreign })
      expect([403, 404]).toContain(reply.statusCode)
      expect(reply.body).not.toContain('4,3,2')
    }
    for (const reply of [
      await send(app, 'PUT', '/datastore/?image=b', [fileOf('file', await nifti())], foreign),
      await send(app, 'POST', '/infer/spleen?image=a', [PARAMS], foreign),
      await app.inject({ method: 'POST', url: '/activelearning/first', headers: foreign }),
    ])
      expect(reply.statusCode).toBe(403)
  })

  test('a page that --cors-origins names does', async () => {
    await using app = await storeApp(['--cors-origins', 'https://other.example'])
    await putImage(app, 'a')
    const reply = await app.inject({ url: '/datastore/?output=all', headers: foreign })
    expect([reply.statusCode, reply.headers['access-control-allow-origin']]).toEqual([200, foreign.origin])
    expect((await send(app, 'POST', '/infer/spleen?image=a', [PARAMS], foreign)).statusCode).toBe(200)
  })

  test('a machine that --datastore-hosts does not name is told so', async () => {
    await using app = await storeApp(['--datastore-hosts', '10.0.0.0/8'])
    const put = await putImage(app, 'a')
    expect([put.statusCode, put.json().hint]).toEqual([403, expect.stringContaining('--datastore-hosts')])
    expect((await send(app, 'POST', '/infer/spleen?image=a', [PARAMS])).statusCode).toBe(403)
    expect((await app.inject('/info/')).statusCode).toBe(200)
  })

  test('a name that a page made its own is refused on every bind', async () => {
    await using app = await storeApp(['--host', '0.0.0.0'])
    const reply = await app.inject({ url: '/datastore/?output=all', headers: { host: 'rebound.example:5000' } })
    expect(reply.statusCode).toBe(403)
  })
})

const LONG = process.env.AIDANT_LONG === '1'
const hostile = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 600 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '..',
    '../../x',
    '/etc/passwd',
    'a\u0000b',
    'C:\\x',
    '__proto__',
    'constructor',
    'con',
    '.',
    ' ',
    '%2e%2e',
    'a/../b',
  ),
)

test(
  'hostile ids, tags and bodies: no file outside, no 5xx, nothing lost',
  async () => {
    await using app = await storeApp(['--log-level', 'silent'])
    await putImage(app, 'keep')
    await putLabel(app, 'keep', await nifti(1))
    const scan = await nifti(2)
    let versions = 0
    await fc.assert(
      fc.asyncProperty(hostile, hostile, fc.oneof(fc.constant(scan), fc.string()), async (id, tag, body) => {
        const safe = (text: string) => encodeURIComponent(text.replace(/\p{Cs}/gu, '?'))
        const replies = [
          await send(app, 'PUT', `/datastore/?image=${safe(id)}`, [PARAMS, fileOf('file', body)]),
          await send(app, 'PUT', `/datastore/label?image=${safe(id)}&tag=${safe(tag)}`, [
            PARAMS,
            fileOf('label', body),
          ]),
          await app.inject(`/datastore/image?image=${safe(id)}`),
          await app.inject(`/datastore/label?label=${safe(id)}&tag=${safe(tag)}`),
          await app.inject({ method: 'POST', url: `/activelearning/${safe(tag) || 'x'}` }),
        ]
        for (const reply of replies) expect(reply.statusCode, reply.body.slice(0, 200)).toBeLessThan(500)
        for (const path of await readdir(root)) expect(path).toBe('store')
        const { objects } = (await app.inject('/datastore/?output=all')).json()
        const kept = Object.values(objects as Record<string, { image: { info: { versions: number } } }>)
        const now = kept.reduce((sum, { image }) => sum + image.info.versions, 0)
        expect(now).toBeGreaterThanOrEqual(versions)
        versions = now
      }),
      { numRuns: LONG ? 10_000 : 200 },
    )
    for (const name of await readdir(join(root, 'store')))
      expect(['aidant-datastore.json', 'images', 'server.lease']).toContain(name)
    for (const name of await readdir(join(root, 'store', 'images'))) expect(name).toMatch(/^[0-9a-f]{64}$/)
    expect((await app.inject('/datastore/label?label=keep')).statusCode).toBe(200)
  },
  LONG ? 3_600_000 : 120_000,
)
