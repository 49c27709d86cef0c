/**
 * A whole segmentation (read, prepare, infer, restore, count, write) here, with the network as a runner prepares it, over
 * the bare `session.run` of the network as exported, and over MONAI with its onnxruntime, on the same files, networks and
 * transforms, in one run:
 *
 *     npx tsx bench/segmentation/run.ts [runs] [python]
 *
 * needs ../shared/data and a Python with torch, monai, nibabel and onnxruntime. Both sides get 2 threads; medians. Ours is
 * the pipeline alone, without HTTP and process hops.
 */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { ModelRef } from '../../src/contract/model.js'
import type { Predict, Predictor } from '../../src/contract/tensor.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'
import { chosenModel } from '../../src/predictors/choose-rewrites.js'
import { withEnds } from '../../src/predictors/network-ends.js'
import { createOnnxPredictor, type OnnxSettings } from '../../src/predictors/onnxruntime.js'
import { loadTuned } from '../../src/runner/tune-network.js'
import { runPipeline, step } from '../../test/helpers/pipeline.js'
import { sharedData } from '../../test/helpers/shared-data.js'
import { record } from '../record.js'

interface Case {
  readonly name: string
  readonly image: string
  /** Below ../shared/data; one of ours where it begins with ../models/; made by make_networks.py where with made/. */
  readonly model: string
  /** At most so much of MONAI's time. */
  readonly goal?: number
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
const made = folder

const weightsOf = ({ model }: Case): string => {
  if (model.startsWith('made/')) return join(made, model.slice('made/'.length))
  return model.startsWith('../models/') ? here(`../../${model.slice(3)}`) : join(sharedData!, model)
}

const SETTINGS: OnnxSettings = {
  device: { kind: 'cpu', index: 0 },
  session: { intraOpThreads: 2 },
  arena: true,
}
/** As the server's default for --optimise-trial. */
const TRIAL_MS = 20_000

async function ours(one: Case): Promise<{ total: number; exported: number; plan: string }> {
  const path = weightsOf(one)
  const exported = await createOnnxPredictor(path, SETTINGS)
  const config = configOf(one, exported.inputs[0]!.name, exported.outputs[0]!.name)
  const bare = median((await timings(one, config, exported, 2)).map(({ bare }) => bare))
  await exported.close()
  const ref: ModelRef = { name: 'bench', revision: '1', config: parseModelConfig(config, 'bench'), weightsPath: path }
  const { predictor: tuned, rewrites } = await loadTuned(ref, path, SETTINGS, TRIAL_MS)
  const predictor = withEnds(tuned, () => chosenModel(path, rewrites), SETTINGS, { shared: false })
  const total = median((await timings(one, config, predictor, runs)).map(({ total }) => total))
  await predictor.close()
  return { total, exported: bare, plan: rewrites?.plan ?? 'as exported' }
}

function configOf(one: Case, input: string, output: string) {
  return {
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
}

/** Of so many whole segmentations, after one that is not counted. */
async function timings(
  one: Case,
  config: Record<string, unknown>,
  predictor: Predictor,
  count: number,
): Promise<Timing[]> {
  let bare = 0
  const timed: Predict = async (feeds) => {
    const start = performance.now()
    const outputs = await predictor.run(feeds)
    bare += performance.now() - start
    return outputs
  }
  const found: Timing[] = []
  for (let i = 0; i <= count; i++) {
    bare = 0
    const start = performance.now()
    const paths = [join(sharedData!, one.image)]
    await runPipeline({ config, predictor: { ...predictor, run: timed }, paths, outDir: folder })
    if (i > 0) found.push({ total: performance.now() - start, bare })
  }
  return found
}

async function monai(one: Case): Promise<number> {
  const args = [
    here('monai_peer.py'),
    JSON.stringify(one),
    join(sharedData!, one.image),
    weightsOf(one),
    String(runs),
    folder,
  ]
  const { stdout } = await promisify(execFile)(python, args, { maxBuffer: 2 ** 24 })
  const found = JSON.parse(stdout.trim().split('\n').at(-1)!) as Timing[]
  return median(found.map(({ total }) => total))
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}

try {
  if (cases.some(({ model }) => model.startsWith('made/')))
    await promisify(execFile)(python, [here('make_networks.py'), made])
  console.log('| case | network runs | ours (ms) | over the exported network alone | MONAI (ms) | over MONAI |')
  console.log('|---|---|---|---|---|---|')
  for (const one of cases) {
    const { total, exported, plan } = await ours(one)
    const peer = await monai(one)
    const cells = [total.toFixed(0), (total / exported).toFixed(2), peer.toFixed(0), (total / peer).toFixed(2)]
    console.log(`| ${[one.name, plan, ...cells].join(' | ')} |`)
    const common = { work: one.name, unit: 's', ours: total / 1000, compared: 'ratio' } as const
    record({ ...common, against: 'MONAI', other: peer / 1000, ...(one.goal === undefined ? {} : { goal: one.goal }) })
    const goal = plan === 'as exported' ? 1.05 : 0.9
    record({ ...common, against: 'the exported network alone', other: exported / 1000, goal })
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
