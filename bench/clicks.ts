/**
 * From click to mask on a 512 x 512 x 128 CT:  npm run build && npx tsx bench/clicks.ts
 *
 * For each interactive model: the bare `session.run` of its network on an input of the same shape, measured in this
 * process, and beside it over HTTP the upload into a session, the first click, later clicks, and a click without a session.
 * Then eight clients click in eight sessions of one model at once, each as soon as its last answer is there.
 * The bundled models are taken where they are there; else the test fixtures, whose networks take next to no time.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Tensor } from '../src/contract/tensor.js'
import { writeVolume } from '../src/formats/write-volume.js'
import { createOnnxPredictor } from '../src/predictors/onnxruntime.js'
import { makeVolume, type Vec3 } from '../src/volume/volume.js'
import { type CompiledServer, memoryOf, startCompiledServer } from './compiled-server.js'
import { record } from './record.js'

const WARM_CLICKS = 21
const REST_MS = 250
const CLIENTS = 8
const CLICKS_EACH = 8
const WARM_ROUNDS = 8
const SIZE: Vec3 = [512, 512, 128]

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))

interface Subject {
  readonly name: string
  readonly onnx: string
  readonly config: Record<string, unknown>
  readonly route: string
  /** Input of the network, batch of one. */
  readonly dims: readonly number[]
  readonly params: (step: number) => Record<string, unknown>
}

const load = { name: 'LoadImaged', args: { keys: 'image' } }
const deepgrowSteps = (dimensions: 2 | 3, crop: number[], size: number[]) => [
  load,
  { name: 'AsChannelFirstd', args: { keys: 'image' } },
  { name: 'Spacingd', args: { keys: 'image', pixdim: [1, 1], mode: 'bilinear' } },
  { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', guidance: 'guidance', dimensions } },
  ...(dimensions === 2 ? [{ name: 'Fetch2DSliced', args: { keys: 'image', guidance: 'guidance' } }] : []),
  { name: 'AddChanneld', args: { keys: 'image' } },
  { name: 'SpatialCropGuidanced', args: { keys: 'image', guidance: 'guidance', spatial_size: crop } },
  { name: 'Resized', args: { keys: 'image', spatial_size: size, mode: 'area' } },
  { name: 'ResizeGuidanced', args: { guidance: 'guidance', ref_image: 'image' } },
  { name: 'NormalizeIntensityd', args: { keys: 'image', subtrahend: 208, divisor: 388 } },
  { name: 'AddGuidanceSignald', args: { image: 'image', guidance: 'guidance' } },
]
const binary = [
  { name: 'Activationsd', args: { keys: 'pred', sigmoid: true } },
  { name: 'AsDiscreted', args: { keys: 'pred', threshold: 0.5 } },
]
const restore = { name: 'RestoreLabeld', args: { keys: 'pred', ref_image: 'image', mode: 'nearest' } }
const inference = { image: 'image', name: 'ONNXInference', args: {} }
const writer = { name: 'Writer', args: { image: 'pred', json: 'result' } }
const common = { version: '4', labels: [], description: 'bench', inference, writer }

const center: Vec3 = [256, 256, 64]
const around = (step: number): Vec3 => [center[0] + (step % 7) * 3, center[1] - (step % 5) * 2, center[2]]
const extremes: Vec3[] = [
  [200, 256, 64],
  [312, 256, 64],
  [256, 216, 64],
  [256, 296, 64],
  [256, 256, 34],
  [256, 256, 94],
]

const fixtures: readonly Subject[] = [
  {
    name: 'deepgrow_2d',
    onnx: 'guidance_2d',
    route: 'deepgrow',
    config: {
      ...common,
      type: 'deepgrow',
      pre_transforms: deepgrowSteps(2, [256, 256], [256, 256]),
      post_transforms: [...binary, restore],
    },
    dims: [1, 3, 256, 256],
    params: (step) => ({ foreground: [around(step)], background: [] }),
  },
  {
    name: 'deepgrow_3d',
    onnx: 'guidance_3d',
    route: 'deepgrow',
    config: {
      ...common,
      type: 'deepgrow',
      pre_transforms: deepgrowSteps(3, [192, 192], [128, 192, 192]),
      post_transforms: [...binary, restore],
    },
    dims: [1, 3, 128, 192, 192],
    params: (step) => ({ foreground: [around(step)], background: [] }),
  },
  {
    name: 'dextr3d',
    onnx: 'extreme_points',
    route: 'dextr3d',
    config: {
      ...common,
      type: 'annotation',
      pre_transforms: [
        load,
        { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
        { name: 'CropByExtremePointsd', args: { keys: 'image', points: 'points', padding: 20 } },
        { name: 'Resized', args: { keys: 'image', spatial_size: [128, 128, 128], mode: 'trilinear' } },
        {
          name: 'ScaleIntensityRanged',
          args: { keys: 'image', a_min: -200, a_max: 300, b_min: -1, b_max: 1, clip: true },
        },
        { name: 'AddExtremePointsChanneld', args: { keys: 'image', points: 'points' } },
      ],
      post_transforms: [{ name: 'AsDiscreted', args: { keys: 'pred', argmax: true } }],
    },
    dims: [1, 2, 128, 128, 128],
    params: (step) => ({ points: extremes.map(([x, y, z]) => [x, y, z + (step % 3)]) }),
  },
]

/** The bundled model of that name with the shape of its own network, where there is one. */
function bundled(subject: Subject): { readonly onnxPath: string; readonly isBundled: boolean } {
  const path = join(root, 'models', subject.name, 'model.onnx')
  if (existsSync(path)) return { onnxPath: path, isBundled: true }
  return { onnxPath: join(root, 'test/fixtures/models', `${subject.onnx}.onnx`), isBundled: false }
}

/** Soft tissue with a bright organ and noise, in air. */
async function writeScan(): Promise<Buffer> {
  const [nx, ny, nz] = SIZE
  const data = new Int16Array(nx * ny * nz)
  let noise = 1
  for (let z = 0, i = 0; z < nz; z++)
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++, i++) {
        noise = (noise * 1103515245 + 12345) & 0x7fffffff
        const body = ((x - 256) / 200) ** 2 + ((y - 256) / 150) ** 2 < 1
        const organ = ((x - 256) / 60) ** 2 + ((y - 256) / 42) ** 2 + ((z - 64) / 32) ** 2 < 1
        data[i] = (organ ? 400 : body ? 40 : -1000) + ((noise >> 16) % 60)
      }
  const path = join(folder, 'scan.nii.gz')
  const affine = Float64Array.of(-0.8, 0, 0, 200, 0, -0.8, 0, 200, 0, 0, 2, -100, 0, 0, 0, 1)
  await writeVolume(makeVolume(SIZE, affine, data), path, { extension: '.nii.gz', kind: 'intensity' })
  return readFileSync(path)
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}

async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const start = performance.now()
  const value = await work()
  return [performance.now() - start, value]
}

