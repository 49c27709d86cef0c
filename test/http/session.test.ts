import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ToolJob } from '../../src/contract/job.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { runTool } from '../../src/pipelines/run-tool.js'
import { type Answer, labelMap } from '../helpers/fake-scheduler.js'
import { form, type Part } from '../helpers/multipart.js'
import { idleControl } from '../helpers/pipeline.js'
import { type TestApp, testApp } from '../helpers/test-app.js'
import { niftiFile, roomyLimits, scaleAffine, tempFolder, volumeOf } from '../helpers/volumes.js'

/** Ingests as a tool runner would; every other job gets a label map. */
const answer: Answer = (job, signal, onProgress) =>
  job.kind !== 'inference' ? runTool(job as ToolJob, idleControl) : labelMap(job, signal, onProgress)

async function scan(): Promise<Buffer> {
  await using folder = await tempFolder()
  return await readFile(await niftiFile(folder.path, volumeOf([4, 3, 2], { affine: scaleAffine([1, 2, 3]) })))
}

async function put(app: TestApp, parts: readonly Part[], query = '') {
  const { payload, headers } = form(parts)
  return app.inject({ method: 'PUT', url: `/session/${query}`, payload, headers })
}

const image = async (): Promise<Part> => ({ name: 'image', body: await scan(), filename: 'spleen.nii.gz' })

