/** Sessions from DICOM files and servers against the real program: PUT, GET the volume, segment, DICOM SEG. */
import { spawnSync } from 'node:child_process'
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { type Dcmqrscp, hasDcmqrscp, startDcmqrscp } from '../helpers/dcmqrscp.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { hasProgram, runProgram } from '../helpers/peer-process.js'
import { pythonJson, pythonWith } from '../helpers/python.js'
import { ServerProcess } from '../helpers/server-process.js'
import { roomyLimits, tempFolder } from '../helpers/volumes.js'
import { zipBytes } from '../helpers/zip.js'

/** The identifiers of the protocol's own example. */
const PATIENT = 'ProstateX-0004'
const STUDY = '1.3.6.1.4.1.14519.5.2.1.7311.5101.170561193612723093192571245493'
const SERIES = '1.3.6.1.4.1.14519.5.2.1.7311.5101.206828891270520544417996275680'
const XNAT_PATH =
  '/data/projects/NV_CLARA/subjects/XNAT_S00001/experiments/XNAT_E00002/scans/49621430/resources/DICOM/files'

const weights = fileURLToPath(new URL('../fixtures/models/threshold.onnx', import.meta.url))
/** Label 1 where the scan, scaled to 0..1, is above 0.5. */
const config = {
  version: '4',
  type: 'segmentation',
  labels: ['spleen'],
  description: 'for tests',
  pre_transforms: [
    { name: 'LoadImaged', args: { keys: 'image' } },
    { name: 'AsChannelFirstd', args: { keys: 'image' } },
    { name: 'ScaleIntensityd', args: { keys: 'image' } },
    { name: 'AddChanneld', args: { keys: 'image' } },
  ],
  inference: { image: 'image', name: 'ONNXInference', args: {} },
  post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', argmax: true } }],
  writer: { name: 'Writer', args: { image: 'pred' } },
}

