import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { AuditLog } from '../../../src/observability/audit-log.js'
import { silentLog } from '../../../src/util/log.js'
import { tempFolder } from '../../helpers/volumes.js'

const LINE = { request: 'r1', who: 'root', address: '10.0.0.7', action: 'putModel', model: 'spleen' }
const END = { ...LINE, outcome: 'done', status: 200, code: undefined } as const

async function home(maxBytes = 1 << 20) {
  const folder = await tempFolder()
  const path = join(folder.path, 'audit', 'changes.jsonl')
  let time = Date.parse('2026-01-01T00:00:00Z')
  const failures: number[] = []
  const audit = new AuditLog({
    path,
    makesFolder: true,
    maxBytes,
    log: silentLog,
    now: () => {
      time += 1000
      return new Date(time)
    },
    onFailure: () => failures.push(1),
  })
  const lines = (file = path) =>
    readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
  return { ...folder, folder: join(folder.path, 'audit'), path, audit, lines, failures }
}

test('a change is a line when it begins and one when it ends', async () => {
  await using it = await home()
  await it.audit.begin(LINE)
  await it.audit.end(END)
  expect(it.lines()).toEqual([
    { time: '2026-01-01T00:00:01.000Z', ...LINE, outcome: 'begun' },
    { time: expect.any(String), ...LINE, outcome: 'done', status: 200 },
  ])
  expect(statSync(it.path).mode & 0o777).toBe(0o600)
})

test('lines that come at once stay whole and in order', async () => {
  await using it = await home()
  await Promise.all(Array.from({ length: 50 }, (_, i) => it.audit.begin({ ...LINE, request: `r${i}` })))
  expect(it.lines().map(({ request }) => request)).toEqual(Array.from({ length: 50 }, (_, i) => `r${i}`))
})

test('full files are put away, the oldest goes, and together they stay under the bound', async () => {
  const MAX = 20_000
  await using it = await home(MAX)
  for (let i = 0; i < 400; i++) await it.audit.begin({ ...LINE, request: `r${i}` })
  const files = readdirSync(it.folder).sort()
  expect(files).toHaveLength(10)
  expect(files.reduce((sum, name) => sum + statSync(join(it.folder, name)).size, 0)).toBeLessThanOrEqual(MAX)
  // What is left is the end, without a gap.
  const kept = files.filter((name) => name !== 'changes.jsonl').map((name) => join(it.folder, name))
  const numbers = [...kept, it.path].flatMap((file) => it.lines(file)).map(({ request }) => Number(request.slice(1)))
  expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, i) => 400 - numbers.length + i))
})

test('a change that cannot be written down is refused; an end that cannot be is only told', async () => {
  await using it = await home()
  // A folder where the file should be: no user, not even root, can append to it.
  mkdirSync(it.path, { recursive: true })
  await expect(it.audit.begin(LINE)).rejects.toMatchObject({
    code: 'BUSY',
    message: expect.stringContaining('not made'),
  })
  await it.audit.end(END)
  expect(it.failures).toHaveLength(2)
  rmSync(it.path, { recursive: true })
  await it.audit.begin(LINE)
  expect(it.lines()).toHaveLength(1)
})

test('a file that somebody moved away is begun anew', async () => {
  await using it = await home()
  await it.audit.begin(LINE)
  rmSync(it.path)
  await it.audit.begin(LINE)
  expect(it.lines()).toHaveLength(1)
})
