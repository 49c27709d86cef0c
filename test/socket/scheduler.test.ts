/** The scheduler with real runner processes: what a user sees when runners load, crash, are cancelled and go. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { AppError } from '../../src/errors.js'
import type { JobProgress } from '../../src/scheduler/scheduler.js'
import { silentLog } from '../../src/util/log.js'
import { systemTimers, type Timers } from '../../src/util/timers.js'
import {
  inferenceJob,
  isAlive,
  modelRef,
  realScheduler,
  request,
  testEntry,
  toolJob,
  type WatchedScheduler,
} from '../helpers/runner-fixtures.js'

const never = new AbortController().signal

const open: WatchedScheduler[] = []
function start(...args: Parameters<typeof realScheduler>): WatchedScheduler {
  const watched = realScheduler(...args)
  open.push(watched)
  return watched
}

afterEach(async () => {
  for (const { scheduler, alive } of open.splice(0)) {
    await scheduler.close(0)
    expect(alive()).toEqual([])
  }
})

describe('a job', () => {
  it('runs in a runner that is loaded on first use and kept', async () => {
    const { scheduler, pids } = start()
    const first = await scheduler.runModel(request(), modelRef('identity'), inferenceJob({ fill: 3 }), never)
    const second = await scheduler.runModel(request(), modelRef('identity'), inferenceJob({ fill: 5 }), never)
    expect(first.params.mean).toBe(3)
    expect(second.params.mean).toBe(5)
    expect(first.device).toBe('cpu')
    expect(existsSync(first.file!.path)).toBe(true)
    expect(first.params.pid).toBe(second.params.pid)
    expect(pids).toHaveLength(1)
    expect(Object.keys(first.timings).sort()).toEqual(['infer', 'pre', 'read', 'wait', 'write'])
    expect(scheduler.status()).toMatchObject([{ model: 'identity', state: 'ready', device: 'cpu', queued: 0 }])
    expect(scheduler.status()[0]!.until).toBeGreaterThan(0)
  })

  it('tells its progress: queued, then stages and windows', async () => {
    const { scheduler } = start()
    const seen: JobProgress[] = []
    const job = inferenceJob({ windows: 3 })
    await scheduler.runModel(request(), modelRef('identity'), job, never, (progress) => seen.push(progress))
    expect(seen[0]).toEqual({ state: 'queued', queuePlace: 0 })
    expect(seen.map(({ stage }) => stage)).toEqual(expect.arrayContaining(['read', 'pre', 'infer', 'write']))
    expect(seen.find(({ stage }) => stage === 'infer')).toMatchObject({ state: 'running', done: 0, total: 3 })
    await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never, (progress) => seen.push(progress))
    expect(seen.at(-1)!.estimateMs).toBeGreaterThanOrEqual(0)
  })

  it('that ends with an error of any length leaves its runner as it is', async () => {
    const { scheduler, pids } = start()
    const rant = scheduler.runModel(request(), modelRef('identity'), inferenceJob({ misbehave: 'rant' }), never)
    await expect(rant).rejects.toMatchObject({
      code: 'UNREADABLE_IMAGE',
      message: expect.stringMatching(/^bad header: x+…$/),
    })
    await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
    expect(pids).toHaveLength(1)
  })

  it('fails with its own words when the pipeline refuses, and the runner goes on', async () => {
    const { scheduler, pids } = start()
    const refused = scheduler.runModel(request(), modelRef('identity'), inferenceJob({ misbehave: 'refuse' }), never)
    await expect(refused).rejects.toMatchObject({ code: 'BAD_PARAMS', message: 'fill must be a number', hint: 'say 1' })
    const bug = scheduler.runModel(request(), modelRef('identity'), inferenceJob({ misbehave: 'throw' }), never)
    await expect(bug).rejects.toMatchObject({ code: 'INTERNAL', message: 'internal error' })
    await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
    expect(pids).toHaveLength(1)
  })

  it('that crashes its runner fails alone; the next gets a fresh runner', async () => {
    const { scheduler, pids } = start()
    const crash = scheduler.runModel(request(), modelRef('identity'), inferenceJob({ misbehave: 'exit' }), never)
    const next = scheduler.runModel(request(), modelRef('identity'), inferenceJob({ fill: 2 }), never)
    await expect(crash).rejects.toMatchObject({ code: 'RUNNER_CRASHED', statusCode: 503 })
    expect((await next).params.mean).toBe(2)
    expect(pids).toHaveLength(2)
  })

  it('survives kill -9 of its runner as a clear error', async () => {
    const { scheduler, pids } = start()
    const lost = scheduler.runModel(request(), modelRef('very_slow'), inferenceJob(), never, ({ stage }) => {
      if (stage === 'infer') process.kill(pids[0]!, 'SIGKILL')
    })
    await expect(lost).rejects.toThrow(/ended unexpectedly \(SIGKILL\).*fresh runner/)
  })

  it('that runs out of memory says so and leaves a fresh runner', async () => {
    const { scheduler, pids } = start()
    const huge = scheduler.runModel(request(), modelRef('huge'), inferenceJob({ edge: 64 }), never)
    await expect(huge).rejects.toMatchObject({ code: 'RUNNER_CRASHED', message: expect.stringContaining('memory') })
    await expect(
      scheduler.runModel(request(), modelRef('huge'), inferenceJob({ edge: 64 }), never),
    ).rejects.toMatchObject({ code: 'RUNNER_CRASHED' })
    expect(pids).toHaveLength(2)
  })
})

describe('cancelling', () => {
  it('stops a running job at the next window and keeps the runner', async () => {
    const { scheduler, pids } = start()
    const abort = new AbortController()
    const job = inferenceJob({ windows: 10_000 })
    let last = 0
    const running = scheduler.runModel(request(), modelRef('slow'), job, abort.signal, ({ stage, done }) => {
      last = done ?? last
      if (stage === 'infer') abort.abort()
    })
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(last).toBeLessThan(10)
    expect(scheduler.status()[0]!.state).toBe('ready')
    await scheduler.runModel(request(), modelRef('slow'), inferenceJob(), never)
    expect(pids).toHaveLength(1)
  })

  it('ends a runner that does not stop within the grace', async () => {
    const { scheduler, pids } = start({ cancelGraceMs: 200 })
    const abort = new AbortController()
    const running = scheduler.runModel(request(), modelRef('very_slow'), inferenceJob(), abort.signal, ({ stage }) => {
      if (stage === 'infer') abort.abort()
    })
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(isAlive(pids[0]!)).toBe(false)
  })

  it('takes a waiting job out of the queue at once', async () => {
    const { scheduler } = start()
    const stop = new AbortController()
    const long = scheduler.runModel(request(), modelRef('slow'), inferenceJob({ windows: 1000 }), stop.signal)
    const abort = new AbortController()
    const waiting = scheduler.runModel(request(), modelRef('slow'), inferenceJob(), abort.signal)
    abort.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' })
    stop.abort()
    await expect(long).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  it('frees the device for another model within a window', async () => {
    const { scheduler } = start()
    const abort = new AbortController()
    let inferring = () => {}
    const started = new Promise<void>((resolve) => {
      inferring = resolve
    })
    const long = scheduler.runModel(
      request(),
      modelRef('slow'),
      inferenceJob({ windows: 10_000 }),
      abort.signal,
      ({ stage }) => {
        if (stage === 'infer') inferring()
      },
    )
    await started
    const other = scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never, ({ stage }) => {
      if (stage === 'pre') abort.abort()
    })
    await expect(long).rejects.toMatchObject({ code: 'CANCELLED' })
    expect((await other).params.mean).toBe(1)
  })

  it('by deadline is told as such', async () => {
    const { scheduler } = start()
    const job = inferenceJob({ windows: 10_000 })
    const deadline = new AbortController()
    const late = scheduler.runModel(request(), modelRef('slow'), job, deadline.signal, ({ stage }) => {
      if (stage === 'infer') deadline.abort(new AppError('DEADLINE_EXCEEDED', 'too late'))
    })
    await expect(late).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', statusCode: 504 })
  })
})

describe('runners come and go', () => {
  it('at most maxLoadedModels are loaded: the least recently used makes room', async () => {
    const { scheduler, pids, alive } = start({ maxLoadedModels: 2 })
    for (const name of ['identity', 'threshold', 'three_classes'])
      await scheduler.runModel(request(), modelRef(name), inferenceJob(), never)
    expect(scheduler.status().map(({ model }) => model)).toEqual(['threshold', 'three_classes'])
    expect(isAlive(pids[0]!)).toBe(false)
    expect(alive()).toHaveLength(2)
  })

  it('a busy model gives way to one that waited longer', async () => {
    const { scheduler } = start({ maxLoadedModels: 1 })
    const order: string[] = []
    const post = (name: string) =>
      scheduler.runModel(request(), modelRef(name), inferenceJob(), never).then(() => order.push(name))
    await scheduler.load(modelRef('identity'))
    await Promise.all([post('identity'), post('threshold'), post('identity')])
    expect(order).toEqual(['identity', 'threshold', 'identity'])
  })

  it('keep-alive 0 ends a runner as soon as it is idle', async () => {
    const { scheduler, alive } = start({ keepAliveMs: 0 })
    await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
    await scheduler.retire('identity')
    expect(alive()).toEqual([])
    expect(scheduler.status()).toEqual([])
  })

  it('retiring a model lets its jobs finish on the old revision, beside the new one', async () => {
    const { scheduler, alive } = start()
    let inferring = () => {}
    const started = new Promise<void>((resolve) => {
      inferring = resolve
    })
    const old = modelRef('model', { weightsPath: modelRef('slow').weightsPath!, revision: 'old' })
    const fresh = modelRef('model', { weightsPath: modelRef('identity').weightsPath!, revision: 'new' })
    const running = scheduler.runModel(request(), old, inferenceJob({ windows: 4 }), never, ({ stage }) => {
      if (stage === 'infer') inferring()
    })
    await started
    const retired = scheduler.retire('model', 'new')
    const result = scheduler.runModel(request(), fresh, inferenceJob({ fill: 9 }), never)
    expect((await running).params.mean).toBe(0)
    expect((await result).params.mean).toBe(9)
    await retired
    expect(scheduler.status().map(({ revision }) => revision)).toEqual(['new'])
    expect(alive()).toHaveLength(1)
  })

  it('runners leave SIGTERM and SIGINT to the server, which lets their jobs finish', async () => {
    const { scheduler } = start()
    const job = scheduler.runModel(request(), modelRef('slow'), inferenceJob({ windows: 2 }), never, ({ stage }) => {
      if (stage !== 'infer') return
      const { pid } = scheduler.status()[0]!
      process.kill(pid!, 'SIGTERM')
      process.kill(pid!, 'SIGINT')
    })
    await expect(job).resolves.toMatchObject({ params: { mean: 0 } })
  })

  it('a runner killed while idle is replaced for the next job', async () => {
    const { scheduler, pids } = start()
    const first = await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
    process.kill(first.params.pid as number, 'SIGKILL')
    // The system tells of the death a little later; a job that comes before fails alone, the one after it runs.
    await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never).catch(() => {})
    const last = await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
    expect(last.params.pid).not.toBe(first.params.pid)
    expect(pids.length).toBeGreaterThan(1)
  })

  it('a model that cannot be loaded fails every waiting request with the reason', async () => {
    const { scheduler } = start()
    const jobs = [1, 2].map(() => scheduler.runModel(request(), modelRef('unknown_op'), inferenceJob(), never))
    for (const job of jobs)
      await expect(job).rejects.toMatchObject({ code: 'BAD_MODEL', message: expect.stringContaining('NoSuchOperator') })
  })

  it('many loads and unloads leave no child', async () => {
    const { scheduler, pids, alive } = start({ keepAliveMs: 0 })
    for (let cycle = 0; cycle < 8; cycle++) {
      await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
      await scheduler.retire('identity')
    }
    expect(pids).toHaveLength(8)
    expect(alive()).toEqual([])
  })

  it('closing lets a running job finish within the grace and refuses the rest', async () => {
    const { scheduler, alive } = start()
    await scheduler.load(modelRef('slow'))
    const running = scheduler.runModel(request(), modelRef('slow'), inferenceJob({ windows: 2 }), never)
    const waiting = scheduler.runModel(request(), modelRef('slow'), inferenceJob(), never)
    waiting.catch(() => {})
    await scheduler.close(60_000)
    await expect(waiting).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
    expect((await running).params.mean).toBe(0)
    expect(alive()).toEqual([])
    await expect(scheduler.runModel(request(), modelRef('slow'), inferenceJob(), never)).rejects.toMatchObject({
      code: 'SHUTTING_DOWN',
    })
  })
})

describe('a runner that the system has stopped', () => {
  /** The question whether it lives comes every fifth of a second instead of every quarter of a minute. */
  const hasty: Timers = { after: (ms, work) => systemTimers.after(ms === 15_000 ? 200 : ms, work) }

  it('idle, makes place for another', async () => {
    const { scheduler, pids } = start({ timers: hasty })
    await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
    process.kill(pids[0]!, 'SIGSTOP')
    await expect.poll(() => isAlive(pids[0]!), { timeout: 10_000 }).toBe(false)
    const next = await scheduler.runModel(request(), modelRef('identity'), inferenceJob({ fill: 2 }), never)
    expect(next.params.mean).toBe(2)
  })

  it('at work, loses its request and nothing else', async () => {
    const { scheduler, pids } = start({ timers: hasty })
    await scheduler.load(modelRef('slow'))
    const job = scheduler.runModel(request(), modelRef('slow'), inferenceJob({ edge: 32, windows: 1000 }), never)
    job.catch(() => {})
    const other = scheduler.runModel(request(), modelRef('identity'), inferenceJob({ fill: 2 }), never)
    await expect.poll(() => scheduler.status().find(({ model }) => model === 'slow')?.state).toBe('busy')
    process.kill(pids[0]!, 'SIGSTOP')
    await expect(job).rejects.toMatchObject({ code: 'RUNNER_CRASHED', message: expect.stringContaining('stuck') })
    expect((await other).params.mean).toBe(2)
  })
})

