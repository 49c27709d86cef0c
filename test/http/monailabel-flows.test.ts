/**
 * Sittings of MONAI Label's clients, request by request as their sources send them: 3D Slicer's module, XNAT's viewer and
 * OHIF v3. Bodies, headers and queries are theirs; images are read for real, the model answers in place.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { InjectOptions } from 'fastify'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { InferenceJob, ToolJob } from '../../src/contract/job.js'
import { readDicomSeries } from '../../src/formats/dicom-series.js'
import { runTool } from '../../src/pipelines/run-tool.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { type FakeDicomweb, fakeDicomweb } from '../helpers/dicomweb.js'
import { type Answer, labelMap } from '../helpers/fake-scheduler.js'
import { form, type Part, readMultipart } from '../helpers/multipart.js'
import { idleControl } from '../helpers/pipeline.js'
import { type TestApp, testApp } from '../helpers/test-app.js'
import { niftiFile, roomyLimits, volumeOf } from '../helpers/volumes.js'

/** Tools for real; a model finds label 1. */
const answer: Answer = async (job, signal, onProgress) => {
  if (job.kind !== 'inference') return runTool(job as ToolJob, idleControl)
  const result = await labelMap(job, signal, onProgress)
  return { ...result, params: { label_statistics: [{ label: 1, name: 'spleen' }] } }
}

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-flows-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const lastJob = (app: TestApp) => app.scheduler.asked.at(-1)!.job as InferenceJob
const scan = async () => readFile(await niftiFile(root, volumeOf([6, 5, 4], { value: (i) => i })))

describe("3D Slicer's module", () => {
  /** As its Python client writes forms: a `$` in the boundary, whole paths as file names, and a line end behind the last boundary. */
  const sent = (method: 'PUT' | 'POST', url: string, parts: readonly Part[]): InjectOptions => {
    const { payload, headers } = form(parts, '----------lImIt_of_THE_fIle_eW_$')
    return { method, url, payload: Buffer.concat([payload, Buffer.from('\r\n')]), headers }
  }
  const params = (value: unknown): Part => ({ name: 'params', body: JSON.stringify(value) })
  const file = (name: string, body: Buffer): Part => ({
    name,
    body,
    filename: '/tmp/slicer-user/tmp12/MR Head.nii.gz',
    type: 'application/octet-stream',
  })
  /** Asked before every call. */
  const auth = async (app: TestApp) =>
    expect((await app.inject({ url: '/auth/', headers: { accept: 'application/json' } })).json()).toEqual({
      enabled: false,
    })

  test('connects, clicks by a session, segments a stored volume, saves it, and takes the next', async () => {
    await using app = await testApp({ answer, flags: ['--datastore', join(root, 'store')] })
    const volume = await scan()

    await auth(app)
    const info = (await app.inject('/info/')).json()
    expect(info.config).toBeUndefined()
    expect(Object.keys(info.models).sort()).toEqual(['deepgrow', 'spleen'])
    expect((await app.inject('/train/?check_if_running=true')).statusCode).toBe(404)

    await auth(app)
    const put = await app.inject(sent('PUT', '/session/', [params({ client_id: 'user-xyz' }), file('files', volume)]))
    const { session_id } = put.json()
    expect((await app.inject(`/session/${session_id}`)).statusCode).toBe(200)

    const clicks = {
      label: 'tumor',
      foreground: [[3, 2, 1]],
      background: [],
      result_extension: '.nrrd',
      result_dtype: 'uint8',
      result_compress: false,
      client_id: 'user-xyz',
    }
    const url = `/infer/deepgrow?image=MR%20Head&session_id=${session_id}`
    const clicked = await app.inject(sent('POST', url, [params(clicks)]))
    expect(clicked.statusCode).toBe(200)
    const [json, mask] = readMultipart(String(clicked.headers['content-type']), clicked.rawPayload)
    expect(JSON.parse(json!.body.toString()).label_names).toEqual({ tumor: 1 })
    expect(mask!.filename).toMatch(/\.nrrd$/)
    expect(lastJob(app).wish).toMatchObject({ extension: '.nrrd', dtype: 'uint8', compress: false })
    expect(lastJob(app).params).toMatchObject({ foreground: [[3, 2, 1]], background: [] })

    // A volume of its own disk goes to the datastore before a model runs on all of it; there is no session then.
    const upload = sent('PUT', '/datastore/?image=MR%20Head', [params({ client_id: 'user-xyz' }), file('file', volume)])
    expect((await app.inject(upload)).json()).toEqual({ image: 'MR Head' })
    const whole = { result_extension: '.nrrd', result_dtype: 'uint8', result_compress: false, client_id: 'user-xyz' }
    const segmented = await app.inject(sent('POST', '/infer/spleen?image=MR%20Head', [params(whole)]))
    expect(segmented.statusCode).toBe(200)

    const label_info = [{ name: 'spleen', idx: 1 }]
    const save = sent('PUT', '/datastore/label?image=MR%20Head&tag=final', [
      params({ label_info, client_id: 'user-xyz' }),
      file('label', volume),
    ])
    expect((await app.inject(save)).json()).toEqual({ image: 'MR Head', label: 'MR Head' })
    const { objects } = (await app.inject('/datastore/?output=all')).json()
    expect(objects['MR Head'].labels.final.info.params.label_names).toEqual({ spleen: 1 })

    await app.inject(sent('PUT', '/datastore/?image=CT%20Chest', [params({}), file('file', volume)]))
    const headers = { 'content-type': 'application/json' }
    const post = {
      method: 'POST',
      url: '/activelearning/random',
      headers,
      payload: '{"client_id": "user-xyz"}',
    } as const
    const next = (await app.inject(post)).json()
    expect(next).toMatchObject({ id: 'CT Chest', name: 'CT_Chest.nii.gz' })
    const got = await app.inject('/datastore/image?image=CT%20Chest')
    expect(got.headers['content-disposition']).toContain('filename="CT_Chest.nii.gz"')
    expect(got.rawPayload.equals(volume)).toBe(true)
  })

  test('without a datastore still clicks by sessions; what is not there is a 404 that it shows', async () => {
    await using app = await testApp({ answer })
    const put = await app.inject(sent('PUT', '/session/', [params({}), file('files', await scan())]))
    const url = `/infer/deepgrow?image=MR%20Head&session_id=${put.json().session_id}`
    const sentClicks = params({ foreground: [[3, 2, 1]], background: [], label: 'a' })
    expect((await app.inject(sent('POST', url, [sentClicks]))).statusCode).toBe(200)
    const upload = await app.inject(sent('PUT', '/datastore/?image=a', [params({}), file('file', await scan())]))
    expect([upload.statusCode, upload.json().hint]).toEqual([404, expect.stringContaining('--datastore')])
  })
})

