/**
 * CUDA beside the CPU:  npx tsx bench/cuda.ts [MODEL.onnx DIMS]     e.g. model.onnx 1,1,256,256,256
 *
 * Times the bare run on both, compares the label maps (Dice of every class), and lists from onnxruntime's own profile
 * which provider ran how many nodes. Without a GPU it says why CUDA could not be used, and stops.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import type { Predictor, Tensor } from '../src/contract/tensor.js'
import { createOnnxPredictor } from '../src/predictors/onnxruntime.js'
import { sharedData } from '../test/helpers/shared-data.js'

const RUNS = 5
const fixture = fileURLToPath(new URL('../test/fixtures/models/three_classes.onnx', import.meta.url))
const meshnet = sharedData && join(sharedData, 'models/brainchop/meshnet5_tissue3.onnx')
const path = process.argv[2] ?? meshnet ?? fixture
const dims = (process.argv[3] ?? '1,1,256,256,256').split(',').map(Number)

function input(): Tensor {
  const data = new Float32Array(dims.reduce((a, b) => a * b, 1))
  let noise = 1
  for (let i = 0; i < data.length; i++) {
    noise = (noise * 1103515245 + 12345) & 0x7fffffff
    data[i] = (noise >> 8) / 2 ** 23
  }
  return { dims, data }
}

async function timed(predictor: Predictor, feeds: Record<string, Tensor>): Promise<Tensor> {
  const times: number[] = []
  let output: Tensor | undefined
  for (let run = 0; run < RUNS; run++) {
    const start = performance.now()
    output = Object.values(await predictor.run(feeds))[0]!
    times.push(performance.now() - start)
  }
  const [first, ...rest] = times.map((ms) => ms / 1000)
  const best = Math.min(...rest)
  console.log(
    `${predictor.device}: first run ${first!.toFixed(3)} s, then ${best.toFixed(3)} s at best of ${rest.length}`,
  )
  return output!
}

function labels({ dims: [, channels], data }: Tensor): Uint8Array {
  const voxels = data.length / channels!
  const out = new Uint8Array(voxels)
  for (let i = 0; i < voxels; i++) {
    let best = 0
    for (let c = 1; c < channels!; c++) if (data[c * voxels + i]! > data[best * voxels + i]!) best = c
    out[i] = best
  }
  return out
}

async function nodesByProvider(feeds: Record<string, Tensor>): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
  try {
    const session = await InferenceSession.create(path, {
      executionProviders: ['cuda', 'cpu'],
      enableProfiling: true,
      profileFilePrefix: join(folder, 'profile'),
    })
    const ort = Object.entries(feeds).map(([name, { data }]) => [
      name,
      new OrtTensor('float32', data as Float32Array, dims),
    ])
    await session.run(Object.fromEntries(ort) as Record<string, OrtTensor>)
    session.endProfiling()
    await session.release()
    const events = JSON.parse(readFileSync(join(folder, readdirSync(folder)[0]!), 'utf8')) as {
      args?: { provider?: string }
    }[]
    const counts: Record<string, number> = {}
    for (const { args } of events) if (args?.provider) counts[args.provider] = (counts[args.provider] ?? 0) + 1
    return counts
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const cpu = await createOnnxPredictor(path, { device: { kind: 'cpu', index: 0 }, session: {}, arena: true })
const gpu = await createOnnxPredictor(path, { device: { kind: 'cuda', index: 0 }, session: {}, arena: true })
if (gpu.fallbackReason !== undefined) {
  console.log(gpu.fallbackReason)
} else {
  const feeds = { [cpu.inputs[0]!.name]: input() }
  const a = labels(await timed(cpu, feeds))
  const b = labels(await timed(gpu, feeds))
  for (const label of new Set(a)) {
    let both = 0
    let either = 0
    for (let i = 0; i < a.length; i++) {
      const [inA, inB] = [a[i] === label, b[i] === label]
      if (inA && inB) both++
      either += Number(inA) + Number(inB)
    }
    console.log(`class ${label}: Dice ${((2 * both) / either).toFixed(5)}`)
  }
  console.log('nodes run by', await nodesByProvider(feeds))
}