/** The network alone, on an input of its own size, `dims` where that is free: milliseconds of one run, each time it is asked. */
async function openBare(path: string, dims: readonly number[]) {
  const predictor = await createOnnxPredictor(path, { device: { kind: 'cpu', index: 0 }, session: {}, arena: true })
  const shape = predictor.inputs[0]!.dims.map((dim, i) => (typeof dim === 'number' ? dim : dims[i]!))
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1)).map((_, i) => (i % 100) / 100)
  const feeds: Record<string, Tensor> = { [predictor.inputs[0]!.name]: { dims: shape, data } }
  const run = async () => (await timed(() => predictor.run(feeds)))[0]
  await run()
  return { run, close: () => predictor.close() }
}

function form(params: Record<string, unknown> | undefined, image?: Buffer): FormData {
  const body = new FormData()
  if (params) body.append('params', JSON.stringify(params))
  if (image) body.append('image', new Blob([new Uint8Array(image)]), 'scan.nii.gz')
  return body
}

async function ok(reply: Response): Promise<Response> {
  if (reply.ok) return reply
  throw new Error(`${reply.status} ${await reply.text()}`)
}

async function click(url: string, subject: Subject, step: number, session: string | undefined, image?: Buffer) {
  const query = `model=${subject.name}${session ? `&session_id=${session}` : ''}`
  const reply = await ok(
    await fetch(`${url}/v1/${subject.route}?${query}`, { method: 'POST', body: form(subject.params(step), image) }),
  )
  await reply.arrayBuffer()
  return reply.headers.get('server-timing') ?? ''
}

