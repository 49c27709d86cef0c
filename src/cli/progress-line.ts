/** How far a command has come: one line that is rewritten on a terminal, a line for each input elsewhere. */
const BAR_CELLS = 24

export class ProgressLine {
  #done = 0
  #failed = 0
  readonly #started: number

  constructor(
    private readonly total: number,
    private readonly stream: { readonly isTTY?: boolean; readonly columns?: number; write(text: string): unknown },
    private readonly now: () => number = Date.now,
  ) {
    this.#started = now()
    if (this.stream.isTTY) this.#draw('')
  }

  /** An input is finished. `problem` says why it failed, if it did. */
  finished(name: string, problem?: string): void {
    this.#done += 1
    if (problem !== undefined) {
      this.#failed += 1
      this.#clear()
      this.stream.write(`${name}: ${problem}\n`)
    } else if (!this.stream.isTTY) this.stream.write(`${this.#done}/${this.total} ${name}\n`)
    if (this.stream.isTTY) this.#draw(name)
  }

  /** Takes the line away; what follows is the summary. */
  end(): void {
    this.#clear()
    const done = this.#done - this.#failed
    const open = this.total - this.#done
    const parts = [`${done} of ${this.total} done`]
    if (this.#failed > 0) parts.push(`${this.#failed} failed`)
    if (open > 0) parts.push(`${open} not begun or stopped`)
    this.stream.write(`${parts.join(', ')} in ${duration(this.now() - this.#started)}\n`)
  }

  #draw(name: string): void {
    const share = this.#done / this.total
    const filled = Math.round(share * BAR_CELLS)
    const bar = `${'#'.repeat(filled)}${'-'.repeat(BAR_CELLS - filled)}`
    const left =
      this.#done === 0
        ? ''
        : ` ETA ${duration(((this.now() - this.#started) / this.#done) * (this.total - this.#done))}`
    const text = `[${bar}] ${this.#done}/${this.total}${left}  ${name}`
    this.stream.write(`\r\x1b[K${text.slice(0, (this.stream.columns ?? 80) - 1)}`)
  }

  #clear(): void {
    if (this.stream.isTTY) this.stream.write('\r\x1b[K')
  }
}

export function duration(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 100) return `${Math.round(seconds)} s`
  const minutes = Math.floor(seconds / 60)
  return minutes < 60
    ? `${minutes} min ${Math.round(seconds % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
