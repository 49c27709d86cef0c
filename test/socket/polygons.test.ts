/** Polygons through the real program: a socket, a tool runner in a child process, files in between. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeVolume } from '../../src/formats/write-volume.js'
import { makeVolume } from '../../src/volume/volume.js'
import { ServerProcess } from '../helpers/server-process.js'
import { scaleAffine } from '../helpers/volumes.js'

let workspace: string
let server: ServerProcess
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-polygons-'))
  server = await ServerProcess.start(workspace)
})
afterAll(async () => {
  await server.end('SIGTERM')
  await rm(workspace, { recursive: true, force: true, maxRetries: 3 })
})

/** A ring of radius 20 about the middle of the second of three slices of 64 x 64. */
async function ringMask(): Promise<Buffer> {
  const data = new Uint8Array(3 * 64 * 64)
  for (let y = 0; y < 64; y++)
    for (let x = 0; x < 64; x++) {
      const radius = Math.hypot(x - 32, y - 32)
      if (radius < 20 && radius > 8) data[4096 + 64 * y + x] = 1
    }
  const path = join(workspace, 'ring.nii.gz')
  const volume = makeVolume([64, 64, 3], scaleAffine([1, 1, 2]), data)
  await writeVolume(volume, path, { extension: '.nii.gz', kind: 'labels' })
  return await readFile(path)
}

async function post(path: string, params: unknown, image: Buffer): Promise<Response> {
  const form = new FormData()
  form.set('params', JSON.stringify(params))
  form.set('image', new Blob([new Uint8Array(image)]), 'mask.nii.gz')
  return fetch(`${server.url}${path}`, { method: 'POST', body: form })
}

test('one call feeds the next: mask to polygons, a vertex dragged, a mask again; nothing is left behind', async () => {
  const mask = await ringMask()
  const reply = await post('/v1/mask2polygon', { more_points: 3 }, mask)
  expect(reply.status).toBe(200)
  expect(Number(reply.headers.get('content-length'))).toBeGreaterThan(0)
  const poly = (await reply.json()) as number[][][][]
  expect(poly.map((list) => list.length)).toEqual([0, 2, 0])

  const drag = { dimension: 3, poly, slice_index: 1, polygon_index: 0, vertex_index: 3, vertex_offset: [-3, 2] }
  const fixed = await post(
    '/v1/fixpolygon?output=results',
    { ...drag, propagate_neighbor: 2, propagate_neighbor_3d: 1 },
    mask,
  )
  expect(fixed.status).toBe(200)
  const after = ((await fixed.json()) as { poly: number[][][][] }).poly
  const [column, row] = poly[1]![0]![3]!
  expect(after[1]![0]![3]).toEqual([column! - 3, row! + 2])
  expect(after[1]![1]).toEqual(poly[1]![1])

  const whole = await post('/v1/fixpolygon', { ...drag, propagate_neighbor: 0 }, mask)
  expect(whole.headers.get('content-type')).toMatch(/^multipart\/form-data; boundary=/)
  expect((await whole.arrayBuffer()).byteLength).toBe(Number(whole.headers.get('content-length')))
  await expect
    .poll(
      async () =>
        (await readdir(join(workspace, 'tmp'), { recursive: true, withFileTypes: true })).filter(
          (entry) =>
            entry.name.startsWith('result') || entry.name.startsWith('input') || entry.name.startsWith('polygons'),
        ).length,
    )
    .toBe(0)
})

test('a request that a tool runner refuses is refused with its words, and the runner goes on', async () => {
  const mask = await ringMask()
  const refused = await post('/v1/fixpolygon', { poly: [[], [], []], vertex_offset: [1, 1] }, mask)
  expect(refused.status).toBe(400)
  expect(await refused.json()).toMatchObject({ code: 'BAD_PARAMS', error: { message: ["'slice_index' is missing"] } })
  expect((await post('/v1/mask2polygon', {}, mask)).status).toBe(200)
})
