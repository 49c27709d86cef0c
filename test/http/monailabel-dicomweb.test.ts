/** Series of a DICOMweb service as images: what the service is asked, what a client hears, and what each bound does. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import dicomParser from 'dicom-parser'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { InferenceJob, ToolJob } from '../../src/contract/job.js'
import { turnRows } from '../../src/formats/dicom-rows.js'
import { readDicomSeries } from '../../src/formats/dicom-series.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import { runTool } from '../../src/pipelines/run-tool.js'
import { makeVolume, type Volume } from '../../src/volume/volume.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { type FakeDicomweb, fakeDicomweb, type HeldSeries } from '../helpers/dicomweb.js'
import { type Answer, labelMap } from '../helpers/fake-scheduler.js'
import { form, type Part } from '../helpers/multipart.js'
import { idleControl } from '../helpers/pipeline.js'
import { type TestApp, testApp } from '../helpers/test-app.js'
import { roomyLimits } from '../helpers/volumes.js'

const STUDY = '1.2.3'
const OBLIQUE = '1.2.3.4'
const FLIPPED = '1.2.3.5'
const SEG = '1.2.3.6'

const answer: Answer = (job, signal, onProgress) =>
  job.kind !== 'inference' ? runTool(job as ToolJob, idleControl) : labelMap(job, signal, onProgress)

let root: string
let oblique: HeldSeries
let flipped: HeldSeries
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-dicomweb-'))
  const fixtures = await dicomFixtures('geometry', root)
  const held = (seriesUid: string, name: string) => ({
    studyUid: STUDY,
    seriesUid,
    modality: 'CT',
    paths: fixtures.named(`${name}/`),
  })
  oblique = held(OBLIQUE, 'oblique')
  flipped = held(FLIPPED, 'flipped-rows')
})
afterAll(() => rm(root, { recursive: true, force: true }))

const appOf = (service: FakeDicomweb, flags: readonly string[] = []) =>
  testApp({ answer, flags: ['--dicomweb-url', service.url, '--log-level', 'silent', ...flags] })

async function send(app: TestApp, method: 'PUT' | 'POST', url: string, parts: readonly Part[]) {
  const { payload, headers } = form(parts)
  return app.inject({ method, url, payload, headers })
}

const infer = (app: TestApp, uid = OBLIQUE) =>
  send(app, 'POST', `/infer/spleen?image=${uid}&output=image`, [{ name: 'params', body: '{}' }])

const putLabel = (app: TestApp, body: Buffer, query = '', uid = OBLIQUE) =>
  send(app, 'PUT', `/datastore/label?image=${uid}${query}`, [
    { name: 'params', body: '{"label_info": [{"name": "liver", "idx": 1}]}' },
    { name: 'label', body, filename: 'label.bin', type: 'application/octet-stream' },
  ])

const searches = ({ asked }: FakeDicomweb) => asked.filter(({ path }) => path.startsWith('/series?'))
const retrievals = ({ asked }: FakeDicomweb) => asked.filter(({ path }) => path.endsWith(`/series/${OBLIQUE}`))
const stored = ({ asked }: FakeDicomweb) => asked.filter(({ method }) => method === 'POST')
const said = (reply: { json(): { error: { message: string[] } } }) => reply.json().error.message[0]

describe('a series named as image', () => {
  test('is searched and fetched once, however many ask at a time, and each runs on its session', async () => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service)
    const replies = await Promise.all([infer(app), infer(app), infer(app)])
    expect(replies.map(({ statusCode }) => statusCode)).toEqual([200, 200, 200])
    expect([searches(service).length, retrievals(service).length]).toEqual([1, 1])
    expect((await infer(app)).body).toBe('label map')
    expect(service.asked).toHaveLength(2)
    const jobs = app.scheduler.asked.filter(({ job }) => job.kind === 'inference').map(({ job }) => job as InferenceJob)
    expect(new Set(jobs.map(({ images }) => images[0]!.cacheKey)).size).toBe(1)
    expect(jobs[0]!.images[0]).toMatchObject({ fromDicom: true, paths: [expect.stringMatching(/volume\.nii$/)] })
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test('is asked for in the transfer syntax it is kept in', async () => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service)
    await infer(app)
    expect(retrievals(service)[0]!.headers.accept).toBe(
      'multipart/related; type="application/dicom"; transfer-syntax=*',
    )
  })

  test('gives a DICOM SEG of its slices', async () => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service)
    await send(app, 'POST', `/infer/spleen?image=${OBLIQUE}&output=dicom_seg`, [{ name: 'params', body: '{}' }])
    const job = app.scheduler.asked.at(-1)!.job as InferenceJob
    expect(job.images[0]!.paths).toHaveLength(oblique.paths.length)
    expect(job.wish.dicomSeg).toBe(true)
  })

  test('is fetched by another request when the one that fetched it is gone', async () => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service)
    let held: ServerResponse | undefined
    service.instead = ({ path }, response) => {
      if (held || !path.endsWith(`/series/${OBLIQUE}`)) return false
      held = response
      return true
    }
    const url = `http://127.0.0.1:${await app.listen()}/infer/spleen?image=${OBLIQUE}&output=image`
    const gone = new AbortController()
    const first = fetch(url, { method: 'POST', signal: gone.signal }).catch((error: Error) => error.name)
    await expect.poll(() => held !== undefined).toBe(true)
    const second = fetch(url, { method: 'POST' })
    gone.abort()
    expect(await first).toBe('AbortError')
    expect(await (await second).text()).toBe('label map')
    expect(retrievals(service)).toHaveLength(2)
  })

  test('beside an upload is passed over, and a datastore without it does not hide it', async () => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service, ['--datastore', join(root, 'store')])
    const parts = [{ name: 'file', body: 'a scan', filename: 'scan.nii' }]
    expect((await send(app, 'POST', `/infer/spleen?image=${OBLIQUE}&output=image`, parts)).statusCode).toBe(200)
    expect(service.asked).toHaveLength(0)
    expect((await infer(app)).statusCode).toBe(200)
    const other = await infer(app, 'MRHead')
    expect([other.statusCode, said(other)]).toEqual([404, expect.stringMatching(/datastore has no image/)])
  })
})

describe('a series to those who download', () => {
  const bytesOf = ({ data }: Volume) => Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
  const saved = async (reply: { rawPayload: Buffer }, name: string) => {
    await writeFile(join(root, name), reply.rawPayload)
    return (await readVolume([join(root, name)], roomyLimits)).volume
  }

  test.each(['of the service', 'of the datastore'])(
    '%s has the rows of its files, on which NRRD counts clicks',
    async (where) => {
      await using service = await fakeDicomweb([flipped])
      const flags = where === 'of the service' ? [] : ['--datastore', join(root, 'files')]
      await using app = await appOf(service, flags)
      const id = where === 'of the service' ? FLIPPED : 'flipped'
      if (id !== FLIPPED) {
        const files = await Promise.all(flipped.paths.map(async (path, i) => ({ body: await readFile(path), i })))
        const parts = files.map(({ body, i }) => ({ name: 'file', body, filename: `${i}.dcm` }))
        expect((await send(app, 'PUT', `/datastore/?image=${id}`, parts)).statusCode).toBe(200)
      }
      const { volume } = await readDicomSeries(flipped.paths, roomyLimits)
      const reply = await app.inject(`/datastore/image?image=${id}`)
      expect([reply.statusCode, reply.headers['content-disposition']]).toEqual([200, expect.stringMatching(/\.nrrd"$/)])
      expect(bytesOf(await saved(reply, `${id}.nrrd`)).equals(bytesOf(turned(volume)))).toBe(true)
      const decoded = await app.inject(`/datastore/image?image=${id}&volume=true`)
      expect(decoded.headers['content-disposition']).toMatch(/\.nii"$/)
      expect(bytesOf(await saved(decoded, `${id}.nii`)).equals(bytesOf(volume))).toBe(true)
      const next = (await app.inject({ method: 'POST', url: '/activelearning/first' })).json()
      expect([next.name.slice(-5), next.checksum]).toEqual(['.nrrd', undefined])
      await expect.poll(() => app.leftovers()).toEqual([])
    },
  )

  test('a label that was drawn on that file is decoded in the axes of the decoded image, as one of bare voxels is', async () => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service, ['--datastore', join(root, 'labelled')])
    const { volume } = await readDicomSeries(oblique.paths, roomyLimits)
    const down = drawn(volume.size, Uint8Array) as Uint8Array<ArrayBuffer>
    const onFile = makeVolume(volume.size, turned(volume).affine, down)
    await writeVolume(onFile, join(root, 'slicer.nrrd'), { extension: '.nrrd', kind: 'labels' })
    const wanted = turned(onFile)
    for (const [tag, body] of [
      ['slicer', await readFile(join(root, 'slicer.nrrd'))],
      ['ohif', Buffer.from(down)],
    ] as const) {
      expect((await putLabel(app, body, `&tag=${tag}`)).statusCode).toBe(200)
      const got = await saved(
        await app.inject(`/datastore/label?label=${OBLIQUE}&tag=${tag}&volume=true`),
        `${tag}.nii`,
      )
      expect([...got.data]).toEqual([...wanted.data])
    }
  })
})

describe('what the service does wrong is told', () => {
  interface Fault {
    readonly what: string
    readonly instead: FakeDicomweb['instead']
    readonly flags?: readonly string[]
    readonly status: number
    readonly says: RegExp
  }
  const onSearch =
    (status: number, body = '', headers = {}) =>
    (asked: { path: string }, response: ServerResponse) => {
      if (!asked.path.startsWith('/series?')) return false
      response.writeHead(status, headers).end(body)
      return true
    }
  test.each<Fault>([
    {
      what: 'no such series, as an empty list',
      instead: onSearch(200, '[]'),
      status: 404,
      says: /no series of this UID/,
    },
    { what: 'no such series, as no content', instead: onSearch(204), status: 404, says: /no series of this UID/ },
    { what: 'no login', instead: onSearch(401), status: 502, says: /does not let this server in \(401\)/ },
    { what: 'a wrong base', instead: onSearch(404), status: 502, says: /answers a query with 404/ },
    { what: 'a fault', instead: onSearch(500), status: 502, says: /answered 500/ },
    { what: 'a web page', instead: onSearch(200, '<html>'), status: 502, says: /something else than JSON/ },
    { what: 'other JSON', instead: onSearch(200, '["a"]'), status: 502, says: /other JSON than that of DICOM/ },
    {
      what: 'a redirect elsewhere',
      instead: onSearch(302, '', { location: 'http://169.254.169.254/series' }),
      status: 403,
      says: /may not fetch from 169\.254\.169\.254/,
    },
    {
      what: 'a long answer',
      instead: onSearch(200, `[{"00080060": {"Value": ["${'C'.repeat(2000)}"]}}]`),
      flags: ['--dicomweb-max-answer', '1k'],
      status: 413,
      says: /over 1024 bytes/,
    },
    {
      what: 'a large series',
      instead: () => false,
      flags: ['--max-upload-bytes', '1k'],
      status: 413,
      says: /over 1024 bytes/,
    },
    {
      what: 'a series of many files',
      instead: () => false,
      flags: ['--max-upload-files', '2'],
      status: 413,
      says: /over 2 files/,
    },
  ])('$what: $status', async ({ instead, flags = [], status, says }) => {
    await using service = await fakeDicomweb([oblique])
    service.instead = instead
    await using app = await appOf(service, flags)
    const reply = await infer(app)
    expect([reply.statusCode, said(reply)]).toEqual([status, expect.stringMatching(says)])
    expect((await app.inject('/info/')).statusCode).toBe(200)
    await expect.poll(() => app.leftovers()).toEqual([])
  })

  test('images that are missing: 502 with their number', async () => {
    await using service = await fakeDicomweb([{ ...oblique, instances: 40 }])
    await using app = await appOf(service)
    const reply = await infer(app)
    expect([reply.statusCode, said(reply)]).toEqual([502, expect.stringMatching(/sent \d+ of the 40 images/)])
  })

  test('a service that is not there: 502, and /info/ answers all the same', async () => {
    const service = await fakeDicomweb([])
    await service[Symbol.asyncDispose]()
    await using app = await appOf(service)
    expect([(await infer(app)).statusCode, said(await infer(app))]).toEqual([
      502,
      expect.stringMatching(/refused the connection/),
    ])
    expect((await app.inject('/info/')).json().datastore).toEqual({ total: 0, completed: 0 })
    expect((await app.inject('/datastore/?output=all')).statusCode).toBe(502)
  })
})

describe('the login', () => {
  test.each([
    { what: 'basic', line: 'basic me:pass:word\n', header: `Basic ${Buffer.from('me:pass:word').toString('base64')}` },
    { what: 'bearer', line: 'Bearer abc.def', header: 'Bearer abc.def' },
  ])('$what goes with every request to the service', async ({ line, header }) => {
    await writeFile(join(root, 'login'), line)
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service, ['--dicomweb-credentials', join(root, 'login'), '--store-labels'])
    await infer(app)
    await putLabel(app, Buffer.alloc(await voxelsOf(oblique)))
    await app.inject('/datastore/?output=all')
    expect(service.asked.length).toBeGreaterThan(4)
    for (const { headers } of service.asked) expect(headers.authorization).toBe(header)
  })

  test('does not follow a redirect to another place that may be fetched from', async () => {
    await writeFile(join(root, 'login'), 'bearer secret')
    await using other = await fakeDicomweb([oblique])
    await using service = await fakeDicomweb([oblique])
    service.instead = ({ path }, response) => {
      response.writeHead(302, { location: `${other.url}${path}` }).end()
      return true
    }
    const flags = ['--dicomweb-credentials', join(root, 'login'), '--allow-fetch', `127.0.0.1:${other.port}`]
    await using app = await appOf(service, flags)
    expect((await infer(app)).statusCode).toBe(200)
    for (const { headers } of other.asked) expect(headers.authorization).toBeUndefined()
  })

  test('in a variable is taken out of the environment', async () => {
    process.env.PACS_LOGIN = 'bearer fromenv'
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service, ['--dicomweb-credentials', 'env:PACS_LOGIN'])
    expect(process.env.PACS_LOGIN).toBeUndefined()
    await infer(app)
    expect(service.asked[0]!.headers.authorization).toBe('Bearer fromenv')
  })

  test.each([
    { what: 'no such file', flags: ['--dicomweb-credentials', '/nowhere/login'], says: /cannot be read \(ENOENT\)/ },
    {
      what: 'no such variable',
      flags: ['--dicomweb-credentials', 'env:NO_SUCH_THING'],
      says: /no environment variable/,
    },
  ])('$what stops the start', async ({ flags, says }) => {
    await using service = await fakeDicomweb([])
    await expect(appOf(service, flags)).rejects.toThrow(says)
  })

  test('that is none stops the start, and is not quoted', async () => {
    await writeFile(join(root, 'login'), 'hunter2')
    await using service = await fakeDicomweb([])
    const refused = await appOf(service, ['--dicomweb-credentials', join(root, 'login')]).catch((error: Error) => error)
    expect(String(refused)).toMatch(/basic USER:PASSWORD or bearer TOKEN/)
    expect(String(refused)).not.toContain('hunter2')
  })
})

test.each([
  { flags: ['--store-labels'], says: /--store-labels: needs --dicomweb-url/ },
  { flags: ['--dicomweb-credentials', 'x'], says: /--dicomweb-credentials: needs --dicomweb-url/ },
  { flags: ['--dicomweb-url', 'pacs/dicom-web'], says: /must be a URL/ },
  { flags: ['--dicomweb-url', 'ftp://pacs/dicom-web'], says: /must be a URL/ },
  { flags: ['--dicomweb-url', 'http://me:secret@pacs/dicom-web'], says: /no login in it/ },
  { flags: ['--dicomweb-url', 'http://pacs/dicom-web?a=b'], says: /without \? and #/ },
  { flags: ['--dicomweb-filter', 'limit=5'], says: /QIDO-RS keys/ },
])('$flags stops the start', async ({ flags, says }) => {
  await expect(testApp({ flags })).rejects.toThrow(says)
})

const segmentation = (seriesUid: string, labels: string): HeldSeries => ({
  studyUid: STUDY,
  seriesUid,
  modality: 'SEG',
  paths: [],
  labels,
})

describe('the list', () => {
  const list = async (app: TestApp) => (await app.inject('/datastore/?output=all')).json()

  test('has the images, whose segmentations are their final labels; reports and the like are left out', async () => {
    const report = { ...oblique, seriesUid: '1.2.3.9', modality: 'SR' }
    await using service = await fakeDicomweb([report, oblique, flipped, segmentation(SEG, FLIPPED)])
    await using app = await appOf(service)
    const { objects } = await list(app)
    expect(Object.keys(objects)).toEqual([OBLIQUE, FLIPPED])
    expect(objects[OBLIQUE]).toMatchObject({
      image: { ext: '.nrrd', info: { Modality: 'CT', PatientID: 'P-1', StudyInstanceUID: STUDY } },
      labels: {},
    })
    expect(objects[FLIPPED].labels).toMatchObject({ final: { ext: '.dcm', info: { SeriesInstanceUID: SEG } } })
    expect((await app.inject('/datastore/')).json()).toEqual({ total: 2, completed: 1, label_tags: { final: 1 } })
    expect((await app.inject('/info/')).json().datastore).toEqual({ total: 2, completed: 1 })
    const next = await app.inject({ method: 'POST', url: '/activelearning/first' })
    expect(next.json()).toMatchObject({ id: OBLIQUE, name: '1_2_3_4.nrrd', StudyDate: '20260102', StudyTime: '030405' })
  })

  test('is what --dicomweb-filter chooses, of at most --dicomweb-max-series', async () => {
    await using service = await fakeDicomweb([oblique, flipped])
    const flags = ['--dicomweb-filter', 'Modality=CT&StudyDate=20260101-', '--dicomweb-max-series', '1']
    await using app = await appOf(service, flags)
    const { objects, notes } = await list(app)
    expect([Object.keys(objects), notes]).toEqual([[OBLIQUE], [expect.stringContaining('--dicomweb-max-series')]])
    const [images, segmentations] = searches(service).map(({ path }) => new URLSearchParams(path.split('?')[1]))
    expect([images!.get('Modality'), images!.get('StudyDate'), images!.get('limit')]).toEqual(['CT', '20260101-', '2'])
    expect([segmentations!.getAll('Modality'), segmentations!.get('StudyDate')]).toEqual([['SEG'], '20260101-'])
  })

  test('of a service that knows no offset ends', async () => {
    await using service = await fakeDicomweb([oblique, flipped])
    const { instead } = service
    service.instead = (asked, response) => {
      const [path, query] = asked.path.split('?')
      if (path !== '/series' || !query!.includes('offset=')) return instead(asked, response)
      const keys = new URLSearchParams(query)
      if (keys.get('offset') === '0') return false
      response.writeHead(307, { location: `/dicom-web/series?${query!.replace(/offset=\d+/, 'offset=0')}` }).end()
      return true
    }
    await using app = await appOf(service)
    expect(Object.keys((await list(app)).objects)).toHaveLength(2)
  })

  test('is asked for again when it is older than --dicomweb-refresh', async () => {
    await using service = await fakeDicomweb([oblique])
    await using young = await appOf(service)
    await list(young)
    const once = service.asked.length
    await list(young)
    expect(service.asked).toHaveLength(once)
    await using old = await appOf(service, ['--dicomweb-refresh', '0'])
    await list(old)
    await list(old)
    expect(service.asked).toHaveLength(3 * once)
  })
})

async function voxelsOf({ paths }: HeldSeries): Promise<number> {
  return (await readDicomSeries(paths, roomyLimits)).volume.data.length
}

/** A copy with its rows the other way round; `turnRows` turns them where they lie. */
const turned = (volume: Volume) => turnRows({ ...volume, data: volume.data.slice() })

