/** Retrievals from DCMTK's dcmqrscp and from Orthanc, compared with what dcm2niix makes of the same files. */
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFetchSource } from '../../src/fetchers/fetch-source.js'
import type { ReadResult } from '../../src/formats/format.js'
import { readVolume } from '../../src/formats/read-volume.js'
import type { Volume, VoxelArray } from '../../src/volume/volume.js'
import { type Dcmqrscp, hasDcmqrscp, startDcmqrscp } from '../helpers/dcmqrscp.js'
import { hasOrthanc, type Orthanc, startOrthanc } from '../helpers/orthanc.js'
import { freePort, hasProgram, runProgram } from '../helpers/peer-process.js'
import { sharedData } from '../helpers/shared-data.js'

const STUDY = '2.25.329800735698586629295641978511506172918'
const SERIES = '2.25.329800735698586629295641978511506172919'
const READ_LIMITS = { maxVolumeBytes: 2 ** 30, maxVoxels: 2 ** 28 }
const LIMITS = { maxBytes: 2 ** 28, maxFiles: 1000, seconds: 60, silenceSeconds: 20 }

const images = join(sharedData ?? '', 'dicom')
const ready = sharedData !== undefined
let root: string
let wanted: ReadResult
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'dicom-peers-'))
  if (!ready || !hasProgram('dcm2niix')) return
  spawnSync('dcm2niix', ['-z', 'n', '-f', 'wanted', '-o', root, join(images, 'ts_ct20_raw')])
  wanted = await readVolume([join(root, 'wanted.nii')], READ_LIMITS)
})
afterAll(() => rm(root, { recursive: true, force: true }))

let requests = 0
interface Options {
  readonly limits?: Partial<typeof LIMITS>
  readonly scpPort?: number
  readonly signal?: AbortSignal
}

async function fetchInto(body: Record<string, unknown>, { limits, scpPort = 0, signal }: Options = {}) {
  const folder = join(root, `request-${requests++}`)
  await mkdir(folder)
  const fetchSource = createFetchSource({
    allow: ['127.0.0.1'],
    limits: { ...LIMITS, ...limits },
    dicom: { aeTitle: 'MOVER', scpPort },
  })
  return fetchSource(body, folder, signal ?? new AbortController().signal)
}

/** As bytes: vitest takes half a minute to compare five million numbers one by one. */
function expectSameVoxels({ data }: Volume) {
  const bytes = (of: VoxelArray) => Buffer.from(of.buffer as ArrayBuffer, of.byteOffset, of.byteLength)
  expect(data.constructor).toBe(wanted.volume.data.constructor)
  expect(bytes(data).equals(bytes(wanted.volume.data))).toBe(true)
}

/** Fetches 20 images and compares the volume with dcm2niix's, voxel by voxel and number by number. */
async function expectSeries(body: Record<string, unknown>, options?: Options) {
  const fetched = await fetchInto(body, options)
  expect(fetched).toMatchObject({ received: 20, notes: [] })
  const { volume } = await readVolume(fetched.paths, READ_LIMITS)
  expect(volume.size).toEqual(wanted.volume.size)
  expect([...volume.affine]).toEqual([...wanted.volume.affine].map((value) => value + 0))
  expectSameVoxels(volume)
  return fetched
}

