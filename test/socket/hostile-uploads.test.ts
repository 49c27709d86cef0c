/** Damaged DICOM series and zips sent to the real program: answers in words, nothing left behind, and it lives on. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { mutate, random } from '../helpers/mutate.js'
import { ServerProcess } from '../helpers/server-process.js'
import { tempFolder } from '../helpers/volumes.js'
import { zipBytes } from '../helpers/zip.js'

const CASES = 300

let folder: Awaited<ReturnType<typeof tempFolder>>
let server: ServerProcess
beforeAll(async () => {
  folder = await tempFolder()
  server = await ServerProcess.start(join(folder.path, 'ws'))
})
afterAll(async () => {
  await server.end('SIGTERM')
  await folder[Symbol.asyncDispose]()
})

/** Every file below a folder, by its path inside it. */
async function filesBelow(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

it(`${CASES} of them end as sessions or as refusals`, async () => {
  const [encodings, geometry] = [
    await dicomFixtures('encodings', folder.path),
    await dicomFixtures('geometry', folder.path),
  ]
  const seeds = await Promise.all(
    [
      ...['explicit', 'implicit', 'big-endian', 'deflated', 'rle', 'jpeg-ls', 'jpeg-2000'].map((name) =>
        encodings.named(`${name}/`),
      ),
      ...['enhanced-multi-frame', 'enhanced-rle', 'palette'].map((name) => geometry.named(`${name}/`)),
    ].map((paths) => Promise.all(paths.map((path) => readFile(path)))),
  )
  const before = (await filesBelow(folder.path)).length
  const seen: Record<number, number> = {}
  for (let n = 0; n < CASES; n++) {
    const next = random(1000 + n)
    const files = seeds[n % seeds.length]!
    const victim = Math.floor(next() * files.length)
    const changed = files.map((bytes, i) => (i === victim ? mutate(bytes, next) : bytes))
    const form = new FormData()
    const add = (name: string, bytes: Buffer) => form.append(name, new Blob([new Uint8Array(bytes)]), `${name}.bin`)
    if (n % 2 === 0) {
      const zip = zipBytes(changed.map((data, i) => ({ name: `d/${i}.dcm`, data })))
      add('image', n % 4 === 0 ? mutate(zip, next) : zip)
    } else for (const [i, bytes] of changed.entries()) add(`image${i}`, bytes)
    const reply = await fetch(`${server.url}/session/?expiry=600`, { method: 'PUT', body: form })
    const text = await reply.text()
    expect([n, reply.status, reply.status === 200 || (reply.status >= 400 && reply.status < 500), text]).toEqual([
      n,
      reply.status,
      true,
      expect.not.stringContaining(folder.path),
    ])
    seen[reply.status] = (seen[reply.status] ?? 0) + 1
    if (reply.status === 200) {
      const { session_id } = JSON.parse(text) as { session_id: string }
      expect((await fetch(`${server.url}/session/${session_id}`, { method: 'DELETE' })).status).toBe(200)
    }
  }
  expect(seen[200]).toBeGreaterThan(10)
  expect(seen[400]).toBeGreaterThan(50)
  expect((await fetch(`${server.url}/health/ready`)).status).toBe(200)
  // A request's folder goes when its response has ended, a moment after the client has it; while it goes, reading it fails.
  const left = async () => {
    const files = await filesBelow(folder.path).catch(() => undefined)
    return files?.filter((path) => !path.includes(join('ws', 'models'))).length ?? Number.POSITIVE_INFINITY
  }
  await expect.poll(left, { timeout: 10_000 }).toBeLessThanOrEqual(before)
}, 240_000)
