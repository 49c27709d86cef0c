/**
 * How much memory runners take, and that it goes back:  npm run build && npx tsx bench/memory.ts
 *
 * Each case is a whole job (read, pre, infer, post, write) in a runner of its own; the peak is the system's own count of
 * resident memory (VmHWM; Linux only). Needs ../shared/data for the MeshNet case.
 */
import { existsSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { freemem, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Config } from '../src/config/schema.js'
import type { InferenceJob } from '../src/contract/job.js'
import type { ModelRef } from '../src/contract/model.js'
import { parseModelConfig } from '../src/pipelines/parse-model-config.js'
import { createScheduler } from '../src/scheduler/create-scheduler.js'
import { schedulerSettings } from '../src/services.js'
import { sharedData } from '../test/helpers/shared-data.js'
import { memoryOf } from './compiled-server.js'
import { record } from './record.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const entry = { path: join(root, 'dist/runner/main.js'), execArgv: [] }
if (!existsSync(entry.path)) throw new Error('run `npm run build` first')

const MB = 2 ** 20
const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
const settings = { ...schedulerSettings(Config.parse({})), device: { kind: 'cpu', index: 0 }, entry } as const
const scheduler = createScheduler(settings)
const never = new AbortController().signal

/** A CT of 512 x 512 x 400 at 0.8 x 0.8 x 1 mm: an ellipse of soft tissue with noise, in air. */
function writeCt(path: string): void {
  const [nx, ny, nz] = [512, 512, 400]
  const header = Buffer.alloc(352)
  header.writeInt32LE(348, 0)
  for (const [i, n] of [3, nx, ny, nz, 1, 1, 1, 1].entries()) header.writeInt16LE(n, 40 + 2 * i)
  header.writeInt16LE(4, 70)
  header.writeInt16LE(16, 72)
  for (const [i, n] of [1, 0.8, 0.8, 1].entries()) header.writeFloatLE(n, 76 + 4 * i)
  header.writeFloatLE(352, 108)
  header.writeFloatLE(1, 112)
  header.writeUInt8(2, 123)
  header.writeInt16LE(1, 254)
  for (const [i, n] of [0.8, 0, 0, -200, 0, 0.8, 0, -200, 0, 0, 1, -200].entries()) header.writeFloatLE(n, 280 + 4 * i)
  header.write('n+1\0', 344, 'latin1')
  const file = openSync(path, 'w')
  writeSync(file, header)
  const slice = new Int16Array(nx * ny)
  let noise = 1
  for (let z = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++) {
        noise = (noise * 1103515245 + 12345) & 0x7fffffff
        const inside = ((x - 256) / 200) ** 2 + ((y - 256) / 150) ** 2 < 1
        slice[x + y * nx] = (inside ? 40 : -1000) + ((noise >> 16) % 60)
      }
    }
    writeSync(file, new Uint8Array(slice.buffer))
  }
}

function model(name: string, weightsPath: string, config: object): ModelRef {
  return { name, revision: '1', config: parseModelConfig(config, name), weightsPath }
}

function job(path: string): InferenceJob {
  return {
    kind: 'inference',
    task: 'segmentation',
    images: [{ field: 'image', paths: [path] }],
    params: {},
    wish: { file: true, extension: '.nii.gz' },
    outDir: mkdtempSync(join(folder, 'out-')),
    limits: { maxVolumeBytes: 4 * 2 ** 30, maxVoxels: 2 ** 30 },
  }
}

async function measure(ref: ModelRef, path: string, runs: number, float32Bytes: number, goal?: number): Promise<void> {
  const before = freemem()
  await scheduler.load(ref)
  const { pid } = scheduler.status().find(({ model: name }) => name === ref.name)!
  const base = memoryOf(pid!, 'VmRSS')
  for (let run = 1; run <= runs; run++) {
    const start = performance.now()
    const { timings } = await scheduler.runModel(
      { trace: `${ref.name}-${run}`, client: 'bench', host: 'bench' },
      ref,
      job(path),
      never,
    )
    const peak = memoryOf(pid!, 'VmHWM')
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    const stages = Object.entries(timings).map(([stage, ms]) => `${stage} ${(ms / 1000).toFixed(1)}`)
    console.log(
      `${ref.name} run ${run}: ${seconds} s (${stages.join(', ')}); runner ${mb(base)} loaded, peak ${mb(peak)}, ` +
        `${mb(memoryOf(pid!, 'VmRSS'))} after; over loaded ${((peak - base) / float32Bytes).toFixed(2)} x ${mb(float32Bytes)} float32`,
    )
    if (run === runs)
      record({
        work: `memory of a runner at ${ref.name}, over what it takes loaded`,
        unit: 'MB',
        ours: (peak - base) / MB,
        against: 'the scan as float32',
        other: float32Bytes / MB,
        compared: 'ratio',
        ...(goal === undefined ? {} : { goal }),
      })
  }
  await scheduler.retire(ref.name)
  console.log(`${ref.name} retired: free memory ${mb(before)} before, ${mb(freemem())} after`)
}

