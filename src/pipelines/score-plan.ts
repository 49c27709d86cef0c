/**
 * What becomes of a network's scores, read from the post-transforms: which labels they are reduced to, and whether they go
 * back to the grid of the file before that, as scores, or after it, as labels. The inferer does both while it runs, so that
 * classes times voxels are never held.
 */
import type { BuiltTransform } from '../transforms/catalog.js'
import { activatedField, reduceField } from '../transforms/labels.js'
import type { Reduction } from '../transforms/reduction.js'
import { type Activation, ScoreRestorer } from '../transforms/restore-scores.js'
import type { ImageField } from '../transforms/types.js'
import { restore, wayBack } from '../transforms/undo.js'

export interface ScorePlan {
  /** After `activation`, and after the way back where `restores` says so. */
  readonly reduction: Reduction
  /** What the scores go through before they go back. */
  readonly activation: Activation
  /** Scores go back to the file's grid, and become labels there. */
  readonly restores: boolean
  /** What is left to do. */
  readonly rest: readonly BuiltTransform[]
}

/**
 * Takes activations, the way back and the first argmax or threshold off the front of the list, when nothing between them
 * needs the scores. The config's order counts: a restore before the labels moves scores, one behind them labels. A config
 * that says no way back at all has its scores restored, since labels that go back by nearest voxel lose what lies between
 * two voxels; not so where clicks draw in one slice, or another transform brings the result back in its own way.
 */
export function planScores(post: readonly BuiltTransform[], field: string, implicit: boolean): ScorePlan {
  const untouched = { reduction: { kind: 'scores' }, activation: 'none', restores: false, rest: post } as const
  const plan: Way = { before: 'none', after: 'none', restores: false }
  for (const [i, step] of post.entries()) {
    if (step.keys.length !== 1 || step.keys[0] !== field) return untouched
    const { activates, identity, reduces, restores } = step.traits
    if (reduces) {
      const rest = post.slice(i + 1)
      const saysWay = rest.some(({ traits }) => traits.restores || traits.wholeVolume)
      return finished(reduces, { ...plan, restores: plan.restores || (implicit && !saysWay) }, rest) ?? untouched
    }
    if (activates) {
      if (plan.before !== 'none' || plan.after !== 'none') return untouched
      plan[plan.restores ? 'after' : 'before'] = activates
    } else if (restores === 'own') plan.restores = true
    else if (!identity && restores !== 'nearest') return untouched
    // by nearest voxel it is the same before and after: the labels go back at the end
  }
  return untouched
}

/** Activations before and after the way back. */
interface Way {
  before: Activation
  after: Activation
  restores: boolean
}

function finished(
  reduces: Exclude<Reduction, { kind: 'scores' }>,
  { before, after, restores }: Way,
  rest: readonly BuiltTransform[],
): ScorePlan | undefined {
  // argmax is the same before and after softmax or sigmoid
  if (reduces.kind !== 'threshold')
    return { reduction: reduces, activation: restores ? before : 'none', restores, rest }
  if (after === 'softmax' || (before === 'softmax' && !restores)) return undefined
  const activation = restores ? after : before
  const reduction = activation === 'sigmoid' ? { ...reduces, activation } : reduces
  return { reduction, activation: restores ? before : 'none', restores, rest }
}

/**
 * Who brings the scores of a field back, layer by layer. Where every step of the way only picks voxels, labels that go back
 * are the same and cheaper: the reduction is returned. Where the way does not go along the axes, the scores are kept.
 */
export function restorerFor(field: ImageField, channels: number, plan: ScorePlan): ScoreRestorer | Reduction {
  const { reduction, activation } = plan
  const exact = exactReduction(field, plan)
  if (exact) return exact
  const way = wayBack(field)
  return way ? new ScoreRestorer(way, field.volume.size, channels, activation, reduction) : { kind: 'scores' }
}

/** What the scores may be reduced to before they go back, where every step of the way only picks voxels. */
export function exactReduction(field: ImageField, { reduction, activation }: ScorePlan): Reduction | undefined {
  if (!field.undo.every(({ exact }) => exact)) return undefined
  if (reduction.kind === 'argmax') return reduction
  // beyond the network's grid lies zero, of scores as of labels
  const isPlain = reduction.kind === 'threshold' && reduction.at > 0 && reduction.activation === 'none'
  return isPlain && activation !== 'softmax' ? { ...reduction, activation } : undefined
}

/** The same for a whole field of scores; labels that a network gave itself only go back. */
export function restoredField(field: ImageField, { activation, reduction }: ScorePlan): ImageField {
  if (field.content === 'labels') return restore(field)
  const back = restore(activatedField(field, activation), 'own')
  return reduction.kind === 'scores' ? back : reduceField(back, reduction)
}
