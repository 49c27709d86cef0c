/** `aidant bench MODEL [SCAN]`: where the time of a request goes on this machine, against the bare network. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Command, Option } from 'commander'
import { UsageError } from '../exit-codes.js'
import { findInputs } from '../inputs.js'
import { startLocalServer } from '../local-server.js'
import { readText } from '../server-client.js'
import { addServerOptions, connect, type ServerOptions } from '../server-options.js'
import { table } from '../table.js'
import { told } from '../told.js'

interface Options extends ServerOptions {
  readonly workspace?: string
  readonly device?: string
  readonly runs: string
  readonly params?: string
  readonly json?: boolean
}

interface Timed {
  /** From the first byte sent to the last received, in milliseconds. */
  readonly total: number
  /** Milliseconds by stage, as the server tells them. */
  readonly stages: Readonly<Record<string, number>>
}

const MOST_RUNS = 1000
/** A made scan where none is given: a bright ball in noise, as large as a small organ's crop. */
const BALL_EDGE = 64

/** Clicks where that ball lies; on a scan of one's own `--params` says better ones. */
const [CENTRE, RADIUS] = [BALL_EDGE / 2, BALL_EDGE / 4]
const BALL_PARAMS = {
  foreground: [[CENTRE, CENTRE, CENTRE]],
  background: [],
  points: [0, 1, 2].flatMap((axis) =>
    [-RADIUS, RADIUS].map((step) => [0, 1, 2].map((other) => CENTRE + (other === axis ? step : 0))),
  ),
}

export function addBenchCommand(program: Command): void {
  addServerOptions(
    program
      .command('bench')
      .description('time a model on a scan: whole requests, their stages, the memory it takes')
      .argument('<model>', 'a model of aidant list')
      .argument('[scan]', 'an image; without one, a made ball of 64 voxels edge'),
    new Option('--server <url>', 'a running server; without one the work is done here'),
  )
    .option('--workspace <folder>', 'without --server: use the models of this workspace too')
    .option('--device <device>', 'without --server: auto, cpu, cuda or cuda:N')
    .option('--runs <count>', 'requests that are timed, after one that is not', '5')
    .option('--params <json>', 'params of the request, such as points or clicks')
    .option('--json', 'the numbers as JSON')
    .action(told(bench))
}

async function bench(model: string, scan: string | undefined, options: Options): Promise<void> {
  const runs = Number(options.runs)
  if (!Number.isInteger(runs) || runs < 1 || runs > MOST_RUNS)
    throw new UsageError(`--runs is a number from 1 to ${MOST_RUNS}, not ${options.runs}`)
  const folder = await mkdtemp(join(tmpdir(), 'aidant-bench-'))
  const local = options.server ? undefined : await startLocalServer(options)
  try {
    const client = local?.client ?? (await connect({ ...options, server: options.server! }))
    const [input] = await findInputs([scan ?? (await makeScan(folder))])
    const files = input!.files.map((path) => ({ name: 'image', path }))
    const query = new URLSearchParams({ model })
    const ask = async (): Promise<Timed> => {
      const started = performance.now()
      const params = options.params ?? JSON.stringify(BALL_PARAMS)
      const reply = await client.post(`/v1/inference?${query}`, { params }, files)
      await readText(reply)
      return { total: performance.now() - started, stages: stagesIn(String(reply.headers['server-timing'] ?? '')) }
    }
    const first = await ask()
    const timed: Timed[] = []
    for (let run = 0; run < runs; run++) timed.push(await ask())
    const ps = await client.ask<{ model: string; device?: string; rss_bytes?: number }[]>('GET', '/admin/ps')
    const running = ps.find((one) => one.model === model)
    const names = [...new Set(timed.flatMap(({ stages }) => Object.keys(stages)))]
    const stages = Object.fromEntries(names.map((name) => [name, median(timed.map((one) => one.stages[name] ?? 0))]))
    const total = median(timed.map((one) => one.total))
    const result = {
      model,
      scan: scan ?? `a made ball, ${BALL_EDGE} voxels edge`,
      device: running?.device,
      runs,
      firstMs: first.total,
      medianMs: total,
      stagesMs: stages,
      /** The whole request over the network alone: 1 would be a pipeline that costs nothing. */
      requestOverNetwork: stages.infer ? total / stages.infer : undefined,
      memoryBytes: running?.rss_bytes,
    }
    if (options.json) process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`)
    else process.stdout.write(`${report(result).join('\n')}\n`)
  } finally {
    await local?.close()
    await rm(folder, { recursive: true, force: true })
  }
}

interface Result {
  readonly model: string
  readonly scan: string
  readonly device?: string | undefined
  readonly runs: number
  readonly firstMs: number
  readonly medianMs: number
  readonly stagesMs: Readonly<Record<string, number>>
  readonly requestOverNetwork?: number | undefined
  readonly memoryBytes?: number | undefined
}

const STAGE_NAMES: Readonly<Record<string, string>> = {
  read: 'reading the image',
  pre: 'before the network',
  wait: 'waiting for the device',
  infer: 'the network',
  post: 'after the network',
  write: 'writing the result',
}

function report(result: Result): string[] {
  const ms = (value: number) => `${value.toFixed(1)} ms`
  const rows = [
    ['first request, with loading', ms(result.firstMs)],
    [`whole request, median of ${result.runs}`, ms(result.medianMs)],
    ...Object.entries(result.stagesMs).map(([stage, value]) => [`  ${STAGE_NAMES[stage] ?? stage}`, ms(value)]),
    ...(result.requestOverNetwork
      ? [['whole request over the network alone', result.requestOverNetwork.toFixed(2)]]
      : []),
    ...(result.memoryBytes ? [['memory of the model now', `${(result.memoryBytes / 2 ** 20).toFixed(0)} MiB`]] : []),
  ]
  return [`${result.model} on ${result.device ?? 'its engine'}: ${result.scan}`, ...table(['', ''], rows).slice(1)]
}

async function makeScan(folder: string): Promise<string> {
  const { writeVolume } = await import('../../formats/write-volume.js')
  const { makeVolume } = await import('../../volume/volume.js')
  const n = BALL_EDGE
  const data = new Int16Array(n ** 3)
  for (let z = 0, i = 0; z < n; z++)
    for (let y = 0; y < n; y++)
      for (let x = 0; x < n; x++, i++) {
        const inside = Math.hypot(x - n / 2, y - n / 2, z - n / 2) < n / 4
        data[i] = (inside ? 300 : 100) + ((i * 7919) % 41)
      }
  const path = join(folder, 'ball.nii.gz')
  const affine = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
  await writeVolume(makeVolume([n, n, n], affine, data), path, { extension: '.nii.gz', kind: 'intensity' })
  return path
}

function stagesIn(header: string): Record<string, number> {
  return Object.fromEntries([...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, stage, ms]) => [stage!, Number(ms)]))
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
