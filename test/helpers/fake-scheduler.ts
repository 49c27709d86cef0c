/** A scheduler that answers in place: no process, no model. It remembers what it was asked. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type InferenceJob, Job, JobResult, type ToolJob } from '../../src/contract/job.js'
import type { ModelRef } from '../../src/contract/model.js'
import { AppError } from '../../src/errors.js'
import { openJob } from '../../src/pipelines/open-job.js'
import type { JobRequest, OnProgress, Scheduler } from '../../src/scheduler/scheduler.js'

export interface AskedJob {
  readonly request: JobRequest
  readonly model: string | undefined
  readonly job: Job
}

export type Answer = (job: Job, signal: AbortSignal, onProgress: OnProgress) => Promise<JobResult>

export interface FakeScheduler extends Scheduler {
  readonly asked: readonly AskedJob[]
}

/** By default writes `label map` to outDir/result.nii.gz, when a file is wished for, and gives `points` in params. */
export const labelMap: Answer = async (job) => {
  const params = { points: [[1, 2, 3]] }
  const timings = { read: 1, infer: 2.5, write: 0.25 }
  if (!job.wish.file) return { params, timings, device: 'cpu', notes: [] }
  const extension = job.wish.extension ?? '.nii.gz'
  const path = join(job.outDir, `result${extension}`)
  await writeFile(path, 'label map')
  return {
    file: { path, extension, contentType: 'application/octet-stream' },
    params,
    timings,
    device: 'cpu',
    notes: [],
  }
}

/** Waits for ever, as a long model would, and rejects CANCELLED when asked to stop. */
export const untilCancelled: Answer = (_job, signal) =>
  new Promise((_resolve, reject) => {
    const stop = () => reject(new AppError('CANCELLED', 'the request was cancelled'))
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })

export function fakeScheduler(answer: Answer = labelMap): FakeScheduler {
  const asked: AskedJob[] = []
  const run = async (
    request: JobRequest,
    model: string | undefined,
    job: Job,
    signal: AbortSignal,
    onProgress?: OnProgress,
  ) => {
    const entry = { request, model, job }
    asked.push(entry)
    // As it reaches a runner, is opened there, and comes back.
    entry.job = await openJob(Job.parse(JSON.parse(JSON.stringify(job))), signal)
    const result = await answer(entry.job, signal, onProgress ?? (() => {}))
    return JobResult.parse(JSON.parse(JSON.stringify(result)))
  }
  return {
    asked,
    admit: () => {},
    runModel: (request: JobRequest, model: ModelRef, job: InferenceJob, signal: AbortSignal, onProgress?: OnProgress) =>
      run(request, model.name, job, signal, onProgress),
    runTool: (request: JobRequest, job: ToolJob, signal: AbortSignal, onProgress?: OnProgress) =>
      run(request, undefined, job, signal, onProgress),
    prove: async () => ({ inputs: [], outputs: [], device: 'cpu' }),
    load: async () => {},
    retire: async () => {},
    status: () => [],
    queues: () => [],
    close: async () => {},
  }
}
