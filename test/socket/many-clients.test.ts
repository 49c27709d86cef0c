/** Eight clients at one model at once, over HTTP, with real runners side by side: each gets what it would have got alone. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ServerProcess } from '../helpers/server-process.js'
import { tempFolder } from '../helpers/volumes.js'

const CLIENTS = 8
const ROUNDS = 2
const EDGE = 160

let server: ServerProcess
let folder: Awaited<ReturnType<typeof tempFolder>>
let sessions: string[]

/** A bright disc on a dark ground, somewhere else and of another size for each client. */
async function picture(client: number): Promise<Blob> {
  const [x, y, radius] = discOf(client)
  const inside = (i: number) => (i % EDGE) - x
  const pixels = Uint8Array.from({ length: EDGE * EDGE }, (_, i) =>
    inside(i) ** 2 + (Math.floor(i / EDGE) - y) ** 2 < radius ** 2 ? 190 : 50 + ((i * 7919) % 13),
  )
  const path = join(folder.path, `${client}.png`)
  await sharp(pixels, { raw: { width: EDGE, height: EDGE, channels: 1 } })
    .png()
    .toFile(path)
  return new Blob([new Uint8Array(await readFile(path))])
}

const discOf = (client: number): [number, number, number] => [35 + 12 * client, 125 - 11 * client, 12 + 2 * client]

async function open(client: number): Promise<string> {
  const body = new FormData()
  body.append('image', await picture(client), 'picture.png')
  const reply = await fetch(`${server.url}/session/`, { method: 'PUT', body })
  return ((await reply.json()) as { session_id: string }).session_id
}

interface Answer {
  readonly status: number
  readonly mask: Buffer
}

/** A click into the disc of the client, a little elsewhere in each round. */
async function click(client: number, round: number, signal?: AbortSignal): Promise<Answer> {
  const [x, y] = discOf(client)
  const body = new FormData()
  body.append('params', JSON.stringify({ foreground: [[x + 3 * round, y - 2 * round, 0]], background: [] }))
  const query = `model=deepgrow_2d&session_id=${sessions[client]}&output=image`
  const init = { method: 'POST', body, ...(signal ? { signal } : {}) }
  const reply = await fetch(`${server.url}/v1/deepgrow?${query}`, init)
  return {
    status: reply.status,
    mask: await sharp(Buffer.from(await reply.arrayBuffer()))
      .raw()
      .toBuffer(),
  }
}

const clients = Array.from({ length: CLIENTS }, (_, client) => client)

beforeAll(async () => {
  folder = await tempFolder()
  const flags = ['--device', 'cpu', '--instances', '2', '--optimise', 'off']
  server = await ServerProcess.startCompiled(join(folder.path, 'ws'), flags)
  sessions = await Promise.all(clients.map(open))
}, 60_000)
afterAll(async () => {
  await server.end('SIGTERM')
  await folder[Symbol.asyncDispose]()
})

it('answers all as it does each alone, also while one of them leaves in the middle', async () => {
  const alone: Answer[][] = []
  for (const client of clients) {
    const answers: Answer[] = []
    for (let round = 0; round < ROUNDS; round++) answers.push(await click(client, round))
    alone.push(answers)
  }
  const masks = new Set(alone.flat().map(({ mask }) => mask.toString('base64')))
  expect(alone.flat().map(({ status }) => status)).toEqual(Array(CLIENTS * ROUNDS).fill(200))
  // each client has a mask of its own, so that none could be given another's unseen
  expect(masks.size).toBeGreaterThanOrEqual(CLIENTS)

  const leaver = new AbortController()
  const gone = click(0, 0, leaver.signal).catch((error: Error) => error.name)
  const together = clients.map(async (client) => {
    const answers: Answer[] = []
    for (let round = 0; round < ROUNDS; round++) {
      answers.push(await click(client, round))
      leaver.abort()
    }
    return answers
  })
  expect(await Promise.all(together)).toEqual(alone)
  expect(['AbortError', undefined]).toContain(await gone.then((name) => (typeof name === 'string' ? name : undefined)))

  const ps = (await (await fetch(`${server.url}/admin/ps`)).json()) as { model: string }[]
  expect(ps.map(({ model }) => model)).toEqual(['deepgrow_2d', 'deepgrow_2d'])
}, 120_000)
