/**
 * What each known client does in one sitting, in its own bytes, against the real program with real models; replies are
 * read as that client reads them. old-clients.test.ts has the odd corners of the wire.
 */
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeVolume } from '../../src/formats/write-volume.js'
import type { Volume } from '../../src/volume/volume.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { form, type Part, readMultipart } from '../helpers/multipart.js'
import { pythonWith } from '../helpers/python.js'
import { sendRaw } from '../helpers/raw-http.js'
import { modelPath } from '../helpers/runner-fixtures.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, scaleAffine, tempFolder, volumeOf } from '../helpers/volumes.js'

const SIZE = [24, 20, 10] as const
const VOXELS = 24 * 20 * 10
const POINTS = [
  [6, 10, 5],
  [17, 10, 5],
  [12, 5, 5],
  [12, 14, 5],
  [12, 10, 2],
  [12, 10, 7],
]

let folder: Awaited<ReturnType<typeof tempFolder>>
let server: ServerProcess
let port: number
let scan: Buffer
let slice: Buffer
let volume: Volume

const load = [
  { name: 'LoadNifti', args: { fields: 'image' } },
  { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
]
const argmax = { name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }
const writer = { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } }
const inference = { image: 'image', name: 'TRTISInference', node_mapping: { image: 'image', logits: 'model' } }
const common = {
  version: '3',
  description: 'for tests',
  pre_transforms: load,
  inference,
  post_transforms: [argmax],
  writer,
}
const MODELS: Readonly<Record<string, { weights: string; config: unknown }>> = {
  seg: {
    weights: 'threshold',
    config: {
      ...common,
      type: 'segmentation',
      labels: ['spleen'],
      post_transforms: [
        argmax,
        { name: 'FetchExtremePoints', args: { image_field: 'image', label_field: 'model', points: 'points' } },
      ],
    },
  },
  points: {
    weights: 'extreme_points',
    config: {
      ...common,
      type: 'annotation',
      labels: ['spleen'],
      padding: 20,
      roi: [128, 128, 128],
      pre_transforms: [
        ...load,
        { name: 'AddExtremePointsChannel', args: { image_field: 'image', points: 'points', sigma: 3 } },
      ],
    },
  },
  clicks: {
    weights: 'guidance_2d',
    config: {
      // As version 4 files have it: a number, and no description.
      version: 1,
      type: 'deepgrow',
      labels: [],
      pre_transforms: [
        { name: 'LoadImaged', args: { keys: 'image' } },
        { name: 'AsChannelFirstd', args: { keys: 'image' } },
        { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', guidance: 'guidance', dimensions: 2 } },
        { name: 'Fetch2DSliced', args: { keys: 'image', guidance: 'guidance' } },
        { name: 'AddChanneld', args: { keys: 'image' } },
        { name: 'SpatialCropGuidanced', args: { keys: 'image', guidance: 'guidance', spatial_size: [16, 16] } },
        { name: 'AddGuidanceSignald', args: { image: 'image', guidance: 'guidance' } },
      ],
      inference: { input: 'image', output: 'pred', meta_data: { deepgrow: '2D' }, AIAA: { name: 'ONNXInference' } },
      post_transforms: [
        { name: 'AsDiscreted', args: { keys: 'pred', threshold: 0 } },
        { name: 'RestoreLabeld', args: { keys: 'pred', ref_image: 'image', mode: 'nearest' } },
      ],
      writer: { name: 'Writer', args: { image: 'pred', json: 'result' } },
    },
  },
  kinds: {
    weights: 'classifier_2d',
    config: {
      version: '3',
      type: 'classification',
      labels: ['bright', 'dark', 'middling'],
      description: 'for tests',
      pre_transforms: [
        { name: 'LoadPng', args: { fields: 'image' } },
        { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
      ],
      inference: { image: 'image', name: 'TRTISInference', node_mapping: { image: 'image', scores: 'model' } },
      post_transforms: [],
    },
  },
}

beforeAll(async () => {
  folder = await tempFolder()
  // One block of 1 among 0, so that the threshold model finds the block and nothing else.
  volume = volumeOf(SIZE, {
    value: (i) => {
      const [x, y, z] = [i % 24, Math.floor(i / 24) % 20, Math.floor(i / 480)]
      return x >= 6 && x <= 17 && y >= 5 && y <= 14 && z >= 2 && z <= 7 ? 1 : 0
    },
    affine: scaleAffine([0.8, 1.3, 4], [-9, 4, 2]),
  })
  scan = await readFile(await niftiFile(folder.path, volume, 'Doe^Jane.nii.gz'))
  const picture = volumeOf([32, 32, 1], { value: (i) => (i * 37) % 256, make: (n) => new Uint8Array(n) })
  const path = join(folder.path, 'slice.png')
  await writeVolume(picture, path, { extension: '.png', kind: 'intensity' })
  slice = await readFile(path)

  server = await ServerProcess.start(join(folder.path, 'ws'), ['--device', 'cpu', '--tool-runners', '1'])
  port = Number(new URL(server.url).port)
  await Promise.all(
    Object.entries(MODELS).map(async ([name, { weights, config }]) => {
      const body = new FormData()
      body.append('config', new Blob([JSON.stringify(config)], { type: 'application/json' }), 'config_aiaa.json')
      body.append('data', new Blob([new Uint8Array(await readFile(modelPath(weights)))]), 'model.trt.pb')
      const reply = await fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
      expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
    }),
  )
})
afterAll(async () => {
  expect(await server?.end('SIGTERM')).toBe(0)
  await folder[Symbol.asyncDispose]()
})

const labelsIn = (nifti: Buffer) => gunzipSync(nifti).subarray(352)
const block = () => Uint8Array.from(volume.data)

/** The C++ client (Poco): GET and DELETE over HTTP/1.1; forms over HTTP/1.0 with a quoted boundary. */
const cpp = {
  async get(path: string, method = 'GET') {
    return sendRaw(port, `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
  },
  async send(path: string, params: string, image?: { name: string; body: Buffer }, method = 'POST') {
    const parts: Part[] = [{ name: 'params', body: params }]
    if (image)
      parts.push({ name: 'image', body: image.body, filename: basename(image.name), type: 'application/octet-stream' })
    const boundary = 'MIME_boundary_6E2D5A1B90C4F783'
    const { payload } = form(parts, boundary)
    const head =
      `${method} ${path} HTTP/1.0\r\nConnection: Close\r\nHost: 127.0.0.1:${port}\r\n` +
      `Content-Type: multipart/form-data; boundary="${boundary}"\r\nContent-Length: ${payload.length}\r\n\r\n`
    return sendRaw(port, Buffer.concat([Buffer.from(head), payload]))
  },
  /**
   * Poco's MultipartReader without a boundary takes it from the first line; a part is a file when any header's value has
   * `filename="` or `octet-stream`; the last text counts; without the closing boundary it would spin for ever.
   */
  read(body: Buffer): { text: string | undefined; file: Buffer | undefined } {
    const text = body.toString('latin1')
    const first = text.slice(0, text.indexOf('\r\n'))
    expect(first.startsWith('--')).toBe(true)
    expect(text.trimEnd().endsWith(`${first}--`)).toBe(true)
    const found: { text: string | undefined; file: Buffer | undefined } = { text: undefined, file: undefined }
    for (const piece of text.split(first).slice(1, -1)) {
      const gap = piece.indexOf('\r\n\r\n')
      const values = piece
        .slice(0, gap)
        .split('\r\n')
        .map((line) => line.slice(line.indexOf(':') + 1))
      const content = piece.slice(gap + 4, -2)
      if (values.some((value) => value.includes('filename="') || value.includes('octet-stream')))
        found.file = Buffer.from(content, 'latin1')
      else found.text = Buffer.from(content, 'latin1').toString()
    }
    return found
  },
}
const cppScan = () => ({ name: '/home/ann/Doe^Jane.nii.gz', body: scan })

describe('the C++ client', () => {
  test('can parse every model of the list: text where it wants text, and no null anywhere', async () => {
    const reply = await cpp.get('/v1/models')
    expect(reply.statusLine).toBe('HTTP/1.1 200 OK')
    const text = reply.body.toString()
    expect(text).not.toContain('null')
    const models = JSON.parse(text) as Record<string, unknown>[]
    expect(models.length).toBeGreaterThanOrEqual(4)
    for (const model of models)
      expect(model).toMatchObject({
        name: expect.any(String),
        type: expect.stringMatching(/^(segmentation|annotation|classification|deepgrow|others|pipeline)$/),
        description: expect.any(String),
        version: expect.any(String),
        labels: expect.any(Array),
      })
    expect(models.find(({ name }) => name === 'points')).toMatchObject({ padding: 20, roi: [128, 128, 128] })
    expect(models.find(({ name }) => name === 'clicks')).toMatchObject({
      version: '1',
      description: '',
      deepgrow: '2D',
    })
    for (const query of ['label=spleen', 'label=spleen&type=annotation', 'type=deepgrow'])
      expect(JSON.parse((await cpp.get(`/v1/models?${query}`)).body.toString())).toEqual(expect.any(Array))
  })

  test('segmentation: asks for the model, posts, and gets six points of whole numbers and the file', async () => {
    expect(JSON.parse((await cpp.get('/v1/models?model=seg')).body.toString())).toMatchObject({ name: 'seg' })
    const reply = await cpp.send('/v1/segmentation?model=seg', '{}', cppScan())
    expect(reply.statusLine).toMatch(/ 200 OK$/)
    const { text, file } = cpp.read(reply.body)
    const { points } = JSON.parse(text!) as { points: number[][] }
    expect(points).toHaveLength(6)
    expect(points.flat().every(Number.isInteger)).toBe(true)
    expect(Buffer.compare(labelsIn(file!), block())).toBe(0)
  })

  test.each([
    { points: JSON.stringify({ points: JSON.stringify(POINTS) }) },
    { points: JSON.stringify({ points: POINTS }) },
  ])('dextr3d with points as text and as arrays: $points', async ({ points }) => {
    const reply = await cpp.send('/v1/dextr3d?model=points', points, cppScan())
    expect(reply.statusLine).toMatch(/ 200 OK$/)
    const labels = labelsIn(cpp.read(reply.body).file!)
    expect(labels).toHaveLength(VOXELS)
    for (const [x, y, z] of POINTS) expect(labels[x! + 24 * (y! + 20 * z!)]).toBe(1)
  })

  test('session: put without expiry, used, asked for, gone: then 440 in the status line', async () => {
    const created = await cpp.send('/session/', '{}', cppScan(), 'PUT')
    expect(created.statusLine).toMatch(/ 200 OK$/)
    const { session_id } = JSON.parse(created.body.toString())
    const path = `/v1/segmentation?model=seg&session_id=${session_id}`
    const used = await cpp.send(path, '{}')
    expect(Buffer.compare(labelsIn(cpp.read(used.body).file!), block())).toBe(0)
    expect((await cpp.get(`/session/${session_id}`)).statusLine).toMatch(/ 200 OK$/)
    expect((await cpp.get(`/session/${session_id}`, 'DELETE')).statusLine).toMatch(/ 200 OK$/)
    expect((await cpp.send(path, '{}')).statusLine).toMatch(/^HTTP\/1\.[01] 440 \w+/)
    expect((await cpp.send(`/v1/deepgrow?model=clicks&session_id=${session_id}`, '{}')).statusLine).toMatch(/ 440 /)
  })

  test('polygons out of a mask, and one of them moved', async () => {
    const outlined = await cpp.send('/v1/mask2polygon', '{"more_points":10}', cppScan())
    const slices = JSON.parse(outlined.body.toString()) as number[][][][]
    expect(slices.map((polygons) => polygons.length)).toEqual([0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    const poly = [
      [
        [5, 5],
        [20, 5],
        [20, 20],
        [5, 20],
      ],
    ]
    const params = {
      dimension: 2,
      poly,
      polygon_index: 0,
      vertex_index: 1,
      vertex_offset: [2, 1],
      propagate_neighbor: 1,
    }
    const moved = await cpp.send('/v1/fixpolygon', JSON.stringify(params), { name: 'slice.png', body: slice })
    const { text, file } = cpp.read(moved.body)
    expect(JSON.parse(text!).poly[0][1]).toEqual([22, 6])
    expect(file!.toString('latin1', 1, 4)).toBe('PNG')
  })

  test('a name that is not there is said on the status line of a GET', async () => {
    expect((await cpp.get('/v1/models?model=none')).statusLine).toMatch(/404 .*model 'none'/)
  })
})

describe('MITK', () => {
  test.each([
    { name: 'clicks on both sides', params: { foreground: [[12, 10, 5]], background: [[2, 2, 5]] } },
    { name: 'clicks as text', params: { foreground: '[[12,10,5]]', background: '[]' } },
    { name: 'a click outside alone', params: { foreground: [], background: [[2, 2, 5]] } },
  ])('deepgrow in 2D, $name: a volume of full size with nothing but that slice', async ({ params }) => {
    const reply = await cpp.send('/v1/deepgrow?model=clicks', JSON.stringify(params), cppScan())
    expect(reply.statusLine).toMatch(/ 200 OK$/)
    const { text, file } = cpp.read(reply.body)
    expect(() => JSON.parse(text!)).not.toThrow()
    const labels = labelsIn(file!)
    expect(labels).toHaveLength(VOXELS)
    const perSlice = Array.from({ length: 10 }, (_, z) => labels.subarray(z * 480, z * 480 + 480).some((v) => v > 0))
    expect(perSlice.filter((_, z) => z !== 5)).toEqual(new Array(9).fill(false))
    if (params.foreground.length > 0) expect(labels[12 + 24 * (10 + 20 * 5)]).toBe(1)
    expect(labels[2 + 24 * (2 + 20 * 5)]).toBe(0)
  })
})

/** client_api.py: every file is `datapoint` under its full path, after the fields; an extra line end follows the form. */
async function py(path: string, params: unknown, file?: Part): Promise<{ status: string; parts: Map<string, Buffer> }> {
  const boundary = '----------lImIt_of_THE_fIle_eW_$'
  const { payload } = form([{ name: 'params', body: JSON.stringify(params) }, ...(file ? [file] : [])], boundary)
  const body = Buffer.concat([payload, Buffer.from('\r\n')])
  const head =
    `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAccept-Encoding: identity\r\nContent-Length: ${body.length}\r\n` +
    `content-type: multipart/form-data; boundary=${boundary}\r\n\r\n`
  const reply = await sendRaw(port, Buffer.concat([Buffer.from(head), body]))
  const parts = readMultipart(reply.headers.get('content-type')!, reply.body)
  return { status: reply.statusLine, parts: new Map(parts.map((part) => [part.name, part.body])) }
}
const datapoint = (body: Buffer): Part => ({
  name: 'datapoint',
  body,
  filename: '/home/ann/data/Doe^Jane.nii.gz',
  type: 'application/octet-stream',
})

describe('the Python client', () => {
  test('segmentation and dextr3d, points as text', async () => {
    const whole = await py('/v1/segmentation?model=seg', {}, datapoint(scan))
    expect(whole.status).toBe('HTTP/1.1 200 OK')
    expect(Buffer.compare(labelsIn(whole.parts.get('file')!), block())).toBe(0)
    const one = await py('/v1/dextr3d?model=points', { points: JSON.stringify(POINTS) }, datapoint(scan))
    expect(one.status).toBe('HTTP/1.1 200 OK')
    expect(labelsIn(one.parts.get('file')!)).toHaveLength(VOXELS)
  })

  test('a classification is a form with params alone', async () => {
    const { status, parts } = await py('/v1/inference?model=kinds', {}, { ...datapoint(slice), type: 'image/png' })
    expect([status, [...parts.keys()]]).toEqual(['HTTP/1.1 200 OK', ['params']])
    expect(JSON.parse(parts.get('params')!.toString())).toHaveProperty('prediction')
  })

  const python = pythonWith(['cgi', 'http.client'])
  test.skipIf(!python)(
    'does all it can with its own reader, cgi.FieldStorage (skipped without Python < 3.13)',
    async () => {
      const script = fileURLToPath(new URL('../helpers/py_client.py', import.meta.url))
      const data = join(folder.path, 'py')
      await mkdir(data)
      await writeFile(join(data, 'scan.nii.gz'), scan)
      await writeFile(join(data, 'slice.png'), slice)
      const { stdout } = await promisify(execFile)(python!, ['-W', 'ignore', script, String(port), data])
      const told = JSON.parse(stdout)
      expect(told).toMatchObject({
        models: expect.arrayContaining(['seg', 'points', 'clicks', 'kinds']),
        segmentation: { params: { points: expect.any(Array) }, filename: 'aas_result.nii.gz' },
        dextr3d: { filename: 'aas_result.nii.gz' },
        deepgrow: { filename: 'aas_result.nii.gz' },
        inference: { params: { points: expect.any(Array) }, filename: 'aas_result.nii.gz' },
        classification: { params: { prediction: expect.anything() }, filename: null },
        mask2polygon: 10,
        fixpolygon: {
          params: {
            poly: [
              [
                [5, 5],
                [22, 6],
                [20, 20],
                [5, 20],
              ],
            ],
          },
          filename: 'aas_result.png',
        },
        session: { alive: 200, used: 200, closed: 200, expired: 440 },
      })
      expect(Buffer.compare(labelsIn(await readFile(join(data, 'segmentation.out'))), block())).toBe(0)
    },
  )
})

describe('OHIF', () => {
  const origin = 'https://viewer.example'
  const post = (path: string, body: FormData, method = 'POST') =>
    fetch(`${server.url}${path}`, { method, body, headers: { accept: 'multipart/form-data', origin } })
  const wish = { result_extension: '.nrrd', result_dtype: 'uint16', result_compress: true }

  function readNrrd(bytes: Buffer): { header: Map<string, string>; voxels: Uint16Array } {
    const gap = bytes.indexOf('\n\n')
    const [magic, ...lines] = bytes.toString('latin1', 0, gap).split('\n')
    expect(magic).toMatch(/^NRRD000\d$/)
    const header = new Map(
      lines.filter((line) => !line.startsWith('#')).map((line) => line.split(': ', 2) as [string, string]),
    )
    const raw = gunzipSync(bytes.subarray(gap + 2))
    return { header, voxels: Uint16Array.from({ length: raw.length / 2 }, (_, i) => raw.readUInt16LE(2 * i)) }
  }

  test.each(['POST /v1/segmentation?model=seg', 'PUT /session/?expiry=7200', 'GET /v1/models', 'DELETE /session/x'])(
    'is let in by the preflight for %s',
    async (line) => {
      const [method, path] = line.split(' ') as [string, string]
      const headers = {
        origin,
        'access-control-request-method': method,
        'access-control-request-headers': 'accept,content-type',
      }
      const reply = await fetch(`${server.url}${path}`, { method: 'OPTIONS', headers })
      expect(reply.status).toBe(204)
      expect(reply.headers.get('access-control-allow-origin')).toBe('*')
      expect(reply.headers.get('access-control-allow-methods')).toContain(method)
      expect(reply.headers.get('access-control-allow-headers')).toMatch(/content-type/)
    },
  )

  test('image before params, and a gzipped NRRD of little-endian uint16 back', async () => {
    const body = new FormData()
    body.append('image', new Blob([new Uint8Array(scan)]), 'image.nii')
    body.append('params', JSON.stringify(wish))
    const reply = await post('/v1/segmentation?model=seg&output=image', body)
    expect([reply.status, reply.headers.get('access-control-allow-origin')]).toEqual([200, '*'])
    const { header, voxels } = readNrrd(Buffer.from(await reply.arrayBuffer()))
    expect(header).toEqual(
      new Map([
        ...header,
        ['type', 'unsigned short'],
        ['encoding', 'gzip'],
        ['endian', 'little'],
        ['sizes', '24 20 10'],
      ]),
    )
    expect([...voxels]).toEqual([...volume.data])
  })

  test('a DICOM series as image0 and on becomes a session, which is clicked in and asked for', async () => {
    const { named } = await dicomFixtures('geometry', folder.path)
    const body = new FormData()
    for (const [i, path] of named('oblique/').entries())
      body.append(`image${i}`, new Blob([new Uint8Array(await readFile(path))]), `image_${i}.dcm`)
    body.append('params', 'null')
    const created = await post('/session/?expiry=7200&save_as=.nii', body, 'PUT')
    expect(created.status).toBe(200)
    const { session_id } = (await created.json()) as { session_id: string }
    const click = new FormData()
    const params = { foreground: [[6, 10, 3]], background: [], current_point: [[6, 10, 3]], ...wish }
    click.append('params', JSON.stringify(params))
    const reply = await post(`/v1/deepgrow?model=clicks&session_id=${session_id}&output=image`, click)
    expect(reply.status).toBe(200)
    expect(readNrrd(Buffer.from(await reply.arrayBuffer())).voxels).toHaveLength(12 * 20 * 7)
    expect((await fetch(`${server.url}/session/${session_id}?update_ts=true`, { headers: { origin } })).status).toBe(
      200,
    )
  })

  test('reads the log at both of its spellings', async () => {
    for (const path of ['/logs/?lines=15', '/logs?lines=15', '/logs', '/docs/', '/v1/models/'])
      expect((await fetch(`${server.url}${path}`, { headers: { accept: 'application/json' } })).status).toBe(200)
  })
})

describe('XNAT', () => {
  test('names its file image.nii.gz and gets uint16 NIfTI', async () => {
    const body = new FormData()
    body.append(
      'params',
      JSON.stringify({ result_extension: '.nii.gz', result_dtype: 'uint16', result_compress: false }),
    )
    body.append('image', new Blob([new Uint8Array(scan)]), 'image.nii.gz')
    const reply = await fetch(`${server.url}/v1/segmentation?model=seg&output=image`, { method: 'POST', body })
    expect(reply.status).toBe(200)
    const nifti = gunzipSync(Buffer.from(await reply.arrayBuffer()))
    expect(nifti.readInt16LE(70)).toBe(512)
    expect(nifti).toHaveLength(352 + 2 * VOXELS)
  })
})

describe('3D Slicer', () => {
  test('finds the keys it takes from every model, and a deepgrow that says its dimension', async () => {
    const models = (await (await fetch(`${server.url}/v1/models`)).json()) as Record<string, unknown>[]
    for (const model of models)
      for (const key of ['name', 'type', 'description', 'labels'])
        expect(model[key], `${model.name}: ${key}`).toBeDefined()
    // Slicer shows a deepgrow model for whole volumes when this key contains 3d.
    for (const model of models.filter(({ type }) => type === 'deepgrow'))
      expect(String(model.deepgrow).toLowerCase(), `${model.name}`).toBe(model.name === 'deepgrow_3d' ? '3d' : '2d')
  })

  test('calls /v1/inference for all: a segmentation, then clicks with the current one nested', async () => {
    const whole = await py('/v1/inference?model=seg', {}, datapoint(scan))
    expect(JSON.parse(whole.parts.get('params')!.toString()).points).toHaveLength(6)
    expect(Buffer.compare(labelsIn(whole.parts.get('file')!), block())).toBe(0)
    for (const current_point of [[[12, 10, 5]], [12, 10, 5]]) {
      const params = { foreground: [[12, 10, 5]], background: [[2, 2, 5]], current_point, spatial_size: [12, 12] }
      const clicked = await py('/v1/inference?model=clicks', params, datapoint(scan))
      expect(clicked.status).toBe('HTTP/1.1 200 OK')
      expect(labelsIn(clicked.parts.get('file')!)[12 + 24 * (10 + 20 * 5)]).toBe(1)
    }
  })
})
