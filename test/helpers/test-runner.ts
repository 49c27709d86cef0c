/** A runner program with small pipelines, whose behaviour the job's params choose; started as a child by tests. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../../src/errors.js'
import type { RunInference, RunTool } from '../../src/pipelines/run.js'
import { startRunner } from '../../src/runner/runner.js'

/** Runs the network `windows` times on a cube of `edge` filled with `fill`; answers the mean of its first output. */
const runInference: RunInference = async ({ params, outDir }, { model, control, cache }) => {
  const { edge = 4, fill = 1, windows = 1, cacheKey } = params as Partial<Record<string, number>>
  if (params.misbehave === 'exit') process.exit(3)
  if (params.misbehave === 'throw') throw new Error('a bug')
  if (params.misbehave === 'rant') throw new AppError('UNREADABLE_IMAGE', `bad header: ${'x'.repeat(50_000)}`)
  if (params.misbehave === 'refuse') throw new AppError('BAD_PARAMS', 'fill must be a number', { hint: 'say 1' })
  await control.checkpoint('read', 0, 1)
  const known = cacheKey === undefined ? undefined : cache.get(`${cacheKey}`)
  if (cacheKey !== undefined) cache.set(`${cacheKey}`, { images: new Map(), values: new Map(), result: {} })
  await control.checkpoint('pre', 0, 1)
  const input = model.predictor.inputs[0]!
  const data = new Float32Array(edge ** 3).fill(fill)
  let sum = 0
  let count = 0
  await control.withDevice(async () => {
    for (let window = 0; window < windows; window++) {
      await control.checkpoint('infer', window, windows)
      const outputs = await model.predictor.run({ [input.name]: { dims: [1, 1, edge, edge, edge], data } })
      for (const value of Object.values(outputs)[0]!.data) {
        sum += value
        count++
      }
    }
  })
  await control.checkpoint('write', 0, 1)
  const path = join(outDir, 'result.txt')
  await writeFile(path, `${sum / count}`)
  return {
    file: { path, extension: '.txt', contentType: 'text/plain' },
    params: { mean: sum / count, pid: process.pid, cached: known !== undefined },
    timings: {},
    notes: [],
  }
}

const runTool: RunTool = async ({ params, kind }, control) => {
  if (params.misbehave === 'kill') process.kill(process.pid, 'SIGKILL')
  for (let step = 0; step < Number(params.steps ?? 1); step++) {
    await control.checkpoint('read', step, Number(params.steps ?? 1))
    if (params.block) while (true) if (Date.now() < 0) break
  }
  const secrets = Object.keys(process.env).filter((name) => name.startsWith('AIDANT_'))
  return { params: { kind, pid: process.pid, secrets }, timings: {}, notes: [] }
}

startRunner({
  inference: async () => runInference,
  tool: async () => runTool,
  proof: () => Promise.reject(new Error('models are tried by the real runner, not here')),
})
