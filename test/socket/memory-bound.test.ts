/**
 * `--max-volume-bytes` bounds memory: whatever a small upload unpacks to, a runner's peak stays under it. Each file comes
 * once so large that it just fits, and is worked on, and once a little larger, and is refused. Peaks are the system's own.
 */
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { InferenceJob, ToolJob } from '../../src/contract/job.js'
import type { ModelRef } from '../../src/contract/model.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'
import { runnerEntry } from '../../src/scheduler/spawn-runner.js'
import { niftiBytes } from '../helpers/nifti-bytes.js'
import { modelPath, realScheduler, request } from '../helpers/runner-fixtures.js'

const MiB = 2 ** 20
const LIMIT = 160 * MiB
/** What a runner needs beside the voxels: pieces of streams and their garbage, a window's tensors. */
const SLACK = 64 * MiB
const never = new AbortController().signal

const folder = mkdtempSync(join(tmpdir(), 'aidant-memory-'))
const { scheduler, pids } = realScheduler({ entry: runnerEntry(), toolRunners: 1 })
afterAll(async () => {
  await scheduler.close(0)
  await rm(folder, { recursive: true, force: true })
})

interface Stored {
  readonly name: string
  readonly datatype: number
  readonly bytes: number
  /** Bytes that all voxels begin with, in the file; the rest is 0. */
  readonly first?: readonly number[]
  readonly slope?: number
}

const SIDE = 256

/** A packed file of `slices` slices of 256 x 256, all the same but for the first voxel. */
function fileOf({ datatype, bytes, first = [], slope = 0 }: Stored, slices: number): string {
  const voxels = Buffer.alloc(SIDE * SIDE * slices * bytes)
  voxels.set(first)
  const header = niftiBytes({ datatype, dim: [3, SIDE, SIDE, slices], voxels: new Uint8Array(0), slope })
  const path = join(folder, 'scan.nii.gz')
  writeFileSync(path, gzipSync(Buffer.concat([header, voxels]), { level: 1 }))
  return path
}

const memoryOf = (pid: number, field: 'VmRSS' | 'VmHWM') =>
  Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) * 1024

/** Forgets the peak so far. */
const forgetPeak = (pid: number) => writeFileSync(`/proc/${pid}/clear_refs`, '5')

function baseOf(path: string, limit = LIMIT) {
  return {
    params: {},
    images: [{ field: 'image', paths: [path] }],
    wish: { file: true, extension: '.nii.gz' as const },
    outDir: mkdtempSync(join(folder, 'out-')),
    limits: { maxVolumeBytes: limit, maxVoxels: 2 ** 30 },
  }
}

type Work = (path: string, limit?: number) => Promise<unknown>

const tool =
  (kind: ToolJob['kind'], params: Record<string, unknown> = {}): Work =>
  (path, limit) =>
    scheduler.runTool(request(), { ...baseOf(path, limit), kind, params }, never)

const model: ModelRef = {
  name: 'threshold',
  revision: '1',
  weightsPath: modelPath('threshold'),
  config: parseModelConfig(
    {
      version: '3',
      type: 'segmentation',
      labels: ['bright'],
      description: '',
      pre_transforms: [
        { name: 'LoadNifti', args: { fields: 'image' } },
        { name: 'ConvertToChannelsFirst', args: { fields: 'image' } },
        { name: 'ScaleIntensityRange', args: { fields: 'image', a_min: 0, a_max: 100, b_min: 0, b_max: 1 } },
      ],
      inference: { name: 'TRTISInference', args: { scanning_window: true, roi: [32, 32, 32], batch_size: 1 } },
      post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
      writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
    },
    'threshold',
  ),
}

const inference: Work = (path, limit) => {
  const job: InferenceJob = { ...baseOf(path, limit), kind: 'inference', task: 'segmentation' }
  return scheduler.runModel(request(), model, job, never)
}

interface Case extends Stored {
  readonly work: Work
  /** Bytes that the work takes for each voxel at its peak. */
  readonly peak: number
}

const ingest = tool('ingest')
const WIDE = [0, 0, 0, 0, 1] // 2^32: no whole number of fewer bits
const CASES: readonly Case[] = [
  { name: 'a session of int16, kept as it is', datatype: 4, bytes: 2, work: ingest, peak: 2 },
  {
    name: 'a session of int16 with a slope, which becomes float32',
    datatype: 4,
    bytes: 2,
    slope: 0.5,
    work: ingest,
    peak: 6,
  },
  { name: 'a session of uint16 beyond int16', datatype: 512, bytes: 2, first: [255, 255], work: ingest, peak: 6 },
  { name: 'a session of uint32', datatype: 768, bytes: 4, first: [0, 0, 0, 255], work: ingest, peak: 12 },
  { name: 'a session of int64 beyond 32 bits', datatype: 1024, bytes: 8, first: WIDE, work: ingest, peak: 16 },
  { name: 'a session of colours', datatype: 128, bytes: 3, first: [9, 8, 7], work: ingest, peak: 3 },
  {
    name: 'polygons of one label',
    datatype: 2,
    bytes: 1,
    first: [1],
    work: tool('mask2polygon', { label: 1 }),
    peak: 2,
  },
  { name: 'a segmentation of int16, window by window', datatype: 4, bytes: 2, first: [90], work: inference, peak: 6.5 },
]

describe.skipIf(!existsSync('/proc/self/clear_refs'))('a runner at a limit of 160 MiB', () => {
  const small = { name: 'a small one', datatype: 4, bytes: 2 }
  beforeAll(async () => {
    await ingest(fileOf(small, 2))
    await inference(fileOf(small, 2))
  })

  const idle = new Map<number, number>()
  beforeAll(() => {
    for (const pid of pids) idle.set(pid, memoryOf(pid, 'VmRSS'))
  })

  it.each(CASES)('$name', { timeout: 120_000 }, async ({ work, peak, ...stored }) => {
    const pid = work === inference ? pids[1]! : pids[0]!
    const most = LIMIT / (SIDE * SIDE * peak)
    const grown = () => memoryOf(pid, 'VmHWM') - idle.get(pid)!

    forgetPeak(pid)
    await work(fileOf(stored, Math.floor(0.95 * most)))
    expect(grown()).toBeLessThan(LIMIT + SLACK)

    forgetPeak(pid)
    const larger = fileOf(stored, Math.ceil(1.1 * most))
    await expect(work(larger)).rejects.toMatchObject({
      code: 'TOO_LARGE',
      hint: expect.stringMatching(/^The limit is --max-volume-bytes; \d+ would be needed\.$/),
    })
    expect(grown()).toBeLessThan(LIMIT + SLACK)
    expect(pids.length).toBe(2)
  })
})
