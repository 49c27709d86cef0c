/** The scheduler's decisions, with runners and time in the test's hands. */
import { setMaxListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { Config } from '../../../src/config/schema.js'
import type { RewriteChoice, RewriteChoices } from '../../../src/contract/model.js'
import type { ToRunner } from '../../../src/contract/wire.js'
import { AppError } from '../../../src/errors.js'
import { createScheduler, type SchedulerOptions } from '../../../src/scheduler/create-scheduler.js'
import type { JobProgress } from '../../../src/scheduler/scheduler.js'
import { schedulerSettings } from '../../../src/services.js'
import { silentLog } from '../../../src/util/log.js'
import { FakeFarm, type FakeRunner, settle } from '../../helpers/fake-runner.js'
import { FakeTime } from '../../helpers/fake-time.js'
import { inferenceJob, modelRef, request, testEntry, toolJob } from '../../helpers/runner-fixtures.js'

const never = new AbortController().signal
setMaxListeners(0, never)

function build(options: Partial<SchedulerOptions> = {}, farm = new FakeFarm()) {
  const time = new FakeTime()
  const scheduler = createScheduler({
    ...schedulerSettings(Config.parse({})),
    entry: testEntry,
    spawn: farm.spawn,
    clock: time,
    timers: time,
    ...options,
  })
  return { scheduler, farm, time }
}

describe('the queue', () => {
  it('takes turns among clients and tells each its place', async () => {
    const { scheduler, farm } = build()
    const places: Record<string, (number | undefined)[]> = {}
    const post = (who: string, client: string) =>
      scheduler.runModel(request(client), modelRef('m'), inferenceJob({ who }), never, ({ state, queuePlace }) => {
        const seen = places[who] ?? []
        places[who] = seen
        if (state === 'queued') seen.push(queuePlace)
      })
    const jobs = [post('a1', 'a'), post('a2', 'a'), post('a3', 'a'), post('b1', 'b')]
    const served: unknown[] = []
    for (const _ of jobs) {
      await settle()
      served.push(farm.last.params?.who)
      farm.last.finish()
    }
    await Promise.all(jobs)
    expect(served).toEqual(['a1', 'b1', 'a2', 'a3'])
    expect(places).toEqual({ a1: [0], a2: [1, 2, 1, 0], a3: [2, 3, 2, 1, 0], b1: [1, 0] })
  })

  it('refuses what is over its bound, saying when to come back', async () => {
    const { scheduler, farm } = build({ maxQueuedJobs: 2 })
    const post = () => scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const jobs = [post(), post(), post()]
    await settle()
    const refused = await post().catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'BUSY', statusCode: 503, retryAfterSeconds: expect.any(Number) })
    for (const _ of jobs) {
      await settle()
      farm.last.finish()
    }
    await Promise.all(jobs)
  })

  it('that one machine has filled, with whatever many sessions, still takes one job of every other', async () => {
    const { scheduler } = build({ maxQueuedJobs: 2 })
    const post = (host: string, session: string) =>
      scheduler.runModel(request(session, host), modelRef('m'), inferenceJob(), never)
    const outcome = (job: Promise<unknown>) =>
      Promise.race([job.catch((error: AppError) => error.code), settle().then(() => 'waits')])
    for (const session of ['a', 'b', 'c']) expect(await outcome(post('greedy', session))).toBe('waits')
    expect(await outcome(post('greedy', 'd'))).toBe('BUSY')
    expect(await outcome(post('other', 'e'))).toBe('waits')
    expect(await outcome(post('other', 'f'))).toBe('BUSY')
    expect(await outcome(post('third', 'g'))).toBe('waits')
    expect(await outcome(post('fourth', 'h'))).toBe('BUSY')
  })

  it('counts the bound per model', async () => {
    const { scheduler } = build({ maxQueuedJobs: 0 })
    void scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    void scheduler.runModel(request(), modelRef('n'), inferenceJob(), never)
    await expect(scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)).rejects.toMatchObject({
      code: 'BUSY',
    })
  })

  it('estimates from the model’s own history', async () => {
    const { scheduler, farm, time } = build()
    const first = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    time.advance(4000)
    farm.last.finish()
    await first
    const seen: JobProgress[] = []
    void scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    time.advance(1000)
    void scheduler.runModel(request(), modelRef('m'), inferenceJob(), never, (progress) => seen.push(progress))
    expect(seen).toEqual([{ state: 'queued', queuePlace: 0, estimateMs: 7000 }])
  })
})