const ready = hasDcmqrscp && hasProgram('dcmodify') && hasProgram('dcm2niix')
describe.skipIf(!ready)('sessions from DICOM (needs DCMTK and dcm2niix)', () => {
  let folder: Awaited<ReturnType<typeof tempFolder>>
  let server: ServerProcess
  let pacs: Dcmqrscp
  let xnat: Server
  let xnatPort: number
  let files: Buffer[]
  let paths: string[]
  let wanted: Awaited<ReturnType<typeof readVolume>>

  beforeAll(async () => {
    folder = await tempFolder()
    const series = join(folder.path, 'series')
    await mkdir(series)
    const fixtures = await dicomFixtures('geometry', folder.path)
    for (const [i, path] of fixtures.named('oblique/').entries()) await copyFile(path, join(series, `${i}.dcm`))
    paths = (await readdir(series)).map((name) => join(series, name))
    const changes = [`PatientID=${PATIENT}`, `StudyInstanceUID=${STUDY}`, `SeriesInstanceUID=${SERIES}`]
    runProgram('dcmodify', ['-nb', ...changes.flatMap((change) => ['-m', change]), ...paths])
    files = await Promise.all(paths.map((path) => readFile(path)))
    spawnSync('dcm2niix', ['-z', 'n', '-f', 'wanted', '-o', folder.path, series])
    wanted = await readVolume([join(folder.path, 'wanted.nii')], roomyLimits)

    pacs = await startDcmqrscp(folder.path)
    pacs.store(series)
    const zip = zipBytes(files.map((data, i) => ({ name: `DICOM/${i}.dcm`, data })))
    xnat = createServer((request, response) => {
      if (request.url === `${XNAT_PATH}?format=zip`) response.end(zip)
      else response.writeHead(404).end()
    })
    await new Promise<void>((resolve) => xnat.listen(0, '127.0.0.1', resolve))
    xnatPort = (xnat.address() as { port: number }).port
    server = await ServerProcess.start(join(folder.path, 'ws'), [
      ...['--allow-fetch', `0.0.0.0:${pacs.port}`, '--allow-fetch', `0.0.0.0:${xnatPort}`],
      ...['--dicom-port', String(pacs.movePort), '--dicom-ae-title', 'MOVER'],
    ])
    const body = new FormData()
    body.append('config', new Blob([JSON.stringify(config)]), 'config_aiaa.json')
    body.append('data', new Blob([new Uint8Array(await readFile(weights))]), 'model.onnx')
    const reply = await fetch(`${server.url}/admin/model/spleen`, { method: 'PUT', body })
    expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
  })
  afterAll(async () => {
    await server?.end('SIGTERM')
    await pacs?.stop()
    xnat?.close()
    await folder?.[Symbol.asyncDispose]()
  })

  const dicomBody = () => ({
    dicom: {
      server_address: '0.0.0.0',
      server_port: pacs.port,
      ae_title: 'QRSCP',
      query_level: 'PATIENT',
      patient_id: PATIENT,
      study_uid: STUDY,
      series_uid: SERIES,
    },
  })
  const httpBody = () => ({
    http: { url: `http://0.0.0.0:${xnatPort}${XNAT_PATH}`, params: { format: 'zip' }, method: 'GET' },
  })
  const upload = (parts: Record<string, Buffer>) => {
    const form = new FormData()
    form.append('params', 'null')
    for (const [name, data] of Object.entries(parts)) form.append(name, new Blob([new Uint8Array(data)]), `${name}.dcm`)
    return form
  }
  const asJson = { 'content-type': 'application/json' }
  const asCurl = { 'content-type': 'application/x-www-form-urlencoded' }

  async function put(body: string | FormData, headers: Record<string, string> = {}) {
    const reply = await fetch(`${server.url}/session/?expiry=600&save_as=.nii`, { method: 'PUT', body, headers })
    return { status: reply.status, body: (await reply.json()) as { session_id: string } & Record<string, unknown> }
  }

  async function save(reply: Response, name: string) {
    expect(reply.status).toBe(200)
    const path = join(folder.path, name)
    await writeFile(path, Buffer.from(await reply.arrayBuffer()))
    return path
  }

  const ways: { name: string; body: () => string | FormData; headers?: Record<string, string>; received?: object }[] = [
    {
      name: 'a DICOM server, JSON',
      body: () => JSON.stringify(dicomBody()),
      headers: asJson,
      received: { files: 7, announced: 7 },
    },
    {
      name: 'a DICOM server, as curl sends it',
      body: () => JSON.stringify(dicomBody(), null, 2),
      headers: asCurl,
      received: { files: 7, announced: 7 },
    },
    { name: 'a URL that gives a zip', body: () => JSON.stringify(httpBody()), headers: asCurl, received: { files: 1 } },
    {
      name: 'slices image0, image1, …',
      body: () => upload(Object.fromEntries(files.map((data, i) => [`image${i}`, data]))),
    },
    { name: 'a zip', body: () => upload({ image: zipBytes(files.map((data, i) => ({ name: `${i}`, data }))) }) },
  ]
  it.each(ways)("from $name is dcm2niix's volume, and can be segmented", async ({ body, headers, received }) => {
    const created = await put(body(), headers)
    expect(created).toMatchObject({ status: 200, ...(received ? { body: { session_info: { received } } } : {}) })
    const id = created.body.session_id
    const image = await readVolume(
      [await save(await fetch(`${server.url}/session/${id}?image=true`), 'image.nii')],
      roomyLimits,
    )
    expect(image.volume.size).toEqual(wanted.volume.size)
    expect(image.volume.data).toEqual(wanted.volume.data)
    for (const [i, value] of wanted.volume.affine.entries()) expect(image.volume.affine[i]).toBeCloseTo(value, 4)

    const url = `${server.url}/v1/segmentation?model=spleen&session_id=${id}&output=image`
    const empty = () => {
      const form = new FormData()
      form.append('params', '{}')
      return form
    }
    const mask = await readVolume(
      [await save(await fetch(url, { method: 'POST', body: empty() }), 'mask.nii.gz')],
      roomyLimits,
    )
    expect([...mask.volume.affine]).toEqual([...image.volume.affine])
    expect([...mask.volume.data]).toEqual(aboveMiddle(wanted.volume.data))
  })

  /** What the test model answers. */
  function aboveMiddle(data: ArrayLike<number>): number[] {
    const values = Array.from(data)
    const [low, high] = [Math.min(...values), Math.max(...values)]
    return values.map((value) => (Math.fround((value - low) / (high - low)) > 0.5 ? 1 : 0))
  }

  it('posted straight to a model, as one zip, gives the same', async () => {
    const form = upload({ image: zipBytes(files.map((data, i) => ({ name: `${i}`, data }))) })
    form.set('params', '{}')
    const reply = await fetch(`${server.url}/v1/inference?model=spleen&output=image`, { method: 'POST', body: form })
    const { volume } = await readVolume([await save(reply, 'direct.nii.gz')], roomyLimits)
    expect([...volume.data]).toEqual(aboveMiddle(wanted.volume.data))
  })

  it('as NRRD has its rows in the order of the DICOM files, as OHIF reads them', async () => {
    const { body } = await put(JSON.stringify(dicomBody()), asJson)
    const form = new FormData()
    form.append('params', JSON.stringify({ result_extension: '.nrrd' }))
    const url = `${server.url}/v1/segmentation?model=spleen&session_id=${body.session_id}&output=image`
    const { volume } = await readVolume(
      [await save(await fetch(url, { method: 'POST', body: form }), 'mask.nrrd')],
      roomyLimits,
    )
    const [columns, rows, slices] = wanted.volume.size
    const upwards = aboveMiddle(wanted.volume.data)
    const downwards: number[] = []
    for (let z = 0; z < slices; z++)
      for (let r = 0; r < rows; r++)
        for (let x = 0; x < columns; x++) downwards.push(upwards[x + columns * (rows - 1 - r + rows * z)]!)
    expect([...volume.data]).toEqual(downwards)
  })

  const python = pythonWith(['pydicom'])
  it.skipIf(!python)('gives a DICOM SEG that pydicom reads (needs pydicom)', async () => {
    const { body } = await put(JSON.stringify(dicomBody()), asJson)
    const url = `${server.url}/v1/segmentation?model=spleen&session_id=${body.session_id}&output=dicom_seg`
    const form = new FormData()
    form.append('params', '{}')
    const reply = await fetch(url, { method: 'POST', body: form })
    expect(reply.headers.get('content-type')).toContain('application/dicom')
    const path = await save(reply, 'seg.dcm')
    const script = `
import sys, json, pydicom
ds = pydicom.dcmread(sys.argv[1])
print(json.dumps([ds.PatientID, ds.StudyInstanceUID, ds.ReferencedSeriesSequence[0].SeriesInstanceUID,
                  ds.SegmentSequence[0].SegmentLabel, int(ds.pixel_array.sum())]))`
    const ones = aboveMiddle(wanted.volume.data).reduce((sum, value) => sum + value, 0)
    expect(await pythonJson(python!, script, [path])).toEqual([PATIENT, STUDY, SERIES, 'spleen', ones])
  })

  it.each([
    { name: 'a series nobody has', change: { series_uid: '1.2.3' }, status: 404, code: 'NO_IMAGES_FOUND' },
    { name: 'a title nobody has', change: { ae_title: 'NOBODY' }, status: 502, code: 'FETCH_FAILED' },
    { name: 'a port nobody allowed', change: { server_port: 1 }, status: 403, code: 'FETCH_FORBIDDEN' },
  ])('for $name is refused with $status and leaves nothing', async ({ change, status, code }) => {
    const reply = await put(JSON.stringify({ dicom: { ...dicomBody().dicom, ...change } }), asJson)
    expect(reply).toMatchObject({ status, body: { code, success: false } })
  })

  it('with a slice missing is refused in words', async () => {
    const reply = await put(
      upload(Object.fromEntries(files.filter((_, i) => i !== 3).map((data, i) => [`image${i}`, data]))),
    )
    expect(reply).toMatchObject({ status: 400, body: { code: 'BAD_GEOMETRY' } })
    expect(JSON.stringify(reply.body)).toMatch(/lacks 1 slice|not evenly spaced/)
  })
})