describe('PUT /session/', () => {
  test('gives an id and what the image is', async () => {
    await using app = await testApp({ answer })
    const reply = await put(app, [{ name: 'params', body: '{}' }, await image()], '?expiry=30')
    expect(reply.statusCode).toBe(200)
    const { session_id, session_info } = reply.json()
    expect(session_id).toMatch(/^[0-9a-f-]{36}$/)
    expect(session_info).toMatchObject({
      session_id,
      expiry: 30,
      image: { format: 'nifti', size: [4, 3, 2], channels: 1, spacing: [1, 2, 3], dtype: 'int16' },
    })
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test.each([
    { name: 'no params', params: [] },
    { name: 'params null, as OHIF sends', params: [{ name: 'params', body: 'null' }] },
    { name: 'params {}, as the C++ client sends', params: [{ name: 'params', body: '{}' }] },
  ])('takes $name', async ({ params }) => {
    await using app = await testApp({ answer })
    expect((await put(app, [await image(), ...params])).statusCode).toBe(200)
  })

  test('without a slash, with the old field name, with expiry=0', async () => {
    await using app = await testApp({ answer })
    const { payload, headers } = form([{ ...(await image()), name: 'datapoint' }])
    const reply = await app.inject({ method: 'PUT', url: '/session?expiry=0', payload, headers })
    expect(reply.json().session_info.expiry).toBe(3600)
  })

  test.each([
    { name: 'an empty body', parts: [{ name: 'params', body: '{}' }], status: 400, code: 'MISSING_IMAGE' },
    {
      name: 'two files that are no images, as channels',
      parts: [
        { name: 'image0', body: 'a', filename: 'a' },
        { name: 'image1', body: 'b', filename: 'b' },
      ],
      status: 415,
      code: 'UNSUPPORTED_FORMAT',
    },
    {
      name: 'text',
      parts: [{ name: 'image', body: 'hello', filename: 'a.nii' }],
      status: 415,
      code: 'UNSUPPORTED_FORMAT',
    },
  ])('$name is refused', async ({ parts, status, code }) => {
    await using app = await testApp({ answer })
    const reply = await put(app, parts)
    expect([reply.statusCode, reply.json().code]).toEqual([status, code])
    expect(app.services.sessions.usage()).toEqual({ sessions: 0, bytes: 0 })
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test.each([{ query: '?expiry=soon' }, { query: '?expiry=-1' }])(
    '$query is a 400 that names expiry',
    async ({ query }) => {
      await using app = await testApp({ answer })
      const reply = await put(app, [await image()], query)
      expect(reply.statusCode).toBe(400)
      expect(reply.json().error.message.join()).toContain('expiry')
    },
  )

  test.each([
    { name: 'JSON', type: 'application/json' },
    { name: "curl's default type", type: 'application/x-www-form-urlencoded' },
  ])('a body that names a source, as $name, is fetched', async ({ type }) => {
    const asked: unknown[] = []
    await using folder = await tempFolder()
    const path = await niftiFile(folder.path, volumeOf([2, 2, 2]))
    await using app = await testApp({
      answer,
      services: {
        fetchSource: async (body) => {
          asked.push(body)
          return { paths: [path], received: 20, reported: 21, notes: ['one slice is missing'] }
        },
      },
    })
    const body = { http: { url: 'http://127.0.0.1/scan', params: { format: 'zip' }, method: 'GET' } }
    const reply = await app.inject({
      method: 'PUT',
      url: '/session/?expiry=30',
      payload: JSON.stringify(body),
      headers: { 'content-type': type },
    })
    expect(reply.statusCode).toBe(200)
    expect(asked).toEqual([body])
    expect(reply.json().session_info).toMatchObject({
      received: { files: 20, announced: 21 },
      image: { notes: ['one slice is missing'] },
    })
  })
})

describe('GET /session/<id>', () => {
  test('tells what it holds, gives the image as it came, and renews on request', async () => {
    await using app = await testApp({ answer })
    const sent = await image()
    const { session_id: id } = (await put(app, [sent])).json()
    expect((await app.inject(`/session/${id}?image=false`)).json()).toMatchObject({ session_id: id })
    expect((await app.inject(`/session/${id}?update_ts=true`)).statusCode).toBe(200)
    const stored = await app.inject(`/session/${id}?image=true`)
    expect(stored.headers['content-type']).toBe('application/octet-stream')
    expect(stored.rawPayload.equals(sent.body as Buffer)).toBe(true)
  })

  test.each(['nobody', '..%2f..%2fmodels', '9ad970be-530e-11ea-84e3-0242ac110007'])('%s is a 404', async (id) => {
    await using app = await testApp({ answer })
    for (const method of ['GET', 'DELETE'] as const) {
      const reply = await app.inject({ method, url: `/session/${id}` })
      expect([reply.statusCode, reply.json().code]).toEqual([404, 'SESSION_NOT_FOUND'])
    }
  })
})

test('DELETE ends it: 404 from then on, 440 on inference', async () => {
  await using app = await testApp({ answer })
  const { session_id: id } = (await put(app, [await image()])).json()
  expect((await app.inject({ method: 'DELETE', url: `/session/${id}` })).statusCode).toBe(200)
  expect((await app.inject(`/session/${id}`)).statusCode).toBe(404)
  const { payload, headers } = form([{ name: 'params', body: '{}' }])
  const reply = await app.inject({
    method: 'POST',
    url: `/v1/deepgrow?model=deepgrow&session_id=${id}`,
    payload,
    headers,
  })
  expect([reply.statusCode, reply.json().code]).toEqual([440, 'SESSION_EXPIRED'])
})

test('an inference on a session gets the decoded volume, and results in the format that was uploaded', async () => {
  await using app = await testApp({ answer })
  const { session_id: id } = (await put(app, [await image()])).json()
  const { payload, headers } = form([{ name: 'params', body: '{"foreground": [[1,1,1]]}' }])
  const reply = await app.inject({
    method: 'POST',
    url: `/v1/deepgrow?model=deepgrow&session_id=${id}`,
    payload,
    headers,
  })
  expect(reply.statusCode).toBe(200)
  const { job } = app.scheduler.asked.at(-1)!
  expect(job.wish.extension).toBe('.nii.gz')
  expect(job.images[0]).toMatchObject({ field: 'image', cacheKey: expect.stringContaining(id) })
  const { volume } = await readVolume(job.images[0]!.paths, roomyLimits)
  expect(volume.size).toEqual([4, 3, 2])
  expect(job.images[0]!.paths[0]).toBe(join(app.workspace, 'sessions', id, 'volume.nii'))
})

describe('getting ready for the first click', () => {
  const jobs = (app: TestApp) => app.scheduler.asked.map(({ job }) => job).filter(({ kind }) => kind === 'inference')
  const ready: Answer = async (job, signal, onProgress) =>
    job.kind === 'inference'
      ? { params: { slice: 1 }, timings: { encoder: 12 }, notes: [] }
      : answer(job, signal, onProgress)

  test('PUT with prepare answers with the session and makes the model ready behind it', async () => {
    await using app = await testApp({ answer: ready })
    const reply = await put(app, [await image()], '?prepare=spleen&slice=1')
    expect(reply.json()).toMatchObject({ preparing: 'spleen', session_id: expect.any(String) })
    await expect
      .poll(() => jobs(app))
      .toMatchObject([{ prepare: { slice: 1 }, images: [{ cacheKey: reply.json().session_id }] }])
  })

  test('what goes wrong there costs no session', async () => {
    const failing: Answer = (job, signal, onProgress) => {
      if (job.kind === 'inference') throw new Error('out of order')
      return answer(job, signal, onProgress)
    }
    await using app = await testApp({ answer: failing })
    const { session_id } = (await put(app, [await image()], '?prepare=spleen')).json()
    await expect
      .poll(async () => (await app.inject('/v1/requests')).json().requests)
      .toContainEqual(expect.objectContaining({ task: 'prepare', state: 'failed' }))
    expect((await app.inject(`/session/${session_id}`)).statusCode).toBe(200)
  })

  test('it has a deadline of its own', async () => {
    const endless: Answer = (job, signal, onProgress) =>
      job.kind === 'inference'
        ? new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        : answer(job, signal, onProgress)
    await using app = await testApp({ flags: ['--request-deadline', '1'], answer: endless })
    await put(app, [await image()], '?prepare=spleen')
    const board = async () => (await app.inject('/v1/requests')).json().requests
    await expect
      .poll(board, { timeout: 10_000 })
      .toContainEqual(
        expect.objectContaining({ task: 'prepare', error: expect.objectContaining({ code: 'DEADLINE_EXCEEDED' }) }),
      )
  })

  test('POST /session/{id}/prepare answers when it is done', async () => {
    await using app = await testApp({ answer: ready })
    const { session_id } = (await put(app, [await image()])).json()
    const reply = await app.inject({ method: 'POST', url: `/session/${session_id}/prepare?model=spleen&slice=1` })
    expect([reply.statusCode, reply.json()]).toEqual([200, { session_id, model: 'spleen', slice: 1, encoder: 'ran' }])
  })

  test.each([
    ['an unknown model', 404, 'prepare=nobody'],
    ['an empty name', 400, 'prepare='],
    ['a slice and no model', 400, 'slice=1'],
    ['a slice that is no number', 400, 'prepare=spleen&slice=x'],
  ])('PUT with %s is a %i, and makes no session', async (_, status, query) => {
    await using app = await testApp({ answer: ready })
    expect((await put(app, [await image()], `?${query}`)).statusCode).toBe(status)
    expect(jobs(app)).toEqual([])
  })

  test.each([
    ['a session that is not there', 440, '/session/00000000-0000-0000-0000-000000000000/prepare?model=spleen'],
    ['an unknown model', 404, '/session/00000000-0000-0000-0000-000000000000/prepare?model=nobody'],
    ['no model', 400, '/session/00000000-0000-0000-0000-000000000000/prepare'],
  ])('POST with %s is a %i', async (_, status, url) => {
    await using app = await testApp({ answer: ready })
    expect((await app.inject({ method: 'POST', url })).statusCode).toBe(status)
  })
})