/** As browsers send what a page made with FormData. */
function browser(origin: string, method: 'PUT' | 'POST', url: string, parts: readonly Part[]): InjectOptions {
  const { payload, headers } = form(parts, '----WebKitFormBoundaryKx8d0bCeYdDTKw5q')
  return { method, url, payload, headers: { ...headers, origin, accept: 'application/json,multipart/form-data' } }
}

describe("XNAT's viewer", () => {
  const XNAT = 'https://xnat.example'

  test('asks for the image, finds none, makes a session of its files, and infers on that', async () => {
    await using app = await testApp({ answer, flags: ['--datastore', join(root, 'store')] })
    const info = await app.inject({ url: '/info', headers: { origin: XNAT } })
    expect(Array.isArray(info.json().labels)).toBe(true)
    for (const { labels } of Object.values(info.json().models as Record<string, { labels: unknown }>))
      expect(labels).not.toBeNull()

    const known = await app.inject({ url: '/datastore/image/info?image=1.2.826.0.1.1', headers: { origin: XNAT } })
    expect(known.statusCode).toBe(404)
    expect(known.headers['access-control-allow-origin']).toBe('*')

    const fixtures = await dicomFixtures('geometry', root)
    const files = await Promise.all(fixtures.named('oblique/').map((path) => readFile(path)))
    const parts = files.map((body, i) => ({ name: 'files', body, filename: `${i}.dcm`, type: 'application/dicom' }))
    const put = await app.inject(browser(XNAT, 'PUT', '/session/', [{ name: 'params', body: 'null' }, ...parts]))
    expect(put.statusCode).toBe(200)

    // Fractions, as it computes clicks from places on the screen.
    const clicks = {
      foreground: [[3.25, 2.5, 1]],
      background: [],
      result_extension: '.nii.gz',
      result_dtype: 'uint8',
    }
    const url = `/infer/deepgrow?model=deepgrow&session_id=${put.json().session_id}&output=image`
    const reply = await app.inject(browser(XNAT, 'POST', url, [{ name: 'params', body: JSON.stringify(clicks) }]))
    expect([reply.statusCode, reply.body]).toEqual([200, 'label map'])
    expect(lastJob(app)).toMatchObject({ params: { foreground: [[3.25, 2.5, 1]] }, wish: { extension: '.nii.gz' } })
  })
})

