/**
 * The bundled models' whole requests (read, prepare, infer, restore, write), with the network as a runner prepares it,
 * over the bare `session.run` of the network as exported, in turns in one run:
 *
 *     npx tsx bench/bundled.ts [rounds] [MODEL...]
 *
 * needs ../shared/data. Medians; 2 threads; the pipeline alone, without HTTP and process hops (bench/clicks.ts has those).
 * Click models are asked in a session: the image is prepared already, each click is another one.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { InferenceJob } from '../src/contract/job.js'
import type { ModelRef } from '../src/contract/model.js'
import type { Predict, Predictor } from '../src/contract/tensor.js'
import { readVolume } from '../src/formats/read-volume.js'
import { parseModelConfig } from '../src/pipelines/parse-model-config.js'
import { runInference } from '../src/pipelines/run-inference.js'
import { chosenModel } from '../src/predictors/choose-rewrites.js'
import { withEnds } from '../src/predictors/network-ends.js'
import { createOnnxPredictor, type OnnxSettings } from '../src/predictors/onnxruntime.js'
import { loadTuned } from '../src/runner/tune-network.js'
import { VolumeCache } from '../src/runner/volume-cache.js'
import { idleControl } from '../test/helpers/pipeline.js'
import { sharedData } from '../test/helpers/shared-data.js'
import { roomyLimits } from '../test/helpers/volumes.js'
import { record } from './record.js'

/** Most of the time goes here where a rewrite is faster, and so little beside the network where none is. */
const [GOAL_REWRITTEN, GOAL_AS_EXPORTED] = [0.9, 1.05]
/** As the server's default for --optimise-trial. */
const TRIAL_MS = 20_000
const CACHE_BYTES = 2 ** 31
const SETTINGS: OnnxSettings = { device: { kind: 'cpu', index: 0 }, session: { intraOpThreads: 2 }, arena: true }

interface Subject {
  readonly image: string
  readonly task: InferenceJob['task']
  /** Of the `round`-th request, on an image of `size` voxels. */
  readonly params?: (size: readonly number[], round: number) => Record<string, unknown>
}

const CT = 'nifti/totalsegmentator/example_ct.nii.gz'
const click = ([x, y, z]: readonly number[], round: number) => [
  Math.floor(x! / 2) + (round % 7),
  Math.floor(y! / 2) - (round % 5),
  Math.floor(z! / 2),
]
const clicks: Subject['params'] = (size, round) => ({ foreground: [click(size, round)], background: [] })
const extremes: Subject['params'] = (size, round) => {
  const centre = click(size, round)
  return { points: [0, 1, 2].flatMap((axis) => [-20, 20].map((by) => centre.map((n, i) => (i === axis ? n + by : n)))) }
}

const SUBJECTS: Readonly<Record<string, Subject>> = {
  brain_mri: { image: 'nifti/brain/t1_crop_brainchop.nii.gz', task: 'segmentation' },
  deepgrow_2d: { image: CT, task: 'deepgrow', params: clicks },
  deepgrow_3d: { image: CT, task: 'deepgrow', params: clicks },
  dextr3d: { image: CT, task: 'dextr3d', params: extremes },
  hippocampus_mri: { image: 'nifti/msd_hippocampus/imagesTr/hippocampus_001.nii.gz', task: 'segmentation' },
  modality_2d: { image: 'png/cxr/00000001_000.png', task: 'inference' },
}

const rounds = Number(process.argv[2] ?? 5)
const names = process.argv.length > 3 ? process.argv.slice(3) : Object.keys(SUBJECTS)
const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
if (!sharedData) throw new Error('../shared/data is not there')

/** Whole requests with one network, and the time of the network in each. */
async function requests(name: string, ref: ModelRef, predictor: Predictor, session: boolean) {
  const { image, task, params } = SUBJECTS[name]!
  const path = join(sharedData!, image)
  const size = params ? (await readVolume([path], roomyLimits)).volume.size : []
  const cache = new VolumeCache(CACHE_BYTES)
  let bare = 0
  const timed =
    (run: Predict): Predict =>
    async (feeds) => {
      const start = performance.now()
      const outputs = await run(feeds)
      bare += performance.now() - start
      return outputs
    }
  const watched = { ...predictor, run: timed(predictor.run) }
  return async (round: number) => {
    bare = 0
    const start = performance.now()
    const job: InferenceJob = {
      kind: 'inference',
      task,
      images: [{ field: 'image', paths: [path], ...(session ? { cacheKey: 'session' } : {}) }],
      params: params?.(size, round) ?? {},
      wish: { file: true, extension: '.nii.gz' },
      outDir: mkdtempSync(join(folder, 'out-')),
      limits: roomyLimits,
    }
    await runInference(job, { model: { ref, predictor: watched }, parts: [], control: idleControl, cache })
    return { total: performance.now() - start, bare }
  }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

async function measure(name: string): Promise<void> {
  const models = fileURLToPath(new URL('../models/', import.meta.url))
  const path = join(models, name, 'model.onnx')
  const config = parseModelConfig(JSON.parse(readFileSync(join(models, name, 'config_aiaa.json'), 'utf8')), name)
  const ref: ModelRef = { name, revision: '1', config, weightsPath: path }
  const exported = await createOnnxPredictor(path, SETTINGS)
  const { predictor: tuned, rewrites } = await loadTuned(ref, path, SETTINGS, TRIAL_MS)
  const prepared = withEnds(tuned, () => chosenModel(path, rewrites), SETTINGS, { shared: false })
  const session = SUBJECTS[name]!.params !== undefined
  const [ours, theirs] = [await requests(name, ref, prepared, session), await requests(name, ref, exported, session)]
  const found: { total: number; bare: number }[] = []
  for (let round = 0; round <= rounds; round++) {
    const { total } = await ours(round)
    const { bare } = await theirs(round)
    if (round > 0) found.push({ total, bare })
  }
  const total = median(found.map((one) => one.total))
  const bare = median(found.map((one) => one.bare))
  const plan = rewrites?.plan ?? 'as exported'
  const goal = rewrites?.plan ? GOAL_REWRITTEN : GOAL_AS_EXPORTED
  console.log(
    `| ${name} | ${plan} | ${total.toFixed(0)} | ${bare.toFixed(0)} | ${(total / bare).toFixed(2)} | ${goal} |`,
  )
  const work = `a whole request of ${name}${session ? ', in a session' : ''}`
  record({ work, unit: 'ms', ours: total, against: 'the exported network alone', other: bare, compared: 'ratio', goal })
  await Promise.all([prepared.close(), exported.close()])
}

try {
  console.log('| model | network runs | whole request (ms) | exported network alone (ms) | ratio | goal |')
  console.log('|---|---|---|---|---|---|')
  for (const name of names) await measure(name)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
