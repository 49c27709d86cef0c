/**
 * Whatever is wrong with what was sent, neither the log nor a reply shows a value of a file, and the log shows nothing of
 * file names, parameters and headers either. Every text of the files, and everything else that is sent, carries a mark.
 */
import { deflateSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Attribute, encodePart10 } from '../../src/formats/dicom-write.js'
import { mutate, random } from '../helpers/mutate.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { ServerProcess } from '../helpers/server-process.js'
import { tempFolder } from '../helpers/volumes.js'
import { zipBytes } from '../helpers/zip.js'

const IN_FILE = 'QZVALUEOFFILE'
const SENT = 'QZSENTBESIDE'
/** Mutated files of each kind; every one ends in some refusal, or in a volume. */
const MUTATIONS = 40

let folder: Awaited<ReturnType<typeof tempFolder>>
let server: ServerProcess
beforeAll(async () => {
  folder = await tempFolder()
  const flags = ['--device', 'cpu', '--tool-runners', '1', '--log-level', 'trace', '--allow-fetch', '127.0.0.1']
  server = await ServerProcess.start(folder.path, flags)
}, 60_000)
afterAll(async () => {
  await server?.end('SIGTERM')
  await folder?.[Symbol.asyncDispose]()
})

/** Text attributes of every VR, in every group that a header may have. */
const TEXTS: readonly (readonly [number, string])[] = [
  ...([0x00080008, 0x00080005, 0x00180015, 0x00100040] as const).map((tag) => [tag, 'CS'] as const),
  ...([0x00080020, 0x00080021, 0x00100030] as const).map((tag) => [tag, 'DA'] as const),
  ...([0x00080030, 0x00080031] as const).map((tag) => [tag, 'TM'] as const),
  ...([0x00080050, 0x00200010, 0x00081010] as const).map((tag) => [tag, 'SH'] as const),
  ...([0x00080070, 0x00080080, 0x00081030, 0x0008103e, 0x00100020, 0x00102160] as const).map(
    (tag) => [tag, 'LO'] as const,
  ),
  ...([0x00080090, 0x00100010, 0x00101001, 0x00081070] as const).map((tag) => [tag, 'PN'] as const),
  ...([0x00104000, 0x00204000] as const).map((tag) => [tag, 'LT'] as const),
  ...([0x0020000d, 0x0020000e, 0x00200052] as const).map((tag) => [tag, 'UI'] as const),
  [0x00101010, 'AS'],
  [0x00101030, 'DS'],
  [0x00200011, 'IS'],
  [0x00081049, 'PN'],
  [0x00091001, 'LO'],
]

/** A slice whose texts all carry the mark; `change` replaces attributes by tag. */
function slice(k: number, change: readonly Attribute[] = [], syntax?: string): Buffer {
  const uid = `1.2.${k + 3}`
  const attributes: Attribute[] = [
    ...TEXTS.map(([tag, vr]): Attribute => [tag, vr, `${IN_FILE}^${tag}`]),
    [0x00080016, 'UI', '1.2.840.10008.5.1.4.1.1.2'],
    [0x00080018, 'UI', uid],
    [0x00080060, 'CS', 'CT'],
    [0x00200032, 'DS', `0\\0\\${2 * k}`],
    [0x00200037, 'DS', '1\\0\\0\\0\\1\\0'],
    [0x00280002, 'US', [1]],
    [0x00280004, 'CS', 'MONOCHROME2'],
    [0x00280010, 'US', [40]],
    [0x00280011, 'US', [40]],
    [0x00280030, 'DS', '1\\1'],
    [0x00280100, 'US', [16]],
    [0x00280101, 'US', [16]],
    [0x00280102, 'US', [15]],
    [0x00280103, 'US', [0]],
    [0x7fe00010, 'OW', new Uint8Array(3200)],
  ]
  const kept = attributes.filter(([tag]) => !change.some(([other]) => other === tag))
  const bytes = encodePart10('1.2.840.10008.5.1.4.1.1.2', uid, [...kept, ...change])
  // Same length, so that the meta information stays whole.
  return syntax ? Buffer.from(bytes.toString('latin1').replace('1.2.840.10008.1.2.1', syntax), 'latin1') : bytes
}

const series = (change: readonly Attribute[] = []) => [0, 1, 2].map((k) => slice(k, change))
const marked = (vr: string, tag: number): Attribute => [tag, vr, IN_FILE]
const text = (content: string) => Buffer.from(content, 'latin1')