describe.skipIf(!ready || !hasDcmqrscp || !hasProgram('dcm2niix'))(
  'dcmqrscp (needs shared data, DCMTK, dcm2niix)',
  () => {
    let withGet: Dcmqrscp
    let moveOnly: Dcmqrscp
    beforeAll(async () => {
      withGet = await startDcmqrscp(join(root, 'with-get'))
      moveOnly = await startDcmqrscp(join(root, 'move-only'), { getOff: true })
      for (const peer of [withGet, moveOnly]) peer.store(join(images, 'ts_ct20_raw'))
    })
    afterAll(async () => {
      await withGet?.stop()
      await moveOnly?.stop()
    })

    const query = (peer: Dcmqrscp, more: Record<string, unknown> = {}) => ({
      dicom: {
        server_address: '127.0.0.1',
        server_port: peer.port,
        ae_title: 'QRSCP',
        query_level: 'SERIES',
        study_uid: STUDY,
        series_uid: SERIES,
        ...more,
      },
    })

    it('gives a series by C-GET, counted against what it reported', async () => {
      expect(await expectSeries(query(withGet))).toMatchObject({ reported: 20 })
    })
    it('understands the query the protocol prints: PATIENT level with all three identifiers', () =>
      expectSeries(query(withGet, { query_level: 'PATIENT', patient_id: 'TS-CT-0001' })))
    it('gives a patient', () =>
      expectSeries({
        dicom: {
          ...query(withGet).dicom,
          query_level: 'patient',
          patient_id: 'TS-CT-0001',
          study_uid: undefined,
          series_uid: undefined,
        },
      }))
    it('gives a study', () => expectSeries(query(withGet, { query_level: 'STUDY', series_uid: undefined })))

    it('that refuses C-GET is asked to C-MOVE', async () => {
      expect(await expectSeries(query(moveOnly), { scpPort: moveOnly.movePort })).toMatchObject({ reported: 20 })
    })
    it('that refuses C-GET is asked to C-MOVE to us, whatever the client says it is called', () =>
      expectSeries(query(moveOnly, { calling_ae_title: 'ELSEWHERE' }), { scpPort: moveOnly.movePort }))
    it('that refuses C-GET is asked to C-MOVE, two at a time', async () => {
      const port = { scpPort: moveOnly.movePort }
      // The same fetcher serves both, and its storage port is one.
      const fetchSource = createFetchSource({
        allow: ['127.0.0.1'],
        limits: LIMITS,
        dicom: { aeTitle: 'MOVER', ...port },
      })
      const both = await Promise.all(
        ['a', 'b'].map(async (name) => {
          await mkdir(join(root, `two-${name}`))
          return fetchSource(query(moveOnly), join(root, `two-${name}`), new AbortController().signal)
        }),
      )
      expect(both.map(({ received }) => received)).toEqual([20, 20])
    })
    it('that refuses C-GET, without a port for C-MOVE, is an error that names the flag', async () => {
      await expect(fetchInto(query(moveOnly))).rejects.toMatchObject({
        code: 'NO_IMAGES_FOUND',
        hint: expect.stringContaining('--dicom-port'),
      })
    })

    it.skipIf(!hasProgram('openssl'))(
      'is asked over TLS, by a name its certificate has, of an issuer we trust (needs openssl)',
      async () => {
        const [key, cert] = [join(root, 'key.pem'), join(root, 'cert.pem')]
        const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
        runProgram('openssl', [
          'req',
          '-x509',
          '-newkey',
          'rsa:2048',
          '-nodes',
          '-days',
          '2',
          '-keyout',
          key,
          '-out',
          cert,
          ...names,
        ])
        const pem = { key: await readFile(key), cert: await readFile(cert) }
        // dcmqrscp of this age speaks no TLS; this does it for it.
        const front = createTlsServer(pem, (socket) => {
          const behind = connect(withGet.port, '127.0.0.1')
          socket.pipe(behind).pipe(socket)
          for (const one of [socket, behind]) one.on('error', () => {})
        })
        await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve))
        const { port } = front.address() as { port: number }
        const ask = async (host: string, ca: Buffer | undefined) => {
          const folder = join(root, `tls-${requests++}`)
          await mkdir(folder)
          const dicom = { aeTitle: 'MOVER', scpPort: 0, tls: ca && { ca } }
          const fetchSource = createFetchSource({ allow: ['127.0.0.1'], limits: LIMITS, dicom })
          const body = query(withGet, { server_address: host, server_port: port, tls: true })
          return fetchSource(body, folder, new AbortController().signal)
        }
        try {
          expect(await ask('localhost', pem.cert)).toMatchObject({ received: 20 })
          const distrust = { code: 'FETCH_FAILED', message: expect.stringContaining('not trusted') }
          await expect(ask('localhost', undefined)).rejects.toMatchObject(distrust)
          await expect(ask('127.0.0.1', pem.cert)).rejects.toMatchObject(distrust)
        } finally {
          front.close()
        }
      },
    )

    it('that cannot send all images of a series is refused; of a patient, what came is taken with a note', async () => {
      const folder = join(root, 'partial')
      await mkdir(folder)
      const partial = await startDcmqrscp(folder)
      try {
        partial.store(join(images, 'ts_ct20_raw'))
        const stored = (await readdir(join(folder, 'qr'))).filter((name) => name !== 'index.dat')
        for (const name of stored.slice(0, 2)) await rm(join(folder, 'qr', name))
        await expect(fetchInto(query(partial))).rejects.toMatchObject({
          code: 'FETCH_FAILED',
          message: expect.stringContaining('18 of the 20'),
        })
        await expect(fetchInto(query(partial), { scpPort: partial.movePort })).rejects.toMatchObject({
          code: 'FETCH_FAILED',
          message: expect.stringContaining('18 of the 20'),
        })
        const patient = {
          query_level: 'PATIENT',
          patient_id: 'TS-CT-0001',
          study_uid: undefined,
          series_uid: undefined,
        }
        expect(await fetchInto(query(partial, patient))).toMatchObject({
          received: 18,
          reported: 20,
          notes: [expect.stringContaining('18 of the 20')],
        })
      } finally {
        await partial.stop()
      }
    })

    it.each([
      { name: 'an unknown series', more: { series_uid: '1.2.3' } },
      {
        name: 'an unknown patient',
        more: { query_level: 'PATIENT', patient_id: 'X', study_uid: undefined, series_uid: undefined },
      },
    ])('$name is not found', async ({ more }) => {
      await expect(fetchInto(query(withGet, more))).rejects.toMatchObject({ code: 'NO_IMAGES_FOUND', statusCode: 404 })
      await expect(fetchInto(query(withGet, more), { scpPort: withGet.movePort })).rejects.toMatchObject({
        code: 'NO_IMAGES_FOUND',
      })
    })
    it('that refuses the association is an error', async () => {
      await expect(fetchInto(query(withGet, { ae_title: 'NOBODY' }))).rejects.toMatchObject({
        code: 'FETCH_FAILED',
        message: expect.stringContaining('refused the association'),
      })
    })
    it('stops at the byte cap', async () => {
      await expect(fetchInto(query(withGet), { limits: { maxBytes: 2_000_000 } })).rejects.toMatchObject({
        code: 'TOO_LARGE',
      })
    })
    it('stops at the file cap', async () => {
      await expect(fetchInto(query(withGet), { limits: { maxFiles: 5 } })).rejects.toMatchObject({ code: 'TOO_LARGE' })
    })
    it('stops when the client is gone', async () => {
      const signal = AbortSignal.abort(new Error('gone'))
      await expect(fetchInto(query(withGet), { signal })).rejects.toThrow('gone')
    })
  },
)

