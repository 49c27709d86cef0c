/**
 * All measurements one after another, and one table of what they are held against:
 *
 *     npm run bench [-- --python PYTHON] [-- NAME...]
 *
 * about an hour on two cores, which should have nothing else to do. Writes bench/results.json. NAME picks programs.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ENGINE } from '../src/predictors/onnxruntime.js'
import { comparedValue, Measurement, RECORDS } from './record.js'

/** A program that hangs must not cost the night: well above what each takes. */
const MOST_MINUTES = 25

const { values, positionals } = parseArgs({
  options: { python: { type: 'string', default: process.env.AIDANT_PYTHON ?? 'python3' } },
  allowPositionals: true,
})

const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  segmentation: ['segmentation/run.ts', '5', values.python],
  bundled: ['bundled.ts'],
  clicks: ['clicks.ts'],
  sideBySide: ['side-by-side.ts'],
  polygons: ['polygons/polygons.ts'],
  memory: ['memory.ts'],
  dicom: ['dicom/series.ts'],
  sessions: ['sessions/run.ts'],
  formats: ['formats.ts'],
  responsiveness: ['responsiveness.ts'],
  monailabel: ['monailabel.ts'],
  page: ['page.ts'],
}

const unknown = positionals.find((name) => !Object.hasOwn(PROGRAMS, name))
if (unknown !== undefined) throw new Error(`there is no program '${unknown}', only ${Object.keys(PROGRAMS).join(', ')}`)
const wanted = positionals.length > 0 ? positionals : Object.keys(PROGRAMS)

const here = fileURLToPath(new URL('.', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
const records = join(folder, 'records.jsonl')
writeFileSync(records, '')
const failed: string[] = []

try {
  for (const name of wanted) {
    const [file, ...args] = PROGRAMS[name]!
    console.log(`\n== ${name}`)
    const started = performance.now()
    const child = spawn(process.execPath, ['--import', 'tsx', join(here, file!), ...args], {
      cwd: join(here, '..'),
      stdio: 'inherit',
      env: { ...process.env, [RECORDS]: records, AIDANT_PYTHON: values.python },
      timeout: MOST_MINUTES * 60_000,
    })
    const [code] = (await once(child, 'exit')) as [number | null]
    if (code !== 0) failed.push(name)
    console.log(
      `-- ${name}: ${code === 0 ? 'done' : 'FAILED'} (${((performance.now() - started) / 1000).toFixed(0)} s)`,
    )
  }
  const lines = readFileSync(records, 'utf8').split('\n').filter(Boolean)
  const measured = lines.map((line) => Measurement.parse(JSON.parse(line)))
  console.log(`\n${table(measured)}`)
  const machine = {
    cpu: cpus()[0]?.model.trim(),
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    engine: ENGINE,
    load: loadavg()[0],
  }
  const results = { date: new Date().toISOString().slice(0, 10), machine, failed, measured }
  writeFileSync(join(here, 'results.json'), `${JSON.stringify(results, null, 2)}\n`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
if (failed.length > 0) {
  console.log(`failed: ${failed.join(', ')}`)
  process.exitCode = 1
}

function table(measured: readonly Measurement[]): string {
  const rows = measured.map((one) => {
    const { work, unit, ours, against, other, compared, goal } = one
    const value = comparedValue(one)
    const shown = (n: number) => (compared === 'ratio' ? `${n.toFixed(2)} x` : `${n.toFixed(0)} ${unit}`)
    const met = goal === undefined ? '' : `${shown(goal)}: ${value <= goal ? 'met' : 'missed'}`
    const digits = unit === 's' ? 2 : 0
    return [work, `${ours.toFixed(digits)} ${unit}`, `${against}: ${other.toFixed(digits)} ${unit}`, shown(value), met]
  })
  const head = ['work', 'Aidant', 'held against', 'compared', 'goal']
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}
