import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../../src/util/clock.js'
import { openTmpRoot } from '../../../src/util/tmp-root.js'

const host = hostname().replace(/[^A-Za-z0-9.]/g, '_')
/** No process has it: it is above the kernel's largest. */
const DEAD_PID = 2 ** 30
let root: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-tmp-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

test('what a dead server left goes, what a living one has stays', async () => {
  for (const name of [`${host}-${DEAD_PID}`, `${host}-${process.ppid}`, 'elsewhere-1', 'silent-1']) {
    await mkdir(join(root, name, 'request'), { recursive: true })
    await writeFile(join(root, name, 'request', 'input-0'), 'x')
  }
  const longAgo = Date.now() / 1000 - 3600
  await utimes(join(root, 'silent-1'), longAgo, longAgo)
  const tmp = await openTmpRoot(root, systemClock)
  expect((await readdir(root)).sort()).toEqual(
    [`${host}-${process.ppid}`, `${host}-${process.pid}`, 'elsewhere-1'].sort(),
  )
  await tmp.close()
})

test('our own folder starts empty, as after a restart in a container where every server is process 1', async () => {
  const own = join(root, `${host}-${process.pid}`)
  await mkdir(join(own, 'request'), { recursive: true })
  const tmp = await openTmpRoot(root, systemClock)
  expect(tmp.path).toBe(own)
  expect(await readdir(own)).toEqual([])
  await tmp.close()
  expect(await readdir(root)).toEqual([])
})
