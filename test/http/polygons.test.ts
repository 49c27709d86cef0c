/** POST /v1/mask2polygon and /v1/fixpolygon, the work done in place as a tool runner would do it. */

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ToolJob } from '../../src/contract/job.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import { runTool } from '../../src/pipelines/run-tool.js'
import { makeVolume } from '../../src/volume/volume.js'
import type { Answer } from '../helpers/fake-scheduler.js'
import { form, type Part, readMultipart } from '../helpers/multipart.js'
import { idleControl } from '../helpers/pipeline.js'
import { type TestApp, testApp } from '../helpers/test-app.js'
import { roomyLimits, scaleAffine, tempFolder } from '../helpers/volumes.js'

const answer: Answer = (job) => runTool(job as ToolJob, idleControl)

/** A file of 8 x 6 x nz voxels with a block of ones at x 1..4, y 2..3 of the last slice. */
async function maskFile(extension: '.nii.gz' | '.png', nz: number): Promise<Buffer> {
  await using folder = await tempFolder()
  const path = join(folder.path, `mask${extension}`)
  const data = new Uint8Array(48 * nz)
  for (let y = 2; y <= 3; y++) data.fill(1, 48 * (nz - 1) + 8 * y + 1, 48 * (nz - 1) + 8 * y + 5)
  await writeVolume(makeVolume([8, 6, nz], scaleAffine([1, 2, 3]), data), path, { extension, kind: 'labels' })
  return await readFile(path)
}

const volumePart = async (): Promise<Part> => ({
  name: 'image',
  body: await maskFile('.nii.gz', 2),
  filename: 'mask.nii.gz',
  type: 'application/gzip',
})
const picturePart = async (): Promise<Part> => ({
  name: 'image',
  body: await maskFile('.png', 1),
  filename: 'fixpolygon.input.png',
  type: 'image/png',
})

async function post(app: TestApp, url: string, params: unknown, image?: Part) {
  const text = typeof params === 'string' ? params : JSON.stringify(params)
  const { payload, headers } = form([{ name: 'params', body: text }, ...(image ? [image] : [])])
  return app.inject({ method: 'POST', url, payload, headers: { ...headers, accept: 'multipart/form-data' } })
}

