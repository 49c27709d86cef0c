import { readFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { describe, expect, it, test } from 'vitest'
import type { InferenceJob } from '../../src/contract/job.js'
import { AppError } from '../../src/errors.js'
import type { Answer } from '../helpers/fake-scheduler.js'
import { form, type Part, readMultipart } from '../helpers/multipart.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { type TestApp, testApp } from '../helpers/test-app.js'

const image: Part = { name: 'image', body: 'voxels', filename: 'spleen.nii.gz', type: 'application/x-gzip' }
const noParams: Part = { name: 'params', body: '{}' }

function post({ inject }: TestApp, url: string, parts: readonly Part[], headers: Record<string, string> = {}) {
  const body = form(parts)
  return inject({ method: 'POST', url, payload: body.payload, headers: { ...body.headers, ...headers } })
}

const jobOf = (app: TestApp, index = 0) => app.scheduler.asked[index]!.job as InferenceJob

describe('the reply', () => {
  test('is params and then the file as multipart, with its length, when output is absent', async () => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=spleen', [noParams, image])
    expect(reply.statusCode).toBe(200)
    expect(reply.headers['content-length']).toBe(String(reply.rawPayload.length))
    expect(reply.headers['transfer-encoding']).toBeUndefined()
    const [params, file, ...more] = readMultipart(String(reply.headers['content-type']), reply.rawPayload)
    expect(more).toEqual([])
    expect(params).toMatchObject({ name: 'params', filename: undefined })
    expect(JSON.parse(params!.body.toString())).toEqual({ points: [[1, 2, 3]] })
    expect(file).toMatchObject({ name: 'file', filename: 'aas_result.nii.gz' })
    expect(file!.body.toString()).toBe('label map')
  })

  test('of a text part has no word that makes the C++ client take it for a file', async () => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=spleen', [image])
    const [params] = readMultipart(String(reply.headers['content-type']), reply.rawPayload)
    expect(params!.headers.join()).not.toMatch(/filename=|octet-stream/)
  })

  test('is the bare file when output=image, whatever the Accept header says', async () => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=spleen&output=image', [image], {
      accept: 'multipart/form-data',
    })
    expect(reply.body).toBe('label map')
    expect(reply.headers).toMatchObject({ 'content-type': 'application/octet-stream', 'content-length': '9' })
  })

  test.each(['results', 'result', 'json'])('is JSON when output=%s, and no file is asked for', async (output) => {
    await using app = await testApp()
    const reply = await post(app, `/v1/inference?model=spleen&output=${output}`, [image])
    expect(reply.json()).toEqual({ points: [[1, 2, 3]] })
    expect(jobOf(app).wish.file).toBe(false)
  })

  const classes: Answer = async () => ({ params: { prediction: ['Hand'] }, timings: {}, notes: ['ran on the CPU'] })

  test('without a file is multipart with params alone', async () => {
    await using app = await testApp({ answer: classes })
    const reply = await post(app, '/v1/inference?model=spleen', [image])
    const parts = readMultipart(String(reply.headers['content-type']), reply.rawPayload)
    expect(parts.map(({ name }) => name)).toEqual(['params'])
    expect(JSON.parse(parts[0]!.body.toString())).toEqual({ prediction: ['Hand'], notes: ['ran on the CPU'] })
  })

  test('without a file is JSON for a client that accepts only that', async () => {
    await using app = await testApp({ answer: classes })
    const reply = await post(app, '/v1/inference?model=spleen', [image], { accept: 'application/json' })
    expect(reply.json()).toMatchObject({ prediction: ['Hand'] })
  })

  test('without a file is a 400 when the file was all that was wanted', async () => {
    await using app = await testApp({ answer: classes })
    const reply = await post(app, '/v1/inference?model=spleen&output=image', [image])
    expect(reply.json()).toMatchObject({ code: 'BAD_PARAMS' })
  })

  test('says where the time went and what computed it', async () => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=spleen', [image])
    expect(reply.headers['server-timing']).toBe('read;dur=1.0, infer;dur=2.5, write;dur=0.3')
    expect(reply.headers['x-aidant-device']).toBe('cpu')
  })

  test('leaves nothing behind', async () => {
    await using app = await testApp()
    await post(app, '/v1/segmentation?model=spleen', [image])
    await expect.poll(() => app.leftovers()).toEqual([])
  })
})

