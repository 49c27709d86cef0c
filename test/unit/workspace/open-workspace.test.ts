import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest'
import { thisProcess } from '../../../src/util/process-identity.js'
import { openWorkspace, type Workspace } from '../../../src/workspace/open-workspace.js'

const ID = '9ad970be-530e-11ea-84e3-0242ac110007'
const SHA = 'a'.repeat(64)
const MARK = 'aidant-workspace.json'
const MANIFEST = JSON.stringify({ format: 1, name: 'organ', deleted: false, generation: 1 })
const META = JSON.stringify({ id: ID, expirySeconds: 60 })

let root: string
let said: { message: string; fields: Record<string, unknown> }[]
const open: Workspace[] = []

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'aidant-workspace-'))
  said = []
})
afterEach(async () => {
  for (const workspace of open.splice(0)) await workspace.close()
  rmSync(root, { recursive: true, force: true })
})

const hear = (fields: object, message: string) => said.push({ message, fields: { ...fields } })
const log = { debug: () => {}, info: hear, warn: hear, error: hear }

async function workspaceAt(path = root, now?: () => number): Promise<Workspace> {
  const workspace = await openWorkspace(path, { log, ...(now ? { now } : {}) })
  open.push(workspace)
  return workspace
}

/** Makes files, and folders where the name ends in a slash. */
function fill(names: readonly string[], text = 'x'): void {
  for (const name of names) {
    const path = join(root, name)
    mkdirSync(name.endsWith('/') ? path : dirname(path), { recursive: true })
    if (!name.endsWith('/'))
      writeFileSync(path, name.endsWith('manifest.json') ? MANIFEST : name.endsWith('meta.json') ? META : text)
  }
}

const all = () => readdirSync(root, { recursive: true, encoding: 'utf8' }).toSorted()

describe('a folder', () => {
  it.each([
    { name: 'that is empty', files: [] },
    { name: 'that is a fresh disk', files: ['lost+found/'] },
    {
      name: 'that is a workspace already',
      files: ['models/organ/config_aiaa.json', 'notes.txt'],
      mark: '{"format":1}',
    },
    {
      name: 'of an earlier Aidant with a model',
      files: ['models/organ/manifest.json', 'models/mine/model.onnx', 'x.py'],
    },
    { name: 'of an earlier Aidant with a session', files: [`sessions/${ID}/meta.json`, 'letters/a.txt'] },
    {
      name: 'of an earlier Aidant that was never used',
      files: ['models/.locks/', 'sessions/', `tmp/host.domain-17/${ID}/input-0`],
    },
    {
      name: 'of an earlier Aidant whose models are gone',
      files: [`models/organ/${SHA}.onnx`, 'sessions/', 'tmp/host-17/'],
    },
    { name: 'with a disk of its own for the sessions', files: ['sessions/lost+found/'] },
  ])('$name becomes, or is, a workspace, and keeps all it holds', async ({ files, mark }) => {
    fill(files)
    if (mark) writeFileSync(join(root, MARK), mark)
    const before = all()
    await workspaceAt()
    expect(JSON.parse(readFileSync(join(root, MARK), 'utf8'))).toMatchObject({ format: 1 })
    expect(all()).toEqual(expect.arrayContaining(before))
  })

  it.each([
    { name: 'a clone of the project', files: ['models/spleen_ct/model.onnx', 'src/app.ts', 'package.json'] },
    { name: 'a folder whose models are a catalogue', files: ['models/spleen/config_aiaa.json', 'models/liver.zip'] },
    { name: 'a catalogue with sessions and tmp of its own', files: ['models/a.zip', 'sessions/', 'tmp/'] },
    { name: 'a folder with a tmp of somebody', files: ['tmp/build-12/main.o'] },
    { name: 'any other folder', files: ['letters/a.txt'] },
    { name: 'a newer Aidant, whose format is unknown', files: [], mark: '{"format":2}', says: 'newer' },
    { name: 'one with a damaged mark', files: ['models/organ/manifest.json'], mark: '{', says: 'damaged' },
  ])('of $name is refused, and nothing in it is changed', async ({ files, mark, says }) => {
    fill(files)
    if (mark) writeFileSync(join(root, MARK), mark)
    const before = all()
    await expect(workspaceAt()).rejects.toThrow(says ?? 'which Aidant did not make')
    expect(all()).toEqual(before)
  })

  test('that is a file is refused', async () => {
    fill(['file'])
    await expect(workspaceAt(join(root, 'file'))).rejects.toThrow('is not a folder')
  })

  test('is opened by several servers at once', async () => {
    const servers = await Promise.all([1, 2, 3, 4].map(() => workspaceAt()))
    expect(new Set(servers.map(({ server }) => server)).size).toBe(4)
    expect([readdirSync(join(root, 'tmp')).length, readdirSync(join(root, 'servers')).length]).toEqual([4, 4])
    expect(await servers[0]!.othersServe()).toBe(true)
  })
})

