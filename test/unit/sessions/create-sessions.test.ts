import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createSessions, type SessionsOptions } from '../../../src/sessions/create-sessions.js'
import type { Sessions } from '../../../src/sessions/sessions.js'

let root: string
let now: number
const open: Sessions[] = []

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-sessions-'))
  now = Date.now()
})
afterEach(async () => {
  for (const sessions of open.splice(0)) await sessions.close()
  await rm(root, { recursive: true, force: true })
})

async function store(options: Partial<SessionsOptions> = {}): Promise<Sessions> {
  const sessions = await createSessions({
    folder: join(root, 'sessions'),
    clock: { now: () => now },
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
  const folder = join(root, `incoming-${made++}`)
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
    ;(await sessions.hold(meta.id)).release()
    now += 59_000
    ;(await sessions.get(meta.id, { renew: false })).release()
    now += 1_000
    await expect(sessions.hold(meta.id)).rejects.toEqual(code('SESSION_EXPIRED'))
    await expect(sessions.get(meta.id, { renew: true })).rejects.toEqual(code('SESSION_NOT_FOUND'))
    expect(await readdir(join(root, 'sessions'))).toEqual([])
  })

  test('survives a restart with its last use', async () => {
    const first = await store()
    const { meta } = await first.create(await newSession(1, 60))
    now += 30_000
    ;(await first.hold(meta.id)).release()
    await first.close()
    now += 59_000
    const second = await store()
    ;(await second.hold(meta.id)).release()
    now += 60_000
    await (await store()).close()
    expect(await readdir(join(root, 'sessions'))).toEqual([])
  })

  test('is seen by another server on the same workspace', async () => {
    const [one, other] = [await store(), await store()]
    const { meta } = await one.create(await newSession())
    ;(await other.hold(meta.id)).release()
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
    held.release()
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
    held.release()
    ;(await sessions.hold(oldest.meta.id)).release()
    ;(await sessions.hold(third.meta.id)).release()
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

test('what is no session is swept at start', async () => {
  await mkdir(join(root, 'sessions', 'leftover'), { recursive: true })
  await mkdir(join(root, 'sessions', '9ad970be-530e-11ea-84e3-0242ac110007'))
  await store()
  expect(await readdir(join(root, 'sessions'))).toEqual([])
})