describe('the log', () => {
  it('says of each job how long it waited, how long each stage took, or with which code it ended', async () => {
    const said: [object, string][] = []
    const log = { ...silentLog, info: (fields: object, message: string) => said.push([fields, message]) }
    const { scheduler, farm, time } = build({ log })
    const first = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const second = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    second.catch(() => {})
    await settle()
    time.advance(2000)
    farm.last.finish({ timings: { read: 300, infer: 1700 }, device: 'cpu' })
    await first
    await settle()
    const error = { code: 'BAD_PARAMS', message: 'no' } as const
    farm.last.say({ type: 'error', id: 2, error, spent: false })
    await second.catch(() => {})
    expect(said.filter(([, message]) => message.startsWith('job'))).toEqual([
      [
        expect.objectContaining({ waitedMs: 0, ms: 2000, timings: { read: 300, infer: 1700 }, device: 'cpu' }),
        'job done',
      ],
      [expect.objectContaining({ waitedMs: 2000, ms: 0, code: 'BAD_PARAMS' }), 'job ended'],
    ])
  })
})

describe('stopping', () => {
  it('a waiting job leaves at once, with the reason of whoever aborted it', async () => {
    const { scheduler, farm } = build()
    void scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const abort = new AbortController()
    const waiting = scheduler.runModel(request(), modelRef('m'), inferenceJob(), abort.signal)
    await settle()
    abort.abort(new AppError('CANCELLED', 'the client went away'))
    await expect(waiting).rejects.toThrow('the client went away')
    farm.last.finish()
    await settle()
    expect(farm.last.sent.filter(({ type }) => type === 'run')).toHaveLength(1)
  })

  it('a running job is asked, and its runner ended only after the grace', async () => {
    const { scheduler, farm, time } = build({ cancelGraceMs: 5000 })
    const abort = new AbortController()
    const running = scheduler.runModel(request(), modelRef('m'), inferenceJob(), abort.signal)
    running.catch(() => {})
    await settle()
    abort.abort()
    await settle()
    expect(farm.last.sent.at(-1)).toEqual({ type: 'cancel', id: 1 })
    time.advance(4999)
    await settle()
    expect(farm.last.killed).toBe(false)
    time.advance(1)
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(farm.last.killed).toBe(true)
  })

  it('a job that stops when asked keeps its runner', async () => {
    const { scheduler, farm, time } = build()
    const abort = new AbortController()
    const running = scheduler.runModel(request(), modelRef('m'), inferenceJob(), abort.signal)
    running.catch(() => {})
    await settle()
    abort.abort()
    const error = { code: 'CANCELLED', message: 'the request was cancelled' } as const
    farm.last.say({ type: 'error', id: 1, error, spent: false })
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' })
    time.advance(60_000)
    await settle()
    expect(farm.last.killed).toBe(false)
  })

  it('leaves no timer behind when a job is done', async () => {
    const { scheduler, farm, time } = build({ keepAliveMs: -1 })
    await scheduler.load(modelRef('m'))
    const before = time.pending
    const job = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    farm.last.finish()
    await job
    await settle()
    expect(time.pending).toBe(before)
  })
})

describe('the device', () => {
  it('goes to one inference at a time, and back when the holder ends in any way', async () => {
    const { scheduler, farm } = build()
    const first = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const second = scheduler.runModel(request(), modelRef('n'), inferenceJob(), never)
    first.catch(() => {})
    second.catch(() => {})
    await settle()
    const [m, n] = farm.runners as [(typeof farm.runners)[0], (typeof farm.runners)[0]]
    m.say({ type: 'want', id: 1 })
    n.say({ type: 'want', id: 1 })
    await settle()
    expect(m.sent.slice(-2)).toEqual([
      { type: 'grant', id: 1, shared: false },
      { type: 'yield', id: 1 },
    ])
    expect(n.sent.at(-1)!.type).toBe('run')
    m.die(null, 'SIGSEGV')
    await settle()
    expect(n.sent.at(-1)).toEqual({ type: 'grant', id: 1, shared: false })
    await expect(first).rejects.toMatchObject({ code: 'RUNNER_CRASHED', message: expect.stringContaining('SIGSEGV') })
  })

  it('is freed by release, before the job is done', async () => {
    const { scheduler, farm } = build()
    void scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    void scheduler.runModel(request(), modelRef('n'), inferenceJob(), never)
    await settle()
    const [m, n] = farm.runners as [(typeof farm.runners)[0], (typeof farm.runners)[0]]
    m.say({ type: 'want', id: 1 })
    n.say({ type: 'want', id: 1 })
    m.say({ type: 'release', id: 1 })
    await settle()
    expect(n.sent.at(-1)).toEqual({ type: 'grant', id: 1, shared: false })
  })
})

