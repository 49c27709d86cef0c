import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createSessions, type SessionsOptions, SWEEP_SECONDS } from '../../../src/sessions/create-sessions.js'
import type { Sessions } from '../../../src/sessions/sessions.js'
import { silentLog } from '../../../src/util/log.js'
import { openWorkspace, type Workspace } from '../../../src/workspace/open-workspace.js'
import { FakeTime } from '../../helpers/fake-time.js'
import { mayMount, mountDisk } from '../../helpers/small-disk.js'

let root: string
let now: number
const open: Sessions[] = []
const workspaces: Workspace[] = []

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-sessions-'))
  now = Date.now()
})
afterEach(async () => {
  for (const sessions of open.splice(0)) await sessions.close()
  for (const workspace of workspaces.splice(0)) await workspace.close()
  await rm(root, { recursive: true, force: true })
})

async function store(options: Partial<SessionsOptions> = {}): Promise<Sessions> {
  const workspace = await openWorkspace(root, { log: silentLog })
  workspaces.push(workspace)
  const sessions = await createSessions({
    workspace,
    clock: { now: () => now },
    log: silentLog,
    maxBytes: 10_000,
    maxSessions: 10,
    defaultExpirySeconds: 3600,
    maxExpirySeconds: 7200,
    ...options,
  })
  open.push(sessions)
  return sessions
}

let made = 0
async function newSession(bytes = 100, expirySeconds?: number) {
  const folder = join(workspaces.at(-1)!.requests, `incoming-${made++}`)
  await mkdir(folder)
  await writeFile(join(folder, 'volume.nii'), Buffer.alloc(bytes))
  return {
    folder,
    expirySeconds,
    extension: '.nii.gz' as const,
    source: { file: 'volume.nii', contentType: 'application/octet-stream' },
    image: { size: [1, 2, 3] },
  }
}

const code = (name: string) => expect.objectContaining({ code: name })

