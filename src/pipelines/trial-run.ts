/**
 * A model's whole pipeline over a small made-up image, before the model serves: a config that names a field nobody makes,
 * a channel that is not there, or steps that do not fit each other is found here and not by its first user. The network
 * has been asked already; a stand-in answers for it, of the shapes it gave. A pair that takes prompts, which nobody can ask with
 * zeros alone, answers itself.
 */
import type { Tensor } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import type { ReadResult } from '../formats/format.js'
import { BOX_VALUE, type BoxPrompt } from '../transforms/box-prompt.js'
import { type BuiltTransform, placed } from '../transforms/catalog.js'
import type { ImageField, Item } from '../transforms/types.js'
import { makeVolume, type Vec3 } from '../volume/volume.js'
import { classified } from './classification.js'
import { clickValues } from './click-values.js'
import { fieldOf } from './fit-image.js'
import { imageNeeds } from './image-needs.js'
import { applyAll, applyNetwork, type ModelPlan } from './model-run.js'
import { loadedFields } from './read-images.js'
import { finishResult } from './writer.js'

/** What the network was fed and what it answered, when it was asked on its own. */
export interface Answered {
  readonly feeds: Readonly<Record<string, Tensor>>
  readonly results: Readonly<Record<string, Tensor>>
}

/** The window of a trial; the network's own has been tried. */
const WINDOW = 16

class TooMuch extends Error {}

/**
 * Rejects BAD_MODEL_CONFIG or BAD_MODEL when no image can come through, whatever its shape and channels, naming the step. What
 * makes more than `most` values (`--max-trial-values`) is not tried further.
 */
export async function trialRun(plan: ModelPlan, answered: Answered, most: number): Promise<void> {
  let first: AppError | undefined
  for (const size of sizesFor(plan)) {
    for (const channels of channelsFor(plan)) {
      try {
        await oneTrial(plan, answered, most, size, channels)
        return
      } catch (error) {
        if (error instanceof TooMuch) return
        if (!(error instanceof AppError)) throw error
        // what this image is refused for, another may not be
        if (error.code === 'BAD_MODEL_CONFIG' || error.code === 'BAD_MODEL') first ??= error
      }
    }
  }
  if (first) throw first
}

function sizesFor(plan: ModelPlan): readonly Vec3[] {
  const volume: Vec3 = [24, 20, 18]
  const slice: Vec3 = [24, 20, 1]
  const { view } = imageNeeds(plan, loadedFields(plan)[0]!)
  return view === 'flat' ? [slice, volume] : [volume, slice]
}

function channelsFor(plan: ModelPlan): readonly number[] {
  const known = imageNeeds(plan, loadedFields(plan)[0]!).channels
  if (known !== undefined) return [known]
  const fixed = plan.mapping.inputs[0]!.spec.dims[1]
  return [...new Set([1, typeof fixed === 'number' ? fixed : 3, 3])]
}

async function oneTrial(
  plan: ModelPlan,
  answered: Answered,
  most: number,
  size: Vec3,
  channels: number,
): Promise<void> {
  const { config } = plan.model.ref
  const image = madeUp(size, channels)
  const source = { volume: image, format: 'nifti', extension: '.nii.gz', notes: [] } as unknown as ReadResult
  const fields = loadedFields(plan)
  const images = fields.map(
    (name) => [name, fieldOf(source, imageNeeds(plan, name).view, { mostVoxels: most })] as const,
  )
  const labels = plan.pre.find(({ traits }) => traits.labelClicks)?.traits.labelClicks
  const clicks = clickValues(config.type, clicksIn(size, plan), size, plan.clicks, labels)
  const boxed = plan.prompted && !plan.prompted.prompts.includes('points')
  const values = new Map([...clicks.values, ...(boxed ? [[BOX_VALUE, boxIn(size)] as const] : [])])
  const { first } = config
  if (first) images.push([first.field, foundField(images[0]![1])])
  let item: Item = { images: new Map(images), values, result: {} }
  for (const step of plan.pre) item = await tried(step, item, most)
  if (plan.prompted) item = bounded(await applyNetwork(plan, item, FREE), most)
  else {
    const network = {
      ...plan.model,
      ref: smallWindow(plan),
      predictor: standIn(plan, answered, most),
      networks: undefined,
    }
    item = bounded(await applyNetwork({ ...plan, model: network, mapping: freeShapes(plan) }, item, FREE), most)
  }
  const scores = item.values.get(plan.mapping.outputs[0]!.field)
  if (Array.isArray(scores) && !item.images.has(plan.mapping.outputs[0]!.field)) {
    classified(scores, plan)
    return
  }
  for (const step of plan.post) item = await tried(step, item, most)
  finishResult(item, plan.resultField, source, config)
}

const FREE = {
  signal: new AbortController().signal,
  checkpoint: async () => {},
  withDevice: <T>(work: () => Promise<T>) => work(),
}