describe('keep-alive and room', () => {
  it('ends a runner after so long without work, not before', async () => {
    const { scheduler, farm, time } = build({ keepAliveMs: 10_000 })
    const job = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    farm.last.finish()
    await job
    expect(scheduler.status()[0]).toMatchObject({ state: 'ready', until: 10_000 })
    time.advance(9999)
    await settle()
    expect(farm.last.killed).toBe(false)
    time.advance(1)
    await settle()
    expect(farm.last.killed).toBe(true)
    expect(scheduler.status()).toEqual([])
  })

  it('work starts the keep-alive anew', async () => {
    const { scheduler, farm, time } = build({ keepAliveMs: 10_000 })
    await scheduler.load(modelRef('m'))
    time.advance(9000)
    const job = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    time.advance(9000)
    farm.last.finish()
    await job
    time.advance(9000)
    await settle()
    expect(farm.last.killed).toBe(false)
  })

  it('ends the least recently used runner for one that needs its place', async () => {
    const { scheduler, farm, time } = build({ maxLoadedModels: 2 })
    for (const name of ['a', 'b', 'a', 'c']) {
      const job = scheduler.runModel(request(), modelRef(name), inferenceJob(), never)
      await settle()
      farm
        .alive()
        .find(({ model }) => model === name)!
        .finish()
      await job
      time.advance(1000)
    }
    expect(farm.alive().map(({ model }) => model)).toEqual(['a', 'c'])
  })

  it('ends idle runners, least recently used first, while all together are over the memory budget', async () => {
    const { scheduler, farm, time } = build({ memoryBudgetBytes: 250, memoryOf: () => 100 })
    for (const name of ['a', 'b', 'c']) {
      const job = scheduler.runModel(request(), modelRef(name), inferenceJob(), never)
      await settle()
      farm
        .alive()
        .find(({ model }) => model === name)!
        .finish()
      await job
      time.advance(1000)
      await settle()
    }
    expect(farm.alive().map(({ model }) => model)).toEqual(['b', 'c'])
  })

  it('one model larger than the whole budget still runs, alone', async () => {
    const { scheduler, farm } = build({ memoryBudgetBytes: 50, memoryOf: () => 100 })
    const first = scheduler.runModel(request(), modelRef('a'), inferenceJob(), never)
    const second = scheduler.runModel(request(), modelRef('b'), inferenceJob(), never)
    await settle()
    expect(farm.alive().map(({ model }) => model)).toEqual(['a'])
    farm.last.finish()
    await first
    await settle()
    expect(farm.alive().map(({ model }) => model)).toEqual(['b'])
    farm.last.finish()
    await second
  })

  it('never has more runners than allowed, and serves everyone in the end', async () => {
    const { scheduler, farm, time } = build({ maxLoadedModels: 2 })
    const jobs = ['a', 'b', 'c', 'a', 'd', 'b', 'c'].map((name) =>
      scheduler.runModel(request(name), modelRef(name), inferenceJob(), never),
    )
    let done = 0
    for (const job of jobs) void job.then(() => done++)
    for (let round = 0; round < 50 && done < jobs.length; round++) {
      await settle()
      expect(farm.alive().length).toBeLessThanOrEqual(2)
      for (const runner of farm.alive()) if (runner.sent.at(-1)?.type === 'run') runner.finish()
      time.advance(10)
    }
    expect(done).toBe(jobs.length)
  })
})