describe.skipIf(!ready || !hasOrthanc || !hasProgram('dcm2niix'))(
  'Orthanc (needs shared data, Orthanc, dcm2niix)',
  () => {
    let orthanc: Orthanc
    beforeAll(async () => {
      await mkdir(join(root, 'pacs'))
      orthanc = await startOrthanc(join(root, 'pacs'))
      await orthanc.store(join(images, 'ts_ct20_j2k'))
    })
    afterAll(() => orthanc?.stop())

    const dicom = (more: Record<string, unknown> = {}) => ({
      dicom: {
        server_address: 'localhost',
        server_port: orthanc.dicomPort,
        ae_title: 'ORTHANC',
        query_level: 'SERIES',
        study_uid: STUDY,
        series_uid: SERIES,
        ...more,
      },
    })
    const web = (more: Record<string, unknown> = {}) => ({
      dicomweb: {
        url: `http://127.0.0.1:${orthanc.httpPort}/dicom-web`,
        study_uid: STUDY,
        series_uid: SERIES,
        ...more,
      },
    })

    it('gives JPEG 2000 by C-GET, because it is offered compressed contexts', () => expectSeries(dicom()))
    it('gives an uncompressed series by C-GET', async () => {
      const folder = join(images, 'torchio_ct17')
      await orthanc.store(folder)
      const { volume } = await readVolume(
        (await readdir(folder)).map((name) => join(folder, name)),
        READ_LIMITS,
      )
      const study_uid = '1.2.826.0.1.3680043.2.1125.1.77919887136091242069669728074855109'
      const series_uid = '1.2.826.0.1.3680043.2.1125.1.34342067217438436433087125579339530'
      const fetched = await fetchInto(dicom({ study_uid, series_uid }))
      expect(fetched).toMatchObject({ received: 17, reported: 17 })
      expect((await readVolume(fetched.paths, READ_LIMITS)).volume).toEqual(volume)
    })
    it('says c000 for an unknown series, which is not found', async () => {
      await expect(fetchInto(dicom({ series_uid: '1.2.3' }), { scpPort: orthanc.movePort })).rejects.toMatchObject({
        code: 'NO_IMAGES_FOUND',
      })
    })
    it('gives a series by WADO-RS', async () => {
      await expectSeries(web())
      await expectSeries(web({ url: `http://127.0.0.1:${orthanc.httpPort}/dicom-web/` }))
    })
    it('has no unknown series by WADO-RS', async () => {
      await expect(fetchInto(web({ series_uid: '1.2.3' }))).rejects.toMatchObject({ code: 'NO_IMAGES_FOUND' })
    })
    it('is no DICOMweb service at another path', async () => {
      await expect(fetchInto(web({ url: `http://127.0.0.1:${orthanc.httpPort}/app` }))).rejects.toMatchObject({
        code: expect.stringMatching(/NO_IMAGES_FOUND|FETCH_FAILED/),
      })
    })
    it('stops at the caps', async () => {
      await expect(fetchInto(web(), { limits: { maxBytes: 1_000_000 } })).rejects.toMatchObject({ code: 'TOO_LARGE' })
      await expect(fetchInto(web(), { limits: { maxFiles: 3 } })).rejects.toMatchObject({ code: 'TOO_LARGE' })
    })
    it("gives a zip of the study over http, as the protocol's XNAT example does", async () => {
      const base = `http://127.0.0.1:${orthanc.httpPort}`
      const [study] = (await (await fetch(`${base}/studies`)).json()) as string[]
      const { paths } = await fetchInto({
        http: { url: `${base}/studies/${study}/archive`, params: { format: 'zip' }, method: 'GET' },
      })
      const { volume, files } = await readVolume(paths, READ_LIMITS)
      expect(files).toHaveLength(20)
      expectSameVoxels(volume)
    })
  },
)

