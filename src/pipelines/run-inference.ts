/** A model's job from its files to its result: read, pre-transforms, network, post-transforms, write. */
import type { InferenceJob, JobControl, Stage } from '../contract/job.js'
import { AppError } from '../errors.js'
import type { PartsClock } from '../inferers/two-parts.js'
import { withImage, withResult, withValue } from '../transforms/fields.js'
import type { Item } from '../transforms/types.js'
import { withAllValues } from '../transforms/value-table.js'
import { classified } from './classification.js'
import { clickValues } from './click-values.js'
import { cropOf } from './deepgrow.js'
import { applyFirst, firstModel, foundNothing, withNothing } from './first-model.js'
import { imageIndexOf } from './fit-image.js'
import { applyModels } from './model-pipeline.js'
import { applyAll, applyNetwork, type ModelPlan, planModel } from './model-run.js'
import { openJob } from './open-job.js'
import { runAhead, runsAhead, sliceToPrepare } from './prepare-run.js'
import { type ReadImages, readImages, wantsDicomRows } from './read-images.js'
import type { LoadedModel, PipelineContext, RunInference } from './run.js'
import { partsOfJob } from './two-part-model.js'
import { finishResult, writeResult } from './writer.js'

export const runInference: RunInference = async (given, whole) => {
  const job = await openJob(given, whole.control.signal)
  const clock = new StageClock()
  const control = clock.timed(whole.control)
  const session = job.images.length === 1 ? job.images[0]!.cacheKey : undefined
  const inJob = (model: LoadedModel) => partsOfJob(model, session, whole.cache, clock.ofParts(control))
  const context = { ...whole, model: inJob(whole.model), parts: whole.parts.map(inJob) }
  const plan = planModel(context.model)
  const { config } = context.model.ref
  checkReadsClicks(job, plan)
  const prefix = cacheablePrefix(plan)
  const read = await prepared(job, plan, prefix, { ...context, control }, clock)
  if (job.prepare) {
    const { size } = read.source.volume
    const slice = sliceToPrepare(job.prepare.slice, size)
    if (runsAhead(plan)) await clock.stage('infer', () => runAhead(plan, read.item, prefix, size, slice, control))
    return { params: { slice }, timings: clock.timings, device: context.model.predictor.device, notes: [...read.notes] }
  }
  const labels = plan.pre.find(({ traits }) => traits.labelClicks)?.traits.labelClicks
  const clicks = clickValues(
    config.type,
    job.params,
    read.source.volume.size,
    plan.clicks,
    labels,
    plan.prompted !== undefined,
  )
  const values = new Map([...read.item.values, ...Object.entries(job.params), ...clicks.values])
  let item: Item = { ...read.item, values }
  const notes = [...read.notes, ...clicks.notes]
  if (context.model.predictor.fallbackReason) notes.push(context.model.predictor.fallbackReason)

  const isEmpty = foundNothing(item)
  if (isEmpty) item = withNothing(item, plan.resultField, read.source)
  else {
    item = await clock.stage('pre', () => applyAll(plan.pre.slice(prefix), item, control, 'pre'))
    item = await clock.stage('infer', () =>
      config.type === 'pipeline' ? applyModels(plan, item, context.parts, control) : applyNetwork(plan, item, control),
    )
  }
  const { device } = context.model.predictor
  const scores = item.values.get(plan.mapping.outputs[0]!.field)
  if (isScores(scores) && !item.images.has(plan.mapping.outputs[0]!.field)) {
    const params = { ...item.result, ...classified(scores, plan) }
    return { params, timings: clock.timings, device, notes: [...notes, ...(item.notes ?? [])] }
  }
  const finished = await clock.stage('post', async () => {
    if (!isEmpty) item = await applyAll(plan.post, item, control, 'post')
    await control.checkpoint('post', plan.post.length, plan.post.length)
    if (config.type === 'deepgrow') item = withCrop(item, config.inference.image)
    return finishResult(item, plan.resultField, read.source, config)
  })
  const file = await clock.stage('write', async () => {
    await control.checkpoint('write', 0, 1)
    return writeResult(finished, job, read.source, context.model.ref)
  })
  return {
    file,
    params: withPoints(finished.params),
    timings: clock.timings,
    device,
    notes: [...notes, ...(item.notes ?? []), ...finished.notes],
  }
}

/** A model of type others may read clicks or not; its type alone does not say. Throws BAD_PARAMS. */
function checkReadsClicks({ task }: InferenceJob, { clicks, model }: ModelPlan): void {
  if (clicks || (task !== 'deepgrow' && task !== 'dextr3d')) return
  throw new AppError(
    'BAD_PARAMS',
    `/v1/${task} runs models that read clicks; no transform of '${model.ref.name}' does`,
    {
      hint: '/v1/inference runs any model',
    },
  )
}

/**
 * NVIDIA's C++ client (and so MITK) takes every value of `params` for a point where `points` is missing, and shows no
 * mask. 3D Slicer reads `extreme_points` instead then, so those are said under both names.
 */