/** A PNG whose text chunk carries the mark, and which breaks off. */
function picture(): Buffer {
  const chunk = (name: string, data: Buffer) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(data.length)
    return Buffer.concat([length, text(name), data, Buffer.alloc(4)])
  }
  const head = Buffer.from([0, 0, 0, 8, 0, 0, 0, 8, 8, 0, 0, 0, 0])
  const data = [chunk('IHDR', head), chunk('tEXt', text(`Comment\0${IN_FILE}`)), chunk('IDAT', deflateSync(text('x')))]
  return Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), ...data])
}

const nifti = () => {
  const bytes = niftiBytes({ dim: [3, 4, 4, 4], datatype: 4, voxels: new Uint8Array(128) })
  bytes.set(text(IN_FILE), 148)
  return Buffer.from(bytes)
}
const nrrd = (more: string) =>
  text(`NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n${more}\n\n${'\0'.repeat(16)}`)

const UPLOADS: readonly { name: string; files: readonly Buffer[] }[] = [
  { name: 'a whole series', files: series() },
  { name: 'a name longer than any', files: series([[0x00100010, 'PN', `${IN_FILE}^`.repeat(200)]]) },
  { name: 'an unknown transfer syntax', files: [slice(0, [], 'QZVALUEOFFILE.4.5.6')] },
  { name: 'an unknown photometric interpretation', files: [slice(0, [marked('CS', 0x00280004)])] },
  { name: 'three samples of no colour', files: [slice(0, [marked('CS', 0x00280004), [0x00280002, 'US', [3]]])] },
  { name: 'frames that are no number', files: [slice(0, [marked('IS', 0x00280008)])] },
  { name: 'a place that is no number', files: series([marked('DS', 0x00200032)]) },
  { name: 'directions that are none', files: series([[0x00200037, 'DS', '1\\1\\1\\1\\1\\1']]) },
  { name: 'no rows', files: [slice(0, [[0x00280010, 'US', [0]]])] },
  { name: 'rows of another kind', files: [slice(0, [marked('LO', 0x00280010)])] },
  { name: 'pixels cut short', files: [slice(0, [[0x7fe00010, 'OW', new Uint8Array(100)]])] },
  { name: 'two slices at one place', files: [slice(0), slice(0)] },
  { name: 'two series', files: [slice(0), slice(1, [[0x0020000e, 'UI', `${IN_FILE}.2`]])] },
  { name: 'no pixels', files: [slice(0, [[0x7fe00010, 'OW', new Uint8Array(0)]])] },
  { name: 'a header that ends', files: [slice(0).subarray(0, 400)] },
  { name: 'a NIfTI', files: [nifti()] },
  { name: 'a NIfTI cut short', files: [nifti().subarray(0, 360)] },
  { name: 'an NRRD with a field of its own', files: [nrrd(`patient:=${IN_FILE}`)] },
  { name: 'an NRRD of a type that is none', files: [nrrd(`space: ${IN_FILE}`)] },
  { name: 'an NRRD that names a file', files: [nrrd(`data file: ${IN_FILE}`)] },
  { name: 'a picture', files: [picture()] },
  { name: 'a text', files: [text(`${IN_FILE} is a text`)] },
  { name: 'a page', files: [text(`<html>${IN_FILE}</html>`)] },
  { name: 'a zip of texts', files: [zipBytes([1, 2, 3].map((n) => ({ name: `${SENT}${n}`, data: IN_FILE })))] },
  { name: 'a zip of a series', files: [zipBytes(series().map((data, n) => ({ name: `${SENT}/${n}`, data })))] },
  { name: 'a zip that lies', files: [zipBytes([{ name: SENT, data: IN_FILE, sum: 1 }])] },
  { name: 'a zip that leaves its folder', files: [zipBytes([{ name: `../../${SENT}`, data: IN_FILE }])] },
  ...Array.from({ length: MUTATIONS }, (_, n) => ({
    name: `a damaged slice, number ${n}`,
    files: series().map((bytes, k) => (k === 1 ? mutate(bytes, random(n)) : bytes)),
  })),
]

const headers = {
  authorization: `Bearer ${SENT}`,
  cookie: `session=${SENT}`,
  referer: `http://${SENT}/`,
  'user-agent': SENT,
  'x-forwarded-for': SENT,
  'x-patient': SENT,
}

const replies: string[] = []
const codes = new Set<string>()

