/**
 * A model that runs before the others over the same image: a rough one whose answer says where to look closer, or the first
 * stage of a cascade, whose label map the next one reads.
 */
import type { JobControl } from '../contract/job.js'
import type { Networks, Predictor } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import type { ReadResult } from '../formats/format.js'
import { boxed } from '../transforms/crop-pad.js'
import { withImage, withNote, withValue } from '../transforms/fields.js'
import type { ImageField, Item } from '../transforms/types.js'
import { makeVolume, spacingOf, type Vec3, type Volume, voxelCount } from '../volume/volume.js'
import { applyAll, applyNetwork, type ModelPlan, planModel } from './model-run.js'
import type { LoadedModel } from './run.js'
import { placedInFirst } from './several-networks.js'
import { finishResult } from './writer.js'

/** The value of an item whose image the first model found nothing in: there is nothing to look closer at. */
const NOTHING_FOUND = '@nothing found'

/** The first model of `model`, over its networks; undefined where it has none. */
export async function firstModel({ ref, networks }: LoadedModel): Promise<LoadedModel | undefined> {
  const { first, inference } = ref.config
  if (!first || !networks) return undefined
  const own = rangeOf(networks, inference.networks?.length ?? 1, first.config.inference.networks?.length ?? 1)
  const predictor: Predictor = {
    ...(await own.facts(0)),
    run: (feeds) => own.lend(0, (network) => network.run(feeds)),
    close: async () => {},
  }
  return { ref: { ...ref, config: first.config }, predictor, networks: own }
}

function rangeOf(networks: Networks, from: number, count: number): Networks {
  return {
    count,
    lend: (index, work) => networks.lend(from + index, work),
    facts: (index) => networks.facts(from + index),
  }
}

/** Throws BAD_MODEL_CONFIG with the place that is wrong in the whole config. */
export function planFirst(first: LoadedModel): ModelPlan {
  try {
    return planModel(first)
  } catch (error) {
    throw placedInFirst(error)
  }
}

/**
 * Runs the first model over `item`, which is as it was read, and gives it with the label map that was found as a field on the
 * file's grid, cut to its foreground and the margin where the config says so.
 */
export async function applyFirst(
  model: LoadedModel,
  first: LoadedModel,
  item: Item,
  source: ReadResult,
  control: JobControl,
): Promise<Item> {
  const { field: name, cropMargin } = model.ref.config.first!
  const plan = planFirst(first)
  const own: JobControl = {
    signal: control.signal,
    checkpoint: (stage, done, total, part) =>
      control.checkpoint(stage, done, total, part === undefined ? 'first model' : `first model, ${part}`),
    withDevice: (work) => control.withDevice(work),
  }
  const fed = await applyNetwork(plan, await applyAll(plan.pre, item, own, 'pre'), own)
  const done = await applyAll(plan.post, fed, own, 'post')
  const { volume, kind } = finishResult(done, plan.resultField, source, first.ref.config)
  if (kind !== 'labels')
    throw new AppError('BAD_MODEL_CONFIG', 'config.inference.first gives scores, and has to give labels', {
      hint: 'put AsDiscreted with argmax or a threshold into its post_transforms',
    })
  const [image] = item.images.values()
  const labels: ImageField = {
    volume,
    content: 'labels',
    axes: image!.axes.replace('C', ''),
    source: image!.source,
    undo: [],
  }
  const told = { ...withImage(item, name, labels), notes: done.notes }
  return cropMargin === undefined ? told : cropped(told, volume, cropMargin)
}

/** Every image of the item in the box of `labels` and `margin` mm around it. */
function cropped(item: Item, labels: Volume, margin: number): Item {
  const box = foregroundBox(labels)
  if (!box) {
    const note = 'the first model found nothing in this image, so the others did not run: the label map is empty'
    return withValue(withNote(item, note), NOTHING_FOUND, true)
  }
  const { size } = labels
  const grow = spacingOf(labels).map((mm) => Math.ceil(margin / mm))
  const start = box.start.map((n, axis) => Math.max(0, n - grow[axis]!)) as unknown as Vec3
  const end = box.end.map((n, axis) => Math.min(size[axis]!, n + grow[axis]!)) as unknown as Vec3
  const images = new Map<string, ImageField>()
  for (const [name, field] of item.images) {
    if (field.volume.size.some((n, axis) => n !== size[axis]))
      throw new AppError(
        'BAD_PARAMS',
        'the images of this request lie on different grids, and this model crops them alike',
      )
    images.set(name, boxed(field, start, end, 'first'))
  }
  return { ...item, images }
}

function foregroundBox({ size, data }: Volume): { start: Vec3; end: Vec3 } | undefined {
  const [nx, ny, nz] = size
  const start: [number, number, number] = [nx, ny, nz]
  const end: [number, number, number] = [0, 0, 0]
  let at = 0
  for (let z = 0; z < nz; z++)
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++, at++) {
        if (data[at] === 0) continue
        start[0] = Math.min(start[0], x)
        start[1] = Math.min(start[1], y)
        start[2] = Math.min(start[2], z)
        end[0] = Math.max(end[0], x + 1)
        end[1] = Math.max(end[1], y + 1)
        end[2] = Math.max(end[2], z + 1)
      }
  return end[0] > 0 ? { start, end } : undefined
}

export function foundNothing(item: Item): boolean {
  return item.values.get(NOTHING_FOUND) === true
}

/** The item with an empty label map as its result. */
export function withNothing(item: Item, resultField: string, { volume }: ReadResult): Item {
  const { size, affine, nifti } = volume
  const empty = makeVolume(size, affine, new Uint8Array(voxelCount(volume)), { nifti })
  return withImage(item, resultField, { volume: empty, content: 'labels', axes: 'XYZ', source: volume, undo: [] })
}
