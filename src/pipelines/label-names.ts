/** Which value of a label map has which of a config's names. */

/** A config names foreground labels from value 1 on, or every value from 0 on when the first is the background. */
export function labelName(label: number, names: readonly string[]): string {
  return names[label - firstValue(names)] ?? `label ${label}`
}

/** The labels that a config names, with their values in a label map, in increasing order and without the background. */
export function namedLabels(names: readonly string[]): { readonly name: string; readonly value: number }[] {
  const first = firstValue(names)
  return names.map((name, i) => ({ name, value: i + first })).filter(({ value }) => value > 0)
}

function firstValue(names: readonly string[]): 0 | 1 {
  return /^(background|bg|unlabell?ed)$/i.test(names[0] ?? '') ? 0 : 1
}
