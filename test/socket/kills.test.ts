/**
 * Three servers on one workspace, killed again and again in the middle of what they do: models change, sessions come, clicks
 * and asynchronous results are computed. After every kill what was there before is there, or what was being made, whole.
 * The next kill does not wait for the server that takes the dead one's place: it starts while the others go on, which is
 * most of the time that a kill takes.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { clickConfig } from '../helpers/click-model.js'
import { formData } from '../helpers/form-data.js'
import { fixtureModel, modelConfig, variant } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, volumeOf } from '../helpers/volumes.js'

/** AIDANT_KILLS=n does n of them; AIDANT_LONG=1 the thousand of the acceptance. */
const KILLS = Number(process.env.AIDANT_KILLS ?? (process.env.AIDANT_LONG ? 1000 : 50))
/** Networks are not tried rewritten: that takes a proof most of its time, and nothing here depends on it. */
const FLAGS = ['--auto-reload', '--log-level', 'silent', '--keep-alive', '20', '--optimise', 'off']
const MODELS = ['a', 'b', 'c']
const OPS = ['put', 'patch', 'delete', 'session', 'click', 'async'] as const

/** Files of somebody else in the same folder. */
const FOREIGN = {
  'letter.txt': 'dear',
  'models/mine/model.onnx': 'weights',
  'models/a/notes.txt': 'note',
  'sessions/holiday/a.jpg': 'sea',
  'tmp/build-12/main.o': 'object',
}

const onnx = fixtureModel('threshold.onnx')
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** The same numbers in every run. */
function lehmer(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed * 48_271) % 2_147_483_647
    return Math.floor((seed / 2_147_483_647) * below)
  }
}

interface Reply {
  readonly status: number
  readonly bytes: Buffer
}

/** Undefined when the connection broke: the server was killed. */
async function ask(server: ServerProcess, path: string, init: RequestInit = {}): Promise<Reply | undefined> {
  try {
    const reply = await fetch(`${server.url}${path}`, init)
    return { status: reply.status, bytes: Buffer.from(await reply.arrayBuffer()) }
  } catch {
    return undefined
  }
}

const json = (reply: Reply) => JSON.parse(reply.bytes.toString()) as Record<string, string>

/** Asks until it is neither busy nor still to be computed. */
async function insist(server: ServerProcess, path: string, init?: () => RequestInit): Promise<Reply> {
  for (;;) {
    const reply = await ask(server, path, init?.())
    if (!reply) throw new Error('a server is gone that nobody killed')
    if (reply.status !== 503 && reply.status !== 202) return reply
    await wait(50)
  }
}

