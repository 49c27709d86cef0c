/** MONAI Label's protocol against the real program: its own Python client unmodified, and masks that are those of /v1. */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import type { Vec3, Volume } from '../../src/volume/volume.js'
import { clickConfig } from '../helpers/click-model.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { pythonWith } from '../helpers/python.js'
import { fixtureModel } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { sharedData } from '../helpers/shared-data.js'
import {
  type AxisOrder,
  axisOrders,
  inAxisOrder,
  niftiFile,
  roomyLimits,
  scaleAffine,
  volumeOf,
} from '../helpers/volumes.js'

const python = pythonWith(['monailabel.client.client'])

/** What test/helpers/monai_client.py prints. */
interface Said {
  readonly auth: boolean
  readonly training: boolean
  readonly info: { readonly labels: readonly string[]; readonly models: Readonly<Record<string, unknown>> }
  readonly session: { readonly session_id: string; readonly image: { readonly size: readonly number[] } }
  readonly removed: { readonly session_id: string }
  readonly by_session: { readonly file: string; readonly params: { readonly label_names: unknown } }
  readonly by_file: { readonly file: string }
  readonly stored: unknown
  readonly sample: { readonly id: string; readonly name: string }
  readonly by_image: { readonly file: string; readonly params: { readonly label_names: unknown } }
  readonly saved: unknown
  readonly datastore: { readonly objects: Readonly<Record<string, unknown>> }
  readonly label: string
  readonly no_sample: unknown
  readonly no_strategy: { readonly refused: number }
  readonly no_image: { readonly message: string }
}

const SIZE: Vec3 = [14, 12, 9]
const CLICK: Vec3 = [6, 5, 4]
/** A ball, brightest in its middle, and a gradient that tells the axes apart. */
const SCAN: Volume = volumeOf(SIZE, {
  affine: scaleAffine([1, 1, 1.5], [-20, 4, 7]),
  value: (i) => {
    const [x, y, z] = [i % 14, Math.floor(i / 14) % 12, Math.floor(i / 168)]
    return 100 - 4 * ((x - 6) ** 2 + (y - 5) ** 2 + 2 * (z - 4) ** 2) + x + 2 * y + 3 * z
  },
})

let root: string
let server: ServerProcess
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-monailabel-'))
  server = await ServerProcess.startCompiled(join(root, 'workspace'), ['--device', 'cpu', '--datastore', 'workspace'])
  const body = new FormData()
  body.append('config', new Blob([JSON.stringify(clickConfig(3))]), 'config_aiaa.json')
  body.append('data', new Blob([new Uint8Array(fixtureModel('guidance_3d.onnx'))]), 'model.onnx')
  const reply = await fetch(`${server.url}/admin/model/clicks`, { method: 'PUT', body })
  expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
})
afterAll(async () => {
  await server?.end('SIGTERM')
  await rm(root, { recursive: true, force: true, maxRetries: 3 })
})

interface Sent {
  readonly file?: Uint8Array
  readonly session?: string
  readonly params: Readonly<Record<string, unknown>>
}

/** The bare file that a route gives; the upload's part is called as that protocol calls it. */
async function maskBy(path: string, part: string, { file, session, params }: Sent): Promise<Buffer> {
  const body = new FormData()
  body.append('params', JSON.stringify(params))
  if (file) body.append(part, new Blob([new Uint8Array(file)]), 'scan')
  const query = session === undefined ? '' : `&session_id=${session}`
  const reply = await fetch(`${server.url}${path}output=image${query}`, { method: 'POST', body })
  const bytes = Buffer.from(await reply.arrayBuffer())
  expect(reply.status, bytes.toString('latin1', 0, 300)).toBe(200)
  return bytes
}

const byMonai = (sent: Sent) => maskBy('/infer/clicks?image=scan&', 'file', sent)
const byAiaa = (sent: Sent) => maskBy('/v1/deepgrow?model=clicks&', 'image', sent)

async function voxelsOf(bytes: Buffer, name: string): Promise<number> {
  const path = join(root, name)
  await writeFile(path, bytes)
  const { volume } = await readVolume([path], roomyLimits)
  return Array.from(volume.data).filter((value) => value !== 0).length
}

/** Where a voxel of the volume lies in the file of another axis order. */
function moved([x, y, z]: Vec3, { perm, flip }: AxisOrder): Vec3 {
  const old = [x, y, z]
  return perm.map((axis, i) => (flip[i] ? SIZE[axis]! - 1 - old[axis]! : old[axis]!)) as unknown as Vec3
}

test('masks are those of /v1/deepgrow, byte for byte, on all 48 axis orders', async () => {
  const counts = new Set<number>()
  for (const order of axisOrders) {
    const path = join(root, `scan-${order.codes}.nii`)
    await writeVolume(inAxisOrder(SCAN, order), path, { extension: '.nii', kind: 'intensity' })
    const params = { foreground: [moved(CLICK, order)], background: [], result_extension: '.nii' }
    const sent = { file: await readFile(path), params }
    const mask = await byMonai({ ...sent, params: { ...params, client_id: 'me', label: 'cyst', slice: 4 } })
    expect(mask.equals(await byAiaa(sent)), order.codes).toBe(true)
    counts.add(await voxelsOf(mask, 'mask.nii'))
  }
  expect(Math.min(...counts)).toBeGreaterThan(0)
}, 240_000)