describe('peers that misbehave', () => {
  const servers: Server[] = []
  const sockets = new Set<Socket>()
  afterAll(() => {
    for (const socket of sockets) socket.destroy()
    for (const server of servers) server.close()
  })
  async function peer(onConnect: (socket: Socket) => void): Promise<number> {
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      onConnect(socket)
    })
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as { port: number }).port
  }
  const query = (port: number) => ({
    dicom: { server_address: '127.0.0.1', server_port: port, ae_title: 'X', series_uid: '1.2.3', study_uid: '1.2' },
  })

  it('one that is not there', async () => {
    await expect(fetchInto(query(await freePort()))).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      statusCode: 502,
      message: expect.stringContaining('refused the connection'),
    })
  })
  it('one that goes silent', async () => {
    const port = await peer(() => {})
    await expect(fetchInto(query(port), { limits: { silenceSeconds: 0.3 } })).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: expect.stringContaining('silent'),
    })
  })
  it('one that keeps talking without an end', async () => {
    // Pieces of an association acceptance that never completes.
    const port = await peer((socket) => {
      socket.write(Buffer.from([2, 0, 0, 0x30, 0, 0]))
      const timer = setInterval(() => socket.write(Buffer.alloc(16)), 20)
      socket.on('close', () => clearInterval(timer))
    })
    await expect(fetchInto(query(port), { limits: { seconds: 0.5 } })).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: expect.stringContaining('took over'),
    })
  })
  it('one that hangs up', async () => {
    const port = await peer((socket) => socket.end())
    await expect(fetchInto(query(port))).rejects.toMatchObject({ code: 'FETCH_FAILED' })
  })
  it('one that announces a PDU of four gigabytes', async () => {
    const port = await peer((socket) => socket.write(Buffer.from([2, 0, 0xff, 0xff, 0xff, 0xff, 0, 0])))
    await expect(fetchInto(query(port))).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: expect.stringContaining('PDU'),
    })
  })
  it('one that speaks HTTP', async () => {
    const port = await peer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    await expect(fetchInto(query(port))).rejects.toMatchObject({ code: 'FETCH_FAILED' })
  })
})

it.each([
  { body: {}, words: 'exactly one' },
  { body: { dicom: {}, http: {} }, words: 'exactly one' },
  { body: { dicom: 'x' }, words: 'dicom' },
  { body: { dicom: { server_address: 'a', server_port: 0, ae_title: 'X' } }, words: 'dicom.server_port' },
  { body: { dicom: { server_address: '127.0.0.1', server_port: 1, ae_title: 'X' } }, words: 'dicom.series_uid' },
  {
    body: { dicom: { server_address: '127.0.0.1', server_port: 1, ae_title: 'SEVENTEEN LETTERS' } },
    words: 'dicom.ae_title',
  },
  { body: { dicom: { server_address: '127.0.0.1', ae_title: 'X', query_level: 'IMAGE' } }, words: 'dicom.query_level' },
  { body: { dicomweb: { url: 'http://127.0.0.1', study_uid: '../..', series_uid: '1' } }, words: 'dicomweb.study_uid' },
  { body: { http: { url: 'nonsense' } }, words: 'http.url' },
  { body: { http: { url: 'http://127.0.0.1', proxies: {} } }, words: 'proxies' },
])('$body is refused, naming $words', async ({ body, words }) => {
  await expect(fetchInto(body)).rejects.toMatchObject({ code: 'BAD_PARAMS', message: expect.stringContaining(words) })
})

it('names nobody when fetching is off', async () => {
  const off = createFetchSource({ allow: [], limits: LIMITS, dicom: { aeTitle: 'A', scpPort: 0 } })
  const body = {
    dicom: { server_address: '0.0.0.0', server_port: 11112, ae_title: 'DCM4CHEE', series_uid: '1.2', study_uid: '1' },
  }
  await expect(off(body, root, new AbortController().signal)).rejects.toMatchObject({
    code: 'FETCH_FORBIDDEN',
    statusCode: 403,
    hint: expect.stringContaining('--allow-fetch'),
  })
})