describe('the upload', () => {
  test.each([
    { name: 'image', field: 'image' },
    { name: 'the old name datapoint', field: 'datapoint' },
    { name: 'a numbered name', field: 'image0' },
    { name: 'any other name', field: 'scan' },
  ])('takes its one file under $name', async ({ field }) => {
    await using app = await testApp()
    await post(app, '/v1/segmentation?model=spleen', [{ ...image, name: field }])
    expect(jobOf(app).images.map(({ field }) => field)).toEqual(['image'])
  })

  test('never uses the name that the client gave', async () => {
    await using app = await testApp()
    await post(app, '/v1/segmentation?model=spleen', [{ ...image, filename: '/home/ann/../patients/Doe^Jane.nii.gz' }])
    const [path] = jobOf(app).images[0]!.paths
    expect(path).toMatch(/^.*\/tmp\/[^/]+\/[^/]+\/input-0$/)
  })

  test('keeps several images apart by their fields', async () => {
    await using app = await testApp()
    const parts = ['image0', 'image1'].map((name) => ({ ...image, name }))
    await post(app, '/v1/inference?model=spleen', parts)
    expect(jobOf(app).images.map(({ field, paths }) => [field, paths.length])).toEqual([
      ['image0', 1],
      ['image1', 1],
    ])
  })

  test('takes DICOM slices as one image', async () => {
    await using app = await testApp()
    const body = Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), Buffer.alloc(64)])
    const parts = [0, 1, 2].map((i) => ({ name: `image${i}`, filename: `image_${i}.dcm`, body }))
    await post(app, '/v1/inference?model=spleen', [...parts, noParams])
    expect(jobOf(app).images).toMatchObject([{ field: 'image', paths: [{}, {}, {}].map(() => expect.any(String)) }])
  })

  test.each([
    { name: 'NIfTI-1', header: niftiBytes({ magic: 'ni1\0', voxels: [] }) },
    { name: 'NIfTI-2', header: niftiBytes({ version: 2, magic: 'ni2\0\r\n\x1a\n', voxels: [] }) },
    { name: 'gzipped', header: gzipSync(niftiBytes({ magic: 'ni1\0', voxels: [] })) },
  ])('takes header and voxels of a pair as one image ($name)', async ({ header }) => {
    await using app = await testApp()
    const parts = [Buffer.from('voxels'), Buffer.from(header)].map((body, i) => ({ ...image, name: `image${i}`, body }))
    await post(app, '/v1/inference?model=spleen', parts)
    expect(jobOf(app).images.map(({ field, paths }) => [field, paths.length])).toEqual([['image', 2]])
  })

  test('may come after its params, or before them', async () => {
    await using app = await testApp()
    const params: Part = { name: 'params', body: '{"points": [[1,2,3]]}' }
    await post(app, '/v1/inference?model=spleen', [params, image])
    await post(app, '/v1/inference?model=spleen', [image, params])
    expect([0, 1].map((i) => jobOf(app, i).params)).toEqual([{ points: [[1, 2, 3]] }, { points: [[1, 2, 3]] }])
  })

  test('may be the bare body', async () => {
    let seen = ''
    await using app = await testApp({
      answer: async (job) => {
        seen = await readFile(job.images[0]!.paths[0]!, 'utf8')
        return { params: {}, timings: {}, notes: [] }
      },
    })
    const headers = { 'content-type': 'application/octet-stream' }
    const reply = await app.inject({ method: 'POST', url: '/v1/segmentation?model=spleen', payload: 'voxels', headers })
    expect([reply.statusCode, seen]).toEqual([200, 'voxels'])
  })

  test.each([
    {
      name: 'larger than --max-upload-bytes',
      flags: ['--max-upload-bytes', '5'],
      parts: [image],
      flag: '--max-upload-bytes',
    },
    {
      name: 'larger in its two files together',
      flags: ['--max-upload-bytes', '10'],
      parts: [image, { ...image, name: 'image1' }],
      flag: '--max-upload-bytes',
    },
    {
      name: 'of more files than --max-upload-files',
      flags: ['--max-upload-files', '1'],
      parts: [image, { ...image, name: 'image1' }],
      flag: '--max-upload-files',
    },
    {
      name: 'with params over --max-params-bytes',
      flags: ['--max-params-bytes', '1024'],
      parts: [{ name: 'params', body: JSON.stringify({ poly: 'x'.repeat(2000) }) }, image],
      flag: '--max-params-bytes',
    },
    {
      name: 'with a params file over --max-params-bytes',
      flags: ['--max-params-bytes', '1024'],
      parts: [{ name: 'params', filename: 'p.json', body: JSON.stringify({ poly: 'x'.repeat(2000) }) }, image],
      flag: '--max-params-bytes',
    },
  ])('is refused with 413 when it is $name', async ({ flags, parts, flag }) => {
    await using app = await testApp({ flags })
    const reply = await post(app, '/v1/segmentation?model=spleen', parts)
    expect(reply.statusCode).toBe(413)
    expect(reply.json()).toMatchObject({ code: 'TOO_LARGE', hint: expect.stringContaining(flag) })
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test.each([
    { name: 'no boundary in its type', type: 'multipart/form-data', payload: 'x' },
    {
      name: 'another boundary in its type',
      type: 'multipart/form-data; boundary=other',
      payload: form([image]).payload,
    },
    {
      name: 'no closing boundary',
      type: 'multipart/form-data; boundary=test-boundary',
      payload: form([image]).payload.subarray(0, -30),
    },
    {
      name: 'half a part header',
      type: 'multipart/form-data; boundary=b',
      payload: '--b\r\nContent-Disposition: form-data; na',
    },
  ])('is refused with 400 when it has $name', async ({ type, payload }) => {
    await using app = await testApp()
    const headers = { 'content-type': type }
    const reply = await app.inject({ method: 'POST', url: '/v1/segmentation?model=spleen', payload, headers })
    expect(reply.statusCode).toBe(400)
    expect(reply.json()).toMatchObject({ success: false, code: 'BAD_REQUEST' })
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test('without an image or a session is a 400 that says so', async () => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=spleen', [noParams])
    expect(reply.statusCode).toBe(400)
    expect(reply.json()).toMatchObject({ code: 'MISSING_IMAGE', error: { type: 'MissingImage' } })
    const empty = await app.inject({ method: 'POST', url: '/v1/segmentation?model=spleen' })
    expect(empty.json()).toMatchObject({ code: 'MISSING_IMAGE' })
  })
})

describe('params', () => {
  it.each([
    { name: 'absent', body: undefined, want: {} },
    { name: 'empty', body: '', want: {} },
    { name: 'null, as OHIF sends it', body: 'null', want: {} },
    { name: 'JSON', body: '{"a": [1, "x"]}', want: { a: [1, 'x'] } },
    { name: 'JSON5, as a shell leaves it', body: '{ more_points: 10 }', want: { more_points: 10 } },
  ])('may be $name', async ({ body, want }) => {
    await using app = await testApp()
    await post(app, '/v1/inference?model=spleen', body === undefined ? [image] : [{ name: 'params', body }, image])
    expect(jobOf(app).params).toEqual(want)
  })

  it.each([
    { name: 'text', body: 'hello there' },
    { name: 'an array', body: '[1]' },
    { name: 'a number', body: '7' },
    { name: 'cut JSON', body: '{"a": [1,' },
    { name: 'a prototype', body: '{"__proto__": {"x": 1}}' },
    { name: 'a very deep nest', body: `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}` },
    { name: 'a very deep nest in JSON5', body: `{a:${'['.repeat(5000)}${']'.repeat(5000)}}` },
  ])('must not be $name', async ({ body }) => {
    await using app = await testApp()
    const reply = await post(app, '/v1/inference?model=spleen', [{ name: 'params', body }, image])
    expect(reply.statusCode).toBe(400)
    expect(reply.json()).toMatchObject({ code: 'BAD_PARAMS', error: { message: [expect.stringMatching(/^params/)] } })
  })

  it.each([
    {
      params: { result_extension: '.nrrd', result_dtype: 'uint16', result_compress: true },
      want: { extension: '.nrrd', dtype: 'uint16', compress: true },
    },
    { params: { result_extension: 'NII.GZ' }, want: { extension: '.nii.gz' } },
    { params: { result_extension: '', result_dtype: null }, want: {} },
    { params: { result_dtype: 'np.float' }, want: { dtype: 'float32' } },
    { params: { result_compress: 'False' }, want: { compress: false } },
  ])('choose the file: $params', async ({ params, want }) => {
    await using app = await testApp()
    await post(app, '/v1/segmentation?model=spleen', [{ name: 'params', body: JSON.stringify(params) }, image])
    const { file, ...wish } = jobOf(app).wish
    expect(file).toBe(true)
    expect(Object.fromEntries(Object.entries(wish).filter(([, value]) => value !== undefined))).toEqual(want)
  })

  it.each([
    { params: { result_extension: '.mgz' }, key: 'result_extension' },
    { params: { result_dtype: 'complex64' }, key: 'result_dtype' },
    { params: { result_compress: 'maybe' }, key: 'result_compress' },
  ])('are refused by name: $params', async ({ params, key }) => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=spleen', [
      { name: 'params', body: JSON.stringify(params) },
      image,
    ])
    expect(reply.statusCode).toBe(400)
    expect(reply.json().error.message[0]).toContain(`params.${key}`)
  })
})