describe('discard', () => {
  it.each([
    `models/organ/${SHA}.onnx`,
    `models/organ/${SHA}.d/model.onnx`,
    `models/organ/${ID}.part`,
    `sessions/${ID}/volume.nii`,
    `tmp/server-${ID}/x/input-0`,
  ])('removes %s and says so in the log', async (file) => {
    const workspace = await workspaceAt()
    fill([file])
    const path = join(root, ...file.split('/').slice(0, file.startsWith('models') ? 3 : 2))
    await workspace.discard(path)
    expect(existsSync(path)).toBe(false)
    expect(readdirSync(dirname(path)).filter((name) => name.endsWith('.discarded'))).toEqual([])
    expect(said.map(({ message }) => message)).toContain('removed')
    expect(JSON.stringify(said)).not.toContain(file.startsWith('sessions') ? ID : root)
    await workspace.discard(path)
  })

  it.each([
    'models/organ/model.onnx',
    'models/organ/config_aiaa.json',
    'models/organ/',
    'models/',
    'sessions/holiday/a.jpg',
    'sessions/',
    'tmp/notes.txt',
    'letters/a.txt',
    `../${ID}.part`,
    '',
  ])('does not remove %j, whoever asks', async (file) => {
    const workspace = await workspaceAt(join(root, 'ws'))
    if (!file.startsWith('..') && file) {
      mkdirSync(file.endsWith('/') ? join(workspace.path, file) : dirname(join(workspace.path, file)), {
        recursive: true,
      })
      if (!file.endsWith('/')) writeFileSync(join(workspace.path, file), 'x')
    }
    await expect(workspace.discard(join(workspace.path, file))).rejects.toThrow('not ours to remove')
    expect(existsSync(join(workspace.path, file.startsWith('..') ? '' : file))).toBe(true)
  })

  test('a removal that was cut short is completed by the next server', async () => {
    fill([`sessions/${ID}.discarded/volume.nii`, `models/organ/${ID}.discarded/x`, `tmp/${ID}.discarded/x`])
    writeFileSync(join(root, MARK), '{"format":1}')
    await workspaceAt()
    await expect.poll(() => all().filter((name) => name.includes('.discarded'))).toEqual([])
  })
})

describe('what servers leave', () => {
  /** A server as its lease tells it, with a request's file. */
  function server(process: object): string {
    const name = `server-${ID}`
    fill([`tmp/${name}/request/input-0`])
    writeFileSync(leaseOf(name), JSON.stringify({ owner: 'x', use: 'server', process }))
    return name
  }
  const leaseOf = (name: string) => join(root, 'servers', `${name}.lease`)
  const age = (path: string) => {
    const then = new Date(Date.now() - 24 * 3600_000)
    utimesSync(path, then, then)
  }

  it.each([
    { name: 'that was killed', process: { ...thisProcess, pid: 2 ** 30 } },
    {
      name: 'whose process id another program has now',
      process: { ...thisProcess, pid: process.ppid, startedAt: '1' },
    },
  ])('a server $name: its folder goes', async ({ process }) => {
    await workspaceAt()
    const name = server(process)
    await workspaceAt()
    await expect.poll(() => existsSync(join(root, 'tmp', name)) || existsSync(leaseOf(name))).toBe(false)
  })

  it.each([
    {
      name: 'in another container of the same host name',
      process: { ...thisProcess, pidNamespace: 'pid:[1]', pid: 1 },
    },
    { name: 'on another machine of the same host name', process: { ...thisProcess, boot: 'other', pid: 1 } },
  ])('a server $name stays, even when it has slept for a day', async ({ process }) => {
    await workspaceAt()
    const name = server(process)
    age(leaseOf(name))
    age(join(root, 'tmp', name))
    let now = 0
    const other = await workspaceAt(root, () => now)
    now += 14 * 60_000
    expect(await other.mayServe(name)).toBe(true)
    expect(readdirSync(join(root, 'tmp', name, 'request'))).toEqual(['input-0'])
    // It woke up and beat; from there on the silence is counted anew.
    writeFileSync(leaseOf(name), readFileSync(leaseOf(name)))
    now += 14 * 60_000
    expect(await other.mayServe(name)).toBe(true)
    now += 15 * 60_000
    expect(await other.mayServe(name)).toBe(false)
  })

  test('the folder of a server from before the leases stays until it has been silent, and a foreign one for ever', async () => {
    await workspaceAt()
    const ours = `${hostname().replace(/[^A-Za-z0-9.]/g, '_')}-${2 ** 30}`
    fill([`tmp/${ours}/request/input-0`, 'tmp/build-12/main.o', 'tmp/notes.txt', 'tmp/own/a'])
    for (const name of [ours, 'build-12', 'own']) age(join(root, 'tmp', name))
    let now = 0
    const other = await workspaceAt(root, () => now)
    await other.sweep()
    expect(readdirSync(join(root, 'tmp'))).toContain(ours)
    now += 16 * 60_000
    await other.sweep()
    expect(readdirSync(join(root, 'tmp')).filter((name) => !name.startsWith('server-'))).toEqual([
      'build-12',
      'notes.txt',
      'own',
    ])
  })

  test('a server that lost its lease while it slept takes it anew', async () => {
    const workspace = await workspaceAt()
    rmSync(leaseOf(workspace.server))
    rmSync(workspace.requests, { recursive: true })
    await workspace.keep()
    expect([existsSync(leaseOf(workspace.server)), existsSync(workspace.requests)]).toEqual([true, true])
    await workspace.close()
    expect([readdirSync(join(root, 'tmp')), readdirSync(join(root, 'servers'))]).toEqual([[], []])
  })
})
