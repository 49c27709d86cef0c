/** The folder that --workspace names, against the real program: what is somebody else's stays, whoever else is there lives. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync, utimesSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { formData } from '../helpers/form-data.js'
import { fixtureModel, modelConfig } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { mayMount, mountDisk } from '../helpers/small-disk.js'
import { niftiFile, volumeOf } from '../helpers/volumes.js'

let root: string
const open: { end(signal: 'SIGKILL'): Promise<unknown> }[] = []
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-ours-'))
})
afterEach(async () => {
  for (const server of open.splice(0)) await server.end('SIGKILL')
  await rm(root, { recursive: true, force: true })
})

async function start(workspace: string, flags: readonly string[] = []): Promise<ServerProcess> {
  const server = await ServerProcess.start(workspace, flags)
  open.push(server)
  return server
}

/** Every file under a folder with its bytes. */
function contents(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(folder, name)).isFile(),
  )
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(folder, name), 'latin1')]))
}

const scan = async () => readFile(await niftiFile(root, volumeOf([8, 8, 8], { value: (i) => (i % 100) / 100 })))

async function putSession(server: ServerProcess, query = ''): Promise<string> {
  const body = formData({ image: await scan() })
  const reply = await fetch(`${server.url}/session/${query}`, { method: 'PUT', body })
  expect(reply.status).toBe(200)
  return ((await reply.json()) as { session_id: string }).session_id
}

async function putModel(server: ServerProcess, name: string, fixture: string, config: unknown): Promise<void> {
  const body = formData({ config: JSON.stringify(config), data: fixtureModel(fixture) })
  const reply = await fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
  expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
}

describe('a start', () => {
  test('in a clone of the project removes nothing: the folder is refused, and what would do is said', async () => {
    const clone = join(root, 'clone')
    await mkdir(clone)
    for (const part of ['models', 'package.json', 'README.md'])
      await cp(fileURLToPath(new URL(`../../${part}`, import.meta.url)), join(clone, part), { recursive: true })
    const before = contents(clone)
    expect(Object.keys(before).length).toBeGreaterThan(18)
    await expect(start(clone)).rejects.toThrow(/--workspace: .* is neither empty nor a workspace.*an empty folder/s)
    expect(contents(clone)).toEqual(before)
  })

  test('in a folder whose models are the catalogue removes nothing', async () => {
    const data = join(root, 'data')
    await mkdir(join(data, 'models', 'spleen'), { recursive: true })
    await writeFile(join(data, 'models', 'spleen', 'config_aiaa.json'), JSON.stringify(modelConfig()))
    await writeFile(join(data, 'models', 'spleen', 'model.onnx'), fixtureModel('threshold.onnx'))
    await writeFile(join(data, 'models', 'liver.zip'), 'zip')
    const before = contents(data)
    await expect(start(data, ['--model-catalog', join(data, 'models')])).rejects.toThrow(
      'neither empty nor a workspace',
    )
    expect(contents(data)).toEqual(before)
  })

  test('in a workspace that was here before takes it over with its models, and leaves alone what others put there', async () => {
    const workspace = join(root, 'ws')
    const first = await start(workspace)
    await putModel(first, 'organ', 'threshold.onnx', modelConfig())
    const session = await putSession(first)
    expect(await first.end('SIGTERM')).toBe(0)
    // As servers before the mark left it, with somebody's files in it.
    await rm(join(workspace, 'aidant-workspace.json'))
    await rm(join(workspace, 'servers'), { recursive: true })
    for (const folder of ['models/mine', 'sessions/holiday', 'tmp/own']) {
      await mkdir(join(workspace, folder), { recursive: true })
      await writeFile(join(workspace, folder, 'a.txt'), folder)
    }
    await writeFile(join(workspace, 'models', 'organ', 'notes.txt'), 'mine')
    const before = contents(workspace)
    const server = await start(workspace)
    const query = `model=organ&session_id=${session}&output=image`
    const reply = await fetch(`${server.url}/v1/segmentation?${query}`, {
      method: 'POST',
      body: formData({ params: '{}' }),
    })
    expect(reply.status).toBe(200)
    await putModel(server, 'organ', 'threshold.onnx', modelConfig({ labels: ['new'] }))
    expect(await server.end('SIGTERM')).toBe(0)
    const after = contents(workspace)
    // What was changed before stays written down; more comes after it.
    for (const [name, bytes] of Object.entries(before))
      if (name.startsWith('audit/')) expect(after[name]!.startsWith(bytes), name).toBe(true)
      else if (!name.endsWith('manifest.json') || !name.includes('organ')) expect(after[name], name).toBe(bytes)
  })
})

