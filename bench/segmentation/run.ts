/**
 * A whole segmentation (read, prepare, infer, restore, count, write) over the bare `session.run` it contains, here and in
 * MONAI with onnxruntime, on the same files, networks and transforms, in one run:
 *
 *     npx tsx bench/segmentation/run.ts [runs] [python]
 *
 * needs ../shared/data and a Python with monai, nibabel and onnxruntime. Both sides get 2 threads; of each the run with
 * the least time outside the network counts. Ours is the pipeline alone, without HTTP and process hops.
 */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Predict } from '../../src/contract/tensor.js'
import { createOnnxPredictor } from '../../src/predictors/onnxruntime.js'
import { runPipeline, step } from '../../test/helpers/pipeline.js'
import { sharedData } from '../../test/helpers/shared-data.js'

interface Case {
  readonly name: string
  readonly image: string
  readonly model: string
  readonly pre: readonly (readonly [string, Record<string, unknown>])[]
  readonly window?: { roi: number[]; overlap: number; batch_size: number; mode: string }
}
interface Timing {
  readonly total: number
  readonly bare: number
}

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
const runs = Number(process.argv[2] ?? 3)
const python = process.argv[3] ?? 'python3'
if (!sharedData) throw new Error('../shared/data is not there')
const cases = JSON.parse(readFileSync(here('cases.json'), 'utf8')) as Case[]
const folder = await mkdtemp(join(tmpdir(), 'aidant-bench-'))

const weightsOf = ({ model }: Case): string =>
  model.startsWith('../models/') ? here(`../../${model.slice(3)}`) : join(sharedData!, model)

async function ours(one: Case): Promise<Timing> {
  const predictor = await createOnnxPredictor(weightsOf(one), {
    device: { kind: 'cpu', index: 0 },
    session: { intraOpThreads: 2 },
    arena: true,
  })
  let bare = 0
  const timed: Predict = async (feeds) => {
    const start = performance.now()
    const outputs = await predictor.run(feeds)
    bare += performance.now() - start
    return outputs
  }
  const [input, output] = [predictor.inputs[0]!.name, predictor.outputs[0]!.name]
  const config = {
    version: '4',
    type: 'segmentation',
    labels: [],
    description: '',
    pre_transforms: [
      step('LoadImaged'),
      step('EnsureChannelFirstd'),
      ...one.pre.map(([name, args]) => step(name, args)),
    ],
    inference: {
      image: 'image',
      node_mapping: { [input]: 'image', [output]: 'pred' },
      args: one.window ? { scanning_window: true, ...one.window } : {},
    },
    post_transforms: [
      { name: 'AsDiscreted', args: { keys: 'pred', argmax: true } },
      { name: 'Invertd', args: { keys: 'pred', orig_keys: 'image', nearest_interp: true } },
    ],
    writer: { name: 'Writer', args: { image: 'pred' } },
  }
  const timings: Timing[] = []
  for (let i = 0; i <= runs; i++) {
    bare = 0
    const start = performance.now()
    const paths = [join(sharedData!, one.image)]
    await runPipeline({ config, predictor: { ...predictor, run: timed }, paths, outDir: folder })
    if (i > 0) timings.push({ total: performance.now() - start, bare })
  }
  await predictor.close()
  return least(timings)
}

async function monai(one: Case): Promise<Timing> {
  const args = [
    here('monai_peer.py'),
    JSON.stringify(one),
    join(sharedData!, one.image),
    weightsOf(one),
    String(runs),
    folder,
  ]
  const { stdout } = await promisify(execFile)(python, args, { maxBuffer: 2 ** 24 })
  return least(JSON.parse(stdout.trim().split('\n').at(-1)!) as Timing[])
}

const least = (timings: readonly Timing[]): Timing =>
  timings.reduce((best, one) => (one.total - one.bare < best.total - best.bare ? one : best))

try {
  console.log('| case | ours: total / network (ms) | ratio | MONAI: total / network (ms) | ratio |')
  console.log('|---|---|---|---|---|')
  for (const one of cases) {
    const [a, b] = [await ours(one), await monai(one)]
    const cells = [a, b].flatMap(({ total, bare }) => [
      `${total.toFixed(0)} / ${bare.toFixed(0)}`,
      (total / bare).toFixed(2),
    ])
    console.log(`| ${[one.name, ...cells].join(' | ')} |`)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