describe('several runners of one model', () => {
  const inSession = (cacheKey: string) => ({
    ...inferenceJob({ cacheKey }),
    images: [{ field: 'image', paths: ['x'], cacheKey }],
  })
  const busy = (farm: FakeFarm) => farm.alive().filter((runner) => runner.sent.at(-1)?.type === 'run')

  it('are started while jobs wait, one after the other, and work side by side', async () => {
    const { scheduler, farm } = build({ instances: 2 }, new FakeFarm({ loadsAtOnce: false }))
    const jobs = ['a', 'b', 'c'].map((key) => scheduler.runModel(request(), modelRef('m'), inSession(key), never))
    await settle()
    expect(farm.alive().length).toBe(1)
    farm.alive()[0]!.say({ type: 'loaded', device: 'cpu' })
    await settle()
    expect(farm.alive().length).toBe(2)
    farm.alive()[1]!.say({ type: 'loaded', device: 'cpu' })
    await settle()
    expect(busy(farm).map(({ params }) => params?.cacheKey)).toEqual(['a', 'b'])
    busy(farm)[1]!.finish()
    await settle()
    expect(busy(farm).map(({ params }) => params?.cacheKey)).toEqual(['a', 'c'])
    for (const runner of busy(farm)) runner.finish()
    await Promise.all(jobs)
  })

  it('get the sessions whose images they have prepared', async () => {
    const { scheduler, farm } = build({ instances: 2 })
    const post = (key: string) => scheduler.runModel(request(), modelRef('m'), inSession(key), never)
    const jobs = [post('a'), post('b')]
    await settle()
    const [first, second] = farm.alive()
    for (const runner of farm.alive()) runner.finish()
    await Promise.all(jobs)
    for (const key of ['b', 'b', 'a', 'b']) {
      const job = post(key)
      await settle()
      const runner = key === 'a' ? first! : second!
      expect(runner.params?.cacheKey).toBe(key)
      runner.finish()
      await job
    }
    const runs = ({ sent }: FakeRunner) => sent.filter(({ type }) => type === 'run').length
    expect([first!, second!].map(runs)).toEqual([2, 4])
  })

  it('are one at first, and one where the first alone fills the room', async () => {
    for (const options of [{}, { instances: 3, maxLoadedModels: 1 }]) {
      const { scheduler, farm } = build(options)
      for (const key of ['a', 'b', 'c'])
        scheduler.runModel(request(), modelRef('m'), inSession(key), never).catch(() => {})
      await settle()
      expect(farm.alive().length).toBe(1)
    }
  })

  it('take no other model\u2019s room, and give theirs back to one that waits', async () => {
    const { scheduler, farm } = build({ instances: 2, maxLoadedModels: 2 })
    const other = scheduler.runModel(request(), modelRef('n'), inferenceJob(), never)
    await settle()
    farm.last.finish()
    await other
    const jobs = ['a', 'b'].map((key) => scheduler.runModel(request(), modelRef('m'), inSession(key), never))
    await settle()
    expect(farm.alive().map(({ model }) => model)).toEqual(['n', 'm'])
    for (const _ of jobs) {
      await settle()
      farm.last.finish()
    }
    await Promise.all(jobs)
    await scheduler.retire('n')
    const more = ['a', 'b'].map((key) => scheduler.runModel(request(), modelRef('m'), inSession(key), never))
    await settle()
    expect(farm.alive().map(({ model }) => model)).toEqual(['m', 'm'])
    busy(farm)[1]!.finish()
    const waits = scheduler.runModel(request(), modelRef('n'), inferenceJob(), never)
    await settle()
    expect(farm.alive().map(({ model }) => model)).toEqual(['m', 'n'])
    for (const runner of busy(farm)) runner.finish()
    await Promise.all([...more, waits])
  })
})

