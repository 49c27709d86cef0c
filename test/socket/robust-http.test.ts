/** Odd and broken files over HTTP: each gives an image or a refusal that says why, and the next request is answered. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, modelConfig } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { sharedData } from '../helpers/shared-data.js'

/** What cannot be read at all, and the code that says so; all other files make a session. */
const UNREADABLE: Readonly<Record<string, string>> = {
  'NOTES.tsv': 'UNSUPPORTED_FORMAT',
  'analyze75.hdr': 'UNSUPPORTED_FORMAT',
  'analyze75.img': 'UNSUPPORTED_FORMAT',
  'bad_magic.nii': 'UNSUPPORTED_FORMAT',
  'complex64.nii.gz': 'UNSUPPORTED_FORMAT',
  'dim0_is_9.nii': 'UNREADABLE_IMAGE',
  'dim_huge_claim.nii': 'TOO_LARGE',
  'dim_negative.nii': 'UNREADABLE_IMAGE',
  'dim_zero.nii': 'UNREADABLE_IMAGE',
  'empty.nii.gz': 'UNREADABLE_IMAGE',
  'gz_bomb_256MB.nii.gz': 'UNREADABLE_IMAGE',
  'gz_corrupt.nii.gz': 'UNREADABLE_IMAGE',
  'gz_truncated.nii.gz': 'UNREADABLE_IMAGE',
  'header_only.nii': 'UNREADABLE_IMAGE',
  'html_error_page.nii.gz': 'UNSUPPORTED_FORMAT',
  'nib_analyze.hdr': 'UNSUPPORTED_FORMAT',
  'nib_nifti1.hdr': 'UNREADABLE_IMAGE',
  'nib_nifti2.hdr': 'UNREADABLE_IMAGE',
  'nib_row_major.dconn.nii': 'UNSUPPORTED_FORMAT',
  'nib_test.mgz': 'UNSUPPORTED_FORMAT',
  'nrjs_air.hdr.gz': 'UNREADABLE_IMAGE',
  'nrjs_air.img.gz': 'UNSUPPORTED_FORMAT',
  'nrjs_not-nifti.nii': 'UNSUPPORTED_FORMAT',
  'pair_nifti1.hdr': 'UNREADABLE_IMAGE',
  'pair_nifti1.img': 'UNSUPPORTED_FORMAT',
  'short_header_100bytes.nii': 'UNREADABLE_IMAGE',
  'truncated_data.nii': 'UNREADABLE_IMAGE',
  'unknown_datatype.nii': 'UNREADABLE_IMAGE',
}
/** Colours and time points: sessions keep them, a network or a contour that wants one channel refuses them. */
const SEVERAL_CHANNELS = [
  'fourd_3vol.nii.gz',
  'fourd_4channels.nii.gz',
  'nib_example_nifti2.nii.gz',
  'nib_functional.nii',
  'nrjs_5D_small.nii',
  'nrjs_5D_zeros.nii.gz',
]
/** Colours: a model of one channel gets their luminance, and no mask is one. */
const COLOURS = ['rgb24.nii.gz', 'rgba32.nii.gz']

