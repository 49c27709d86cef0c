/** OHIF's way, with Orthanc as the DICOMweb service: a series is named, a mask comes back, the label goes back as DICOM SEG. */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boundaryOf, multipartParts } from '../../src/fetchers/multipart-related.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { clickConfig } from '../helpers/click-model.js'
import { readMultipart } from '../helpers/multipart.js'
import { hasOrthanc, type Orthanc, startOrthanc } from '../helpers/orthanc.js'
import { pythonJson, pythonWith } from '../helpers/python.js'
import { fixtureModel } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits } from '../helpers/volumes.js'

const CT20 = '2.25.329800735698586629295641978511506172919'
const STUDY20 = '2.25.329800735698586629295641978511506172918'
const CT17 = '1.2.826.0.1.3680043.2.1125.1.34342067217438436433087125579339530'
const PAGE = 'http://viewer.example:3000'
const LOGIN = { user: 'aidant', password: 'swör:dfish' }
const python = pythonWith(['highdicom', 'pydicom', 'numpy'])

describe.skipIf(!sharedData || !hasOrthanc)('Orthanc (needs shared data, Orthanc with its DICOMweb plug-in)', () => {
  let root: string
  let orthanc: Orthanc
  let server: ServerProcess
  let url: string
  const images = join(sharedData ?? '', 'dicom')

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'aidant-dicomweb-'))
    await mkdir(join(root, 'pacs'))
    orthanc = await startOrthanc(join(root, 'pacs'), { login: LOGIN })
    await orthanc.store(join(images, 'ts_ct20_j2k'))
    await orthanc.store(join(images, 'torchio_ct17'))
    await writeFile(join(root, 'login'), `basic ${LOGIN.user}:${LOGIN.password}\n`)
    server = await start('first', ['--store-labels'])
    url = server.url
  })
  afterAll(async () => {
    await server?.end('SIGTERM')
    await orthanc?.stop()
    await rm(root, { recursive: true, force: true, maxRetries: 3 })
  })

  /** With a model that draws a ball around each click. */
  async function start(name: string, flags: readonly string[]): Promise<ServerProcess> {
    const dicomweb = ['--dicomweb-url', `http://127.0.0.1:${orthanc.httpPort}/dicom-web/`]
    const login = ['--dicomweb-credentials', join(root, 'login'), '--cors-origins', PAGE]
    const all = ['--device', 'cpu', '--log-level', 'debug', ...dicomweb, ...login, ...flags]
    const started = await ServerProcess.startCompiled(join(root, name), all)
    const body = new FormData()
    body.append('config', new Blob([JSON.stringify(clickConfig(3))]), 'config_aiaa.json')
    body.append('data', new Blob([new Uint8Array(fixtureModel('guidance_3d.onnx'))]), 'model.onnx')
    const reply = await fetch(`${started.url}/admin/model/clicks`, { method: 'PUT', body })
    expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
    return started
  }

  /** As OHIF's client asks: a form with `params` as text, from its own origin. */
  async function ask(method: string, path: string, parts: Readonly<Record<string, string | Blob>> = {}) {
    const body = new FormData()
    for (const [name, part] of Object.entries(parts))
      if (typeof part === 'string') body.append(name, part)
      else body.append(name, part, 'label.bin')
    const headers = { accept: 'application/json,multipart/form-data', origin: PAGE }
    return fetch(`${url}${path}`, { method, headers, ...(method === 'GET' ? {} : { body }) })
  }

  const CLICKS = {
    foreground: [[250, 300, 9]],
    background: [],
    result_extension: '.nrrd',
    result_dtype: 'uint8',
    result_compress: false,
    restore_label_idx: false,
  }

  /** The voxels behind an NRRD header that says they are raw, as OHIF takes them. */
  function rawVoxels(nrrd: Buffer): Buffer {
    const end = nrrd.indexOf('\n\n')
    expect(nrrd.toString('latin1', 0, end)).toMatch(/encoding: raw/)
    return nrrd.subarray(end + 2)
  }

  async function masked(path = '?'): Promise<Buffer> {
    const reply = await ask('POST', `/infer/clicks${path}&image=${CT20}&output=image`, {
      params: JSON.stringify(CLICKS),
    })
    const bytes = Buffer.from(await reply.arrayBuffer())
    expect(reply.status, bytes.toString('latin1', 0, 300)).toBe(200)
    return rawVoxels(bytes)
  }

  async function* chunksOf(reply: Response): AsyncGenerator<Buffer> {
    yield Buffer.from(await reply.arrayBuffer())
  }

  async function whole(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
    const pieces: Buffer[] = []
    for await (const chunk of chunks) pieces.push(Buffer.from(chunk))
    return Buffer.concat(pieces)
  }

  /** A label with two structures that no mirror image shares, as OHIF sends it: voxels alone, rows downwards. */
  function labelVoxels(columns: number, rows: number, slices: number): Uint8Array<ArrayBuffer> {
    const data = new Uint8Array(columns * rows * slices)
    for (let z = 3; z < slices - 2; z++)
      for (let r = 0; r < 40 + z; r++)
        for (let c = 0; c < 60; c++) data[c + columns * (r + rows * z)] = c < 20 ? 1 : r > 30 ? 3 : 0
    return data
  }

  test('the viewer asks what there is', async () => {
    const reply = await ask('GET', '/info/')
    const info = await reply.json()
    expect(info.models.clicks).toMatchObject({ type: 'deepgrow', dimension: 3 })
    expect(Array.isArray(info.labels)).toBe(true)
    expect(Object.keys(info.strategies)).toEqual(['first', 'random', 'unlabelled'])
    expect(reply.headers.get('access-control-allow-origin')).toBe(PAGE)
  })

  test("series of images are listed, and the next sample opens one in the viewer's words", async () => {
    const { objects } = await (await ask('GET', '/datastore/?output=all')).json()
    expect(Object.keys(objects).sort()).toEqual([CT17, CT20].sort())
    expect(objects[CT20].image.info).toMatchObject({
      Modality: 'CT',
      StudyInstanceUID: STUDY20,
      SeriesInstanceUID: CT20,
    })
    const next = await (await ask('POST', '/activelearning/first', {})).json()
    expect(next).toMatchObject({
      id: next.SeriesInstanceUID,
      Modality: 'CT',
      RetrieveURL: expect.stringContaining('/series/'),
    })
    expect(next.name).toMatch(/^[\w-]+\.nrrd$/)
    expect((await (await ask('GET', '/info/')).json()).datastore).toEqual({ total: 2, completed: 0 })
    const info = await (await ask('GET', `/datastore/image/info/?image=${CT20}`)).json()
    expect(info).toMatchObject({ name: CT20, NumberOfSeriesRelatedInstances: 20 })
  })

  test('a mask by the UID of a series is that of /v1 on the files themselves', async () => {
    const body = new FormData()
    const folder = join(images, 'ts_ct20_raw')
    for (const name of await readdir(folder))
      body.append('files', new Blob([new Uint8Array(await readFile(join(folder, name)))]), name)
    const { session_id: session } = await (await fetch(`${url}/session/`, { method: 'PUT', body })).json()
    const form = new FormData()
    form.append('params', JSON.stringify(CLICKS))
    const path = `/v1/deepgrow?model=clicks&output=image&session_id=${session}`
    const wanted = rawVoxels(
      Buffer.from(await (await fetch(`${url}${path}`, { method: 'POST', body: form })).arrayBuffer()),
    )
    const mask = await masked()
    expect(mask.some(Boolean)).toBe(true)
    expect(mask.equals(wanted)).toBe(true)
  })

  test('with neither output nor extension the reply is a form of params and file', async () => {
    const params = JSON.stringify({ foreground: CLICKS.foreground, background: [], label: 'kidney' })
    const reply = await ask('POST', `/infer/clicks?image=${CT20}`, { params })
    const [json, file] = readMultipart(reply.headers.get('content-type')!, Buffer.from(await reply.arrayBuffer()))
    expect(JSON.parse(json!.body.toString()).label_names).toEqual({ kidney: 1 })
    expect(file!.filename).toMatch(/\.nii\.gz$/)
  })

  test('the series is fetched once: the second click finds its session, also of two at a time', async () => {
    const all = await Promise.all([masked(), masked(), masked()])
    for (const mask of all) expect(mask.equals(all[0]!)).toBe(true)
    const sessions = await readdir(join(root, 'first', 'sessions'))
    // One of the series, one that a test above has made of the files.
    expect(sessions.length).toBeLessThanOrEqual(2)
  })

  test('a click on the downloaded file is at the same place in the mask: 3D Slicer without the DICOM files', async () => {
    const reply = await ask('GET', `/datastore/image?image=${CT20}`)
    expect(reply.headers.get('content-disposition')).toMatch(/filename="[\w-]+\.nrrd"/)
    const path = join(root, 'ct20.nrrd')
    await writeFile(path, Buffer.from(await reply.arrayBuffer()))
    const { volume } = await readVolume([path], roomyLimits)
    const mask = await masked()
    const [x, y, z] = CLICKS.foreground[0]!
    const form = new FormData()
    form.append('params', JSON.stringify({ ...CLICKS, result_extension: '.nrrd' }))
    form.append('file', new Blob([new Uint8Array(await readFile(path))]), 'ct20.nrrd')
    const posted = await fetch(`${url}/infer/clicks?output=image`, { method: 'POST', body: form })
    expect(rawVoxels(Buffer.from(await posted.arrayBuffer())).equals(mask)).toBe(true)
    expect(mask[x! + 512 * (y! + 512 * z!)]).toBe(1)
    expect(volume.size).toEqual([512, 512, 20])
  })

  test('a label of bare voxels goes to Orthanc as DICOM SEG and is there what it was here', async () => {
    const [columns, rows, slices] = [512, 512, 20]
    const voxels = labelVoxels(columns, rows, slices)
    const label_info = [
      { name: 'liver', idx: 1 },
      { name: 'left kidney', idx: 3 },
    ]
    const params = JSON.stringify({ label_info, client_id: 'me' })
    const put = await ask('PUT', `/datastore/label?image=${CT20}`, { params, label: new Blob([voxels]) })
    expect([put.status, await put.json()]).toEqual([200, { image: CT20, label: CT20 }])

    const found = await orthanc.ask(`/dicom-web/studies/${STUDY20}/series?Modality=SEG&includefield=0020000E`, {
      headers: { accept: 'application/dicom+json' },
    })
    const segmentations = (await found.json()) as Record<string, { Value: string[] }>[]
    expect(segmentations).toHaveLength(1)
    const series = segmentations[0]!['0020000E']!.Value[0]!
    const got = await orthanc.ask(`/dicom-web/studies/${STUDY20}/series/${series}`, {
      headers: { accept: 'multipart/related; type="application/dicom"' },
    })
    const parts: Buffer[] = []
    const path = join(root, 'seg.dcm')
    for await (const part of multipartParts(chunksOf(got), boundaryOf(got.headers.get('content-type')!)!))
      parts.push(await whole(part))
    expect(parts).toHaveLength(1)
    await writeFile(path, parts[0]!)
    const { volume } = await readVolume([path], roomyLimits)
    expect(volume.size).toEqual([columns, rows, slices])
    for (let z = 0; z < slices; z++)
      for (let r = 0; r < rows; r++) {
        const here = volume.data.subarray(columns * (rows - 1 - r + rows * z), columns * (rows - r + rows * z))
        const sent = voxels.subarray(columns * (r + rows * z), columns * (r + 1 + rows * z))
        if (!Buffer.from(here.buffer as ArrayBuffer, here.byteOffset, columns).equals(sent))
          throw new Error(`slice ${z}, row ${r} differs`)
      }
  })

  test.skipIf(!python)(
    'highdicom reads the same voxels of it, slice by slice of its source (needs highdicom)',
    async () => {
      const script = `
import sys, json, hashlib, numpy, highdicom, pydicom
seg = highdicom.seg.segread(sys.argv[1])
source = sorted((pydicom.dcmread(path, stop_before_pixels=True) for path in sys.argv[2:]), key=lambda one: one.ImagePositionPatient[2])
pixels = seg.get_pixels_by_source_instance([one.SOPInstanceUID for one in source], combine_segments=True)
print(json.dumps({
  "sha": hashlib.sha256(pixels.astype(numpy.uint8).tobytes()).hexdigest(), "patient": seg.PatientID == source[0].PatientID,
  "segments": [[one.SegmentLabel, str(one.SegmentAlgorithmType)] for one in seg.SegmentSequence],
}))`
      const files = (await readdir(join(images, 'ts_ct20_raw'))).map((name) => join(images, 'ts_ct20_raw', name))
      const voxels = labelVoxels(512, 512, 20)
      expect(await pythonJson(python!, script, [join(root, 'seg.dcm'), ...files])).toEqual({
        sha: createHash('sha256').update(voxels).digest('hex'),
        patient: true,
        segments: [
          ['liver', 'MANUAL'],
          ['label 2', 'MANUAL'],
          ['left kidney', 'MANUAL'],
        ],
      })
    },
  )

  test('a labelled series is completed, is no next sample, and gives its segmentation', async () => {
    expect((await (await ask('GET', '/info/')).json()).datastore).toEqual({ total: 2, completed: 1 })
    for (const strategy of ['first', 'random', 'unlabelled'])
      expect((await (await ask('POST', `/activelearning/${strategy}`, {})).json()).id).toBe(CT17)
    const { objects } = await (await ask('GET', '/datastore/?output=all')).json()
    expect(objects[CT20].labels.final).toMatchObject({ ext: '.dcm', info: { Modality: 'SEG' } })
    const seg = await ask('GET', `/datastore/label?label=${CT20}&tag=final`)
    expect(seg.headers.get('content-disposition')).toMatch(/\.dcm"$/)
    expect(Buffer.from(await seg.arrayBuffer()).toString('latin1', 128, 132)).toBe('DICM')
    const volume = await ask('GET', `/datastore/label?label=${CT20}&volume=true`)
    const path = join(root, 'label.nii')
    await writeFile(path, Buffer.from(await volume.arrayBuffer()))
    expect((await readVolume([path], roomyLimits)).volume.size).toEqual([512, 512, 20])
  })

  test.each([
    { what: 'an unknown series', path: '/infer/clicks?image=1.2.3', status: 404, says: /no series/ },
    { what: 'a name that is no UID', path: '/infer/clicks?image=MRHead', status: 404, says: /no SeriesInstanceUID/ },
    { what: 'a draft', path: `/datastore/label?image=${CT17}&tag=original`, status: 400, says: /'tag'/ },
    { what: 'voxels of another image', path: `/datastore/label?image=${CT17}`, status: 400, says: /it has 3 bytes/ },
    { what: 'an upload', path: '/datastore/?image=mine', status: 404, says: /no datastore/ },
  ])('$what: $status', async ({ path, status, says }) => {
    const isInfer = path.startsWith('/infer')
    const label = isInfer ? {} : { label: new Blob(['\u0001\u0002\u0003']) }
    const reply = await ask(isInfer ? 'POST' : 'PUT', path, {
      params: '{"foreground": [[1, 1, 1]], "background": []}',
      ...label,
    })
    expect([reply.status, (await reply.json()).error.message[0]]).toEqual([status, expect.stringMatching(says)])
  })

  test('a page of an origin that is not named gets nothing', async () => {
    const headers = { origin: 'https://other.example' }
    expect((await fetch(`${url}/datastore/?output=all`, { headers })).status).toBe(403)
    const body = new FormData()
    body.append('params', JSON.stringify(CLICKS))
    expect((await fetch(`${url}/infer/clicks?image=${CT20}`, { method: 'POST', body, headers })).status).toBe(403)
  })

  test('with a datastore the series is kept with its label, whatever becomes of the service', async () => {
    const kept = await start('kept', ['--datastore', 'workspace'])
    try {
      const body = new FormData()
      body.append('params', JSON.stringify({ label_info: [{ name: 'cyst', idx: 2 }] }))
      const voxels = new Uint16Array(88 * 128 * 17)
      voxels[88 * 3 + 7] = 2
      body.append('label', new Blob([voxels]), 'label.bin')
      const put = await fetch(`${kept.url}/datastore/label?image=${CT17}&tag=original`, { method: 'PUT', body })
      expect([put.status, await put.json()]).toEqual([200, { image: CT17, label: CT17 }])
      const { objects } = await (await fetch(`${kept.url}/datastore/?output=all`)).json()
      expect(objects[CT17]).toMatchObject({
        image: { info: { SeriesInstanceUID: CT17 } },
        labels: { original: { ext: '.dcm', info: { params: { label_names: { cyst: 2 } } } } },
      })
      const label = await fetch(`${kept.url}/datastore/label?label=${CT17}&tag=original&volume=true`)
      const path = join(root, 'kept.nii')
      await writeFile(path, Buffer.from(await label.arrayBuffer()))
      const { volume } = await readVolume([path], roomyLimits)
      expect(volume.size).toEqual([88, 128, 17])
      // Row 3 from above is row 124 from below.
      expect([volume.data[88 * 124 + 7], volume.data.filter(Boolean).length]).toEqual([2, 1])
      const found = await orthanc.ask('/dicom-web/series?Modality=SEG', {
        headers: { accept: 'application/dicom+json' },
      })
      expect(await found.json()).toHaveLength(1)
    } finally {
      await kept.end('SIGTERM')
    }
  })

  test('neither the login nor a patient is in the log', async () => {
    await server.end('SIGTERM')
    const encoded = Buffer.from(`${LOGIN.user}:${LOGIN.password}`).toString('base64')
    for (const secret of [LOGIN.password, encoded, 'TS-CT-0001', CT20]) expect(server.output).not.toContain(secret)
  })
})
