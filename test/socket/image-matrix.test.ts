/**
 * One picture in every format that a slice or a picture comes in, through every bundled model, posted and by session: what
 * an image is must not depend on how it came. The picture is a bright disc in noise.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { dicomBytes } from '../helpers/dicom-bytes.js'
import { readMultipart } from '../helpers/multipart.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { ServerProcess } from '../helpers/server-process.js'
import { roomyLimits } from '../helpers/volumes.js'

const [W, H] = [48, 40]
const CENTRE = [22, 21] as const
const inDisc = (x: number, y: number): boolean => Math.hypot(x - CENTRE[0], y - CENTRE[1]) < 11

/** Grey values row by row, the same every time. */
const grey = Uint8Array.from({ length: W * H }, (_, i) => {
  const noise = ((i * 7919) % 101) / 5
  return Math.round((inDisc(i % W, Math.floor(i / W)) ? 190 : 60) + noise)
})
const rgb = Uint8Array.from({ length: 3 * grey.length }, (_, i) => grey[Math.floor(i / 3)]!)
const rgba = Uint8Array.from({ length: 4 * grey.length }, (_, i) => (i % 4 === 3 ? 255 : grey[i >> 2]!))

const raw = (data: Uint8Array, channels: 1 | 2 | 3 | 4) => sharp(data, { raw: { width: W, height: H, channels } })

function nrrd(fields: string, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`NRRD0004\ntype: uchar\nencoding: raw\n${fields}\n\n`), body])
}

interface Sent {
  readonly name: string
  readonly file: () => Promise<Uint8Array> | Uint8Array
  /** The click and six extreme points in its voxels, from column and row of the picture. */
  readonly at?: (x: number, y: number) => readonly [number, number, number]
  /** What the note says that its transparency gets of a model that sees colours. */
  readonly note?: RegExp
}

/** Of the kinds: what people send. */
const USUAL: readonly Sent[] = [
  { name: 'a grey PNG', file: () => raw(grey, 1).toColourspace('b-w').png().toBuffer() },
  { name: 'a colour PNG', file: () => raw(rgb, 3).png().toBuffer() },
  { name: 'a colour JPEG', file: () => raw(rgb, 3).jpeg({ quality: 100 }).toBuffer() },
  { name: 'a radiograph', file: () => dicomBytes({ columns: W, rows: H, pixels: grey, modality: 'DX' }) },
  {
    name: 'an ultrasound frame in colour',
    file: () => dicomBytes({ columns: W, rows: H, pixels: rgb, modality: 'US' }),
  },
  { name: 'a 2-D NIfTI', file: () => niftiBytes({ datatype: 2, dim: [2, W, H], voxels: grey }) },
  { name: 'a NIfTI of one slice', file: () => niftiBytes({ datatype: 2, dim: [3, W, H, 1], voxels: grey }) },
  { name: 'a NRRD', file: () => nrrd(`dimension: 2\nsizes: ${W} ${H}`, grey) },
]

/** Their relatives. */
const OTHERS: readonly Sent[] = [
  { name: 'a PNG of 16 bits', file: () => raw(grey, 1).toColourspace('grey16').png().toBuffer() },
  { name: 'a PNG with transparency', file: () => raw(rgba, 4).png().toBuffer() },
  { name: 'a grey JPEG', file: () => raw(grey, 1).toColourspace('b-w').jpeg({ quality: 100 }).toBuffer() },
  {
    name: 'a CT slice, whose rows run upwards in the voxels',
    file: () => dicomBytes({ columns: W, rows: H, pixels: grey, modality: 'CT', position: [0, 0, 0] }),
    at: (x, y) => [x, H - 1 - y, 0],
  },
  {
    name: 'a NIfTI of colours',
    file: () => niftiBytes({ datatype: 128, dim: [3, W, H, 1], voxels: rgb }),
  },
  {
    name: 'a NIfTI of colours and transparency',
    file: () => niftiBytes({ datatype: 2304, dim: [3, W, H, 1], voxels: rgba }),
    note: /transparency/,
  },
  {
    name: 'a NIfTI of one coronal slice',
    file: () => niftiBytes({ datatype: 2, dim: [3, W, 1, H], voxels: grey }),
    at: (x, y) => [x, 0, y],
  },
  {
    name: 'a NIfTI of one sagittal slice',
    file: () => niftiBytes({ datatype: 2, dim: [3, 1, W, H], voxels: grey }),
    at: (x, y) => [0, x, y],
  },
  { name: 'a NRRD of one slice', file: () => nrrd(`dimension: 3\nsizes: ${W} ${H} 1`, grey) },
  {
    name: 'a NRRD of colours',
    file: () => nrrd(`dimension: 3\nsizes: 3 ${W} ${H}\nkinds: RGB-color domain domain`, rgb),
  },
]