describe('with --instances auto', () => {
  const GiB = 2 ** 30
  /** Two cores, a model whose runner takes `rss` and whose jobs take 200 ms each, and `free` memory. */
  async function practised(options: Partial<SchedulerOptions> = {}, { shares = true, rss = GiB, free = 4 * GiB } = {}) {
    const farm = new FakeFarm({ loadsAtOnce: true, shares })
    const { scheduler, time } = build(
      { cores: 2, spareKeepAliveMs: 60_000, memoryOf: () => rss, freeMemory: () => free, ...options },
      farm,
    )
    const post = (session: string, signal = never) => {
      const images = [{ field: 'image', paths: ['x'], cacheKey: session }]
      const job = { ...inferenceJob({ session }), images }
      return scheduler.runModel(request(session), modelRef('m'), job, signal)
    }
    const first = post('first')
    await settle()
    time.advance(200)
    farm.last.finish()
    await first
    const served = new Map([[farm.last, farm.last.job]])
    const busy = () => farm.alive().filter((runner) => runner.job > (served.get(runner) ?? 0))
    const serve = async (runner: FakeRunner | undefined) => {
      served.set(runner!, runner!.job)
      runner!.finish()
      await settle()
    }
    return { scheduler, farm, time, post, busy, serve }
  }

  it('a further runner is there while half a second of work waits, and goes a minute after it was needed last', async () => {
    const { farm, time, post, busy, serve } = await practised()
    const jobs = ['a', 'b', 'c'].map((session) => post(session))
    await settle()
    expect(farm.alive().length).toBe(1)
    jobs.push(post('d'))
    await settle()
    expect(farm.alive().length).toBe(2)
    while (busy().length > 0) await serve(busy()[0])
    await Promise.all(jobs)
    time.advance(30_000)
    const both = ['e', 'f'].map((session) => post(session))
    await settle()
    expect(busy().length).toBe(2)
    for (const runner of busy()) await serve(runner)
    await Promise.all(both)
    time.advance(59_000)
    const alone = post('g')
    await settle()
    await serve(busy()[0])
    await alone
    expect(farm.alive().length).toBe(2)
    time.advance(1000)
    await settle()
    expect(farm.alive()).toEqual([farm.runners[0]])
  })

  it.each([
    { name: 'on one core', options: { cores: 1 } },
    { name: 'of a model that cannot share the cores', more: { shares: false } },
    { name: 'that may take all memory that is free', more: { free: 2 * GiB - 1 } },
    { name: 'where another model would have to go', options: { maxLoadedModels: 1 } },
    { name: 'where one is what the operator said', options: { instances: 1 } },
  ])('there is no further runner $name', async ({ options = {}, more = {} }) => {
    const { farm, post } = await practised(options, more)
    for (const session of 'abcdefgh') post(session).catch(() => {})
    await settle()
    expect(farm.alive().length).toBe(1)
  })

  it.each([
    { cores: 1, most: 1 },
    { cores: 2, most: 2 },
    { cores: 8, most: 2 },
    { cores: 16, most: 4 },
  ])('$cores cores serve $most runners of a model, each with its share of them', async ({ cores, most }) => {
    const { farm, post } = await practised({ cores, maxLoadedModels: 16 })
    for (const session of 'abcdefghijkl') post(session).catch(() => {})
    for (let turn = 0; turn < 8; turn++) await settle()
    expect(farm.alive().length).toBe(most)
    for (const { sent } of farm.alive()) {
      const [load] = sent
      const threads = load?.type === 'load' ? load.settings.shareThreads : undefined
      expect(threads).toBe(most === 1 ? undefined : cores / most)
    }
  })

  it('jobs that are there together have a share of the cores each, one that is alone has all of them', async () => {
    const { farm, post, busy, serve } = await practised()
    const grants = ({ sent }: FakeRunner) =>
      sent.flatMap((message) => (message.type === 'grant' ? [message.shared] : []))
    const want = async (runner: FakeRunner) => {
      runner.say({ type: 'want', id: runner.job })
      await settle()
    }
    const jobs = ['a', 'b', 'c', 'd'].map((session) => post(session))
    await settle()
    const [first, second] = busy() as [FakeRunner, FakeRunner]
    await want(first)
    await want(second)
    expect([grants(first), grants(second)]).toEqual([[true], [true]])
    await serve(first)
    await serve(first)
    expect(second.sent.at(-1)).toEqual({ type: 'grant', id: second.job, shared: true })
    await serve(first)
    expect(second.sent.at(-1)).toEqual({ type: 'yield', id: second.job })
    second.say({ type: 'release', id: second.job })
    await want(second)
    expect(grants(second)).toEqual([true, false])
    await serve(second)
    await Promise.all(jobs)
    expect(farm.alive().length).toBe(2)
  })

  it('a job goes to the runner that has its image, and waits for that behind two others at most', async () => {
    const { post, busy, serve } = await practised()
    const served: unknown[] = []
    const rounds = ['a', 'b', 'c', 'd'].map((session) => post(session))
    await settle()
    const [first, second] = busy() as [FakeRunner, FakeRunner]
    expect([first.params?.session, second.params?.session]).toEqual(['a', 'b'])
    await serve(first)
    await serve(second)
    expect([first.params?.session, second.params?.session]).toEqual(['c', 'd'])
    // first has a and c, second b and d; now first is kept busy, and of those that wait b and d have to
    const more = ['b', 'd', 'a', 'c', 'a', 'c', 'a', 'c'].map((session) => post(session))
    await settle()
    for (let turn = 0; turn < 4; turn++) {
      await serve(first)
      served.push(first.params?.session)
    }
    expect(served).toEqual(['a', 'c', 'b', 'd'])
    for (let turn = 0; turn < 20; turn++) for (const runner of busy()) await serve(runner)
    await Promise.all([...rounds, ...more])
  })

  it('a cancel of one that works beside others ends that one alone', async () => {
    const { farm, post, busy, serve } = await practised()
    const abort = new AbortController()
    const jobs = ['a', 'b', 'c', 'd'].map((session) => post(session, session === 'b' ? abort.signal : never))
    await settle()
    const [first, second] = busy() as [FakeRunner, FakeRunner]
    abort.abort()
    await settle()
    expect([first.sent.at(-1)!.type, second.sent.at(-1)!.type]).toEqual(['run', 'cancel'])
    const error = { code: 'CANCELLED', message: 'the request was cancelled' } as const
    second.say({ type: 'error', id: second.job, error, spent: false })
    await expect(jobs[1]).rejects.toMatchObject({ code: 'CANCELLED' })
    for (let turn = 0; turn < 4; turn++) for (const runner of busy()) await serve(runner)
    await Promise.all([jobs[0], jobs[2], jobs[3]])
    expect(farm.alive().length).toBe(2)
  })
})

