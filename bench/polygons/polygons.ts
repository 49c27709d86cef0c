/**
 * mask2polygon against nibabel and OpenCV, in one run, on a 512x512x200 mask with 40 labelled slices: from file to JSON in
 * this process, and from upload to reply over HTTP, a warm tool runner doing the work.
 *
 *   npx tsx bench/polygons/polygons.ts      (AIDANT_PYTHON names an interpreter with nibabel and cv2)
 */

import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeVolume } from '../../src/formats/write-volume.js'
import { runTool } from '../../src/pipelines/run-tool.js'
import { makeVolume } from '../../src/volume/volume.js'
import { form } from '../../test/helpers/multipart.js'
import { idleControl } from '../../test/helpers/pipeline.js'
import { ServerProcess } from '../../test/helpers/server-process.js'
import { record } from '../record.js'
import { send } from '../send.js'

const RUNS = 7
const python = process.env.AIDANT_PYTHON ?? 'python3'
const reference = fileURLToPath(new URL('reference.py', import.meta.url))
const limits = { maxVolumeBytes: 2 ** 32, maxVoxels: 2 ** 30 }

/** A wavy organ with two vessels through it, and a second organ beside it, on slices 80 to 119. */
function mask(): Uint8Array {
  const data = new Uint8Array(512 * 512 * 200)
  for (let z = 80; z < 120; z++)
    for (let y = 0; y < 512; y++)
      for (let x = 0; x < 512; x++) {
        const angle = Math.atan2(y - 256, x - 200)
        const organ = Math.hypot(x - 200, y - 256) < 110 + 14 * Math.sin(7 * angle + z / 5)
        const vessel = Math.hypot(x - 180, y - 230) < 9 || Math.hypot(x - 230, y - 290) < 6
        const other = Math.abs(x - 400) < 40 && Math.abs(y - 250) < 60 + 8 * Math.sin(x / 4)
        if ((organ && !vessel) || other) data[x + 512 * y + 512 * 512 * z] = 1
      }
  return data
}

const folder = await mkdtemp(join(tmpdir(), 'aidant-bench-'))
const server = await ServerProcess.start(join(folder, 'workspace'))

async function overHttp(path: string, morePoints: number): Promise<{ seconds: number[]; text: string }> {
  const body = form([
    { name: 'params', body: JSON.stringify({ more_points: morePoints }) },
    { name: 'image', body: await readFile(path), filename: 'mask', type: 'application/octet-stream' },
  ])
  const seconds: number[] = []
  let text = ''
  for (let run = 0; run < RUNS; run++) {
    const started = performance.now()
    text = (await send('POST', `${server.url}/v1/mask2polygon`, body)).toString()
    seconds.push((performance.now() - started) / 1000)
  }
  return { seconds, text }
}

try {
  for (const extension of ['.nii.gz', '.nii'] as const) {
    const path = join(folder, `mask${extension}`)
    const affine = Float64Array.of(0.8, 0, 0, 0, 0, 0.8, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1)
    await writeVolume(makeVolume([512, 512, 200], affine, mask()), path, { extension, kind: 'labels' })
    for (const morePoints of [0, 10]) {
      const ours: number[] = []
      let made = ''
      for (let run = 0; run < RUNS; run++) {
        const outDir = await mkdtemp(join(folder, 'out-'))
        const started = performance.now()
        const { file } = await runTool(
          {
            kind: 'mask2polygon',
            images: [{ field: 'image', paths: [path] }],
            params: { more_points: morePoints },
            wish: { file: true },
            outDir,
            limits,
          },
          idleControl,
        )
        ours.push((performance.now() - started) / 1000)
        made = await readFile(file!.path, 'utf8')
      }
      const posted = await overHttp(path, morePoints)
      const other = join(folder, 'reference.json')
      const said = execFileSync(python, [reference, path, String(morePoints), String(RUNS), other], {
        encoding: 'utf8',
      })
      const { cv2, seconds } = JSON.parse(said) as { cv2: string; seconds: number[] }
      const best = { aidant: Math.min(...ours), http: Math.min(...posted.seconds), python: Math.min(...seconds) }
      const want = await readFile(other, 'utf8')
      const equal = made === want && posted.text === want
      const shown = (name: string, value: number) => `${name} ${value.toFixed(3)} s`
      const times = (value: number) => `${(value / best.python).toFixed(2)} x`
      console.log(
        `${extension} more_points ${morePoints}: ${shown(`nibabel + cv2 ${cv2}`, best.python)}; ` +
          `${shown('in process', best.aidant)} = ${times(best.aidant)}; ` +
          `${shown('over HTTP', best.http)} = ${times(best.http)}; ${made.length} bytes, equal: ${equal}`,
      )
      record({
        work: `mask2polygon of 512x512x200 as ${extension} over HTTP, more_points ${morePoints}`,
        unit: 'ms',
        ours: best.http * 1000,
        against: 'nibabel and OpenCV',
        other: best.python * 1000,
        compared: 'ratio',
        ...(extension === '.nii' ? { goal: 1.3 } : {}),
      })
    }
  }
} finally {
  await server.end('SIGTERM')
  await rm(folder, { recursive: true, force: true })
}
