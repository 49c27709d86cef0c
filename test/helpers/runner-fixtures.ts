/** What tests of runners and schedulers share: small models, jobs for test-runner.ts, and an eye on child processes. */
import { mkdtempSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Config } from '../../src/config/schema.js'
import type { InferenceJob, ToolJob } from '../../src/contract/job.js'
import type { ModelConfig, ModelRef } from '../../src/contract/model.js'
import { createScheduler, type SchedulerOptions } from '../../src/scheduler/create-scheduler.js'
import type { JobRequest, Scheduler } from '../../src/scheduler/scheduler.js'
import { type RunnerEntry, type SpawnRunner, spawnRunner } from '../../src/scheduler/spawn-runner.js'
import { schedulerSettings } from '../../src/services.js'

const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href

export const testEntry: RunnerEntry = {
  path: fileURLToPath(new URL('./test-runner.ts', import.meta.url)),
  execArgv: ['--import', tsx],
}

export const modelPath = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/models/${name}.onnx`, import.meta.url))

export const plainConfig: ModelConfig = {
  version: '3',
  type: 'segmentation',
  labels: [],
  description: '',
  info: {},
  preTransforms: [],
  postTransforms: [],
  inference: { image: 'image', engine: 'onnxruntime', nodeMapping: {}, session: { intraOpThreads: 1 } },
}

/** A fixture model of test/fixtures/models, under its own name. */
export function modelRef(name: string, changes: Partial<ModelRef> = {}): ModelRef {
  return { name, revision: '1', config: plainConfig, weightsPath: modelPath(name), ...changes }
}

const base = {
  images: [],
  wish: { file: true },
  limits: { maxVolumeBytes: 2 ** 30, maxVoxels: 2 ** 28 },
}

export function inferenceJob(params: Record<string, unknown> = {}): InferenceJob {
  const outDir = mkdtempSync(join(tmpdir(), 'aidant-test-'))
  return { ...base, kind: 'inference', task: 'segmentation', params, outDir }
}

export function toolJob(params: Record<string, unknown> = {}): ToolJob {
  return { ...base, kind: 'fixpolygon', params, outDir: tmpdir() }
}

let lastRequest = 0
export function request(client = 'me', host = client): JobRequest {
  return { trace: `request-${++lastRequest}`, client, host }
}

export interface WatchedScheduler {
  readonly scheduler: Scheduler
  /** Every child started, in order. */
  readonly pids: number[]
  /** The children that still run. */
  alive(): number[]
}

/** A real scheduler over real child processes of test-runner.ts. */
export function realScheduler(options: Partial<SchedulerOptions> = {}): WatchedScheduler {
  const pids: number[] = []
  const spawn: SpawnRunner = (entry, events) => {
    const channel = spawnRunner(entry, events)
    if (channel.pid !== undefined) pids.push(channel.pid)
    return channel
  }
  const device = { kind: 'cpu', index: 0 } as const
  const scheduler = createScheduler({
    ...schedulerSettings(Config.parse({})),
    device,
    entry: testEntry,
    spawn,
    ...options,
  })
  return { scheduler, pids, alive: () => pids.filter(isAlive) }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