/** The slowest answer against what its place in the queue allows: (queue length + 1.5) x the time of a click alone. */
async function manyClients(server: CompiledServer, instances: string): Promise<void> {
  const subject = fixtures[0]!
  const open = async () => {
    const reply = await ok(await fetch(`${server.url}/session/`, { method: 'PUT', body: form(undefined, scan) }))
    return ((await reply.json()) as { session_id: string }).session_id
  }
  const sessions: string[] = []
  for (let i = 0; i < CLIENTS; i++) sessions.push(await open())
  // Together, so that every runner is there, and has prepared the images, before the clock runs.
  for (let round = 0; round < WARM_ROUNDS; round++)
    await Promise.all(sessions.map((session) => click(server.url, subject, 0, session)))
  const alone: number[] = []
  for (let i = 0; i < WARM_CLICKS; i++) alone.push((await timed(() => click(server.url, subject, i, sessions[0])))[0])
  const single = median(alone)
  const counts = new Array<number>(CLIENTS).fill(0)
  const times: number[] = []
  await Promise.all(
    sessions.map(async (session, client) => {
      for (let i = 0; i < CLICKS_EACH; i++) {
        times.push((await timed(() => click(server.url, subject, i, session)))[0])
        counts[client]!++
      }
    }),
  )
  const slowest = Math.max(...times)
  console.log(
    `${CLIENTS} clients, --instances ${instances}: a click alone ${ms(single)}, together p50 ${ms(median(times))}, slowest ${ms(slowest)} = ` +
      `${(slowest / single).toFixed(1)} x (allowed ${CLIENTS - 1 + 1.5} x); ${times.length} of ${CLIENTS * CLICKS_EACH} answered`,
  )
  record({
    work: `${CLIENTS} clients clicking in ${subject.name} at once, --instances ${instances}, the slowest answer`,
    unit: 'ms',
    ours: slowest,
    against: 'a click alone',
    other: single,
    compared: 'ratio',
    ...(instances === 'auto' ? { goal: 5 } : {}),
  })
  const ps = (await (await fetch(`${server.url}/admin/ps`)).json()) as { pid?: number; rss_bytes?: number }[]
  const mb = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MB`
  const runners = (Array.isArray(ps) ? ps : []).map(({ pid }) => (pid ? mb(memoryOf(pid, 'VmHWM')) : '?'))
  console.log(`peak memory: server ${mb(memoryOf(server.pid, 'VmHWM'))}; runners ${runners.join(', ')}`)
}

const scan = await writeScan()
let server = await startCompiledServer(join(folder, 'workspace'))
const ms = (value: number) => value.toFixed(0).padStart(7)
try {
  console.log(`scan ${SIZE.join(' x ')}, ${(scan.length / 2 ** 20).toFixed(0)} MiB gzipped; times in ms`)
  console.log(
    'model         source    bare run   warm p50   over bare   ratio   upload   first click   without session',
  )
  for (const subject of fixtures) {
    const { onnxPath, isBundled } = bundled(subject)
    if (!isBundled) {
      const body = new FormData()
      body.append('config', new Blob([JSON.stringify(subject.config)], { type: 'application/json' }), 'config.json')
      body.append('data', new Blob([readFileSync(onnxPath)]), 'model.onnx')
      await ok(await fetch(`${server.url}/admin/model/${subject.name}`, { method: 'PUT', body }))
    }
    const network = await openBare(onnxPath, subject.dims)
    const [upload, session] = await timed(async () => {
      const reply = await ok(await fetch(`${server.url}/session/`, { method: 'PUT', body: form(undefined, scan) }))
      return ((await reply.json()) as { session_id: string }).session_id
    })
    const [first] = await timed(() => click(server.url, subject, 0, session))
    const warm: number[] = []
    const alone: number[] = []
    let timing = ''
    // in turn: the machine is not as fast at one minute as at the next
    for (let step = 1; step <= WARM_CLICKS; step++) {
      const [time, stages] = await timed(() => click(server.url, subject, step, session))
      warm.push(time)
      timing = stages
      alone.push(await network.run())
      // its threads wait for more by spinning, on the cores of the next click
      await new Promise((resolve) => setTimeout(resolve, REST_MS))
    }
    await network.close()
    const bare = median(alone)
    const plain: number[] = []
    for (let step = 0; step < 3; step++)
      plain.push((await timed(() => click(server.url, subject, step, undefined, scan)))[0])
    const p50 = median(warm)
    console.log(
      `${subject.name.padEnd(12)}  ${isBundled ? 'bundled' : 'fixture'}  ${ms(bare)}   ${ms(p50)}   ${ms(p50 - bare)}   ${(p50 / bare).toFixed(2).padStart(6)}  ${ms(upload)}   ${ms(first)}       ${ms(median(plain))}`,
    )
    console.log(`              the last click: ${timing}`)
    record({
      work: `a warm click of ${subject.name} in a session of ${SIZE.join('x')}`,
      unit: 'ms',
      ours: p50,
      against: 'the network alone',
      other: bare,
      compared: 'difference',
      ...(subject.name === 'deepgrow_2d' ? { goal: 20 } : {}),
    })
  }
  await manyClients(server, 'auto')
  await server.stop()
  server = await startCompiledServer(join(folder, 'workspace'), ['--instances', '1'])
  await manyClients(server, '1')
} finally {
  await server.stop()
  rmSync(folder, { recursive: true, force: true })
}