test.skipIf(!mayMount)(
  'sessions on a disk of their own are made, used and removed (needs the right to mount)',
  async () => {
    const workspace = join(root, 'ws')
    await mkdir(join(workspace, 'sessions'), { recursive: true })
    const disk = mountDisk(8 << 20, join(workspace, 'sessions'))
    try {
      const server = await start(workspace)
      await putModel(server, 'organ', 'threshold.onnx', modelConfig())
      const session = await putSession(server)
      const query = `model=organ&session_id=${session}&output=image`
      const body = formData({ params: '{}' })
      expect((await fetch(`${server.url}/v1/segmentation?${query}`, { method: 'POST', body })).status).toBe(200)
      expect((await fetch(`${server.url}/session/${session}`, { method: 'DELETE' })).status).toBe(200)
      expect(readdirSync(join(workspace, 'sessions'))).toEqual([])
      expect(await server.end('SIGTERM')).toBe(0)
    } finally {
      disk.unmount()
    }
  },
)

test.skipIf(!mayMount)(
  'a session that cannot be removed ends for its clients, and not the server (needs the right to mount)',
  async () => {
    const workspace = join(root, 'ws')
    const server = await start(workspace)
    const session = await putSession(server)
    const stuck = join(workspace, 'sessions', session, 'stuck')
    await mkdir(stuck)
    const disk = mountDisk(1 << 20, stuck)
    try {
      expect((await fetch(`${server.url}/session/${session}`, { method: 'DELETE' })).status).toBe(200)
      expect((await fetch(`${server.url}/session/${session}`)).status).toBe(404)
      expect((await fetch(`${server.url}/health`)).status).toBe(200)
      expect(await putSession(server)).not.toBe(session)
      expect(await server.end('SIGTERM')).toBe(0)
    } finally {
      const [left] = readdirSync(join(workspace, 'sessions')).filter((name) => name.endsWith('.discarded'))
      execFileSync('umount', ['-l', left ? join(workspace, 'sessions', left, 'stuck') : disk.path])
    }
  },
)

/** Whether a process id namespace can be made, as a container has one. */
const mayUnshare = (() => {
  try {
    execFileSync('unshare', ['--pid', '--fork', '--mount-proc', 'true'], { stdio: 'pipe' })
    return true
  } catch {
    return false
  }
})()

/** The program as process 1 of a container that has our host name. */
async function startContained(workspace: string): Promise<{ url: string; child: ChildProcess }> {
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const words = ['--import', 'tsx', main, 'serve', '--port', '0', '--workspace', workspace]
  const unshare = ['--pid', '--fork', '--mount-proc', '--kill-child', process.execPath, ...words]
  const child = spawn('unshare', unshare, { stdio: ['ignore', 'ignore', 'pipe'] })
  open.push({
    end: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  })
  for await (const line of createInterface({ input: child.stderr! })) {
    const url = /listens on (\S+)/.exec(line)?.[1]
    if (url === undefined) continue
    child.stderr!.resume()
    return { url, child }
  }
  throw new Error('the contained server did not start')
}

test.skipIf(!mayUnshare)(
  'two containers of one host name share a workspace: neither takes the other for dead, asleep or not (needs unshare)',
  async () => {
    const workspace = join(root, 'ws')
    const server = await start(workspace)
    const slow = modelConfig({
      inference: {
        image: 'image',
        name: 'TRTISInference',
        args: { scanning_window: true, roi: [4, 4, 4], overlap: 0.5 },
        node_mapping: { image: 'image', logits: 'model' },
      },
    })
    await putModel(server, 'organ', 'slow.onnx', slow)
    const session = await putSession(server)
    const query = `model=organ&session_id=${session}&output=image&async=true`
    const body = formData({ params: '{}' })
    const accepted = await fetch(`${server.url}/v1/segmentation?${query}`, { method: 'POST', body })
    expect(accepted.status).toBe(202)
    const { id } = (await accepted.json()) as { id: string }
    const hold = () => readdirSync(join(workspace, 'sessions', session)).filter((name) => name.endsWith('.hold'))
    await expect.poll(hold).toHaveLength(1)

    // The machine of the first server sleeps; by all clocks it has been silent for a day.
    process.kill(server.pid, 'SIGSTOP')
    const dayAgo = new Date(Date.now() - 24 * 3600_000)
    for (const folder of ['tmp', 'servers'])
      for (const name of readdirSync(join(workspace, folder))) utimesSync(join(workspace, folder, name), dayAgo, dayAgo)
    const [own] = readdirSync(join(workspace, 'tmp'))
    const other = await startContained(workspace)
    expect((await fetch(`${other.url}/session/${session}`, { method: 'DELETE' })).status).toBe(200)
    expect((await fetch(`${other.url}/session/${session}`)).status).toBe(404)
    expect(readdirSync(join(workspace, 'tmp'))).toContain(own)
    expect(existsSync(join(workspace, 'sessions', session, 'volume.nii'))).toBe(true)

    process.kill(server.pid, 'SIGCONT')
    const result = async () => (await fetch(`${server.url}/v1/requests/${id}/result`)).status
    await expect.poll(result, { timeout: 40_000, interval: 100 }).toBe(200)
    expect(readdirSync(join(workspace, 'tmp'))).toHaveLength(2)
    // the mark of a use stays some seconds for the next one
    await expect.poll(() => readdirSync(join(workspace, 'sessions')), { timeout: 20_000 }).toEqual([])
    expect(await server.end('SIGTERM')).toBe(0)
  },
)
