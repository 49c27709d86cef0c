import { once } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { examineAccess, examineMachine, examineMemory, examineNode } from '../../../src/cli/commands/doctor.js'
import { loadConfig } from '../../../src/config/load.js'
import { tempFolder } from '../../helpers/volumes.js'

test.each([
  ['18.20.0', 'bad'],
  ['20.18.9', 'bad'],
  ['20.19.0', 'ok'],
  ['24.1.0', 'ok'],
])('Node %s is %s', (version, state) => {
  expect(examineNode(version).state).toBe(state)
})

test('little memory is told with what helps', () => {
  expect(examineMemory(2 * 2 ** 30, 2 ** 30)).toMatchObject({
    state: 'note',
    advice: expect.stringContaining('--max-loaded-models'),
  })
})

test('a port that another program has is found, and a workspace that is not there yet is no fault', async () => {
  await using folder = await tempFolder()
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const findings = await examineMachine(loadConfig(['--port', String(port), '--workspace', `${folder.path}/a/b`], {}))
  server.close()
  expect(findings.find(({ what }) => what === 'port')).toMatchObject({
    state: 'bad',
    advice: expect.stringContaining('--port'),
  })
  expect(findings.find(({ what }) => what === 'workspace')?.found).toContain('made at the first start')
})

test('a folder of other things is found to be no workspace', async () => {
  await using folder = await tempFolder()
  await writeFile(join(folder.path, 'letter.txt'), 'dear')
  const findings = await examineMachine(loadConfig(['--workspace', folder.path], {}))
  expect(findings.find(({ what }) => what === 'workspace')).toMatchObject({
    state: 'bad',
    found: expect.stringContaining("holds 'letter.txt'"),
  })
  expect(await readdir(folder.path)).toEqual(['letter.txt'])
})

test.skipIf(process.getuid?.() === 0)('a workspace that cannot be written is found', async () => {
  const findings = await examineMachine(loadConfig(['--workspace', '/proc/aidant'], {}))
  expect(findings.find(({ what }) => what === 'workspace')?.state).toBe('bad')
})

test.each([
  { name: 'a loopback server', words: [], state: 'ok', found: /this machine only/ },
  {
    name: 'one on every network',
    words: ['--host', '0.0.0.0'],
    state: 'note',
    found: /API is open.*\/admin.*read on the way/,
  },
  {
    name: 'one with tokens and without https',
    words: ['--host', '0.0.0.0', '--api-token-file', 'a', '--admin-token-file', 'b'],
    state: 'note',
    found: /^other machines: what is sent can be read on the way \(--ssl-cert\)$/,
  },
  {
    name: 'one with tokens, by https',
    words: ['--host', '::', '--api-token-file', 'a', '--ssl-cert', 'c', '--ssl-key', 'k'],
    state: 'ok',
    found: /with tokens, by https/,
  },
])('who can reach $name', ({ words, state, found }) => {
  expect(examineAccess(loadConfig(words, {}))).toMatchObject({ state, found: expect.stringMatching(found) })
})