test(`${KILLS} kills over three servers lose no model and no session, and touch nothing foreign`, {
  timeout: 4 * 3600_000,
}, async () => {
  const workspace = await mkdtemp(join(tmpdir(), 'aidant-kills-'))
  const scan = await readFile(await niftiFile(workspace, volumeOf([20, 18, 8], { value: (i) => (i * 7919) % 500 })))
  await rm(join(workspace, 'image.nii.gz'))
  const start = () => ServerProcess.startCompiled(workspace, FLAGS)
  const servers = [await start(), await start(), await start()]
  /** Servers on their way to a place in `servers`. */
  const coming: (Promise<ServerProcess> | undefined)[] = [undefined, undefined, undefined]
  const arrived = async (place: number): Promise<ServerProcess> => {
    const next = coming[place]
    if (next) servers[place] = await next
    coming[place] = undefined
    return servers[place]!
  }
  const random = lehmer(20_251)
  const some = <T>(list: readonly T[]): T => list[random(list.length)]!

  for (const [name, text] of Object.entries(FOREIGN)) {
    await mkdir(dirname(join(workspace, name)), { recursive: true })
    await writeFile(join(workspace, name), text)
  }
  const put = (name: string, config: unknown, data: Uint8Array) => ({
    path: `/admin/model/${name}`,
    init: () => ({ method: 'PUT', body: formData({ config: JSON.stringify(config), data }) }),
  })
  const clicker = put('clicker', clickConfig(2), fixtureOf('guidance_2d'))
  expect((await insist(servers[0]!, clicker.path, clicker.init)).status).toBe(200)
  const params = JSON.stringify({ foreground: [[10, 9, 4]], background: [[2, 3, 4]] })
  const click = (session: string, more = '') => ({
    path: `/v1/deepgrow?model=clicker&session_id=${session}&output=image${more}`,
    init: () => ({ method: 'POST', body: formData({ params }) }),
  })
  const newSession = { path: '/session/', init: () => ({ method: 'PUT', body: formData({ image: scan }) }) }

  const dead = new Set<ServerProcess>()
  const sessions: string[] = []
  const first = await insist(servers[0]!, newSession.path, newSession.init)
  sessions.push(json(first).session_id!)
  // Other servers hear of a model within two seconds.
  // The status, not the words: that of a model it does not know yet names it too.
  const known = async (server: ServerProcess) => (await insist(server, '/v1/models?model=clicker')).status
  for (const server of servers) await expect.poll(() => known(server), { timeout: 30_000 }).toBe(200)
  const wanted = await insist(servers[0]!, click(sessions[0]!).path, click(sessions[0]!).init)
  expect(wanted.status).toBe(200)
  const right = async (server: ServerProcess, session: string) => {
    const { path, init } = click(session)
    const reply = await insist(server, path, init)
    expect([reply.status, sha(reply.bytes)]).toEqual([200, sha(wanted.bytes)])
  }

  /** What a model may be now: the label of its config, or 'none'. */
  const may = new Map<string, Set<string>>(MODELS.map((name) => [name, new Set(['none'])]))
  /** Reads what it is, which must be one of these, with whole weights. */
  const settle = (name: string) => {
    const file = join(workspace, 'models', name, 'manifest.json')
    const manifest = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
    const label = manifest === undefined ? 'none' : manifest.config.labels[0]
    expect([...may.get(name)!], `model ${name}`).toContain(label)
    if (manifest)
      expect(sha(readFileSync(join(workspace, 'models', name, manifest.weights.file)))).toBe(manifest.weights.sha256)
    may.set(name, new Set([label]))
    return label as string
  }

  /** Milliseconds that an operation took lately, so that kills meet all of it. */
  const spans = new Map<string, number>()
  const outcomes: Record<string, number> = {}
  const count = (what: string) => {
    outcomes[what] = (outcomes[what] ?? 0) + 1
  }

  const begin = (op: (typeof OPS)[number], server: ServerProcess, i: number): Promise<Reply | undefined> => {
    const name = some(MODELS)
    const label = `label ${i}`
    const after = (one: string) => may.get(name)!.add(one)
    if (op === 'put') {
      after(label)
      const { path, init } = put(name, modelConfig({ labels: [label] }), variant(onnx, `version ${i}`))
      return ask(server, path, init())
    }
    if (op === 'patch') {
      // it changes what is there now, or what another is just bringing or taking away
      if ([...may.get(name)!].some((one) => one !== 'none')) after(label)
      const headers = { 'content-type': 'application/json' }
      const body = JSON.stringify(modelConfig({ labels: [label] }))
      return ask(server, `/admin/model/${name}`, { method: 'PATCH', body, headers })
    }
    if (op === 'delete') {
      after('none')
      return ask(server, `/admin/model/${name}`, { method: 'DELETE' })
    }
    if (op === 'session') return ask(server, newSession.path, newSession.init())
    const { path, init } = click(some(sessions), op === 'async' ? '&async=true' : '')
    return ask(server, path, init())
  }

  /** The rest of what was answered: it must be right. */
  const check = async (op: string, server: ServerProcess, reply: Reply) => {
    const words = reply.bytes.toString('latin1', 0, 300)
    if (op === 'put' || op === 'patch' || op === 'delete') {
      expect([200, 404, 409, 503], words).toContain(reply.status)
    } else expect([200, 202, 503], words).toContain(reply.status)
    if (op === 'session' && reply.status === 200) sessions.push(json(reply).session_id!)
    if (op === 'click' && reply.status === 200) expect(sha(reply.bytes)).toBe(sha(wanted.bytes))
    if (op === 'async' && reply.status === 202 && !dead.has(server)) {
      const result = await insist(server, `/v1/requests/${json(reply).id}/result`)
      expect([result.status, sha(result.bytes)]).toEqual([200, sha(wanted.bytes)])
    }
  }

  try {
    for (let i = 0; i < KILLS; i++) {
      const op = OPS[i % OPS.length]!
      const which = random(servers.length)
      const victim = await arrived(which)
      const began = performance.now()
      const running = begin(op, victim, i)
      // A second one on another server meets what the dead one left.
      const otherOp = some(OPS)
      const survivors = [1, 2].map((step) => (which + step) % servers.length)
      const living = survivors.filter((place) => !coming[place]).map((place) => servers[place]!)
      const other = living.length > 0 ? some(living) : await arrived(some(survivors))
      const alongside = random(3) === 0 ? begin(otherOp, other, 10_000 + i) : undefined
      await Promise.race([running, wait((random(1000) / 1000) * 1.2 * (spans.get(op) ?? 1000))])
      await victim.end('SIGKILL')
      dead.add(victim)
      const answer = await running
      if (answer) spans.set(op, 0.7 * (spans.get(op) ?? 0) + 0.3 * (performance.now() - began))
      else spans.set(op, Math.max(spans.get(op) ?? 0, performance.now() - began))
      count(`${op} ${answer ? answer.status : 'killed'}`)
      // Nobody waits for it yet; whoever comes to wait hears when it could not start.
      coming[which] = start()
      coming[which].catch(() => {})
      if (answer) await check(op, victim, answer)
      if (alongside) await check(otherOp, other, (await alongside)!)

      for (const name of MODELS) settle(name)
      for (const [name, text] of Object.entries(FOREIGN)) expect(readFileSync(join(workspace, name), 'utf8')).toBe(text)
      if (sessions.length > 6) {
        const [oldest] = sessions.splice(0, 1)
        expect((await insist(other, `/session/${oldest}`, () => ({ method: 'DELETE' }))).status).toBe(200)
      }
      // The living have the model loaded; the newcomer, which begins with what the dead left, is asked every fifth time.
      await right(other, some(sessions))
      if (i % 5 === 4) await right(await arrived(which), some(sessions))
      if (i % 10 === 9) for (const session of sessions) await right(await arrived(random(3)), session)
      if (i % 100 === 99) process.stderr.write(`${i + 1} kills: ${JSON.stringify(outcomes)}\n`)
    }

    for (const place of coming.keys()) await arrived(place)
    // All three end with the same models, and every one of them works.
    const labels = MODELS.map(settle)
    const shown = async (server: ServerProcess) => {
      const models = JSON.parse((await insist(server, '/admin/model')).bytes.toString()) as {
        name: string
        config: { labels: string[] }
      }[]
      return MODELS.map((name) => models.find((model) => model.name === name)?.config.labels[0] ?? 'none')
    }
    for (const server of servers) await expect.poll(() => shown(server), { timeout: 30_000 }).toEqual(labels)
    for (const [i, name] of MODELS.entries()) {
      const url = `/v1/segmentation?model=${name}&session_id=${sessions[0]}&output=results`
      const reply = await insist(servers[0]!, url, () => ({ method: 'POST', body: formData({ params: '{}' }) }))
      expect(reply.status).toBe(labels[i] === 'none' ? 404 : 200)
    }
    for (const server of servers) expect(await server.end('SIGTERM')).toBe(0)

    // The next server tidies up after all the dead ones.
    const last = await start()
    try {
      const tmp = () => readdirSync(join(workspace, 'tmp')).filter((name) => name !== 'build-12').length
      await expect.poll(tmp, { timeout: 30_000 }).toBe(1)
      const all = readdirSync(workspace, { recursive: true, encoding: 'utf8' })
      expect(all.filter((name) => /\.(part|discarded|hold|new|probe|takeover)$/.test(name))).toEqual([])
      const kept = readdirSync(join(workspace, 'sessions')).filter((name) => name !== 'holiday')
      expect(kept).toEqual(expect.arrayContaining(sessions))
      process.stderr.write(`all ${KILLS} kills: ${JSON.stringify(outcomes)}\n`)
    } finally {
      expect(await last.end('SIGTERM')).toBe(0)
    }
  } finally {
    for (const place of coming.keys()) await arrived(place).catch(() => {})
    for (const server of servers) await server.end('SIGKILL')
    await rm(workspace, { recursive: true, force: true })
  }
})

function fixtureOf(name: string): Buffer {
  return readFileSync(fileURLToPath(new URL(`../fixtures/models/${name}.onnx`, import.meta.url)))
}