describe('a session', () => {
  test('has an unguessable uuid and says what it holds', async () => {
    const sessions = await store()
    const { meta } = await sessions.create(await newSession())
    expect(meta.id).toMatch(/^[0-9a-f-]{36}$/)
    expect(meta.image).toEqual({ size: [1, 2, 3] })
    expect(await readdir(join(root, 'sessions', meta.id))).toEqual(expect.arrayContaining(['meta.json', 'volume.nii']))
  })

  test.each([
    { name: 'none: the default', asked: undefined, want: 3600 },
    { name: '0: the default', asked: 0, want: 3600 },
    { name: 'its own', asked: 30, want: 30 },
    { name: 'no more than the server allows', asked: 1_000_000, want: 7200 },
  ])('expiry: $name', async ({ asked, want }) => {
    const sessions = await store()
    expect((await sessions.create(await newSession(1, asked))).meta.expirySeconds).toBe(want)
  })

  test('lives from its last use on, and not a moment longer', async () => {
    const sessions = await store()
    const { meta } = await sessions.create(await newSession(1, 60))
    now += 59_000
    await (await sessions.hold(meta.id)).release()
    now += 59_000
    await (await sessions.get(meta.id, { renew: false })).release()
    now += 1_000
    await expect(sessions.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    await expect(sessions.get(meta.id, { renew: true })).rejects.toEqual(code('SESSION_NOT_FOUND'))
    expect(await readdir(join(root, 'sessions'))).toEqual([])
  })

  test('survives a restart with its last use', async () => {
    const first = await store()
    const { meta } = await first.create(await newSession(1, 60))
    now += 30_000
    await (await first.hold(meta.id)).release()
    await first.close()
    now += 59_000
    const second = await store()
    await (await second.hold(meta.id)).release()
    await second.close()
    now += 60_000
    await (await store()).close()
    expect(await readdir(join(root, 'sessions'))).toEqual([])
  })

  test('is seen by another server on the same workspace', async () => {
    const [one, other] = [await store(), await store()]
    const { meta } = await one.create(await newSession())
    await (await other.hold(meta.id)).release()
    await one.remove(meta.id)
    await expect(other.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
  })

  test('keeps its files for a request that holds it while it is deleted', async () => {
    const sessions = await store()
    const { meta } = await sessions.create(await newSession())
    const held = await sessions.hold(meta.id)
    await sessions.remove(meta.id)
    await expect(sessions.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    expect(await readdir(join(root, 'sessions', meta.id))).toContain('volume.nii')
    await held.release()
    await expect.poll(() => readdir(join(root, 'sessions'))).toEqual([])
  })
})

describe('bounds', () => {
  test('the oldest idle session makes room, one in use never', async () => {
    const sessions = await store({ maxBytes: 2_500 })
    const oldest = await sessions.create(await newSession(1000))
    now += 1000
    const idle = await sessions.create(await newSession(1000))
    const held = await sessions.hold(oldest.meta.id)
    now += 1000
    const third = await sessions.create(await newSession(1000))
    await expect(sessions.hold(idle.meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    await held.release()
    await (await sessions.hold(oldest.meta.id)).release()
    await (await sessions.hold(third.meta.id)).release()
  })

  test('a session over --session-max-bytes is refused', async () => {
    await expect((await store()).create(await newSession(10_001))).rejects.toEqual(code('TOO_LARGE'))
  })

  test('with every session in use the next one is told to wait', async () => {
    const sessions = await store({ maxSessions: 1 })
    const { meta } = await sessions.create(await newSession())
    await sessions.hold(meta.id)
    await expect(sessions.create(await newSession())).rejects.toEqual(code('BUSY'))
  })
})

test.each([
  '..',
  '../models',
  '',
  'x',
  '9AD970BE-530E-11EA-84E3-0242AC110007',
  '9ad970be-530e-11ea-84e3-0242ac110007/..',
  '%2e%2e',
])('the id %j is unknown, whatever lies on disk', async (id) => {
  const sessions = await store()
  await expect(sessions.hold(id)).rejects.toEqual(code('SESSION_EXPIRED'))
  await expect(sessions.remove(id)).rejects.toEqual(code('SESSION_NOT_FOUND'))
})

describe('what is no session of ours', () => {
  const id = '9ad970be-530e-11ea-84e3-0242ac110007'
  const meta = (more: object = {}) => JSON.stringify({ id, createdAt: 1, expirySeconds: 60, ...more })
  const long = new Date(Date.now() - 7 * 24 * 3600_000)

  test.each([
    { name: 'a foreign folder', files: { 'holiday/a.jpg': '' } },
    { name: 'a foreign file', files: { 'notes.txt': '' } },
    { name: 'a session that only a newer Aidant can read', files: { [`${id}/meta.json`]: meta({ format: 2 }) } },
    { name: 'a session whose meta.json is damaged', files: { [`${id}/meta.json`]: '{', [`${id}/volume.nii`]: 'v' } },
    { name: 'an old folder with the name of a session and other files', files: { [`${id}/letter.txt`]: '' } },
  ])('$name is left alone', async ({ files }) => {
    await store()
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, 'sessions', name)), { recursive: true })
      await writeFile(join(root, 'sessions', name), text)
      await utimes(join(root, 'sessions', name), long, long)
      await utimes(dirname(join(root, 'sessions', name)), long, long)
    }
    const sessions = await store()
    await expect(sessions.hold(id)).rejects.toEqual(code('SESSION_EXPIRED'))
    for (const [name, text] of Object.entries(files))
      expect(await readFile(join(root, 'sessions', name), 'utf8')).toBe(text)
  })

  test.each([
    { name: 'ended while a server that was killed held it', files: ['gone.json', 'volume.nii', `server-${id}.hold`] },
    { name: 'was ended by an older Aidant, days ago', files: ['volume.nii', 'source.nii.gz'] },
  ])('a session that $name is removed', async ({ files }) => {
    await store()
    await mkdir(join(root, 'sessions', id))
    for (const file of files) await writeFile(join(root, 'sessions', id, file), '')
    await utimes(join(root, 'sessions', id), long, long)
    await store()
    expect(await readdir(join(root, 'sessions'))).toEqual([])
  })
})

describe('several servers', () => {
  test('a session that a job on one holds is not erased when another ends it', async () => {
    const [one, other] = [await store(), await store()]
    const { meta } = await one.create(await newSession())
    const held = await one.hold(meta.id)
    await other.remove(meta.id)
    await expect(one.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    await expect(other.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    expect(await readFile(held.volumePath)).toHaveLength(100)
    await held.release()
    expect(await readdir(join(root, 'sessions'))).toEqual([])
  })

  test('a session that a job on one holds neither expires on another nor makes room there', async () => {
    const one = await store()
    const { meta } = await one.create(await newSession(1000, 60))
    const held = await one.hold(meta.id)
    now += 120_000
    const other = await store({ maxBytes: 1500 })
    await expect(other.create(await newSession(1000))).rejects.toEqual(code('BUSY'))
    expect(await readFile(held.volumePath)).toHaveLength(1000)
    await held.release()
    await other.create(await newSession(1000))
  })

  test('the hold of a server that was killed counts for nothing', async () => {
    const one = await store()
    const { meta } = await one.create(await newSession(100, 60))
    await writeFile(join(root, 'sessions', meta.id, 'server-9ad970be-530e-11ea-84e3-0242ac110007.hold'), '')
    await one.remove(meta.id)
    expect(await readdir(join(root, 'sessions'))).toEqual([])
  })

  test('the mark of a use stays for the next one, and goes when there is none', async () => {
    const time = new FakeTime()
    const one = await store({ timers: time })
    const { meta } = await one.create(await newSession())
    const marks = async () => (await readdir(join(root, 'sessions', meta.id))).filter((name) => name.endsWith('.hold'))
    await (await one.hold(meta.id)).release()
    const [mark] = await marks()
    expect(mark).toBeDefined()
    const { ino } = await stat(join(root, 'sessions', meta.id, mark!))
    time.advance(4999)
    await (await one.hold(meta.id)).release()
    time.advance(4999)
    expect(await marks()).toEqual([mark])
    expect((await stat(join(root, 'sessions', meta.id, mark!))).ino).toBe(ino)
    time.advance(1)
    await expect.poll(marks).toEqual([])
  })

  test('a session that another server ends between two uses goes when the next one does not come', async () => {
    const time = new FakeTime()
    const [one, other] = [await store({ timers: time }), await store()]
    const { meta } = await one.create(await newSession())
    await (await one.hold(meta.id)).release()
    await other.remove(meta.id)
    await expect(other.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    time.advance(5000)
    await expect.poll(() => readdir(join(root, 'sessions'))).toEqual([])
    await expect(one.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
  })

  test('the mark does not keep a session beyond its own time, nor beyond the end of its server', async () => {
    const time = new FakeTime()
    const [one, other] = [await store({ timers: time }), await store()]
    const short = (await one.create(await newSession(100, 2))).meta
    const long = (await one.create(await newSession(100, 60))).meta
    for (const { id } of [short, long]) await (await one.hold(id)).release()
    now += 2000
    time.advance(2000)
    await expect.poll(() => readdir(join(root, 'sessions'))).toEqual([long.id])
    await one.close()
    expect((await readdir(join(root, 'sessions', long.id))).filter((name) => name.endsWith('.hold'))).toEqual([])
    await (await other.hold(long.id)).release()
  })

  test('a session of a server that is gone expires on the others', async () => {
    const time = new FakeTime()
    const other = await store({ timers: time })
    const one = await store()
    const { meta } = await one.create(await newSession(100, 60))
    await one.close()
    now += 60_000
    time.advance(SWEEP_SECONDS * 1000)
    await expect.poll(() => readdir(join(root, 'sessions'))).toEqual([])
    await expect(other.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
  })
})

describe('a disk that fails', () => {
  /** A workspace whose removals fail until told otherwise. */
  async function failing(time: FakeTime) {
    const workspace = await openWorkspace(root, { log: silentLog })
    workspaces.push(workspace)
    const disk = { fails: true }
    const discard = async (path: string) => {
      if (disk.fails) throw Object.assign(new Error('input/output error'), { code: 'EIO' })
      await workspace.discard(path)
    }
    const sessions = await createSessions({
      workspace: { ...workspace, discard },
      clock: { now: () => now },
      timers: time,
      log: silentLog,
      maxBytes: 10_000,
      maxSessions: 10,
      defaultExpirySeconds: 60,
      maxExpirySeconds: 60,
    })
    open.push(sessions)
    return { sessions, disk }
  }

  test('a session that cannot be removed ends for its clients, is tried again, and ends no process', async () => {
    const time = new FakeTime()
    const { sessions, disk } = await failing(time)
    const { meta } = await sessions.create(await newSession())
    now += 60_000
    for (let round = 0; round < 3; round++) {
      time.advance(SWEEP_SECONDS * 1000)
      await expect(sessions.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    }
    expect(await readdir(join(root, 'sessions'))).toEqual([meta.id])
    disk.fails = false
    await expect
      .poll(() => {
        time.advance(SWEEP_SECONDS * 1000)
        return readdir(join(root, 'sessions'))
      })
      .toEqual([])
  })

  test('a session that cannot be read for a moment is not taken for gone', async () => {
    const first = await store()
    const { meta } = await first.create(await newSession())
    const path = join(root, 'sessions', meta.id, 'meta.json')
    // Reading a folder fails with EISDIR; a stat of a name that is too deep with ELOOP, as a disk would with EIO.
    await rename(path, `${path}.away`)
    await symlink('meta.json', path)
    await expect(first.hold(meta.id)).rejects.toMatchObject({ code: 'ELOOP' })
    const second = await store()
    await expect(second.hold(meta.id)).rejects.toMatchObject({ code: 'ELOOP' })
    await rename(`${path}.away`, path)
    for (const sessions of [first, second]) await (await sessions.hold(meta.id)).release()
  })
})

test.skipIf(!mayMount)('a session enters a store on a file system of its own (needs the right to mount)', async () => {
  await mkdir(join(root, 'sessions'))
  const disk = mountDisk(1 << 20, join(root, 'sessions'))
  try {
    const sessions = await store({ maxBytes: 1 << 20 })
    const incoming = await newSession(5000)
    await mkdir(join(incoming.folder, 'series'))
    await writeFile(join(incoming.folder, 'series', '0.dcm'), 'slice')
    const { volumePath, seriesPaths } = await sessions.create(incoming)
    expect((await readFile(volumePath)).length).toBe(5000)
    expect(await readFile(seriesPaths[0]!, 'utf8')).toBe('slice')
    // One that does not fit leaves nothing.
    await expect(sessions.create(await newSession((1 << 20) - 10_000))).rejects.toMatchObject({ code: 'ENOSPC' })
    expect(await readdir(join(root, 'sessions'))).toHaveLength(1)
  } finally {
    for (const sessions of open.splice(0)) await sessions.close()
    disk.unmount()
  }
})