/** 1 and 2 at places that no mirror image shares, rows downwards. */
function drawn([columns, rows, slices]: readonly number[], Type: typeof Uint8Array | typeof Uint16Array) {
  const data = new Type(columns! * rows! * slices!)
  for (let z = 1; z < slices!; z++)
    for (let r = 0; r < 4 + z; r++) for (let c = 0; c < 3; c++) data[c + columns! * (r + rows! * z)] = c < 2 ? 1 : 2
  return data
}

describe('a label of a series', () => {
  /** Of a part of multipart/related: the one file in it. */
  const fileIn = (body: Buffer) => body.subarray(body.indexOf('\r\n\r\n') + 4, body.lastIndexOf('\r\n--'))

  test.each([
    { type: 'uint8', Type: Uint8Array, series: OBLIQUE },
    { type: 'uint16', Type: Uint16Array, series: OBLIQUE },
    { type: 'uint8', Type: Uint8Array, series: FLIPPED },
  ])('of bare $type voxels on $series is stored as DICOM SEG, voxel for voxel', async ({ Type, series }) => {
    await using service = await fakeDicomweb([oblique, flipped])
    await using app = await appOf(service, ['--store-labels'])
    const { paths } = series === OBLIQUE ? oblique : flipped
    const { volume } = await readDicomSeries(paths, roomyLimits)
    const voxels = drawn(volume.size, Type)
    const put = await putLabel(app, Buffer.from(voxels.buffer), '', series)
    expect([put.statusCode, put.json()]).toEqual([200, { image: series, label: series }])
    const [request] = stored(service)
    expect([request!.path, request!.headers.accept]).toEqual(['/studies', 'application/dicom+json'])
    expect(request!.headers['content-type']).toMatch(/^multipart\/related; type="application\/dicom"; boundary=[\w-]+$/)
    expect(request!.headers['content-length']).toBe(String(request!.body.length))
    const path = join(root, 'stored.dcm')
    await writeFile(path, fileIn(request!.body))
    const labels = (await readVolume([path], roomyLimits)).volume
    expect([labels.size, [...labels.affine].map((x) => x.toFixed(3))]).toEqual([
      volume.size,
      [...volume.affine].map((x) => x.toFixed(3)),
    ])
    expect([...rowsDown(labels)]).toEqual([...voxels])
  })

  test.each(['.nii.gz', '.nrrd'] as const)('as %s, in axes of its own, lies where it was drawn', async (extension) => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service, ['--store-labels'])
    const { volume } = await readDicomSeries(oblique.paths, roomyLimits)
    const down = drawn(volume.size, Uint8Array)
    const up = turned(makeVolume(volume.size, volume.affine, down as Uint8Array<ArrayBuffer>)).data
    const inPlace = makeVolume(volume.size, volume.affine, up as Uint8Array<ArrayBuffer>)
    const path = join(root, `label${extension}`)
    // Rows the other way round, as 3D Slicer may save them: the affine says so.
    await writeVolume(turned(inPlace), path, { extension, kind: 'labels' })
    const put = await putLabel(app, await readFile(path))
    expect([put.statusCode, put.json()]).toEqual([200, { image: OBLIQUE, label: OBLIQUE }])
    await writeFile(join(root, 'moved.dcm'), fileIn(stored(service)[0]!.body))
    expect([...rowsDown((await readVolume([join(root, 'moved.dcm')], roomyLimits)).volume)]).toEqual([...down])
  })

  test('names its segments as the client does, and says who drew them', async () => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service, ['--store-labels'])
    const { volume } = await readDicomSeries(oblique.paths, roomyLimits)
    const label = { name: 'label', body: Buffer.from(drawn(volume.size, Uint8Array).buffer), filename: 'label.bin' }
    const params = { label_info: [{ name: 'liver', idx: 2 }], model: 'organs' }
    await send(app, 'PUT', `/datastore/label?image=${OBLIQUE}`, [
      { name: 'params', body: JSON.stringify(params) },
      label,
    ])
    const set = dicomParser.parseDicom(fileIn(stored(service)[0]!.body))
    const segments = set.elements.x00620002!.items!.map(({ dataSet }) => dataSet!)
    expect(segments.map((one) => one.string('x00620005'))).toEqual(['label 1', 'liver'])
    expect(segments.map((one) => one.string('x00620008'))).toEqual(['SEMIAUTOMATIC', 'SEMIAUTOMATIC'])
    expect(segments[0]!.string('x00620009')).toBe('organs')
  })

  test('makes it completed at once', async () => {
    await using service = await fakeDicomweb([oblique, flipped])
    await using app = await appOf(service, ['--store-labels'])
    await app.inject('/datastore/?output=all')
    await putLabel(app, Buffer.alloc(await voxelsOf(oblique)))
    expect((await app.inject('/info/')).json().datastore).toEqual({ total: 2, completed: 1 })
  })

  const failed = (reason?: number) => ({
    '00081198': { vr: 'SQ', Value: [reason === undefined ? {} : { '00081197': { vr: 'US', Value: [reason] } }] },
  })
  const warned = (reason: number) => ({
    '00081199': { vr: 'SQ', Value: [{ '00081196': { vr: 'US', Value: [reason] } }] },
  })
  test.each([
    { what: 'stored', stow: { status: 200, body: { '00081199': { Value: [{}] } } }, status: 200 },
    { what: 'stored, and no word', stow: { status: 200 }, status: 200 },
    {
      what: 'stored with a change',
      stow: { status: 202, body: warned(0xb000) },
      status: 200,
      says: /changed elements.*0xB000/,
    },
    { what: 'accepted with a warning of no name', stow: { status: 202 }, status: 200, says: /warning \(202\)/ },
    {
      what: 'failed, by 202',
      stow: { status: 202, body: failed(0xa700) },
      status: 502,
      says: /out of resources.*0xA700/,
    },
    { what: 'failed, by 200', stow: { status: 200, body: failed(0x0110) }, status: 502, says: /0x0110/ },
    {
      what: 'refused',
      stow: { status: 409, body: failed(0x0122) },
      status: 502,
      says: /objects of this class.*0x0122/,
    },
    { what: 'refused without a reason', stow: { status: 409, body: failed() }, status: 502, says: /gives no reason/ },
    { what: 'a conflict', stow: { status: 409 }, status: 502, says: /it answered 409/ },
    { what: 'not allowed', stow: { status: 403 }, status: 502, says: /does not let this server in \(403\)/ },
    { what: 'a fault', stow: { status: 500, body: 'oops' }, status: 502, says: /it answered 500/ },
  ] as const)('$what: $status', async (row) => {
    await using service = await fakeDicomweb([oblique])
    service.stow = row.stow
    await using app = await appOf(service, ['--store-labels'])
    const reply = await putLabel(app, Buffer.alloc(await voxelsOf(oblique)))
    expect(reply.statusCode).toBe(row.status)
    const words = row.status === 200 ? (reply.json().notes?.[0] ?? '') : said(reply)
    if ('says' in row) expect(words).toMatch(row.says)
    else expect(words).toBe('')
  })

  test('that the service does not take is kept where there is a datastore, and the reply says both', async () => {
    await using service = await fakeDicomweb([oblique])
    service.stow = { status: 409, body: failed(0xc000) }
    await using app = await appOf(service, ['--store-labels', '--datastore', join(root, 'kept')])
    const reply = await putLabel(app, Buffer.alloc(await voxelsOf(oblique), 1))
    expect([reply.statusCode, reply.json().hint]).toEqual([502, 'the label itself is kept in the datastore'])
    const { objects } = (await app.inject('/datastore/?output=all')).json()
    expect(objects[OBLIQUE].labels.final).toMatchObject({
      ext: '.dcm',
      info: { params: { label_names: { liver: 1 } } },
    })
    const draft = await putLabel(app, Buffer.alloc(await voxelsOf(oblique), 1), '&tag=original')
    expect(draft.json().notes).toEqual([expect.stringMatching(/kept here; those of the tag 'final' are sent/)])
    expect(stored(service)).toHaveLength(1)
    // It is an image of the datastore now, and is fetched no more.
    const before = service.asked.length
    expect((await infer(app)).statusCode).toBe(200)
    expect(service.asked).toHaveLength(before)
    expect((await app.inject(`/datastore/image?image=${OBLIQUE}`)).statusCode).toBe(200)
  })

  test.each([
    { what: 'nowhere to go', flags: [], query: '', body: Buffer.alloc(1), status: 404, says: /keeps no labels/ },
    {
      what: 'a draft alone',
      flags: ['--store-labels'],
      query: '&tag=a',
      body: Buffer.alloc(1),
      status: 400,
      says: /'tag'/,
    },
    {
      what: 'other voxels',
      flags: ['--store-labels'],
      query: '',
      body: Buffer.alloc(7, 1),
      status: 400,
      says: /7 bytes, the image/,
    },
    {
      what: 'points',
      flags: ['--store-labels'],
      query: '',
      body: Buffer.from('{"a": []}'),
      status: 400,
      says: /no label map/,
    },
  ])('with $what: $status', async ({ flags, query, body, status, says }) => {
    await using service = await fakeDicomweb([oblique])
    await using app = await appOf(service, flags)
    const reply = await putLabel(app, body, query)
    expect([reply.statusCode, said(reply)]).toEqual([status, expect.stringMatching(says)])
    expect(stored(service)).toHaveLength(0)
  })
})

function rowsDown({ size: [columns, rows, slices], data }: Volume): Uint8Array {
  const down = new Uint8Array(data.length)
  for (let z = 0; z < slices; z++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++)
        down[c + columns * (r + rows * z)] = data[c + columns * (rows - 1 - r + rows * z)]!
  return down
}
