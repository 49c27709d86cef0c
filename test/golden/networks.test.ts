/**
 * Models of several networks, sent as a user would send them and run through a real server, against what MONAI's inferer and
 * transforms gave with the same networks (make_networks_golden.py).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { type RunningServer, startServer } from '../../src/server.js'
import { roomyLimits } from '../helpers/volumes.js'
import { zipBytes } from '../helpers/zip.js'

const answers = fileURLToPath(new URL('networks', import.meta.url))
const image = fileURLToPath(new URL('transform-ct.nii.gz', import.meta.url))
const expectedScores = JSON.parse(readFileSync(join(answers, 'scores.json'), 'utf8')) as Record<string, number[]>
const filesOf = (name: string) =>
  readdirSync(join(answers, name)).map((file) => ({ name: file, data: readFileSync(join(answers, name, file)) }))

let workspace: string
/** Keeps the networks of a model open, and opens one at a time. */
let servers: Record<'open' | 'one', RunningServer>
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-networks-'))
  const start = (name: string, ...more: string[]) =>
    startServer(
      loadConfig(
        ['--workspace', join(workspace, name), '--port', '0', '--log-level', 'silent', '--device', 'cpu', ...more],
        {},
      ),
    )
  servers = {
    open: await start('open', '--max-loaded-models', '1'),
    one: await start('one', '--max-loaded-models', '1', '--network-memory', '0'),
  }
})
afterAll(async () => {
  await Promise.all(Object.values(servers ?? {}).map((server) => server.close()))
  if (workspace) await rm(workspace, { recursive: true, force: true })
})

async function put(
  server: RunningServer,
  name: string,
  parts: readonly { field: string; name: string; data: Buffer }[],
) {
  const body = new FormData()
  for (const { field, name: file, data } of parts) body.append(field, new Blob([data as BlobPart]), file)
  const reply = await fetch(`${server.url}/admin/model/${name}`, { method: 'PUT', body })
  expect(reply.status, await reply.clone().text()).toBe(200)
  return (await reply.json()) as { type: string; parts: Record<string, unknown>[] }
}

const putZip = (server: RunningServer, name: string) =>
  put(server, name, [{ field: 'data', name: `${name}.zip`, data: zipBytes(filesOf(name)) }])

async function ask(server: RunningServer, name: string, output: 'image' | 'results', path = image): Promise<Response> {
  const body = new FormData()
  body.append('image', new Blob([readFileSync(path) as BlobPart]), 'scan.nii.gz')
  const reply = await fetch(`${server.url}/v1/inference?model=${name}&output=${output}`, { method: 'POST', body })
  expect(reply.status, await reply.clone().text()).toBe(200)
  return reply
}

async function labels(server: RunningServer, name: string) {
  const path = join(workspace, 'answer.nii.gz')
  await writeFile(path, Buffer.from(await (await ask(server, name, 'image')).arrayBuffer()))
  return (await readVolume([path], roomyLimits)).volume
}

async function agreement(server: RunningServer, name: string): Promise<number> {
  const got = await labels(server, name)
  const { volume: want } = await readVolume([join(answers, `${name}.nii.gz`)], roomyLimits)
  expect(got.size).toEqual(want.size)
  let same = 0
  for (let i = 0; i < want.data.length; i++) if (want.data[i] === got.data[i]) same++
  return same / want.data.length
}

const maps = readdirSync(answers).flatMap((file) => file.match(/^(.*)\.nii\.gz$/)?.[1] ?? [])

describe('a model of several networks gives MONAI’s answer', () => {
  it.each(['mean_scores', 'mean_of_overlapping', 'parts_after_rough'])('%s, networks kept open', async (name) => {
    await putZip(servers.open, name)
    expect(await agreement(servers.open, name)).toBeGreaterThanOrEqual(0.998)
  })
  it.each(maps)('%s, one network open at a time', async (name) => {
    await putZip(servers.one, name)
    expect(await agreement(servers.one, name)).toBeGreaterThanOrEqual(0.998)
  })
  it.each(Object.keys(expectedScores))('%s', async (name) => {
    await putZip(servers.one, name)
    const { scores, prediction } = (await (await ask(servers.one, name, 'results')).json()) as {
      scores: Record<string, number>
      prediction: string[]
    }
    const want = expectedScores[name]!
    for (const [i, score] of Object.values(scores).entries()) expect(score).toBeCloseTo(want[i]!, 3)
    expect(prediction).toEqual([['a', 'b', 'c'][want.indexOf(Math.max(...want))]])
  })
})

describe('how it is sent and shown', () => {
  it('takes the config and each network as a part of its own, in any order', async () => {
    const parts = filesOf('mean_weighted').map(({ name, data }) => {
      const isConfig = name.endsWith('.json')
      return { field: isConfig ? 'config' : 'data', name, data }
    })
    const model = await put(servers.one, 'mean_weighted', parts.toReversed())
    expect(model.type).toBe('segmentation')
    expect(model.parts.map(({ network, role }) => [network, role])).toEqual([
      ['net0.onnx', 'mean'],
      ['net1.onnx', 'mean'],
      ['net2.onnx', 'mean'],
    ])
    expect(await agreement(servers.one, 'mean_weighted')).toBeGreaterThanOrEqual(0.998)
  })
  it('an ensemble that names no networks is of all that came, in the order of their names', async () => {
    const files = filesOf('vote_labels')
    const config = JSON.parse(files.find(({ name }) => name.endsWith('.json'))!.data.toString()) as {
      inference: { networks?: string[] }
    }
    delete config.inference.networks
    const parts = files.map(({ name, data }) =>
      name.endsWith('.json')
        ? { field: 'config', name, data: Buffer.from(JSON.stringify(config)) }
        : { field: 'data', name, data },
    )
    const model = await put(servers.one, 'vote_labels', parts)
    expect(model.parts.map(({ network }) => network)).toEqual(['net0.onnx', 'net1.onnx', 'net2.onnx', 'net3.onnx'])
  })
  it('the admin’s list tells the parts of a label map, the first model before them', async () => {
    await putZip(servers.one, 'parts_after_rough')
    const list = (await (await fetch(`${servers.one.url}/admin/model`)).json()) as { name: string; parts?: unknown }[]
    expect(list.find(({ name }) => name === 'parts_after_rough')?.parts).toMatchObject([
      { network: 'rough.onnx', role: 'first' },
      { network: 'organs.onnx', role: 'label map', labels: { '1': 1, '2': 5 } },
      { network: 'vessels.onnx', role: 'label map', labels: { '1': 2 } },
      { network: 'bones.onnx', role: 'label map', labels: { '1': 3, '3': 4 } },
    ])
  })
  it('where the first model finds nothing, the label map is empty and the reply says so', async () => {
    await putZip(servers.one, 'parts_after_rough')
    const { data, ...rest } = (await readVolume([image], roomyLimits)).volume
    const { writeVolume } = await import('../../src/formats/write-volume.js')
    const air = join(workspace, 'air.nii.gz')
    await writeVolume({ ...rest, data: new Int16Array(data.length).fill(-1000) }, air, {
      extension: '.nii.gz',
      kind: 'intensity',
    })
    const reply = (await (await ask(servers.one, 'parts_after_rough', 'results', air)).json()) as {
      notes: string[]
      label_statistics: unknown[]
    }
    expect(reply.notes.join()).toMatch(/first model found nothing/)
    expect(reply.label_statistics).toEqual([])
  })
})
