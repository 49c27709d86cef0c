/**
 * 200 CT slices of 512x512 into a volume and over the network, beside the field's own tools:
 *
 *   npm run build && npx tsx bench/dicom/series.ts
 *
 * Needs dcm2niix, unzip, DCMTK (dcmqrscp, storescu, getscu), ../shared/data and Python with pydicom (AIDANT_PYTHON).
 * Rounds alternate between the programs, so that other work on the machine meets all of them; the best round counts.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createFetchSource } from '../../src/fetchers/fetch-source.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import { startDcmqrscp } from '../../test/helpers/dcmqrscp.js'
import { sharedData } from '../../test/helpers/shared-data.js'
import { startCompiledServer } from '../compiled-server.js'
import { record } from '../record.js'

const ROUNDS = Number(process.argv[2] ?? 7)
/** Which of ours does the work of which program of the field. */
const HELD_AGAINST = [
  ['Aidant, in process, on the files', 'dcm2niix on the files'],
  ['Aidant, PUT /session/ of the zip to its reply', 'unzip, then dcm2niix'],
  ['Aidant, C-GET', 'getscu'],
] as const
const LIMITS = { maxVolumeBytes: 2 ** 31, maxVoxels: 2 ** 30 }
const AE = 'QRSCP'

const root = mkdtempSync(join(tmpdir(), 'bench-dicom-'))
const [files, zip] = [join(root, 'files'), join(root, 'series.zip')]
const script = fileURLToPath(new URL('make_series.py', import.meta.url))
const source = join(sharedData ?? '', 'dicom', 'ts_ct20_raw')
const [study, series] = execFileSync(process.env.AIDANT_PYTHON ?? 'python3', [script, source, files, zip], {
  encoding: 'utf8',
}).split(/\s+/)

let folders = 0
const fresh = () => {
  const folder = join(root, `out-${folders++}`)
  mkdirSync(folder)
  return folder
}
const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'ignore' })
const paths = readdirSync(files).map((name) => join(files, name))

async function convert(given: readonly string[]): Promise<void> {
  const folder = fresh()
  const { volume } = await readVolume(given, LIMITS)
  await writeVolume(volume, join(folder, 'volume.nii'), { extension: '.nii', kind: 'intensity' })
}

const peer = await startDcmqrscp(root)
peer.store(files)
const server = await startCompiledServer(join(root, 'workspace'))
const fetchSource = createFetchSource({
  allow: ['127.0.0.1'],
  limits: { maxBytes: 2 ** 31, maxFiles: 1000, seconds: 600, silenceSeconds: 60 },
  dicom: { aeTitle: 'BENCH', scpPort: 0 },
})
const form = new FormData()
form.append('image', new Blob([readFileSync(zip)]), 'series.zip')

const contestants: Record<string, () => unknown> = {
  'dcm2niix on the files': () => run('dcm2niix', '-z', 'n', '-f', 'x', '-o', fresh(), files),
  'Aidant, in process, on the files': () => convert(paths),
  'unzip, then dcm2niix': () => {
    const folder = fresh()
    run('unzip', '-q', zip, '-d', folder)
    run('dcm2niix', '-z', 'n', '-f', 'x', '-o', fresh(), folder)
  },
  'Aidant, in process, on the zip': async () => {
    // The zip is unpacked beside itself.
    const folder = fresh()
    run('cp', zip, folder)
    await convert([join(folder, 'series.zip')])
  },
  'Aidant, PUT /session/ of the zip to its reply': async () => {
    const reply = await fetch(`${server.url}/session/`, { method: 'PUT', body: form })
    if (!reply.ok) throw new Error(await reply.text())
    await reply.json()
  },
  getscu: () => {
    const keys = [`QueryRetrieveLevel=SERIES`, `StudyInstanceUID=${study}`, `SeriesInstanceUID=${series}`]
    run(
      'getscu',
      '-S',
      '-aec',
      AE,
      '-od',
      fresh(),
      ...keys.flatMap((key) => ['-k', key]),
      '127.0.0.1',
      String(peer.port),
    )
  },
  'Aidant, C-GET': async () => {
    const dicom = {
      server_address: '127.0.0.1',
      server_port: peer.port,
      ae_title: AE,
      study_uid: study,
      series_uid: series,
    }
    const { received } = await fetchSource({ dicom }, fresh(), new AbortController().signal)
    if (received !== 200) throw new Error(`${received} images`)
  },
}

try {
  const times = new Map(Object.keys(contestants).map((name) => [name, [] as number[]]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, work] of Object.entries(contestants)) {
      const start = performance.now()
      await work()
      times.get(name)!.push(performance.now() - start)
      while (folders > 0) rmSync(join(root, `out-${--folders}`), { recursive: true })
    }
  }
  for (const [name, list] of times) {
    const sorted = list.sort((a, b) => a - b)
    const [best, median] = [sorted[0]!, sorted[sorted.length >> 1]!].map((ms) => (ms / 1000).toFixed(2))
    console.log(`| ${name} | ${best} s | ${median} s |`)
  }
  const medianOf = (name: string) => (times.get(name) ?? []).toSorted((a, b) => a - b)[ROUNDS >> 1]! / 1000
  for (const [name, other] of HELD_AGAINST)
    record({
      work: `${name}, 200 CT slices of 512x512`,
      unit: 's',
      ours: medianOf(name),
      against: other,
      other: medianOf(other),
      compared: 'ratio',
    })
} finally {
  await server.stop()
  await peer.stop()
  rmSync(root, { recursive: true })
}
