import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, test } from 'vitest'
import { abandonedNames, NameLock } from '../../../src/registry/name-lock.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aidant-lock-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const path = () => join(folder, 'organ.lock')
const holder = (more: Record<string, unknown> = {}) =>
  JSON.stringify({ owner: 'other', use: 'long', machine: 'another machine', pid: 1, started: 1, ...more })
const busy = { code: 'BUSY_NAME' }

test('one holder at a time, and none when released', async () => {
  const lock = await NameLock.acquire(folder, 'organ', 'long')
  await expect(NameLock.acquire(folder, 'organ', 'long')).rejects.toMatchObject(busy)
  await (await NameLock.acquire(folder, 'other', 'long')).release()
  expect(await lock.verify()).toBe(true)
  await lock.release()
  expect(readdirSync(folder)).toEqual([])
  await (await NameLock.acquire(folder, 'organ', 'long')).release()
})

test('a brief holder is waited for', async () => {
  const first = await NameLock.acquire(folder, 'organ', 'brief')
  const second = NameLock.acquire(folder, 'organ', 'long')
  await first.release()
  const lock = await second
  expect(await lock.verify()).toBe(true)
  await lock.release()
})

test('of many who ask at once, one gets it', async () => {
  const asked = await Promise.allSettled(Array.from({ length: 20 }, () => NameLock.acquire(folder, 'organ', 'long')))
  const got = asked.filter((one) => one.status === 'fulfilled')
  expect(got).toHaveLength(1)
  await got[0]!.value.release()
})

it.each([
  { name: 'a living holder elsewhere', text: () => holder(), age: 0 },
  { name: 'a lock that is still being written', text: () => '', age: 0 },
])('is busy with $name', async ({ text, age }) => {
  writeFileSync(path(), text())
  const then = new Date(Date.now() - age)
  utimesSync(path(), then, then)
  await expect(NameLock.acquire(folder, 'organ', 'long')).rejects.toMatchObject(busy)
})

it.each([
  { name: 'a holder elsewhere that has been silent for a minute', text: () => holder() },
  { name: 'a lock that nobody finished writing', text: () => '{"owner"' },
])('is taken over from $name', async ({ text }) => {
  writeFileSync(path(), text())
  const then = new Date(Date.now() - 60_000)
  utimesSync(path(), then, then)
  const taken = await Promise.allSettled(Array.from({ length: 5 }, () => NameLock.acquire(folder, 'organ', 'long')))
  const got = taken.filter((one) => one.status === 'fulfilled')
  expect(got).toHaveLength(1)
  await got[0]!.value.release()
})

test('a holder that lost its lease sees it, and does not release what is not its own', async () => {
  const lock = await NameLock.acquire(folder, 'organ', 'long')
  writeFileSync(path(), holder())
  expect(await lock.verify()).toBe(false)
  await lock.release()
  expect(readdirSync(folder)).toEqual(['organ.lock'])
})

test('a sweep sees the names and removes what died beside them', async () => {
  const lock = await NameLock.acquire(folder, 'organ', 'long')
  const old = join(folder, 'organ.lock.1.stale')
  writeFileSync(old, '')
  const then = new Date(Date.now() - 60_000)
  utimesSync(old, then, then)
  writeFileSync(join(folder, 'organ.lock.2.new'), '')
  expect(await abandonedNames(folder)).toEqual(['organ'])
  expect(readdirSync(folder).toSorted()).toEqual(['organ.lock', 'organ.lock.2.new'])
  await lock.release()
})
