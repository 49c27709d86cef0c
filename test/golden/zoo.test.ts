/**
 * Published configs of MONAI's model zoo, each sent as a user would send it and run through a real server, against what
 * MONAI's own evaluator answered with the same network (make_zoo_golden.py; AIDANT_ZOO names another folder that it made,
 * with whole scans).
 */
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { type RunningServer, startServer } from '../../src/server.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits } from '../helpers/volumes.js'
import { zipBytes } from '../helpers/zip.js'

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
const answers = process.env.AIDANT_ZOO ?? here('zoo')
const zoo = join(sharedData ?? '', 'zoo')

interface Asked {
  /** Files by the name of the item's key. */
  readonly files: Readonly<Record<string, string | readonly string[]>>
  readonly classes: number
}
const asked = (
  existsSync(join(answers, 'asked.json')) ? JSON.parse(readFileSync(join(answers, 'asked.json'), 'utf8')) : {}
) as Record<string, Asked>
const pathOf = (file: string): string => (file.startsWith('golden/') ? here(file.slice(7)) : join(sharedData!, file))

/** The bundle's folder as `zip -r` makes it, with the ONNX file where MONAI's export puts it. */
function bundleZip(name: string): Buffer {
  const config = ['inference.json', 'inference.yaml'].find((file) => existsSync(join(zoo, name, 'configs', file)))!
  return zipBytes([
    ...['metadata.json', config].map((file) => ({
      name: `${name}/configs/${file}`,
      data: readFileSync(join(zoo, name, 'configs', file)),
    })),
    { name: `${name}/models/model.onnx`, data: readFileSync(join(answers, `${name}.onnx`)) },
  ])
}

// a window of 240 x 240 x 160 voxels, run several times when the model is proved, takes a busy machine its time
describe.skipIf(sharedData === undefined)('bundles of the model zoo give MONAI’s answer', { timeout: 240_000 }, () => {
  let workspace: string
  let server: RunningServer
  beforeAll(async () => {
    workspace = await mkdtemp(join(tmpdir(), 'aidant-zoo-'))
    const flags = ['--workspace', workspace, '--port', '0', '--log-level', 'silent', '--device', 'cpu']
    server = await startServer(loadConfig([...flags, '--max-loaded-models', '1'], {}))
  })
  afterAll(async () => {
    await server?.close()
    if (workspace) await rm(workspace, { recursive: true, force: true })
  })

  async function put(name: string): Promise<void> {
    const body = new FormData()
    body.append('data', new Blob([bundleZip(name) as BlobPart]), `${name}.zip`)
    const reply = await fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
    expect(await reply.text()).toContain(`"name":"${name}"`)
    expect(reply.status).toBe(200)
  }

  /** Everything but the label that only an evaluation has. */
  function ask(name: string, query: string): Promise<Response> {
    const body = new FormData()
    for (const [field, files] of Object.entries(asked[name]!.files)) {
      if (field === 'label') continue
      for (const [i, file] of [files].flat().entries()) {
        const part = new Blob([readFileSync(pathOf(file)) as BlobPart])
        body.append(i === 0 ? field : `${field}${i}`, part, basename(file))
      }
    }
    return fetch(`${server.url}/v1/inference?model=${name}&${query}`, { method: 'POST', body })
  }

  it.each(Object.keys(asked).filter((name) => existsSync(join(answers, `${name}.nii.gz`))))(
    '%s: labels',
    async (name) => {
      await put(name)
      const reply = await ask(name, 'output=image')
      const bytes = Buffer.from(await reply.arrayBuffer())
      expect(reply.status, bytes.subarray(0, 600).toString()).toBe(200)
      const { volume: want } = await readVolume([join(answers, `${name}.nii.gz`)], roomyLimits)
      const got = await voxelsOf(bytes, reply.headers.get('content-type')!)
      expect(got.size).toEqual([...want.size])
      if (got.affine) {
        const image = await readVolume([pathOf([Object.values(asked[name]!.files)[0]!].flat()[0]!)], roomyLimits)
        expect(got.affine).toEqual([...image.volume.affine])
      }
      let same = 0
      for (let i = 0; i < want.data.length; i++) if (want.data[i] === got.data[i]) same++
      expect(same / want.data.length).toBeGreaterThanOrEqual(0.998)
    },
  )

  async function voxelsOf(bytes: Buffer, type: string) {
    if (type === 'image/png') {
      const { data, info } = await sharp(bytes).toColourspace('b-w').raw().toBuffer({ resolveWithObject: true })
      // MONAI's pictures are (column, row), as NIfTI's first axes are
      return { size: [info.width, info.height, 1], affine: undefined, data: data as ArrayLike<number> }
    }
    const path = join(workspace, `answer.${type.includes('gzip') || bytes[0] === 0x1f ? 'nii.gz' : 'nii'}`)
    await (await import('node:fs/promises')).writeFile(path, bytes)
    const { volume } = await readVolume([path], roomyLimits)
    return { size: [...volume.size], affine: [...volume.affine], data: volume.data as ArrayLike<number> }
  }

  it.each(Object.keys(asked).filter((name) => existsSync(join(answers, `${name}.json`))))(
    '%s: scores',
    async (name) => {
      await put(name)
      const reply = await ask(name, 'output=json')
      const { scores, prediction } = (await reply.json()) as { scores: Record<string, number>; prediction: string[] }
      const want = JSON.parse(readFileSync(join(answers, `${name}.json`), 'utf8')) as number[]
      const got = Object.values(scores)
      expect(got).toHaveLength(want.length)
      for (const [i, score] of want.entries()) expect(Math.abs(got[i]! - score)).toBeLessThan(1e-3)
      expect(prediction).toEqual([Object.keys(scores)[want.indexOf(Math.max(...want))]])
    },
  )
})