/** The same jobs on a runner that lets scores leave the network, and on one that lets labels alone: seconds of the best, and peak memory. */
async function compareEnds(ref: ModelRef, path: string, runs: number): Promise<void> {
  const ends = []
  for (const [end, rewriteTrialMs] of [
    ['scores', 0],
    ['labels', 10_000],
  ] as const) {
    const own = createScheduler({ ...settings, rewriteTrialMs })
    await own.load(ref)
    const pid = own.status()[0]!.pid!
    const seconds: number[] = []
    for (let run = 1; run <= runs; run++) {
      const start = performance.now()
      await own.runModel({ trace: `${end}-${run}`, client: 'bench', host: 'bench' }, ref, job(path), never)
      seconds.push((performance.now() - start) / 1000)
    }
    ends.push({ end, seconds: Math.min(...seconds), peak: memoryOf(pid, 'VmHWM') })
    await own.close(0)
  }
  const said = ends.map(({ end, seconds, peak }) => `${end} ${seconds.toFixed(1)} s, peak ${mb(peak)}`)
  console.log(`${ref.name}, what leaves the network: ${said.join('; ')}`)
  const [scores, labels] = ends
  const work = `peak memory of a runner at ${ref.name}, labels alone leave the network`
  record({
    work,
    unit: 'MB',
    ours: labels!.peak / MB,
    against: 'scores leave it',
    other: scores!.peak / MB,
    compared: 'ratio',
  })
}

const mb = (bytes: number) => `${Math.round(bytes / MB)} MB`

const threshold = join(root, 'test/fixtures/models/threshold.onnx')
const windows = { name: 'TRTISInference', args: { scanning_window: true, roi: [96, 96, 96], batch_size: 1 } }
const range = {
  name: 'ScaleIntensityRange',
  args: { fields: 'image', a_min: -57, a_max: 164, b_min: 0, b_max: 1, clip: true },
}
const load = [
  { name: 'LoadNifti', args: { fields: 'image' } },
  { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
]
const after = [
  { name: 'ArgmaxAcrossChannels', args: { fields: 'model' } },
  { name: 'RestoreOriginalShape', args: { field: 'model', src_field: 'image', is_label: true } },
]
const writer = { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } }
const base = { version: '3', type: 'segmentation', labels: ['body'], description: '', post_transforms: after, writer }

try {
  const ct = join(folder, 'ct.nii')
  writeCt(ct)
  const plain = { ...base, pre_transforms: [...load, range], inference: windows }
  await measure(model('ct_as_it_is', threshold, plain), ct, 2, 512 * 512 * 400 * 4, 2.2)
  const scale = { name: 'ScaleByResolution', args: { fields: 'image', target_resolution: [1, 1, 1] } }
  const resampled = { ...base, pre_transforms: [...load, scale, range], inference: windows }
  await measure(model('ct_at_1_mm', threshold, resampled), ct, 2, 410 * 410 * 400 * 4)
  if (sharedData !== undefined) {
    const weights = join(sharedData, 'models/brainchop/meshnet30_subcortical18.onnx')
    const t1 = join(sharedData, 'nifti/brain/t1_crop_brainchop.nii.gz')
    const minmax = { name: 'ScaleIntensityd', args: { keys: 'image', minv: 0, maxv: 1 } }
    const whole = { ...base, pre_transforms: [...load, minmax], inference: { name: 'TRTISInference' } }
    await measure(model('meshnet30_at_256', weights, { ...whole, labels: [] }), t1, 2, 256 ** 3 * 4)
    const tissue = join(sharedData, 'models/brainchop/meshnet5_tissue3.onnx')
    await compareEnds(model('meshnet5_at_256', tissue, { ...whole, labels: [] }), t1, 3)
    const crop = { name: 'CenterSpatialCropd', args: { keys: 'image', roi_size: [128, 128, 128] } }
    const cropped = { ...whole, pre_transforms: [...load, minmax, crop], labels: [] }
    await compareEnds(model('meshnet30_at_128', weights, cropped), t1, 2)
  }
} finally {
  await scheduler.close(0)
  rmSync(folder, { recursive: true, force: true })
}
