/** How many jobs of one kind are remembered. */
const KEPT = 32

/** How long jobs took, per kind of job, to say how long the next will take. */
export class History {
  readonly #durations = new Map<string, number[]>()

  add(kind: string, ms: number): void {
    const durations = this.#durations.get(kind) ?? []
    durations.push(ms)
    if (durations.length > KEPT) durations.shift()
    this.#durations.set(kind, durations)
  }

  /** The median; undefined before the first job. */
  estimateMs(kind: string): number | undefined {
    const sorted = [...(this.#durations.get(kind) ?? [])].sort((a, b) => a - b)
    return sorted.length === 0 ? undefined : sorted[sorted.length >> 1]
  }

  /** Forgets a model that is gone. */
  forget(prefix: string): void {
    for (const kind of this.#durations.keys()) if (kind.startsWith(prefix)) this.#durations.delete(kind)
  }
}
