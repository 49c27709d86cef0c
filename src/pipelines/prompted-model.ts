/**
 * A pair of networks of the SAM family as a deepgrow model: the clicked slice, points and a box in, the best mask out. The
 * transforms around it are the config's, or those that every such model needs.
 */
import type { JobControl } from '../contract/job.js'
import type { TransformSpec } from '../contract/model.js'
import type { Tensor } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { answerPrompts } from '../inferers/prompted/answer-prompts.js'
import { toPicture } from '../inferers/prompted/picture.js'
import type { Prompts } from '../inferers/prompted/prompts.js'
import { boxOf } from '../transforms/box-prompt.js'
import { requireImage, withImage, withNote, withResult } from '../transforms/fields.js'
import { pointsOf } from '../transforms/guidance.js'
import type { ImageField, Item } from '../transforms/types.js'
import { withOwnValues } from '../transforms/value-table.js'
import { indexToIndex, transformPoint } from '../volume/affine.js'
import { makeVolume, type Vec3 } from '../volume/volume.js'
import type { ModelPlan } from './model-run.js'
import type { LoadedParts } from './run.js'

/** Where a config has no pre-transforms: the slice of the clicks, as it is. */
export const PROMPTED_PRE: readonly TransformSpec[] = [
  { name: 'LoadImaged', args: { keys: 'image' } },
  { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
  { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', guidance: 'guidance', dimensions: 2, axis: 2 } },
  { name: 'Fetch2DSliced', args: { keys: 'image', guidance: 'guidance', axis: 3 } },
]

/** Tensors by prompts, of one slice of one session: the masks that further prompts go on from. */
const MOST_MASKS = 16

/** Runs the pair on the item's slice and puts its answer in: a mask, or scores where `plan` says that its post-transforms take them. */
export async function applyPrompted(plan: ModelPlan, item: Item, control: JobControl): Promise<Item> {
  const parts = plan.model.parts as LoadedParts & { readonly prompted: NonNullable<LoadedParts['prompted']> }
  const { prompted } = parts
  const image = withOwnValues(requireImage(item, plan.mapping.inputs[0]!.field))
  const [columns, rows] = planeAxes(image)
  const { volume } = image
  const [width, height] = [volume.size[columns], volume.size[rows]]
  const picture = toPicture(
    { data: volume.data, width, height, channels: volume.channels, isBytes: volume.data instanceof Uint8Array },
    prompted.window,
  )
  const sent = promptsOn(image, columns, rows, item)
  const { prompts, note } = usable(sent, prompted.prompts, [width, height])
  const told = [picture.note, note].reduce((one, said) => (said === undefined ? one : withNote(one, said)), item)
  const slice = `${columns}${rows} ${Array.from(volume.affine, (n) => n.toPrecision(7)).join()}`
  const masks = prompted.previousMask ? masksOf(parts, slice) : undefined
  const answer = await control.withDevice(() =>
    answerPrompts(prompted, picture, prompts, masks?.before(prompts), { encode: parts.encodeAs, decode: parts.decode }),
  )
  if (answer.mask) masks?.keep(prompts, answer.mask)
  const isMask = plan.content !== 'scores'
  const data = isMask ? Uint8Array.from(answer.scores, (score) => (score > answer.threshold ? 1 : 0)) : answer.scores
  const field: ImageField = {
    ...image,
    volume: makeVolume(volume.size, volume.affine, data),
    content: isMask ? 'labels' : 'scores',
    scratch: true,
  }
  const result = withImage(told, plan.mapping.outputs[0]!.field, field)
  return answer.quality === undefined ? result : withResult(result, { mask_quality: answer.quality })
}

/** The axes of a slice's columns and rows: those of x, y, z that it is not across. */
function planeAxes({ axes, volume }: ImageField): [0 | 1 | 2, 0 | 1 | 2] {
  const across = ([2, 1, 0] as const).find((axis) => volume.size[axis] === 1 && !axes.includes('XYZ'[axis]!))
  const flat = across ?? ([2, 1, 0] as const).find((axis) => volume.size[axis] === 1)
  if (flat === undefined)
    throw new AppError(
      'BAD_MODEL_CONFIG',
      'a model that takes prompts sees one slice, and its pre_transforms leave a volume',
      {
        hint: 'end them with AddGuidanceFromPointsd and Fetch2DSliced, or leave pre_transforms out',
      },
    )
  return flat === 2 ? [0, 1] : flat === 1 ? [0, 2] : [1, 2]
}

/** Clicks and box of the request in pixels of the slice, exactly where they lie, whatever was done to the grid. */
function promptsOn(image: ImageField, columns: 0 | 1 | 2, rows: 0 | 1 | 2, item: Item): Prompts {
  const move = indexToIndex(image.source, image.volume)
  const placed = (point: Vec3) => {
    const at = transformPoint(move, point)
    return { x: at[columns], y: at[rows] }
  }
  const lists = [
    ['foreground', true],
    ['background', false],
  ] as const
  const points = lists.flatMap(([key, inside]) => pointsOf(item, key).map((point) => ({ ...placed(point), inside })))
  const box = boxOf(item)
  if (!box) return { points }
  const [a, b] = [placed(box.first), placed(box.last)]
  return { points, box: [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)] }
}

/** What the model takes of the prompts. Throws BAD_PARAMS when that is nothing. */
function usable(
  { points, box }: Prompts,
  takes: readonly ('points' | 'box')[],
  [width, height]: readonly [number, number],
): { prompts: Prompts; note?: string } {
  if (!takes.includes('box')) {
    if (box)
      throw new AppError('BAD_PARAMS', "'box': this model takes clicks, no box", {
        hint: 'send foreground and background',
      })
    return { prompts: { points } }
  }
  if (takes.includes('points')) return { prompts: { points, box } }
  if (box)
    return points.length === 0
      ? { prompts: { points: [], box } }
      : { prompts: { points: [], box }, note: 'this model takes a box alone: the clicks were not used' }
  const inside = points.filter((point) => point.inside)
  const [xs, ys] = [inside.map(({ x }) => x), inside.map(({ y }) => y)]
  const around = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] as const
  if (inside.length < 2 || around[0] >= around[2] || around[1] >= around[3])
    throw new AppError(
      'BAD_PARAMS',
      "this model takes a box, and the request has neither 'box' nor two opposite corners",
      {
        hint: `send "box": [x0, y0, x1, y1] in voxels of the slice of ${width} x ${height}, or foreground clicks at two opposite corners of what is meant`,
      },
    )
  return {
    prompts: { points: [], box: around },
    note: `this model takes a box: the one around the ${inside.length} foreground clicks was used, [${around.map((n) => Number(n.toFixed(1))).join(', ')}]`,
  }
}

