/** The command lines of the AIAA 3.1 API page, as printed there, through a shell and curl against the real program. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeVolume } from '../../src/formats/write-volume.js'
import { makeVolume, type Vec3 } from '../../src/volume/volume.js'
import { modelConfig } from '../helpers/registry.js'
import { modelPath } from '../helpers/runner-fixtures.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, scaleAffine, tempFolder, volumeOf } from '../helpers/volumes.js'

const hasCurl = spawnSync('curl', ['--version'], { stdio: 'ignore' }).status === 0

let folder: Awaited<ReturnType<typeof tempFolder>>
let server: ServerProcess

/** Runs a line as a person would in a folder with the printed files; curl's own configuration file tells the status. */
async function shell(line: string): Promise<{ status: number; stdout: string }> {
  const env = {
    PATH: process.env.PATH,
    LOCAL_PORT: new URL(server.url).port,
    CURL_HOME: folder.path,
    no_proxy: '127.0.0.1',
  }
  const child = spawn('sh', ['-c', line], { cwd: folder.path, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
  const [code] = (await once(child, 'close')) as [number]
  if (code !== 0) throw new Error(`the line ended with ${code}: ${stderr}`)
  return { status: Number(stderr.trim()), stdout }
}

const json = async (line: string): Promise<{ status: number; body: unknown }> => {
  const { status, stdout } = await shell(line)
  return { status, body: JSON.parse(stdout) }
}

async function labelsIn(name: string): Promise<{ size: number[]; at: (point: Vec3) => number; count: number }> {
  const bytes = gunzipSync(await readFile(join(folder.path, name)))
  const [nx, ny, nz] = [42, 44, 46].map((offset) => bytes.readInt16LE(offset)) as [number, number, number]
  expect([bytes.readInt32LE(0), bytes.readInt16LE(70), bytes.length]).toEqual([348, 2, 352 + nx * ny * nz])
  const voxels = bytes.subarray(352)
  return {
    size: [nx, ny, nz],
    at: ([x, y, z]) => voxels[x + nx * (y + ny * z)]!,
    count: voxels.reduce((sum, value) => sum + (value > 0 ? 1 : 0), 0),
  }
}

/** Voxels are `inside` in an elliptic cylinder along z, `outside` elsewhere. */
function cylinder(size: Vec3, inside: number, outside: number) {
  const [nx, ny] = size
  return volumeOf(size, {
    value: (i) => {
      const x = ((i % nx) / (nx - 1)) * 2 - 1
      const y = ((Math.floor(i / nx) % ny) / (ny - 1)) * 2 - 1
      return x * x + y * y < 0.9 ? inside : outside
    },
  })
}

async function configFixture(name: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(fileURLToPath(new URL(`../fixtures/configs/${name}`, import.meta.url)), 'utf8'))
}

const SQUARE = [
  [10, 10],
  [20, 10],
  [30, 10],
  [30, 20],
  [30, 30],
  [20, 30],
  [10, 30],
  [10, 20],
]
const moved = SQUARE.map((point, i) => (i === 4 ? [34, 33] : point))

async function writeFiles(): Promise<void> {
  const path = (name: string) => join(folder.path, name)
  const write = (name: string, value: unknown) => writeFile(path(name), JSON.stringify(value, null, 1))
  await writeFile(path('.curlrc'), 'silent\nshow-error\nwrite-out = "%{stderr}%{http_code}"\n')
  await write('config_aiaa.json', await configFixture('spleen-v3.json'))
  await copyFile(modelPath('threshold'), path('model.trt.pb'))
  await niftiFile(folder.path, cylinder([200, 240, 80], 100, -100), 'spleen.nii.gz')
  await niftiFile(folder.path, cylinder([128, 128, 128], 2, 0), 'cropped_spleen.nii.gz')

  const mask = volumeOf([64, 64, 5], {
    value: (i) => {
      const [x, y, z] = [i % 64, Math.floor(i / 64) % 64, Math.floor(i / 4096)]
      return z > 0 && z < 4 && x >= 10 && x <= 30 && y >= 10 && y <= 30 ? 1 : 0
    },
    make: (n) => new Uint8Array(n),
  })
  for (const name of ['mask2polygon.input.nii.gz', 'label.nii.gz'])
    await writeVolume(mask, path(name), { extension: '.nii.gz', kind: 'labels' })
  const picture = new Uint8Array(64 * 64)
  for (let i = 0; i < picture.length; i++) picture[i] = mask.data[4096 + i]! * 200 + 20
  const slice = makeVolume([64, 64, 1], scaleAffine([1, 1, 1]), picture)
  await writeVolume(slice, path('fixpolygon.input.png'), { extension: '.png', kind: 'intensity' })
  await write('fixpolygon.input.json', {
    poly: [moved],
    prev_poly: [SQUARE],
    polygonIndex: 0,
    vertexIndex: 4,
    propagate_neighbor: 1,
  })
  await write('fixpolygon.3d.input.json', {
    dimension: 3,
    prev_poly: [[], [SQUARE], [SQUARE], [SQUARE], []],
    slice_index: 2,
    polygon_index: 0,
    vertex_index: 4,
    vertex_offset: [4, 3],
    propagate_neighbor: 1,
    propagate_neighbor_3d: 1,
  })

  await write('annotation.json', await configFixture('spleen-annotation-v3.json'))
  await write('deepgrow.json', await configFixture('deepgrow-2d-v4.json'))
  const transforms = [
    { name: 'LoadNifti', args: { fields: 'image' } },
    { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
    { name: 'ScaleIntensityRange', args: { fields: 'image', a_min: -100, a_max: 100, b_min: 0, b_max: 1 } },
  ]
  await write('generic.json', modelConfig({ type: 'others', labels: [], pre_transforms: transforms }))
  await copyFile(modelPath('extreme_points'), path('annotation.trt.pb'))
  await copyFile(modelPath('guidance_2d'), path('deepgrow.trt.pb'))
}

/** The page prints one model; the ones its other lines name are loaded by the same line. */
const putOther = (
  name: string,
  config: string,
  data: string,
) => String.raw`curl -X PUT "http://127.0.0.1:$LOCAL_PORT/admin/model/${name}" \
-F "config=@${config};type=application/json" \
-F "data=@${data}"`

describe.skipIf(!hasCurl)('the lines of the AIAA 3.1 page (skipped without curl)', () => {
  beforeAll(async () => {
    folder = await tempFolder()
    await writeFiles()
    server = await ServerProcess.start(join(folder.path, 'ws'), ['--device', 'cpu'])
  })
  afterAll(async () => {
    expect(await server?.end('SIGTERM')).toBe(0)
    await folder[Symbol.asyncDispose]()
  })

  test('PUT model', async () => {
    const reply = await json(String.raw`curl -X PUT "http://127.0.0.1:$LOCAL_PORT/admin/model/clara_ct_seg_spleen_amp" \
-F "config=@config_aiaa.json;type=application/json" \
-F "data=@model.trt.pb"`)
    expect(reply).toMatchObject({ status: 200, body: { name: 'clara_ct_seg_spleen_amp', type: 'segmentation' } })
    for (const line of [
      putOther('clara_ct_annotation_spleen_amp', 'annotation.json', 'annotation.trt.pb'),
      putOther('clara_deepgrow', 'deepgrow.json', 'deepgrow.trt.pb'),
      putOther('my_model', 'generic.json', 'model.trt.pb'),
    ])
      expect(await json(line)).toMatchObject({ status: 200 })
  })

  test('GET model', async () => {
    const reply = await json(String.raw`curl -X GET "http://127.0.0.1:$LOCAL_PORT/admin/model/clara_ct_seg_spleen_amp" \
-H "accept: application/json"`)
    expect(reply).toEqual({ status: 200, body: await configFixture('spleen-v3.json') })
  })

  test('PATCH model', async () => {
    const config = { ...(await configFixture('spleen-v3.json')), description: 'after PATCH' }
    await writeFile(join(folder.path, 'config_aiaa.json'), JSON.stringify(config, null, 2))
    const reply =
      await shell(String.raw`curl -X PATCH "http://127.0.0.1:$LOCAL_PORT/admin/model/clara_ct_seg_spleen_amp" \
-H "Content-Type: application/json" \
-d @config_aiaa.json`)
    expect(reply.status).toBe(200)
  })

  describe('models', () => {
    const named = (body: unknown) => (body as { name: string }[]).map(({ name }) => name)

    test('all', async () => {
      const { status, body } = await json('curl -X GET "http://127.0.0.1:$LOCAL_PORT/v1/models"')
      expect(status).toBe(200)
      expect(named(body)).toEqual(
        expect.arrayContaining([
          'clara_ct_annotation_spleen_amp',
          'clara_ct_seg_spleen_amp',
          'clara_deepgrow',
          'my_model',
        ]),
      )
    })

    test('by label and type', async () => {
      const { status, body } = await json(
        'curl -X GET "http://127.0.0.1:$LOCAL_PORT/v1/models?label=spleen&type=segmentation"',
      )
      expect(status).toBe(200)
      expect(named(body)).toContain('clara_ct_seg_spleen_amp')
      expect(named(body)).not.toContain('clara_ct_annotation_spleen_amp')
    })

    test('by name', async () => {
      const reply = await json('curl -X GET "http://127.0.0.1:$LOCAL_PORT/v1/models?model=clara_ct_seg_spleen_amp"')
      expect(reply).toMatchObject({
        status: 200,
        body: { name: 'clara_ct_seg_spleen_amp', version: '3', labels: ['spleen'], description: 'after PATCH' },
      })
    })
  })

  test('segmentation', async () => {
    const reply =
      await shell(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/segmentation?model=clara_ct_seg_spleen_amp&output=image" \
-H "accept: multipart/form-data" \
-H "Content-Type: multipart/form-data" \
-F "params={}" \
-F "image=@spleen.nii.gz;type=application/x-gzip" \
-o output_image.nii.gz`)
    expect(reply).toEqual({ status: 200, stdout: '' })
    const { size, at, count } = await labelsIn('output_image.nii.gz')
    const truth = Array.from(cylinder([200, 240, 80], 1, 0).data)
    expect([size, at([100, 120, 40]), at([0, 0, 0])]).toEqual([[200, 240, 80], 1, 0])
    expect(count).toBe(truth.reduce((sum, value) => sum + value, 0))
  })

  test('dextr3d', async () => {
    const reply =
      await shell(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/dextr3d?model=clara_ct_annotation_spleen_amp&output=image" \
-H "accept: multipart/form-data" \
-H "Content-Type: multipart/form-data" \
-F "params={\"points\":\"[[93,106,64],[40,108,64],[29,66,64],[47,20,64],[93,32,64],[99,68,64]]\"}" \
-F "image=@cropped_spleen.nii.gz;type=application/x-gzip" \
-o output_image.nii.gz`)
    expect(reply).toEqual({ status: 200, stdout: '' })
    const { size, at } = await labelsIn('output_image.nii.gz')
    expect([size, at([64, 64, 64]), at([0, 0, 0])]).toEqual([[128, 128, 128], 1, 0])
    expect([at([93, 106, 64]), at([47, 20, 64]), at([40, 108, 64])]).toEqual([1, 1, 1])
  })

  test('deepgrow', async () => {
    const reply =
      await shell(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/deepgrow?model=clara_deepgrow&output=image" \
-H "accept: multipart/form-data" \
-H "Content-Type: multipart/form-data" \
-F "params={\"foreground\":\"[[155, 189, 78], [184, 192, 78], [114,225,78]]\", \"background\":\"[]\"}" \
-F "image=@spleen.nii.gz;type=application/x-gzip" \
-o output_image.nii.gz`)
    expect(reply).toEqual({ status: 200, stdout: '' })
    const { size, at } = await labelsIn('output_image.nii.gz')
    expect(size).toEqual([200, 240, 80])
    expect([at([155, 189, 78]), at([155, 189, 77]), at([20, 20, 78])]).toEqual([1, 0, 0])
  })

  test('inference', async () => {
    const reply =
      await shell(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/inference?model=my_model&output=image" \
-H "accept: multipart/form-data" \
-H "Content-Type: multipart/form-data" \
-F "params={\"mydata\":[1,2,3]}" \
-F "image=@spleen.nii.gz;type=application/x-gzip" \
-o output_image.nii.gz`)
    expect(reply).toEqual({ status: 200, stdout: '' })
    const { size, at } = await labelsIn('output_image.nii.gz')
    expect([size, at([100, 120, 40]), at([0, 0, 0])]).toEqual([[200, 240, 80], 1, 0])
  })

  test('mask2polygon, whose quotes the shell takes', async () => {
    const { status, body } = await json(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/mask2polygon" \
-H "accept: application/json" \
-H "Content-Type: multipart/form-data" \
-F "params={ "more_points": 10 }" \
-F "image=@mask2polygon.input.nii.gz;type=application/gzip"`)
    expect(status).toBe(200)
    const slices = body as number[][][][]
    expect(slices.map((polygons) => polygons.length)).toEqual([0, 1, 1, 1, 0])
    // The border of 21 x 21 pixels has 80; every eleventh is kept.
    expect(slices[2]![0]).toHaveLength(8)
    expect(slices[2]![0]![0]).toEqual([10, 10])
  })

  describe('fixpolygon', () => {
    test('2D: the polygons', async () => {
      const reply = await shell(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/fixpolygon?output=results" \
-H "accept: multipart/form-data" \
-H "Content-Type: multipart/form-data" \
-F "params=${'`'}cat fixpolygon.input.json${'`'}" \
-F "image=@fixpolygon.input.png;type=image/png" \
-o new_polygons.json`)
      expect(reply).toEqual({ status: 200, stdout: '' })
      const { poly } = JSON.parse(await readFile(join(folder.path, 'new_polygons.json'), 'utf8'))
      expect(poly).toHaveLength(1)
      expect(poly[0]).toHaveLength(8)
      expect(poly[0][4]).toEqual([34, 33])
    })

    test('2D: the mask', async () => {
      const reply = await shell(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/fixpolygon?output=image" \
-H "accept: multipart/form-data" \
-H "Content-Type: multipart/form-data" \
-F "params=${'`'}cat fixpolygon.input.json${'`'}" \
-F "image=@fixpolygon.input.png;type=image/png" \
-o new_mask.png`)
      expect(reply).toEqual({ status: 200, stdout: '' })
      const png = await readFile(join(folder.path, 'new_mask.png'))
      expect(png.toString('latin1', 1, 4)).toBe('PNG')
      expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([64, 64])
    })

    test('3D: the mask', async () => {
      const reply = await shell(String.raw`curl -X POST "http://127.0.0.1:$LOCAL_PORT/v1/fixpolygon?output=image" \
-H "accept: multipart/form-data" \
-H "Content-Type: multipart/form-data" \
-F "params=${'`'}cat fixpolygon.3d.input.json${'`'}" \
-F "image=@label.nii.gz;type=application/x-gzip" \
-o new_label.nii.gz`)
      expect(reply).toEqual({ status: 200, stdout: '' })
      const { size, at } = await labelsIn('new_label.nii.gz')
      expect([size, at([20, 20, 2]), at([33, 34, 2]), at([20, 20, 0])]).toEqual([[64, 64, 5], 1, 1, 0])
    })
  })

  describe('session', () => {
    const putLine = String.raw`curl -X PUT "http://127.0.0.1:$LOCAL_PORT/session/?expiry=30" \
-H "accept: application/json" \
-H "Content-Type: multipart/form-data" \
-F "image=@spleen.nii.gz;type=application/x-gzip"`
    const getLine = String.raw`curl -X GET "http://127.0.0.1:$LOCAL_PORT/session/[session_id here]?image=false" \
-H "accept: application/octet-stream"`
    const deleteLine = 'curl -X DELETE "http://127.0.0.1:$LOCAL_PORT/session/[session_id here]"'
    const fetchLine = String.raw`curl -X PUT "http://127.0.0.1:$LOCAL_PORT/session/?expiry=30" \
-H "accept: application/json" \
-d "@data.json"`

    test('PUT, GET, DELETE', async () => {
      const created = await json(putLine)
      expect(created).toMatchObject({ status: 200, body: { session_id: expect.stringMatching(/^[0-9a-f-]{36}$/) } })
      const { session_id } = created.body as { session_id: string }
      const get = getLine.replace('[session_id here]', session_id)
      expect(await json(get)).toMatchObject({ status: 200, body: { session_id, expiry: 30 } })
      expect((await json(deleteLine.replace('[session_id here]', session_id))).status).toBe(200)
      expect(await json(get)).toMatchObject({ status: 404, body: { success: false } })
    })

    test.each([
      {
        name: 'a DICOM server',
        data: {
          dicom: {
            server_address: '0.0.0.0',
            server_port: 11112,
            ae_title: 'DCM4CHEE',
            query_level: 'PATIENT',
            patient_id: 'ProstateX-0004',
            study_uid: '1.3.6.1.4.1.14519.5.2.1.7311.5101.170561193612723093192571245493',
            series_uid: '1.3.6.1.4.1.14519.5.2.1.7311.5101.206828891270520544417996275680',
          },
        },
      },
      {
        name: 'a URL',
        data: {
          http: {
            url: 'http://0.0.0.0/data/projects/NV_CLARA/subjects/XNAT_S00001/experiments/XNAT_E00002/scans/49621430/resources/DICOM/files',
            params: { format: 'zip' },
            method: 'GET',
          },
        },
      },
    ])('PUT from $name is refused until the operator allows it, and is told how', async ({ data }) => {
      await writeFile(join(folder.path, 'data.json'), JSON.stringify(data, null, 2))
      const reply = await json(fetchLine)
      expect(reply).toMatchObject({
        status: 403,
        body: { code: 'FETCH_FORBIDDEN', hint: expect.stringMatching(/--allow-fetch/) },
      })
    })
  })

  test('DELETE model', async () => {
    const line = 'curl -X DELETE "http://127.0.0.1:$LOCAL_PORT/admin/model/clara_ct_seg_spleen_amp"'
    expect((await json(line)).status).toBe(200)
    expect(await json(line)).toMatchObject({ status: 404, body: { success: false } })
  })
})
