import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { addModelCommands } from '../../src/cli/commands/models.js'
import { fixtureModel, modelConfig, RegistryHome } from '../helpers/registry.js'
import { testApp } from '../helpers/test-app.js'
import { tempFolder } from '../helpers/volumes.js'

afterEach(() => {
  process.exitCode = undefined
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** The commands against a listening server, with what they print. */
async function terminal() {
  const home = new RegistryHome()
  await home.bundle('bundled', modelConfig({ labels: ['a', 'b', 'c', 'd', 'e'] }), fixtureModel('threshold.onnx'))
  const { registry } = await home.open()
  const app = await testApp({ services: { registry } })
  const server = `http://127.0.0.1:${await app.listen()}/`
  const run = async (...words: string[]) => {
    const lines: string[] = []
    const program = new Command('aidant').exitOverride()
    addModelCommands(program, (line) => lines.push(line))
    await program.parseAsync([...words, '--server', server], { from: 'user' })
    return lines
  }
  return {
    run,
    home,
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      await registry.close()
      await home[Symbol.asyncDispose]()
    },
  }
}

test('list shows a line for each model', async () => {
  await using shell = await terminal()
  expect(await shell.run('list')).toEqual([
    'NAME     TYPE          STATE     DEVICE  SIZE   ORIGIN   LABELS',
    'bundled  segmentation  UNLOADED          1 KiB  bundled  a, b, c, d, … (5)',
  ])
  expect(JSON.parse((await shell.run('list', '--json')).join('\n'))).toMatchObject([{ name: 'bundled' }])
  expect(await shell.run('ps')).toEqual(['NAME  STATE  DEVICE  MEMORY  QUEUED  UNTIL  NOTE'])
})

test('load publishes files, show gives the config, unload and rm take it away', async () => {
  await using shell = await terminal()
  const config = join(shell.home.root, 'config_aiaa.json')
  const data = join(shell.home.root, 'model.onnx')
  writeFileSync(config, JSON.stringify(modelConfig()))
  writeFileSync(data, fixtureModel('three_classes.onnx'))
  expect(await shell.run('load', '--data', data, 'mine', '--config', config)).toEqual(['mine: unloaded, generation 1'])
  expect(JSON.parse((await shell.run('show', 'mine')).join('\n'))).toEqual(modelConfig())
  expect(await shell.run('load', 'mine', '--path', 'bundled')).toEqual(['mine: unloaded, generation 2'])
  expect(await shell.run('load', 'mine', '--generation', '1')).toEqual(['mine: unloaded, generation 3'])
  expect(await shell.run('load', 'mine')).toEqual(['mine: unloaded, generation 3'])
  expect(await shell.run('unload', 'mine')).toEqual(['mine: unloaded'])
  expect(await shell.run('rm', 'mine')).toEqual(['mine: removed'])
  expect(await shell.run('list')).toHaveLength(2)
})

test('what the server refuses is said with its hint, and the command fails', async () => {
  await using shell = await terminal()
  const said: string[] = []
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => said.push(String(text)) > 0)
  await shell.run('show', 'liver')
  expect(said.join('')).toBe("aidant: there is no model 'liver'\n  models here: bundled\n")
  expect(process.exitCode).toBe(1)
  await shell.run('load', 'mine', '--config', join(shell.home.root, 'absent.json'))
  expect(said.at(-1)).toContain('there is no file')
})

describe('a server that wants tokens', () => {
  const TOKEN = 'root-0123456789abcdef'

  /** `run` tells the exit code and what was said on stderr. */
  async function guardedTerminal() {
    const folder = await tempFolder()
    const file = join(folder.path, 'admin')
    writeFileSync(file, `# ours\nroot:${TOKEN}\n`, { mode: 0o600 })
    const app = await testApp({ flags: ['--admin-token-file', file] })
    const server = `http://127.0.0.1:${await app.listen()}`
    const said: string[] = []
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => said.push(String(text)) > 0)
    return {
      file,
      server,
      async run(...words: string[]) {
        process.exitCode = undefined
        said.length = 0
        const program = new Command('aidant').exitOverride()
        addModelCommands(program, () => {})
        await program.parseAsync(['ps', ...words], { from: 'user' })
        return { code: process.exitCode ?? 0, said: said.join('') }
      },
      async [Symbol.asyncDispose]() {
        await app[Symbol.asyncDispose]()
        await folder[Symbol.asyncDispose]()
      },
    }
  }

  test('is told one by --token, --token-file, AIDANT_TOKEN or its address', async () => {
    await using shell = await guardedTerminal()
    const { server } = shell
    expect(await shell.run('--server', server, '--token', TOKEN)).toMatchObject({ code: 0 })
    expect(await shell.run('--server', server, '--token-file', shell.file)).toMatchObject({ code: 0 })
    expect(await shell.run('--server', server.replace('//', `//me:${TOKEN}@`))).toMatchObject({ code: 0 })
    vi.stubEnv('AIDANT_TOKEN', TOKEN)
    expect(await shell.run('--server', server)).toMatchObject({ code: 0 })
    expect(await shell.run('--server', server, '--token', 'another-0123456789abc')).toMatchObject({ code: 1 })
  })

  test('is not told any: the command says what the server said', async () => {
    await using shell = await guardedTerminal()
    const { code, said } = await shell.run('--server', shell.server)
    expect(code).toBe(1)
    expect(said).toContain('this server wants a token')
  })

  test.each([
    { words: ['--token', TOKEN, '--token-file', 'x'], why: '--token and --token-file' },
    { words: ['--ca', 'x', '--insecure'], why: '--ca and --insecure' },
  ])('$why exclude each other', async ({ words, why }) => {
    await using shell = await guardedTerminal()
    const { code, said } = await shell.run('--server', shell.server, ...words)
    expect([code, said.includes(why)]).toEqual([2, true])
  })
})
