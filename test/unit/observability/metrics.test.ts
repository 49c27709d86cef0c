import { describe, expect, test } from 'vitest'
import { Metrics, type MetricsSources } from '../../../src/observability/metrics.js'
import { hasPromtool, promtool, samplesOf } from '../../helpers/promtool.js'

const LIMITS = { sessionBytes: 1000, sessions: 10, queuedJobs: 16, loadedModels: 4 }
const SOURCES: MetricsSources = {
  models: () => [{ name: 'spleen', bytes: 70 }, { name: 'pipe' }],
  runners: () => [
    { model: 'spleen', state: 'busy', rssBytes: 500 },
    { model: 'spleen', state: 'stopping', rssBytes: 250 },
    { model: 'liver', state: 'ready', rssBytes: undefined },
  ],
  queues: () => [
    { model: 'spleen', queued: 2 },
    { model: 'spleen', queued: 1 },
    { model: undefined, queued: 4 },
  ],
  sessions: () => ({ sessions: 3, bytes: 300 }),
  images: () => ({ total: 5, completed: 2 }),
  disk: async () => ({ size: 100, free: 40 }),
  certificateEnds: () => 1_800_000_000_000,
}

function watched(of: { process: boolean } = { process: false }) {
  const metrics = new Metrics('1.2.3', LIMITS, of)
  metrics.watch(SOURCES)
  return metrics
}
const samples = async (metrics: Metrics) => samplesOf(await metrics.text())

test('the first scrape has numbers of the process, and a lag that was measured', async () => {
  const found = await samples(watched({ process: true }))
  expect(found.get('process_resident_memory_bytes')).toBeGreaterThan(1e7)
  expect(found.get('nodejs_eventloop_lag_min_seconds')).toBeLessThan(60)
  expect(found.get('nodejs_eventloop_lag_p99_seconds')).toBeGreaterThan(0)
})

test('gauges are what they are when they are asked for', async () => {
  const found = await samples(watched())
  const told = [
    'queue_length{model="spleen"}',
    'queue_length{model="tools"}',
    'runners{model="spleen",state="busy"}',
    'models_loaded',
    'runner_memory_bytes{model="spleen"}',
    'sessions',
    'session_bytes',
    'models',
    'model_bytes',
    'workspace_free_bytes',
    'datastore_images{labelled="no"}',
    'certificate_end_timestamp_seconds',
  ].map((name) => found.get(`aidant_${name}`))
  expect(told).toEqual([3, 4, 1, 2, 750, 3, 300, 2, 70, 40, 3, 1_800_000_000])
})

test('a gauge forgets what is no longer there', async () => {
  const metrics = new Metrics('1', LIMITS, { process: false })
  let queued = [{ model: 'spleen', queued: 2 }]
  metrics.watch({ ...SOURCES, queues: () => queued })
  expect((await samples(metrics)).get('aidant_queue_length{model="spleen"}')).toBe(2)
  queued = []
  expect((await samples(metrics)).get('aidant_queue_length{model="spleen"}')).toBeUndefined()
})

test('jobs are counted by how they ended', async () => {
  const metrics = watched()
  metrics.jobBegan('spleen', 1500)
  metrics.jobEnded('spleen', { timings: { read: 20, infer: 700 } })
  for (const code of ['CANCELLED', 'SHUTTING_DOWN', 'DEADLINE_EXCEEDED', 'BAD_PARAMS'] as const)
    metrics.jobEnded('spleen', { code })
  metrics.jobEnded(undefined, { timings: {} })
  const found = await samples(metrics)
  const outcomes = ['done', 'cancelled', 'out_of_time', 'failed'].map((outcome) =>
    found.get(`aidant_jobs_total{model="spleen",outcome="${outcome}"}`),
  )
  expect(outcomes).toEqual([1, 2, 1, 1])
  expect(found.get('aidant_jobs_total{model="tools",outcome="done"}')).toBe(1)
  expect(found.get('aidant_job_failures_total{code="BAD_PARAMS",model="spleen"}')).toBe(1)
  expect(found.get('aidant_queue_wait_seconds_sum{model="spleen"}')).toBe(1.5)
  expect(found.get('aidant_stage_seconds_sum{model="spleen",stage="infer"}')).toBe(0.7)
})

test('only so many models have a name of their own', async () => {
  const metrics = watched()
  for (let i = 0; i < 1000; i++) metrics.jobRefused(`model-${i}`)
  const found = [...(await samples(metrics))].filter(([name]) => name.startsWith('aidant_jobs_refused_total{'))
  expect(found.length).toBeLessThanOrEqual(101)
  expect(found.reduce((sum, [, value]) => sum + value, 0)).toBe(1000)
  expect(found.find(([name]) => name.includes('"other"'))![1]).toBeGreaterThanOrEqual(900)
})

test('a method and a kind that nobody knows are other', async () => {
  const metrics = watched()
  metrics.requestEnded({ method: 'BREW', route: undefined, status: 404, seconds: 1, code: 'NOT_FOUND' })
  metrics.fetchEnded({ 'patient-doe': 1 }, 'BAD_PARAMS', 1)
  const found = await samples(metrics)
  expect(found.get('aidant_http_requests_total{method="other",route="(unknown)",status="4xx"}')).toBe(1)
  expect(found.get('aidant_fetches_total{kind="other",outcome="failed"}')).toBe(1)
  expect(found.get('aidant_errors_total{code="NOT_FOUND"}')).toBe(1)
  expect(await metrics.text()).not.toContain('doe')
})

describe.skipIf(!hasPromtool)('promtool (skipped where Prometheus is not installed)', () => {
  test('has nothing to say of any metric', async () => {
    const metrics = watched({ process: true })
    metrics.requestEnded({ method: 'GET', route: '/v1/models', status: 200, seconds: 0.1, code: undefined })
    metrics.jobBegan('spleen', 1)
    metrics.jobEnded('spleen', { timings: { infer: 1 } })
    metrics.jobEnded('spleen', { code: 'BAD_PARAMS' })
    metrics.jobRefused('spleen')
    metrics.runnerLoaded('spleen', { ms: 1 })
    metrics.runnerEnded('spleen', 'crash')
    metrics.fetchEnded({ http: 1 }, 'done', 1)
    metrics.auditFailed()
    expect(promtool(['check', 'metrics'], { input: await metrics.text() })).toBe('')
  })
})
