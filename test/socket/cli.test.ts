/** The command line as a program of its own, beside a server and without one. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, modelConfig } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { tempFolder } from '../helpers/volumes.js'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const SCANS = 5

let folder: Awaited<ReturnType<typeof tempFolder>>
let server: ServerProcess
const at = (name: string) => join(folder.path, name)

function aidant(words: readonly string[]) {
  const env = { ...process.env, AIDANT_SERVER: '', AIDANT_DEVICE: 'cpu', AIDANT_WORKSPACE: at('workspace') }
  return spawn(process.execPath, ['--import', 'tsx', main, ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] })
}

async function run(...words: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = aidant(words)
  let [out, err] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

beforeAll(async () => {
  folder = await tempFolder()
  server = await ServerProcess.start(at('workspace'), ['--log-level', 'silent', '--device', 'cpu'])
  const config = JSON.stringify(
    modelConfig({
      pre_transforms: [
        { name: 'LoadNifti', args: { fields: 'image' } },
        { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
      ],
    }),
  )
  await writeFile(at('config.json'), config)
  await writeFile(at('model.onnx'), fixtureModel('threshold.onnx'))
  const files = ['--config', at('config.json'), '--data', at('model.onnx')]
  expect((await run('load', 'organ', ...files, '--server', server.url)).code).toBe(0)
  await mkdir(at('scans'))
  for (let n = 0; n < SCANS; n++) {
    const voxels = Array.from({ length: 4 * 3 * 2 }, (_, i) => ((i * 7 + n * 5) % 24) / 23)
    await writeFile(at(`scans/case${n}.nii`), niftiBytes({ dim: [3, 4, 3, 2], datatype: 16, voxels }))
  }
  await writeFile(at('scans/broken.nii.gz'), 'no scan')
})
afterAll(async () => {
  await server?.end('SIGTERM')
  await folder?.[Symbol.asyncDispose]()
})

async function fromApi(scan: string): Promise<Buffer> {
  const body = new FormData()
  body.append('params', '{}')
  body.append('image', new Blob([await readFile(at(`scans/${scan}`))]), scan)
  const reply = await fetch(`${server.url}/v1/segmentation?model=organ&output=image`, { method: 'POST', body })
  return Buffer.from(await reply.arrayBuffer())
}

describe.each(['by a server', 'without a server'])('aidant segment %s', (how) => {
  const out = how.replaceAll(' ', '-')
  const flags = () => (how === 'by a server' ? ['--server', server.url] : [])

  test("gives the API's own bytes for a folder of scans; a broken one is told and the rest goes on", async () => {
    const {
      code,
      out: said,
      err,
    } = await run('segment', at('scans'), '-m', 'organ', '-o', at(out), '--json', ...flags())
    expect(code).toBe(1)
    expect(err).toContain(`${SCANS} of ${SCANS + 1} done, 1 failed`)
    const outcomes = JSON.parse(said) as { input: string; ok: boolean; output?: string; error?: string }[]
    expect(outcomes).toHaveLength(SCANS + 1)
    expect(outcomes.find(({ input }) => input.endsWith('broken.nii.gz'))).toMatchObject({ ok: false })
    for (let n = 0; n < SCANS; n++)
      expect(await readFile(join(at(out), `case${n}.nii`))).toEqual(await fromApi(`case${n}.nii`))
    expect((await readdir(at(out))).filter((name) => name.endsWith('.part'))).toEqual([])
  })

  test('gives one scan the name that is asked for, in the format of that name', async () => {
    const target = at(`${out}-one.nrrd`)
    expect((await run('segment', at('scans/case0.nii'), '-m', 'organ', '-o', target, ...flags())).code).toBe(0)
    expect((await readFile(target)).toString('latin1', 0, 4)).toBe('NRRD')
  })
})

test('polygons of a mask come as the API gives them', async () => {
  const mask = niftiBytes({
    dim: [3, 4, 4, 1],
    datatype: 2,
    voxels: Array.from({ length: 16 }, (_, i) => Number(i % 4 > 1)),
  })
  await writeFile(at('mask.nii'), mask)
  expect((await run('polygons', at('mask.nii'), '-o', at('mask.json'), '--server', server.url)).code).toBe(0)
  const body = new FormData()
  body.append('image', new Blob([await readFile(at('mask.nii'))]), 'mask.nii')
  const reply = await fetch(`${server.url}/v1/mask2polygon`, { method: 'POST', body })
  expect(JSON.parse(await readFile(at('mask.json'), 'utf8'))).toEqual(await reply.json())
})

test.each<[string, string[], number, string]>([
  ['a command that is none', ['segmnt'], 2, 'did you mean segment?'],
  ['a flag that is missing', ['segment', 'x.nii', '-m', 'organ'], 2, '--out'],
  ['a scan that is not there', ['segment', 'x.nii', '-m', 'organ', '-o', 'y.nii'], 2, "no file or folder 'x.nii'"],
  [
    'a click that is no voxel',
    ['deepgrow', '.', '-m', 'organ', '-o', 'y.nii', '--foreground', '1,2'],
    2,
    'as in 120,85,40',
  ],
  ['neither clicks nor a box', ['deepgrow', '.', '-m', 'organ', '-o', 'y.nii'], 2, '--foreground or --box is missing'],
  ['a box of three', ['deepgrow', '.', '-m', 'organ', '-o', 'y.nii', '--box', '1,2,3'], 2, 'as in 90,60,150,110'],
  ['a server that is not there', ['list', '--server', 'http://127.0.0.1:9'], 3, 'no server answers'],
])('%s ends with its own code and words', async (_what, words, code, text) => {
  const ended = await run(...words)
  expect(ended.code).toBe(code)
  expect(ended.err).toContain(text)
})

test('a model that is not there is told once, before any scan is sent', async () => {
  const { code, err } = await run('segment', at('scans'), '-m', 'organs', '-o', at('none'), '--server', server.url)
  expect([code, err.match(/organs/g)?.length]).toEqual([1, 1])
})

test.skipIf(process.platform === 'win32')('Ctrl-C stops cleanly: its own exit code, nothing half written', async () => {
  const scan = await readFile(at('scans/case0.nii'))
  await mkdir(at('many'))
  for (let n = 0; n < 500; n++) await writeFile(at(`many/case${n}.nii`), scan)
  const child = aidant(['segment', at('many'), '-m', 'organ', '-o', at('stopped'), '--jobs', '1'])
  const exit = once(child, 'exit')
  // the first of them is finished: the command is in the middle
  child.stderr.once('data', () => child.kill('SIGINT'))
  child.stderr.resume()
  expect(await exit).toEqual([130, null])
  const left = await readdir(at('stopped')).catch(() => [])
  expect(left.length).toBeLessThan(500)
  expect(left.every((name) => /^case\d+\.nii$/.test(name))).toBe(true)
})

const bash = spawnSync('bash', ['--version'], { stdio: 'ignore' }).status === 0
test.skipIf(!bash)('the completion of bash offers commands and flags', async () => {
  const { out } = await run('completion', 'bash')
  const ask = (line: string) =>
    spawnSync(
      'bash',
      ['-c', `${out}\nCOMP_WORDS=(${line}); COMP_CWORD=$((\${#COMP_WORDS[@]}-1)); _aidant; echo "\${COMPREPLY[@]}"`],
      {
        encoding: 'utf8',
      },
    ).stdout.trim()
  expect(ask('aidant seg')).toBe('segment')
  expect(ask('aidant segment --mod')).toBe('--model')
})