async function ask(method: string, path: string, body?: FormData | string | Buffer, more: Record<string, string> = {}) {
  const reply = await fetch(`${server.url}${path}`, {
    method,
    headers: { ...headers, ...more },
    ...(body === undefined ? {} : { body: body as NonNullable<RequestInit['body']> }),
  })
  const bytes = Buffer.from(await reply.arrayBuffer())
  const type = reply.headers.get('content-type') ?? ''
  // An image that is given back is the client's own, header and all; a DICOM SEG has to name the patient.
  const shown = type.includes('json') || type.includes('text') ? bytes.toString('latin1') : ''
  const known = type.startsWith('application/json') ? (JSON.parse(bytes.toString()) as Record<string, unknown>) : {}
  if (typeof known.code === 'string') codes.add(known.code)
  replies.push(`${reply.statusText} ${[...reply.headers].join()} ${shown}`)
  return { status: reply.status, known }
}

function form(files: readonly Buffer[], params: unknown): FormData {
  const body = new FormData()
  body.append('params', typeof params === 'string' ? params : JSON.stringify(params))
  for (const [i, bytes] of files.entries())
    body.append(files.length > 1 ? `image${i}` : 'image', new Blob([new Uint8Array(bytes)]), `${SENT}-${i}.dcm`)
  return body
}

it('shows no value of a file, a parameter, a name or a header in the log, nor one of a file in a reply', async () => {
  for (const { files } of UPLOADS) {
    const { known } = await ask('PUT', '/session/', form(files, { note: SENT }))
    await ask('POST', '/v1/mask2polygon', form(files, { label: SENT }))
    await ask('POST', '/v1/mask2polygon', form(files, {}))
    if (typeof known.session_id !== 'string') continue
    const session = `session_id=${known.session_id}`
    await ask('POST', `/v1/fixpolygon?${session}`, form([], { poly: SENT, [SENT]: SENT }))
    await ask('POST', `/v1/deepgrow?model=deepgrow_2d&${session}`, form([], { foreground: [[SENT]] }))
    await ask('GET', `/session/${known.session_id}?update_ts=${SENT}`)
  }
  const click = { foreground: [[10, 10, 1]], background: [] }
  for (const files of [
    series(),
    series([[0x00100010, 'PN', `${IN_FILE}^`.repeat(200)]]),
    [slice(0, [marked('DS', 0x00200032)])],
  ])
    await ask('POST', '/v1/deepgrow?model=deepgrow_2d&output=dicom_seg', form(files, click))
  for (const [method, path, body] of [
    ['GET', `/${SENT}`],
    ['GET', `/v1/models?model=${SENT}&label=${SENT}`],
    ['GET', `/session/${SENT}`],
    ['DELETE', `/session/${SENT}`],
    ['PATCH', `/v1/models?${SENT}`],
    ['GET', `/v1/%zz${SENT}`],
    ['POST', `/v1/segmentation?model=${SENT}`, form(series(), {})],
    ['POST', `/v1/segmentation?model=deepgrow_2d&output=${SENT}`, form(series(), `{"a": ${SENT}`)],
    ['POST', '/v1/deepgrow?model=deepgrow_2d', form(series(), { foreground: SENT, result_extension: SENT })],
    ['PUT', `/admin/model/${SENT}!`, form([text(IN_FILE)], {})],
    ['PUT', '/admin/model/marked', form([zipBytes([{ name: SENT, data: IN_FILE }])], {})],
  ] as const)
    await ask(method, path, body)
  const json = { 'content-type': 'application/json' }
  await ask('PUT', '/session/', `{"http": {"url": "http://127.0.0.1:1/${SENT}", "headers": {"x": "${SENT}"}}}`, json)
  await ask('PUT', '/session/', `{"dicom": {"server_address": "127.0.0.1", "patient_id": "${SENT}"}}`, json)
  await ask('PUT', '/session/', `{"${SENT}"`, json)
  await ask('POST', '/v1/mask2polygon', `--${SENT}`, { 'content-type': `multipart/form-data; boundary=${SENT}` })

  const log = await (await fetch(`${server.url}/logs?lines=100000`)).text()
  expect(log).toContain('request')
  for (const shown of [log, server.output]) {
    expect(linesWith(shown, IN_FILE)).toEqual([])
    expect(linesWith(shown, SENT)).toEqual([])
  }
  expect(replies.filter((reply) => reply.includes(IN_FILE))).toEqual([])
  // Enough was refused, in enough ways, for that to mean something.
  for (const code of [
    'UNREADABLE_IMAGE',
    'UNSUPPORTED_FORMAT',
    'BAD_GEOMETRY',
    'BAD_PARAMS',
    'NOT_FOUND',
    'BAD_REQUEST',
  ])
    expect(codes).toContain(code)
  expect(codes).not.toContain('INTERNAL')
}, 240_000)

function linesWith(shown: string, mark: string): string[] {
  return shown.split('\n').filter((line) => line.includes(mark))
}