describe('masks are those of /v1/deepgrow on DICOM series', async () => {
  test.each(['instance-numbers-backwards', 'flipped-rows', 'flipped-both', 'sagittal', 'oblique'])(
    '%s',
    async (name) => {
      const fixtures = await dicomFixtures('geometry', await mkdtemp(join(root, 'dicom-')))
      const body = new FormData()
      for (const path of fixtures.named(`${name}/`))
        body.append('files', new Blob([new Uint8Array(await readFile(path))]), 'a.dcm')
      body.append('client_id', 'me')
      const { session_id: session } = (await (
        await fetch(`${server.url}/session/`, { method: 'PUT', body })
      ).json()) as {
        session_id: string
      }
      for (const extension of ['.nrrd', '.nii.gz']) {
        const params = {
          foreground: [[2, 3, 1]],
          background: [],
          result_extension: extension,
          result_dtype: 'uint8',
          result_compress: false,
        }
        const mask = await byMonai({ session, params })
        expect(mask.equals(await byAiaa({ session, params })), extension).toBe(true)
        expect(await voxelsOf(mask, `mask${extension}`)).toBeGreaterThan(0)
      }
    },
  )
})

describe.skipIf(!python)("MONAI Label's own Python client, unmodified (needs monailabel from PyPI)", () => {
  let said: Said
  beforeAll(async () => {
    const scan = await niftiFile(root, SCAN, 'scan.nii.gz')
    const script = fileURLToPath(new URL('../helpers/monai_client.py', import.meta.url))
    const { stdout } = await promisify(execFile)(python!, [script, server.url, root, 'clicks'], {
      env: { ...process.env, no_proxy: '127.0.0.1' },
    })
    expect(scan).toBe(join(root, 'scan.nii.gz'))
    said = JSON.parse(stdout)
  })

  test('connects: nobody logs in, nothing trains, the models are listed', () => {
    expect([said.auth, said.training]).toEqual([false, false])
    expect(said.info.models.clicks).toMatchObject({ type: 'deepgrow', dimension: 3 })
    expect(said.info.models.deepgrow_2d).toMatchObject({ type: 'deepgrow', dimension: 2, labels: {} })
    expect(said.info.labels).toContain('anterior hippocampus')
  })

  test('makes, asks after and ends a session', () => {
    expect(said.session.image.size).toEqual(SIZE)
    expect(said.removed.session_id).toBe(said.session.session_id)
  })

  test('gets label maps by session and by file, each under a name with its suffix', async () => {
    expect(said.by_session.params.label_names).toEqual({ cyst: 1 })
    expect(said.by_session.file).toBe(join(root, 'by_session.nrrd'))
    expect(said.by_file.file).toBe(join(root, 'by_file.nii.gz'))
    const [byFile, bySession] = await Promise.all(
      [said.by_file.file, said.by_session.file].map((path) => readVolume([path], roomyLimits)),
    )
    expect([...byFile!.volume.data]).toEqual([...bySession!.volume.data])
    const mask = await byAiaa({
      file: await readFile(join(root, 'scan.nii.gz')),
      params: { foreground: [CLICK], background: [] },
    })
    expect(mask.equals(await readFile(said.by_file.file))).toBe(true)
  })

  test('stores an image under any name, is given it as the next sample, runs a model on it', async () => {
    expect(said.stored).toEqual({ image: 'MR Head/1' })
    expect(said.sample).toMatchObject({ id: 'MR Head/1', name: 'MR_Head_1.nii.gz' })
    expect((await readFile(said.by_image.file)).equals(await readFile(said.by_file.file))).toBe(true)
  })

  test('saves a label, finds it in the list, gets it back; then no sample is left', async () => {
    expect(said.saved).toEqual({ image: 'MR Head/1', label: 'MR Head/1' })
    expect(said.datastore.objects['MR Head/1']).toMatchObject({
      image: { ext: '.nii.gz' },
      labels: { final: { ext: '.nii.gz', info: { params: { label_names: { cyst: 1 } } } } },
    })
    expect((await readFile(said.label)).equals(await readFile(said.by_image.file))).toBe(true)
    expect(said.no_sample).toEqual({})
  })

  test('is told what there is not, in words', () => {
    expect(said.no_strategy.refused).toBe(404)
    expect(said.no_image.message).toMatch(/Status: 404.*no image of this name/)
  })
})

const real = join(sharedData ?? '', 'robust/nifti_space')
test.skipIf(!sharedData)(
  'masks are those of /v1/deepgrow on a real head in 24 axis orders, posted, by session and by name (needs shared data)',
  async () => {
    for (const name of await readdir(real)) {
      const file = await readFile(join(real, name))
      const { volume } = await readVolume([join(real, name)], roomyLimits)
      const click = volume.size.map((n) => n >> 1)
      const params = { foreground: [click], background: [], result_extension: '.nii' }
      const wanted = await byAiaa({ file, params })
      expect(await voxelsOf(wanted, 'wanted.nii'), name).toBeGreaterThan(0)
      const form = new FormData()
      form.append('file', new Blob([new Uint8Array(file)]), name)
      const put = await fetch(`${server.url}/datastore/?image=${name}`, { method: 'PUT', body: form })
      expect(put.status, await put.text()).toBe(200)
      const session = new FormData()
      session.append('files', new Blob([new Uint8Array(file)]), name)
      const made = await fetch(`${server.url}/session/`, { method: 'PUT', body: session })
      const { session_id } = (await made.json()) as { session_id: string }
      for (const mask of [
        await byMonai({ file, params }),
        await byMonai({ session: session_id, params }),
        await maskBy(`/infer/clicks?image=${name}&`, 'file', { params }),
      ])
        expect(mask.equals(wanted), name).toBe(true)
    }
  },
  240_000,
)
