/**
 * Type `pipeline`: a 3-D deepgrow model finds the structure from a few clicks, and a 2-D one redraws it slice by slice,
 * each slice seeded where the 3-D result lies deepest. Many slices share one run of the 2-D network.
 * Source: AIAA 4's DeepgrowPipeline.
 */

import type { JobControl } from '../contract/job.js'
import { AppError } from '../errors.js'
import { deepestPoint } from '../geometry/deepest-point.js'
import { batchedPredict } from '../inferers/batched-predict.js'
import type { BuiltTransform } from '../transforms/catalog.js'
import { requireImage, withImage } from '../transforms/fields.js'
import type { ImageField, Item } from '../transforms/types.js'
import { restore } from '../transforms/undo.js'
import { withOwnValues } from '../transforms/value-table.js'
import type { AxisMap } from '../volume/resample.js'
import type { Vec3, Volume } from '../volume/volume.js'
import { applyAll, applyNetwork, type ModelPlan, planModel } from './model-run.js'
import type { LoadedModel } from './run.js'

/** The axis of the posted image along which the 2-D model works, z. */
const SLICE_AXIS = 2

/** Runs the parts over `item`, whose clicks lie on the posted image, and puts the label map in as `plan.resultField`. */
export async function applyModels(
  plan: ModelPlan,
  item: Item,
  parts: readonly LoadedModel[],
  control: JobControl,
): Promise<Item> {
  const [volumePart, slicePart] = twoParts(parts)
  const image = withOwnValues(requireImage(item, plan.model.ref.config.inference.image))
  const fresh = originalImage(image)
  const coarse = await runVolume(planModel(volumePart), withPartImage(item, volumePart, fresh), control)
  const batchSize = plan.model.ref.config.pipeline?.batchSize ?? 1
  const slices = await runSlices(
    planModel(slicePart),
    withPartImage(item, slicePart, fresh),
    seedSlices(coarse, item),
    batchSize,
    control,
  )
  return withImage(item, plan.resultField, slices ?? { ...fresh, volume: coarse, content: 'labels', scratch: true })
}

/** The 3-D and the 2-D model. Throws BAD_MODEL_CONFIG when there are not just two. */
export function twoParts(parts: readonly LoadedModel[]): readonly [LoadedModel, LoadedModel] {
  const [volumePart, slicePart] = parts
  if (!volumePart || !slicePart || parts.length !== 2)
    throw new AppError('BAD_MODEL_CONFIG', `a pipeline runs two models, this one has ${parts.length}`, {
      hint: 'name a 3-D and a 2-D deepgrow model: {"models": ["<3-D>", "<2-D>"]}',
    })
  return [volumePart, slicePart]
}

/** The parts start from the posted image, whatever the pipeline's own transforms made of it. */
function originalImage(image: ImageField): ImageField {
  return { volume: restore(image).volume, content: image.content, axes: 'XYZ', source: image.source, undo: [] }
}

function withPartImage(item: Item, part: LoadedModel, image: ImageField): Item {
  return { ...item, images: new Map([[part.ref.config.inference.image, image]]) }
}

async function runVolume(plan: ModelPlan, item: Item, control: JobControl): Promise<Volume> {
  const fed = await applyNetwork(plan, await applyAll(plan.pre, item, control, 'pre'), control)
  const done = await applyAll(plan.post, fed, control, 'post')
  return restore(requireImage(done, plan.resultField), 'nearest').volume
}

interface SliceSeed {
  readonly slice: number
  readonly foreground: readonly Vec3[]
  readonly background: readonly Vec3[]
}

/** One seed for every slice that the coarse result touches, beside the user's own clicks there. */
function seedSlices(coarse: Volume, item: Item): SliceSeed[] {
  const [nx, ny, nz] = coarse.size
  const clicks = (key: string, slice: number) =>
    ((item.values.get(key) as readonly Vec3[] | undefined) ?? []).filter((p) => p[SLICE_AXIS] === slice)
  const seeds: SliceSeed[] = []
  for (let slice = 0; slice < nz; slice++) {
    const plane = coarse.data.subarray(slice * nx * ny, (slice + 1) * nx * ny)
    const deepest = deepestPoint(plane, nx, ny)
    const own = clicks('foreground', slice)
    const seed: Vec3[] = deepest ? [[deepest[0], deepest[1], slice]] : []
    if (own.length + seed.length === 0) continue
    seeds.push({ slice, foreground: [...own, ...seed], background: clicks('background', slice) })
  }
  return seeds
}