function withPoints(params: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (params.points !== undefined) return params
  return { ...params, points: Array.isArray(params.extreme_points) ? params.extreme_points : [] }
}

function withCrop(item: Item, image: string): Item {
  const field = item.images.get(image)
  const crop = field && cropOf(field)
  return crop ? withResult(item, { crop }) : item
}

function isScores(value: unknown): value is readonly number[] | readonly (readonly number[])[] {
  return Array.isArray(value) && value.flat().every((entry) => typeof entry === 'number')
}

/** How many pre-transforms a session may keep the result of: up to `cache_until`, never beyond the first that reads clicks. */
function cacheablePrefix({ model, pre }: ModelPlan): number {
  const { cacheUntil } = model.ref.config
  const clicks = pre.findIndex(({ traits }) => traits.readsClicks)
  const most = clicks < 0 ? pre.length : clicks
  if (cacheUntil === undefined || cacheUntil === 'ALL') return most
  return Math.min(pre.findLastIndex(({ name }) => name === cacheUntil) + 1, most)
}

const KEPT = '@kept'

/** The item after the cacheable transforms, from the runner's cache when a session's image is there already. */
async function prepared(
  job: InferenceJob,
  plan: ModelPlan,
  prefix: number,
  context: PipelineContext,
  clock: StageClock,
): Promise<ReadImages> {
  const { control, cache, model, parts } = context
  const image = job.images.length === 1 ? job.images[0] : undefined
  const rows = image && wantsDicomRows(image, job.wish) ? 'down' : 'up'
  const index = imageIndexOf(job.params) ?? ''
  // a first model's answer is kept with the image, and it may have mirrored
  const tta = model.ref.config.first ? JSON.stringify(job.params.tta ?? null) : ''
  const key = image?.cacheKey && `${image.cacheKey} ${rows} ${index} ${tta} ${model.ref.name} ${model.ref.revision}`
  const known = key === undefined ? undefined : cache.get(key)
  const kept = known?.values.get(KEPT) as Omit<ReadImages, 'item'> | undefined
  if (known && kept) return { ...kept, item: known }

  await control.checkpoint('read', 0, 1)
  const read = await clock.stage('read', () => readImages(job, plan, parts.map(planModel), control.signal))
  const begun = await begin(read, job, context, clock)
  const made = foundNothing(begun)
    ? begun
    : await clock.stage('pre', () => applyAll(plan.pre.slice(0, prefix), begun, control, 'pre'))
  if (key === undefined) return { ...read, item: made }
  // what is left to do would look every value up again at each click
  const item = prefix < plan.pre.length ? withAllValues(made) : made
  const { source, notes } = read
  // From here on the voxels belong to the cache: no later transform may write into them.
  let shared: Item = withValue(item, KEPT, { source, notes })
  for (const [name, field] of item.images) shared = withImage(shared, name, { ...field, scratch: false })
  shared = withImage(shared, KEPT, {
    volume: source.volume,
    content: 'intensity',
    axes: 'XYZ',
    source: source.volume,
    undo: [],
  })
  cache.set(key, shared)
  return { ...read, item: shared }
}

/** The item as it was read, after the model that runs first, if there is one. */
async function begin(
  { item, source }: ReadImages,
  job: InferenceJob,
  { model, control }: PipelineContext,
  clock: StageClock,
): Promise<Item> {
  const first = await firstModel(model)
  if (!first) return item
  const wished = job.params.tta === undefined ? item : withValue(item, 'tta', job.params.tta)
  return clock.stage('infer', () => applyFirst(model, first, wished, source, control))
}

/** Adds up where the time of a job goes; waiting for the device is its own stage. */
class StageClock {
  readonly timings: Partial<Record<Stage, number>> = {}
  #waited = 0

  async stage<T>(stage: Stage, work: () => Promise<T>): Promise<T> {
    const start = performance.now()
    const waited = this.#waited
    const result = await work()
    const waiting = this.#waited - waited
    this.timings[stage] = (this.timings[stage] ?? 0) + performance.now() - start - waiting
    if (stage === 'infer') this.timings.wait = (this.timings.wait ?? 0) + waiting
    return result
  }

  /** Tells and times which of two networks runs. */
  ofParts(control: JobControl): PartsClock {
    const part = async <T>(stage: 'encoder' | 'decoder', work: () => Promise<T>) => {
      await control.checkpoint(stage, 0, 1)
      return this.stage(stage, work)
    }
    return {
      encoder: (work) => part('encoder', work),
      decoder: (work) => part('decoder', work),
      kept: () => {
        this.timings.encoder ??= 0
      },
    }
  }

  timed(control: JobControl): JobControl {
    return {
      signal: control.signal,
      checkpoint: (stage, done, total, part) => control.checkpoint(stage, done, total, part),
      withDevice: (work) => {
        const asked = performance.now()
        return control.withDevice(() => {
          this.#waited += performance.now() - asked
          return work()
        })
      },
    }
  }
}
