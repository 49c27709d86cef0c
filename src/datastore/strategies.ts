/** Which image somebody should label next. */

/** The tag of labels that somebody has finished. */
export const FINAL = 'final'

/** Ways to choose the next image for somebody to label. */
export const STRATEGIES = {
  first: 'the first image, in order of arrival, without a final label',
  random: 'any image without a final label',
  unlabelled: 'the first image without a label of any tag',
} as const
export type Strategy = keyof typeof STRATEGIES

/** `random`: a whole number below its argument. Undefined when no image is left. */
export function chooseNext<T extends { readonly labels: ReadonlyMap<string, unknown> }>(
  strategy: Strategy,
  items: readonly T[],
  random: (count: number) => number,
): T | undefined {
  const open = items.filter(({ labels }) => (strategy === 'unlabelled' ? labels.size === 0 : !labels.has(FINAL)))
  return open[strategy === 'random' && open.length > 0 ? random(open.length) : 0]
}