/** The slices' masks in one volume; undefined when there is no slice to draw. */
async function runSlices(
  plan: ModelPlan,
  item: Item,
  seeds: readonly SliceSeed[],
  batchSize: number,
  control: JobControl,
): Promise<ImageField | undefined> {
  const clicksFrom = plan.pre.findIndex(({ traits }) => traits.readsClicks)
  const shared = clicksFrom < 0 ? plan.pre.length : clicksFrom
  const base = await applyAll(plan.pre.slice(0, shared), item, control, 'pre')
  const rest = plan.pre.slice(shared)
  const flatPost = plan.post.slice(0, firstWhole(plan.post))

  let whole: ImageField | undefined
  for (let from = 0; from < seeds.length; from += batchSize) {
    await control.checkpoint('infer', from, seeds.length)
    const group = seeds.slice(from, from + batchSize)
    const drawn = await control.withDevice(() => drawGroup(plan, base, rest, flatPost, group, withinGroup(control)))
    for (const field of drawn) whole = placed(field, whole)
  }
  return whole
}

/** The masks of a group of slices, from one run of the network. */
async function drawGroup(
  plan: ModelPlan,
  base: Item,
  pre: readonly BuiltTransform[],
  post: readonly BuiltTransform[],
  group: readonly SliceSeed[],
  within: JobControl,
): Promise<ImageField[]> {
  const { ref, predictor, parts, networks } = plan.model
  // several networks take turns over one slice after another
  if (networks) {
    const drawn: ImageField[] = []
    for (const seed of group) {
      const fed = await applyNetwork(plan, await applyAll(pre, clickedItem(base, seed), within, 'pre'), within)
      drawn.push(requireImage(await applyAll(post, fed, within, 'post'), plan.resultField))
    }
    return drawn
  }
  const single = typeof predictor.inputs[0]?.dims[0] === 'number'
  const batch = batchedPredict(predictor.run, group.length)
  const run = single ? predictor.run : batch.predict
  // each slice has a seed of its own here, which goes on from no mask of an earlier request
  const own = parts && { ...parts, session: undefined }
  const batchPlan = { ...plan, model: { ref, predictor: { ...predictor, run }, parts: own } }
  return Promise.all(
    group.map(async (seed) => {
      let fed: Item
      try {
        const clicked = await applyAll(pre, clickedItem(base, seed), within, 'pre')
        fed = await applyNetwork(batchPlan, clicked, within)
      } catch (error) {
        batch.leave()
        throw error
      }
      return requireImage(await applyAll(post, fed, within, 'post'), plan.resultField)
    }),
  )
}

/** Within a group the device is held already, and progress is told group by group. */
const withinGroup = ({ signal }: JobControl): JobControl => ({
  signal,
  checkpoint: async () => {},
  withDevice: (work) => work(),
})

function firstWhole(post: readonly BuiltTransform[]): number {
  const at = post.findIndex(({ traits }) => traits.wholeVolume)
  return at < 0 ? post.length : at
}

function clickedItem(base: Item, { slice, foreground, background }: SliceSeed): Item {
  const values = new Map(base.values)
  values.delete('current_point')
  values.set('foreground', foreground).set('background', background).set('slice', slice)
  return { ...base, values }
}

/** Undoes a slice's field up to its slice, and lays it into the volume that the slices came from. */
function placed(field: ImageField, whole: ImageField | undefined): ImageField {
  const at = field.undo.findIndex(({ kind }) => kind === 'slice')
  const step = field.undo[at]
  if (!step?.map)
    throw new AppError('BAD_MODEL_CONFIG', 'the 2-D model of a pipeline has to fetch a slice (Fetch2DSliced)')
  const slice = field.undo.slice(at + 1).reduceRight((volume, undo) => undo.undo(volume, 'nearest'), field.volume)
  if (!whole) {
    const volume = step.undo(slice, 'nearest')
    return { ...field, volume, axes: 'XYZ', undo: field.undo.slice(0, at), scratch: true }
  }
  pasteThrough(step.map, slice, whole.volume)
  return whole
}

/** Writes what is not zero in `from` onto the voxels of `target` that `map` reads it to. */
function pasteThrough(map: AxisMap, from: Volume, target: Volume): void {
  const [nx, ny] = target.size
  const [sx, sy] = from.size
  const inside = map.index.map((table) => [...table.keys()].filter((i) => table[i]! >= 0))
  for (const z of inside[2]!)
    for (const y of inside[1]!) {
      const row = sx * (map.index[1][y]! + sy * map.index[2][z]!)
      for (const x of inside[0]!) {
        const value = from.data[row + map.index[0][x]!]!
        if (value !== 0) target.data[x + nx * (y + ny * z)] = value
      }
    }
}
