/** deploy/prometheus and deploy/grafana: they ask for metrics that exist, and Prometheus's own tool takes them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { Metrics } from '../../src/observability/metrics.js'
import { hasPromtool, promtool } from '../helpers/promtool.js'
import { tempFolder } from '../helpers/volumes.js'

const folder = fileURLToPath(new URL('../../deploy/prometheus/', import.meta.url))
const rules = readFileSync(`${folder}aidant.rules.yaml`, 'utf8')
const dashboard = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../deploy/grafana/aidant.json', import.meta.url)), 'utf8'),
) as { panels: { title: string; type: string; targets?: { expr: string }[] }[] }

/** Every name that /metrics may tell, and its labels. */
async function offered(): Promise<ReadonlySet<string>> {
  const metrics = new Metrics('1', { sessionBytes: 1, sessions: 1, queuedJobs: 1, loadedModels: 1 }, { process: true })
  const names = new Set<string>()
  for (const [, name, type] of (await metrics.text()).matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    names.add(name!)
    if (type === 'histogram') for (const suffix of ['bucket', 'sum', 'count']) names.add(`${name}_${suffix}`)
  }
  return names
}
const asked = (text: string) => [...new Set(text.match(/\b(aidant|process|nodejs)_[a-z_0-9]+/g) ?? [])]

test.each([
  { what: 'the rules', text: rules },
  { what: 'the dashboard', text: JSON.stringify(dashboard) },
])('every metric that $what ask for exists', async ({ text }) => {
  const names = await offered()
  expect(asked(text).length).toBeGreaterThan(10)
  expect(asked(text).filter((name) => !names.has(name))).toEqual([])
})

test('every alert is tried, silent and firing', () => {
  const alerts = (parse(rules) as { groups: { rules: { alert: string }[] }[] }).groups.flatMap((group) =>
    group.rules.map(({ alert }) => alert),
  )
  const tests = parse(readFileSync(`${folder}aidant.rules.test.yaml`, 'utf8')) as {
    tests: { alert_rule_test?: { alertname: string; exp_alerts?: unknown }[]; promql_expr_test?: unknown }[]
  }
  const silent = tests.tests.flatMap(({ alert_rule_test }) => alert_rule_test ?? []).map(({ alertname }) => alertname)
  expect(silent.toSorted()).toEqual(alerts.toSorted())
  const firing = JSON.stringify(tests.tests.map(({ promql_expr_test }) => promql_expr_test ?? []))
  expect(alerts.filter((alert) => !firing.includes(alert))).toEqual([])
})

test('every panel of the dashboard asks for something', () => {
  const empty = dashboard.panels.filter(({ type, targets }) => type !== 'row' && (targets ?? []).length === 0)
  expect(empty.map(({ title }) => title)).toEqual([])
})

describe.skipIf(!hasPromtool)('promtool (skipped where Prometheus is not installed)', () => {
  test('takes the rules, their tests and the configuration', () => {
    expect(promtool(['check', 'rules', 'aidant.rules.yaml'], { cwd: folder })).toContain('SUCCESS')
    expect(promtool(['test', 'rules', 'aidant.rules.test.yaml'], { cwd: folder })).toContain('SUCCESS')
    expect(promtool(['check', 'config', '--syntax-only', 'prometheus.yaml'], { cwd: folder })).toContain('SUCCESS')
  })

  test('takes every question of the dashboard', async () => {
    await using temp = await tempFolder()
    const questions = dashboard.panels
      .flatMap(({ targets }) => targets ?? [])
      .map(({ expr }) => expr.replaceAll(/\$__(rate_interval|range)/g, '5m'))
    const groups = [{ name: 'dashboard', rules: questions.map((expr, i) => ({ record: `question:${i}`, expr })) }]
    writeFileSync(join(temp.path, 'questions.json'), JSON.stringify({ groups }))
    expect(promtool(['check', 'rules', '--lint=none', 'questions.json'], { cwd: temp.path })).toContain('SUCCESS')
  })
})
