import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { type Answer, labelMap, untilCancelled } from '../helpers/fake-scheduler.js'
import { form } from '../helpers/multipart.js'
import { mayMount, mountDisk, type SmallDisk } from '../helpers/small-disk.js'
import { type TestApp, testApp } from '../helpers/test-app.js'

const upload = form([
  { name: 'params', body: '{}' },
  { name: 'image', body: 'voxels', filename: 'a.nii.gz' },
])

function post(app: TestApp, id: string, query = '') {
  return app.inject({
    method: 'POST',
    url: `/v1/segmentation?model=spleen${query}`,
    payload: upload.payload,
    headers: { ...upload.headers, 'x-request-id': id },
  })
}

/** The secret id of the one request there is, as its own client learns it from the reply to async=true. */
async function idOf(app: TestApp): Promise<string> {
  await expect.poll(() => app.services.board.list().length).toBe(1)
  return app.services.board.list()[0]!.id
}

/** Answers when told to. */
function onDemand() {
  let answer: () => void = () => {}
  const asked = new Promise<void>((resolve) => {
    answer = resolve
  })
  const run: Answer = async (job, signal, onProgress) => {
    onProgress({ state: 'running', stage: 'infer', done: 2, total: 9, part: 'ribs (2 of 3)', estimateMs: 4200 })
    await asked
    return labelMap(job, signal, onProgress)
  }
  return { run, answer }
}

test('a running request tells its stage, its window and what to expect', async () => {
  const { run, answer } = onDemand()
  await using app = await testApp({ answer: run })
  const reply = post(app, 'mine')
  const id = await idOf(app)
  await expect
    .poll(async () => (await app.inject(`/v1/requests/${id}`)).json())
    .toMatchObject({
      id,
      trace: 'mine',
      task: 'segmentation',
      model: 'spleen',
      state: 'running',
      stage: 'infer',
      done: 2,
      total: 9,
      part: 'ribs (2 of 3)',
      estimate_seconds: 4.2,
    })
  expect((await app.inject('/v1/requests')).json()).toMatchObject({ requests: [{ trace: 'mine' }], others: [] })
  answer()
  expect((await reply).statusCode).toBe(200)
  expect((await app.inject(`/v1/requests/${id}`)).json()).toMatchObject({ state: 'done' })
})

test('DELETE calls a request off', async () => {
  await using app = await testApp({ answer: untilCancelled })
  const reply = post(app, 'mine')
  const url = `/v1/requests/${await idOf(app)}`
  await expect.poll(() => app.scheduler.asked.length).toBe(1)
  const deleted = await app.inject({ method: 'DELETE', url })
  expect(deleted.statusCode).toBe(200)
  expect(deleted.json()).toMatchObject({ state: 'cancelled' })
  const refused = await reply
  expect(refused.statusCode).toBe(499)
  expect(refused.json()).toMatchObject({ code: 'CANCELLED' })
  expect((await app.inject(url)).json()).toMatchObject({ state: 'cancelled' })
  await expect.poll(() => app.leftovers()).toEqual([])
})

test('async: 202 at once, then the result where Location says, once', async () => {
  const { run, answer } = onDemand()
  await using app = await testApp({ answer: run })
  const accepted = await post(app, 'later', '&async=true')
  expect(accepted.statusCode).toBe(202)
  const location = accepted.headers.location!
  const { id } = accepted.json<{ id: string }>()
  expect(location).toBe(`/v1/requests/${id}/result`)
  const early = await app.inject(location)
  expect(early.statusCode).toBe(202)
  expect(early.headers['retry-after']).toBe('1')
  answer()
  await expect
    .poll(async () => (await app.inject(`/v1/requests/${id}`)).json())
    .toMatchObject({ state: 'done', result: location })
  const fetched = await app.inject(location)
  expect(fetched.statusCode).toBe(200)
  expect(fetched.headers['content-type']).toMatch(/^multipart\/form-data/)
  expect(fetched.body).toContain('label map')
  expect((await app.inject(location)).statusCode).toBe(404)
  await expect.poll(() => app.leftovers()).toEqual([])
})

/** An asynchronous request whose result waits; gives where. */
async function kept(app: TestApp, id: string, query = ''): Promise<string> {
  const accepted = await post(app, id, `&async=true${query}`)
  const { location } = accepted.headers
  const url = `/v1/requests/${accepted.json().id}`
  await expect.poll(async () => (await app.inject(url)).json().result).toBe(location)
  return location!
}