let workspace: string
let server: ServerProcess
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-matrix-'))
  server = await ServerProcess.start(workspace, ['--device', 'cpu'])
}, 120_000)
afterAll(async () => {
  await server?.end('SIGTERM')
  await rm(workspace, { recursive: true, force: true, maxRetries: 3 })
})

interface Answer {
  readonly status: number
  readonly params: Record<string, unknown>
  readonly file: Buffer | undefined
}

async function ask(path: string, params: object, image: Uint8Array | undefined): Promise<Answer> {
  const body = new FormData()
  body.append('params', JSON.stringify(params))
  if (image) body.append('image', new Blob([new Uint8Array(image)]), 'image')
  const reply = await fetch(`${server.url}/v1/${path}`, { method: 'POST', body })
  const bytes = Buffer.from(await reply.arrayBuffer())
  const type = reply.headers.get('content-type') ?? ''
  if (type.startsWith('application/json'))
    return { status: reply.status, params: JSON.parse(bytes.toString()), file: undefined }
  const parts = readMultipart(type, bytes)
  const file = parts.find(({ name }) => name === 'file')?.body
  return { status: reply.status, params: JSON.parse(parts[0]!.body.toString()), file: file && Buffer.from(file) }
}

/** The answer to the file posted, which must be the answer to the same file uploaded before. */
async function bothWays(path: string, params: object, image: Uint8Array): Promise<Answer> {
  const body = new FormData()
  body.append('image', new Blob([new Uint8Array(image)]), 'image')
  const made = await fetch(`${server.url}/session/`, { method: 'PUT', body })
  const { session_id: session } = (await made.json()) as { session_id: string }
  const posted = await ask(path, params, image)
  const held = await ask(`${path}&session_id=${session}`, params, undefined)
  const told = ({ status, params: { request_id: _, ...rest } }: Answer) => ({ status, rest })
  expect(told(held)).toEqual(told(posted))
  expect(held.file).toEqual(posted.file)
  return posted
}

/** The share of the disc and the mask that they have in common, wherever the picture's pixels lie in the file. */
async function dice({ file }: Answer, at: NonNullable<Sent['at']>): Promise<number> {
  const path = join(workspace, 'mask')
  await writeFile(path, file!)
  const { data, size } = (await readVolume([path], roomyLimits)).volume
  let [both, sum] = [0, 0]
  for (let i = 0; i < W * H; i++) {
    const [px, py] = [i % W, Math.floor(i / W)]
    const [x, y, z] = at(px, py)
    const set = data[x + size[0] * (y + size[1] * z)] !== 0
    if (set) sum++
    if (inDisc(px, py)) sum++
    if (set && inDisc(px, py)) both++
  }
  return (2 * both) / sum
}

const plain: NonNullable<Sent['at']> = (x, y) => [x, y, 0]