describe('loading', () => {
  it('that takes too long fails the waiting job and ends the runner', async () => {
    const { scheduler, farm, time } = build({ loadTimeoutMs: 1000 }, new FakeFarm({ loadsAtOnce: false }))
    const job = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    time.advance(1000)
    await expect(job).rejects.toMatchObject({ code: 'MODEL_NOT_READY' })
    await settle()
    expect(farm.last.killed).toBe(true)
  })

  it('that crashes fails one job; the next tries again', async () => {
    const { scheduler, farm } = build({}, new FakeFarm({ loadsAtOnce: false }))
    const first = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const second = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    farm.last.die(null, 'SIGABRT')
    await expect(first).rejects.toMatchObject({ code: 'RUNNER_CRASHED' })
    await settle()
    expect(farm.runners).toHaveLength(2)
    farm.last.say({ type: 'loaded', device: 'cpu' })
    await settle()
    farm.last.finish({ params: { answer: 1 } })
    expect((await second).params).toEqual({ answer: 1 })
  })

  it('a fallback is told in the status', async () => {
    const { scheduler, farm } = build({}, new FakeFarm({ loadsAtOnce: false }))
    const loaded = scheduler.load(modelRef('m'))
    await settle()
    farm.last.say({ type: 'loaded', device: 'cpu', fallbackReason: 'no GPU' })
    await loaded
    expect(scheduler.status()[0]).toMatchObject({ device: 'cpu', fallbackReason: 'no GPU' })
  })

  it.each([
    { what: 'result', message: { type: 'done', id: 1, result: { params: 'all of it' } } },
    { what: 'error', message: { type: 'error', id: 1, error: { code: 'BAD_PARAMS', message: 'x'.repeat(5000) } } },
  ])('a job whose $what cannot be read fails, and its model stays loaded', async ({ message }) => {
    const { scheduler, farm } = build()
    const job = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    farm.last.babble(message)
    await expect(job).rejects.toMatchObject({ code: 'INTERNAL' })
    const next = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    farm.last.finish({ params: { answer: 2 } })
    expect((await next).params).toEqual({ answer: 2 })
    expect(farm.runners).toHaveLength(1)
  })

  it.each(['nonsense', { type: 'what?', id: 1 }, { type: 'want' }])(
    'a job that says %j in between is asked to stop, and its model stays loaded',
    async (message) => {
      const { scheduler, farm } = build()
      const job = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
      await settle()
      farm.last.babble(message)
      await settle()
      expect(farm.last.sent.at(-1)).toEqual({ type: 'cancel', id: 1 })
      farm.last.finish()
      await expect(job).rejects.toMatchObject({ code: 'INTERNAL' })
      expect(farm.last.killed).toBe(false)
    },
  )

  it('progress that cannot be read is passed over', async () => {
    const { scheduler, farm } = build()
    const job = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    farm.last.babble({ type: 'progress', id: 1, stage: 'infer', done: null, total: 3 })
    farm.last.finish({ params: { answer: 3 } })
    expect((await job).params).toEqual({ answer: 3 })
  })
})