test.each([
  { name: 'a HEAD', url: '', method: 'HEAD', status: 200 },
  { name: 'an unknown output', url: '?output=nonsense', method: 'GET', status: 400 },
  { name: 'its JSON without its file', url: '?output=json', method: 'GET', status: 200 },
  { name: 'an output that it was not computed for', url: '?output=dicom_seg', method: 'GET', status: 400 },
] as const)('async: $name leaves the result where it is', async ({ url, method, status }) => {
  await using app = await testApp()
  const location = await kept(app, 'later')
  const other = await app.inject({ method, url: `${location}${url}` })
  expect(other.statusCode).toBe(status)
  if (status === 400) expect(other.json()).toMatchObject({ code: 'BAD_PARAMS' })
  const fetched = await app.inject(location)
  expect([fetched.statusCode, fetched.body.includes('label map')]).toEqual([200, true])
  expect((await app.inject(location)).statusCode).toBe(404)
})

test.each([
  { name: 'before its end', bytes: 32 * 1024 * 1024 },
  { name: 'unread, though its last byte has left', bytes: 64 * 1024 },
])('async: a download that breaks off $name leaves the result where it is', async ({ bytes }) => {
  const answer: Answer = async (job) => {
    const path = join(job.outDir, 'result.nii.gz')
    await writeFile(path, Buffer.alloc(bytes, 'x'))
    const file = { path, extension: '.nii.gz', contentType: 'application/octet-stream' }
    return { file, params: {}, timings: {}, notes: [] }
  }
  await using app = await testApp({ answer })
  const port = await app.listen()
  const location = await kept(app, 'later')
  const socket = connect(port, '127.0.0.1')
  socket.write(`GET ${location}?output=image HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)
  await once(socket, 'readable')
  socket.read(1)
  socket.destroy()
  await expect.poll(async () => (await app.inject(location)).statusCode).toBe(200)
  await expect.poll(() => app.leftovers()).toEqual([])
})

test('async: the reply is of the kind that the request asked for: output=dicom_seg gives the DICOM SEG', async () => {
  const answer: Answer = async (job) => {
    expect(job.wish).toMatchObject({ file: true, dicomSeg: true })
    const path = join(job.outDir, 'result.dcm')
    await writeFile(path, 'segments')
    return { file: { path, extension: '.dcm', contentType: 'application/dicom' }, params: {}, timings: {}, notes: [] }
  }
  await using app = await testApp({ answer })
  const location = await kept(app, 'later', '&output=dicom_seg')
  expect((await app.inject(`${location}?output=image`)).statusCode).toBe(400)
  const fetched = await app.inject(location)
  expect([fetched.headers['content-type'], fetched.body]).toEqual(['application/dicom', 'segments'])
})

test('async: results that wait are bounded by --max-kept-results', async () => {
  await using app = await testApp({ flags: ['--max-kept-results', '2'] })
  const first = await kept(app, 'one')
  await kept(app, 'two')
  const refused = await post(app, 'three', '&async=true')
  expect([refused.statusCode, refused.headers['retry-after']]).toEqual([503, '10'])
  expect(refused.json()).toMatchObject({ code: 'BUSY', hint: expect.stringContaining('--max-kept-results') })
  expect((await post(app, 'direct')).statusCode).toBe(200)
  await app.inject(first)
  expect((await post(app, 'three', '&async=true')).statusCode).toBe(202)
})

test('async: the error of the job comes where the result would', async () => {
  await using app = await testApp({
    answer: async () => {
      throw new AppError('BAD_PARAMS', "'points' is empty")
    },
  })
  const { id } = (await post(app, 'later', '&async=true')).json<{ id: string }>()
  await expect
    .poll(async () => (await app.inject(`/v1/requests/${id}`)).json())
    .toMatchObject({
      state: 'failed',
      error: { code: 'BAD_PARAMS' },
    })
  expect((await app.inject(`/v1/requests/${id}/result`)).json()).toMatchObject({ code: 'BAD_PARAMS' })
  await expect.poll(() => app.leftovers()).toEqual([])
})

test('async: a bad upload is refused at once', async () => {
  await using app = await testApp()
  const { payload, headers } = form([{ name: 'params', body: 'not json', filename: 'a' }])
  const refused = await app.inject({ method: 'POST', url: '/v1/inference?model=spleen&async=true', payload, headers })
  expect(refused.statusCode).toBe(400)
  await expect.poll(() => app.leftovers()).toEqual([])
})

test('server-sent events tell every step and end with the request', async () => {
  const { run, answer } = onDemand()
  await using app = await testApp({ answer: run })
  const port = await app.listen()
  const reply = post(app, 'mine')
  const path = `/v1/requests/${await idOf(app)}`
  await expect.poll(async () => (await app.inject(path)).json().state).toBe('running')
  const stream = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { accept: 'text/event-stream' } })
  expect(stream.headers.get('content-type')).toBe('text/event-stream')
  const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader()
  expect((await reader.read()).value).toContain('"done":2,"total":9')
  answer()
  let rest = ''
  for (let part = await reader.read(); !part.done; part = await reader.read()) rest += part.value
  expect(rest).toContain('"state":"done"')
  expect((await reply).statusCode).toBe(200)
})

test.each(['/v1/requests/nobody', '/v1/requests/nobody/events', '/v1/requests/nobody/result'])(
  'GET %s is a 404 that says so',
  async (url) => {
    await using app = await testApp()
    const refused = await app.inject(url)
    expect(refused.statusCode).toBe(404)
    expect(refused.json()).toMatchObject({ code: 'REQUEST_NOT_FOUND' })
  },
)

test('requests of one X-Request-Id are told apart: at once and one after the other', async () => {
  await using app = await testApp({ answer: untilCancelled })
  const replies = [post(app, 'same'), post(app, 'same')]
  await expect.poll(() => app.scheduler.asked.length).toBe(2)
  for (const { id } of app.services.board.list()) await app.inject({ method: 'DELETE', url: `/v1/requests/${id}` })
  expect((await Promise.all(replies)).map(({ statusCode }) => statusCode)).toEqual([499, 499])
})

test('an X-Request-Id opens nothing, and nothing that is shown to others does', async () => {
  await using app = await testApp()
  const { id } = (await post(app, 'guessable', '&async=true')).json<{ id: string }>()
  expect(id).toMatch(/^[0-9a-f-]{36}$/)
  await expect.poll(async () => (await app.inject(`/v1/requests/${id}`)).json().state).toBe('done')
  for (const path of ['', '/events', '/result'])
    expect((await app.inject(`/v1/requests/guessable${path}`)).statusCode).toBe(404)
  expect((await app.inject({ method: 'DELETE', url: '/v1/requests/guessable' })).statusCode).toBe(404)
  for (const url of ['/v1/requests', '/logs?lines=2000', '/admin/ps'])
    expect((await app.inject(url)).body).not.toContain(id)
  expect((await app.inject(`/v1/requests/${id}/result`)).statusCode).toBe(200)
})

test.skipIf(!mayMount)(
  'a folder that cannot be removed when its request has ended is removed when it can be',
  async () => {
    let disk: SmallDisk | undefined
    const answer: Answer = async (job, signal, onProgress) => {
      // what is mounted in a folder keeps it there
      const inside = join(job.outDir, 'mounted')
      await mkdir(inside)
      disk = mountDisk(1 << 16, inside)
      return labelMap(job, signal, onProgress)
    }
    await using app = await testApp({ answer })
    try {
      expect((await post(app, 'mine')).statusCode).toBe(200)
      expect(await app.leftovers()).toHaveLength(1)
    } finally {
      disk?.unmount()
    }
    await expect.poll(() => app.leftovers(), { timeout: 30_000 }).toEqual([])
  },
)

test('a reply puts no more listeners on its response than an emitter takes without a warning', async () => {
  const warnings: Error[] = []
  const note = (warning: Error) => warnings.push(warning)
  process.on('warning', note)
  try {
    await using app = await testApp()
    for (const query of ['', '&output=image', '&output=results'])
      expect((await post(app, 'x', query)).statusCode).toBe(200)
    const { id } = (await post(app, 'x', '&async=true')).json()
    await expect.poll(async () => (await app.inject(`/v1/requests/${id}/result`)).statusCode).toBe(200)
    // warnings come a tick later
    await new Promise((resolve) => setImmediate(resolve))
    expect(warnings.filter(({ name }) => name === 'MaxListenersExceededWarning')).toEqual([])
  } finally {
    process.off('warning', note)
  }
})
