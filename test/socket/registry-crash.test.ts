/** Servers that die in the middle, and servers that share a workspace: real processes, real signals. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { fixtureModel, modelConfig, RegistryHome, variant } from '../helpers/registry.js'
import { RegistryProcess, type ShownModel } from '../helpers/registry-process.js'

const onnx = fixtureModel('threshold.onnx')
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const KILLS = 50

/** Every model shown has its whole weights, and the folder holds nothing that no manifest names. */
function checkFolder(folder: string, shown: readonly ShownModel[]): void {
  for (const { name, sha256, state } of shown) {
    expect(state).toBe('UNLOADED')
    expect(sha(readFileSync(join(folder, name, `${sha256}.onnx`)))).toBe(sha256)
    const manifest = JSON.parse(readFileSync(join(folder, name, 'manifest.json'), 'utf8'))
    const named = ['manifest.json', manifest.weights.file, manifest.previous?.weights.file].filter(Boolean)
    expect(readdirSync(join(folder, name)).toSorted()).toEqual([...new Set(named)].toSorted())
  }
  const locks = existsSync(join(folder, '.locks')) ? readdirSync(join(folder, '.locks')) : []
  expect(locks.filter((file) => file.endsWith('.lock'))).toEqual([])
}

/** Milliseconds of the first PUT of a fresh process, as the killed ones are. Leaves the model there. */
async function timeOfPut(home: RegistryHome): Promise<number> {
  const { running } = await RegistryProcess.start(home.workspace, home.bundledFolder, 'manual')
  const data = home.file(onnx)
  const start = performance.now()
  expect((await running.ask({ op: 'put', name: 'organ', config: modelConfig(), data }))?.done).toBe('put')
  const took = performance.now() - start
  await running.kill()
  return took
}

test(`kill -9 at ${KILLS} instants of a PUT leaves the old model or the new one`, { timeout: 600_000 }, async () => {
  await using home = new RegistryHome()
  // The instants cover a PUT from before its first file to after its last, however fast this machine is just now.
  const span = 2 * (await timeOfPut(home))
  let old: string | undefined = sha(onnx)
  const outcomes = { old: 0, new: 0 }
  for (let i = 0; i < KILLS; i++) {
    const { running, ready } = await RegistryProcess.start(home.workspace, home.bundledFolder, 'manual')
    expect(ready.map(({ sha256 }) => sha256)).toEqual(old === undefined ? [] : [old])
    checkFolder(home.folder, ready)
    const bytes = variant(onnx, `version ${i}`)
    const config = modelConfig({ labels: [`organ ${i}`] })
    const put = running.ask({ op: 'put', name: 'organ', config, data: home.file(bytes) })
    await wait((i / KILLS) * span)
    await running.kill()
    const answered = (await put)?.done === 'put'
    const { registry } = await home.open()
    const shown = registry.list() as unknown as ShownModel[]
    checkFolder(home.folder, shown)
    const now = shown[0]?.sha256
    expect([old, sha(bytes)]).toContain(now)
    if (answered) expect(now).toBe(sha(bytes))
    if (now !== undefined) {
      expect(registry.get('organ').config?.labels).toEqual(
        now === old ? registry.get('organ').config?.labels : [`organ ${i}`],
      )
      expect(existsSync(registry.resolve('organ').weightsPath!)).toBe(true)
    }
    outcomes[now === old ? 'old' : 'new']++
    old = now
    await registry.close()
  }
  expect(outcomes.old).toBeGreaterThan(0)
  expect(outcomes.new).toBeGreaterThan(0)
})

test('two servers on one workspace end alike after 100 operations and a kill', { timeout: 300_000 }, async () => {
  await using home = new RegistryHome()
  await home.bundle('bundled', modelConfig(), onnx)
  const start = async () => (await RegistryProcess.start(home.workspace, home.bundledFolder, 'auto')).running
  const servers = [await start(), await start()]
  // The same seed, the same run: a small linear congruential generator.
  let seed = 12345
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((seed / 2_147_483_648) * below)
  }
  const names = ['bundled', 'a', 'b', 'c']
  const kill = 30 + random(40)
  for (let i = 0; i < 100; i++) {
    const which = random(2)
    const name = names[random(names.length)]!
    const op = ['put', 'put', 'patch', 'remove'][random(4)]!
    const config = modelConfig({ labels: [`${i}`] })
    const data = op === 'put' ? home.file(variant(onnx, `version ${i}`)) : undefined
    const both = random(4) === 0
    const asked = [servers[which]!.ask({ op, name, config, data })]
    if (both) asked.push(servers[1 - which]!.ask({ op: 'remove', name: names[random(names.length)] }))
    if (i === kill) {
      await servers[which]!.kill()
      servers[which] = await start()
    }
    for (const answer of await Promise.all(asked)) {
      if (answer?.refused !== undefined) expect(['MODEL_NOT_FOUND', 'BUSY_NAME']).toContain(answer.refused)
    }
  }
  const shown = () => Promise.all(servers.map(async (server) => (await server.ask({ op: 'list' }))?.models))
  await expect
    .poll(
      async () => {
        const [one, two] = await shown()
        return JSON.stringify(one) === JSON.stringify(two)
      },
      { timeout: 5_000, interval: 100 },
    )
    .toBe(true)
  const [models] = await shown()
  for (const { name, sha256, state } of models!) {
    expect(state).toBe('UNLOADED')
    const path = join(home.folder, name, `${sha256}.onnx`)
    if (existsSync(path)) expect(sha(readFileSync(path))).toBe(sha256)
    else expect(sha256).toBe(sha(onnx))
  }
  for (const server of servers) await server.kill()
  const { registry } = await home.open()
  const final = registry.list().map(({ name, sha256, generation, state }) => ({ name, sha256, generation, state }))
  expect(final).toEqual(models)
  await registry.close()
})
