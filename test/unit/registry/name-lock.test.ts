import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, test } from 'vitest'
import { lockedNames, lockName } from '../../../src/registry/name-lock.js'
import { thisProcess } from '../../../src/util/process-identity.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aidant-lock-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const path = () => join(folder, 'organ.lock')
const elsewhere = { ...thisProcess, boot: 'another kernel', pid: 1 }
const holder = (process: object = elsewhere) => JSON.stringify({ owner: 'other', use: 'long', process })
/** As Aidants before the leases wrote it. */
const oldHolder = () => JSON.stringify({ owner: 'x', use: 'long', machine: 'another machine', pid: 1, started: 1 })
const busy = { code: 'BUSY_NAME' }
const aMinuteAgo = () => new Date(Date.now() - 60_000)

test('one holder at a time, and none when released', async () => {
  const lock = await lockName(folder, 'organ', 'long')
  await expect(lockName(folder, 'organ', 'long')).rejects.toMatchObject(busy)
  await (await lockName(folder, 'other', 'long')).release()
  expect(await lock.verify()).toBe(true)
  await lock.release()
  expect(readdirSync(folder)).toEqual([])
  await (await lockName(folder, 'organ', 'long')).release()
})

test('a brief holder is waited for, and asked to let go', async () => {
  const first = await lockName(folder, 'organ', 'brief')
  expect(await first.isAsked()).toBe(false)
  const second = lockName(folder, 'organ', 'long')
  await expect.poll(() => first.isAsked()).toBe(true)
  await first.release()
  const lock = await second
  expect([await lock.verify(), await lock.isAsked()]).toEqual([true, false])
  await lock.release()
  expect(readdirSync(folder)).toEqual([])
})

test('of many who ask at once, one gets it', async () => {
  const asked = await Promise.allSettled(Array.from({ length: 20 }, () => lockName(folder, 'organ', 'long')))
  const got = asked.filter((one) => one.status === 'fulfilled')
  expect(got).toHaveLength(1)
  await got[0]!.value.release()
})

it.each([
  { name: 'a living holder elsewhere', make: () => writeFileSync(path(), holder()) },
  { name: 'a living holder of an older Aidant', make: () => writeFileSync(path(), oldHolder()) },
  { name: 'a lock that is still being written', make: () => writeFileSync(path(), '') },
  { name: 'a lock that cannot be read', make: () => mkdirSync(path()) },
  { name: 'a lock that leads nowhere', make: () => symlinkSync('nowhere', path()) },
])('is busy with $name, and does not spin', async ({ make }) => {
  make()
  await expect(lockName(folder, 'organ', 'brief')).rejects.toMatchObject(busy)
})

test('a process that stands still holds its lock, however long', async () => {
  writeFileSync(path(), holder(thisProcess))
  utimesSync(path(), aMinuteAgo(), aMinuteAgo())
  await expect(lockName(folder, 'organ', 'long')).rejects.toMatchObject(busy)
})

it.each([
  { name: 'a holder elsewhere that has been silent for a minute', text: () => holder(), silent: true },
  { name: 'a lock that nobody finished writing', text: () => '{"owner"', silent: true },
  { name: 'an older Aidant that has been silent for a minute', text: oldHolder, silent: true },
  { name: 'a process that is gone', text: () => holder({ ...thisProcess, pid: 2 ** 30 }), silent: false },
  {
    name: 'a process whose id another program has now',
    text: () => holder({ ...thisProcess, pid: process.ppid, startedAt: '1' }),
    silent: false,
  },
  { name: 'an earlier process with our own id', text: () => holder({ ...thisProcess, startedAt: '1' }), silent: false },
])('is taken over from $name', async ({ text, silent }) => {
  writeFileSync(path(), text())
  if (silent) utimesSync(path(), aMinuteAgo(), aMinuteAgo())
  const taken = await Promise.allSettled(Array.from({ length: 5 }, () => lockName(folder, 'organ', 'long')))
  const got = taken.filter((one) => one.status === 'fulfilled')
  expect(got).toHaveLength(1)
  await got[0]!.value.release()
})

test('a holder that lost its lease sees it, and does not release what is not its own', async () => {
  const lock = await lockName(folder, 'organ', 'long')
  writeFileSync(path(), holder())
  expect(await lock.verify()).toBe(false)
  await lock.release()
  expect(readdirSync(folder)).toEqual(['organ.lock'])
})

test('a sweep sees the names and removes what died beside locks, and nothing else', async () => {
  const lock = await lockName(folder, 'organ', 'long')
  const id = '9ad970be-530e-11ea-84e3-0242ac110007'
  const dead = [`organ.lock.${id}.new`, `organ.lock.${id}.probe`, 'organ.lock.takeover', 'organ.lock.asked']
  const other = ['notes.txt', 'organ.lock.backup']
  for (const name of [...dead, ...other]) {
    writeFileSync(join(folder, name), 'x')
    utimesSync(join(folder, name), aMinuteAgo(), aMinuteAgo())
  }
  const fresh = `other.lock.${id}.new`
  writeFileSync(join(folder, fresh), '')
  expect(await lockedNames(folder)).toEqual(['organ'])
  expect(readdirSync(folder).toSorted()).toEqual([...other, 'organ.lock', fresh].toSorted())
  expect(readFileSync(join(folder, 'notes.txt'), 'utf8')).toBe('x')
  await lock.release()
})
