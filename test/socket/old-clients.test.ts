/** The exact bytes of the known clients (spec 2.0, 8), and their own ways of reading the reply. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import type { InferenceJob } from '../../src/contract/job.js'
import { form, readMultipart } from '../helpers/multipart.js'
import { pythonWith } from '../helpers/python.js'
import { sendRaw } from '../helpers/raw-http.js'
import { fakeRegistry, testApp } from '../helpers/test-app.js'

const run = promisify(execFile)
const voxels = Buffer.from([0x1f, 0x8b, 0x08, 0, 13, 10, 45, 45, 255, 0])

describe('the C++ client', () => {
  const post = (payload: Buffer) =>
    Buffer.concat([
      Buffer.from(
        'POST /v1/segmentation?model=spleen HTTP/1.0\r\nConnection: Close\r\nHost: 127.0.0.1:5000\r\n' +
          `Content-Type: multipart/form-data; boundary="MIME_boundary_0A1B2C3D4E5F"\r\nContent-Length: ${payload.length}\r\n\r\n`,
      ),
      payload,
    ])

  test('speaks HTTP/1.0 with a quoted boundary and gets a reply of known length, whole', async () => {
    await using app = await testApp()
    const port = await app.listen()
    const { payload } = form(
      [
        { name: 'params', body: '{}' },
        { name: 'image', body: voxels, filename: 'spleen.nii.gz', type: 'application/octet-stream' },
      ],
      'MIME_boundary_0A1B2C3D4E5F',
    )
    const reply = await sendRaw(port, post(payload))
    expect(reply.statusLine).toMatch(/^HTTP\/1\.[01] 200 OK$/)
    expect(reply.headers.get('transfer-encoding')).toBeUndefined()
    expect(reply.headers.get('content-length')).toBe(String(reply.body.length))
    const parts = readMultipart(reply.headers.get('content-type')!, reply.body)
    expect(parts.map(({ name }) => name)).toEqual(['params', 'file'])
  })

  test('reads the reason of a refusal on the status line, even when it was still sending', async () => {
    await using app = await testApp({ flags: ['--max-upload-bytes', '1000'] })
    const port = await app.listen()
    const { payload } = form(
      [{ name: 'image', body: Buffer.alloc(30_000_000), filename: 'a.nii' }],
      'MIME_boundary_0A1B2C3D4E5F',
    )
    const reply = await sendRaw(port, post(payload))
    expect(reply.statusLine).toBe('HTTP/1.1 413 the upload is larger than 1000 bytes')
  })

  test('asks for a model with GET over HTTP/1.1 and no body', async () => {
    await using app = await testApp()
    const port = await app.listen()
    const reply = await sendRaw(port, 'GET /v1/models?model=spleen HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n\r\n')
    expect(JSON.parse(reply.body.toString())).toMatchObject({ name: 'spleen', version: '3', labels: ['spleen'] })
  })
})

describe('the Python client', () => {
  const boundary = '----------lImIt_of_THE_fIle_eW_$'
  const request = (params: string) => {
    const payload = Buffer.concat([
      form(
        [
          { name: 'params', body: params },
          {
            name: 'datapoint',
            body: voxels,
            filename: '/home/ann/data/Doe^Jane.nii.gz',
            type: 'application/octet-stream',
          },
        ],
        boundary,
      ).payload,
      Buffer.from('\r\n'),
    ])
    const head =
      'POST /v1/dextr3d?model=dextr3d HTTP/1.1\r\nHost: 127.0.0.1:5000\r\nAccept-Encoding: identity\r\n' +
      `content-type: multipart/form-data; boundary=${boundary}\r\ncontent-length: ${payload.length}\r\n\r\n`
    return Buffer.concat([Buffer.from(head), payload])
  }

  test('has a $ in its boundary, a full path as file name, an extra line end, and points as text', async () => {
    await using app = await testApp({ services: { registry: fakeRegistry(['dextr3d']) } })
    const port = await app.listen()
    const reply = await sendRaw(port, request('{"points": "[[93,106,64],[40,108,64]]"}'))
    expect(reply.statusLine).toBe('HTTP/1.1 200 OK')
    const job = app.scheduler.asked[0]!.job as InferenceJob
    expect(job.params).toEqual({ points: '[[93,106,64],[40,108,64]]' })
    expect(job.images).toHaveLength(1)
  })

  const python = pythonWith(['cgi', 'http.client'])

  test.skipIf(!python)(
    'reads the reply with cgi.FieldStorage from the bare socket (skipped without Python < 3.13)',
    async () => {
      await using app = await testApp()
      const port = await app.listen()
      // As client_api.py does: the body is parsed from the socket under the response, with the response's own headers.
      const script = `
import cgi, http.client, json, sys, warnings
connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
body = (b'--b\\r\\nContent-Disposition: form-data; name="params"\\r\\n\\r\\n{}\\r\\n'
        b'--b\\r\\nContent-Disposition: form-data; name="datapoint"; filename="/x/y.nii.gz"\\r\\n\\r\\nvoxels\\r\\n--b--\\r\\n\\r\\n')
connection.request('POST', '/v1/segmentation?model=spleen', body, {'content-type': 'multipart/form-data; boundary=b'})
response = connection.getresponse()
form = cgi.FieldStorage(fp=response.fp, headers=response.headers, environ={'REQUEST_METHOD': 'POST', 'CONTENT_TYPE': response.headers['Content-Type']})
print(json.dumps({key: [form[key].filename, form[key].value if form[key].filename is None else form[key].value.decode()] for key in form}))
`
      const { stdout } = await run(python!, ['-W', 'ignore', '-c', script, String(port)])
      expect(JSON.parse(stdout)).toEqual({
        params: [null, '{"points":[[1,2,3]]}'],
        file: ['aas_result.nii.gz', 'label map'],
      })
    },
  )
})

describe('OHIF', () => {
  test('sends the images first and null for params', async () => {
    await using app = await testApp()
    const port = await app.listen()
    const data = new FormData()
    data.append('image', new Blob([voxels]), 'image.nii')
    data.append('params', JSON.stringify({ result_extension: '.nrrd', result_dtype: 'uint16', result_compress: false }))
    const reply = await fetch(`http://127.0.0.1:${port}/v1/segmentation?model=spleen&output=image`, {
      method: 'POST',
      headers: { accept: 'multipart/form-data', origin: 'https://viewer.example' },
      body: data,
    })
    expect([reply.status, await reply.text()]).toEqual([200, 'label map'])
    expect(reply.headers.get('access-control-allow-origin')).toBe('*')
    const job = app.scheduler.asked[0]!.job as InferenceJob
    expect(job.wish).toMatchObject({ extension: '.nrrd', dtype: 'uint16', compress: false })
  })
})

describe('odd requests', () => {
  test.each([
    {
      name: 'chunked upload',
      head: 'Transfer-Encoding: chunked',
      body: '2\r\nvo\r\n4\r\nxels\r\n0\r\n\r\n',
      status: 200,
    },
    { name: 'Expect: 100-continue', head: 'Expect: 100-continue\r\nContent-Length: 6', body: 'voxels', status: 200 },
    { name: 'no Content-Type', head: 'Content-Length: 6', body: 'voxels', status: 200 },
    { name: 'a Content-Length of 0', head: 'Content-Length: 0', body: '', status: 400 },
    { name: 'an absurd Content-Length', head: 'Content-Length: 99999999999999', body: '', status: 413 },
  ])('$name: $status', async ({ head, body, status }) => {
    await using app = await testApp()
    const port = await app.listen()
    const reply = await sendRaw(
      port,
      `POST /v1/inference?model=spleen HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${head}\r\n\r\n${body}`,
    )
    expect(reply.statusLine).toContain(` ${status} `)
  })

  test.each([
    { name: 'bytes that are not HTTP', bytes: '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n', status: 400 },
    { name: 'a method nobody has', bytes: 'BLAH / HTTP/1.1\r\n\r\n', status: 400 },
    { name: 'a broken escape', bytes: 'GET /% HTTP/1.1\r\nHost: a\r\n\r\n', status: 400 },
    {
      name: 'a very long id',
      bytes: `GET /session/${'a'.repeat(3000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
      status: 404,
    },
    { name: 'a long id', bytes: `GET /session/${'a'.repeat(300)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, status: 404 },
    { name: 'huge headers', bytes: `GET / HTTP/1.1\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, status: 431 },
  ])('$name: $status in our own words, and the server lives on', async ({ bytes, status }) => {
    await using app = await testApp()
    const port = await app.listen()
    const reply = await sendRaw(port, Buffer.from(bytes, 'latin1'))
    expect(reply.statusLine).toContain(` ${status} `)
    expect(JSON.parse(reply.body.toString())).toMatchObject({
      success: false,
      error: { message: [expect.any(String)] },
    })
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200)
  })
})
