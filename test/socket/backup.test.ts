/** docs/admin.md: a copy of the workspace that was taken while the server worked is a workspace; one of a newer Aidant is refused. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { clickConfig } from '../helpers/click-model.js'
import { formData } from '../helpers/form-data.js'
import { hasProgram } from '../helpers/peer-process.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, volumeOf } from '../helpers/volumes.js'

const run = promisify(execFile)
const ADMIN = readFileSync(new URL('../../docs/admin.md', import.meta.url), 'utf8')
const FLAGS = ['--log-level', 'silent']

let folder: string
let scan: Buffer
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aidant-backup-'))
  scan = await readFile(await niftiFile(folder, volumeOf([20, 18, 8], { value: (i) => (i * 7919) % 500 })))
})
afterEach(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }))

async function ok(url: string, method: string, parts?: Readonly<Record<string, string | Uint8Array>>): Promise<Buffer> {
  const reply = await fetch(url, { method, body: parts ? formData(parts) : null })
  const bytes = Buffer.from(await reply.arrayBuffer())
  if (!reply.ok) throw new Error(`${reply.status} ${bytes.toString('latin1', 0, 300)}`)
  return bytes
}

const openSession = async ({ url }: ServerProcess) =>
  (JSON.parse((await ok(`${url}/session/`, 'PUT', { image: scan })).toString()) as { session_id: string }).session_id
const click = async ({ url }: ServerProcess, session: string) =>
  gunzipSync(
    await ok(`${url}/v1/deepgrow?model=clicker&session_id=${session}&output=image`, 'POST', {
      params: '{"foreground":[[10,9,4]],"background":[]}',
    }),
  )

test.skipIf(!hasProgram('tar'))(
  'the copy has the models and the sessions, and answers as the server does',
  async () => {
    const workspace = join(folder, 'workspace')
    const server = await ServerProcess.startCompiled(workspace, FLAGS)
    let copy: ServerProcess | undefined
    try {
      const data = readFileSync(new URL('../fixtures/models/guidance_2d.onnx', import.meta.url))
      await ok(`${server.url}/admin/model/clicker`, 'PUT', { config: JSON.stringify(clickConfig(2)), data })
      const session = await openSession(server)
      const wanted = await click(server, session)

      // Sessions come and go, and clicks are answered, while the copy is taken.
      let busy = true
      const work = Promise.all(
        [1, 2, 3].map(async () => {
          while (busy) {
            const other = await openSession(server)
            await click(server, other)
            await ok(`${server.url}/session/${other}`, 'DELETE')
          }
        }),
      )
      // The very line that docs/admin.md gives.
      const line = /^tar .*$/m.exec(ADMIN)![0]
      const script = line
        .replace('/var/lib/aidant/workspace', workspace)
        .replace('backup.tar', join(folder, 'backup.tar'))
      expect(script).not.toBe(line)
      for (let i = 0; i < 3; i++)
        // 1: a file changed or went while it was read.
        await run('sh', ['-c', script]).catch((error: { code?: number }) => expect(error.code).toBe(1))
      busy = false
      await work

      const restored = join(folder, 'restored')
      await mkdir(restored)
      await run('tar', ['-xf', join(folder, 'backup.tar'), '-C', restored])
      copy = await ServerProcess.startCompiled(restored, FLAGS)
      expect(await click(copy, session)).toEqual(wanted)
      expect(await click(copy, await openSession(copy))).toEqual(wanted)
      expect(await click(server, session)).toEqual(wanted)
    } finally {
      await copy?.end('SIGTERM')
      await server.end('SIGTERM')
    }
  },
)

test('a workspace of a newer Aidant is refused with words, and stays as it was', async () => {
  const workspace = join(folder, 'workspace')
  await mkdir(workspace)
  const mark = '{"format":2,"id":"a","createdAt":"2030-01-01T00:00:00Z"}'
  await writeFile(join(workspace, 'aidant-workspace.json'), mark)
  await expect(ServerProcess.startCompiled(workspace, FLAGS)).rejects.toThrow(
    /made by a newer Aidant; this one knows format 1/,
  )
  expect(await readFile(join(workspace, 'aidant-workspace.json'), 'utf8')).toBe(mark)
})
