/** One score per class, turned into the reply of a classification model: {prediction: [labels], scores: {label: p}}. */
import type { BuiltTransform } from '../transforms/catalog.js'
import type { ModelPlan } from './model-run.js'

interface Classifier {
  readonly activation: 'none' | 'sigmoid' | 'softmax'
  /** Every label from this score on is predicted; absent: the best one only. */
  readonly threshold: number | undefined
}

/** What the config's post-transforms say about scores. */
function classifierOf(post: readonly BuiltTransform[]): Classifier {
  let activation: Classifier['activation'] = 'none'
  let threshold: number | undefined
  for (const { traits } of post) {
    if (traits.activates !== undefined) activation = traits.activates
    if (traits.reduces !== undefined) threshold = traits.reduces.kind === 'threshold' ? traits.reduces.at : undefined
  }
  return { activation, threshold }
}

/** `labels` name the scores in order; one score for two labels is the probability of the second. */
function classify(
  raw: readonly number[],
  labels: readonly string[],
  { activation, threshold }: Classifier,
): { prediction: string[]; scores: Record<string, number> } {
  let scores = raw
  if (activation === 'sigmoid') scores = raw.map((value) => 1 / (1 + Math.exp(-value)))
  if (activation === 'softmax') {
    const most = Math.max(...raw)
    const powers = raw.map((value) => Math.exp(value - most))
    const sum = powers.reduce((total, value) => total + value, 0)
    scores = powers.map((value) => value / sum)
  }
  if (scores.length === 1 && labels.length === 2) scores = [1 - scores[0]!, scores[0]!]
  const named = scores.map((score, i) => [labels[i] ?? `class ${i}`, score] as const)
  const best = named.reduce((most, entry) => (entry[1] > most[1] ? entry : most), named[0]!)
  const prediction =
    threshold === undefined ? [best[0]] : named.filter(([, score]) => score >= threshold).map(([label]) => label)
  return { prediction, scores: Object.fromEntries(named) }
}

/** The reply for what `applyNetwork` left: the scores of one network, or, for a vote, a list of each one's scores. */
export function classified(
  scores: readonly number[] | readonly (readonly number[])[],
  { steps, model }: Pick<ModelPlan, 'steps' | 'model'>,
): { prediction: string[]; scores: Record<string, number> } {
  const { labels } = model.ref.config
  const classifier = classifierOf(steps)
  if (scores.every((one) => typeof one === 'number')) return classify(scores, labels, classifier)
  return voted(
    (scores as readonly (readonly number[])[]).map((own) => classify(own, labels, classifier)),
    classifier,
  )
}

/** The share of votes of each label; the one with most is predicted, the first on a tie, or all that more than half predict. */
function voted(
  answers: readonly ReturnType<typeof classify>[],
  { threshold }: Classifier,
): { prediction: string[]; scores: Record<string, number> } {
  const names = Object.keys(answers[0]!.scores)
  const shares = names.map((name) => {
    const votes = answers.filter(({ prediction }) => prediction.includes(name)).length
    return [name, votes / answers.length] as const
  })
  const best = shares.reduce((most, entry) => (entry[1] > most[1] ? entry : most))
  const prediction =
    threshold === undefined ? [best[0]] : shares.filter(([, share]) => share > 0.5).map(([name]) => name)
  return { prediction, scores: Object.fromEntries(shares) }
}
