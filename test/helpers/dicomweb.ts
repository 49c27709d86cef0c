/** A DICOMweb service on loopback that holds the series it is given and remembers what it was asked. */
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

export interface HeldSeries {
  readonly studyUid: string
  readonly seriesUid: string
  readonly modality: string
  /** Files of its instances. */
  readonly paths: readonly string[]
  /** Said to be there, when more than the files. */
  readonly instances?: number
  /** Of a segmentation: the series that it names. */
  readonly labels?: string
}

export interface StowAnswer {
  readonly status: number
  readonly body?: unknown
}

export interface Asked {
  readonly method: string
  /** Path and query, from the base of the service on. */
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

export interface FakeDicomweb extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly asked: readonly Asked[]
  /** How the next instances that are stored are answered. */
  stow: StowAnswer
  /** Answers instead of the service, when it gives true. */
  instead: (asked: Asked, response: ServerResponse) => boolean
}

const text = (vr: string, ...values: readonly (string | number)[]) => ({ vr, Value: values })

function dataSet({ studyUid, seriesUid, modality, paths, instances }: HeldSeries) {
  return {
    '00080020': text('DA', '20260102'),
    '00080030': text('TM', '030405'),
    '00080060': text('CS', modality),
    '00100020': text('LO', 'P-1'),
    '0020000D': text('UI', studyUid),
    '0020000E': text('UI', seriesUid),
    '00201209': text('IS', instances ?? paths.length),
  }
}

export async function fakeDicomweb(series: readonly HeldSeries[]): Promise<FakeDicomweb> {
  const asked: Asked[] = []
  const json = (response: ServerResponse, status: number, body: unknown) =>
    response
      .writeHead(status, { 'content-type': 'application/dicom+json' })
      .end(body === undefined ? '' : JSON.stringify(body))
  const fake = {
    stow: { status: 200, body: {} } as StowAnswer,
    instead: ((): boolean => false) as FakeDicomweb['instead'],
  }

  function answer({ method, path }: Asked, response: ServerResponse): unknown {
    const { pathname, searchParams } = new URL(path, 'http://x')
    if (method === 'POST') return json(response, fake.stow.status, fake.stow.body)
    if (pathname === '/series') {
      const [wanted, modality] = [searchParams.get('SeriesInstanceUID'), searchParams.get('Modality')]
      const [limit, offset] = ['limit', 'offset'].map((key) => searchParams.get(key))
      const found = series.filter(
        (one) => [one.seriesUid, null].includes(wanted) && [one.modality, null].includes(modality),
      )
      const start = Number(offset ?? 0)
      return json(response, 200, found.slice(start, start + Number(limit ?? found.length)).map(dataSet))
    }
    const one = series.find(({ seriesUid }) => pathname.includes(`/series/${seriesUid}`))
    if (!one) return response.writeHead(404).end()
    if (/\/(instances|metadata)$/.test(pathname)) {
      const source = one.labels === undefined ? [] : [{ '0020000E': text('UI', one.labels) }]
      return json(response, 200, [{ '00081115': { vr: 'SQ', Value: source } }])
    }
    const parts = one.paths.flatMap((file) => [
      Buffer.from('\r\n--b\r\nContent-Type: application/dicom\r\n\r\n'),
      readFileSync(file),
    ])
    response.writeHead(200, { 'content-type': 'multipart/related; type="application/dicom"; boundary=b' })
    return response.end(Buffer.concat([...parts, Buffer.from('\r\n--b--\r\n')]))
  }

  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece)
    const path = (request.url ?? '').replace(/^\/dicom-web/, '')
    const one = { method: request.method ?? '', path, headers: request.headers, body: Buffer.concat(pieces) }
    asked.push(one)
    if (!fake.instead(one, response)) answer(one, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return Object.assign(fake, {
    url: `http://127.0.0.1:${port}/dicom-web`,
    port,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  })
}