interface KeptMasks {
  /** The mask of the most of these prompts that an earlier request of this session had on this slice; not of the same. */
  before(prompts: Prompts): Tensor | undefined
  keep(prompts: Prompts, mask: Tensor): void
}

/** A user adds clicks to those before. One that takes a click away, or begins elsewhere, goes on from no mask but that of what is left. */
function masksOf({ memory, session }: LoadedParts, slice: string): KeptMasks | undefined {
  if (!memory || session === undefined) return undefined
  const key = `masks ${session} ${slice}`
  const known = memory.get(key) ?? {}
  return {
    before: (prompts) => {
      const now = new Set(wordsOf(prompts))
      const earlier = Object.keys(known)
        .map((name) => ({ name, words: name.split('|') }))
        .filter(({ words }) => words.length < now.size && words.every((word) => now.has(word)))
        .toSorted((a, b) => b.words.length - a.words.length)
      return earlier[0] && known[earlier[0].name]
    },
    keep: (prompts, mask) => {
      const name = wordsOf(prompts).join('|')
      const others = Object.entries(known).filter(([other]) => other !== name)
      memory.set(key, Object.fromEntries([...others, [name, mask]].slice(-MOST_MASKS) as [string, Tensor][]))
    },
  }
}

function wordsOf({ points, box }: Prompts): string[] {
  const words = points.map(({ x, y, inside }) => `${inside ? '+' : '-'}${x},${y}`)
  return [...new Set([...words, ...(box ? [`box ${box.join()}`] : [])])].toSorted()
}