/** One step; an error says which one it was, as the config has it. */
async function tried(step: BuiltTransform, item: Item, most: number): Promise<Item> {
  try {
    return bounded(await applyAll([step], item, FREE, 'pre'), most)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    // the grid would have more voxels than the trial may make
    if (error.code === 'TOO_LARGE') throw new TooMuch()
    throw placed(error, step.place)
  }
}

function bounded(item: Item, most: number): Item {
  for (const { volume } of item.images.values()) if (volume.data.length > most) throw new TooMuch()
  return item
}

/** What a first model might have found in such an image. */
function foundField({ volume, axes, source }: ImageField): ImageField {
  const { size, affine, nifti } = volume
  const data = Uint8Array.from({ length: size[0] * size[1] * size[2] }, (_, i) => (i % size[0] > size[0] / 2 ? 1 : 0))
  return {
    volume: makeVolume(size, affine, data, { nifti }),
    content: 'labels',
    axes: axes.replace('C', ''),
    source,
    undo: [],
  }
}

/** No two neighbours alike, something bright in the middle, 1 mm voxels. */
function madeUp(size: Vec3, channels: number) {
  const [nx, ny, nz] = size
  const data = Int16Array.from({ length: nx * ny * nz * channels }, (_, i) => {
    const x = i % nx
    const y = Math.floor(i / nx) % ny
    const inside = x > nx / 4 && x < (3 * nx) / 4 && y > ny / 4 && y < (3 * ny) / 4
    return ((i * 37) % 89) + (inside ? 100 : 0)
  })
  return makeVolume(size, Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1), data, { channels })
}

/** One of each kind; for a pair that may be exported for a single point, one. */
function clicksIn([nx, ny, nz]: Vec3, { prompted }: ModelPlan): Record<string, unknown> {
  const [x, y, z] = [nx >> 1, ny >> 1, nz >> 1]
  const ends = [
    [x - 5, y, z],
    [x + 5, y, z],
    [x, y - 5, z],
    [x, y + 5, z],
    [x, y, Math.max(0, z - 5)],
    [x, y, Math.min(nz - 1, z + 5)],
  ]
  return { foreground: [[x, y, z]], background: prompted ? [] : [[1, 1, z]], points: ends, current_point: [x, y, z] }
}

function boxIn([nx, ny, nz]: Vec3): BoxPrompt {
  return { first: [nx >> 2, ny >> 2, nz >> 1], last: [(3 * nx) >> 2, (3 * ny) >> 2, nz >> 1] }
}

function smallWindow({ model: { ref } }: ModelPlan) {
  const { scanningWindow: window } = ref.config.inference
  if (!window) return ref
  const roi = window.roi.map((n) => (n > 0 ? Math.min(n, WINDOW) : n))
  // what lies beyond a small image is tried by the inferer's own tests
  const scanningWindow = { ...window, roi, padding: 'constant' as const }
  return { ...ref, config: { ...ref.config, inference: { ...ref.config.inference, scanningWindow } } }
}

/** A window that is smaller than the network's own does not have its fixed shape. */
function freeShapes({ model, mapping }: ModelPlan): ModelPlan['mapping'] {
  if (!model.ref.config.inference.scanningWindow) return mapping
  const inputs = mapping.inputs.map(({ spec, field }) => ({
    field,
    spec: { ...spec, dims: spec.dims.map((n, axis) => (axis === 1 || typeof n !== 'number' ? n : `axis${axis}`)) },
  }))
  return { ...mapping, inputs }
}

/** Zeros of the shapes that the network gave, for as large an image as it is fed now. */
function standIn({ model: { predictor } }: ModelPlan, { feeds: asked, results }: Answered, most: number) {
  const run = async (feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> => {
    const name = Object.keys(feeds)[0]!
    const [now, then] = [feeds[name]!.dims, asked[name]!.dims]
    const rank = now.length - 2
    // the axis that grew with the image is no channel
    const last = now[1] !== then[1] && now.at(-1) === then.at(-1)
    return Object.fromEntries(
      Object.entries(results).map(([output, { dims }]) => {
        const hasChannels = dims.length === rank + 2
        const isMap = hasChannels || dims.length === rank + 1
        const from = hasChannels && !last ? 2 : 1
        const shape = dims.map((n, axis) => {
          if (axis === 0) return now[0]!
          const step = axis - from
          if (!isMap || step < 0 || step >= rank) return n
          const along = last ? step + 1 : step + 2
          return Math.max(1, Math.round((n * now[along]!) / then[along]!))
        })
        const length = shape.reduce((product, n) => product * n, 1)
        if (length > most) throw new TooMuch()
        return [output, { dims: shape, data: new Float32Array(length) }]
      }),
    )
  }
  return { ...predictor, run }
}