describe('OHIF v3', () => {
  const OHIF = 'http://viewer.example:3000'
  const SERIES = '1.2.3.4'

  async function open(): Promise<{ app: TestApp; service: FakeDicomweb; voxels: number } & AsyncDisposable> {
    const fixtures = await dicomFixtures('geometry', root)
    const paths = fixtures.named('oblique/')
    const service = await fakeDicomweb([{ studyUid: '1.2.3', seriesUid: SERIES, modality: 'CT', paths }])
    const flags = ['--dicomweb-url', service.url, '--store-labels', '--cors-origins', OHIF]
    const app = await testApp({ answer, flags })
    const voxels = (await readDicomSeries(paths, roomyLimits)).volume.data.length
    return {
      app,
      service,
      voxels,
      async [Symbol.asyncDispose]() {
        await app[Symbol.asyncDispose]()
        await service[Symbol.asyncDispose]()
      },
    }
  }

  const params = (value: unknown): Part => ({ name: 'params', body: JSON.stringify(value) })
  /** The label that is on the screen: raw voxels, which a server of its own uses for scribbles alone. */
  const label = (body: Buffer): Part => ({
    name: 'label',
    body,
    filename: 'label.bin',
    type: 'application/octet-stream',
  })

  test('its browser asks first whether it may', async () => {
    await using sitting = await open()
    for (const [method, url] of [
      ['POST', '/infer/spleen?image=1.2.3.4&output=image'],
      ['PUT', '/datastore/label?image=1.2.3.4'],
      ['POST', '/activelearning/first'],
    ] as const) {
      const headers = {
        origin: OHIF,
        'access-control-request-method': method,
        'access-control-request-headers': 'content-type',
      }
      const reply = await sitting.app.inject({ method: 'OPTIONS', url, headers })
      expect([reply.statusCode, reply.headers['access-control-allow-origin']]).toEqual([204, OHIF])
      expect(String(reply.headers['access-control-allow-methods'])).toContain(method)
    }
  })

  test('segments, clicks, saves and takes the next study, all of it by the UID of a series', async () => {
    await using sitting = await open()
    const { app, service, voxels } = sitting
    const info = (await app.inject({ url: '/info/', headers: { origin: OHIF } })).json()
    const labels: string[] = []
    labels.push(...info.labels)
    for (const one of Object.values(info.models as Record<string, { labels: Record<string, number> }>))
      Object.keys(one.labels)

    const own = { result_extension: '.nrrd', result_dtype: 'uint8', result_compress: false, restore_label_idx: false }
    const segment = browser(OHIF, 'POST', `/infer/spleen?image=${SERIES}&output=image`, [params(own)])
    const segmented = await app.inject(segment)
    expect([segmented.statusCode, segmented.headers['access-control-allow-origin']]).toEqual([200, OHIF])
    expect(lastJob(app).wish).toMatchObject({ extension: '.nrrd', dtype: 'uint8', compress: false })
    // Clicks and the result have the rows of the DICOM files.
    expect(lastJob(app).images[0]).toMatchObject({ fromDicom: true })
    expect(lastJob(app).params).not.toHaveProperty('restore_label_idx')

    const clicks = { ...own, foreground: [[2, 3, 1]], background: [[9, 9, 1]] }
    const click = browser(OHIF, 'POST', `/infer/deepgrow?image=${SERIES}&output=image`, [
      params(clicks),
      label(Buffer.alloc(voxels)),
    ])
    expect((await app.inject(click)).statusCode).toBe(200)
    expect(lastJob(app).params).toMatchObject({ foreground: [[2, 3, 1]], background: [[9, 9, 1]] })
    const all = browser(OHIF, 'POST', `/infer/deepgrow?image=${SERIES}`, [params({ ...clicks, label: 'liver' })])
    const both = await app.inject(all)
    const [json] = readMultipart(String(both.headers['content-type']), both.rawPayload)
    expect(JSON.parse(json!.body.toString()).label_names).toEqual({ liver: 1 })
    expect(service.asked.filter(({ path }) => path.endsWith(`/series/${SERIES}`))).toHaveLength(1)

    const label_info = [{ name: 'liver', idx: 1 }]
    const save = browser(OHIF, 'PUT', `/datastore/label?image=${SERIES}`, [
      params({ label_info }),
      label(Buffer.alloc(voxels, 1)),
    ])
    expect((await app.inject(save)).statusCode).toBe(200)
    expect(service.asked.filter(({ method }) => method === 'POST')).toHaveLength(1)

    const headers = { origin: OHIF, 'content-type': 'application/json' }
    const train = await app.inject({ url: '/train/', headers })
    expect(train.statusCode).toBe(404)
    const next = await app.inject({ method: 'POST', url: '/activelearning/first', headers, payload: '{}' })
    expect(next.statusCode).toBe(200)
    for (const key of [
      'Modality',
      'StudyDate',
      'StudyTime',
      'PatientID',
      'StudyInstanceUID',
      'SeriesInstanceUID',
      'RetrieveURL',
    ])
      expect(next.json()).toHaveProperty(key)
  })
})