describe.each([...USUAL, ...OTHERS])('$name', ({ file, at = plain, note }) => {
  test('gives deepgrow_2d the thing clicked, posted and by session', async () => {
    const params = { foreground: [at(...CENTRE)], background: [] }
    const answer = await bothWays('deepgrow?model=deepgrow_2d', params, await file())
    expect([answer.status, answer.params.error]).toEqual([200, undefined])
    expect(await dice(answer, at)).toBeGreaterThan(0.9)
    expect(((answer.params.notes ?? []) as string[]).join()).toMatch(note ?? /^$/)
  })

  test('gives modality_2d one class, posted and by session', async () => {
    const answer = await bothWays('inference?model=modality_2d', {}, await file())
    expect(answer.status, JSON.stringify(answer.params)).toBe(200)
    expect(answer.params.prediction).toHaveLength(1)
  })
})

describe.each(USUAL)('$name', ({ file, at = plain }) => {
  const [cx, cy] = CENTRE
  const ends = [at(cx - 10, cy), at(cx + 10, cy), at(cx, cy - 10), at(cx, cy + 10), at(cx, cy), at(cx, cy)]
  test.each([
    { path: 'deepgrow?model=deepgrow_3d', params: { foreground: [at(cx, cy)], background: [] } },
    { path: 'dextr3d?model=dextr3d', params: { points: ends } },
    { path: 'segmentation?model=hippocampus_mri', params: {} },
    { path: 'segmentation?model=brain_mri', params: {} },
  ])('is a volume of one slice to $path, posted and by session', async ({ path, params }) => {
    const answer = await bothWays(path, params, await file())
    expect(answer.status, JSON.stringify(answer.params)).toBe(200)
  })
})

test('a volume sent to a classifier of pictures is a 400 that says so', async () => {
  const volume = niftiBytes({ datatype: 2, dim: [3, 8, 8, 8], voxels: new Array(512).fill(1).map((_, i) => i % 7) })
  const answer = await bothWays('inference?model=modality_2d', {}, volume)
  expect(answer.status).toBe(400)
  expect(JSON.stringify(answer.params)).toContain('classifies one picture or slice; the image is a volume of 8 x 8 x 8')
})

describe('several images in one file', () => {
  // The first one has another disc at the same place, of a fifth of the area.
  const small = grey.map((value, i) => {
    const isNear = Math.hypot((i % W) - CENTRE[0], Math.floor(i / W) - CENTRE[1]) < 5
    return inDisc(i % W, Math.floor(i / W)) && !isNear ? value - 130 : value
  })
  const series = niftiBytes({ datatype: 2, dim: [4, W, H, 1, 2], voxels: [...small, ...grey] })
  const click = { foreground: [[...CENTRE, 0]], background: [] }

  test('are refused by name, posted and by session', async () => {
    const answer = await bothWays('deepgrow?model=deepgrow_3d', click, series)
    expect(answer.status).toBe(400)
    expect(JSON.stringify(answer.params)).toContain(
      'holds 2 images (time points or channels), and this model takes one',
    )
  })

  test('but for the one that image_index names', async () => {
    const chosen = await bothWays('deepgrow?model=deepgrow_2d', { ...click, image_index: 1 }, series)
    expect(chosen.params.notes).toEqual(["of the 2 images in the file, number 1 was used ('image_index')"])
    expect(await dice(chosen, plain)).toBeGreaterThan(0.9)
    const first = await bothWays('deepgrow?model=deepgrow_2d', { ...click, image_index: 0 }, series)
    expect(await dice(first, plain)).toBeLessThan(0.9)
  })
})

test('a voxel that is no number is told, posted and by session', async () => {
  const voxels = Array.from(grey, Number)
  voxels[0] = Number.NaN
  const scan = niftiBytes({ datatype: 16, dim: [3, W, H, 1], voxels })
  const answer = await bothWays('deepgrow?model=deepgrow_2d', { foreground: [[...CENTRE, 0]], background: [] }, scan)
  expect(answer.params.notes).toEqual(['1 voxel is NaN or infinite and was read as 0'])
  expect(await dice(answer, plain)).toBeGreaterThan(0.9)
})