describe('a runner that is stuck', () => {
  const stuck = async (busy: boolean, computed: (at: number) => number | undefined) => {
    const clock = { now: () => 0 }
    const built = build({ keepAliveMs: -1, processorMs: () => computed(clock.now()) })
    clock.now = () => built.time.now()
    await built.scheduler.load(modelRef('m'))
    const job = busy ? built.scheduler.runModel(request(), modelRef('m'), inferenceJob(), never) : undefined
    job?.catch(() => {})
    await settle()
    built.farm.last.deaf = true
    built.time.advance(60_000)
    await settle()
    return { ...built, job }
  }

  it('idle, is replaced within a minute', async () => {
    const { scheduler, farm } = await stuck(false, (at) => at)
    expect(farm.runners[0]!.killed).toBe(true)
    const next = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    farm.last.finish()
    await next
    expect(farm.runners).toHaveLength(2)
  })

  it('at work, is replaced within a minute, and its request told', async () => {
    const { farm, job } = await stuck(true, () => 0)
    expect(farm.runners[0]!.killed).toBe(true)
    await expect(job).rejects.toMatchObject({ code: 'RUNNER_CRASHED', message: expect.stringContaining('stuck') })
  })

  it.each([
    { name: 'computes', computed: (at: number) => at / 10 },
    { name: 'is on a system that does not tell', computed: () => undefined },
  ])('is none that $name', async ({ computed }) => {
    const { farm, time } = await stuck(true, computed)
    time.advance(300_000)
    await settle()
    expect(farm.runners[0]!.killed).toBe(false)
  })

  it('gives back the device that it held', async () => {
    const { scheduler, farm, time } = build({ processorMs: () => 0 })
    const jobs = ['m', 'n'].map((name) => scheduler.runModel(request(), modelRef(name), inferenceJob(), never))
    jobs[0]!.catch(() => {})
    await settle()
    const [m, n] = farm.runners as [FakeRunner, FakeRunner]
    m.say({ type: 'want', id: 1 })
    n.say({ type: 'want', id: 1 })
    m.deaf = true
    time.advance(60_000)
    await settle()
    expect(n.sent.at(-1)).toEqual({ type: 'grant', id: 1, shared: false })
  })
})

describe('trials', () => {
  it('of several models go on side by side, as many as the setting says', async () => {
    const { scheduler, farm } = build({ maxProofs: 2 })
    const trials = ['a', 'b', 'c'].map((name) => scheduler.prove(modelRef(name)))
    await settle()
    expect(farm.runners.map(({ model }) => model)).toEqual(['a', 'b'])
    for (const at of [0, 1, 2]) {
      farm.runners[at]!.say({ type: 'proved', proof: { inputs: [], outputs: [], device: 'cpu' } })
      await settle()
      await settle()
    }
    await Promise.all(trials)
    expect(farm.runners.map(({ model }) => model)).toEqual(['a', 'b', 'c'])
  })

  it('that wait can be called off', async () => {
    const { scheduler, farm } = build({ maxProofs: 1 })
    scheduler.prove(modelRef('a')).catch(() => {})
    const abort = new AbortController()
    const waiting = scheduler.prove(modelRef('b'), abort.signal)
    abort.abort(new AppError('CANCELLED', 'gone'))
    await expect(waiting).rejects.toMatchObject({ message: 'gone' })
    await settle()
    expect(farm.runners).toHaveLength(1)
  })
})

describe('what trials of rewritten networks found', () => {
  const found = { engine: 'engine 1', plan: null, rewrites: {}, originalMs: 2, chosenMs: 2 }
  const brought = (farm: FakeFarm) => (farm.last.sent[0] as Extract<ToRunner, { type: 'load' }>).model

  it('is kept by revision, and brought by the next load; the models of a pipeline are no exception', async () => {
    const kept = new Map<string, RewriteChoice>()
    const rewrites: RewriteChoices = { known: (key) => kept.get(key), keep: (key, choice) => kept.set(key, choice) }
    const model = modelRef('both', {
      revision: 'p',
      parts: [modelRef('a', { revision: 'a1' }), modelRef('b', { revision: 'b1' })],
    })
    const first = build({ rewrites }, new FakeFarm({ loadsAtOnce: false }))
    const loaded = first.scheduler.load(model)
    await settle()
    expect(brought(first.farm)?.parts?.map((part) => part.rewrites)).toEqual([undefined, undefined])
    first.farm.last.say({ type: 'loaded', device: 'cpu', rewrites: { a1: found } })
    await loaded
    expect([...kept]).toEqual([['a1', found]])
    const second = build({ rewrites }, new FakeFarm({ loadsAtOnce: false }))
    void second.scheduler.load(model)
    await settle()
    expect(brought(second.farm)?.parts?.map((part) => part.rewrites)).toEqual([found, undefined])
  })

  it('goes before what the manifest says, and is not written again when it is followed', async () => {
    const writes: string[] = []
    const rewrites: RewriteChoices = { known: () => found, keep: (key) => writes.push(key) }
    const { scheduler, farm } = build({ rewrites }, new FakeFarm({ loadsAtOnce: false }))
    const loaded = scheduler.load(modelRef('m', { revision: 'r', rewrites: { ...found, engine: 'engine 0' } }))
    await settle()
    expect(brought(farm)?.rewrites).toEqual(found)
    farm.last.say({ type: 'loaded', device: 'cpu', rewrites: { r: found } })
    await loaded
    expect(writes).toEqual([])
    expect(scheduler.status()[0]?.rewrites).toEqual(found)
  })
})