describe('the query', () => {
  it.each(['segmentation', 'dextr3d', 'deepgrow', 'inference'])('of /v1/%s must name a model', async (task) => {
    await using app = await testApp()
    const reply = await post(app, `/v1/${task}`, [image])
    expect(reply.statusCode).toBe(400)
    expect(reply.json()).toMatchObject({ code: 'BAD_PARAMS', error: { message: [expect.stringContaining("'model'")] } })
  })

  test('with an unknown model is a 404 that names it, in the body and on the status line', async () => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=liver', [image])
    expect(reply.statusCode).toBe(404)
    expect(reply.statusMessage).toBe("model 'liver' is not loaded")
    expect(reply.json()).toEqual({
      error: { type: 'ModelNotFound', message: ["model 'liver' is not loaded"] },
      success: false,
      code: 'MODEL_NOT_FOUND',
      request_id: reply.headers['x-request-id'],
    })
  })

  test('with an unknown output names what there is', async () => {
    await using app = await testApp()
    const reply = await post(app, '/v1/segmentation?model=spleen&output=mesh', [image])
    expect(reply.statusCode).toBe(400)
    expect(reply.json().error.message[0]).toMatch(/'output'.*image.*results/)
  })

  test.each(['/v1/segmentation?model=spleen&model=liver', '/v1/segmentation?model='])('%s is a 400', async (url) => {
    await using app = await testApp()
    expect((await post(app, url, [image])).statusCode).toBe(400)
  })
})

