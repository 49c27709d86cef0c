import { chmodSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import { FailedAttempts } from '../../../src/access/failed-attempts.js'
import { parseTokens } from '../../../src/access/token-file.js'
import { Tokens } from '../../../src/access/tokens.js'
import type { Log } from '../../../src/util/log.js'
import { silentLog } from '../../../src/util/log.js'
import { tempFolder } from '../../helpers/volumes.js'

const ANN = 'ann-0123456789abcdef'
const BOB = 'bob-0123456789abcdef'

describe('a token file', () => {
  it.each([
    { text: `ann:${ANN}`, names: ['ann'] },
    { text: `# who may call\n\nann:${ANN}\r\n  bob : ${BOB}  \n`, names: ['ann', 'bob'] },
    { text: `\uFEFFann@ward-3:${ANN}`, names: ['ann@ward-3'] },
    { text: 'ann:aGVsbG8gd29ybGQgYWdhaW4h==', names: ['ann'] },
  ])('$text has $names', ({ text, names }) => {
    expect(parseTokens(text).map(({ name }) => name)).toEqual(names)
  })

  it.each([
    { text: '', why: 'there is no token in it' },
    { text: '# nobody\n', why: 'there is no token in it' },
    { text: ANN, why: 'line 1 must be name:token' },
    { text: `\n:${ANN}`, why: 'line 2: a name has' },
    { text: `a b:${ANN}`, why: 'line 1: a name has' },
    { text: 'ann:short', why: 'line 1: a token has 16' },
    { text: 'ann:with spaces in the middle of it', why: 'line 1: a token has 16' },
    { text: 'ann:ümlaut-0123456789abcdef', why: 'line 1: a token has 16' },
    { text: `ann:${ANN}\nann:${BOB}`, why: 'line 2: this name is given twice' },
    { text: `ann:${ANN}\nbob:${ANN}`, why: 'line 2: this token is given twice' },
  ])('$text is refused: $why', ({ text, why }) => {
    const refuse = () => parseTokens(text)
    expect(refuse).toThrow(why)
    expect(refuse).not.toThrow(/0123456789|short|spaces in/)
  })
})

/** Two files in a folder, and what the log was told. */
async function home() {
  const folder = await tempFolder()
  const files = { api: join(folder.path, 'api'), admin: join(folder.path, 'admin') }
  writeFileSync(files.api, `ann:${ANN}\n`, { mode: 0o600 })
  writeFileSync(files.admin, `root:${'r'.repeat(32)}\n`, { mode: 0o600 })
  const said: string[] = []
  const tell = (fields: object, message: string) => said.push(`${message} ${JSON.stringify(fields)}`)
  const log: Log = { ...silentLog, info: tell, warn: tell, error: tell }
  return { ...folder, files, said, log }
}

test('a token is found by its file, and no other is', async () => {
  await using folder = await home()
  const tokens = await Tokens.open(folder.files)
  expect(tokens.find(ANN)).toEqual({ name: 'ann', right: 'api' })
  expect(tokens.find('r'.repeat(32))).toEqual({ name: 'root', right: 'admin' })
  for (const wrong of ['', BOB, ANN.slice(1), `${ANN} `, ANN.toUpperCase(), 'ann', `ann:${ANN}`])
    expect(tokens.find(wrong)).toBeUndefined()
})

it.each([
  { files: { api: '', admin: '' }, api: false, admin: false },
  { files: { api: 'api', admin: '' }, api: true, admin: true },
  { files: { api: '', admin: 'admin' }, api: false, admin: true },
] as const)('with $files the API wants a token: $api, the operator routes: $admin', async ({ files, api, admin }) => {
  await using folder = await home()
  const path = (name: string) => (name === '' ? '' : join(folder.path, name))
  const tokens = await Tokens.open({ api: path(files.api), admin: path(files.admin) })
  expect([tokens.guards('api'), tokens.guards('admin')]).toEqual([api, admin])
})

test('a file that others may read is warned of, a missing one and a token in both are refused', async () => {
  await using folder = await home()
  await Tokens.open(folder.files, folder.log)
  expect(folder.said).toEqual([])
  chmodSync(folder.files.admin, 0o640)
  await Tokens.open(folder.files, folder.log)
  expect(folder.said).toEqual([expect.stringMatching(/others than its owner .*--admin-token-file/)])
  await expect(Tokens.open({ ...folder.files, api: join(folder.path, 'none') })).rejects.toThrow(
    'cannot be read (ENOENT)',
  )
  writeFileSync(folder.files.admin, `root:${ANN}`)
  await expect(Tokens.open(folder.files)).rejects.toThrow("the token 'root' is also one for the API")
})

test('a change takes effect whole, a broken one not at all', async () => {
  await using folder = await home()
  const tokens = await Tokens.open(folder.files, folder.log)
  expect(await tokens.reload(false)).toBe(false)
  writeFileSync(folder.files.api, `bob:${BOB}\n`, { mode: 0o600 })
  expect(await tokens.reload(false)).toBe(true)
  expect([tokens.find(ANN), tokens.find(BOB)?.name]).toEqual([undefined, 'bob'])
  writeFileSync(folder.files.api, `ann:${ANN}\nbob\n`)
  expect(await tokens.reload(true)).toBe(false)
  expect([tokens.find(ANN), tokens.find(BOB)?.name]).toEqual([undefined, 'bob'])
  expect(folder.said.at(-1)).toMatch(/the old ones hold .*line 2 must be name:token/)
  expect(folder.said.join()).not.toContain(ANN)
})

test('a link that is exchanged, as Kubernetes mounts a secret, is a change', async () => {
  await using folder = await home()
  const link = join(folder.path, 'link')
  symlinkSync(folder.files.api, link)
  const tokens = await Tokens.open({ api: link, admin: '' })
  const other = join(folder.path, 'other')
  writeFileSync(other, `bob:${BOB}\n`, { mode: 0o600 })
  symlinkSync(other, `${link}.new`)
  renameSync(`${link}.new`, link)
  expect(await tokens.reload(false)).toBe(true)
  expect(tokens.find(BOB)?.name).toBe('bob')
})

describe('failed attempts', () => {
  test('are counted by address, and forgotten after a minute', () => {
    let now = 0
    const failures = new FailedAttempts(2, () => now)
    expect([1, 2, 3].map(() => failures.add('10.0.0.1').tooMany)).toEqual([false, false, true])
    expect(failures.add('10.0.0.2').tooMany).toBe(false)
    now = 20_000
    expect(failures.add('10.0.0.1')).toEqual({ count: 4, tooMany: true, retryAfterSeconds: 40 })
    now = 60_000
    expect(failures.add('10.0.0.1')).toMatchObject({ count: 1, tooMany: false })
  })

  test('of one network of IPv6 count together', () => {
    const failures = new FailedAttempts(1)
    expect(failures.add('2001:db8:1:2::1').tooMany).toBe(false)
    expect(failures.add('2001:db8:1:2:ffff::9').tooMany).toBe(true)
    expect(failures.add('2001:db8:1:3::1').tooMany).toBe(false)
  })

  test('take no more memory for more addresses', () => {
    const failures = new FailedAttempts(1)
    for (let i = 0; i < 20_000; i++) failures.add(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
    // The first has been forgotten for the later ones.
    expect(failures.add('10.0.0.0').count).toBe(1)
  })
})
