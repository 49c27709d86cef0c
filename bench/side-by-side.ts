/**
 * How the clicks of many users are best computed:  npx tsx bench/side-by-side.ts [MODEL...]
 *
 * For each bundled network, milliseconds an image: one run on all cores; as many runs of one thread as there are cores, side by side in processes
 * of their own; and one run of several images on all cores, where the network takes several. In turns, the median of ROUNDS.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Tensor } from '../src/contract/tensor.js'
import { createOnnxPredictor } from '../src/predictors/onnxruntime.js'
import { record } from './record.js'

const ROUNDS = 5
const ROUND_MS = 1500
const BATCHES = [2, 4, 8]

/** The size that requests bring where the network leaves it free. */
const MODELS: Readonly<Record<string, readonly number[]>> = {
  deepgrow_2d: [1, 5, 512, 512],
  deepgrow_3d: [1, 3, 96, 96, 96],
  dextr3d: [1, 2, 64, 64, 64],
  modality_2d: [1, 1, 64, 64],
  hippocampus_mri: [1, 1, 64, 64, 64],
}

interface Way {
  readonly name: string
  readonly threads: number
  readonly batch: number
  readonly processes: number
}

const file = fileURLToPath(import.meta.url)
const weights = (model: string) => fileURLToPath(new URL(`../models/${model}/model.onnx`, import.meta.url))
const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!

/** A process of its own: loads, says so, and at each message runs for ROUND_MS and says how many runs that were in how long. */
async function work(model: string, threads: number, batch: number): Promise<void> {
  const settings = { device: { kind: 'cpu', index: 0 }, session: { intraOpThreads: threads }, arena: true } as const
  const predictor = await createOnnxPredictor(weights(model), settings)
  const dims = [batch, ...MODELS[model]!.slice(1)]
  const data = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => Math.abs(Math.sin(i * 12.9898)))
  const feeds: Record<string, Tensor> = { [predictor.inputs[0]!.name]: { dims, data } }
  await predictor.run(feeds)
  process.on('message', async () => {
    const start = performance.now()
    let runs = 0
    for (; runs === 0 || performance.now() - start < ROUND_MS; runs++) await predictor.run(feeds)
    process.send!({ msEach: (performance.now() - start) / runs })
  })
  process.send!({ ready: true })
}

/** Milliseconds an image, or undefined where the network does not take so many. */
async function open(model: string, { threads, batch, processes }: Way) {
  const children = Array.from({ length: processes }, () =>
    fork(file, [model, `${threads}`, `${batch}`], {
      execArgv: process.execArgv,
      stdio: ['ignore', 'inherit', 'ignore', 'ipc'],
    }),
  )
  const ready = await Promise.all(children.map((child) => Promise.race([once(child, 'message'), once(child, 'exit')])))
  if (ready.some(([message]) => typeof message !== 'object' || message === null)) {
    for (const child of children) child.kill()
    return undefined
  }
  return {
    round: async () => {
      const answers = children.map((child) => once(child, 'message') as Promise<[{ msEach: number }]>)
      for (const child of children) child.send('run')
      const each = (await Promise.all(answers)).map(([{ msEach }]) => msEach)
      return each.reduce((a, b) => a + b, 0) / each.length / batch / processes
    },
    close: () => children.forEach((child) => void child.kill()),
  }
}

async function compare(model: string): Promise<void> {
  const cores = availableParallelism()
  const ways: Way[] = [
    { name: 'one on all cores', threads: cores, batch: 1, processes: 1 },
    { name: `${cores} side by side, one thread each`, threads: 1, batch: 1, processes: cores },
    ...BATCHES.map((batch) => ({ name: `${batch} in one run on all cores`, threads: cores, batch, processes: 1 })),
  ]
  const opened = await Promise.all(
    ways.map(async (way) => ({ way, times: [] as number[], open: await open(model, way) })),
  )
  for (let round = 0; round < ROUNDS; round++)
    for (const { times, open } of opened) if (open) times.push(await open.round())
  const other = median(opened[0]!.times)
  for (const { way, times, open } of opened) {
    open?.close()
    const ours = median(times)
    const told = open ? `${ours.toFixed(1).padStart(8)} ms an image, ${(ours / other).toFixed(2)} x` : '   not taken'
    console.log(`${model.padEnd(16)} ${way.name.padEnd(36)} ${told}`)
    if (open && way !== ways[0])
      record({
        work: `${model}, ${way.name}, an image`,
        unit: 'ms',
        ours,
        against: ways[0]!.name,
        other,
        compared: 'ratio',
      })
  }
}

if (process.send) await work(process.argv[2]!, Number(process.argv[3]), Number(process.argv[4]))
else for (const model of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(MODELS)) await compare(model)
