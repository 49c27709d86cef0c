import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { RewriteChoice } from '../../../src/contract/model.js'
import { silentLog } from '../../../src/util/log.js'
import { KeptChoices, type KeptChoicesOptions } from '../../../src/workspace/kept-choices.js'
import { openWorkspace, type Workspace } from '../../../src/workspace/open-workspace.js'

const choice: RewriteChoice = {
  ...{ engine: 'engine 1', device: 'cpu', threads: 2, plan: 'merged', rewrites: { 'ConvTranspose as one Conv': 3 } },
  ...{ originalMs: 200, chosenMs: 100 },
}

let root: string
let workspace: Workspace
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'aidant-choices-'))
  workspace = await openWorkspace(root, { log: silentLog })
})
afterEach(async () => {
  await workspace.close()
  rmSync(root, { recursive: true, force: true })
})

const open = (more: Partial<KeptChoicesOptions> = {}) =>
  KeptChoices.open({
    folder: workspace.rewrites,
    machine: 'two cores',
    discard: (path) => workspace.discard(path),
    log: silentLog,
    ...more,
  })
const files = () => readdirSync(workspace.rewrites).toSorted()

test('what a trial found is known at once, and after the next start', async () => {
  const choices = await open()
  expect(choices.known('a')).toBeUndefined()
  choices.keep('a', choice)
  expect(choices.known('a')).toEqual(choice)
  await choices.close()
  expect((await open()).known('a')).toEqual(choice)
  expect((await open()).known('b')).toBeUndefined()
})

test('what was measured on a busy machine is known until the end, and not kept', async () => {
  const choices = await open()
  choices.keep('a', { ...choice, busy: true })
  await choices.refresh()
  expect(choices.known('a')?.plan).toBe('merged')
  expect(files()).toEqual([])
  choices.keep('a', { ...choice, plan: null })
  await choices.refresh()
  expect(choices.known('a')?.plan).toBe(null)
  expect((await open()).known('a')?.plan).toBe(null)
})

test('another kind of machine on the same workspace has choices of its own', async () => {
  const [here, there] = [await open(), await open({ machine: 'eight cores' })]
  here.keep('a', choice)
  there.keep('a', { ...choice, plan: null })
  await Promise.all([here.refresh(), there.refresh()])
  expect([here.known('a')?.plan, there.known('a')?.plan]).toEqual(['merged', null])
})

test('a server learns what another one has found, and of two that found something the last one counts', async () => {
  const [one, other] = [await open(), await open()]
  one.keep('a', choice)
  await one.close()
  other.keep('a', { ...choice, plan: 'phases' })
  await other.close()
  await one.refresh()
  expect(one.known('a')?.plan).toBe('phases')
  expect(files()).toHaveLength(1)
})

test.each(['', '{"format": 1, "revi', '{"format": 2}', 'null'])(
  'a file that holds %j is as none, and is written anew',
  async (text) => {
    const first = await open()
    first.keep('a', choice)
    await first.close()
    writeFileSync(join(workspace.rewrites, files()[0]!), text)
    const second = await open()
    expect(second.known('a')).toBeUndefined()
    second.keep('a', choice)
    await second.close()
    expect((await open()).known('a')).toEqual(choice)
  },
)

test('of more than may be kept, those go that were found longest ago; what is not ours stays', async () => {
  writeFileSync(join(workspace.rewrites, 'notes.txt'), 'mine')
  const choices = await open({ mostKept: 2 })
  for (const [i, revision] of ['a', 'b'].entries()) {
    const before = files()
    choices.keep(revision, choice)
    await choices.refresh()
    const [added] = files().filter((name) => !before.includes(name))
    utimesSync(join(workspace.rewrites, added!), 1000 + i, 1000 + i)
  }
  choices.keep('c', choice)
  await choices.refresh()
  expect(['a', 'b', 'c'].map((revision) => choices.known(revision) !== undefined)).toEqual([false, true, true])
  expect(files()).toHaveLength(3)
  expect(readFileSync(join(workspace.rewrites, 'notes.txt'), 'utf8')).toBe('mine')
})

test('a disk that takes nothing costs a trial after the next start, and nothing now', async () => {
  const choices = await open()
  rmSync(workspace.rewrites, { recursive: true })
  choices.keep('a', choice)
  expect(choices.known('a')).toEqual(choice)
  await choices.close()
})