describe('a wish for CUDA that cannot be had', () => {
  it('is told in the log, in the status and with every result', async () => {
    const warned: string[] = []
    const log = { ...silentLog, warn: (_fields: object, message: string) => warned.push(message) }
    const { scheduler } = start({ device: { kind: 'cuda', index: 99 }, log })
    const { device, notes } = await scheduler.runModel(request(), modelRef('identity'), inferenceJob(), never)
    expect(device).toBe('cpu')
    expect(notes).toEqual([expect.stringContaining('CUDA could not be used')])
    expect(scheduler.status()[0]).toMatchObject({ device: 'cpu', fallbackReason: notes[0] })
    expect(warned).toContain('runner ready, but not on the device that was wanted')
  })
})

describe('a server that dies', () => {
  it('takes its runners with it, also one that is inside a long run', async () => {
    const path = fileURLToPath(new URL('../helpers/doomed-server.ts', import.meta.url))
    const server = fork(path, [], { execArgv: [...testEntry.execArgv], stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
    const pid = Number((await once(server.stdout!, 'data'))[0])
    expect(isAlive(pid)).toBe(true)
    server.kill('SIGKILL')
    await once(server, 'exit')
    await vi.waitUntil(() => !isAlive(pid), { timeout: 30_000 })
  })
})

describe('tools', () => {
  it('run without a model, and see none of the server’s settings', async () => {
    process.env.AIDANT_TOKEN = 'secret'
    const { scheduler } = start()
    const { params } = await scheduler.runTool(request(), toolJob(), never)
    delete process.env.AIDANT_TOKEN
    expect(params).toMatchObject({ kind: 'fixpolygon', secrets: [] })
  })

  it('work side by side in a small pool', async () => {
    const { scheduler, pids } = start({ toolRunners: 2 })
    const results = await Promise.all(
      Array.from({ length: 6 }, () => scheduler.runTool(request(), toolJob({ steps: 50 }), never)),
    )
    expect(new Set(results.map(({ params }) => params.pid)).size).toBeLessThanOrEqual(2)
    expect(pids.length).toBeLessThanOrEqual(2)
  })

  it('that block or die do not take the others with them', async () => {
    const { scheduler } = start({ toolRunners: 2, cancelGraceMs: 200 })
    const abort = new AbortController()
    const stuck = scheduler.runTool(request(), toolJob({ block: true }), abort.signal, ({ stage }) => {
      if (stage) abort.abort()
    })
    const dying = scheduler.runTool(request(), toolJob({ misbehave: 'kill' }), never)
    await Promise.all([
      expect(stuck).rejects.toMatchObject({ code: 'CANCELLED' }),
      expect(dying).rejects.toMatchObject({ code: 'RUNNER_CRASHED' }),
    ])
    expect((await scheduler.runTool(request(), toolJob(), never)).params.kind).toBe('fixpolygon')
  })
})