describe('sessions', () => {
  test.each(['9ad970be-530e-11ea-84e3-0242ac110007', '../../etc', 'x'])(
    'gone or never there (%s) are 440',
    async (id) => {
      await using app = await testApp()
      const reply = await post(app, `/v1/deepgrow?model=deepgrow&session_id=${encodeURIComponent(id)}`, [noParams])
      expect(reply.statusCode).toBe(440)
      expect(reply.json()).toMatchObject({ code: 'SESSION_EXPIRED', success: false })
    },
  )
})

describe('failures of the job', () => {
  it.each([
    { error: new AppError('BUSY', 'the queue is full', { retryAfterSeconds: 3 }), status: 503, retry: '3' },
    { error: new AppError('DEADLINE_EXCEEDED', 'took too long'), status: 504, retry: undefined },
    { error: new AppError('UNREADABLE_IMAGE', 'not an image'), status: 400, retry: undefined },
    { error: new AppError('RUNNER_CRASHED', 'the process ended'), status: 503, retry: undefined },
  ])('$error.code is a $status', async ({ error, status, retry }) => {
    await using app = await testApp({
      answer: async () => {
        throw error
      },
    })
    const reply = await post(app, '/v1/segmentation?model=spleen', [image])
    expect(reply.statusCode).toBe(status)
    expect(reply.headers['retry-after']).toBe(retry)
    expect(reply.json()).toMatchObject({ code: error.code, success: false })
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test('of our own are a 500 without a word of the cause', async () => {
    await using app = await testApp({
      answer: async () => {
        throw new Error('ENOENT: /var/lib/secret/volume.nii')
      },
    })
    const reply = await post(app, '/v1/segmentation?model=spleen', [image])
    expect(reply.statusCode).toBe(500)
    expect(reply.body).not.toMatch(/secret|ENOENT| at /)
    expect(reply.json()).toMatchObject({ error: { type: 'Internal', message: ['internal error'] }, code: 'INTERNAL' })
  })

  test('for want of disk space are a 503 that says when to come back', async () => {
    await using app = await testApp({
      answer: async () => {
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
      },
    })
    const reply = await post(app, '/v1/segmentation?model=spleen', [image])
    expect([reply.statusCode, reply.headers['retry-after'], reply.json().code]).toEqual([503, '60', 'BUSY'])
  })

  test('past the deadline are a 504 that names the flag', async () => {
    await using app = await testApp({
      flags: ['--request-deadline', '1'],
      answer: (_job, signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('stopped')))),
    })
    const reply = await post(app, '/v1/segmentation?model=spleen', [image])
    expect(reply.statusCode).toBe(504)
    expect(reply.json().hint).toContain('--request-deadline')
  })
})