describe('POST /v1/mask2polygon', () => {
  test('is a bare JSON array with its length, [y, x] by slice', async () => {
    await using app = await testApp({ answer })
    const reply = await post(app, '/v1/mask2polygon', { more_points: 0 }, await volumePart())
    expect(reply.statusCode).toBe(200)
    expect(reply.headers['content-type']).toBe('application/json')
    expect(reply.headers['content-length']).toBe(String(reply.rawPayload.length))
    expect(reply.json()).toEqual([
      [],
      [
        [
          [2, 1],
          [2, 2],
          [2, 3],
          [2, 4],
          [3, 4],
          [3, 3],
          [3, 2],
          [3, 1],
        ],
      ],
    ])
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test("takes the specification's curl line as a shell leaves it", async () => {
    await using app = await testApp({ answer })
    const reply = await post(app, '/v1/mask2polygon', '{ more_points: 10 }', await volumePart())
    expect(reply.json()).toEqual([[], [[[2, 1]]]])
  })

  test('takes the old field name, and no params at all', async () => {
    await using app = await testApp({ answer })
    const { payload, headers } = form([{ ...(await volumePart()), name: 'datapoint' }])
    const reply = await app.inject({ method: 'POST', url: '/v1/mask2polygon/', payload, headers })
    expect(reply.json()).toHaveLength(2)
  })

  test('works on a session, a picture keeping its [x, y]', async () => {
    await using app = await testApp({ answer })
    const { payload, headers } = form([await picturePart()])
    const session = await app.inject({ method: 'PUT', url: '/session/', payload, headers })
    const { session_id } = session.json()
    const fromSession = await post(app, `/v1/mask2polygon?session_id=${session_id}`, {})
    const fromUpload = await post(app, '/v1/mask2polygon', {}, await picturePart())
    expect(fromSession.json()).toEqual(fromUpload.json())
    expect(fromSession.json()[0][0][0]).toEqual([1, 2])
  })

  test.each([
    { name: 'no image', url: '/v1/mask2polygon', params: {}, status: 400, code: 'MISSING_IMAGE' },
    {
      name: 'bad params',
      url: '/v1/mask2polygon',
      params: { more_points: -3 },
      status: 400,
      code: 'BAD_PARAMS',
      image: true,
    },
    {
      name: 'a session that is gone',
      url: '/v1/mask2polygon?session_id=nobody',
      params: {},
      status: 440,
      code: 'SESSION_EXPIRED',
    },
  ])('refuses $name', async ({ url, params, status, code, image }) => {
    await using app = await testApp({ answer })
    const reply = await post(app, url, params, image ? await volumePart() : undefined)
    expect(reply.statusCode).toBe(status)
    expect(reply.json()).toMatchObject({ code, success: false })
  })
})

describe('POST /v1/fixpolygon', () => {
  const square = [
    [1, 1],
    [4, 1],
    [4, 4],
    [1, 4],
  ]
  const edit = { polygon_index: 0, vertex_index: 2, vertex_offset: [1, 1], propagate_neighbor: 0 }
  const flat = { dimension: 2, poly: [square], ...edit }
  const moved = [square.with(2, [5, 5])]

  test('a picture, nothing said: multipart with poly, then the PNG', async () => {
    await using app = await testApp({ answer })
    const reply = await post(app, '/v1/fixpolygon', flat, await picturePart())
    expect(reply.statusCode).toBe(200)
    expect(reply.headers['content-length']).toBe(String(reply.rawPayload.length))
    const [params, file] = readMultipart(String(reply.headers['content-type']), reply.rawPayload)
    expect(JSON.parse(params!.body.toString())).toEqual({ poly: moved })
    expect(file!.filename).toMatch(/\.png$/)
    expect(file!.body.subarray(1, 4).toString()).toBe('PNG')
  })

  test('output=results is JSON, and no mask is made', async () => {
    await using app = await testApp({ answer })
    const reply = await post(app, '/v1/fixpolygon?output=results', flat, await picturePart())
    expect(reply.json()).toEqual({ poly: moved })
    expect(app.scheduler.asked[0]!.job.wish.file).toBe(false)
  })

  test('output=image is the mask alone, on the grid of the volume', async () => {
    await using app = await testApp({ answer })
    const params = { dimension: 3, poly: [[], [square]], slice_index: 1, ...edit }
    const reply = await post(app, '/v1/fixpolygon?output=image', params, await volumePart())
    expect(reply.headers['content-type']).toBe('application/octet-stream')
    await using folder = await tempFolder()
    const path = join(folder.path, 'mask.nii.gz')
    await writeFile(path, reply.rawPayload)
    const { volume } = await readVolume([path], roomyLimits)
    expect(volume.size).toEqual([8, 6, 2])
    expect([...volume.affine]).toEqual([...scaleAffine([1, 2, 3])])
    expect(volume.data.slice(0, 48).every((value) => value === 0)).toBe(true)
    expect(volume.data[48 + 5 + 5 * 8]).toBe(1)
  })

  const many = Array.from({ length: 200_000 }, (_, i) => [i % 8, Math.floor(i / 8) % 6])

  test('params of many megabytes are read whole, and answered whole in every shape', async () => {
    await using app = await testApp({ answer })
    const params = { ...flat, poly: [square, many], result_extension: '.nrrd' }
    expect(JSON.stringify(params).length).toBeGreaterThan(1_000_000)
    const json = await post(app, '/v1/fixpolygon?output=results', params, await picturePart())
    expect(json.statusCode).toBe(200)
    expect(json.headers['content-length']).toBe(String(json.rawPayload.length))
    expect(json.json()).toEqual({ poly: [moved[0], many] })

    const both = await post(app, '/v1/fixpolygon', params, await picturePart())
    expect(both.headers['content-length']).toBe(String(both.rawPayload.length))
    const [first, second] = readMultipart(String(both.headers['content-type']), both.rawPayload)
    expect(JSON.parse(first!.body.toString())).toEqual({ poly: [moved[0], many] })
    expect(second!.filename).toMatch(/\.nrrd$/)
    expect(second!.body.toString('latin1', 0, 4)).toBe('NRRD')
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test('long params that are no JSON, or name a bad format, are refused like short ones', async () => {
    await using app = await testApp({ answer })
    const text = JSON.stringify({ ...flat, poly: [square, many] })
    const cut = await post(app, '/v1/fixpolygon', text.slice(0, -50), await picturePart())
    expect(cut.statusCode).toBe(400)
    expect(cut.json().error.message[0]).toContain('params is not valid JSON')
    const odd = await post(
      app,
      '/v1/fixpolygon',
      { ...flat, poly: [square, many], result_extension: '.doc' },
      await picturePart(),
    )
    expect(odd.json()).toMatchObject({
      code: 'BAD_PARAMS',
      error: { message: [expect.stringContaining('result_extension')] },
    })
  })

  test('params beyond their limit are refused whole, naming the flag', async () => {
    await using app = await testApp({ answer, flags: ['--max-params-bytes', '64k'] })
    const many = Array.from({ length: 20_000 }, () => [1, 1])
    const reply = await post(app, '/v1/fixpolygon', { ...flat, poly: [square, many] }, await picturePart())
    expect(reply.statusCode).toBe(413)
    expect(reply.body).toContain('--max-params-bytes')
    expect(app.scheduler.asked).toEqual([])
  })

  test.each([
    { name: 'a vertex out of range', params: { ...flat, vertex_index: 4 }, message: "'vertex_index' 4" },
    {
      name: 'a point off the image',
      params: { ...flat, poly: [square.with(1, [80, 1])] },
      message: "'poly[0][1]' = [80, 1]",
    },
    { name: 'polygons cut short', params: `{"poly": [[[1,1],[4,1]`, message: 'params is not valid JSON' },
    {
      name: 'NaN',
      params: '{"poly": [[[NaN,1],[4,1]]], "polygon_index": 0, "vertex_index": 0, "vertex_offset": [1,1]}',
      message: "'poly[0][0]'",
    },
  ])('refuses $name with 400', async ({ params, message }) => {
    await using app = await testApp({ answer })
    const reply = await post(app, '/v1/fixpolygon', params, await picturePart())
    expect(reply.statusCode).toBe(400)
    expect(reply.json().error.message[0]).toContain(message)
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test('refuses an output it cannot give', async () => {
    await using app = await testApp({ answer })
    expect((await post(app, '/v1/fixpolygon?output=dicom_seg', flat, await picturePart())).statusCode).toBe(400)
  })
})
