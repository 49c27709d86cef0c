/** One answer of a pair that takes prompts: from a slice, its prompts and the mask before, to the scores of each pixel. */
import { createHash } from 'node:crypto'
import type { Predict, Tensor, TensorSpec } from '../../contract/tensor.js'
import { AppError } from '../../errors.js'
import type { EncodeAs, Tensors } from '../two-parts.js'
import type { Prompted } from './layout.js'
import { type Picture, pictureTensor, seenSize, wayBack } from './picture.js'
import { type Prompts, promptTensors } from './prompts.js'
import { resizePlane } from './resize-picture.js'

export interface PromptAnswer {
  /** Logits, or probabilities where `threshold` lies between 0 and 1; row by row as the slice is. */
  readonly scores: Float32Array
  readonly threshold: number
  /** The network's own opinion of its mask, where it has one. */
  readonly quality: number | undefined
  /** What a further click may be fed with. */
  readonly mask: Tensor | undefined
}

/** Edges of the mask that a decoder is fed with are four times those of its embedding. */
const MASK_STEP = 4

export async function answerPrompts(
  prompted: Prompted,
  picture: Picture,
  prompts: Prompts,
  previous: Tensor | undefined,
  { encode, decode }: { readonly encode: EncodeAs; readonly decode: Predict },
): Promise<PromptAnswer> {
  const { width, height } = picture
  const seen = seenSize(prompted, picture)
  const made = await encode(nameOf(picture), () => ({ [prompted.picture.spec.name]: pictureTensor(prompted, picture) }))
  const mask = maskSize(prompted, made)
  const outputs = await decode({
    ...made,
    ...promptTensors(prompted, prompts, { width, height, seen, mask }, previous),
  })
  const scores = prompted.outputs.scores && outputs[prompted.outputs.scores.name]
  const small = pick(outputs, prompted.outputs.lowMasks)
  const large = pick(outputs, prompted.outputs.masks)
  const best = bestOf(scores, small ?? large!)
  const isOwnSize = large !== undefined && large.dims.at(-2) === height && large.dims.at(-1) === width
  // some exports cut the large masks to the shape of the picture that they were traced with: the small ones are right for any
  const plane = small && !isScaled(prompted, large) ? planeOf(small, best) : planeOf(large ?? small!, best)
  const from = small && !isScaled(prompted, large) ? small : (large ?? small!)
  const values = prompted.probabilities ? plane.map((value) => 1 / (1 + Math.exp(-value))) : plane
  const threshold = prompted.probabilities ? 1 / (1 + Math.exp(-prompted.threshold)) : prompted.threshold
  const whole = from === large && isOwnSize
  const low = small ?? (large && large.dims.at(-2) === mask[0] && large.dims.at(-1) === mask[1] ? large : undefined)
  return {
    scores: whole
      ? Float32Array.from(values)
      : enlarged(prompted, values, picture, [from.dims.at(-2)!, from.dims.at(-1)!], seen),
    threshold,
    quality: scores ? Number(scores.data[best]) : undefined,
    mask:
      low && low.dims.at(-2) === mask[0] && low.dims.at(-1) === mask[1]
        ? { dims: [1, 1, ...mask], data: Float32Array.from(planeOf(low, best)) }
        : undefined,
  }
}

/** Whether the graph enlarges masks itself in a way that we do not repeat: a pair that sees the slice in its own size. */
function isScaled({ ownPixels }: Prompted, large: Tensor | undefined): boolean {
  return ownPixels && large !== undefined
}

function enlarged(
  prompted: Prompted,
  values: ArrayLike<number>,
  picture: Picture,
  size: readonly [number, number],
  seen: readonly [number, number],
): Float32Array {
  const { columns, rows } = wayBack(prompted, picture, size, seen)
  return resizePlane(values, columns, rows)
}

/** Which of the masks the network thinks best; the first where it does not say. */
function bestOf(scores: Tensor | undefined, { dims }: Tensor): number {
  const masks = dims.slice(0, -2).reduce((product, n) => product * n, 1)
  if (!scores) return 0
  if (scores.data.length !== masks)
    throw new AppError('BAD_MODEL', `the decoder gave ${masks} masks and ${scores.data.length} scores of them`)
  let best = 0
  for (let i = 1; i < masks; i++) if (scores.data[i]! > scores.data[best]!) best = i
  return best
}

function planeOf({ dims, data }: Tensor, index: number): ArrayLike<number> & { map: Float32Array['map'] } {
  const each = dims.at(-1)! * dims.at(-2)!
  return Float32Array.from(data.subarray(index * each, (index + 1) * each))
}

function pick(outputs: Tensors, spec: TensorSpec | undefined): Tensor | undefined {
  return spec && outputs[spec.name]
}

function maskSize({ inputs: { mask } }: Prompted, made: Tensors): readonly [number, number] {
  const [height, width] = mask?.dims.slice(-2) ?? []
  const embedding = Object.values(made).toSorted((a, b) => a.dims.at(-1)! - b.dims.at(-1)!)[0]
  const [h, w] = (embedding?.dims.slice(-2) ?? [64, 64]) as [number, number]
  return [typeof height === 'number' ? height : h * MASK_STEP, typeof width === 'number' ? width : w * MASK_STEP]
}

/** Names a picture by its pixels: what an encoding of it is kept under. */
function nameOf({ data, width, height, channels }: Picture): string {
  return createHash('sha1').update(`${width} ${height} ${channels}\n`).update(data).digest('base64')
}