test.each([
  { url: '/v1/deepgrow?model=spleen', status: 400 },
  { url: '/v1/dextr3d?model=spleen', status: 400 },
  { url: '/v1/dextr3d?model=deepgrow', status: 400 },
  { url: '/v1/deepgrow?model=deepgrow', status: 200 },
  { url: '/v1/inference?model=deepgrow', status: 200 },
])('a task and a model that does not do it: $url is a $status', async ({ url, status }) => {
  await using app = await testApp()
  const reply = await post(app, url, [image])
  expect(reply.statusCode).toBe(status)
  if (status === 400) expect(reply.json().error.message[0]).toMatch(/runs models of type .*; '\w+' is a \w+ model/)
})

test('long params go to the runner as the text they came as, and short ones are read here', async () => {
  await using app = await testApp()
  const points = Array.from({ length: 60_000 }, (_, i) => [i, i, i])
  const texts: (string | undefined)[] = []
  for (const params of [{ points }, { points: points.slice(0, 3) }]) {
    const reply = await post(app, '/v1/inference?model=spleen', [
      { name: 'params', body: JSON.stringify(params), type: 'application/json' },
      image,
    ])
    expect(reply.statusCode).toBe(200)
    const { job } = app.scheduler.asked.at(-1)!
    texts.push(job.paramsPath)
    expect(job.params).toEqual(params)
  }
  expect(texts).toEqual([expect.stringMatching(/params\.json$/), undefined])
})

test.each([
  { type: 'application/json', status: 400 },
  { type: 'text/plain', status: 413 },
])('a long field other than params, as $type, is not read here: $status', async ({ type, status }) => {
  await using app = await testApp()
  const body = JSON.stringify('x'.repeat(2 ** 20))
  const reply = await post(app, '/v1/inference?model=spleen', [{ name: 'polygons', body, type }, noParams, image])
  expect(reply.statusCode).toBe(status)
  expect(reply.json().hint).toMatch(/params/)
})

test('fields are bounded together, since all of them are in memory', async () => {
  await using app = await testApp({ flags: ['--max-params-bytes', '4k'] })
  const fields = ['a', 'b', 'c'].map((name) => ({ name, body: 'x'.repeat(2000) }))
  const reply = await post(app, '/v1/inference?model=spleen', [...fields, image])
  expect(reply.statusCode).toBe(413)
  expect(reply.json().hint).toContain('--max-params-bytes')
})
