/**
 * Small models of nnU-Net v2, each zipped as nnU-Net lays it out, sent as a user would send it and run through a real server,
 * against what nnU-Net's own predictor answered with the same networks (make_nnunet_golden.py).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { type RunningServer, startServer } from '../../src/server.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits } from '../helpers/volumes.js'
import { zipBytes } from '../helpers/zip.js'

const answers = fileURLToPath(new URL('nnunet', import.meta.url))
const asked = JSON.parse(readFileSync(join(answers, 'asked.json'), 'utf8')) as Record<
  string,
  { images: string[]; tta: boolean; resampled: boolean }
>
const IMAGES: Readonly<Record<string, string>> = {
  ct: '../transform-ct.nii.gz',
  mr: '../transform-hippocampus.nii.gz',
  thick: '../transform-oblique.nii.gz',
}
const imagePath = (name: string): string => join(answers, IMAGES[name] ?? `${name}.nii.gz`)

let workspace: string
let server: RunningServer
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-nnunet-'))
  const flags = ['--workspace', workspace, '--port', '0', '--log-level', 'silent', '--device', 'cpu']
  server = await startServer(loadConfig([...flags, '--max-loaded-models', '1'], {}))
})
afterAll(async () => {
  await server?.close()
  if (workspace) await rm(workspace, { recursive: true, force: true })
})

/** The files of a folder as a zip; `prefix` stands before each name, and `dropped` folders do not. */
function zipOf(folder: string, { prefix = '', dropped = '' } = {}): Buffer {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return zipBytes(
    files.map((entry) => {
      const path = join(entry.parentPath, entry.name)
      return { name: `${prefix}${path.slice(folder.length + 1).replace(dropped, '')}`, data: readFileSync(path) }
    }),
  )
}

async function put(name: string, zip: Buffer): Promise<Response> {
  const body = new FormData()
  body.append('data', new Blob([zip as BlobPart]), `${name}.zip`)
  return fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
}

async function ask(name: string, images: readonly string[], params: object = {}) {
  const body = new FormData()
  // the wrong way round: nnU-Net goes by the numbers in the names
  for (const [i, image] of [...images.entries()].toReversed())
    body.append(
      body.has('image') ? `image${i}` : 'image',
      new Blob([readFileSync(image) as BlobPart]),
      `case_000${i}.nii.gz`,
    )
  body.append('params', JSON.stringify(params))
  return answer(`model=${name}`, body)
}

async function answer(query: string, body: FormData) {
  const reply = await fetch(`${server.url}/v1/inference?${query}&output=image`, { method: 'POST', body })
  const bytes = Buffer.from(await reply.arrayBuffer())
  expect(reply.status, bytes.subarray(0, 600).toString()).toBe(200)
  const path = join(workspace, bytes[0] === 0x1f ? 'answer.nii.gz' : 'answer.nii')
  await writeFile(path, bytes)
  return (await readVolume([path], roomyLimits)).volume
}

async function agreement(got: Awaited<ReturnType<typeof ask>>, path: string): Promise<number> {
  const { volume: want } = await readVolume([path], roomyLimits)
  expect(got.size).toEqual(want.size)
  let same = 0
  for (let i = 0; i < want.data.length; i++) if (want.data[i] === got.data[i]) same++
  return same / want.data.length
}

describe('a zip of nnU-Net v2 gives the answer of its own predictor', () => {
  it.each(Object.entries(asked))('%s', async (name, { images, tta, resampled }) => {
    const loaded = await put(name, zipOf(join(answers, name)))
    expect(loaded.status, await loaded.clone().text()).toBe(200)
    const got = await ask(name, images.map(imagePath), tta ? { tta: true } : {})
    expect(await agreement(got, join(answers, `${name}.nii.gz`))).toBeGreaterThanOrEqual(resampled ? 0.985 : 0.995)
  })
})

describe('the channels of a case', () => {
  const { images } = asked.channels!
  const files = images.map((image, i) => ({ name: `case_000${i}.nii.gz`, data: readFileSync(imagePath(image)) }))
  const want = join(answers, 'channels.nii.gz')
  /** The files in the wrong order: the numbers in their names count. */
  const inForm = (list: readonly { name: string; data: Buffer }[]) => {
    const body = new FormData()
    for (const [i, { name, data }] of list.toReversed().entries())
      body.append(i === 0 ? 'image' : `image${i}`, new Blob([data as BlobPart]), name)
    return body
  }
  const zipped = { name: 'case.zip', data: zipBytes(files.toReversed()) }

  it('come in a zip too', async () => {
    await put('channels', zipOf(join(answers, 'channels')))
    expect(await agreement(await answer('model=channels', inForm([zipped])), want)).toBeGreaterThanOrEqual(0.985)
  })
  it.each([
    ['several files', files],
    ['a zip', [zipped]],
  ])('or as a session of %s', async (_, list) => {
    await put('channels', zipOf(join(answers, 'channels')))
    const made = await fetch(`${server.url}/session/`, { method: 'PUT', body: inForm(list) })
    expect(made.status, await made.clone().text()).toBe(200)
    const { session_id } = (await made.json()) as { session_id: string }
    const body = new FormData()
    body.append('params', '{}')
    const got = await answer(`model=channels&session_id=${session_id}`, body)
    expect(await agreement(got, want)).toBeGreaterThanOrEqual(0.985)
  })
})

describe.skipIf(sharedData === undefined)('an exported archive of the shared data', () => {
  const root = join(sharedData ?? '', 'nnunet', 'Dataset901_Made')
  const folder = 'nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres'
  it.each([
    ['with nnU-Net’s own folders', zipOf, root, { prefix: 'Dataset901_Made/' }],
    ['with its files at the root', zipOf, join(root, folder), {}],
  ])('%s is taken as it is', async (_, zip, from, options) => {
    const loaded = await put('made', zip(from, options))
    expect(loaded.status, await loaded.clone().text()).toBe(200)
    expect(await loaded.json()).toMatchObject({ labels: ['liver', 'spleen', 'kidney'], type: 'segmentation' })
  })
  it('answers as nnU-Net did', async () => {
    await put('made', zipOf(root))
    const got = await ask('made', [join(sharedData!, 'nifti/totalsegmentator/example_ct_sm.nii.gz')])
    const want = join(sharedData!, 'nnunet', 'expected_example_ct_sm.nii.gz')
    expect(await agreement(got, want)).toBeGreaterThanOrEqual(0.995)
  })
})