describe('unloading', () => {
  it('under traffic answers when the jobs before it are done; those after it get a fresh runner', async () => {
    const { scheduler, farm } = build()
    const post = () => scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const before = post()
    await settle()
    let unloaded = false
    const unloading = scheduler.retire('m').then(() => {
      unloaded = true
    })
    const after = [post(), post()]
    await settle()
    farm.runners[0]!.finish()
    await before
    await unloading
    expect(unloaded).toBe(true)
    for (const _ of after) {
      await settle()
      farm.runners[1]!.finish()
    }
    await Promise.all(after)
    expect(farm.runners).toHaveLength(2)
  })

  it('of a replaced revision: a request that still has it does not keep it loaded', async () => {
    const { scheduler, farm } = build({ keepAliveMs: -1 })
    const old = modelRef('m', { revision: 'old' })
    await scheduler.retire('m', 'new')
    const late = scheduler.runModel(request(), old, inferenceJob(), never)
    await settle()
    farm.last.finish()
    await late
    await settle()
    expect(farm.alive()).toEqual([])
  })
})

describe('tools', () => {
  it('use at most the runners of their pool, started as needed', async () => {
    const { scheduler, farm } = build({ toolRunners: 2 })
    const one = scheduler.runTool(request(), toolJob(), never)
    await settle()
    expect(farm.runners).toHaveLength(1)
    const more = [1, 2, 3].map(() => scheduler.runTool(request(), toolJob(), never))
    await settle()
    expect(farm.runners).toHaveLength(2)
    for (const _ of [1, 2, 3]) {
      for (const runner of farm.runners) if (runner.sent.at(-1)?.type === 'run') runner.finish()
      await settle()
    }
    await Promise.all([one, ...more])
  })
})

describe('closing', () => {
  it('ends idle runners at once, refuses what waits, and cancels what runs after the grace', async () => {
    const { scheduler, farm, time } = build({ cancelGraceMs: 1000 })
    await scheduler.load(modelRef('idle'))
    const running = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const waiting = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    const trial = scheduler.prove(modelRef('new'))
    for (const promise of [running, waiting, trial]) promise.catch(() => {})
    await settle()
    const closed = scheduler.close(5000)
    await settle()
    expect(farm.alive().map(({ model }) => model)).toEqual(['m'])
    await expect(waiting).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
    await expect(trial).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
    time.advance(5000)
    await settle()
    expect(farm.alive()[0]!.sent.at(-1)).toEqual({ type: 'cancel', id: 1 })
    time.advance(1000)
    await closed
    await expect(running).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
    expect(farm.alive()).toEqual([])
    await expect(scheduler.load(modelRef('m'))).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
    await expect(scheduler.runTool(request(), toolJob(), never)).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
  })

  it('does not wait out the grace when all is quiet', async () => {
    const { scheduler, farm } = build()
    const running = scheduler.runModel(request(), modelRef('m'), inferenceJob(), never)
    await settle()
    const closed = scheduler.close(60_000)
    farm.last.finish()
    await closed
    await running
    expect(farm.alive()).toEqual([])
  })
})

describe('retiring', () => {
  it('waits for the jobs of the old revision, waiting ones too, and leaves the new one alone', async () => {
    const { scheduler, farm } = build()
    const old = modelRef('m', { revision: 'old' })
    const jobs = [1, 2].map(() => scheduler.runModel(request(), old, inferenceJob(), never))
    await scheduler.load(modelRef('m', { revision: 'new' }))
    let retired = false
    const done = scheduler.retire('m', 'new').then(() => {
      retired = true
    })
    for (const job of jobs) {
      await settle()
      expect(retired).toBe(false)
      farm.runners[0]!.finish()
      await job
    }
    await done
    expect(scheduler.status().map(({ revision }) => revision)).toEqual(['new'])
  })

  it('a model that is not loaded is at once', async () => {
    const { scheduler } = build()
    await scheduler.retire('nobody')
  })
})
