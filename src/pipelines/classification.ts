/** One score per class, turned into the reply of a classification model: {prediction: [labels], scores: {label: p}}. */
import type { BuiltTransform } from '../transforms/catalog.js'

export interface Classifier {
  readonly activation: 'none' | 'sigmoid' | 'softmax'
  /** Every label from this score on is predicted; absent: the best one only. */
  readonly threshold: number | undefined
}

/** What the config's post-transforms say about scores. */
export function classifierOf(post: readonly BuiltTransform[]): Classifier {
  let activation: Classifier['activation'] = 'none'
  let threshold: number | undefined
  for (const { traits } of post) {
    if (traits.activates !== undefined) activation = traits.activates
    if (traits.reduces !== undefined) threshold = traits.reduces.kind === 'threshold' ? traits.reduces.at : undefined
  }
  return { activation, threshold }
}

/** `labels` name the scores in order; one score for two labels is the probability of the second. */
export function classify(
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