const CONFIG = modelConfig({
  pre_transforms: [
    { name: 'LoadImaged', args: { keys: 'image' } },
    { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
    { name: 'Orientationd', args: { keys: 'image', axcodes: 'RAS' } },
    { name: 'Spacingd', args: { keys: 'image', pixdim: [2, 2, 2], mode: 'bilinear' } },
    { name: 'NormalizeIntensityd', args: { keys: 'image', nonzero: true } },
  ],
})

let workspace: string
let server: ServerProcess

async function send(method: string, path: string, files: readonly Uint8Array[]) {
  const body = new FormData()
  files.forEach((file, i) => {
    body.append(files.length === 1 ? 'image' : `image${i}`, new Blob([new Uint8Array(file)]), 'scan.nii.gz')
  })
  const reply = await fetch(`${server.url}${path}`, { method, body })
  const bytes = Buffer.from(await reply.arrayBuffer())
  const error = reply.status === 200 ? undefined : JSON.parse(bytes.toString())
  if (error) {
    expect(reply.status, bytes.toString()).toBeGreaterThanOrEqual(400)
    expect(reply.status, bytes.toString()).toBeLessThan(500)
    expect(error).toMatchObject({ success: false, error: { message: [expect.stringMatching(/\w+ \w+/)] } })
    expect(bytes.toString()).not.toContain(workspace)
  }
  return { status: reply.status, code: error?.code as string | undefined, bytes }
}

const segment = (...files: Uint8Array[]) => send('POST', '/v1/segmentation?model=bright&output=image', files)
const contour = (...files: Uint8Array[]) => send('POST', '/v1/mask2polygon', files)
async function keep(...files: Uint8Array[]) {
  const reply = await send('PUT', '/session/', files)
  if (reply.status === 200) {
    const { session_id } = JSON.parse(reply.bytes.toString())
    await fetch(`${server.url}/session/${session_id}`, { method: 'DELETE' })
  }
  return reply
}

async function runnerPids(): Promise<number[]> {
  const runners = (await (await fetch(`${server.url}/admin/ps`)).json()) as { pid: number }[]
  return runners.map(({ pid }) => pid)
}

async function leftovers(): Promise<string[]> {
  const tmp = join(workspace, 'tmp')
  return (await Promise.all((await readdir(tmp)).map((name) => readdir(join(tmp, name))))).flat()
}

const folder = sharedData && existsSync(join(sharedData, 'robust')) ? join(sharedData, 'robust') : undefined
const paths = folder
  ? (await readdir(folder, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
  : []

describe.skipIf(!folder)('every file of ../shared/data/robust (skipped without it)', () => {
  const good = niftiBytes({ dim: [3, 4, 3, 2], datatype: 16, voxels: Array.from({ length: 24 }, (_, i) => i) })
  let pids: number[]

  beforeAll(async () => {
    workspace = await mkdtemp(join(tmpdir(), 'aidant-robust-'))
    server = await ServerProcess.start(workspace, ['--device', 'cpu', '--tool-runners', '1'])
    const body = new FormData()
    body.append('config', new Blob([JSON.stringify(CONFIG)]), 'config_aiaa.json')
    body.append('data', new Blob([new Uint8Array(fixtureModel('threshold.onnx'))]), 'model.onnx')
    const reply = await fetch(`${server.url}/admin/model/bright`, { method: 'PUT', body })
    expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
    expect((await segment(good)).status).toBe(200)
    pids = await runnerPids()
  })
  afterAll(async () => {
    await server?.end('SIGTERM')
    await rm(workspace, { recursive: true, force: true, maxRetries: 3 })
  })

  test.each(paths.map((path) => ({ name: basename(path), path })))('$name', async ({ name, path }) => {
    const file = await readFile(path)
    const unreadable = UNREADABLE[name]
    const kept = await keep(file)
    expect(kept.code).toBe(unreadable)
    const labels = await segment(file)
    const polygons = await contour(file)
    if (unreadable !== undefined) {
      expect([labels.code, polygons.code]).toEqual([unreadable, unreadable])
      expect((await segment(good)).status).toBe(200)
      expect((await contour(good)).status).toBe(200)
    } else if (SEVERAL_CHANNELS.includes(name)) {
      expect([labels.code, polygons.code]).toEqual(['BAD_PARAMS', 'BAD_GEOMETRY'])
    } else if (COLOURS.includes(name)) {
      expect([labels.status, polygons.code]).toEqual([200, 'BAD_GEOMETRY'])
    } else {
      expect([labels.status, polygons.status]).toEqual([200, 200])
    }
  })

  test.each([
    ['synth/pair_nifti1.hdr', 'synth/pair_nifti1.img'],
    ['synth/pair_nifti1.img', 'synth/pair_nifti1.hdr'],
    ['nrjs_air.hdr.gz', 'nrjs_air.img.gz'],
  ])('%s and %s together are one image', async (first, second) => {
    const files = [await readFile(join(folder!, first)), await readFile(join(folder!, second))]
    expect((await segment(...files)).status).toBe(200)
    expect((await keep(...files)).status).toBe(200)
  })

  test('none of it ended a runner, filled the memory of the server, or left a file', async () => {
    expect(await runnerPids()).toEqual(pids)
    await expect.poll(leftovers).toEqual([])
    expect(await readdir(join(workspace, 'sessions'))).toEqual([])
    if (process.platform !== 'linux') return
    const status = await readFile(`/proc/${server.pid}/status`, 'utf8')
    expect(Number(/VmHWM:\s+(\d+) kB/.exec(status)![1])).toBeLessThan(250 * 1024)
  })
})
