/**
 * How long reading and writing volumes takes beside what cannot be avoided (zlib alone) and beside nibabel, and how
 * much memory it takes at its peak. All in one run, best of several.
 *
 *   npx tsx bench/formats.ts            AIDANT_PYTHON=<python with nibabel> adds nibabel's column
 */
import { fork, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { readVolume } from '../src/formats/read-volume.js'
import { writeVolume } from '../src/formats/write-volume.js'
import { makeVolume, type Vec3, type Volume } from '../src/volume/volume.js'
import { record } from './record.js'

const LIMITS = { maxVolumeBytes: 2 ** 32, maxVoxels: 2 ** 31 }
const ROUNDS = 7
const MB = 1e6

/** Noise on a smooth body, as compressible as a CT (about 1.6 to 1). */
function scan(size: Vec3): Volume<Int16Array> {
  const data = new Int16Array(size[0] * size[1] * size[2])
  let seed = 1
  for (let i = 0; i < data.length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0
    const x = i % size[0]
    data[i] = 300 * Math.sin(x / 40) + ((seed >>> 24) & 31) - 500
  }
  return makeVolume(size, Float64Array.of(0.8, 0, 0, 0, 0, 0.8, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1), data)
}

/** A wavy organ of three labels in the middle third. */
function mask(size: Vec3): Volume<Uint8Array> {
  const data = new Uint8Array(size[0] * size[1] * size[2])
  for (let z = 0, i = 0; z < size[2]; z++) {
    for (let y = 0; y < size[1]; y++) {
      for (let x = 0; x < size[0]; x++, i++) {
        const r = Math.hypot(x / size[0] - 0.5, y / size[1] - 0.5, z / size[2] - 0.5)
        const wave = 0.22 + 0.03 * Math.sin(x / 9) * Math.cos(y / 7)
        if (r < wave) data[i] = r < wave / 3 ? 3 : r < wave / 1.5 ? 2 : 1
      }
    }
  }
  return makeVolume(size, Float64Array.of(0.8, 0, 0, 0, 0, 0.8, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1), data)
}

async function best(work: () => unknown): Promise<number> {
  let least = Infinity
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now()
    await work()
    least = Math.min(least, performance.now() - start)
  }
  return least
}

function nibabelBest(path: string): number | undefined {
  const script = `
import sys, time, nibabel, numpy
best = 1e9
for _ in range(${ROUNDS}):
    start = time.perf_counter()
    numpy.asanyarray(nibabel.load(sys.argv[1]).dataobj)
    best = min(best, time.perf_counter() - start)
print(best * 1000)`
  const { status, stdout } = spawnSync(process.env.AIDANT_PYTHON ?? 'python3', ['-c', script, path], {
    encoding: 'utf8',
  })
  return status === 0 ? Number(stdout) : undefined
}

/** Peak of a fresh process that reads `path`, over what the process needs before it does (Linux; else undefined). */
function peakBytes(path: string): Promise<number | undefined> {
  if (process.platform !== 'linux') return Promise.resolve(undefined)
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), ['--peak', path])
    child.once('message', (bytes) => resolve(Number(bytes)))
    child.once('error', reject)
  })
}

async function reportPeak(path: string): Promise<void> {
  const kilobytes = (field: string) =>
    Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'latin1'))![1])
  const before = kilobytes('VmRSS')
  await readVolume([path], LIMITS)
  process.send!((kilobytes('VmHWM') - before) * 1024)
  process.disconnect()
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'aidant-bench-'))
  try {
    console.log('read                        raw MB   gunzip ms   ours ms   ratio   nibabel ms   peak / raw')
    for (const size of [
      [256, 256, 256],
      [512, 512, 200],
    ] as const) {
      const path = join(folder, 'scan.nii.gz')
      const volume = scan(size)
      await writeVolume(volume, path, { extension: '.nii.gz', kind: 'intensity' })
      const bytes = volume.data.byteLength
      const gunzip = await best(() => gunzipSync(readFileSync(path)))
      const ours = await best(() => readVolume([path], LIMITS))
      const nibabel = nibabelBest(path)
      const peak = await peakBytes(path)
      if (nibabel !== undefined)
        record({
          work: `reading ${size.join('x')} int16 .nii.gz`,
          unit: 'ms',
          ours,
          against: 'nibabel',
          other: nibabel,
          compared: 'ratio',
        })
      console.log(
        `${size.join('x').padEnd(12)} int16 .nii.gz ${(bytes / MB).toFixed(0).padStart(7)} ${gunzip.toFixed(0).padStart(11)} ${ours
          .toFixed(0)
          .padStart(
            9,
          )} ${(ours / gunzip).toFixed(2).padStart(7)} ${(nibabel?.toFixed(0) ?? '-').padStart(12)} ${(peak === undefined ? '-' : (peak / bytes).toFixed(2)).padStart(12)}`,
      )
    }
    console.log('\nwrite labels 512x512x200       ms        MB')
    const labels = mask([512, 512, 200])
    for (const extension of ['.nii.gz', '.nii', '.nrrd'] as const) {
      const path = join(folder, `labels${extension}`)
      const ms = await best(() => writeVolume(labels, path, { extension, kind: 'labels', compress: true }))
      console.log(
        `${extension.padEnd(24)} ${ms.toFixed(0).padStart(8)} ${(statSync(path).size / MB).toFixed(2).padStart(9)}`,
      )
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const [flag, path] = process.argv.slice(2)
if (flag === '--peak') await reportPeak(path!)
else await main()
